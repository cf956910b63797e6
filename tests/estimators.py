"""Photos for pose estimators, and what is compared of their results."""

import hashlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from vsam_heatmaps import PoseEstimator, Poses

GREY = (128, 128, 128)


class Remembering:
    """An estimator that looks at each photo once, however many tests ask.

    That it would find the same again is tested in `test_openvino_engine.py`.
    """

    def __init__(self, estimator: PoseEstimator) -> None:
        self._estimator = estimator
        self._found: dict[tuple, Poses] = {}

    def estimate(self, photo: np.ndarray) -> Poses:
        seen = (photo.shape, hashlib.blake2b(photo.tobytes()).digest())
        if seen not in self._found:
            self._found[seen] = self._estimator.estimate(photo)
        return self._found[seen]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._estimator, name)


def in_pixels(keypoints: np.ndarray, photo: np.ndarray) -> np.ndarray:
    return keypoints[..., :2] * photo.shape[1::-1]


def as_bytes(poses: Poses) -> bytes:
    return poses.keypoints.tobytes()


def turned(photo: np.ndarray, degrees: int) -> np.ndarray:
    """Turn a photo counterclockwise, on a grey ground where it is not by quarters."""
    if degrees % 90 == 0:
        return np.ascontiguousarray(np.rot90(photo, degrees // 90))
    height, width = photo.shape[:2]
    side = int(np.hypot(height, width)) + 1
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    matrix[:, 2] += (side - width) / 2, (side - height) / 2
    return cv2.warpAffine(photo, matrix, (side, side), borderValue=GREY)


def small(photo: np.ndarray, scale: float, place: int, side: int = 512) -> np.ndarray:
    """Paste a photo into a grey one, at a scale and one of nine places."""
    canvas = np.full((side, side, 3), GREY, np.uint8)
    scale *= side / max(photo.shape[:2])
    pasted = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    height, width = pasted.shape[:2]
    top, left = (side - height) * (place // 3 % 3) // 2, (side - width) * (place % 3) // 2
    canvas[top : top + height, left : left + width] = pasted
    return canvas


def walls() -> dict[str, np.ndarray]:
    """Make photos of nothing: flat colours, noise, a gradient."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 255, 300)[:, None, None]
    return {
        "grey": np.full((400, 300, 3), GREY, np.uint8),
        "teal": np.full((90, 120, 3), (0, 128, 128), np.uint8),
        "white": np.full((300, 300, 3), 255, np.uint8),
        "black": np.zeros((300, 300, 3), np.uint8),
        "noise": rng.integers(0, 256, (400, 300, 3), np.uint8),
        "grain": rng.normal(128, 20, (400, 300, 3)).clip(0, 255).astype(np.uint8),
        "ramp": np.broadcast_to(ramp, (300, 400, 3)).astype(np.uint8),
    }


def beside(photos: Sequence[np.ndarray], count: int) -> list[np.ndarray]:
    """Put photos beside each other, `count` in each."""
    groups = [photos[start : start + count] for start in range(0, len(photos), count)]
    return [np.concatenate(group, axis=1) for group in groups]
