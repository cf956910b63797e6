"""A report's pictures: photos with skeleton and maps, small enough to lie in the page."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field

from ..errors import UnreadablePhotoError
from ..images import decode_photo, max_bytes
from ..overlays import Image, draw_skeleton, fit_tile, heat_overlay
from ..photos import Photos
from ..shards import NO_HASH, Record, ShardInfo, Status

_THUMBNAIL = 320  # longer side in pixels: three sheets of 24 photos make a page of some 2 MB
_JPEG_QUALITY = 80


@dataclass(frozen=True)
class Tile:
    """A photo on a sheet.

    Attributes:
        id: Its id.
        told: What its record says, in a few words.
        pictures: What each picture shows, and the picture as a data URI; none if not drawn.
        not_drawn: Why there are none; empty without photos.
    """

    id: str
    told: str
    pictures: list[tuple[str, str]] = field(default_factory=list)
    not_drawn: str = ""


def make_tile(record: Record, info: ShardInfo, photos: Photos | None) -> Tile:
    """Draw a record's photo, if it is there and still the same; else tell why not."""
    told = _told(record)
    if photos is None:
        return Tile(record.id, told)
    position = photos.ids.find(record.id)
    if position is None:
        return Tile(record.id, told, not_drawn="not among the photos given")
    if record.sha256 == NO_HASH:
        return Tile(record.id, told, not_drawn="could not be opened when it was extracted")
    try:
        data = photos[position].read(max_bytes=max_bytes(info.max_pixels))
        if hashlib.sha256(data).digest() != record.sha256:
            return Tile(record.id, told, not_drawn="its contents changed since the extraction")
        # Large JPEGs are decoded at a reduced scale, from which a thumbnail is still sharp.
        photo = decode_photo(data, max_pixels=info.max_pixels, least_side=2 * _THUMBNAIL)
        photo = _thumbnail(photo)
    except UnreadablePhotoError as error:
        return Tile(record.id, told, not_drawn=f"can't be shown: {error}")
    if record.status is not Status.OK:
        return Tile(record.id, told, [("photo", _inline(photo))])
    pose = draw_skeleton(photo, record.keypoints, min_visibility=info.min_visibility)
    maps = heat_overlay(photo, record.heatmaps.max(axis=0))
    return Tile(record.id, told, [("pose", _inline(pose)), ("maps", _inline(maps))])


def _told(record: Record) -> str:
    if record.status is Status.UNREADABLE:
        return record.reason
    width, height = record.size
    size = f"{width} × {height}"
    if record.status is Status.NO_POSE:
        return size
    people = "1 person" if record.people == 1 else f"{record.people} people"
    return f"visibility {record.keypoints[:, 2].mean():.2f} · {people} · {size}"


def _thumbnail(photo: Image) -> Image:
    height, width = photo.shape[:2]
    scale = min(1.0, _THUMBNAIL / max(width, height))
    return fit_tile(photo, max(1, round(width * scale)), max(1, round(height * scale)))


def _inline(picture: Image) -> str:
    import cv2

    done, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    assert done
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
