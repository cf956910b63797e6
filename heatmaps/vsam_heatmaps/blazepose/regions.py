"""The square, rotated region of a photo that the landmark network looks at."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

_ROOM = 1.25  # how much larger a region is than the circle around the person


@dataclass(frozen=True)
class Region:
    """A square around a person's hips, turned so that the person stands upright in it.

    Attributes:
        x, y: Centre, in pixels of the photo, (0, 0) at the outer corner of the top-left pixel.
        side: Length of a side in pixels.
        angle: Rotation in radians, clockwise as one sees the photo; 0 for a person who stands.
    """

    x: float
    y: float
    side: float
    angle: float = 0.0

    @classmethod
    def around(cls, hip_centre: NDArray[np.floating], scale_point: NDArray[np.floating]) -> Region:
        """Make the region from the two alignment points that both networks predict.

        Args:
            hip_centre: (2,) the middle of the hips, (x, y) in pixels.
            scale_point: (2,) a point straight above it, as far away as a circle around the whole
                person reaches.
        """
        dx, dy = (float(d) for d in scale_point - hip_centre)
        return cls(
            x=float(hip_centre[0]),
            y=float(hip_centre[1]),
            side=2 * _ROOM * math.hypot(dx, dy),
            angle=_half_turn(math.pi / 2 - math.atan2(-dy, dx)),
        )

    @property
    def radius(self) -> float:
        """Distance from hip centre to scale point in pixels: the inverse of `around`."""
        return self.side / (2 * _ROOM)

    def moved(self, dx: float, dy: float) -> Region:
        """Move it by pixels: the same region of a photo that was cropped or padded."""
        return replace(self, x=self.x + dx, y=self.y + dy)

    def to_photo(self, points: NDArray[np.floating]) -> NDArray[np.floating]:
        """Map points from the region to the photo.

        Args:
            points: (..., 2) (x, y) as shares of the region's side, (0, 0) at its top-left corner.

        Returns:
            (..., 2) pixels of the photo, (0, 0) at the outer corner of the top-left pixel.
        """
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        turn = np.array([[cos, sin], [-sin, cos]], points.dtype)
        centre = np.array([self.x, self.y], points.dtype)
        return (points - points.dtype.type(0.5)) @ turn * points.dtype.type(self.side) + centre

    def from_photo(self, points: NDArray[np.floating]) -> NDArray[np.floating]:
        """Map points from the photo to the region: the inverse of `to_photo`."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        turn = np.array([[cos, -sin], [sin, cos]], points.dtype)
        centre = np.array([self.x, self.y], points.dtype)
        return (points - centre) @ turn / points.dtype.type(self.side) + points.dtype.type(0.5)

    def cut(self, photo: NDArray[np.uint8], size: int, *, repeat_border: bool) -> NDArray[np.uint8]:
        """Cut the region out of a photo and scale it, with bilinear interpolation.

        Args:
            photo: (H, W, 3) uint8.
            size: Height and width of the result in pixels.
            repeat_border: What lies outside the photo repeats its border, or else is black.

        Returns:
            (size, size, 3) uint8.
        """
        import cv2

        corners = np.array([[0, 1], [0, 0], [1, 0]], np.float32)  # bottom-left, top-left, top-right
        # As MediaPipe does it: the corner of the region falls on the centre of a corner pixel.
        # Half a pixel less would be exact, but the networks' results would not be MediaPipe's.
        matrix = cv2.getAffineTransform(self.to_photo(corners), corners * np.float32(size))
        border = cv2.BORDER_REPLICATE if repeat_border else cv2.BORDER_CONSTANT
        return np.asarray(cv2.warpAffine(photo, matrix, (size, size), borderMode=border), np.uint8)


def _half_turn(angle: float) -> float:
    """Bring an angle to -π..π."""
    return angle - 2 * math.pi * math.floor((angle + math.pi) / (2 * math.pi))
