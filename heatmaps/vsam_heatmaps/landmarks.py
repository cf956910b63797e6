"""Names and groups of the 33 body landmarks that MediaPipe finds.

The order is MediaPipe's (https://ai.google.dev/edge/mediapipe/solutions/vision/pose_landmarker).
"left" and "right" are the person's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

LANDMARKS: tuple[str, ...] = (
    "nose",
    "left_eye_inner",
    "left_eye",
    "left_eye_outer",
    "right_eye_inner",
    "right_eye",
    "right_eye_outer",
    "left_ear",
    "right_ear",
    "mouth_left",
    "mouth_right",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_pinky",
    "right_pinky",
    "left_index",
    "right_index",
    "left_thumb",
    "right_thumb",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
    "left_heel",
    "right_heel",
    "left_foot_index",
    "right_foot_index",
)
"""The 33 landmarks; a keypoint's index in every array is its index here."""

_INDEX = {name: index for index, name in enumerate(LANDMARKS)}


def landmark_indices(names: Sequence[str]) -> tuple[int, ...]:
    """Look up landmarks by name.

    >>> landmark_indices(["nose", "left_hip"])
    (0, 23)
    """
    return tuple(_INDEX[name] for name in names)


def _other_side(name: str) -> str:
    swapped = {"left": "right", "right": "left"}
    return "_".join(swapped.get(word, word) for word in name.split("_"))


MIRRORED: tuple[int, ...] = landmark_indices([_other_side(name) for name in LANDMARKS])
"""Index of each landmark's counterpart on the other side of the body."""


def _pair(*stems: str) -> tuple[str, ...]:
    return tuple(f"{side}_{stem}" for stem in stems for side in ("left", "right"))


PARTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "head": LANDMARKS[:11],
        "shoulders": _pair("shoulder"),
        "elbows": _pair("elbow"),
        "hands": _pair("wrist", "pinky", "index", "thumb"),
        "hips": _pair("hip"),
        "knees": _pair("knee"),
        "feet": _pair("ankle", "heel", "foot_index"),
    }
)
"""Seven disjoint body parts that cover all landmarks: the channels of a map, in this order."""

REGIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "torso": ("shoulders", "hips"),
        "upper": ("shoulders", "elbows", "hands", "hips"),
        "lower": ("hips", "knees", "feet"),
        "full": ("shoulders", "elbows", "hands", "hips", "knees", "feet"),
    }
)
"""Larger regions as unions of parts. `full` leaves the head out: garments are what is tagged."""

SKELETON: tuple[tuple[str, str], ...] = (
    ("left_shoulder", "right_shoulder"),
    ("left_hip", "right_hip"),
    *(
        (f"{side}_{a}", f"{side}_{b}")
        for side in ("left", "right")
        for a, b in (
            ("shoulder", "elbow"),
            ("elbow", "wrist"),
            ("wrist", "index"),
            ("shoulder", "hip"),
            ("hip", "knee"),
            ("knee", "ankle"),
            ("ankle", "heel"),
            ("ankle", "foot_index"),
        )
    ),
)
"""Pairs of landmarks that a drawing joins with a line."""


def part_joints(region: str) -> tuple[str, ...]:
    """List the landmarks of a part or a region.

    Args:
        region: A name in `PARTS` or `REGIONS`.

    Raises:
        KeyError: If it is neither.

    >>> part_joints("torso")
    ('left_shoulder', 'right_shoulder', 'left_hip', 'right_hip')
    """
    if region in PARTS:
        return PARTS[region]
    return tuple(joint for part in REGIONS[region] for joint in PARTS[part])
