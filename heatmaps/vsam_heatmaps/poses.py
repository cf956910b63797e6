"""What a pose estimator gives, and the protocol that every estimator follows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from .errors import VsamError
from .landmarks import LANDMARKS

MAX_PEOPLE = 8
"""How many people are looked at in one photo at most; each costs a run of the landmark network."""

# How fast a person counts less away from the photo's centre: to 61 % at a quarter of its diagonal.
_CENTRALITY = 0.25
_MOST_CONFIDENT = 1.5
# Poses whose joints are closer than this share of their box's diagonal are of the same person.
_TWICE = 0.1


@dataclass(frozen=True)
class Poses:
    """The people found in one photo, the main one first; see `main_person_first`.

    Attributes:
        keypoints: (P, 33, 4) float32 for P people: x, y, visibility, presence of each landmark of
            `LANDMARKS`. x and y are shares of the photo's width and height after EXIF rotation:
            (0, 0) is the outer corner of the top-left pixel, (1, 1) that of the bottom-right one.
            They leave 0..1 where a joint lies outside the photo. Visibility (seen; if the
            estimator can judge it, also right) and presence (inside the photo) are probabilities.
    """

    keypoints: NDArray[np.float32]

    def __post_init__(self) -> None:
        shape = self.keypoints.shape
        if len(shape) != 3 or shape[1:] != (len(LANDMARKS), 4):
            raise VsamError(f"Expected `keypoints` to be of shape (P, 33, 4), but got {shape}.")

    def __len__(self) -> int:
        return len(self.keypoints)


class PoseEstimator(Protocol):
    """Finds people in a photo. Used as a context manager; one instance per process or thread.

    An estimator may inherit from it, or just have the same methods.

    >>> from pathlib import Path
    >>> from vsam_heatmaps import LANDMARKS, MediaPipePoseEstimator, read_photo
    >>> with MediaPipePoseEstimator() as estimator:
    ...     poses = estimator.estimate(read_photo(Path("photos/00000.jpg")))
    >>> len(poses), poses.keypoints.shape
    (1, (1, 33, 4))
    >>> x, y, visibility, presence = poses.keypoints[0, LANDMARKS.index("nose")]
    >>> bool(0.3 < x < 0.7 and 0 < y < 0.3 and visibility > 0.9)
    True
    """

    name: str
    """What a shard records as its backend."""

    precision: str
    """Arithmetic of its networks, see `engines.PRECISIONS`."""

    def estimate(self, image: NDArray[np.uint8]) -> Poses:
        """Find people in a photo.

        Args:
            image: (H, W, 3) uint8, RGB, upright.
        """
        ...

    def close(self) -> None:
        """Free the networks."""
        ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def no_poses() -> Poses:
    """Make the result for a photo without people."""
    return Poses(np.zeros((0, len(LANDMARKS), 4), np.float32))


def main_person_first(poses: Poses, width: int, height: int) -> Poses:
    """Order people by how much of the photo they are: size times centrality.

    Size is the area of the box around a person's visible joints, cut to the photo, as a share of
    it; centrality is exp(−d² / (2 · 0.25²)), with d the distance of the box's centre from the
    photo's as a share of the diagonal. The most confident one counts one and a half times: of two
    people side by side it stays the main one. Who lies on a person that comes before them is that
    person, found twice, and left out.

    Args:
        poses: The most confident first.
        width: Width of the photo in pixels.
        height: Height of the photo in pixels.
    """
    if len(poses) < 2:
        return poses
    pixels = poses.keypoints[:, :, :2].astype(np.float64) * (width, height)
    kept: list[int] = []
    weights: list[float] = []
    for person, visibility in enumerate(poses.keypoints[:, :, 2]):
        seen = visibility >= min(0.5, float(visibility.max()))
        points = pixels[person][seen].clip(0, (width, height))
        low, high = points.min(axis=0), points.max(axis=0)
        apart = [
            float(np.linalg.norm(pixels[person] - pixels[other], axis=1).mean()) for other in kept
        ]
        if any(distance < _TWICE * math.hypot(*(high - low)) for distance in apart):
            continue
        away = ((low + high) / 2 - (width / 2, height / 2)) / math.hypot(width, height)
        centrality = math.exp(-float(away @ away) / (2 * _CENTRALITY**2))
        kept.append(person)
        weights.append(float((high - low).prod()) * centrality)
    weights[0] *= _MOST_CONFIDENT
    order = [kept[index] for index in np.argsort(-np.array(weights), kind="stable")]
    return Poses(poses.keypoints[order])
