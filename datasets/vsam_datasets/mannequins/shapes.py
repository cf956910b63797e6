"""Outlines: curves, ellipses, capsules and strips as polygons."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""(N, 2) float: x to the right and y downwards, in the units of a canvas's `Frame`."""

Point = Sequence[float] | NDArray[np.float64]
"""(2,): x and y in the units of a canvas's `Frame`."""

_STEP = np.arange(8)[:, None] / 8
# Weights of four successive control points at eight steps between the middle two.
_CATMULL_ROM = 0.5 * np.concatenate(
    [
        -_STEP + 2 * _STEP**2 - _STEP**3,
        2 - 5 * _STEP**2 + 3 * _STEP**3,
        _STEP + 4 * _STEP**2 - 3 * _STEP**3,
        -(_STEP**2) + _STEP**3,
    ],
    axis=1,
)
_TURN = np.linspace(np.pi / 2, 3 * np.pi / 2, 9)
_ROUND = np.linspace(0, 2 * np.pi, 28, endpoint=False)
_CIRCLE = np.stack([np.cos(_ROUND), np.sin(_ROUND)], axis=1)
_HALF_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)


def smooth(points: Sequence[Point] | Points, *, closed: bool = True) -> Points:
    """Draw a Catmull–Rom curve through control points, eight steps from one to the next."""
    control = np.asarray(points, np.float64)
    if closed:
        before, after, end = (
            np.roll(control, 1, 0),
            np.roll(control, -1, 0),
            np.roll(control, -2, 0),
        )
    else:
        padded = np.concatenate([control[:1], control, control[-1:]])
        before, control, after, end = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    corners = np.stack([before, control, after, end], axis=1)  # (N, 4, 2)
    flat = (_CATMULL_ROM @ corners).reshape(-1, 2)  # (8, 4) @ (N, 4, 2) -> (8 N, 2)
    return flat if closed else np.concatenate([flat, after[-1:]])


def ellipse(centre: Point, rx: float, ry: float, angle: float = 0.0) -> Points:
    """Draw an ellipse of 28 corners, turned clockwise by `angle` radians."""
    c, s = math.cos(angle), math.sin(angle)
    return _CIRCLE @ np.array([[rx * c, rx * s], [-ry * s, ry * c]]) + np.asarray(centre)


def shifted(points: NDArray[np.float64], x: float, y: float) -> NDArray[np.float64]:
    """Move one point or (N, 2) points."""
    return points + np.array([x, y])


def box(left: float, top: float, right: float, bottom: float) -> Points:
    """Draw an upright rectangle."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def capsule(a: Point, b: Point, ra: float, rb: float) -> Points:
    """Draw a tapered capsule: discs of radius `ra` at `a` and `rb` at `b` and what joins them."""
    start, end = np.asarray(a, np.float64), np.asarray(b, np.float64)
    dx, dy = float(end[0] - start[0]), float(end[1] - start[1])
    length = math.hypot(dx, dy) or 1.0
    c, s = dx / length, dy / length
    half = _HALF_CIRCLE @ np.array([[c, s], [-s, c]])  # (9, 2), from one side round the tail
    return np.concatenate([start + ra * half, end - rb * half])


def band(line: Points, half_width: float) -> Points:
    """Draw a strip with flat ends around an open line."""
    points = np.asarray(line, np.float64)
    steps = np.diff(points, axis=0)
    steps /= np.hypot(steps[:, 0], steps[:, 1])[:, None] + 1e-12
    direction = np.concatenate([steps[:1], steps[:-1] + steps[1:], steps[-1:]])
    length = np.hypot(direction[:, 0], direction[:, 1])[:, None] + 1e-12
    normal = np.stack([-direction[:, 1], direction[:, 0]], axis=1) * (half_width / length)
    # Half the sum of two unit steps is the cosine of the half angle between them: a mitre joint.
    mitre = np.concatenate([[[1.0]], np.clip(length[1:-1] / 2, 0.5, 1.0), [[1.0]]])
    normal = normal / mitre
    return np.concatenate([points + normal, (points - normal)[::-1]])
