"""The latest pictures with their tags, in memory: small copies, as many as a page shows."""

from __future__ import annotations

import math
import secrets
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 640
"""Longer side in pixels at most: a sharp picture on a phone, some 60 KB."""

_QUALITY = 85
_CATEGORIES, _ATTRIBUTES, _LABEL = 5, 30, 100  # more would be no page; memory stays bounded


def small_jpeg(image: NDArray[np.uint8]) -> bytes:
    """Write a small copy of a photo; nothing but its pixels is kept.

    Args:
        image: (H, W, 3) uint8, upright RGB.
    """
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()


@dataclass(frozen=True)
class Picture:
    """A picture on the page.

    Attributes:
        name: Of no other picture, also after a restart.
        jpeg: What `small_jpeg` gives.
        categories: Labels and their values, some at most.
        attributes: Likewise.
    """

    name: str
    jpeg: bytes
    categories: tuple[tuple[str, float], ...]
    attributes: tuple[tuple[str, float], ...]

    def describe(self) -> dict[str, Any]:
        """Say it in JSON's values, but for the picture itself."""
        return {
            "name": self.name,
            **{
                field: [{"label": label, "value": value} for label, value in tags]
                for field, tags in (
                    ("categories", self.categories),
                    ("attributes", self.attributes),
                )
            },
        }


class Pictures:
    """The latest pictures; threads may share it.

    Args:
        count: How many are kept.
    """

    def __init__(self, count: int) -> None:
        self._kept: deque[Picture] = deque(maxlen=count)
        self._lock = threading.Lock()
        self._number, self._run = 0, secrets.token_hex(4)

    def add(
        self,
        jpeg: bytes,
        categories: Iterable[tuple[str, float]],
        attributes: Iterable[tuple[str, float]],
    ) -> None:
        """Show a picture with its tags; the oldest one goes.

        Raises:
            ValueError: If a value that is shown is no finite number.
        """
        tags = _some(categories, _CATEGORIES), _some(attributes, _ATTRIBUTES)
        with self._lock:
            self._number += 1
            self._kept.append(Picture(f"{self._run}-{self._number}", jpeg, *tags))

    def newest_first(self) -> list[Picture]:
        """List those that are kept."""
        with self._lock:
            return list(reversed(self._kept))

    def find(self, name: str) -> Picture | None:
        """Look a picture up."""
        return next((each for each in self.newest_first() if each.name == name), None)


def _some(tags: Iterable[tuple[str, float]], most: int) -> tuple[tuple[str, float], ...]:
    kept = [(label[:_LABEL], value) for label, value in islice(tags, most)]
    for label, value in kept:
        if not math.isfinite(value):
            raise ValueError(f"the value of {label!r} is {value}")
    return tuple(kept)
