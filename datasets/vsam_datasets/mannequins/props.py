"""Accessories, and garments without a wearer: on hangers and folded."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas, Colour, Frame, colour
from .fabrics import Fabric
from .outfit import Outfit
from .shapes import Points, box, ellipse, shifted, smooth
from .skeleton import Skeleton

_WIRE = colour("#8d8478")


def draw_bag(canvas: Canvas, frame: Frame, skeleton: Skeleton, outfit: Outfit, side: str) -> None:
    """Draw the bag, if any: a tote in one hand, or a small bag on a strap across the chest."""
    paint = outfit.leather
    sign = 1.0 if side == "left" else -1.0
    if outfit.bag == "tote":
        hand = shifted(skeleton.joints[f"{side}_index"], 0.0, 0.018)
        arc = [(-0.040, 0.075), (-0.026, 0.012), (0.0, 0.0), (0.026, 0.012), (0.040, 0.075)]
        handle = hand + smooth(arc, closed=False)
        canvas.stroke(frame, handle, paint * 0.75, thickness=0.009, relief=0.6)
        body = hand + np.array([(-0.066, 0.068), (0.066, 0.068), (0.074, 0.175), (-0.074, 0.175)])
        canvas.shadow(frame, body, strength=0.3, blur=0.012, offset=(0.010, 0.012))
        canvas.fill(frame, body, paint, relief=1.0, roundness=0.018)
        flap = hand + np.array([(-0.067, 0.066), (0.067, 0.066), (0.069, 0.100), (-0.069, 0.100)])
        canvas.fill(frame, flap, paint * 0.82, relief=0.7, roundness=0.010)
        canvas.fill(
            frame, ellipse(shifted(hand, 0, 0.102), 0.008, 0.008), colour("#e3cf96"), relief=0.5
        )
    elif outfit.bag == "crossbody":
        build = skeleton.build
        start = np.array([-sign * build.shoulder * 0.72, -build.torso - 0.010])
        end = np.array([sign * (build.hip + 0.058), 0.010])
        middle = (start + end) / 2 + (sign * 0.006, 0.004)
        strap = smooth([start, middle, end], closed=False)
        canvas.shadow(
            frame, smooth([*strap, *shifted(strap[::-1], 0.004, 0.006)]), strength=0.3, blur=0.004
        )
        canvas.stroke(frame, strap, paint * 0.85, thickness=0.011, relief=0.6)
        body = smooth(
            end + np.array([(-0.046, 0.0), (0.046, 0.0), (0.050, 0.068), (-0.050, 0.068)])
        )
        canvas.shadow(frame, body, strength=0.3, blur=0.010, offset=(0.006, 0.010))
        canvas.fill(frame, body, paint, relief=1.0, roundness=0.016)
        flap = smooth(
            end + np.array([(-0.047, -0.003), (0.047, -0.003), (0.040, 0.034), (-0.040, 0.034)])
        )
        canvas.fill(frame, flap, paint * 0.82, relief=0.8, roundness=0.010)
        canvas.fill(
            frame, ellipse(shifted(end, 0, 0.035), 0.007, 0.007), colour("#e3cf96"), relief=0.5
        )


def draw_hanger(canvas: Canvas, frame: Frame) -> None:
    """Draw a hanger: its hook at the origin, its bar 0.045 below."""
    hook = smooth(
        [(-0.010, 0.0), (0.0, -0.010), (0.010, 0.002), (0.0, 0.018), (0.0, 0.034)], closed=False
    )
    canvas.stroke(frame, hook, _WIRE, thickness=0.005)
    bar = np.array([(-0.085, 0.066), (0.0, 0.034), (0.085, 0.066)])
    canvas.stroke(frame, bar, _WIRE * 0.9, thickness=0.008)


def draw_hanging(canvas: Canvas, frame: Frame, category: str, fabric: Fabric) -> None:
    """Draw a garment on a hanger whose hook is at the frame's origin, in statures."""
    outlines, hole = _hanging_outline(category)
    canvas.shadow(frame, outlines, strength=0.25, blur=0.014, offset=(0.014, 0.014))
    draw_hanger(canvas, frame)
    canvas.fill(frame, outlines, fabric, relief=0.7, roundness=0.022, holes=hole, field=_drape)
    seam = fabric.ground * 0.55
    if category in ("Coat", "Hoodie"):
        line = np.array([(0.0, 0.075), (0.0, 0.25 if category == "Hoodie" else 0.42)])
        canvas.stroke(frame, line, seam, thickness=0.004, opacity=0.7)
    elif category in ("Jeans", "Jumpsuit"):
        high = 0.115 if category == "Jeans" else 0.30
        canvas.stroke(
            frame, np.array([(0.0, high), (0.0, 0.52)]), seam, thickness=0.005, opacity=0.7
        )
    elif category == "Dress":
        waist = smooth([(-0.062, 0.212), (0, 0.220), (0.062, 0.212)], closed=False)
        canvas.stroke(frame, waist, seam, thickness=0.005, opacity=0.6)


def draw_folded(
    canvas: Canvas, frame: Frame, layers: list[Fabric], width: float, thickness: float
) -> None:
    """Draw a stack of folded cloth that stands on the frame's origin."""
    for level, fabric in enumerate(layers):
        bottom = -level * thickness
        half = width / 2 * (1 - 0.03 * (level % 2))
        edge = smooth(
            [(-half, bottom - thickness * 0.9), (half, bottom - thickness * 0.9),
             (half * 1.03, bottom - thickness * 0.45), (half, bottom), (-half, bottom),
             (-half * 1.03, bottom - thickness * 0.45)]
        )  # fmt: skip
        canvas.fill(frame, edge, fabric, relief=1.0, roundness=thickness * 0.4)


def _drape(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (1 + 0.06 * np.sin(x * 75) * np.clip(y * 4, 0, 1)).astype(np.float32)


def _mirror(right: list[tuple[float, float]]) -> Points:
    half = np.array(right)
    return np.concatenate([half, (half * (-1, 1))[::-1]])


def _hanging_outline(category: str) -> tuple[list[Points], list[Points]]:
    """Outline a garment as it hangs, and its neckline."""
    neck = [ellipse((0.0, 0.045), 0.034, 0.028)]
    sleeve_long = [(0.030, 0.040), (0.090, 0.062), (0.118, 0.11), (0.138, 0.30), (0.112, 0.31)]
    sleeve_short = [(0.030, 0.040), (0.090, 0.060), (0.135, 0.135), (0.108, 0.152)]
    if category == "Tee":
        return [_mirror([*sleeve_short, (0.088, 0.12), (0.090, 0.29)])], neck
    if category == "Hoodie":
        body = _mirror([*sleeve_long, (0.098, 0.15), (0.100, 0.30)])
        return [body, ellipse((0, 0.050), 0.060, 0.036)], []
    if category == "Coat":
        return [_mirror([*sleeve_long, (0.098, 0.15), (0.112, 0.46)])], neck
    if category == "Dress":
        return [
            _mirror([(0.030, 0.040), (0.078, 0.060), (0.066, 0.12), (0.060, 0.21), (0.125, 0.46)])
        ], neck
    if category == "Jumpsuit":
        return [
            _mirror(
                [
                    (0.030, 0.040),
                    (0.076, 0.060),
                    (0.070, 0.2),
                    (0.085, 0.3),
                    (0.078, 0.58),
                    (0.012, 0.58),
                    (0.004, 0.34),
                ]
            )
        ], neck
    if category == "Skirt":
        return [_mirror([(0.058, 0.060), (0.110, 0.30)])], []
    if category == "Shorts":
        return [_mirror([(0.070, 0.060), (0.098, 0.215), (0.014, 0.220), (0.004, 0.150)])], []
    return [
        _mirror([(0.066, 0.060), (0.078, 0.16), (0.072, 0.54), (0.012, 0.54), (0.004, 0.19)])
    ], []


def draw_rod(canvas: Canvas, frame: Frame, x0: float, x1: float, y: float, paint: Colour) -> None:
    """Draw a clothes rail."""
    canvas.shadow(
        frame, box(x0, y, x1, y + 0.008), strength=0.25, blur=0.008, offset=(0.006, 0.016)
    )
    canvas.fill(frame, box(x0, y - 0.005, x1, y + 0.005), paint, relief=1.0, roundness=0.004)
