"""How garments are cut: outlines, openings and folds in the body frame."""

from __future__ import annotations

import numpy as np

from .canvas import Field
from .fabrics import Array
from .outfit import Outfit
from .shapes import Points, ellipse, smooth
from .skeleton import SIDES, Skeleton

WAIST = -0.082
"""Height of the waist in the body frame."""

HOODIE_EASE, HOODIE_HEM = 0.025, 0.056
"""How far a hoodie stands off the body, and the height where it ends."""


def bodice_outline(skeleton: Skeleton, ease: float, bottom: float) -> Points:
    """Outline a bodice from the shoulders to a height."""
    return skeleton.trunk(ease, -skeleton.build.torso - 0.040, bottom)


def boxy_outline(skeleton: Skeleton, ease: float, hem: float) -> list[Points]:
    """Outline a wide top that falls straight from the armpits to its hem."""
    armpit = -skeleton.build.torso + 0.075
    chest = skeleton.half_width(armpit, ease)
    low = max(skeleton.half_width(hem, ease * 0.8), chest * 0.92)
    body = smooth(
        [(-chest, armpit), (0, armpit - 0.02), (chest, armpit), (chest * 0.95, WAIST), (low, hem),
         (0, hem + 0.008), (-low, hem), (-chest * 0.95, WAIST)]
    )  # fmt: skip
    return [bodice_outline(skeleton, ease, armpit + 0.05), body]


def skirt_outline(skeleton: Skeleton, hem: float, ease: float, flare: float) -> Points:
    """Outline a skirt from the waist to a hem that clears both legs."""
    joints = skeleton.joints
    reach = {}
    for side, _ in SIDES:
        path = np.stack([joints[f"{side}_{name}"] for name in ("groin", "knee", "instep")])
        reach[side] = float(np.interp(hem, path[:, 1], path[:, 0]))
    waist = skeleton.half_width(WAIST, ease)
    hips = skeleton.half_width(0.02, ease)
    right = max(hips + flare * (hem - 0.02), reach["left"] + 0.058)
    left = -max(hips + flare * (hem - 0.02), 0.058 - reach["right"])
    drop = 0.016
    return np.concatenate(
        [
            smooth([(-waist, WAIST - 0.006), (waist, WAIST - 0.006)], closed=False),
            smooth([(waist, WAIST), (hips, 0.015), (right, hem)], closed=False),
            smooth(
                [(right, hem), (right * 0.5, hem + drop), (left * 0.5, hem + drop), (left, hem)],
                closed=False,
            ),
            smooth([(left, hem), (-hips, 0.015), (-waist, WAIST)], closed=False),
        ]
    )


def taper(upper: tuple[float, float], lower: tuple[float, float]) -> Points:
    """Draw a symmetric trapezium from (half width, height) at its top and bottom."""
    (a, y0), (b, y1) = upper, lower
    return np.array([(-a, y0), (a, y0), (b, y1), (-b, y1)])


def neckline(neck: str, top: float) -> list[Points]:
    """Outline the opening for the neck; `top` is the height of the shoulders."""
    if neck in ("v", "collar"):
        depth = 0.095 if neck == "v" else 0.035
        return [np.array([(-0.052, top - 0.06), (0.052, top - 0.06), (0.0, top + depth)])]
    return [ellipse((0.0, top - 0.030), 0.046, 0.046)]


def armholes(skeleton: Skeleton, outfit: Outfit) -> list[Points]:
    """Outline the openings of a sleeveless garment."""
    if outfit.sleeve != "none":
        return []
    x, top = skeleton.build.shoulder, -skeleton.build.torso
    return [ellipse((sign * (x + 0.022), top + 0.012), 0.036, 0.062) for _, sign in SIDES]


def folds(depth: float, count: float, waist: float, hem: float, flare: float) -> Field:
    """Make vertical folds that fan out from the waist and deepen towards the hem.

    Args:
        depth: Change of brightness at the hem, as a share.
        count: Phase of the folds, in radians, 0.1 statures off the middle at the waist.
        waist: Height where they begin.
        hem: Height where they are deepest.
        flare: How much farther apart they are at the hem, in statures.
    """

    def field(x: Array, y: Array) -> Array:
        down = np.clip((y - waist) / (hem - waist), 0, 1)
        fan = x / (np.float32(0.10) + np.float32(flare) * down)
        wave = np.sin(fan * np.float32(count)) + 0.4 * np.sin(fan * np.float32(count * 2.3) + 1)
        return (1 + np.float32(depth) * down * wave).astype(np.float32)

    return field
