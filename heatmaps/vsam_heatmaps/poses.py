"""What a pose estimator gives, and the protocol that every estimator follows."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from .errors import VsamError
from .landmarks import LANDMARKS


@dataclass(frozen=True)
class Poses:
    """The people found in one photo, the most confident first.

    Attributes:
        keypoints: (P, 33, 4) float32 for P people: x, y, visibility, presence of each landmark of
            `LANDMARKS`. x and y are shares of the photo's width and height after EXIF rotation:
            (0, 0) is the outer corner of the top-left pixel, (1, 1) that of the bottom-right one.
            They leave 0..1 where a joint lies outside the photo. Visibility (not hidden) and
            presence (inside the photo) are probabilities.
    """

    keypoints: NDArray[np.float32]

    def __post_init__(self) -> None:
        shape = self.keypoints.shape
        if len(shape) != 3 or shape[1:] != (len(LANDMARKS), 4):
            raise VsamError(f"Expected `keypoints` to be of shape (P, 33, 4), but got {shape}.")

    def __len__(self) -> int:
        return len(self.keypoints)


class PoseEstimator(Protocol):
    """Finds people in a photo. Used as a context manager; one instance per process or thread."""

    name: str
    """What a shard records as its backend."""

    def estimate(self, image: NDArray[np.uint8]) -> Poses:
        """Find people in a photo.

        Args:
            image: (H, W, 3) uint8, RGB, upright.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def no_poses() -> Poses:
    """Make the result for a photo without people."""
    return Poses(np.zeros((0, len(LANDMARKS), 4), np.float32))


def keypoints_from(landmarks: Any) -> NDArray[np.float32]:
    """Convert one person's landmarks, objects with x, y, visibility, presence, to (33, 4)."""
    return np.array(
        [[p.x, p.y, p.visibility or 0.0, p.presence or 0.0] for p in landmarks], np.float32
    )
