"""The room behind a mannequin: wall, floor, furniture, and garments that nobody wears."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas, Colour, Frame, colour, mix
from .fabrics import pick
from .outfit import sample_distractor
from .props import draw_folded, draw_hanging, draw_rod
from .shapes import band, box, capsule, ellipse, shifted, smooth

# Wall, floor, accent.
_ROOMS = tuple(
    tuple(map(colour, line.split()))
    for line in (
        "#e9dfd2 #b08a66 #8fa39a",
        "#d5dcd6 #a98f74 #c98b6b",
        "#dcd3dc #9c8779 #7d8ea8",
        "#c9d6dc #b59a7c #d9a35f",
        "#eae2c8 #a58262 #6f8f86",
        "#d9c6b8 #8d7460 #5f7a86",
        "#cfd3c1 #9c8468 #b86f5a",
        "#e6d6d2 #a79a90 #8c6f86",
        "#bfc9cf #8f8378 #c2a15e",
        "#e4e2de #b39c84 #6d8fa3",
    )
)
_WOODS = tuple(map(colour, "#8a5f3f #6e4a33 #b08458 #4b3a33 #d8cfc2".split()))
_FULL_STEP = 0.125  # between hangers, in heights of the photo: they overlap a little
_LEAVES = tuple(map(colour, "#5d8460 #47705a #7f9a5a".split()))


def draw_scene(
    canvas: Canvas, rng: np.random.Generator, worn: str, *, crowded: bool = False
) -> None:
    """Draw a cluttered room.

    Args:
        canvas: Drawn over entirely.
        rng: Source of randomness.
        worn: The category that the person wears, which hangs nowhere.
        crowded: Fill the wall with garments, also behind the person, as in a shop.
    """
    height, width = canvas.pixels.shape[1:]
    frame = Frame(float(height))
    wide = width / height
    wall, floor, accent = _ROOMS[int(rng.integers(len(_ROOMS)))]
    horizon = float(rng.uniform(0.70, 0.82))
    _draw_shell(canvas, frame, rng, wide, horizon, wall, floor, accent)
    if rng.random() < 0.45:
        _draw_window(canvas, frame, rng, wide, horizon)
    for _ in range(int(rng.integers(1, 4))):
        _draw_picture(canvas, frame, rng, wide)
    if rng.random() < 0.5:
        _draw_shelf(canvas, frame, rng, wide, worn)
    if crowded:
        _draw_full_rails(canvas, frame, rng, wide, worn)
    else:
        _draw_rail(canvas, frame, rng, wide, worn)
    if rng.random() < 0.6:
        _draw_stool(canvas, frame, rng, wide, horizon, worn)
    if rng.random() < 0.55:
        _draw_plant(canvas, frame, rng, wide, horizon)
    if rng.random() < 0.35:
        _draw_lamp(canvas, frame, rng, wide, horizon, accent)


def _draw_shell(
    canvas: Canvas,
    frame: Frame,
    rng: np.random.Generator,
    wide: float,
    horizon: float,
    wall: Colour,
    floor: Colour,
    accent: Colour,
) -> None:
    """Draw wall, skirting board, floor and rug."""
    height, width = canvas.pixels.shape[1:]
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    light = 1.03 - 0.12 * down - 0.05 * (across + 0.4) ** 2  # (H, W)
    np.multiply(light, wall[:, None, None], out=canvas.pixels)
    style = rng.choice(("plain", "stripes", "panel", "two-tone"))
    if style == "stripes":
        step = float(rng.uniform(0.05, 0.09))
        stripes = [box(k * step, 0, (k + 0.5) * step, horizon) for k in range(int(wide / step) + 1)]
        canvas.fill(frame, stripes, mix(wall, accent, 0.15))
    elif style == "panel":
        low, third = horizon - 0.07, wide / 3
        panels = [box((k + 0.08) * third, 0.06, (k + 0.92) * third, low) for k in range(3)]
        inset = np.array([(0.008, 0.008), (-0.008, 0.008), (-0.008, -0.008), (0.008, -0.008)])
        canvas.fill(frame, panels, wall * 0.86, holes=[panel + inset for panel in panels])
    elif style == "two-tone":
        rail = float(rng.uniform(0.40, 0.55))
        canvas.fill(frame, box(0, rail, wide, horizon), mix(wall, accent, 0.55))
        canvas.fill(frame, box(0, rail - 0.008, wide, rail), mix(wall, colour("#ffffff"), 0.5))
    canvas.fill(frame, box(-0.1, horizon, wide + 0.1, 1.1), floor, field=_floor_light)
    boards = []  # their edges run to a vanishing point
    for k in np.linspace(-1.2, 1.2, 13) * wide:
        edge = np.array([(wide / 2 + k * 0.42, horizon), (wide / 2 + k * 0.95, 1.05)])
        boards.append(band(edge, 0.0015))
    canvas.fill(frame, boards, floor * 0.72, opacity=0.7)
    canvas.fill(
        frame, box(-0.1, horizon - 0.028, wide + 0.1, horizon), mix(wall, colour("#ffffff"), 0.45)
    )
    canvas.shadow(
        frame, box(-0.1, horizon - 0.002, wide + 0.1, horizon + 0.006), strength=0.4, blur=0.008
    )
    if rng.random() < 0.6:
        centre = (wide * float(rng.uniform(0.35, 0.65)), float(rng.uniform(0.90, 0.95)))
        rx, ry = float(rng.uniform(0.26, 0.38)), float(rng.uniform(0.045, 0.065))
        canvas.fill(frame, ellipse(centre, rx, ry), accent * 0.85)
        canvas.fill(frame, ellipse(centre, rx * 0.9, ry * 0.84), mix(accent, wall, 0.45))
        canvas.fill(frame, ellipse(centre, rx * 0.80, ry * 0.70), accent)


def _floor_light(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (0.90 + 0.18 * (y - 0.7) / 0.3 + 0.0 * x).astype(np.float32)


def _draw_window(
    canvas: Canvas, frame: Frame, rng: np.random.Generator, wide: float, horizon: float
) -> None:
    x, y = float(rng.uniform(-0.05, wide - 0.2)), float(rng.uniform(0.04, 0.14))
    w, h = float(rng.uniform(0.20, 0.28)), float(rng.uniform(0.28, 0.40))
    canvas.fill(
        frame,
        box(x - 0.014, y - 0.014, x + w + 0.014, y + h + 0.014),
        colour("#f4f0e8"),
        relief=0.5,
    )
    sky = colour("#b9d6e6")
    canvas.fill(frame, box(x, y, x + w, y + h), lambda u, v: _sky(sky, v, y, h))
    ridge = [(-0.2, 0.75), (0.4, 0.58), (1.2, 0.80), (1.2, 1.2), (-0.2, 1.2)]
    hills = smooth(ridge) * (w, h) + (x, y)
    canvas.fill(frame, hills, pick(rng, _LEAVES), within=[box(x, y, x + w, y + h)])
    bar = colour("#f4f0e8")
    canvas.fill(frame, box(x + w / 2 - 0.005, y, x + w / 2 + 0.005, y + h), bar)
    canvas.fill(frame, box(x, y + h / 2 - 0.005, x + w, y + h / 2 + 0.005), bar)


def _sky(sky: Colour, v: np.ndarray, top: float, height: float) -> np.ndarray:
    share = np.clip((v - top) / height, 0, 1)
    return sky[:, None, None] + (colour("#f6efe2") - sky)[:, None, None] * share


def _draw_picture(canvas: Canvas, frame: Frame, rng: np.random.Generator, wide: float) -> None:
    x, y = float(rng.uniform(0.0, wide - 0.12)), float(rng.uniform(0.03, 0.30))
    w, h = float(rng.uniform(0.09, 0.16)), float(rng.uniform(0.10, 0.18))
    canvas.shadow(frame, box(x, y, x + w, y + h), strength=0.3, blur=0.010, offset=(0.008, 0.010))
    canvas.fill(frame, box(x, y, x + w, y + h), pick(rng, _WOODS), relief=0.7, roundness=0.008)
    inside = box(x + 0.010, y + 0.010, x + w - 0.010, y + h - 0.010)
    canvas.fill(frame, inside, colour("#f3ede0"))
    _, floor, accent = _ROOMS[int(rng.integers(len(_ROOMS)))]
    for paint in (accent, floor, accent * 0.7):
        blot = ellipse(
            (x + w * float(rng.uniform(0.2, 0.8)), y + h * float(rng.uniform(0.3, 0.8))),
            w * float(rng.uniform(0.15, 0.4)),
            h * float(rng.uniform(0.12, 0.35)),
            float(rng.uniform(0, 3)),
        )
        canvas.fill(frame, blot, paint, within=[inside], opacity=0.85)


def _draw_rail(
    canvas: Canvas, frame: Frame, rng: np.random.Generator, wide: float, worn: str
) -> None:
    """Draw garments of other categories on hangers, on both sides of the person."""
    y = float(rng.uniform(0.10, 0.30))
    draw_rod(canvas, frame, -0.02, wide + 0.02, y, pick(rng, _WOODS) * 0.9)
    size = float(rng.uniform(0.78, 0.95))
    spots = [0.05, 0.17, wide - 0.17, wide - 0.05]
    chosen = rng.random(4) < 0.72
    chosen[int(rng.integers(4))] = True
    for spot, take in zip(spots, chosen, strict=True):
        category, fabric = sample_distractor(rng, worn)
        tilt, shift = float(rng.uniform(-0.05, 0.05)), float(rng.uniform(-0.02, 0.02))
        if take:
            hanger = _hanger(frame, spot + shift, y, size, tilt)
            draw_hanging(canvas, hanger, category, fabric)


def _draw_full_rails(
    canvas: Canvas, frame: Frame, rng: np.random.Generator, wide: float, worn: str
) -> None:
    """Draw two rails, one above the other, full of garments of other categories."""
    size = float(rng.uniform(0.60, 0.72))
    wood = pick(rng, _WOODS) * 0.9
    for y in (float(rng.uniform(0.05, 0.10)), float(rng.uniform(0.40, 0.45))):
        draw_rod(canvas, frame, -0.02, wide + 0.02, y, wood)
        for spot in np.arange(0.05, wide, _FULL_STEP):
            category, fabric = sample_distractor(rng, worn)
            tilt, shift = float(rng.uniform(-0.05, 0.05)), float(rng.uniform(-0.02, 0.02))
            hanger = _hanger(frame, float(spot) + shift, y, size, tilt)
            draw_hanging(canvas, hanger, category, fabric)


def _hanger(frame: Frame, x: float, y: float, size: float, tilt: float) -> Frame:
    """Give the frame of a garment that hangs from a rail at a height."""
    origin = frame.to_pixels(np.array([(x, y + 0.006)]))[0]
    return Frame(frame.scale * size, tilt, (float(origin[0]), float(origin[1])))


def _draw_shelf(
    canvas: Canvas, frame: Frame, rng: np.random.Generator, wide: float, worn: str
) -> None:
    x = float(rng.choice((0.09, wide - 0.09)))
    y = float(rng.uniform(0.46, 0.62))
    wood = pick(rng, _WOODS)
    canvas.shadow(
        frame, box(x - 0.1, y, x + 0.1, y + 0.014), strength=0.35, blur=0.012, offset=(0.005, 0.02)
    )
    canvas.fill(frame, box(x - 0.10, y, x + 0.10, y + 0.014), wood, relief=0.6, roundness=0.006)
    layers = [sample_distractor(rng, worn)[1] for _ in range(int(rng.integers(2, 5)))]
    origin = frame.to_pixels(np.array([(x, y)]))[0]
    stack = Frame(frame.scale, 0.0, (float(origin[0]), float(origin[1])))
    draw_folded(canvas, stack, layers, 0.13, 0.022)


def _draw_stool(
    canvas: Canvas, frame: Frame, rng: np.random.Generator, wide: float, horizon: float, worn: str
) -> None:
    """Draw a stool with folded garments on it."""
    x = float(rng.choice((0.10, wide - 0.10)))
    foot = horizon + float(rng.uniform(0.05, 0.12))
    seat = foot - float(rng.uniform(0.15, 0.20))
    wood = pick(rng, _WOODS)
    canvas.shadow(frame, ellipse((x, foot), 0.10, 0.02), strength=0.35, blur=0.014)
    for sign in (-1.0, 1.0):
        canvas.fill(frame, capsule((x + sign * 0.05, seat), (x + sign * 0.075, foot), 0.007, 0.006),
                    wood * 0.8, relief=0.8, roundness=0.006)  # fmt: skip
    canvas.fill(
        frame,
        box(x - 0.085, seat - 0.012, x + 0.085, seat + 0.012),
        wood,
        relief=0.8,
        roundness=0.01,
    )
    layers = [sample_distractor(rng, worn)[1] for _ in range(int(rng.integers(1, 4)))]
    origin = frame.to_pixels(np.array([(x, seat - 0.012)]))[0]
    draw_folded(
        canvas, Frame(frame.scale, 0.0, (float(origin[0]), float(origin[1]))), layers, 0.14, 0.024
    )


def _draw_plant(
    canvas: Canvas, frame: Frame, rng: np.random.Generator, wide: float, horizon: float
) -> None:
    x = float(rng.choice((0.04, wide - 0.04)))
    foot = horizon + float(rng.uniform(0.03, 0.10))
    canvas.shadow(frame, ellipse((x, foot), 0.07, 0.018), strength=0.35, blur=0.012)
    leaf = pick(rng, _LEAVES)
    for angle in rng.uniform(-1.1, 1.1, 9):
        tip = np.array([x + 0.15 * np.sin(angle), foot - 0.09 - 0.17 * np.cos(angle)])
        root = np.array([x, foot - 0.08])
        middle = shifted((root + tip) / 2, 0.0, -0.02)
        side = np.array([np.cos(angle), np.sin(angle)]) * 0.022
        blade = smooth([root, middle - side, tip, middle + side])
        shade = np.float32(rng.uniform(0.75, 1.15))
        canvas.fill(frame, blade, leaf * shade, relief=0.6, roundness=0.012)
    pot = np.array(
        [(x - 0.05, foot - 0.09), (x + 0.05, foot - 0.09), (x + 0.036, foot), (x - 0.036, foot)]
    )
    canvas.fill(frame, pot, colour("#c4714f"), relief=1.0, roundness=0.018)


def _draw_lamp(
    canvas: Canvas,
    frame: Frame,
    rng: np.random.Generator,
    wide: float,
    horizon: float,
    accent: Colour,
) -> None:
    x = float(rng.choice((0.06, wide - 0.06)))
    top = float(rng.uniform(0.30, 0.40))
    foot = horizon + 0.05
    canvas.stroke(
        frame, np.array([(x, top), (x, foot)]), colour("#4a443f"), thickness=0.008, relief=0.8
    )
    canvas.fill(frame, ellipse((x, foot), 0.05, 0.014), colour("#4a443f"), relief=0.8)
    shade = np.array(
        [
            (x - 0.035, top - 0.02),
            (x + 0.035, top - 0.02),
            (x + 0.065, top + 0.08),
            (x - 0.065, top + 0.08),
        ]
    )
    canvas.fill(frame, shade, mix(accent, colour("#fff3d6"), 0.6), relief=0.9, roundness=0.03)
