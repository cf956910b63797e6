"""What is sewn on or worn over a garment: collars, hoods, pockets, buttons, belts."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas, Colour, Frame, Paint, colour, mix
from .cuts import HOODIE_EASE, HOODIE_HEM, WAIST, boxy_outline
from .fabrics import luminance
from .outfit import Outfit
from .shapes import box, ellipse, smooth
from .skeleton import SIDES, Skeleton

_THREAD = colour("#d9a860")
_METAL = colour("#d9c58a")


def draw_collar(canvas: Canvas, frame: Frame, skeleton: Skeleton, outfit: Outfit) -> None:
    """Draw the collar or the hood's rim, which lie over neck and shoulders."""
    top = -skeleton.build.torso
    if outfit.hood:
        rim = smooth(
            [(-0.078, top - 0.045), (-0.082, top - 0.005), (0, top + 0.052), (0.082, top - 0.005),
             (0.078, top - 0.045), (0.046, top - 0.030), (0, top + 0.016), (-0.046, top - 0.030)]
        )  # fmt: skip
        canvas.shadow(frame, rim, strength=0.25, blur=0.008, offset=(0.004, 0.008))
        canvas.fill(frame, rim, outfit.fabric, relief=1.0, roundness=0.014)
        for x in (-0.026, 0.026):
            cord = smooth(
                [(x, top + 0.030), (x * 1.15, top + 0.07), (x, top + 0.105)], closed=False
            )
            canvas.stroke(frame, cord, colour("#f3efe6"), thickness=0.007, relief=0.4)
    elif outfit.neck == "collar":
        large = outfit.category == "Coat"
        reach, drop = (0.072, 0.150) if large else (0.056, 0.055)
        ground = outfit.fabric.ground
        paint = ground * 0.72 if luminance(ground) > 120 else mix(ground, colour("#ffffff"), 0.25)
        for sign in (-1.0, 1.0):
            flap = np.array(
                [
                    (sign * 0.030, top - 0.058),
                    (sign * 0.046, top - 0.040),
                    (sign * reach, top + 0.012),
                    (sign * (0.050 if large else 0.040), top + drop * 0.55),
                    (sign * 0.004, top + drop),
                    (sign * 0.012, top + 0.006),
                    (sign * 0.026, top - 0.030),
                ]
            )
            canvas.shadow(frame, flap, strength=0.28, blur=0.006, offset=(0.003, 0.006))
            canvas.fill(frame, flap, paint, relief=0.7, roundness=0.010)


def draw_hood_behind(canvas: Canvas, frame: Frame, skeleton: Skeleton, outfit: Outfit) -> None:
    """Draw the part of a hood that stands behind neck and head."""
    top = -skeleton.build.torso
    hood = smooth(
        [(-0.095, top), (-0.108, top - 0.06), (-0.080, top - 0.125), (0.080, top - 0.125),
         (0.108, top - 0.06), (0.095, top)]
    )  # fmt: skip
    canvas.fill(frame, hood, outfit.fabric.ground * 0.62, relief=0.9, roundness=0.02)


def draw_neck_rim(canvas: Canvas, frame: Frame, neck: str, top: float, paint: Colour) -> None:
    """Draw the ribbed edge of a neckline."""
    if neck == "v":
        rim = np.array([(-0.048, top - 0.050), (0.0, top + 0.093), (0.048, top - 0.050)])
    else:
        angles = np.linspace(np.pi * 0.02, np.pi * 0.98, 14)
        rim = np.stack([0.046 * np.cos(angles), top - 0.030 + 0.046 * np.sin(angles)], axis=1)
    canvas.stroke(frame, rim, paint, thickness=0.010, relief=0.5)


def draw_hoodie_details(canvas: Canvas, frame: Frame, skeleton: Skeleton, outfit: Outfit) -> None:
    """Draw the ribbed hem and the pocket."""
    ground = outfit.fabric.ground
    outline = boxy_outline(skeleton, HOODIE_EASE, HOODIE_HEM)
    band = box(-0.3, HOODIE_HEM - 0.022, 0.3, HOODIE_HEM + 0.02)
    canvas.fill(frame, band, ground * 0.72, relief=0.4, roundness=0.010, within=outline)
    pocket = np.array(
        [(-0.045, -0.090), (0.045, -0.090), (0.078, -0.030), (0.078, 0.020), (-0.078, 0.020),
         (-0.078, -0.030)]
    )  # fmt: skip
    canvas.shadow(frame, pocket, strength=0.25, blur=0.006, offset=(0.002, 0.004))
    canvas.fill(frame, pocket, outfit.fabric, relief=0.9, roundness=0.010)


def draw_waistband(
    canvas: Canvas, frame: Frame, skeleton: Skeleton, paint: Paint, *, ease: float
) -> None:
    """Draw a waistband with its button."""
    strip = skeleton.trunk(ease, WAIST - 0.012, WAIST + 0.016)
    canvas.fill(frame, strip, paint, relief=0.7, roundness=0.010)
    canvas.fill(frame, ellipse((0, WAIST + 0.002), 0.006, 0.006), _METAL, relief=0.5)


def draw_front_seam(canvas: Canvas, frame: Frame, skeleton: Skeleton) -> None:
    """Draw fly and pockets."""
    seam = np.array([(0.0, WAIST + 0.02), (0.0, 0.055)])
    canvas.stroke(frame, seam, colour("#1d1d22"), thickness=0.004, opacity=0.5)
    for sign in (-1.0, 1.0):
        x = skeleton.half_width(-0.02, 0.012)
        pocket = np.array([(sign * (x - 0.030), WAIST + 0.022), (sign * x, -0.010)])
        canvas.stroke(frame, pocket, colour("#1d1d22"), thickness=0.004, opacity=0.5)


def draw_jeans_details(canvas: Canvas, frame: Frame, skeleton: Skeleton) -> None:
    """Draw faded thighs, seams with thread in its usual colour, pockets, fly and turn-ups."""
    joints = skeleton.joints
    pale = colour("#dfe8f2")
    for side, sign in SIDES:
        hip, knee, ankle = (joints[f"{side}_{name}"] for name in ("groin", "knee", "instep"))
        thigh = hip + (knee - hip) * 0.55
        for size in (1.0, 0.72, 0.45):
            fade = ellipse(thigh, 0.030 * size, 0.105 * size)
            canvas.fill(frame, fade, pale, opacity=0.10)
        outer = np.array([sign * 0.040, 0.0])
        seam = smooth([hip + outer, knee + outer * 0.9, ankle + outer * 0.75], closed=False)
        canvas.stroke(frame, seam, _THREAD, thickness=0.003, opacity=0.45)
        x = skeleton.half_width(-0.03, 0.008)
        pocket = smooth(
            [(sign * 0.040, WAIST + 0.02), (sign * 0.052, -0.030), (sign * x, -0.014)], closed=False
        )
        canvas.stroke(frame, pocket, _THREAD, thickness=0.0045, opacity=0.95)
        along = (ankle - knee) / np.linalg.norm(ankle - knee)
        across = np.array([-along[1], along[0]]) * 0.041
        low, high = ankle - along * 0.004, ankle - along * 0.034
        cuff = np.stack([low - across, low + across, high + across, high - across])
        canvas.fill(frame, cuff, colour("#a9bdd6"), relief=0.7, roundness=0.012)
    fly = smooth([(0.0, WAIST), (0.0, 0.05)], closed=False)
    canvas.stroke(frame, fly, colour("#1c2a44"), thickness=0.004, opacity=0.7)
    stitch = smooth([(0.020, WAIST + 0.01), (0.020, -0.01), (0.002, 0.030)], closed=False)
    canvas.stroke(frame, stitch, _THREAD, thickness=0.0035, opacity=0.9)


def draw_buttons(canvas: Canvas, frame: Frame, skeleton: Skeleton, outfit: Outfit) -> None:
    """Draw a row of buttons down the front, on a strip of cloth except on a coat."""
    top = -skeleton.build.torso
    ground = outfit.fabric.ground
    light = luminance(ground) < 130
    button = colour("#f4ecdc") if light else colour("#3a2a22")
    if outfit.category == "Coat":
        rows = np.linspace(top + 0.165, WAIST + 0.07, 3)
        spots = [(sign * 0.028, float(y)) for y in rows for sign in (-1.0, 1.0)]
    else:
        start = top + (0.11 if outfit.neck == "v" else 0.055)
        end = {"Dress": 0.10, "Skirt": 0.10, "Jumpsuit": 0.03}[outfit.category]
        start = WAIST + 0.03 if outfit.category == "Skirt" else start
        strip = mix(ground, button, 0.22)
        canvas.fill(frame, box(-0.016, start - 0.018, 0.016, end + 0.02), strip, relief=0.6,
                    roundness=0.008)  # fmt: skip
        spots = [(0.0, float(y)) for y in np.arange(start, end + 0.01, 0.042)]
    for spot in spots:
        canvas.fill(frame, ellipse(spot, 0.0105, 0.0105), button, relief=0.8, roundness=0.006)


def draw_belt(canvas: Canvas, frame: Frame, skeleton: Skeleton, outfit: Outfit) -> None:
    """Draw a belt with its buckle."""
    ease = {"Coat": 0.022, "Skirt": 0.014}.get(outfit.category, 0.013)
    strip = skeleton.trunk(ease, WAIST - 0.014, WAIST + 0.014)
    canvas.shadow(frame, strip, strength=0.30, blur=0.005, offset=(0.0, 0.006))
    canvas.fill(frame, strip, outfit.leather, relief=0.9, roundness=0.010)
    buckle = box(-0.018, WAIST - 0.016, 0.018, WAIST + 0.016)
    inner = box(-0.010, WAIST - 0.008, 0.010, WAIST + 0.008)
    canvas.fill(frame, buckle, _METAL, relief=0.7, roundness=0.006, holes=[inner])
