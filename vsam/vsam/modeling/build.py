"""Assemble VSAM from its configuration. All sizes meet here."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torchvision.models.vgg import make_layers

from vsam_heatmaps.errors import expected

from .attention import AttentionBlock, FuseBlocks, SpatialAttention
from .plan import vgg16_plan
from .vsam import VSAM, Head

_ATTENDED_BLOCKS = (2, 3, 4)
_MAX_OUTPUTS = 100_000


@dataclass(frozen=True)
class ModelConfig:
    """What rebuilds a model; saved with it.

    Attributes:
        categories: Number of classes K.
        attributes: Number of attributes A.
        image_size: Height and width of the input in pixels.
        width: Factor on all numbers of channels; 1 is the published model.
        batch_norm: Normalise after each convolution; helps training from scratch.
        dropout: In the heads.
    """

    categories: int
    attributes: int
    image_size: int = 224
    width: float = 1.0
    batch_norm: bool = False
    dropout: float = 0.5

    def __post_init__(self) -> None:
        # Descriptions may come from anywhere: the bound keeps a bad one from taking all memory.
        for name, count in {"categories": self.categories, "attributes": self.attributes}.items():
            if not 1 <= count <= _MAX_OUTPUTS:
                raise expected(name, f"from 1 to {_MAX_OUTPUTS}", count)
        if not 0 <= self.dropout < 1:
            raise expected("dropout", "from 0 to below 1", self.dropout)
        vgg16_plan(self.width)  # refuses impossible widths

    @property
    def attention_side(self) -> int:
        """Height and width of the attention map in pixels."""
        return vgg16_plan(self.width).side(_ATTENDED_BLOCKS[0], self.image_size)


def build_vsam(config: ModelConfig) -> VSAM:
    """Build a model with fresh weights (He initialisation, as torchvision's VGG)."""
    plan = vgg16_plan(config.width)
    layers: list[str | int] = []
    for block in plan.blocks:
        layers += [*block, "M"]

    def head(outputs: int) -> Head:
        return Head(
            plan.channels(len(plan.blocks)),
            plan.head_channels,
            outputs,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
        )

    model = VSAM(
        features=make_layers(layers, batch_norm=config.batch_norm),
        attention=AttentionBlock(
            fuse=FuseBlocks(
                [plan.channels(block) for block in _ATTENDED_BLOCKS],
                plan.channels(_ATTENDED_BLOCKS[-1]),  # F is added to that block
                batch_norm=config.batch_norm,
            ),
            attend=SpatialAttention(),
        ),
        category_head=head(config.categories),
        attribute_head=head(config.attributes),
        attended_blocks=_ATTENDED_BLOCKS,
    )
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return model
