"""Colours and patterns of cloth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .canvas import Colour, colour, mix

Array = NDArray[np.float32]

PATTERNS = ("solid", "striped", "dotted", "floral", "checked", "denim")
"""What a fabric can look like. All but `solid` are attributes."""

_CLOTH = tuple(
    map(
        colour,
        "#b5454a #d9825b #e0b04c #7d9a5b #3f7d6e #3f6f94 #5a5f9e #8a5a92 #c9748c #e8dcc8 "
        "#4a4e5c #8f6a4f #a9c4c9 #d8a9a0 #2f4858 #b9b07a".split(),
    )
)
_LIGHT = tuple(map(colour, "#f6efe3 #f3e3d3 #eaf0ee #f7f3ea".split()))
_DARK = tuple(map(colour, "#2b2f3a #3a2f3f #26363a #40302c".split()))
_BLOSSOMS = tuple(map(colour, "#e0575b #f2b13f #f4f0e6 #d678a8 #ef8354 #8fb8de".split()))
_DENIM = tuple(map(colour, "#36517c #466a98 #2c4063 #5f82ac".split()))

NEUTRAL_TOPS = tuple(map(colour, "#d9d5cd #c9c4ba #8d8c8c #b7a99a #6a6b70".split()))
"""Colours of the plain top that accompanies a labelled lower garment."""

NEUTRAL_TROUSERS = tuple(map(colour, "#35353a #4a4744 #2d3134 #565250".split()))
"""Colours of the plain slim trousers that accompany a labelled upper garment."""


@dataclass(frozen=True)
class Fabric:
    """A patterned cloth: a `Paint` in the frame of what is dressed.

    Attributes:
        pattern: One of `PATTERNS`.
        colours: Ground, figure and second figure colour.
        period: Distance between repeats, in the frame's units.
        angle: Turn of the pattern in radians.
        seed: Chooses petals, phases and flecks.
    """

    pattern: str
    colours: tuple[Colour, Colour, Colour]
    period: float = 0.06
    angle: float = 0.0
    seed: int = 0

    @property
    def ground(self) -> Colour:
        """The colour for trimmings in the same cloth."""
        return self.colours[0]

    def __call__(self, x: Array, y: Array) -> Array:
        """Give the (3, h, w) colour at (h, w) coordinates."""
        phase = np.float32((self.seed % 97) / 97)
        c, s = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        scale = np.float32(1 / self.period)
        u = (x * c + y * s) * scale + phase
        v = (y * c - x * s) * scale + phase
        # One pixel in units of the period: edges are blended over it.
        pixel = float(abs(v[-1, 0] - v[0, 0]) + abs(u[-1, 0] - u[0, 0])) / max(len(v) - 1, 1)
        return _RENDERERS[self.pattern](self, u, v, max(pixel, 1e-3))


def _solid(fabric: Fabric, u: Array, v: Array, pixel: float) -> Array:
    return np.broadcast_to(fabric.colours[0][:, None, None], (3, *u.shape))


def _striped(fabric: Fabric, u: Array, v: Array, pixel: float) -> Array:
    return _blend(fabric.colours[0], fabric.colours[1], _bars(v, 0.46, pixel))


def _checked(fabric: Fabric, u: Array, v: Array, pixel: float) -> Array:
    # A wide check, as in gingham: where the bars of both directions cross it is darkest.
    share = (_bars(u, 0.5, pixel) + _bars(v, 0.5, pixel)) * np.float32(0.5)
    return _blend(fabric.colours[0], fabric.colours[1], share)


def _dotted(fabric: Fabric, u: Array, v: Array, pixel: float) -> Array:
    row = np.floor(v)
    du = np.mod(u + row * np.float32(0.5), 1) - np.float32(0.5)
    dv = v - row - np.float32(0.5)
    distance = np.sqrt(du * du + dv * dv)
    return _blend(fabric.colours[0], fabric.colours[1], _inside(distance, 0.30, pixel))


def _floral(fabric: Fabric, u: Array, v: Array, pixel: float) -> Array:
    # Flowers are larger and rarer than dots, so that they stay flowers in a small picture.
    u, v = u * np.float32(0.72), v * np.float32(0.72)
    pixel *= 0.72
    row = np.floor(v)
    shifted = u + row * np.float32(0.5)
    cell = np.floor(shifted)
    hashed = np.mod(np.sin(cell * 12.9898 + row * 78.233 + fabric.seed % 61) * 437.585, 1)
    du = shifted - cell - np.float32(0.5) + (hashed - np.float32(0.5)) * np.float32(0.22)
    dv = v - row - np.float32(0.5) + (hashed * 7 % 1 - np.float32(0.5)) * np.float32(0.22)
    distance = np.sqrt(du * du + dv * dv)
    turn = np.arctan2(dv, du)
    petals = np.float32(0.27) + np.float32(0.10) * np.cos(5 * turn + hashed * 6)
    flower = _inside(distance - petals, 0.0, pixel)
    leaf = _inside(np.abs(np.sin(turn + hashed * 9)) * distance * 2.2 + distance, 0.55, pixel)
    out = _blend(fabric.colours[0], _LEAF, leaf * np.float32(0.8))  # (3, h, w)
    bloom = _blend(fabric.colours[1], fabric.colours[2], (hashed > 0.5).astype(np.float32))
    out = out + (bloom - out) * flower
    return out + (_CENTRE[:, None, None] - out) * _inside(distance, 0.10, pixel)


def _denim(fabric: Fabric, u: Array, v: Array, pixel: float) -> Array:
    # Twill: fine diagonal threads with flecks.
    rng = np.random.default_rng(fabric.seed)
    flecks = rng.standard_normal(u.shape, dtype=np.float32) * np.float32(0.055)
    twill = np.sin((u + v) * np.float32(60)) * np.float32(0.035)
    return fabric.colours[0][:, None, None] * (1 + flecks + twill)


_LEAF = colour("#5f8a5a")
_CENTRE = colour("#f0c75e")
_RENDERERS = {
    "solid": _solid,
    "striped": _striped,
    "dotted": _dotted,
    "floral": _floral,
    "checked": _checked,
    "denim": _denim,
}


def _inside(distance: Array, radius: float, pixel: float) -> Array:
    """Give 1 within `radius` and 0 outside, blended over about one pixel."""
    return np.clip((np.float32(radius) - distance) * np.float32(1 / pixel) + 0.5, 0, 1)


def _bars(v: Array, share: float, pixel: float) -> Array:
    return _inside(np.abs(np.mod(v, 1) - np.float32(0.5)), share / 2, pixel)


def _blend(a: Colour, b: Colour, share: Array) -> Array:
    return a[:, None, None] + (b - a)[:, None, None] * share


def luminance(c: Colour) -> float:
    """Give the brightness of a colour, 0..255."""
    return float(c @ np.array([0.299, 0.587, 0.114], np.float32))


def pick(rng: np.random.Generator, colours: Sequence[Colour]) -> Colour:
    """Choose a colour."""
    return colours[int(rng.integers(len(colours)))]


def sample_fabric(rng: np.random.Generator, pattern: str) -> Fabric:
    """Choose colours, scale and direction for a pattern; the ground tells nothing of the cut."""
    if pattern == "denim":
        ground = pick(rng, _DENIM)
        colours = (ground, mix(ground, _LIGHT[0], 0.5), ground)
    elif pattern == "floral":
        ground = pick(rng, (*_LIGHT, *_DARK, *_CLOTH))
        first, second = rng.permutation(len(_BLOSSOMS))[:2]
        colours = (ground, _BLOSSOMS[first], _BLOSSOMS[second])
    else:
        ground = pick(rng, _CLOTH)
        dark = luminance(ground) > 140
        figure = pick(rng, _DARK if dark else _LIGHT)
        colours = (ground, figure, figure)
        if rng.random() < 0.4 and pattern != "solid":
            colours = (figure, ground, ground)
    angles = {"striped": (0.0, 0.0, np.pi / 2, np.pi / 4), "checked": (0.0, np.pi / 4)}
    return Fabric(
        pattern,
        colours,
        # Three repeats across a trunk: still seen when the photo shrinks to 112 pixels.
        period=float(rng.uniform(0.058, 0.078)),
        angle=float(rng.choice(angles.get(pattern, (0.0,)))),
        seed=int(rng.integers(1 << 16)),
    )
