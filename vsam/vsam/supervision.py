"""Which heatmaps supervise a training. All that can be wrong with them is told before it starts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from vsam_datasets.category_regions import BY_CATEGORY, CategoryRegions, read_category_regions
from vsam_datasets.pairs import match_heatmaps
from vsam_datasets.tables import LabelRow, LabelTable
from vsam_heatmaps.errors import VsamError, expected
from vsam_heatmaps.landmarks import BODY, LANDMARK_SETS, LandmarkSet, landmark_set
from vsam_heatmaps.shards import Shards

from .config import TrainConfig

_log = logging.getLogger("vsam")


@dataclass(frozen=True)
class Supervision:
    """What supervises the attention.

    Attributes:
        shards: The heatmaps, or none: then nothing does.
        category_regions: The region of each category, for the choice `by-category`.
    """

    shards: Shards | None
    category_regions: CategoryRegions


def open_supervision(config: TrainConfig, table: LabelTable, attention_side: int) -> Supervision:
    """Open the heatmaps and tell how they match the photos.

    Args:
        config: Says which heatmaps and regions.
        table: The labelled photos.
        attention_side: Height and width of the attention map in pixels.

    Raises:
        VsamError: If a region is unknown or can't be made of the heatmaps' channels, they are
            smaller than the attention map, belong to other photos, or show nothing that could
            supervise.
    """
    regions = CategoryRegions()
    if config.category_regions is not None:
        regions = read_category_regions(config.category_regions)
    if config.heatmaps is None or not config.supervised:
        # Nothing is asked of shards, but the names stay with the model.
        known = [name for landmarks in LANDMARK_SETS.values() for name in landmarks.groups]
        _require_known("--regions", config.regions or (), known)
        return Supervision(None, regions)
    shards = Shards(config.heatmaps)
    _require_regions(config, regions, landmark_set(shards.info.landmarks))
    if shards.info.side < attention_side:
        raise VsamError(
            f"Expected the maps in {config.heatmaps} to have at least the {attention_side} pixels "
            f"a side of the model's attention, but they have {shards.info.side}. Extract them with "
            f"--side {attention_side}, or train with a smaller --image-size."
        )
    match = match_heatmaps(table.rows, shards)
    used = {name for row in table.rows for name in _regions_of(row, config, regions)}
    # Composing the regions of one photo says at once whether these shards' channels allow it.
    shards.regions(shards.ids[0], sorted(used))
    _log.info(
        "%d photos have a heatmap, %d have no pose, %d are not in the shards; "
        "%d maps belong to no labelled photo.",
        match.with_map,
        match.without_pose,
        match.without_record,
        match.maps_without_photo,
    )
    by_category = config.regions is None and config.region == BY_CATEGORY
    if by_category and (unknown := regions.unknown(table.categories)):
        _log.info(
            "Without a known region, so that it is full: the categories %s. "
            "Name their regions with --category-regions.",
            ", ".join(unknown),
        )
    if not match_heatmaps(table.split("train"), shards).with_map:
        raise VsamError(
            f"Expected {config.heatmaps} to hold a pose for photos of the training split, but it "
            "holds none. Extract them, or train without poses with --lambda 0."
        )
    _require_shown(config, regions, table, shards)
    return Supervision(shards, regions)


def _regions_of(row: LabelRow, config: TrainConfig, regions: CategoryRegions) -> Sequence[str]:
    """Name the regions whose maps supervise a photo."""
    if config.regions is not None:
        return config.regions
    return [regions.of(row.category) if config.region == BY_CATEGORY else config.region]


def _require_shown(
    config: TrainConfig, regions: CategoryRegions, table: LabelTable, shards: Shards
) -> None:
    """Look for photos to train on that show each region, and tell of those that none shows.

    Mostly a few photos show them all; the others are not read.

    Raises:
        VsamError: If none shows any.
    """
    names: list[str] = []
    shown: set[str] = set()
    for row in table.split("train"):
        wanted = _regions_of(row, config, regions)
        names += [name for name in wanted if name not in names]
        sought = [name for name in wanted if name not in shown]
        if sought and row.image in shards:
            maps = shards.regions(row.image, sought)  # zeros without a pose
            shown |= {name for name, one in zip(sought, maps, strict=True) if one.any()}
    if not shown:
        raise VsamError(
            f"Expected {config.heatmaps} to show one of {', '.join(names)} in photos of the "
            "training split, but it shows none. Name other regions, or train without poses with "
            "--lambda 0."
        )
    if hidden := [name for name in names if name not in shown]:
        _log.warning(
            "No heatmap of the training split shows %s, so nothing supervises what looks there. "
            "Name other regions, or add photos that show them.",
            ", ".join(hidden),
        )


def _require_regions(config: TrainConfig, regions: CategoryRegions, landmarks: LandmarkSet) -> None:
    if config.regions is not None:
        _require_known("--regions", config.regions, landmarks.groups)
        return
    # Categories cover regions of the body.
    known = (BY_CATEGORY, *BODY.groups) if landmarks is BODY else landmarks.groups
    _require_known("--region", [config.region], known)
    for category, region in regions.own.items():
        _require_known(
            f"region of {category} in {config.category_regions}", [region], landmarks.groups
        )


def _require_known(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise expected(what, f"one of {', '.join(known)}", repr(name))
