"""The networks that `supervision.py` compares, built of the library's modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from supervision_backbone import BLOCKS, LaterBlocks, load_network
from supervision_plan import FROZEN, PARTS_OF_BODY, SCRATCH, Part, Variant

from vsam.modeling.build import ModelConfig, build_vsam
from vsam.modeling.vsam import VSAM
import torch
from torch import nn


class GivenMaps(nn.Module):
    """Takes the place of what computes region maps, and gives those of the pose."""

    heatmap: torch.Tensor


def regions_option(variant: Variant) -> dict[str, Any]:
    """Give the option `regions` of the library's classes, for variants that have it."""
    return {"regions": PARTS_OF_BODY} if variant.attention == "regions" else {}


def build(
    part: Part, variant: Variant, weights: Path | None, *, categories: int, attributes: int
) -> tuple[VSAM, GivenMaps | None]:
    """Build a network with fresh weights, but for a pretrained backbone.

    Args:
        part: Says how the backbone is trained.
        variant: Says how it attends.
        weights: Of the pretrained backbone.
        categories: Number of classes.
        attributes: Number of attributes.

    Returns:
        The network, and what in it gives the pose's maps, if it does not use its own. With a
        pretrained backbone it takes the outputs of blocks in the place of photos.
    """
    model = build_vsam(
        ModelConfig(
            categories=categories,
            attributes=attributes,
            image_size=part.budget.image_size,
            width=part.budget.width,
            batch_norm=part.backbone == SCRATCH,
            dropout=part.budget.dropout,
            attention=variant.attention,
            **regions_option(variant),
        )
    )
    if part.backbone != SCRATCH:
        assert weights is not None, "asked for where the options are read"
        done = BLOCKS[-1] if part.backbone == FROZEN else BLOCKS[-2]
        model.features = LaterBlocks(load_network(weights), done)
    if part.backbone == FROZEN:
        model.freeze_backbone()
    given = None
    return model.to(memory_format=torch.channels_last), given  # type: ignore[call-overload]
