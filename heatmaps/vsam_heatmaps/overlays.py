"""Pictures that show at a glance whether poses and maps fit their photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .atomic import write_bytes
from .errors import UnreadablePhotoError, VsamError, expected
from .images import decode_photo, max_bytes
from .landmarks import LANDMARK_SETS
from .photos import Photos
from .shards import Record, Shards, Status

Image = NDArray[np.uint8]

_LEFT, _RIGHT, _MIDDLE = (255, 128, 0), (0, 170, 255), (255, 255, 255)


def heat_overlay(
    photo: Image, heat: NDArray[np.floating] | Image, *, strength: float = 0.65
) -> Image:
    """Lay a map over a photo: cold stays the photo, hot turns dark red over yellow to white.

    Args:
        photo: (H, W, 3) uint8 RGB.
        heat: (h, w) map over the whole photo; uint8 is divided by 255, floats are taken as 0..1.
        strength: Opacity of the hottest places, 0..1.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    height, width = photo.shape[:2]
    colours, opacity = _coloured(heat, (height, width), strength)
    grey = photo * 0.75  # a little darker, so that colours stand out on white studios
    return np.rint(grey * (1 - opacity) + colours * opacity).astype(np.uint8)


def heat_layer(
    heat: NDArray[np.floating] | Image, size: tuple[int, int], *, strength: float = 0.65
) -> Image:
    """Colour a map as `heat_overlay` does, for whoever lays it over the photo: a browser.

    Args:
        heat: (h, w) map; uint8 is divided by 255, floats are taken as 0..1.
        size: Height H and width W of the result; the map is interpolated bilinearly.
        strength: Opacity of the hottest places, 0..1.

    Returns:
        (H, W, 4) uint8 RGBA, not premultiplied.
    """
    colours, opacity = _coloured(heat, size, strength)
    return np.dstack([colours, np.rint(opacity * 255).astype(np.uint8)])


def _coloured(
    heat: NDArray[np.floating] | Image, size: tuple[int, int], strength: float
) -> tuple[Image, NDArray[np.floating]]:
    """Give a map's colours, (H, W, 3) uint8 RGB, and its opacity, (H, W, 1) 0..1."""
    import cv2

    height, width = size
    values = heat.astype(np.float32) / (255 if heat.dtype == np.uint8 else 1)
    values = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR).clip(0, 1)
    colours = cv2.applyColorMap((values * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    return np.asarray(colours, np.uint8), (np.sqrt(values) * strength)[
        ..., None
    ]  # the root lets flanks be seen


def draw_skeleton(
    photo: Image, keypoints: NDArray[np.float32], *, min_visibility: float = 0.5
) -> Image:
    """Draw one person's limbs or one garment's outline: the left orange, the right blue.

    Args:
        photo: (H, W, 3) uint8 RGB.
        keypoints: (K, 4) x, y, visibility, presence; see `Poses`. K tells which landmarks they are.
        min_visibility: Joints that are less visible are left out.

    Raises:
        VsamError: If no set has that many landmarks.
    """
    import cv2

    sets = {(len(one), 4): one for one in LANDMARK_SETS.values()}
    if keypoints.shape not in sets:
        shapes = " or ".join(f"{shape} ({one.name})" for shape, one in sets.items())
        raise expected("keypoints", f"of shape {shapes}", keypoints.shape)
    landmarks = sets[keypoints.shape]
    canvas = photo.copy()
    height, width = photo.shape[:2]
    shown = np.nan_to_num(keypoints[:, 2]) >= min_visibility
    # Shares of the photo have (0, 0) at the corner of a pixel, OpenCV at its centre.
    points = np.nan_to_num(keypoints[:, :2] * (width, height) - 0.5)
    points = points.clip(-10 * max(width, height), 10 * max(width, height)).round().astype(int)
    thickness = max(1, round(max(width, height) / 200))
    for pair in landmarks.skeleton:
        a, b = landmarks.indices(pair)
        if shown[a] and shown[b]:
            sides = {name.split("_")[0] for name in pair}
            colour = _MIDDLE if len(sides) > 1 else _LEFT if "left" in sides else _RIGHT
            start, end = points[a].tolist(), points[b].tolist()
            cv2.line(canvas, start, end, (0, 0, 0), thickness + 2, cv2.LINE_AA)
            cv2.line(canvas, start, end, colour, thickness, cv2.LINE_AA)
    for point in points[shown].tolist():
        cv2.circle(canvas, point, thickness + 1, (0, 0, 0), -1, cv2.LINE_AA)
        cv2.circle(canvas, point, thickness, (255, 255, 255), -1, cv2.LINE_AA)
    return canvas


def fit_tile(photo: Image, width: int, height: int, background: int = 255) -> Image:
    """Scale a photo into a tile without changing its proportions, centred.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    import cv2

    scale = min(width / photo.shape[1], height / photo.shape[0])
    size = (max(1, round(photo.shape[1] * scale)), max(1, round(photo.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(photo, size, interpolation=method)
    tile = np.full((height, width, 3), background, np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = small
    return tile


def caption(width: int, text: str) -> Image:
    """Set one line of text, cut to the width.

    Returns:
        (20, width, 3) uint8 RGB.
    """
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFont

    height = 20
    font = ImageFont.load_default(size=height * 0.62)
    # The built-in font knows Latin letters only; others become their code points.
    text = text.encode("latin-1", "backslashreplace").decode("latin-1").replace("\n", "\\n")
    if font.getlength(text) > width - 6:
        while text and font.getlength(text + "...") > width - 6:
            text = text[:-1]
        text += "..."
    strip = Pillow.new("RGB", (width, height), "white")
    ImageDraw.Draw(strip).text((3, height / 2), text, fill="#222222", font=font, anchor="lm")
    return np.asarray(strip)


def record_row(
    photo: Image,
    record: Record,
    *,
    min_visibility: float = 0.5,
    tile: tuple[int, int] = (190, 250),
) -> Image:
    """Draw one photo's row: the photo with its skeleton, then each map over the photo.

    Args:
        photo: (H, W, 3) uint8 RGB.
        record: The photo's record; single joints' maps are shown as one.
        min_visibility: Joints that are less visible are left out of the skeleton.
        tile: Width and height of a tile in pixels.
    """
    width, height = tile
    told = f"{record.id}  {record.status.name.lower()}"
    tiles = [(told, draw_skeleton(photo, record.keypoints, min_visibility=min_visibility))]
    shown = record.channels if len(record.channels) <= 8 else ()
    for name, heat in zip(shown, record.heatmaps, strict=False):
        tiles.append((f"{name}  max {heat.max() / 255:.2f}", heat_overlay(photo, heat)))
    tiles.append(("all channels", heat_overlay(photo, record.heatmaps.max(axis=0))))
    return np.hstack(
        [np.vstack([caption(width, text), fit_tile(image, width, height)]) for text, image in tiles]
    )


def view_records(shards: Shards, ids: Sequence[str], photos: Photos, out: Path) -> None:
    """Write a picture with one row a photo: skeleton and maps as overlays.

    Photos are read within the limits of the extraction, and joints are left out as it did.

    Args:
        shards: Where the records are.
        ids: Which photos to show.
        photos: Where they lie, see `list_photos`.
        out: The picture's file; PNG, JPEG or WebP by its extension.

    Raises:
        VsamError: If there is no id or an unknown one, a photo is missing or another one than was
            extracted, or the picture can't be written.
    """
    import hashlib

    if not ids:
        raise VsamError("Expected the id of at least one photo to show, but there is none.")

    rows, info = [], shards.info
    for id_ in ids:
        if id_ not in shards:
            raise VsamError(
                f"Expected {id_!r} to be in {shards.path}, but it is not; {_example(shards.ids)}."
            )
        record, position = shards[id_], photos.ids.find(id_)
        if position is None:
            raise VsamError(
                f"Expected {id_!r} to be among the photos, but it is not; {_example(photos.ids)}. "
                "Check --photos and --root."
            )
        found = photos[position]
        try:
            data = found.read(max_bytes=max_bytes(info.max_pixels))
            photo = decode_photo(data, max_pixels=info.max_pixels)
        except UnreadablePhotoError as error:
            if record.status is not Status.UNREADABLE:
                raise VsamError(f"Could not read {found}: {error}. Check --photos.") from error
            photo = np.full((250, 190, 3), 235, np.uint8)
        else:
            if hashlib.sha256(data).digest() != record.sha256:
                raise VsamError(
                    f"{found} is not the photo that was extracted under this id: its contents "
                    "differ. Check --photos, or extract again."
                )
        rows.append(record_row(photo, record, min_visibility=info.min_visibility))
    write_picture(out, np.vstack(rows))


def _example(ids: Sequence[str]) -> str:
    return f"the first there is {ids[0]!r}" if ids else "there is none"


def write_picture(out: Path, picture: Image) -> None:
    """Write an RGB picture atomically; the extension chooses the format.

    Raises:
        VsamError: If the extension is unknown, the picture is too large for the format, or the
            file can't be written.
    """
    import cv2

    if out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise VsamError(f"Expected `{out}` to end in .png, .jpg or .webp.")
    try:
        done, data = cv2.imencode(out.suffix.lower(), picture[..., ::-1])
    except cv2.error:  # the formats have limits: WebP 16383 pixels a side, JPEG 65500
        done = False
    if not done:
        height, width = picture.shape[:2]
        raise VsamError(
            f"Could not write {out}: {width} x {height} pixels are too many for this format. "
            "Show fewer photos, or write a .png."
        )
    write_bytes(out, data.tobytes())
