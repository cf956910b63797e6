"""Decode the landmark network: raw values and heatmaps of one region become keypoints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..landmarks import LANDMARKS, MIRRORED
from .detection import sigmoid
from .regions import Region

INPUT_SIDE = 256
"""Height and width of the landmark network's input in pixels."""

POINTS = 39
"""Points that the network predicts: 33 landmarks, two alignment points, four for the hands."""

POINT_VALUES = 5
"""Values a point: x, y, z in pixels of the input, visibility and presence before the sigmoid."""

HEATMAP_SIDE = 64

_ALIGNMENT = (33, 34)  # hip centre and scale point
_WINDOW = 7  # cells of a heatmap around a point that refine its position
_LEAST_PEAK = 0.5  # a flatter heatmap refines nothing


@dataclass(frozen=True)
class RegionPose:
    """What the landmark network sees in one region.

    Attributes:
        keypoints: (33, 4) float32: x, y in pixels of the photo, (0, 0) at the outer corner of the
            top-left pixel; visibility and presence as probabilities.
        score: Probability that the region shows a person.
        region: Where the network looked.
        aligned: The region that its alignment points ask for: where it should have looked.
    """

    keypoints: NDArray[np.float32]
    score: float
    region: Region
    aligned: Region


def decode_landmarks(
    values: NDArray[np.float32],
    score: float,
    heatmaps: NDArray[np.float32],
    region: Region,
    *,
    mirrored: bool = False,
) -> RegionPose:
    """Turn the network's raw output into keypoints on the photo.

    Args:
        values: (195,) five values for each of 39 points.
        score: Probability that the region shows a person.
        heatmaps: (64, 64, 39) logits.
        region: What the input showed.
        mirrored: Whether it showed the region mirrored, left to right.
    """
    points = values.reshape(POINTS, POINT_VALUES)
    inside = refine_points(points[:, :2] / np.float32(INPUT_SIDE), heatmaps)
    if mirrored:
        # The network counts from the outer corner of a pixel: compared with its results on the
        # region as it is, 255 - x lies a pixel too far left.
        inside[:, 0] = 1 - inside[:, 0]
    on_photo = region.to_photo(inside)
    probabilities = sigmoid(points[: len(LANDMARKS), 3:5])
    keypoints = np.concatenate([on_photo[: len(LANDMARKS)], probabilities], axis=1)
    if mirrored:
        keypoints = keypoints[list(MIRRORED)]
    aligned = Region.around(*on_photo[list(_ALIGNMENT)])
    return RegionPose(keypoints.astype(np.float32), score, region, aligned)


def refine_points(
    points: NDArray[np.float32], heatmaps: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Move each point to the centre of gravity of its heatmap nearby, where that has a peak.

    Args:
        points: (P, 2) (x, y) as shares of the region's side.
        heatmaps: (h, w, P) logits.

    Returns:
        (P, 2); a point outside the region or without a peak stays where it is.
    """
    height, width = heatmaps.shape[:2]
    scale = np.array([width, height], np.float32)
    cells = np.where(np.isfinite(points), points, -1) * scale  # NaN counts as outside
    inside = np.all((cells >= 0) & (cells < scale), axis=1)
    corner = np.where(inside[:, None], cells, 0).astype(int)  # (P, 2) column, row
    steps = np.arange(_WINDOW) - _WINDOW // 2
    columns, rows = corner[:, :1] + steps, corner[:, 1:] + steps  # (P, 7)
    beyond_x, beyond_y = (columns < 0) | (columns >= width), (rows < 0) | (rows >= height)
    window = heatmaps[
        rows.clip(0, height - 1)[:, :, None],
        columns.clip(0, width - 1)[:, None, :],
        np.arange(len(points))[:, None, None],
    ]  # (P, 7 rows, 7 columns)
    window = np.where(beyond_y[:, :, None] | beyond_x[:, None, :], 0, sigmoid(window))
    total = window.sum(axis=(1, 2))
    peaked = inside & (window.max(axis=(1, 2)) >= _LEAST_PEAK)
    total = np.where(peaked, total, 1)
    centre = np.stack(
        [(window.sum(axis=1) * columns).sum(axis=1), (window.sum(axis=2) * rows).sum(axis=1)],
        axis=1,
    ) / (total[:, None] * scale)
    return np.where(peaked[:, None], centre, points).astype(np.float32)
