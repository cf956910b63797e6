"""Image-heatmap pairs: labelled photos with their attention targets, ready for a DataLoader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
import torch
from torch.utils.data import Dataset

from vsam_heatmaps.errors import UnreadablePhotoError, VsamError
from vsam_heatmaps.images import MAX_PIXELS, read_photo
from vsam_heatmaps.shards import Shards, Status

from .category_regions import BY_CATEGORY, CategoryRegions
from .preprocessing import PairedAugmentation, Preprocessing
from .tables import LabelRow

UNKNOWN_CATEGORY = -100
"""The class index of a photo without a category; cross-entropy leaves it out."""

# Photos are cropped out of a square this much larger than the input, so that crops stay sharp.
_AUGMENTATION_MARGIN = 8 / 7

# A crop shows a region if its map keeps this share of its peak: a joint lies in the crop, or at
# most 1.35 σ, √(2 · ln 2.5), beyond its edge. Less is the tail of a joint that was cut off. It is
# below 0.5, the least visibility of joints by default: so a faint joint in the crop counts also
# where a clear one was cut off, whatever resampling takes from its peak.
_LEAST_SHARE_OF_PEAK = 0.4


class Pair(TypedDict):
    """One sample. With a batch dimension in front, one batch.

    Attributes:
        index: () int64, the row in the table.
        image: (3, S, S) float32, normalised.
        category: () int64, class index or `UNKNOWN_CATEGORY`.
        attributes: (A,) float32, 0 or 1.
        heatmap: (R, M, M) float32, 0..1, over the same square as the image; one map for each
            region that the data set is asked for. All 0 where the photo or its crop does not show
            the region.
        has_pose: () bool; False where there is no map to supervise with.
        error: Why the photo could not be read; then the rest is empty.
    """

    index: torch.Tensor
    image: torch.Tensor
    category: torch.Tensor
    attributes: torch.Tensor
    heatmap: torch.Tensor
    has_pose: torch.Tensor
    error: NotRequired[str]


@dataclass(frozen=True)
class Match:
    """How photos and heatmaps match, by id.

    Attributes:
        with_map: Photos with a heatmap.
        without_pose: Photos in whose record no pose was found.
        without_record: Photos that the shards don't hold.
        maps_without_photo: Records whose photo is not in the table.
    """

    with_map: int
    without_pose: int
    without_record: int
    maps_without_photo: int


def match_heatmaps(rows: Sequence[LabelRow], shards: Shards) -> Match:
    """Count which photos have a heatmap, and which heatmaps have a photo.

    Raises:
        VsamError: If not one photo has a record: then the ids are relative to different folders.
    """
    known = [row.image for row in rows if row.image in shards]
    if rows and not known:
        raise VsamError(
            f"None of the {len(rows)} labelled images is in {shards.path}: the labels name "
            f"{rows[0].image!r}, the shards {shards.ids[0]!r}. Extract the heatmaps with --root "
            "set to the folder that the labels are relative to."
        )
    with_map = sum(shards.status(id_) is Status.OK for id_ in known)
    return Match(
        with_map=with_map,
        without_pose=len(known) - with_map,
        without_record=len(rows) - len(known),
        maps_without_photo=len(shards) - len(known),
    )


class PairDataset(Dataset[Pair]):
    """Labelled photos with their heatmaps, matched by id.

    Samples depend on the seed, the epoch and the row alone, not on the number of loader workers.

    A crop that leaves a region's map less than 0.4 of its peak does not show the region, and the
    map becomes 0: the tail of a joint that was cut off tells where the crop ends, not where it is.

    Args:
        rows: The photos and labels.
        photos: Folder that the ids are relative to.
        categories: The classes, in the model's order.
        attributes: The attributes, in the model's order.
        preprocessing: The network's input.
        map_side: Height and width of the heatmaps in pixels.
        shards: Where the heatmaps are; without them no sample has one.
        region: Which region's map supervises: a name, or `by-category` for the region that the
            photo's category covers.
        category_regions: What those regions are; by default DeepFashion's.
        regions: Regions that have a map each, in order, in the place of the one of `region`.
        augment: Crop, mirror and recolour at random.
        min_crop: Smallest share of the area that a crop keeps; 1 never crops.
        seed: Of the augmentation.
        max_pixels: Photos with more pixels count as unreadable.

    Raises:
        VsamError: If the maps are of one side of the body and photos are mirrored.
    """

    def __init__(
        self,
        rows: Sequence[LabelRow],
        photos: Path,
        *,
        categories: Sequence[str],
        attributes: Sequence[str],
        preprocessing: Preprocessing,
        map_side: int,
        shards: Shards | None = None,
        region: str = BY_CATEGORY,
        category_regions: CategoryRegions | None = None,
        regions: Sequence[str] | None = None,
        augment: bool = False,
        min_crop: float = 0.7,
        seed: int = 0,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        for name in [region] if regions is None else regions:
            if augment and name.startswith(("left_", "right_")):
                raise VsamError(
                    f"Expected the regions to be of both sides with `augment`, but got {name}: in "
                    "a mirrored photo it is the other one. Name a body part, or don't augment."
                )
        self.rows = tuple(rows)
        self.epoch = 0
        self._photos, self._shards, self._region = photos, shards, region
        self._category_regions = category_regions or CategoryRegions()
        self._regions = None if regions is None else list(regions)
        self._class_index = {name: index for index, name in enumerate(categories)}
        self._attribute_index = {name: index for index, name in enumerate(attributes)}
        self._preprocessing, self._map_side, self._seed = preprocessing, map_side, seed
        self._max_pixels = max_pixels
        size = preprocessing.image_size
        self._load_side = round(size * _AUGMENTATION_MARGIN) if augment else size
        self._augmentation = PairedAugmentation(size, scale=(min_crop, 1.0)) if augment else None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Pair:
        row = self.rows[index]
        try:
            photo = read_photo(self._photos / row.image, max_pixels=self._max_pixels)
        except UnreadablePhotoError as error:
            return self._unreadable(index, f"{self._photos / row.image}: {error}")
        pixels = self._preprocessing.resize(photo, self._load_side)
        heatmap, has_pose = self._heatmap(row)
        if self._augmentation is not None:
            # Both become one square, so that one crop serves both.
            heatmap = _resize(heatmap, self._load_side)
            whole = heatmap.amax(dim=(1, 2))  # (R, L, L) -> (R,)
            # The draw is the sample's own, and the caller's random state stays as it was: also that
            # of GPUs, which `torch.manual_seed` would change, but this process alone would not.
            with torch.random.fork_rng(devices=[]):
                entropy = np.random.SeedSequence([self._seed, self.epoch, index])
                torch.default_generator.manual_seed(int(entropy.generate_state(1, np.uint64)[0]))
                pixels, heatmap = self._augmentation(pixels, heatmap)
            shown = heatmap.amax(dim=(1, 2)) >= _LEAST_SHARE_OF_PEAK * whole
            heatmap = heatmap * shown[:, None, None]
        return {
            "index": torch.tensor(index),
            "image": self._preprocessing.normalize(pixels),
            "category": torch.tensor(self._class_index.get(row.category, UNKNOWN_CATEGORY)),
            "attributes": self._attributes(row),
            "heatmap": _resize(heatmap, self._map_side),
            "has_pose": torch.tensor(has_pose),
        }

    def _heatmap(self, row: LabelRow) -> tuple[torch.Tensor, bool]:
        regions = self._regions_of(row)
        shards = self._shards
        if shards is None or row.image not in shards or shards.status(row.image) is not Status.OK:
            return torch.zeros(len(regions), self._map_side, self._map_side), False
        stored = shards.regions(row.image, regions)  # (R, H, W)
        return torch.from_numpy(stored).float() / 255, True

    def _regions_of(self, row: LabelRow) -> list[str]:
        if self._regions is not None:
            return self._regions
        if self._region == BY_CATEGORY:
            return [self._category_regions.of(row.category)]
        return [self._region]

    def _attributes(self, row: LabelRow) -> torch.Tensor:
        target = torch.zeros(len(self._attribute_index))
        target[[self._attribute_index[name] for name in row.attributes]] = 1.0
        return target

    def _unreadable(self, index: int, error: str) -> Pair:
        nothing = torch.zeros(0)
        return {
            "index": torch.tensor(index),
            "image": nothing,
            "category": nothing,
            "attributes": nothing,
            "heatmap": nothing,
            "has_pose": nothing,
            "error": error,
        }


def _resize(heatmap: torch.Tensor, side: int) -> torch.Tensor:
    """Resize a map, (R, H, W) to (R, side, side), averaging where it shrinks."""
    if heatmap.shape[-1] == side:
        return heatmap
    return torch.nn.functional.interpolate(
        heatmap[None], size=(side, side), mode="bilinear", antialias=True
    )[0]


def collate(pairs: Sequence[Pair]) -> Pair:
    """Stack samples into a batch. If a photo could not be read, the batch carries its error alone.

    The error travels as data because an exception that crosses a loader process loses its form.
    """
    for pair in pairs:
        if "error" in pair:
            return pair
    return torch.utils.data.default_collate(list(pairs))
