"""The two sets of landmarks: 33 of a body, which MediaPipe finds, and eight of a garment.

The order of the body's is MediaPipe's
(https://ai.google.dev/edge/mediapipe/solutions/vision/pose_landmarker); its "left" and "right" are
the person's own. The garment's are DeepFashion's (Liu et al., CVPR 2016); its "left" and "right"
are kept as its files have them, which is the picture's left and right on a garment seen from the
front. `LANDMARKS`, `PARTS` and `REGIONS` are the body's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from .errors import expected

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


@dataclass(frozen=True)
class LandmarkSet:
    """Landmarks that are found together, and how maps and drawings group them.

    Attributes:
        name: What a shard records: `body` or `garment`.
        landmarks: Their names; a keypoint's index in every array is its index here.
        parts: Disjoint groups that cover all landmarks: the channels of a map, in this order.
        regions: Larger groups as unions of parts.
        skeleton: Pairs of landmarks that a drawing joins with a line.
    """

    name: str
    landmarks: tuple[str, ...]
    parts: Mapping[str, tuple[str, ...]]
    regions: Mapping[str, tuple[str, ...]]
    skeleton: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        return len(self.landmarks)

    def indices(self, names: Sequence[str]) -> tuple[int, ...]:
        """Look up landmarks by name.

        >>> GARMENT.indices(["left_hem"])
        (6,)
        """
        return tuple(self.landmarks.index(name) for name in names)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of all parts and regions.

        >>> GARMENT.groups
        ('collar', 'sleeves', 'waistline', 'hem', 'garment')
        """
        return (*self.parts, *self.regions)

    def joints_of(self, group: str) -> tuple[str, ...]:
        """List the landmarks of a part or a region.

        Raises:
            KeyError: If it is neither.

        >>> BODY.joints_of("torso")
        ('left_shoulder', 'right_shoulder', 'left_hip', 'right_hip')
        """
        if group in self.parts:
            return self.parts[group]
        return tuple(joint for part in self.regions[group] for joint in self.parts[part])


BODY = LandmarkSet("body", LANDMARKS, PARTS, REGIONS, SKELETON)
"""A person's body."""

GARMENT = LandmarkSet(
    name="garment",
    landmarks=_pair("collar", "sleeve", "waistline", "hem"),
    parts=MappingProxyType(
        {
            "collar": _pair("collar"),
            "sleeves": _pair("sleeve"),
            "waistline": _pair("waistline"),
            "hem": _pair("hem"),
        }
    ),
    regions=MappingProxyType({"garment": ("collar", "sleeves", "waistline", "hem")}),
    skeleton=(
        *((f"left_{stem}", f"right_{stem}") for stem in ("collar", "waistline", "hem")),
        *(
            (f"{side}_{a}", f"{side}_{b}")
            for side in ("left", "right")
            for a, b in (("collar", "sleeve"), ("collar", "waistline"), ("waistline", "hem"))
        ),
    ),
)
"""DeepFashion's landmarks of one garment: where its collar, sleeves, waistline and hem end."""

LANDMARK_SETS: Mapping[str, LandmarkSet] = MappingProxyType(
    {one.name: one for one in (BODY, GARMENT)}
)
"""All sets by name. No two have a landmark, part or region of one name, or as many landmarks."""


def landmark_set(name: str) -> LandmarkSet:
    """Look up a set by name.

    Raises:
        VsamError: If there is none of that name.
    """
    if name not in LANDMARK_SETS:
        raise expected("landmarks", f"one of {', '.join(LANDMARK_SETS)}", repr(name))
    return LANDMARK_SETS[name]
