"""Crops of photos of whole people, as shops and phones make them, and pieces without anybody.

Written for measuring, apart from what the region network was trained on: no code is shared with
`heatmaps/region_network`.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scoring import midpoint, torso_length

KINDS = ("whole", "head off", "upper body", "hips to feet", "shoulders to hips")
"""The kinds of crop; all but the first cut the body."""

LEAST_SIDE = 32
"""Pixels; narrower crops are not made."""

# Shares of the torso's length: how far the edge strays from the hips, and the room that is left
# beside the body where a crop is tight.
_ABOUT_HIPS = 0.3
_ROOM = (0.05, 0.3)
# Room around a person's joints that hair, clothes and a bag may fill: left and right, above, below.
_BESIDE, _ABOVE, _BELOW = 0.4, 0.7, 0.35
_LEAST_PATCH = 48


@dataclass(frozen=True)
class Box:
    """A part of a photo: left, top, right and bottom edge in whole pixels."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.right - self.left, self.bottom - self.top

    def cut(self, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Cut it out of a photo, (H, W, 3) uint8."""
        part = photo[self.top : self.bottom, self.left : self.right]
        return np.ascontiguousarray(part)

    def from_photo(self, keypoints: NDArray[np.floating]) -> NDArray[np.floating]:
        """Move keypoints, (33, 4) with x, y in pixels, from the photo into the crop."""
        return keypoints - np.array([self.left, self.top, 0, 0], keypoints.dtype)


def random_of(seed: int, photo: str, purpose: str) -> np.random.Generator:
    """Make a generator that depends on nothing but these: not on the other photos."""
    return np.random.default_rng([seed, zlib.crc32(photo.encode()), zlib.crc32(purpose.encode())])


def crop_box(
    kind: str, keypoints: NDArray[np.floating], width: int, height: int, rng: np.random.Generator
) -> Box | None:
    """Choose a crop.

    Args:
        kind: One of `KINDS`.
        keypoints: (33, 4) of the person who stands in the photo, x, y in pixels.
        width: Of the photo.
        height: Of the photo.
        rng: Decides how far each edge strays.

    Returns:
        None if the crop would be too small.
    """
    if kind == "whole":
        return Box(0, 0, width, height)
    torso = torso_length(keypoints)
    mouth, shoulders, hips = (
        float(y)
        for y in (
            keypoints[[9, 10], 1].mean(),  # both corners of the mouth
            midpoint(keypoints, "shoulder")[1],
            midpoint(keypoints, "hip")[1],
        )
    )
    neck = rng.uniform(min(mouth, shoulders), max(mouth, shoulders))
    waist = hips + torso * rng.uniform(-_ABOUT_HIPS, _ABOUT_HIPS)
    top, bottom = {
        "head off": (neck, height),
        "upper body": (0, waist),
        "hips to feet": (waist, height),
        "shoulders to hips": (neck, waist),
    }[kind]
    left, right = 0.0, float(width)
    tight, rooms = rng.random() < 0.5, torso * rng.uniform(*_ROOM, size=2)
    y, visible = keypoints[:, 1], keypoints[:, 2] >= 0.5
    x = keypoints[visible & (y >= top) & (y < bottom), 0]
    if tight and len(x) >= 2:
        left, right = float(x.min()) - rooms[0], float(x.max()) + rooms[1]
    edges = [
        round(float(np.clip(edge, 0, most)))
        for edge, most in ((left, width), (top, height), (right, width), (bottom, height))
    ]
    box = Box(*edges)
    return box if min(box.size) >= LEAST_SIDE else None


def background_box(
    keypoints: NDArray[np.floating], width: int, height: int, rng: np.random.Generator
) -> Box | None:
    """Choose a piece of a photo beside, above or below the person.

    Returns:
        None if nowhere is enough room. Nobody knows whether others stand in the background.
    """
    torso = torso_length(keypoints)
    x, y = keypoints[:, 0], keypoints[:, 1]
    left, right = x.min() - _BESIDE * torso, x.max() + _BESIDE * torso
    top, bottom = y.min() - _ABOVE * torso, y.max() + _BELOW * torso
    spaces = [
        (x0, y0, x1, y1)
        for x0, y0, x1, y1 in (
            (0, 0, int(left), height),
            (int(right) + 1, 0, width, height),
            (0, 0, width, int(top)),
            (0, int(bottom) + 1, width, height),
        )
        if min(x1 - x0, y1 - y0) >= _LEAST_PATCH
    ]
    if not spaces:
        return None
    x0, y0, x1, y1 = spaces[rng.integers(len(spaces))]
    columns, rows = rng.integers(_LEAST_PATCH, [x1 - x0, y1 - y0], endpoint=True)
    column, row = x0 + rng.integers(x1 - x0 - columns + 1), y0 + rng.integers(y1 - y0 - rows + 1)
    return Box(int(column), int(row), int(column + columns), int(row + rows))
