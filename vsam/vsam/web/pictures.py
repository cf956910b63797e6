"""Pictures inside the page's HTML, as data: URIs: nothing of a photo becomes a file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsam_heatmaps.landmarks import PARTS, REGIONS
from vsam_heatmaps.overlays import draw_skeleton, heat_layer

from ..attention_maps import as_one, shrink, stretch
from .poses import WHOLE, pose_maps

_SHOWN_SIDE = 800  # pixels of a photo in the page: twice what most screens give it
_THUMBNAIL_SIDE = 320
_LAYER_SIDE = 224  # maps are smooth: the browser enlarges them further
ALL = "all"
"""The key of the layer that shows all maps as one."""


@dataclass(frozen=True)
class Figure:
    """A photo with maps that the browser lays over it.

    Attributes:
        photo: JPEG, as a data: URI.
        size: Its width and height in pixels.
        layers: PNGs with transparency by key: `all`, and the number of each map from 0.
    """

    photo: str
    size: tuple[int, int]
    layers: dict[str, str]


def attention_figure(photo: NDArray[np.uint8], attention: NDArray[np.float32]) -> Figure:
    """Show where the model looked, each map stretched to its own range.

    Args:
        photo: (H, W, 3) uint8 RGB.
        attention: (R, S, S), over the squashed photo. Without maps the photo alone is shown.
    """
    maps: dict[str, NDArray[np.float32]] = {}
    if len(attention):
        maps[ALL] = as_one(attention)
    if len(attention) > 1:
        maps |= {str(number): stretch(one) for number, one in enumerate(attention)}
    return _figure(shrink(photo, _SHOWN_SIDE), maps)


def pose_figure(
    photo: NDArray[np.uint8], keypoints: NDArray[np.float32], regions: Sequence[str], maps: int
) -> Figure:
    """Show where the model should look: the skeleton, and the maps that it is trained towards.

    Args:
        photo: (H, W, 3) uint8 RGB.
        keypoints: (33, 4); see `vsam_heatmaps.poses.Poses`.
        regions: Names of the attention's maps, if it has some.
        maps: How many maps the attention has.
    """
    names = [regions[number] if number < len(regions) else WHOLE for number in range(maps)]
    each = pose_maps(keypoints, names or [WHOLE])
    known = any(name in PARTS or name in REGIONS for name in names)
    together = np.max(each, axis=0) if known else pose_maps(keypoints, [WHOLE])[0]
    layers = {ALL: together}
    if maps > 1:
        layers |= {str(number): one for number, one in enumerate(each)}
    return _figure(draw_skeleton(shrink(photo, _SHOWN_SIDE), keypoints), layers)


def thumbnail(photo: NDArray[np.uint8]) -> str:
    """Make a small JPEG of a photo, as a data: URI."""
    return _jpeg(shrink(photo, _THUMBNAIL_SIDE))


def data_uri(kind: str, data: bytes) -> str:
    """Write bytes as a URI that holds them.

    >>> data_uri("text/plain", b"hi")
    'data:text/plain;base64,aGk='
    """
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _figure(
    photo: NDArray[np.uint8], maps: dict[str, NDArray[np.float32]] | dict[str, NDArray[np.uint8]]
) -> Figure:
    height, width = photo.shape[:2]
    scale = min(1.0, _LAYER_SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    layers = {key: _png(heat_layer(one, size, strength=1.0)) for key, one in maps.items()}
    return Figure(_jpeg(photo), (width, height), layers)


def _jpeg(photo: NDArray[np.uint8]) -> str:
    import cv2

    done, data = cv2.imencode(".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    assert done
    return data_uri("image/jpeg", data.tobytes())


def _png(picture: NDArray[np.uint8]) -> str:
    import cv2

    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA))
    assert done
    return data_uri("image/png", data.tobytes())
