"""Poses as OpenPose's COCO model has them: 18 joints, those that are seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import expected
from .keypoint_files.joints import OPENPOSE_18
from .landmarks import LANDMARK_SETS
from .poses import Poses

NECK = OPENPOSE_18.order.index(None)
"""The one joint that is no landmark of ours: the middle of the shoulders, as OpenPose trains it."""


@dataclass(frozen=True)
class Joint:
    """A joint that is seen.

    Attributes:
        index: In OpenPose's order of 18 joints.
        x: Share of the upright photo's width, 0 to 1: 0 is the outer edge of its first column.
        y: Share of its height, likewise.
        score: Probability that it is seen, 0 to 1.
    """

    index: int
    x: float
    y: float
    score: float


def openpose_joints(poses: Poses, *, min_visibility: float = 0.5) -> list[list[Joint]]:
    """List each person's joints, by index; who has none is left out.

    A joint is left out if it is not known, less visible than asked, or outside the photo, and the
    neck if one of the shoulders is unknown or hidden.

    Args:
        poses: Of bodies.
        min_visibility: Least visibility, 0..1.

    Raises:
        VsamError: If `min_visibility` is out of its range, or the poses are of something else.
    """
    if not 0 <= min_visibility <= 1:
        raise expected("min_visibility", "from 0 to 1", min_visibility)
    if poses.landmarks != OPENPOSE_18.landmarks:
        raise expected("landmarks", OPENPOSE_18.landmarks, repr(poses.landmarks))
    people = (_joints(person[:, :3], min_visibility) for person in poses.keypoints)
    return [joints for joints in people if joints]


def _joints(points: NDArray[np.float32], least: float) -> list[Joint]:
    """Pick a person's joints out of (K, 3): x, y, visibility."""
    landmarks = LANDMARK_SETS[OPENPOSE_18.landmarks].landmarks
    shoulders = [landmarks.index(f"{side}_shoulder") for side in ("left", "right")]
    joints = []
    for index, name in enumerate(OPENPOSE_18.order):
        if index == NECK:
            pair = points[shoulders]
            # The mean of both places is as sure as the less sure of them.
            (x, y), score = pair[:, :2].mean(axis=0), pair[:, 2].min()
        else:
            assert name is not None
            x, y, score = points[landmarks.index(name)]
        if math.isfinite(x + y) and 0 <= x <= 1 and 0 <= y <= 1 and score >= least and score > 0:
            joints.append(Joint(index, float(x), float(y), min(float(score), 1.0)))
    return joints
