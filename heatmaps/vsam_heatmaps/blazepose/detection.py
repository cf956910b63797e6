"""Decode the detector: a letterboxed photo's raw scores and boxes become people.

The detector is a single-shot detector (Liu et al., 2016) with square anchors of one size; instead
of the box it matters where a person's hips are and how far the body reaches.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .regions import Region

INPUT_SIDE = 224
"""Height and width of the detector's input in pixels."""

BOX_VALUES = 12
"""Values an anchor: centre and size of the box, then (x, y) of four points."""

# Cells along a side, and anchors in each: strides 8 and 16 have two, three layers of stride 32
# share theirs.
_LAYERS = ((28, 2), (14, 2), (7, 6))
_HIP_CENTRE, _SCALE_POINT = 0, 1  # of the four points; the other two belong to the upper body
_SCORE_LIMIT = 100.0
_SAME_PERSON = 0.3  # boxes that overlap more (intersection over union) show the same person


@dataclass(frozen=True)
class Detections:
    """People in one photo, the most confident first.

    Attributes:
        scores: (P,) confidence, 0..1.
        boxes: (P, 4) left, top, right, bottom of the face's box, pixels of the photo.
        points: (P, 4, 2) (x, y) of hip centre, whole body's scale point, and the upper body's two,
            pixels of the photo, (0, 0) at the outer corner of the top-left pixel.
    """

    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]
    points: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)

    def region(self, person: int) -> Region:
        """Make the region in which the landmark network finds this person."""
        points = self.points[person]
        return Region.around(points[_HIP_CENTRE], points[_SCALE_POINT])


def letterbox(width: int, height: int) -> Region:
    """Make the smallest square that holds a whole photo: what the detector looks at."""
    return Region(width / 2, height / 2, max(width, height))


@cache
def anchor_centres() -> NDArray[np.float32]:
    """Make the anchors' centres, (2254, 2) (x, y) as shares of the input's side."""
    centres = []
    for cells, repeats in _LAYERS:
        steps = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)  # row by row
        centres.append(np.repeat(grid, repeats, axis=0))
    return np.concatenate(centres).astype(np.float32)


def decode_detections(
    boxes: NDArray[np.float32],
    logits: NDArray[np.float32],
    frame: Region,
    *,
    min_confidence: float,
) -> Detections:
    """Turn the detector's raw output into people.

    Args:
        boxes: (2254, 12) offsets from the anchors in pixels of the input.
        logits: (2254,) scores before the sigmoid.
        frame: What the input showed, see `letterbox`.
        min_confidence: Least score, 0..1.
    """
    scores = sigmoid(np.clip(logits, -_SCORE_LIMIT, _SCORE_LIMIT))
    kept = np.flatnonzero(scores >= min_confidence)
    raw = boxes[kept].reshape(-1, BOX_VALUES // 2, 2) / np.float32(INPUT_SIDE)  # (K, 6, 2)
    centres = anchor_centres()[kept]
    half = raw[:, 1] / 2
    middle = raw[:, 0] + centres
    values = np.concatenate(
        [(middle - half)[:, None], (middle + half)[:, None], raw[:, 2:] + centres[:, None]], axis=1
    )  # (K, 6, 2): top-left, bottom-right, four points
    scores, values = _weighted_suppression(scores[kept], values)
    values = frame.to_photo(values)
    return Detections(scores, values[:, :2].reshape(-1, 4), values[:, 2:])


def _weighted_suppression(
    scores: NDArray[np.float32], values: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Merge boxes of the same person into their mean, weighted by score.

    Args:
        scores: (K,).
        values: (K, 6, 2): top-left, bottom-right, four points.

    Returns:
        (P,) best scores, (P, 6, 2) means, the best first.
    """
    order = np.argsort(-scores, kind="stable")
    scores, values = scores[order], values[order]
    left = np.ones(len(scores), bool)
    people: list[tuple[np.float32, NDArray[np.float32]]] = []
    while left.any():
        best = int(np.argmax(left))
        same = left & (_overlap(values[best, :2], values[:, :2]) > _SAME_PERSON)
        same[best] = True  # also a box without an area
        weights = scores[same] / scores[same].sum()
        people.append((scores[best], np.tensordot(weights, values[same], axes=1)))
        left &= ~same
    if not people:
        return np.zeros(0, np.float32), np.zeros((0, *values.shape[1:]), np.float32)
    return np.array([s for s, _ in people], np.float32), np.stack([v for _, v in people])


def _overlap(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of one box, (2, 2), with others, (K, 2, 2)."""
    size = np.minimum(box[1], others[:, 1]) - np.maximum(box[0], others[:, 0])
    common = np.where((size > 0).all(axis=1), size.prod(axis=1), 0)
    union = (box[1] - box[0]).prod() + (others[:, 1] - others[:, 0]).prod(axis=1) - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute 1 / (1 + exp(−x)) without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), np.float32)
