"""Assemble VSAM from its configuration. All sizes meet here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from vsam_heatmaps.errors import VsamError, expected

from .attention import AttentionBlock, FuseBlocks, SpatialAttention
from .backbones.build import build_backbone
from .backbones.interface import Backbone
from .backbones.vgg import VGG, VGG_BN
from .model import TaggingModel
from .plan import vgg16_plan
from .regions import RegionVSAM
from .vsam import VSAM, Head

ATTENTIONS = ("single", "regions", "none")
_MAX_OUTPUTS = 100_000


@dataclass(frozen=True)
class ModelConfig:
    """What rebuilds a model; saved with it.

    Attributes:
        categories: Number of classes K.
        attributes: Number of attributes A.
        image_size: Height and width of the input in pixels, a multiple of the stride of the
            backbone's third stage.
        width: Factor on all numbers of channels; 1 is the published model. VGG-16's alone.
        batch_norm: Normalise after each convolution, those of the fusion and the heads included;
            helps training from scratch. VGG-16's alone.
        dropout: In the heads.
        backbone: See `build_backbone`. `vgg16_bn` becomes `vgg16` with `batch_norm`, which is how
            it was always saved.
        attention: `single` is the published map, `regions` has one for each of `regions`, `none`
            leaves the attention block out.
        regions: Names of the maps, in order; none unless the attention is `regions`.
    """

    categories: int
    attributes: int
    image_size: int = 224
    width: float = 1.0
    batch_norm: bool = False
    dropout: float = 0.5
    backbone: str = VGG
    attention: str = "single"
    regions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.backbone == VGG_BN:
            object.__setattr__(self, "backbone", VGG)
            object.__setattr__(self, "batch_norm", True)
        # Descriptions may come from anywhere: the bound keeps a bad one from taking all memory.
        for name, count in {"categories": self.categories, "attributes": self.attributes}.items():
            if not 1 <= count <= _MAX_OUTPUTS:
                raise expected(name, f"from 1 to {_MAX_OUTPUTS}", count)
        if not 0 <= self.dropout < 1:
            raise expected("dropout", "from 0 to below 1", self.dropout)
        if self.image_size < 1:
            raise expected("image_size", "at least 1", self.image_size)
        if self.attention not in ATTENTIONS:
            raise expected("attention", f"one of {', '.join(ATTENTIONS)}", repr(self.attention))
        self._require_regions()
        vgg16_plan(self.width)  # refuses impossible widths
        shape = self._shape  # refuses unknown backbones
        if self.backbone != VGG and (self.width != 1 or self.batch_norm):
            option = "width" if self.width != 1 else "batch_norm"
            raise VsamError(
                f"Expected `{option}` to be left out with the backbone {self.backbone}, but got "
                f"{getattr(self, option)}. It changes {VGG} alone."
            )
        stride, smallest = shape.stage_strides[-1], shape.out_stride
        if self.image_size % stride or self.image_size < smallest:
            raise expected(
                "image_size",
                f"a multiple of {stride} pixels, {smallest} or more, for the backbone {shape.name}",
                self.image_size,
            )

    def _require_regions(self) -> None:
        if self.attention != "regions":
            if self.regions:
                raise VsamError(
                    f"Expected `regions` to be left out with the attention {self.attention}, but "
                    f"got {', '.join(self.regions)}. They belong to the attention regions."
                )
            return
        if not self.regions or not all(self.regions):
            raise expected("regions", "names of one region or more", repr(",".join(self.regions)))
        for name in self.regions:
            if self.regions.count(name) > 1:
                raise VsamError(
                    f"Expected each of `regions` to be named once, but {name} is named "
                    f"{self.regions.count(name)} times."
                )

    @cached_property
    def _shape(self) -> Backbone:
        """The backbone without its numbers: what it says of its channels and strides."""
        with torch.device("meta"):
            backbone = _backbone(self)
        if self.attention == "regions":
            backbone.cut()
        return backbone

    @property
    def attention_side(self) -> int:
        """Height and width of the attention maps in pixels.

        Those of the backbone's first stage; with regions those of its features.
        """
        if self.attention == "regions":
            return self.image_size // self._shape.out_stride
        return self.image_size // self._shape.stage_strides[0]


def build_vsam(config: ModelConfig) -> TaggingModel:
    """Build a model with fresh weights: `VSAM`, or `RegionVSAM` for the attention `regions`."""
    model = _build(config)
    draw_weights(model)
    return model


def draw_weights(model: TaggingModel) -> None:
    """Draw fresh weights.

    Attention, heads and VGG-16 get He initialisation, as torchvision's VGG; other backbones keep
    what their library drew.
    """
    for module in _fresh(model):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(model, RegionVSAM):
        # Maps that are flat at first: what they start with is mean pooling, not a random place.
        nn.init.normal_(model.attention.locate.weight, 0, 0.01)


def _build(config: ModelConfig) -> TaggingModel:
    features = _backbone(config)
    if config.attention == "regions":
        return RegionVSAM(
            features,
            regions=len(config.regions),
            categories=config.categories,
            attributes=config.attributes,
            dropout=config.dropout,
        )

    def head(outputs: int) -> Head:
        return Head(
            features.out_channels,
            vgg16_plan(config.width).head_channels,
            outputs,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
        )

    attention = None
    if config.attention == "single":
        attention = AttentionBlock(
            fuse=FuseBlocks(
                features.stage_channels,
                features.stage_channels[-1],  # F is added to that stage
                batch_norm=config.batch_norm,
            ),
            attend=SpatialAttention(),
        )
    return VSAM(
        features=features,
        attention=attention,
        category_head=head(config.categories),
        attribute_head=head(config.attributes),
    )


def _backbone(config: ModelConfig) -> Backbone:
    return build_backbone(
        config.backbone,
        image_size=config.image_size,
        plan=vgg16_plan(config.width),
        batch_norm=config.batch_norm,
    )


def _fresh(model: TaggingModel) -> Iterator[nn.Module]:
    """Give the modules whose first weights are drawn here."""
    for name, part in model.named_children():
        if name != "features" or not model.features.has_initial_weights:
            yield from part.modules()
