"""What a pose estimator gives, and the protocol that every estimator follows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from .errors import expected
from .landmarks import landmark_set

MAX_PEOPLE = 8
"""How many people are looked at in one photo at most; each costs a run of the landmark network."""

FARTHEST = 100.0
"""How far a joint may lie from the photo's corner, in photos. Of a person of whom little shows some
lie far outside; beyond this it is no position."""

# How fast a person counts less away from the photo's centre: to 61 % at a quarter of its diagonal.
_CENTRALITY = 0.25
_MOST_CONFIDENT = 1.5
# Poses whose joints are closer than this share of their box's diagonal are of the same person.
_TWICE = 0.1


@dataclass(frozen=True)
class Poses:
    """The people found in one photo, the main one first; see `main_person_first`.

    Attributes:
        keypoints: (P, K, 4) float32 for P people: x, y, visibility, presence of each of the K
            landmarks of the set. x and y are shares of the photo's width and height after EXIF
            rotation: (0, 0) is the outer corner of the top-left pixel, (1, 1) that of the
            bottom-right one. They leave 0..1 where a joint lies outside the photo. Visibility
            (seen; if the estimator can judge it, also right) and presence (inside the photo) are
            probabilities. A landmark that the source does not know has x and y NaN, visibility and
            presence 0.
        landmarks: Which landmarks they are, a name in `LANDMARK_SETS`. A "person" of the set
            `garment` is a garment.
    """

    keypoints: NDArray[np.float32]
    landmarks: str = "body"

    def __post_init__(self) -> None:
        shape, count = self.keypoints.shape, len(landmark_set(self.landmarks))
        if len(shape) != 3 or shape[1:] != (count, 4):
            raise expected("keypoints", f"of shape (P, {count}, 4)", shape)

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


def no_poses(landmarks: str = "body") -> Poses:
    """Make the result for a photo without people, of a set in `LANDMARK_SETS`."""
    return Poses(np.zeros((0, len(landmark_set(landmarks)), 4), np.float32), landmarks)


def main_person_first(poses: Poses, width: int, height: int) -> Poses:
    """Order people by how much of the photo they are: size times centrality.

    Size is the area of the box around a person's visible joints, cut to the photo, as a share of
    it (nothing where no joint is known); centrality is exp(−d² / (2 · 0.25²)), with d the distance
    of the box's centre from the photo's as a share of the diagonal. The most confident one counts
    one and a half times: of two people side by side it stays the main one. Who lies on a person
    that comes before them, by the joints that are known of both, is that person, found twice, and
    left out.

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
    known: NDArray[np.bool_] = np.isfinite(pixels.sum(axis=2))
    for person, visibility in enumerate(poses.keypoints[:, :, 2]):
        if not known[person].any():
            kept.append(person)
            weights.append(0.0)
            continue
        seen = known[person] & (visibility >= min(0.5, float(visibility[known[person]].max())))
        points = pixels[person][seen].clip(0, (width, height))
        low, high = points.min(axis=0), points.max(axis=0)
        apart = [_distance(pixels[person], pixels[other]) for other in kept]
        if any(distance < _TWICE * math.hypot(*(high - low)) for distance in apart):
            continue
        away = ((low + high) / 2 - (width / 2, height / 2)) / math.hypot(width, height)
        centrality = math.exp(-float(away @ away) / (2 * _CENTRALITY**2))
        kept.append(person)
        weights.append(float((high - low).prod()) * centrality)
    weights[0] *= _MOST_CONFIDENT
    order = [kept[index] for index in np.argsort(-np.array(weights), kind="stable")]
    return Poses(poses.keypoints[order], poses.landmarks)


def _distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Average how far joints of two people, (K, 2) each, are apart; infinite if they share none."""
    apart = np.linalg.norm(a - b, axis=1)
    apart = apart[np.isfinite(apart)]
    return float(apart.mean()) if len(apart) else math.inf
