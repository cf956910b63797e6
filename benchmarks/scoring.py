"""Measures of poses and of confidence that several benchmarks share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsam_heatmaps.landmarks import landmark_indices

JOINTS = tuple(
    f"{side}_{joint}"
    for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    for side in ("left", "right")
)
"""Joints that poses are scored by."""

RIGHT = 0.2
"""A joint is right if it is nearer to the true one than this share of the torso's length."""

_RESAMPLES = 2000


def midpoint(points: NDArray[np.floating], joint: str) -> NDArray[np.floating]:
    """Give the middle between the left and the right joint of a name.

    Args:
        points: (33, 2 or more) x, y, ….
        joint: A name without its side, `hip` say.

    Returns:
        (2,) x, y.
    """
    pair = list(landmark_indices((f"left_{joint}", f"right_{joint}")))
    return points[pair, :2].mean(axis=0)


def torso_length(points: NDArray[np.floating]) -> float:
    """Measure the distance from between the shoulders to between the hips, (33, 2 or more)."""
    return float(np.linalg.norm(midpoint(points, "shoulder") - midpoint(points, "hip")))


def overlap(
    predicted: NDArray[np.uint8], true: NDArray[np.uint8], threshold: int = 128
) -> tuple[float, float]:
    """Measure the intersection over union of maps at a threshold.

    Args:
        predicted: (C, H, W) maps.
        true: (C, H, W) maps.
        threshold: Least value that is inside.

    Returns:
        That of the maximum over all channels, and the mean over the channels in which the true map
        has something. NaN where the true maps are empty.
    """
    ours, theirs = predicted >= threshold, true >= threshold  # (C, H, W)
    present = theirs.any(axis=(1, 2))
    if not present.any():
        return float("nan"), float("nan")
    common, either = (ours & theirs).sum(axis=(1, 2)), (ours | theirs).sum(axis=(1, 2))
    together = ours.any(axis=0), theirs.any(axis=0)
    union = float((together[0] & together[1]).sum() / (together[0] | together[1]).sum())
    return union, float((common[present] / either[present]).mean())


def share_interval(
    right: NDArray[np.floating], counted: NDArray[np.floating], seed: int
) -> tuple[float, float]:
    """Give the 95 % interval of a share, by resampling photos (Efron's percentile bootstrap).

    Args:
        right: (N,) joints that are right in each photo; may be a difference of two estimators.
        counted: (N,) joints that count in each photo.
        seed: Of the resampling.
    """
    rows = np.random.default_rng(seed).integers(len(right), size=(_RESAMPLES, len(right)))
    shares = right[rows].sum(axis=1) / counted[rows].sum(axis=1)
    low, high = np.quantile(shares, (0.025, 0.975))
    return float(low), float(high)


@dataclass(frozen=True)
class Reliability:
    """How often joints are right, by how confident the estimator is of them.

    Attributes:
        confidence: (B,) mean confidence in each bin, NaN in an empty one.
        right: (B,) share of right joints, likewise.
        count: (B,) joints.
        error: Expected calibration error: the mean of |confidence - right|, weighted by count
            (Naeini et al., 2015).
    """

    confidence: NDArray[np.float64]
    right: NDArray[np.float64]
    count: NDArray[np.int64]
    error: float


def reliability(
    confidence: NDArray[np.floating], right: NDArray[np.bool_], bins: int = 10
) -> Reliability:
    """Sort joints into bins of equal width by their confidence.

    Args:
        confidence: (N,) 0..1.
        right: (N,) whether each joint is right.
        bins: How many.
    """
    position = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(position, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 of an empty bin
        mean = np.bincount(position, confidence, bins) / count
        share = np.bincount(position, right, bins) / count
    gap = np.nan_to_num(np.abs(mean - share))
    return Reliability(mean, share, count, float((gap * count).sum() / max(1, count.sum())))
