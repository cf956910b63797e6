"""Make samples for the region network: crops of whole photos, and photos without a person.

A whole photo tells for nothing where the region of each of its crops is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vsam_heatmaps.blazepose.regions import Region
from vsam_heatmaps.landmarks import MIRRORED, landmark_indices

Image = NDArray[np.uint8]

# How samples are mixed. Chosen once; the network is not sensitive to them.
NEGATIVE, MANNEQUIN = 0.22, 0.06
WHOLE, CUT = 0.10, 0.55  # of the crops of people: not cut at all; cut at a body line, as shops do
NEW_BACKGROUND, TURNED, RECOLOURED, COVERED, BLURRED = 0.35, 0.35, 0.7, 0.15, 0.1

_BACKGROUND, _HAIR, _SKIN = 0, 19, 41  # values of CCP's masks that are no garment
_LEAST_SIDE = 24  # pixels of a crop


@dataclass(frozen=True)
class Person:
    """A photo of a whole person, and what MediaPipe finds in it.

    Attributes:
        photo: (H, W, 3) uint8 RGB.
        keypoints: (33, 4) x, y in pixels of the photo; visibility, presence.
        region: Where the landmark network should look.
        mask: (h, w) values of `mask_labels.txt`, or None.
    """

    photo: Image
    keypoints: NDArray[np.float32]
    region: Region
    mask: Image | None = None


@dataclass(frozen=True)
class Sample:
    """A crop; without a person if `region` is None. Coordinates are pixels of the crop."""

    photo: Image
    region: Region | None = None
    keypoints: NDArray[np.float32] | None = None


class Sampler:
    """Draws samples without end.

    Args:
        people: Photos of people; their backgrounds and garments become samples without a person.
        mannequins: Drawn people.
        flat_lays: Photos of garments without a person.
        seed: Samples depend on it alone.
    """

    def __init__(
        self,
        people: Sequence[Person],
        mannequins: Sequence[Person],
        flat_lays: Sequence[Image],
        seed: int,
    ) -> None:
        self._people, self._mannequins, self._flat_lays = people, mannequins, flat_lays
        self._rng = np.random.default_rng(seed)

    def __iter__(self) -> Iterator[Sample]:
        turn = 0
        while True:
            kind = self._rng.random()
            if kind < NEGATIVE:
                yield self._without_person()
            elif kind < NEGATIVE + MANNEQUIN and self._mannequins:
                yield self._crop(self._pick(self._mannequins))
            else:
                turn += 1
                yield self._crop(self._people[turn % len(self._people)])

    def _pick(self, items: Sequence[Any]) -> Any:
        return items[self._rng.integers(len(items))]

    def _chance(self, probability: float) -> bool:
        return bool(self._rng.random() < probability)

    # --- people -------------------------------------------------------------------------------

    def _crop(self, person: Person) -> Sample:
        rng = self._rng
        photo, keypoints, region = person.photo, person.keypoints, person.region
        if person.mask is not None and self._chance(NEW_BACKGROUND):
            photo = self._on_new_background(photo, person.mask)
        if self._chance(0.5):
            photo, keypoints, region = mirror(photo, keypoints, region)
        if self._chance(TURNED):
            angle = rng.uniform(-12, 12) if self._chance(0.8) else rng.uniform(-35, 35)
            photo, keypoints, region = turn(photo, keypoints, region, angle)
        left, top, right, bottom = self._rectangle(keypoints, photo.shape[1], photo.shape[0])
        photo = photo[top:bottom, left:right].copy()
        if self._chance(RECOLOURED):
            photo = self._recolour(photo)
        if self._chance(COVERED):
            height, width = photo.shape[:2]
            rows, columns = (rng.uniform(0.1, 0.35, 2) * (height, width)).astype(int)
            row, column = rng.integers(height - rows), rng.integers(width - columns)
            photo[row : row + rows, column : column + columns] = rng.integers(0, 255, 3)
        if self._chance(BLURRED):
            photo = cv2.GaussianBlur(photo, (0, 0), rng.uniform(0.5, 1.5))
        keypoints = keypoints - np.array([left, top, 0, 0], np.float32)
        return Sample(photo, region.moved(-left, -top), keypoints)

    def _rectangle(
        self, keypoints: NDArray[np.float32], width: int, height: int
    ) -> tuple[int, int, int, int]:
        """Choose left, top, right and bottom of a crop in pixels."""
        rng, y = self._rng, keypoints[:, 1]
        mouth, shoulders, hips, ankles = (
            float(y[list(landmark_indices(pair))].mean())
            for pair in (
                ("mouth_left", "mouth_right"),
                ("left_shoulder", "right_shoulder"),
                ("left_hip", "right_hip"),
                ("left_ankle", "right_ankle"),
            )
        )
        torso = max(hips - shoulders, 10.0)
        head, sole = float(y[:11].min()) - 0.2 * torso, ankles + 0.2 * torso
        kind = rng.random()
        if kind < WHOLE:
            return 0, 0, width, height
        top, bottom = 0.0, float(height)
        if kind < WHOLE + CUT:
            # Also what is not cut ends at the body or at the photo's edge.
            if self._chance(0.5):
                top = rng.uniform(0, max(1.0, head))
            if self._chance(0.5):
                bottom = rng.uniform(min(height - 1.0, sole), height)
            neck = shoulders + (shoulders - mouth) * rng.uniform(-1, 0.3)
            cut = ("head off", "upper body", "legs", "torso")[rng.integers(4)]
            if cut in ("head off", "torso"):
                top = neck
            if cut == "upper body":
                bottom = hips + torso * rng.uniform(-0.5, 0.6)
            if cut == "torso":
                bottom = hips + torso * rng.uniform(-0.3, 0.6)
            if cut == "legs":
                top = hips - torso * rng.uniform(-0.3, 0.5)
            if cut == "head off" and self._chance(0.4):
                bottom = rng.uniform(hips, max(hips + 1, min(height, sole + 0.1 * torso)))
        else:
            while bottom - top > sole - head or bottom - top < 0.8 * torso:
                top, bottom = np.sort(rng.uniform(head, sole, 2))
            top = 0 if self._chance(0.2) else top
            bottom = height if self._chance(0.2) else bottom
        rows = _between(top, bottom, height)
        x = keypoints[(y >= rows[0]) & (y < rows[1]), 0]
        left, right = 0.0, float(width)
        if len(x) > 3:
            low, high, how = float(x.min()), float(x.max()), rng.random()
            if how < 0.4:  # tight
                left, right = (
                    low - torso * rng.uniform(0.05, 0.8),
                    high + torso * rng.uniform(0.05, 0.8),
                )
            elif how < 0.55:  # a side of the body cut off
                left = low + (high - low) * rng.uniform(-0.1, 0.35)
            elif how < 0.7:
                right = high - (high - low) * rng.uniform(-0.1, 0.35)
            elif how < 0.8:
                left, right = (
                    low - torso * rng.uniform(0.05, 0.8),
                    high + torso * rng.uniform(-0.2, 0.3),
                )
        columns = _between(left, right, width)
        return columns[0], rows[0], columns[1], rows[1]

    def _on_new_background(self, photo: Image, mask: Image) -> Image:
        rng = self._rng
        height, width = photo.shape[:2]
        cover = (mask != _BACKGROUND).astype(np.uint8) * 255
        if cover.mean() < 8:  # nearly nothing is annotated
            return photo
        kind = rng.random()
        if kind < 0.45:  # a studio
            background = np.full((height, width, 3), rng.uniform(200, 255))
        elif kind < 0.7:
            share = np.linspace(0, 1, height)[:, None, None]
            ends = rng.uniform(60, 255, (2, 3))
            background = np.ones((height, width, 1)) * (ends[0] * (1 - share) + ends[1] * share)
        else:
            background = cv2.resize(self._street(), (width, height)).astype(np.float64)
        cover = cv2.resize(cover, (width, height), interpolation=cv2.INTER_LINEAR)
        cover = cv2.GaussianBlur(cover, (0, 0), rng.uniform(0.8, 2.5))
        return _blend(photo, background, cover)

    def _recolour(self, photo: Image) -> Image:
        rng = self._rng
        values = (photo.astype(np.float32) - 128) * rng.uniform(0.7, 1.3)
        values = (values + 128 + rng.uniform(-30, 30)) * rng.uniform(0.88, 1.12, 3)
        if self._chance(0.15):
            values[:] = values.mean(axis=2, keepdims=True)
        return values.clip(0, 255).astype(np.uint8)

    # --- no people ----------------------------------------------------------------------------

    def _without_person(self) -> Sample:
        kind = self._rng.random()
        if kind < 0.3:
            photo = self._street()
        elif kind < 0.6 or not self._flat_lays:
            photo = self._garment()
        else:
            photo = self._flat_lay()
        if self._chance(0.6):
            photo = self._recolour(photo)
        if self._chance(0.3):
            photo = photo[:, ::-1]
        return Sample(np.ascontiguousarray(photo))

    def _street(self) -> Image:
        """Cut a piece of background beside a person."""
        rng, least = self._rng, 1.5 * _LEAST_SIDE
        while True:
            person = self._pick(self._people)
            height, width = person.photo.shape[:2]
            left, top, right, bottom = _room(person.keypoints)
            pieces = [
                (x0, y0, x1, y1)
                for x0, y0, x1, y1 in (
                    (0, 0, left, height),
                    (right, 0, width, height),
                    (0, 0, width, top),
                    (0, bottom, width, height),
                )
                if x1 - x0 > least and y1 - y0 > least
            ]
            if pieces:
                break
        x0, y0, x1, y1 = (int(value) for value in self._pick(pieces))
        columns, rows = int(rng.uniform(least, x1 - x0)), int(rng.uniform(least, y1 - y0))
        column = x0 + int(rng.uniform(0, x1 - x0 - columns + 1))
        row = y0 + int(rng.uniform(0, y1 - y0 - rows + 1))
        return np.asarray(person.photo[row : row + rows, column : column + columns])

    def _garment(self) -> Image:
        """Lay garments without their wearer on a plain ground or on a piece of background."""
        rng = self._rng
        while True:
            person = self._pick(self._people)
            if person.mask is None:
                continue
            sizes = {
                int(v): int(n)
                for v, n in zip(*np.unique(person.mask, return_counts=True), strict=True)
            }
            garments = [
                value
                for value, size in sizes.items()
                if value not in (_BACKGROUND, _HAIR, _SKIN) and size > 25
            ]
            if not garments:
                continue
            count = len(garments) if self._chance(0.2) else 1 + int(self._chance(0.25))
            garments.sort(key=lambda value: -sizes[value] * rng.uniform(0.3, 1.7))
            size = person.photo.shape[1::-1]
            cover = np.isin(person.mask, garments[:count]).astype(np.uint8) * 255
            cover = cv2.resize(cover, size, interpolation=cv2.INTER_LINEAR)
            rows, columns = np.where(cover > 127)
            if len(rows) >= 300:
                break
        box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        garment, cover = person.photo[box], cover[box]
        height = int(rng.uniform(200, 400))
        width = int(height * rng.uniform(0.6, 1.4))
        if self._chance(0.5):
            colour = (
                rng.integers(0, 255, 3) if self._chance(0.5) else np.full(3, rng.uniform(190, 255))
            )
            grain = rng.normal(0, 3, (height, width, 1))
            ground = np.broadcast_to(colour, (height, width, 3)) + grain
        else:
            ground = cv2.resize(self._street(), (width, height)).astype(np.float64)
        scale = min(height / garment.shape[0], width / garment.shape[1]) * rng.uniform(0.5, 1.02)
        angle = rng.normal(0, 8) if self._chance(0.8) else rng.uniform(-180, 180)
        middle = garment.shape[1] / 2, garment.shape[0] / 2
        matrix = cv2.getRotationMatrix2D(middle, angle, scale)
        matrix[:, 2] += (width / 2 - middle[0], height / 2 - middle[1])
        return _blend(
            cv2.warpAffine(np.ascontiguousarray(garment), matrix, (width, height)),
            ground,
            cv2.warpAffine(np.ascontiguousarray(cover), matrix, (width, height)),
        )

    def _flat_lay(self) -> Image:
        rng = self._rng
        photo = self._pick(self._flat_lays)
        if self._chance(0.5):
            photo = photo[:, ::-1]
        if self._chance(0.3):
            photo = photo[::-1]
        if self._chance(0.15):
            photo = np.rot90(photo)
        if self._chance(0.6):
            height, width = photo.shape[:2]
            low, high = rng.uniform(0, 0.2, 2), 1 - rng.uniform(0, 0.2, 2)
            if self._chance(0.3):  # a half of the garment
                part = rng.uniform(0.4, 0.8) * (high[1] - low[1])
                low[1], high[1] = (
                    (low[1], low[1] + part) if self._chance(0.5) else (high[1] - part, high[1])
                )
            (x0, y0), (x1, y1) = (
                (low * (width, height)).astype(int),
                (high * (width, height)).astype(int),
            )
            photo = photo[y0:y1, x0:x1]
        return np.asarray(photo)


def mirror(
    photo: Image, keypoints: NDArray[np.float32], region: Region
) -> tuple[Image, NDArray[np.float32], Region]:
    """Mirror a photo: left becomes right, in the picture and in the person."""
    width = photo.shape[1]
    keypoints = keypoints[list(MIRRORED)]
    keypoints[:, 0] = width - keypoints[:, 0]
    return photo[:, ::-1], keypoints, Region(width - region.x, region.y, region.side, -region.angle)


def turn(
    photo: Image, keypoints: NDArray[np.float32], region: Region, degrees: float
) -> tuple[Image, NDArray[np.float32], Region]:
    """Turn a photo around the person, counterclockwise; its border is repeated."""
    height, width = photo.shape[:2]
    matrix = cv2.getRotationMatrix2D((region.x, region.y), degrees, 1.0)
    photo = cv2.warpAffine(
        np.ascontiguousarray(photo), matrix, (width, height), borderMode=cv2.BORDER_REPLICATE
    )
    keypoints = keypoints.copy()
    keypoints[:, :2] = keypoints[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    turned = Region(region.x, region.y, region.side, region.angle - float(np.deg2rad(degrees)))
    return np.asarray(photo, np.uint8), keypoints, turned


def _room(keypoints: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of what a person may fill, in pixels."""
    seen = keypoints[keypoints[:, 2] > 0.3] if (keypoints[:, 2] > 0.3).sum() > 4 else keypoints
    shoulders, hips = (
        keypoints[list(landmark_indices((f"left_{name}", f"right_{name}"))), :2].mean(axis=0)
        for name in ("shoulder", "hip")
    )
    torso = max(10.0, float(np.linalg.norm(shoulders - hips)))
    low, high = seen[:, :2].min(axis=0), seen[:, :2].max(axis=0)
    return (
        float(low[0] - 0.35 * torso),
        float(low[1] - 0.5 * torso),
        float(high[0] + 0.35 * torso),
        float(high[1] + 0.3 * torso),
    )


def _between(low: float, high: float, size: int) -> tuple[int, int]:
    """Round the ends of a crop to whole pixels inside a photo; too small ones become all of it."""
    start = int(np.clip(round(low), 0, max(0, size - _LEAST_SIDE)))
    end = int(np.clip(round(high), min(size, _LEAST_SIDE), size))
    return (start, end) if end - start >= _LEAST_SIDE else (0, size)


def _blend(front: Image, back: NDArray[np.floating], cover: Image) -> Image:
    share = cover.astype(np.float64)[..., None] / 255
    return (front * share + back * (1 - share)).clip(0, 255).astype(np.uint8)
