"""The networks that `supervision.py` compares, built of the library's modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from supervision_backbone import BLOCKS, KEPT, LaterBlocks, load_network
from supervision_designs import BLOCKS_OF, redesign
from supervision_plan import (
    AS_IN_LIBRARY,
    BLOCKS_4_AND_5,
    FROZEN,
    PARTS_OF_BODY,
    SCRATCH,
    Part,
    Variant,
)

from vsam.modeling.build import ModelConfig, build_vsam
from vsam.modeling.model import TaggingModel, VsamOutput
from vsam.modeling.regions import RegionVSAM

# A map with less is empty: the region was not found.
_MIN_MASS = 1e-3


def regions_option(variant: Variant) -> dict[str, Any]:
    """Give the option `regions` of the library's classes, for variants that have it."""
    return {"regions": PARTS_OF_BODY} if variant.attention == "regions" else {}


def build(
    part: Part, variant: Variant, weights: Path | None, *, categories: int, attributes: int
) -> TaggingModel:
    """Build a network with fresh weights, but for a pretrained backbone.

    Args:
        part: Says how the backbone is trained.
        variant: Says how it attends.
        weights: Of the pretrained backbone.
        categories: Number of classes.
        attributes: Number of attributes.

    Returns:
        The network. With a pretrained backbone it takes the outputs of blocks, see `kept_blocks`,
        in the place of photos.
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
    if part.design != AS_IN_LIBRARY:
        assert isinstance(model, RegionVSAM)
        model = redesign(model, part.design, dropout=part.budget.dropout)
    if part.backbone != SCRATCH and part.design != BLOCKS_4_AND_5:
        assert weights is not None, "asked for where the options are read"
        whole, done = load_network(weights), kept_blocks(part, variant)[-1]
        if variant.attention == "regions" and done <= BLOCKS[-1]:
            whole.cut()
        model.features = LaterBlocks(whole, done)
    if part.backbone == FROZEN:
        model.freeze_backbone()
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def kept_blocks(part: Part, variant: Variant) -> tuple[int, ...]:
    """Say the outputs of which blocks a training on a pretrained backbone starts from."""
    if part.design in BLOCKS_OF:
        return BLOCKS_OF[part.design]
    if part.backbone == FROZEN and variant.attention == "none":
        return KEPT[-1:]
    done = BLOCKS if part.backbone == FROZEN else BLOCKS[:-1]
    return done if variant.attention == "single" else done[-1:]


def run_given(model: TaggingModel, images: Any, heatmap: torch.Tensor) -> VsamOutput:
    """Run a model with region attention on the pose's maps instead of its own.

    Args:
        model: The network.
        images: What it takes.
        heatmap: (B, R, M, M), 0..1; zeros where there is no pose.
    """
    assert isinstance(model, RegionVSAM)
    features = model.features(images, lambda stages: stages[-1])
    return model.read(features, pose_distributions(heatmap, features.shape[-1]))


def pose_distributions(heatmap: torch.Tensor, side: int) -> torch.Tensor:
    """Scale heatmaps to sum 1: (B, R, M, M) to (B, R, side, side). What is empty stays so."""
    if heatmap.shape[-1] != side:
        heatmap = F.interpolate(heatmap, size=(side, side), mode="bilinear", antialias=True)
    mass = heatmap.sum(dim=(2, 3), keepdim=True)
    return torch.where(mass > _MIN_MASS, heatmap / mass.clamp(min=_MIN_MASS), 0.0)
