"""Measures of poses, of confidence and of tags that several benchmarks share."""

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


def draw_photos(photos: int, seed: int, resamples: int = _RESAMPLES) -> NDArray[np.int64]:
    """Draw resamples of N photos with replacement (Efron, 1979).

    Everything that is to be compared is measured on the same resamples: then the differences are
    paired, and the photos' own difficulty cancels out.

    Args:
        photos: N.
        seed: Of the draw.
        resamples: B.

    Returns:
        (B, N), how often each resample holds each photo.
    """
    drawn = np.random.default_rng(seed).integers(photos, size=(resamples, photos))  # (B, N)
    flat = drawn + np.arange(resamples)[:, None] * photos  # each resample counts for itself
    return np.bincount(flat.ravel(), minlength=resamples * photos).reshape(resamples, photos)


def average_precision(
    scores: NDArray[np.floating], true: NDArray[np.bool_], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Compute the average precision of one label on resamples: the mean of its photos' precisions.

    The precision of a photo with the label is that of all photos whose score is not below its own
    (the step-wise form, as in scikit-learn). A photo that a resample holds several times counts as
    often in the mean, but once in its own precision: else a label of few photos would look better
    in nearly every resample than it is, as copies of one photo would confirm each other.

    Args:
        scores: (N,).
        true: (N,) whether the photo has the label.
        counts: (B, N), see `draw_photos`; where all are 1 this is the usual average precision.

    Returns:
        (B,), NaN where no photo of the resample has the label.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hit = scores[order], true[order]
    # Photos with equal scores come in together: each is judged at the last of them.
    last = np.searchsorted(-ranked, -ranked, side="right")[hit] - 1
    taken = counts[:, order].astype(np.float64)  # (B, N)
    seen, found = taken.cumsum(axis=1), (taken * hit).cumsum(axis=1)
    weight = taken[:, hit]  # (B, N) -> (B, P), those with the label
    copies = np.maximum(weight - 1, 0)
    with np.errstate(invalid="ignore"):  # 0 / 0: photos that are not drawn
        precision = (found[:, last] - copies) / (seen[:, last] - copies)
        return np.where(weight > 0, weight * precision, 0.0).sum(axis=1) / weight.sum(axis=1)


def share_right(right: NDArray[np.bool_], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute the share of photos that are right on resamples.

    Args:
        right: (N,).
        counts: (B, N), see `draw_photos`.

    Returns:
        (B,), NaN where a resample holds none of the photos.
    """
    with np.errstate(invalid="ignore"):
        return (counts @ right.astype(np.float64)) / counts.sum(axis=1)


def interval(resampled: NDArray[np.floating]) -> tuple[float, float]:
    """Give the 95 % percentile interval of a measure on resamples, (B,)."""
    low, high = np.nanquantile(resampled, (0.025, 0.975))
    return float(low), float(high)
