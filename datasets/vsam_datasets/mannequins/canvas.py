"""A canvas that fills smooth, softly shaded shapes, each within its bounding box.

It also notes of what each pixel is a part, so that a drawing comes with its true mask.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from .shapes import Points, band, shifted

Colour = NDArray[np.float32]
"""(3,) float32: red, green, blue, 0..255."""

Paint = Colour | Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
"""One colour, or a function of two (h, w) coordinates in a frame's units that gives (3, h, w)."""

Field = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
"""A function of two (h, w) coordinates in a frame's units that gives an (h, w) factor."""


class Part(IntEnum):
    """What a pixel of a mask shows; the numbers are those of the files."""

    BACKGROUND = 0
    PERSON = 1
    """Skin, hair, and all that is worn but the garment that makes the category."""
    GARMENT = 2
    """The garment that makes the category, with its collar, hood and buttons."""
    BAG = 3
    """What is carried."""


_SUBPIXEL_BITS = 5
# Where the light comes from: upper left, as photos of rooms mostly have it.
_LIGHT = (-0.55, -0.40)
# Slope towards the light of a picture: Sobel's two kernels in one.
_SOBEL_X = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32)
_SLOPE = -_LIGHT[0] * _SOBEL_X - _LIGHT[1] * _SOBEL_X.T


def colour(code: str) -> Colour:
    """Read a colour written as in CSS.

    >>> colour("#ff8000").tolist()
    [255.0, 128.0, 0.0]
    """
    return np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)], np.float32)


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Blend two colours; `share` is that of `b`."""
    return (a + (b - a) * np.float32(share)).astype(np.float32)


@dataclass(frozen=True)
class Frame:
    """A similarity that maps local units to pixels.

    Attributes:
        scale: Pixels per local unit.
        angle: Clockwise rotation, as seen in the photo, in radians.
        origin: Where the local origin lies, in pixels, (0, 0) being the centre of the top-left
            pixel.
    """

    scale: float
    angle: float = 0.0
    origin: tuple[float, float] = (0.0, 0.0)

    def to_pixels(self, points: Points) -> Points:
        """Map (N, 2) local points to pixels."""
        return points @ self._linear + self.origin

    @cached_property
    def _linear(self) -> NDArray[np.float64]:
        c, s = math.cos(self.angle) * self.scale, math.sin(self.angle) * self.scale
        return np.array([[c, s], [-s, c]])

    def grid(self, left: int, top: int, width: int, height: int) -> tuple[NDArray, NDArray]:
        """Give the local x and y, two (height, width) float32 arrays, of a box of pixels."""
        c, s = math.cos(self.angle) / self.scale, math.sin(self.angle) / self.scale
        x = np.arange(left, left + width, dtype=np.float32)[None, :] - np.float32(self.origin[0])
        y = np.arange(top, top + height, dtype=np.float32)[:, None] - np.float32(self.origin[1])
        c32, s32 = np.float32(c), np.float32(s)
        return x * c32 + y * s32, y * c32 - x * s32


class Canvas:
    """An RGB picture under construction.

    Attributes:
        pixels: (3, H, W) float32, 0..255. Colour comes first because blending a plane with an
            alpha mask is several times faster than blending triples.
        mask: (H, W) uint8, the `Part` that each pixel shows: that of the last shape which covers at
            least half of it. Shadows and faint paint leave it as it is.
    """

    def __init__(self, width: int, height: int) -> None:
        self.pixels: NDArray[np.float32] = np.zeros((3, height, width), np.float32)
        self.mask: NDArray[np.uint8] = np.full((height, width), Part.BACKGROUND, np.uint8)
        self._part = Part.BACKGROUND

    @contextlib.contextmanager
    def drawing(self, part: Part) -> Iterator[None]:
        """Mark what is filled meanwhile as this part; an inner call goes before an outer one."""
        before, self._part = self._part, part
        try:
            yield
        finally:
            self._part = before

    def fill(
        self,
        frame: Frame,
        outlines: Points | Sequence[Points],
        paint: Paint,
        *,
        relief: float = 0.0,
        roundness: float = 0.02,
        holes: Sequence[Points] = (),
        within: Sequence[Points] = (),
        joined_to: Sequence[Points] = (),
        opacity: float = 1.0,
        field: Field | None = None,
    ) -> None:
        """Fill the union of some outlines.

        Args:
            frame: The frame of outlines and paint.
            outlines: One (N, 2) polygon or several, whose union is filled.
            paint: A colour or a fabric.
            relief: Strength of the shading, 0 for flat; 1 looks like a solid, round body.
            roundness: How far the shading reaches in from the edge, in the frame's units.
            holes: Polygons that stay empty.
            within: If given, only their union is filled.
            joined_to: Polygons towards which the shading shows no edge, as a sleeve has none
                towards the shoulder.
            opacity: 0..1.
            field: A further factor of brightness, such as folds.
        """
        polygons = [outlines] if isinstance(outlines, np.ndarray) else list(outlines)
        drawn = self._mask(frame, polygons, holes, within)
        if drawn is None:
            return
        mask, left, top = drawn
        height, width = mask.shape
        alpha = mask.astype(np.float32) * np.float32(opacity / 255)
        x = y = np.zeros((0, 0), np.float32)
        if callable(paint) or field is not None:
            x, y = frame.grid(left, top, width, height)
        coat = paint(x, y) if callable(paint) else paint[:, None, None]
        if relief or field is not None:
            shade = np.ones((height, width), np.float32)
            if relief:
                for polygon in joined_to:
                    _fill_polygon(mask, frame, polygon, left, top)
                shade = _relief(mask, max(roundness * frame.scale, 1.0), relief)
            if field is not None:
                shade = shade * field(x, y)
            coat = coat * shade  # (3, h, w)
        region = self.pixels[:, top : top + height, left : left + width]
        change = coat - region
        change *= alpha
        region += change
        self.mask[top : top + height, left : left + width][alpha >= 0.5] = self._part

    def shadow(
        self,
        frame: Frame,
        outlines: Points | Sequence[Points],
        *,
        strength: float,
        blur: float,
        offset: tuple[float, float] = (0.0, 0.0),
        within: Sequence[Points] = (),
    ) -> None:
        """Darken what lies under the union of some outlines, with a soft edge.

        Args:
            frame: The frame of the outlines.
            outlines: One (N, 2) polygon or several.
            strength: Share of the light that is taken, 0..1.
            blur: Standard deviation of the edge, in the frame's units.
            offset: Shift of the shadow, in the frame's units.
            within: If given, the shadow falls only inside their union.
        """
        polygons = [outlines] if isinstance(outlines, np.ndarray) else list(outlines)
        moved = [shifted(polygon, *offset) for polygon in polygons]
        sigma = blur * frame.scale
        drawn = self._mask(frame, moved, (), (), margin=math.ceil(2.5 * sigma) + 1)
        if drawn is None:
            return
        mask, left, top = drawn
        height, width = mask.shape
        soft = _blur(mask, sigma).astype(np.float32) * np.float32(strength / 255)
        if within:
            stencil = np.zeros_like(mask)
            for polygon in within:
                _fill_polygon(stencil, frame, polygon, left, top)
            soft *= stencil * np.float32(1 / 255)
        self.pixels[:, top : top + height, left : left + width] *= 1 - soft

    def stroke(
        self,
        frame: Frame,
        line: Points,
        paint: Colour,
        *,
        thickness: float,
        opacity: float = 1.0,
        relief: float = 0.0,
    ) -> None:
        """Draw a line of constant thickness (in the frame's units) with flat ends."""
        strip = band(line, thickness / 2)
        self.fill(frame, strip, paint, opacity=opacity, relief=relief, roundness=thickness * 0.4)

    def _mask(
        self,
        frame: Frame,
        polygons: Sequence[Points],
        holes: Sequence[Points],
        within: Sequence[Points],
        margin: int = 2,
    ) -> tuple[NDArray[np.uint8], int, int] | None:
        """Rasterise a union; give its (h, w) mask and its left and top, None if outside."""
        height, width = self.pixels.shape[1:]
        corners = frame.to_pixels(polygons[0] if len(polygons) == 1 else np.concatenate(polygons))
        (low_x, low_y), (high_x, high_y) = corners.min(axis=0), corners.max(axis=0)
        left, top = max(math.floor(low_x) - margin, 0), max(math.floor(low_y) - margin, 0)
        right = min(math.ceil(high_x) + margin + 1, width)
        bottom = min(math.ceil(high_y) + margin + 1, height)
        if right <= left or bottom <= top:
            return None
        mask = np.zeros((bottom - top, right - left), np.uint8)
        fixed = _fixed_point(corners, left, top)
        start = 0
        for polygon in polygons:
            _fill_fixed(mask, fixed[start : start + len(polygon)])
            start += len(polygon)
        if within:
            stencil = np.zeros_like(mask)
            for polygon in within:
                _fill_polygon(stencil, frame, polygon, left, top)
            mask = np.minimum(mask, stencil)
        for polygon in holes:
            _fill_polygon(mask, frame, polygon, left, top, value=0)
        return mask, left, top


def _fixed_point(corners: Points, left: int, top: int) -> NDArray[np.int32]:
    return np.rint((corners - (left, top)) * (1 << _SUBPIXEL_BITS)).astype(np.int32)


def _fill_fixed(mask: NDArray[np.uint8], corners: NDArray[np.int32], value: int = 255) -> None:
    cv2.fillPoly(mask, [corners], value, lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)


def _fill_polygon(
    mask: NDArray[np.uint8], frame: Frame, polygon: Points, left: int, top: int, value: int = 255
) -> None:
    _fill_fixed(mask, _fixed_point(frame.to_pixels(polygon), left, top), value)


def _blur(mask: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    """Blur with two box filters, which cost the same for every sigma."""
    # Two boxes of side w have the variance (w² − 1) / 6.
    side = max(round(math.sqrt(6 * sigma * sigma + 1)) | 1, 3)
    once = cv2.blur(mask, (side, side), borderType=cv2.BORDER_CONSTANT)
    return np.asarray(cv2.blur(once, (side, side), borderType=cv2.BORDER_CONSTANT))


def _relief(mask: NDArray[np.uint8], reach: float, strength: float) -> NDArray[np.float32]:
    """Shade a mask like a cushion: dark towards its edge, bright towards the light.

    Args:
        mask: (h, w) uint8.
        reach: How far the slope reaches inwards, in pixels.
        strength: 0 for flat, 1 for a solid body.

    Returns:
        (h, w) float32, about 0.6..1.15.
    """
    soft = _blur(mask, reach).astype(np.float32) * np.float32(1 / 255)
    # The blurred mask is about 0.5 at the edge and 1 deep inside.
    gap = np.minimum(2 - soft * 2, 1)
    facing = cv2.filter2D(soft, cv2.CV_32F, _SLOPE * (reach / 4 * 0.62 * strength))
    gap *= gap
    gap *= np.float32(-0.20 * strength)
    gap += facing
    gap += 1
    return gap
