"""Other ways to build region attention, which `supervision.py --sweeps designs` compares.

All are for a frozen backbone, whose blocks' outputs are what the networks take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from supervision_plan import BLOCK_5, BLOCKS_4_AND_5, SHARED_MAXIMUM, SHARED_MEAN, SQUARES

from vsam.modeling.backbones.interface import Attend, Backbone
from vsam.modeling.build import draw_weights
from vsam.modeling.regions import RegionHead, RegionVSAM

BLOCKS_OF = {BLOCK_5: (5,), BLOCKS_4_AND_5: (4, 5)}
"""Which blocks' outputs the maps are computed from and pooled over, where that isn't block 4."""

REGULARISER_OF = {SQUARES: "l2"}
"""How the maps are compared with the pose, where that isn't as in the library."""


def redesign(model: RegionVSAM, design: str, *, dropout: float) -> RegionVSAM:
    """Give a model the parts of a design, and draw its weights anew.

    Args:
        model: As the library builds it.
        design: One of the names in `supervision_plan`.
        dropout: In the heads.
    """
    regions, channels = model.usual_vectors.shape
    categories = model.category_head.linear.out_features
    attributes = model.attribute_head.linear.out_features
    if design == BLOCKS_4_AND_5:
        both = TwoBlocks(channels)
        model = RegionVSAM(
            both, regions=regions, categories=categories, attributes=attributes, dropout=dropout
        )
    elif design in _TOGETHER:
        together = _TOGETHER[design]
        model.category_head = SharedHead(channels, categories, together, dropout=dropout)
        model.attribute_head = SharedHead(channels, attributes, together, dropout=dropout)
    draw_weights(model)
    return model


class TwoBlocks(Backbone):
    """Block 4's output with block 5's behind its channels, which is enlarged to the same side.

    Args:
        channels: Of each.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.name, self.out_channels, self.out_stride = "blocks 4 and 5", 2 * channels, 16
        self.stage_channels, self.stage_strides = (channels,) * 3, (16, 16, 16)

    def forward(self, images: Sequence[torch.Tensor], attend: Attend) -> torch.Tensor:  # type: ignore[override]
        """Join them, (B, C, H, W) and (B, C, H/2, W/2), to (B, 2·C, H, W)."""
        fine, coarse = images
        large = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear")
        return attend([torch.cat([fine, large], dim=1)])


class SharedHead(RegionHead):
    """One linear layer that reads each region's vector with the same weights.

    Args:
        channels: Length C of a vector.
        outputs: Number of logits.
        together: Makes one vector of logits of those of all regions, (B, R, outputs).
        dropout: As in `RegionHead`.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        together: Callable[[torch.Tensor], torch.Tensor],
        *,
        dropout: float,
    ) -> None:
        super().__init__(1, channels, outputs, dropout=dropout)
        self._together = together

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Map (B, R, C) vectors to (B, outputs) logits."""
        return self._together(self.linear(self.dropout(vectors)))

    def contributions(self, vectors: torch.Tensor, usual: torch.Tensor) -> torch.Tensor:
        """Say nothing of the regions; nobody asks here. (B, R, outputs) zeros."""
        return vectors.new_zeros(*vectors.shape[:2], self.linear.out_features)


_TOGETHER: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    SHARED_MEAN: lambda logits: logits.mean(dim=1),
    SHARED_MAXIMUM: lambda logits: logits.amax(dim=1),
}
