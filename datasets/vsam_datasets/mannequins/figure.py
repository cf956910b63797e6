"""The body of a mannequin below the head: skin, hands and shoes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .canvas import Canvas, Frame, colour, mix
from .head import Looks
from .outfit import Outfit
from .shapes import Points, capsule, ellipse, shifted, smooth
from .skeleton import SIDES, Skeleton


def arm(skeleton: Skeleton, side: str, ease: float = 0.0, share: float = 1.0) -> list[Points]:
    """Outline an arm, or a sleeve on it.

    Args:
        skeleton: The body.
        side: `left` or `right`.
        ease: How far the outline stands off the skin, in statures.
        share: How much of the way from the shoulder to the wrist is covered.
    """
    joints, g = skeleton.joints, skeleton.build.girth
    points = [joints[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist")]
    return _limb(points, [0.0275 * g, 0.0235 * g, 0.0165 * g], ease, share)


def lower_arm(skeleton: Skeleton, side: str) -> list[Points]:
    """Outline an arm without its upper half, which lies close to the shoulder."""
    joints, g = skeleton.joints, skeleton.build.girth
    shoulder, elbow, wrist = (joints[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist"))
    return [
        capsule((shoulder + elbow) / 2, elbow, 0.026 * g, 0.024 * g),
        capsule(elbow, wrist, 0.0235 * g, 0.0165 * g),
    ]


def shoulders(skeleton: Skeleton, ease: float) -> Points:
    """Outline the trunk above the armpits, into which an arm or a sleeve runs without an edge."""
    top = -skeleton.build.torso
    return skeleton.trunk(ease, top - 0.02, top + 0.045)


def leg(
    skeleton: Skeleton, side: str, ease: float = 0.0, share: float = 1.0, flare: float = 0.0
) -> list[Points]:
    """Outline a leg, or a trouser leg on it.

    Args:
        skeleton: The body.
        side: `left` or `right`.
        ease: How far the outline stands off the skin, in statures.
        share: How much of the way from the hip to the instep is covered.
        flare: Further ease at the instep, growing from none at the hip.
    """
    joints, g = skeleton.joints, skeleton.build.girth
    points = [joints[f"{side}_{name}"] for name in ("groin", "knee", "instep")]
    return _limb(points, [0.049 * g, 0.0335 * g + flare / 2, 0.0215 * g + flare], ease, share)


def _limb(
    points: list[NDArray[np.float64]], radii: list[float], ease: float, share: float
) -> list[Points]:
    """Outline two tapered bones, cut off flat where `share` of their length ends."""
    pieces = []
    lengths = [float(np.linalg.norm(b - a)) for a, b in pairwise(points)]
    left = share * sum(lengths)
    for k in range(2):
        if left <= 0:
            break
        part = min(left / lengths[k], 1.0)
        a, b = points[k], points[k] + (points[k + 1] - points[k]) * part
        ra, rb = radii[k] + ease, radii[k] + (radii[k + 1] - radii[k]) * part + ease
        ends_here = part < 1.0 or k == 1
        if ends_here and share < 1.0:
            pieces.append(_tube(a, b, ra, rb))
        else:
            pieces.append(capsule(a, b, ra, rb))
        left -= lengths[k]
    return pieces


def _tube(a: NDArray[np.float64], b: NDArray[np.float64], ra: float, rb: float) -> Points:
    """Outline a capsule that is round at `a` and cut off flat at `b`."""
    outline = capsule(a, b, ra, rb)
    unit = (b - a) / np.linalg.norm(b - a)
    normal = np.array([-unit[1], unit[0]])
    return np.concatenate([outline[:9], [b - normal * rb, b + normal * rb]])


def draw_legs(canvas: Canvas, frame: Frame, skeleton: Skeleton, looks: Looks) -> None:
    """Draw bare legs and the pelvis between them."""
    for side, _ in SIDES:
        canvas.fill(frame, leg(skeleton, side), looks.skin, relief=0.95, roundness=0.022)


def draw_trunk(canvas: Canvas, frame: Frame, skeleton: Skeleton, looks: Looks) -> None:
    """Draw the bare trunk and the neck."""
    top = -skeleton.build.torso
    g = skeleton.build.girth
    neck = smooth(
        [
            (-0.027 * g, top - 0.085),
            (0.027 * g, top - 0.085),
            (0.029 * g, top - 0.035),
            (0.060 * g, top - 0.008),
            (0.0, top + 0.03),
            (-0.060 * g, top - 0.008),
            (-0.029 * g, top - 0.035),
        ]
    )
    canvas.fill(
        frame,
        [skeleton.trunk(0.0, -1, 0.05), neck],
        looks.skin,
        relief=0.8,
        roundness=0.024,
    )


def draw_arm(canvas: Canvas, frame: Frame, skeleton: Skeleton, looks: Looks, side: str) -> None:
    """Draw a bare arm with its hand."""
    hand = _hand(skeleton, side)
    canvas.fill(
        frame,
        [*arm(skeleton, side), *hand],
        looks.skin,
        relief=0.85,
        roundness=0.014,
        joined_to=[shoulders(skeleton, 0.0)],
    )
    joints = skeleton.joints
    tips = [joints[f"{side}_{name}"] for name in ("index", "pinky")]
    wrist = joints[f"{side}_wrist"]
    middle = (tips[0] + tips[1]) / 2
    for share in (0.25, 0.5, 0.75):  # the gaps between four fingers
        knuckle = wrist + ((tips[0] + (tips[1] - tips[0]) * share) - wrist) * 0.95
        end = knuckle + (middle - wrist) * 0.42
        canvas.stroke(frame, np.stack([knuckle, end]), looks.skin * 0.68, thickness=0.0022)


def _hand(skeleton: Skeleton, side: str) -> list[Points]:
    joints = skeleton.joints
    wrist, index, pinky, thumb = (
        joints[f"{side}_{name}"] for name in ("wrist", "index", "pinky", "thumb")
    )
    reach = (index + pinky) / 2 - wrist
    palm = smooth(
        [
            wrist + (index - pinky) * 0.45 - reach * 0.1,
            index + (index - pinky) * 0.15,
            pinky + (pinky - index) * 0.15,
            wrist + (pinky - index) * 0.45 - reach * 0.1,
        ]
    )
    fingers = []
    for share, length in ((0.0, 0.46), (0.33, 0.56), (0.67, 0.52), (1.0, 0.36)):
        root = index + (pinky - index) * share
        spread = (share - 0.5) * 0.25 * (pinky - index)
        fingers.append(capsule(root - reach * 0.2, root + reach * length + spread, 0.0062, 0.0046))
    base = wrist + reach * 0.2
    return [palm, *fingers, capsule(base, thumb + reach * 0.08, 0.0085, 0.0052)]


def draw_shoes(canvas: Canvas, frame: Frame, skeleton: Skeleton, outfit: Outfit) -> None:
    """Draw shoes, or boots up to the middle of the shin."""
    g = skeleton.build.girth
    for side, sign in SIDES:
        ankle = skeleton.joints[f"{side}_instep"]
        toe = skeleton.joints[f"{side}_foot_index"]
        ahead = toe - ankle
        across = np.array([sign * abs(ahead[1]), -abs(ahead[0])])
        across = across / np.linalg.norm(across)
        unit = ahead / np.linalg.norm(ahead)
        upper = smooth(
            [
                ankle - across * 0.021 * g - unit * 0.004,
                ankle + across * 0.021 * g - unit * 0.004,
                ankle + across * 0.027 * g + ahead * 0.55,
                toe + across * 0.021 * g + unit * 0.006,
                toe + unit * 0.019,
                toe - across * 0.021 * g + unit * 0.006,
                ankle - across * 0.026 * g + ahead * 0.55,
            ]
        )
        paint = outfit.leather if outfit.boots else outfit.shoe_colour
        canvas.fill(frame, shifted(upper, 0, 0.006), paint * 0.5, relief=0.3, roundness=0.01)
        canvas.fill(frame, upper, paint, relief=1.0, roundness=0.014)
        if outfit.boots:
            knee = skeleton.joints[f"{side}_knee"]
            top = ankle + (knee - ankle) * 0.58
            shaft = _tube(ankle, top, 0.0265 * g, 0.038 * g)
            canvas.fill(frame, shaft, paint, relief=1.0, roundness=0.018)
            rim = 0.037 * g
            cuff = capsule(shifted(top, -rim, 0.0), shifted(top, rim, 0.0), 0.006, 0.006)
            canvas.fill(frame, cuff, paint * 0.72, relief=0.8, roundness=0.006)
        else:
            throat = ellipse(ankle + ahead * 0.12, 0.014 * g, 0.010, 0.0)
            canvas.fill(frame, throat, mix(paint, colour("#000000"), 0.35), relief=0.2)
