"""Photos that show a quantised network which values to expect."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vsam_datasets.preprocessing import Preprocessing
from vsam_heatmaps.errors import UnreadablePhotoError, VsamError, expected
from vsam_heatmaps.images import MAX_PIXELS, decode_photo, max_bytes
from vsam_heatmaps.photos import Photo


@dataclass(frozen=True)
class CalibrationPhotos:
    """Photos as the network is to see them.

    Attributes:
        pixels: (3, S, S) uint8 each; at least one.
        unreadable: Ids and reasons of those that were left out.
    """

    pixels: list[torch.Tensor]
    unreadable: list[tuple[str, str]]


def read_calibration_photos(
    photos: Sequence[Photo],
    preprocessing: Preprocessing,
    *,
    count: int,
    max_pixels: int = MAX_PIXELS,
) -> CalibrationPhotos:
    """Choose photos from all over a list, the same ones each time, and read them.

    Args:
        photos: To choose from.
        preprocessing: The run's.
        count: How many to choose at most; those that can't be read are not replaced.
        max_pixels: Photos with more pixels count as unreadable.

    Raises:
        VsamError: If none can be read, or `count` is less than 1.
    """
    if count < 1:
        raise expected("--calibrate-count", "at least 1", count)
    chosen = sorted(random.Random(0).sample(range(len(photos)), min(count, len(photos))))
    pixels, unreadable = [], []
    for photo in (photos[place] for place in chosen):
        try:
            image = decode_photo(photo.read(max_bytes=max_bytes(max_pixels)), max_pixels=max_pixels)
        except UnreadablePhotoError as error:
            unreadable.append((photo.id, str(error)))
        else:
            pixels.append(preprocessing.resize(image))
    if not pixels:
        why = f"; {unreadable[0][0]!r}: {unreadable[0][1]}" if unreadable else ""
        raise VsamError(
            f"Expected photos to calibrate with, but none of {len(unreadable)} could be read{why}"
        )
    return CalibrationPhotos(pixels, unreadable)
