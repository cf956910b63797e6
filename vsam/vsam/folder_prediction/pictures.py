"""A report's pictures: a thumbnail and its attention, so small that hundreds fit into a page."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..attention_maps import as_one, shrink

if TYPE_CHECKING:
    from .lines import Line, Stamp

SIDE = 256
"""Longer side of a thumbnail in pixels."""

_QUALITY = 78
_HEAT_SCALE = 4  # the map is coarse: a quarter of the thumbnail's side shows all of it

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Picture:
    """A photo as the report shows it.

    Attributes:
        photo: The thumbnail, a WebP file.
        heat: The attention in colour, the more opaque the higher, to lie over it; a WebP file, or
            empty for a model without.
    """

    photo: bytes
    heat: bytes


def make_picture(photo: NDArray[np.uint8], attention: NDArray[np.float32]) -> Picture:
    """Make a picture.

    Args:
        photo: (H, W, 3) uint8 RGB.
        attention: (R, S, S) float32, over the squashed photo; several maps as one, see `as_one`.
    """
    import cv2

    small = shrink(photo, SIDE)
    if not len(attention):
        return Picture(_webp(small[..., ::-1]), b"")
    heat = as_one(attention)
    height, width = (max(1, side // _HEAT_SCALE) for side in small.shape[:2])
    heat = np.asarray(cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR))
    heat = heat.clip(0, 1)
    colours = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    opacity = np.rint(heat * 255).astype(np.uint8)
    return Picture(_webp(small[..., ::-1]), _webp(np.dstack([colours, opacity])))


def _webp(pixels: NDArray[np.uint8]) -> bytes:
    import cv2

    done, data = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
    assert done
    return data.tobytes()


class PictureFile:
    """Pictures in a file that only grows; what a killed process left half written is dropped.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, stamp_of: Callable[[str], Stamp | None]) -> dict[str, Picture]:
        """Give the pictures by id, the last of each, and cut off a torn end.

        Args:
            stamp_of: Gives the stamp of a photo's line; pictures of another state are left out.
        """
        found: dict[str, Picture] = {}
        if not self._path.exists():
            return found
        whole = 0
        with self._path.open("rb+") as file:
            for line in file:
                try:
                    values = json.loads(line) if line.endswith(b"\n") else {}
                    photo, heat = (base64.b64decode(values[key]) for key in ("photo", "heat"))
                    image, stamp = values["image"], values["stamp"]
                    found.pop(image, None)
                    if stamp_of(image) == (stamp and tuple(stamp)):
                        found[image] = Picture(photo, heat)
                except (ValueError, TypeError, KeyError):
                    break
                whole += len(line)
            file.truncate(whole)
        return found

    def append(self, pictured: Iterable[Line]) -> None:
        """Add the pictures of those lines that have one."""
        lines = [
            json.dumps(
                {
                    "image": line.image,
                    "stamp": line.stamp,
                    "photo": base64.b64encode(line.picture.photo).decode(),
                    "heat": base64.b64encode(line.picture.heat).decode(),
                }
            )
            for line in pictured
            if line.picture is not None
        ]
        if lines:
            with self._path.open("ab") as file:
                file.write(("\n".join(lines) + "\n").encode())


def evenly(items: Sequence[_Item], count: int) -> Iterator[_Item]:
    """Choose some of a sequence, at even distances, the first and the last among them.

    >>> list(evenly(range(11), 3)), list(evenly("ab", 3)), list(evenly("ab", 1))
    ([0, 5, 10], ['a', 'b'], ['a'])
    """
    if count >= len(items):
        return iter(items)
    return (items[number * (len(items) - 1) // max(1, count - 1)] for number in range(count))
