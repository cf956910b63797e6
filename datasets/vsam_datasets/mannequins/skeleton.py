"""Body build and pose of a mannequin: where its joints are.

The body frame has its origin between the hips, x to the photo's right, y downwards; its unit is
the stature. "Left" is the person's own, so that it has positive x: the figure faces the camera.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsam_heatmaps.landmarks import LANDMARKS

from .shapes import Points

SIDES = (("left", 1.0), ("right", -1.0))

ARM_POSES = ("hanging", "hip", "raised", "bent", "away", "across")
LEG_POSES = ("standing", "apart", "stepping")


@dataclass(frozen=True)
class Build:
    """Proportions in units of the stature.

    Attributes:
        shoulder: Half the distance between the shoulder joints.
        hip: Half the distance between the hip joints.
        waist: Half the width of the waist.
        girth: Factor on the thickness of limbs and trunk.
        head: Height of the head.
        torso: Distance from the hips' to the shoulders' height.
    """

    shoulder: float
    hip: float
    waist: float
    girth: float
    head: float
    torso: float


@dataclass(frozen=True)
class Skeleton:
    """A posed body.

    Attributes:
        build: Its proportions.
        joints: (2,) body-frame positions by name: every landmark's, and `head` (its
            centre), `left_groin` (where the drawn thigh starts), `left_instep` (where the
            shoe does) and their right ones.
        arms: The arm pose of each side.
        tilt: Turn of the head in the plane, in radians.
    """

    build: Build
    joints: dict[str, NDArray[np.float64]]
    arms: dict[str, str]
    tilt: float

    def landmarks(self) -> Points:
        """Give the (33, 2) body-frame positions in the order of `LANDMARKS`."""
        return np.stack([self.joints[name] for name in LANDMARKS])

    def trunk(self, ease: float, top: float, bottom: float) -> Points:
        """Outline the trunk between two heights.

        Args:
            ease: How far the outline stands off the skin, in statures.
            top: Height above which it is cut off.
            bottom: Height below which it is cut off.
        """
        y, half = self._profile(ease)
        heights = np.linspace(max(top, y[0]), min(bottom, y[-1]), 26)
        widths = np.interp(heights, y, half)
        right = np.stack([widths, heights], axis=1)
        return np.concatenate([right, (right * (-1, 1))[::-1]])

    def half_width(self, y: float, ease: float = 0.0) -> float:
        """Give half the trunk's width at a height."""
        return float(np.interp(y, *self._profile(ease)))

    def _profile(self, ease: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        b, g = self.build, self.build.girth
        top = -b.torso - ease * 0.6  # cloth lies on the shoulders as it stands off the sides
        stations = np.array(
            [
                [top - 0.056, 0.030 * g],
                [top - 0.044, 0.044 * g],
                [top - 0.033, b.shoulder * 0.70 + ease * 0.4],
                [top - 0.020, b.shoulder + 0.002 * g + ease * 0.6],
                [top - 0.004, b.shoulder + 0.016 * g + ease * 0.8],
                [top + 0.025, b.shoulder + 0.016 * g + ease],
                [top + 0.070, b.shoulder - 0.008 * g + ease],
                [top + 0.105, b.shoulder - 0.012 * g + ease],
                [-0.095, b.waist * g + ease],
                [-0.060, b.waist * g + 0.003 + ease],
                [0.005, b.hip + 0.044 * g + ease],
                [0.045, b.hip + 0.046 * g + ease],
                [0.120, b.hip + 0.040 * g + ease],
            ]
        )
        # A smooth profile: linear interpolation of a finely resampled, box-filtered one.
        y = np.linspace(stations[0, 0], stations[-1, 0], 80)
        half = np.interp(y, stations[:, 0], stations[:, 1])
        padded = np.pad(half, 4, mode="edge")
        return y, np.convolve(padded, np.ones(9) / 9, mode="valid")


def sample_skeleton(rng: np.random.Generator, *, free_hand: str = "") -> Skeleton:
    """Choose a build and a pose.

    Args:
        rng: Source of randomness.
        free_hand: A side whose arm must hang, since its hand carries something, or empty.
    """
    shoulder = rng.uniform(0.094, 0.110)
    build = Build(
        shoulder=shoulder,
        hip=rng.uniform(0.050, 0.060),
        waist=shoulder * rng.uniform(0.66, 0.76),
        girth=rng.uniform(0.92, 1.14),
        head=rng.uniform(0.138, 0.152),
        torso=rng.uniform(0.272, 0.290),
    )
    arms = {side: _arm_pose(rng) for side, _ in SIDES}
    if free_hand:
        arms[free_hand] = "hanging"
    if list(arms.values()).count("across") == 2:  # the forearms would hide each other
        arms["left"] = "hanging"
    tilt = rng.uniform(-0.09, 0.09)
    joints: dict[str, NDArray[np.float64]] = {}
    for side, sign in SIDES:
        joints.update(_arm(rng, build, side, sign, arms[side]))
    joints.update(_legs(rng, build, str(rng.choice(LEG_POSES))))
    joints.update(_head(build, tilt))
    return Skeleton(build, joints, arms, float(tilt))


def _arm_pose(rng: np.random.Generator) -> str:
    return str(rng.choice(ARM_POSES, p=(0.36, 0.18, 0.10, 0.12, 0.14, 0.10)))


def _toward(start: NDArray[np.float64], angle: float, length: float, sign: float) -> NDArray:
    """Go from a joint by an angle that counts from straight down, outwards."""
    return start + length * np.array([sign * math.sin(angle), math.cos(angle)])


def _arm(
    rng: np.random.Generator, build: Build, side: str, sign: float, pose: str
) -> dict[str, NDArray[np.float64]]:
    upper, fore = 0.160, 0.142
    shoulder = np.array([sign * build.shoulder, -build.torso])

    def between(low: float, high: float) -> float:
        return math.radians(rng.uniform(low, high))

    if pose in ("hip", "across"):
        target = (
            np.array([sign * (build.hip + 0.040), -0.045 + rng.uniform(-0.015, 0.01)])
            if pose == "hip"
            else np.array([sign * rng.uniform(-0.02, 0.03), -0.120 + rng.uniform(-0.02, 0.02)])
        )
        elbow = _bend(shoulder, target, upper, fore, sign)
        wrist = target
        hand_angle = between(-75, -45) if pose == "hip" else between(-95, -80)
    else:
        first, second = {
            "hanging": lambda: (between(8, 17), between(-2, 8)),
            "raised": lambda: (between(118, 150), between(150, 190)),
            "bent": lambda: (between(16, 34), between(115, 150)),
            "away": lambda: (between(32, 66), between(28, 70)),
        }[pose]()
        elbow = _toward(shoulder, first, upper, sign)
        wrist = _toward(elbow, second, fore, sign)
        hand_angle = second + between(-9, 9)
    hand = _toward(np.zeros(2), hand_angle, 1.0, sign)
    # The thumb points to the body's middle on a hanging arm, and upwards on a raised one.
    across = np.array([-hand[1], hand[0]]) * sign
    points = {
        "shoulder": shoulder,
        "elbow": elbow,
        "wrist": wrist,
        "index": wrist + 0.066 * hand + 0.012 * across,
        "pinky": wrist + 0.062 * hand - 0.014 * across,
        "thumb": wrist + 0.042 * hand + 0.022 * across,
    }
    return {f"{side}_{name}": point for name, point in points.items()}


def _bend(
    start: NDArray[np.float64], end: NDArray[np.float64], first: float, second: float, sign: float
) -> NDArray[np.float64]:
    """Place the elbow so that both bones have their lengths, on the outer side."""
    gap = end - start
    distance = min(float(np.linalg.norm(gap)), first + second - 1e-6)
    along = (first**2 - second**2 + distance**2) / (2 * distance)
    height = math.sqrt(max(first**2 - along**2, 0.0))
    unit = gap / np.linalg.norm(gap)
    normal = np.array([unit[1], -unit[0]])
    if normal[0] * sign < 0:
        normal = -normal
    return np.asarray(start + along * unit + height * normal)


def _legs(rng: np.random.Generator, build: Build, pose: str) -> dict[str, NDArray[np.float64]]:
    thigh, shin = 0.240, 0.210
    free = rng.choice(("left", "right"))
    points: dict[str, NDArray[np.float64]] = {}
    for side, sign in SIDES:
        low, high = {"standing": (-1.0, 2.5), "apart": (6, 12), "stepping": (-1, 2)}[pose]
        first = second = math.radians(rng.uniform(low, high))
        shorter = 1.0
        if pose == "stepping" and side == free:
            # The free leg: knee out and forward, so that the thigh is foreshortened.
            first, second = math.radians(rng.uniform(9, 16)), math.radians(rng.uniform(-3, 5))
            shorter = 0.97
        hip = np.array([sign * build.hip, 0.0])
        knee = _toward(hip, first, thigh * shorter, sign)
        ankle = _toward(knee, second, shin, sign)
        instep = _toward(ankle, second, 0.020, sign)
        splay = math.radians(rng.uniform(14, 38))
        points |= {
            # The thigh's axis starts above the joint's centre, in the pelvis.
            f"{side}_groin": hip,
            f"{side}_hip": hip + np.array([sign * 0.004, 0.013]),
            f"{side}_knee": knee,
            f"{side}_ankle": ankle,
            f"{side}_instep": instep,
            f"{side}_heel": instep + np.array([-0.008 * sign, 0.002]),
            f"{side}_foot_index": _toward(instep, splay, 0.060, sign),
        }
    return points


def _head(build: Build, tilt: float) -> dict[str, NDArray[np.float64]]:
    """Place the face; its frame is the head's centre, x to the right, unit half a head."""
    chin = -build.torso - 0.062
    unit = build.head / 2
    c, s = math.cos(tilt), math.sin(tilt)
    centre = np.array([0.0, chin]) + unit * np.array([s, -c])
    face = {
        "nose": (0.0, 0.24),
        "eye_inner": (0.17, -0.02),
        "eye": (0.30, -0.03),
        "eye_outer": (0.43, -0.02),
        "ear": (0.70, 0.10),
        "mouth": (0.22, 0.56),
    }
    points = {"head": centre}
    for name, (x, y) in face.items():
        for side, sign in SIDES:
            at = centre + unit * np.array([sign * x * c - y * s, sign * x * s + y * c])
            key = name if name == "nose" else f"{side}_{name}"
            points["mouth_" + side if name == "mouth" else key] = at
    return points
