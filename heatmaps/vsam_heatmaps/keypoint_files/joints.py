"""Which joint of each format is which landmark, in the order of its files.

A joint without a landmark of ours is None and left out; a landmark without a joint is not known.
"left" and "right" of a body are the person's own in all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..landmarks import LANDMARK_SETS


@dataclass(frozen=True)
class Joints:
    """The joints of a format.

    Attributes:
        name: What a shard records as its backend.
        landmarks: The set that they belong to, a name in `LANDMARK_SETS`.
        order: The landmark that each joint is, or None, in the order of the files.
    """

    name: str
    landmarks: str
    order: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.order)

    @cached_property
    def columns(self) -> tuple[int, ...]:
        """Indices of the J landmarks that have a joint, ascending in the order of the joints."""
        return LANDMARK_SETS[self.landmarks].indices([name for name in self.order if name])

    def pick(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pick the joints that are landmarks: (joints, 3) -> (J, 3), in the order of `columns`."""
        return points[[index for index, name in enumerate(self.order) if name]]


# https://cocodataset.org/#format-data, in the order of `categories[0].keypoints`.
_COCO_ORDER = (
    "nose",
    *("left_eye", "right_eye"),
    *("left_ear", "right_ear"),
    *("left_shoulder", "right_shoulder"),
    *("left_elbow", "right_elbow"),
    *("left_wrist", "right_wrist"),
    *("left_hip", "right_hip"),
    *("left_knee", "right_knee"),
    *("left_ankle", "right_ankle"),
)

COCO = Joints("coco-keypoints", "body", _COCO_ORDER)
"""COCO's 17 joints."""


def _hand(side: str) -> tuple[str | None, ...]:
    """List a hand's 21 joints: the wrist, then four from thumb to little finger, knuckles first.

    MediaPipe's body has "thumb #2", "index #1" and "pinky #1 knuckle". OpenPose calls the same
    joints of this order (poseParameters.cpp) LThumb2Knuckles, LIndex1Knuckles, LPinky1Knuckles. The
    wrist is the body's.
    """
    joints: list[str | None] = [None] * 21
    joints[2], joints[5], joints[17] = f"{side}_thumb", f"{side}_index", f"{side}_pinky"
    return tuple(joints)


_FEET = (
    *("left_foot_index", None, "left_heel"),  # big toe, small toe, heel
    *("right_foot_index", None, "right_heel"),
)

WHOLEBODY = Joints(
    "coco-wholebody",
    "body",
    (*_COCO_ORDER, *_FEET, *[None] * 68, *_hand("left"), *_hand("right")),
)
"""COCO-WholeBody's 133 joints: body, feet, face, left hand, right hand.

https://github.com/jin-s13/COCO-WholeBody/blob/master/data_format.md
"""

FEET, LEFT_HAND, RIGHT_HAND = slice(17, 23), slice(91, 112), slice(112, 133)
"""Where they are among the 133."""

FIRST_NAMES = (
    *_COCO_ORDER,
    *(
        f"{side}_{joint}"
        for side in ("left", "right")
        for joint in ("big_toe", "small_toe", "heel")
    ),
)
"""How COCO (17) and COCO-WholeBody (23 of 133) call their joints; names of the rest vary."""


def _arm(side: str) -> tuple[str, ...]:
    return tuple(f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist"))


def _leg(side: str) -> tuple[str, ...]:
    return tuple(f"{side}_{joint}" for joint in ("hip", "knee", "ankle"))


# https://github.com/CMU-Perceptual-Computing-Lab/openpose, src/openpose/pose/poseParameters.cpp.
# The None are the neck and the middle of the hips.
_EYES_AND_EARS = ("right_eye", "left_eye", "right_ear", "left_ear")

OPENPOSE_18 = Joints(
    "openpose-18",
    "body",
    (
        *("nose", None, *_arm("right"), *_arm("left")),
        *(*_leg("right"), *_leg("left"), *_EYES_AND_EARS),
    ),
)
"""The 18 joints of OpenPose's COCO model."""

OPENPOSE_25 = Joints(
    "openpose-25",
    "body",
    (
        *("nose", None, *_arm("right"), *_arm("left")),
        *(None, *_leg("right"), *_leg("left"), *_EYES_AND_EARS, *_FEET),
    ),
)
"""The 25 joints of OpenPose's BODY_25 model."""


def _sides(*stems: str) -> tuple[str, ...]:
    return tuple(f"{side}_{stem}" for stem in stems for side in ("left", "right"))


DEEPFASHION = {
    "1": _sides("collar", "sleeve", "hem"),
    "2": _sides("waistline", "hem"),
    "3": _sides("collar", "sleeve", "waistline", "hem"),
}
"""The landmarks of DeepFashion's upper-body, lower-body and full-body clothes, by `clothes_type`.

https://github.com/open-mmlab/mmfashion/blob/master/docs/dataset/LANDMARK_DETECT_DATASET.md
"""
