"""The head of a mannequin: face, hair and hat."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .canvas import Canvas, Colour, Frame, colour, mix
from .fabrics import pick
from .outfit import Outfit
from .shapes import Points, box, ellipse, shifted, smooth
from .skeleton import Skeleton

HAIR_STYLES = ("short", "bob", "long", "bun", "curly", "side")

_SKINS = tuple(
    map(colour, "#ecc4a8 #e8b996 #d9a27c #c48a62 #a86f4a #8a5637 #6b412b #e6b893".split())
)
_HAIRS = tuple(
    map(colour, "#2a2120 #3d2a20 #5a3a25 #7d5230 #a9793f #c9a15c #8c3f25 #4a4a4d".split())
)
_IRISES = tuple(map(colour, "#3d2a1c #5a4630 #3f5c6e #4b6146".split()))


@dataclass(frozen=True)
class Looks:
    """What a face looks like."""

    skin: Colour
    hair: Colour
    style: str
    iris: Colour
    lips: Colour


def sample_looks(rng: np.random.Generator) -> Looks:
    """Choose skin, hair and eyes."""
    skin = pick(rng, _SKINS)
    hairs = _HAIRS if skin.mean() > 140 else _HAIRS[:3]
    return Looks(
        skin=skin,
        hair=pick(rng, hairs),
        style=str(rng.choice(HAIR_STYLES)),
        iris=pick(rng, _IRISES),
        lips=mix(skin, colour("#a8323e"), float(rng.uniform(0.35, 0.6))),
    )


def head_frame(frame: Frame, skeleton: Skeleton) -> Frame:
    """Give the head's frame: origin at its centre, unit half its height."""
    centre = frame.to_pixels(skeleton.joints["head"][None])[0]
    return Frame(
        frame.scale * skeleton.build.head / 2,
        frame.angle + skeleton.tilt,
        (float(centre[0]), float(centre[1])),
    )


def draw_hair_behind(canvas: Canvas, head: Frame, looks: Looks) -> None:
    """Draw the hair that lies behind head and neck."""
    shapes: dict[str, list[Points]] = {
        "short": [ellipse((0, -0.28), 0.80, 0.80)],
        "side": [ellipse((0, -0.26), 0.82, 0.82)],
        "bun": [ellipse((0, -0.28), 0.80, 0.80), ellipse((0, -1.15), 0.36, 0.33)],
        "bob": [
            smooth(
                [(-0.82, -0.4), (0, -1.12), (0.82, -0.4), (0.90, 0.55), (0.62, 0.80), (0, 0.6),
                 (-0.62, 0.80), (-0.90, 0.55)]
            )
        ],
        "long": [
            smooth(
                [(-0.82, -0.4), (0, -1.12), (0.82, -0.4), (0.92, 0.6), (0.98, 1.5), (0.55, 1.75),
                 (0, 1.0), (-0.55, 1.75), (-0.98, 1.5), (-0.92, 0.6)]
            )
        ],
        "curly": [
            ellipse((0.86 * math.sin(a), -0.30 - 0.72 * math.cos(a)), 0.42, 0.42)
            for a in np.linspace(-2.1, 2.1, 9)
        ],
    }  # fmt: skip
    canvas.fill(head, shapes[looks.style], looks.hair * 0.86, relief=0.8, roundness=0.25)


def draw_head(canvas: Canvas, head: Frame, looks: Looks) -> None:
    """Draw head, face and the hair in front."""
    skin = looks.skin
    for sign in (-1.0, 1.0):
        canvas.fill(head, ellipse((sign * 0.72, 0.10), 0.12, 0.20), skin * 0.94, relief=0.8,
                    roundness=0.1)  # fmt: skip
    under_chin = ellipse((0.05, 0.96), 0.42, 0.24)
    canvas.shadow(head, under_chin, strength=0.42, blur=0.10)
    skull = smooth(
        [(0, -1.0), (0.52, -0.84), (0.72, -0.36), (0.70, 0.16), (0.60, 0.56), (0.34, 0.88),
         (0, 1.0), (-0.34, 0.88), (-0.60, 0.56), (-0.70, 0.16), (-0.72, -0.36), (-0.52, -0.84)]
    )  # fmt: skip
    canvas.fill(head, skull, skin, relief=0.75, roundness=0.40)
    blush = mix(skin, colour("#d8553f"), 0.5)
    for sign in (-1.0, 1.0):
        for size, opacity in ((0.19, 0.10), (0.13, 0.10)):
            canvas.fill(
                head, ellipse((sign * 0.42, 0.34), size, size * 0.8), blush, opacity=opacity
            )
        _draw_eye(canvas, head, looks, sign)
    dark = skin * 0.72
    canvas.fill(head, smooth([(0.02, -0.02), (0.10, 0.20), (0.15, 0.30), (0.02, 0.33)]), dark,
                opacity=0.45)  # fmt: skip
    canvas.fill(
        head, smooth([(-0.14, 0.28), (0, 0.34), (0.14, 0.28), (0, 0.37)]), dark, opacity=0.9
    )
    lips = looks.lips
    canvas.fill(head, smooth([(-0.25, 0.535), (-0.08, 0.51), (0, 0.53), (0.08, 0.51), (0.25, 0.535),
                              (0.10, 0.67), (-0.10, 0.67)]), lips)  # fmt: skip
    canvas.fill(head, smooth([(-0.25, 0.535), (0, 0.575), (0.25, 0.535), (0, 0.60)]), lips * 0.6)
    _draw_fringe(canvas, head, looks)


def _draw_eye(canvas: Canvas, head: Frame, looks: Looks, sign: float) -> None:
    x, y = sign * 0.30, -0.03
    white = smooth([(x - 0.15, y + 0.01), (x, y - 0.085), (x + 0.15, y + 0.01), (x, y + 0.075)])
    canvas.fill(head, white, colour("#f7f2ee"))
    canvas.fill(head, ellipse((x, y), 0.070, 0.078), looks.iris, within=[white])
    canvas.fill(head, ellipse((x, y), 0.036, 0.040), colour("#15100e"))
    canvas.fill(head, ellipse((x - 0.025, y - 0.03), 0.020, 0.020), colour("#ffffff"))
    lid = smooth([(x - 0.17, y + 0.01), (x, y - 0.10), (x + 0.17, y + 0.01)], closed=False)
    canvas.stroke(head, lid, looks.hair * 0.45, thickness=0.045)
    brow = smooth(
        [(x - sign * 0.16, y - 0.20), (x, y - 0.26), (x + sign * 0.18, y - 0.20)], closed=False
    )
    canvas.stroke(head, brow, looks.hair * 0.7, thickness=0.062)


def _draw_fringe(canvas: Canvas, head: Frame, looks: Looks) -> None:
    hairline = {
        "short": [(-0.74, 0.0), (-0.62, -0.42), (-0.2, -0.58), (0.3, -0.56), (0.62, -0.42),
                  (0.74, 0.0)],
        "side": [(-0.76, 0.1), (-0.66, -0.30), (-0.25, -0.70), (0.15, -0.52), (0.60, -0.30),
                 (0.76, 0.15)],
        "bun": [(-0.75, -0.05), (-0.60, -0.46), (-0.2, -0.66), (0.2, -0.66), (0.60, -0.46),
                (0.75, -0.05)],
        "bob": [(-0.80, 0.5), (-0.62, -0.28), (-0.3, -0.40), (0.3, -0.40), (0.62, -0.28),
                (0.80, 0.5)],
        "long": [(-0.82, 0.6), (-0.64, -0.05), (-0.12, -0.72), (0.12, -0.72), (0.64, -0.05),
                 (0.82, 0.6)],
        "curly": [(-0.80, 0.0), (-0.60, -0.40), (-0.3, -0.52), (0.0, -0.46), (0.3, -0.54),
                  (0.60, -0.40), (0.80, 0.0)],
    }[looks.style]  # fmt: skip
    crown = [(0.84, -0.35), (0.56, -0.95), (0.0, -1.12), (-0.56, -0.95), (-0.84, -0.35)]
    cap = np.concatenate([smooth(hairline, closed=False), smooth(crown, closed=False)])
    canvas.fill(head, cap, looks.hair, relief=0.9, roundness=0.22)
    shine = smooth([(-0.55, -0.62), (-0.2, -0.90), (0.1, -0.96), (-0.15, -0.78)])
    canvas.fill(head, shine, mix(looks.hair, colour("#ffffff"), 0.5), opacity=0.28)


def draw_hat(canvas: Canvas, head: Frame, outfit: Outfit) -> None:
    """Draw the hat, if any."""
    felt = outfit.hat_colour
    ribbon = felt * 0.55
    crown = smooth(
        [(-0.80, -0.40), (-0.76, -0.95), (-0.42, -1.34), (0.42, -1.34), (0.76, -0.95),
         (0.80, -0.40), (0, -0.30)]
    )  # fmt: skip
    if outfit.hat == "brim":
        canvas.shadow(head, ellipse((0, -0.30), 0.8, 0.2), strength=0.3, blur=0.08)
        canvas.fill(head, ellipse((0, -0.46), 1.42, 0.27), felt * 0.92, relief=0.7, roundness=0.1)
        canvas.fill(head, shifted(crown, 0, -0.08), felt, relief=0.9, roundness=0.28)
        canvas.fill(head, box(-0.79, -0.74, 0.79, -0.54), ribbon, relief=0.5, within=[crown])
    elif outfit.hat == "beanie":
        canvas.fill(head, crown, felt, relief=0.9, roundness=0.28)
        cuff = smooth(
            [(-0.84, -0.32), (-0.82, -0.62), (0, -0.70), (0.82, -0.62), (0.84, -0.32), (0, -0.40)]
        )
        canvas.fill(head, cuff, felt * 0.82, relief=0.8, roundness=0.1)
        canvas.fill(head, ellipse((0, -1.42), 0.22, 0.20), felt * 0.9, relief=0.9, roundness=0.15)
    elif outfit.hat == "cap":
        canvas.shadow(head, ellipse((0, -0.26), 0.7, 0.16), strength=0.3, blur=0.08)
        canvas.fill(head, shifted(crown, 0, 0.02), felt, relief=0.9, roundness=0.28)
        peak = smooth(
            [(-0.74, -0.44), (0, -0.60), (0.74, -0.44), (0.66, -0.26), (0, -0.18), (-0.66, -0.26)]
        )
        canvas.fill(head, peak, ribbon, relief=0.7, roundness=0.1)
