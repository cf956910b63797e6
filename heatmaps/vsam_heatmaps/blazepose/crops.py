"""People of whom only a part shows: choose between what MediaPipe found and the region network.

The region network proposes where one person is and, roughly, where twelve joints are. Poses of the
landmark network are judged by how far they deviate from these: the rough joints are seldom exact,
but seldom wrong. Three things came out of crops of whole photos, whose poses are known:

- A pose that MediaPipe found and that deviates little is right; elsewhere the landmark network does
  better in the proposed region.
- Without a head it often takes a back for a front: every left joint is then on the right. So each
  pose is also judged with its sides exchanged, and where none fits, the landmark network looks
  again, at the region mirrored, and at the one that it asks for itself.
- With two people in the photo the proposal lies between them. MediaPipe's poses then stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..landmarks import LANDMARKS, MIRRORED, landmark_indices
from .detection import Detections, sigmoid
from .landmarks import RegionPose
from .region_network import COARSE_JOINTS, Proposal, RegionWeights
from .regions import Region

Keypoints = NDArray[np.float32]

# Deviations up to which a pose counts as right; see `deviation`. A detection that is sure may
# deviate more: then the proposal is wrong. Chosen on crops of CCP's val split.
_AGREES = 0.04
_SURE_SCORE, _SURE_AGREES = 0.85, 0.12

_COARSE = list(landmark_indices(COARSE_JOINTS))


def _coarse_joint_near(landmark: str) -> int:
    """Find the coarse joint that a landmark hangs on: a finger on a wrist, an eye on a shoulder."""
    side = "right" if "right" in landmark.split("_") else "left"
    joint = landmark.removeprefix(f"{side}_")
    joint = {
        "pinky": "wrist", "index": "wrist", "thumb": "wrist", "heel": "ankle",
        "foot_index": "ankle",
    }.get(joint, joint)  # fmt: skip
    name = f"{side}_{joint}"
    return COARSE_JOINTS.index(name if name in COARSE_JOINTS else f"{side}_shoulder")


_NEAR = [_coarse_joint_near(landmark) for landmark in LANDMARKS]


def is_confirmed(
    found: Sequence[RegionPose],
    detections: Detections,
    proposal: Proposal,
    size: tuple[int, int],
) -> bool:
    """Tell whether what MediaPipe found stands.

    Args:
        found: Its poses, the most confident first; at least one.
        detections: What its detector saw.
        proposal: The region network's.
        size: Width and height of the photo in pixels.
    """
    if len(detections) > 1:
        return True
    limit = _SURE_AGREES if detections.scores[0] >= _SURE_SCORE else _AGREES
    return deviation(found[0].keypoints, proposal, size) < limit


def best_pose(
    found: Sequence[RegionPose],
    look: Callable[[Region, bool], RegionPose],
    proposal: Proposal,
    size: tuple[int, int],
) -> Keypoints:
    """Find the pose that deviates least from a proposal.

    Args:
        found: Poses that MediaPipe found.
        look: Runs the landmark network in a region, mirrored or not.
        proposal: The region network's.
        size: Width and height of the photo in pixels.

    Returns:
        (33, 4) x, y in pixels, visibility, presence.
    """
    best = min(
        (pose.keypoints for pose in found),
        key=lambda keypoints: deviation(keypoints, proposal, size),
        default=None,
    )
    for keypoints in _hypotheses(look, proposal):
        for candidate in (keypoints, keypoints[list(MIRRORED)]):
            if best is None or (
                deviation(candidate, proposal, size) < deviation(best, proposal, size)
            ):
                best = candidate
        assert best is not None
        if deviation(best, proposal, size) < _AGREES:
            break
    assert best is not None
    return best


def _hypotheses(
    look: Callable[[Region, bool], RegionPose], proposal: Proposal
) -> Iterator[Keypoints]:
    pose = look(proposal.region, False)
    yield pose.keypoints
    yield look(proposal.region, True).keypoints
    yield look(pose.aligned, False).keypoints


def deviation(keypoints: Keypoints, proposal: Proposal, size: tuple[int, int]) -> float:
    """Measure how far a pose is from the proposed joints that lie in the photo.

    Args:
        keypoints: (33, 4) in pixels of the photo.
        proposal: The region network's.
        size: Width and height of the photo in pixels.

    Returns:
        The mean distance as a share of the region's side.
    """
    low, high = -0.05 * np.array(size), 1.05 * np.array(size)
    inside = np.all((proposal.joints > low) & (proposal.joints < high), axis=1)
    if inside.sum() < 2:
        inside[:] = True
    return float(_distances(keypoints, proposal)[inside].mean())


def _distances(keypoints: Keypoints, proposal: Proposal) -> NDArray[np.float32]:
    """Distance of each coarse joint from the proposed one, (12,) shares of the region's side."""
    away = keypoints[_COARSE, :2] - proposal.joints
    return np.asarray(np.linalg.norm(away, axis=1) / proposal.region.side, np.float32)


def visibility_features(
    keypoints: Keypoints, proposal: Proposal, size: tuple[int, int]
) -> NDArray[np.float32]:
    """Gather what tells whether a joint is right.

    Returns:
        (33, 5): logits of visibility and presence, logarithms of the distance of the nearest coarse
        joint from the proposed one and of the deviation of the whole pose, and 1.
    """
    sure = keypoints[:, 2:4].clip(1e-3, 1 - 1e-3)
    near = np.log(_distances(keypoints, proposal)[_NEAR] + 0.01)
    whole = np.full(len(near), np.log(deviation(keypoints, proposal, size) + 0.01))
    return np.column_stack([np.log(sure / (1 - sure)), near, whole, np.ones(len(near))]).astype(
        np.float32
    )


def trusted_visibility(
    keypoints: Keypoints, proposal: Proposal, size: tuple[int, int], weights: RegionWeights
) -> NDArray[np.float32]:
    """Estimate the probability that each joint is visible and where it is said to be.

    A logistic regression, fitted on crops of CCP's val split; right is what lies within a fifth of
    the torso's length of the whole photo's joint.

    Args:
        keypoints: (33, 4) in pixels of the photo.
        proposal: The region network's.
        size: Width and height of the photo in pixels.
        weights: Those of the region network.

    Returns:
        (33,) 0..1; 0 for joints outside the photo.
    """
    logits = visibility_features(keypoints, proposal, size) @ weights.visibility.astype(np.float32)
    inside = ((keypoints[:, :2] >= 0) & (keypoints[:, :2] <= size)).all(axis=1)
    return np.asarray(np.where(inside, sigmoid(logits), 0), np.float32)
