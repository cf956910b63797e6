"""The garments that a mannequin wears, from the skin outwards."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from .canvas import Canvas, Frame, Paint, Part
from .cuts import (
    HOODIE_EASE,
    HOODIE_HEM,
    WAIST,
    armholes,
    bodice_outline,
    boxy_outline,
    folds,
    neckline,
    skirt_outline,
    taper,
)
from .fabrics import Fabric
from .figure import arm, leg, shoulders
from .outfit import LOWER, UPPER, Outfit
from .shapes import box, smooth
from .skeleton import SIDES, Skeleton
from .trimmings import (
    draw_belt,
    draw_buttons,
    draw_front_seam,
    draw_hoodie_details,
    draw_jeans_details,
    draw_neck_rim,
    draw_waistband,
)

# Heights of the hem in the body frame; the knee lies at 0.24, the ankle at 0.45.
_HEMS = {"mini": 0.135, "midi": 0.285, "maxi": 0.455}
_COAT_HEM, _COAT_FLARE = 0.225, 0.17
# Share of the arm that is covered; a long sleeve leaves the wrist free.
_SLEEVES = {"short": 0.34, "long": 0.97}
_SLEEVE_EASE = {"Coat": 0.017, "Hoodie": 0.022, "Tee": 0.010}


def draw_lower(canvas: Canvas, frame: Frame, skeleton: Skeleton, outfit: Outfit) -> None:
    """Draw what covers the legs and is not part of a garment from the shoulders."""
    category, fabric = outfit.category, outfit.fabric
    if category == "Coat":
        lining = skirt_outline(skeleton, _COAT_HEM, 0.014, _COAT_FLARE)
        with canvas.drawing(Part.GARMENT):
            canvas.fill(frame, lining, fabric.ground * 0.42, relief=0.6, roundness=0.030)
    if category in UPPER or category == "Coat":
        _draw_trousers(canvas, frame, skeleton, outfit.trouser_colour, ease=0.003)
        return
    with canvas.drawing(Part.GARMENT):
        if category == "Jeans":
            _draw_trousers(canvas, frame, skeleton, fabric, ease=0.011, flare=0.008)
            draw_jeans_details(canvas, frame, skeleton)
        elif category == "Shorts":
            _draw_trousers(canvas, frame, skeleton, fabric, ease=0.014, share=0.36, flare=0.02)
            draw_front_seam(canvas, frame, skeleton)
        elif category == "Jumpsuit":
            _draw_trousers(canvas, frame, skeleton, fabric, ease=0.011, flare=0.014)


def draw_upper(canvas: Canvas, frame: Frame, skeleton: Skeleton, outfit: Outfit) -> None:
    """Draw what covers the trunk, with the skirts of dress and coat, but not the sleeves."""
    top = -skeleton.build.torso
    if outfit.category in LOWER:
        bodice = bodice_outline(skeleton, 0.003, WAIST + 0.008)
        holes = neckline("round", top) + armholes(skeleton, outfit)
        canvas.fill(frame, bodice, outfit.top_colour, relief=0.8, roundness=0.022, holes=holes)
    elif outfit.category == "Coat":
        inner = bodice_outline(skeleton, 0.004, 0.0)
        canvas.fill(frame, inner, outfit.top_colour, relief=0.6, holes=neckline("round", top))
    with canvas.drawing(Part.GARMENT):
        _draw_labelled(canvas, frame, skeleton, outfit)
        if outfit.buttons:
            draw_buttons(canvas, frame, skeleton, outfit)
    if outfit.belt:
        draw_belt(canvas, frame, skeleton, outfit)


def _draw_labelled(canvas: Canvas, frame: Frame, skeleton: Skeleton, outfit: Outfit) -> None:
    """Draw the upper part of the garment that makes the category."""
    top = -skeleton.build.torso
    category = outfit.category
    if category == "Skirt":
        _draw_skirt(canvas, frame, skeleton, outfit)
    elif category == "Shorts":
        draw_waistband(canvas, frame, skeleton, outfit.fabric, ease=0.012)
    elif category == "Jeans":
        draw_waistband(canvas, frame, skeleton, outfit.fabric, ease=0.009)
    elif category in ("Dress", "Jumpsuit"):
        if category == "Dress":
            _draw_skirt(canvas, frame, skeleton, outfit)
        bodice = bodice_outline(skeleton, 0.007, WAIST + 0.02)
        holes = neckline(outfit.neck, top) + armholes(skeleton, outfit)
        canvas.fill(frame, bodice, outfit.fabric, relief=0.8, roundness=0.024, holes=holes)
        seam = skeleton.half_width(WAIST + 0.012, 0.006)
        line = smooth([(-seam, WAIST), (0, WAIST + 0.008), (seam, WAIST)], closed=False)
        canvas.stroke(frame, line, outfit.fabric.ground * 0.6, thickness=0.005, opacity=0.6)
    elif category == "Tee":
        _draw_boxy(canvas, frame, skeleton, outfit, ease=0.009, hem=0.006)
        rim = outfit.fabric.ground * 0.78
        draw_neck_rim(canvas, frame, outfit.neck, top, rim)
    elif category == "Hoodie":
        _draw_boxy(canvas, frame, skeleton, outfit, ease=HOODIE_EASE, hem=HOODIE_HEM)
        draw_hoodie_details(canvas, frame, skeleton, outfit)
    else:
        _draw_coat(canvas, frame, skeleton, outfit)


def draw_sleeve(
    canvas: Canvas, frame: Frame, skeleton: Skeleton, outfit: Outfit, side: str
) -> None:
    """Draw the sleeve of one arm, if the garment has one."""
    if outfit.sleeve == "none":
        return
    companion = outfit.category in LOWER
    paint: Paint = outfit.top_colour if companion else _turned(outfit.fabric, skeleton, side)
    ease = 0.004 if companion else _SLEEVE_EASE.get(outfit.category, 0.008)
    sleeve = arm(skeleton, side, ease=ease, share=_SLEEVES[outfit.sleeve])
    with canvas.drawing(Part.PERSON if companion else Part.GARMENT):
        canvas.fill(
            frame,
            sleeve,
            paint,
            relief=0.8,
            roundness=0.018,
            joined_to=[shoulders(skeleton, ease)],
        )
        if outfit.category == "Hoodie":
            _draw_cuff(canvas, frame, skeleton, outfit, side)


def _draw_cuff(canvas: Canvas, frame: Frame, skeleton: Skeleton, outfit: Outfit, side: str) -> None:
    wrist, elbow = skeleton.joints[f"{side}_wrist"], skeleton.joints[f"{side}_elbow"]
    back = (elbow - wrist) / np.linalg.norm(elbow - wrist)
    across = np.array([-back[1], back[0]]) * 0.030
    low, high = wrist + back * 0.006, wrist + back * 0.026
    cuff = np.stack([low - across, low + across, high + across, high - across])
    canvas.fill(frame, cuff, outfit.fabric.ground * 0.72, relief=0.7, roundness=0.008)


def _turned(fabric: Fabric, skeleton: Skeleton, side: str) -> Fabric:
    """Turn a pattern with the forearm: else an arm before the trunk would vanish in its stripes."""
    x, y = skeleton.joints[f"{side}_wrist"] - skeleton.joints[f"{side}_elbow"]
    return replace(fabric, angle=fabric.angle - math.atan2(x, y))


def _draw_trousers(
    canvas: Canvas,
    frame: Frame,
    skeleton: Skeleton,
    paint: Paint,
    *,
    ease: float,
    share: float = 1.0,
    flare: float = 0.0,
) -> None:
    """Draw both legs and the seat; flat cuts at the ankles unless they are slim."""
    share = min(share, 0.985)
    legs = {side: leg(skeleton, side, ease, share, flare) for side, _ in SIDES}
    seat = skeleton.trunk(ease, WAIST, 0.055)
    both = [*legs["left"], *legs["right"], seat]
    # Legs that stand together still show where one ends.
    parting = [taper((0.001, 0.056), (0.046, 0.30) if share < 0.5 else (0.013, 0.50))]
    canvas.fill(frame, both, paint, relief=0.85, roundness=0.026, holes=parting)
    canvas.shadow(
        frame, taper((0.003, 0.050), (0.008, 0.20)), strength=0.38, blur=0.009, within=both
    )


def _draw_skirt(canvas: Canvas, frame: Frame, skeleton: Skeleton, outfit: Outfit) -> None:
    hem = _HEMS[outfit.length]
    flare = {"mini": 0.62, "midi": 0.30, "maxi": 0.16}[outfit.length]
    outline = skirt_outline(skeleton, hem, 0.010, flare)
    canvas.shadow(frame, outline, strength=0.35, blur=0.010, offset=(0.004, 0.014))
    fall = folds(0.085, 6.5, WAIST, hem, flare)
    canvas.fill(frame, outline, outfit.fabric, relief=0.9, roundness=0.030, field=fall)
    if outfit.category == "Skirt":
        strip = skeleton.trunk(0.011, WAIST - 0.014, WAIST + 0.014)
        canvas.fill(frame, strip, outfit.fabric.ground * 0.8, relief=0.7, roundness=0.010)


def _draw_boxy(
    canvas: Canvas, frame: Frame, skeleton: Skeleton, outfit: Outfit, *, ease: float, hem: float
) -> None:
    outline = boxy_outline(skeleton, ease, hem)
    canvas.shadow(frame, outline, strength=0.35, blur=0.010, offset=(0.003, 0.012))
    holes = neckline(outfit.neck, -skeleton.build.torso)
    canvas.fill(frame, outline, outfit.fabric, relief=0.85, roundness=0.026, holes=holes)


def _draw_coat(canvas: Canvas, frame: Frame, skeleton: Skeleton, outfit: Outfit) -> None:
    """Draw a coat to the knee, open in a V above and below the waist."""
    top = -skeleton.build.torso
    hem = _COAT_HEM
    skirt = skirt_outline(skeleton, hem, 0.020, _COAT_FLARE)
    shape = [bodice_outline(skeleton, 0.019, WAIST + 0.04), skirt]
    canvas.shadow(frame, shape, strength=0.35, blur=0.010, offset=(0.004, 0.014))
    opening = [
        taper((0.046, top - 0.060), (0.004, top + 0.150)),
        taper((0.002, WAIST + 0.060), (0.020, hem + 0.030)),
    ]
    fall = folds(0.05, 3.2, WAIST, hem, _COAT_FLARE)
    canvas.fill(
        frame, shape, outfit.fabric, relief=0.85, roundness=0.028, holes=opening, field=fall
    )
    dark = outfit.fabric.ground * 0.45
    canvas.stroke(
        frame, np.array([(0, top + 0.148), (0, WAIST + 0.06)]), dark, thickness=0.005, opacity=0.8
    )
    for x in (-0.092, 0.050):
        pocket = box(x, 0.0, x + 0.042, 0.016)
        canvas.fill(frame, pocket, outfit.fabric.ground * 0.7, relief=0.8, roundness=0.006)
