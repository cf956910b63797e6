"""Find photos in folders and decode them: what people have on disk becomes upright RGB."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import UnreadablePhotoError, VsamError

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
)
"""File name extensions, in lower case, of what counts as a photo in a folder."""

MAX_PIXELS = 100_000_000
"""Photos with more pixels are refused before they are decoded: 300 MB as RGB are enough."""

# EXIF orientation (TIFF 6.0, tag 274) -> quarter turns anticlockwise, after mirroring left-right.
_ORIENTATION_TAG = 274
_TURNS = {1: (False, 0), 2: (True, 0), 3: (False, 2), 4: (True, 2)}
_TURNS |= {5: (True, 1), 6: (False, 3), 7: (True, 3), 8: (False, 1)}


@dataclass(frozen=True)
class Photo:
    """A photo on disk.

    Attributes:
        id: Its path relative to the root of the photos, with `/` between folders.
        path: Where it lies.
    """

    id: str
    path: Path


def list_photos(inputs: Iterable[Path], *, root: Path | None = None) -> list[Photo]:
    """List the photos in folders (recursively) and the given files, sorted by id.

    Hidden files and folders are left out; links are followed, each folder is visited once.

    Args:
        inputs: Folders and files.
        root: The folder that ids are relative to. By default each folder's photos are relative to
            that folder, and a file's id is its name.

    Raises:
        VsamError: If an input is missing, isn't below `root`, if there is no photo in it, or if
            two photos get the same id.
    """
    photos: dict[str, Photo] = {}
    for given in inputs:
        if not given.exists():
            raise VsamError(f"Expected `{given}` to be a folder or a photo, but it is not there.")
        base = root or (given if given.is_dir() else given.parent)
        found = 0
        for path in _walk(given, set()) if given.is_dir() else [given]:
            photo = Photo(_relative_id(path, base), path)
            other = photos.setdefault(photo.id, photo)
            if other.path != path and not other.path.samefile(path):
                raise VsamError(
                    f"Two photos have the id {photo.id!r}: {other.path} and {path}. "
                    "Name a folder above both with --root."
                )
            found += 1
        if not found:
            raise VsamError(
                f"Expected `{given}` to hold photos, but it holds none. "
                f"Photos end in {' '.join(sorted(EXTENSIONS))}."
            )
    return [photos[id_] for id_ in sorted(photos)]


def _walk(folder: Path, visited: set[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in visited:
        return
    visited.add(real)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise VsamError(f"Could not list {folder}: {error.strerror}.") from error
    entries = [entry for entry in entries if not entry.name.startswith(".")]
    folders = [entry for entry in entries if entry.is_dir()]
    for entry in entries:
        # A name without a file behind it (a broken link) is listed: it is reported, not lost.
        if Path(entry.name).suffix.lower() in EXTENSIONS and not entry.is_dir():
            yield Path(entry.path)
    # Links come last, so that a folder reached both ways keeps its own name.
    for entry in sorted(folders, key=lambda entry: entry.is_symlink()):
        yield from _walk(Path(entry.path), visited)


def _relative_id(path: Path, base: Path) -> str:
    # Not resolve(): a link keeps the name that the user sees.
    above, below = Path(os.path.abspath(base)), Path(os.path.abspath(path))  # noqa: PTH100
    if below.is_relative_to(above):
        name = os.fsencode(below.relative_to(above).as_posix())
        return name.decode("utf-8", "backslashreplace")  # what is no UTF-8 can't be stored as text
    raise VsamError(f"Expected `{path}` to lie below the root {base}, but it doesn't.")


def read_photo(path: Path, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read and decode a photo; see `decode_photo`.

    Raises:
        UnreadablePhotoError: If it can't be read or decoded.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadablePhotoError(error.strerror or str(error)) from error
    return decode_photo(data, max_pixels=max_pixels)


def decode_photo(data: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode a photo to upright 8-bit RGB.

    EXIF rotation is applied, transparency is laid over white, 16 bits become 8, grey and CMYK
    become RGB, and of an animation the first frame is taken.

    Args:
        data: The file's bytes; the format is known by content, not by name.
        max_pixels: Photos with more pixels are refused before they are decoded.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        UnreadablePhotoError: If it is empty, truncated, too large or no image.
    """
    import cv2
    from PIL import Image

    if not data:
        raise UnreadablePhotoError("the file is empty")
    try:
        with Image.open(io.BytesIO(data)) as header:
            width, height = header.size
            alpha = "A" in header.getbands() or "transparency" in header.info
            orientation = header.getexif().get(_ORIENTATION_TAG, 1) if alpha else 1
    except Image.DecompressionBombError as error:
        raise UnreadablePhotoError("it has more than 178 megapixels") from error
    except Exception as error:  # Pillow's plugins raise whatever a damaged header leads them to
        raise UnreadablePhotoError("it is not an image, or its header is damaged") from error
    if width * height > max_pixels:
        raise UnreadablePhotoError(
            f"it has {width} x {height} pixels, more than the limit of {max_pixels} (--max-pixels)"
        )
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    flags = cv2.IMREAD_UNCHANGED if alpha else cv2.IMREAD_COLOR_RGB
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise UnreadablePhotoError(f"OpenCV can't decode it: {error.err}") from error
    if image is None:
        raise UnreadablePhotoError("it is truncated, damaged or of an unsupported kind")
    return _flatten(image, orientation) if alpha else np.asarray(image, np.uint8)


def _flatten(image: NDArray[Any], orientation: int) -> NDArray[np.uint8]:
    """Lay an undecorated BGRA image of any depth over white, and turn it upright."""
    import cv2

    scale = {np.uint8: 255, np.uint16: 65535}.get(image.dtype.type, 1)
    pixels = image.astype(np.float32) / scale
    if pixels.ndim == 2:
        pixels = pixels[..., None]  # (H, W) -> (H, W, 1)
    if pixels.shape[2] in (2, 4):
        opacity = pixels[..., -1:]
        pixels = pixels[..., :-1] * opacity + (1 - opacity)
    if pixels.shape[2] == 1:
        pixels = pixels.repeat(3, axis=2)  # (H, W, 1) -> (H, W, 3)
    rgb = cv2.cvtColor(np.rint(pixels * 255).astype(np.uint8), cv2.COLOR_BGR2RGB)
    mirrored, turns = _TURNS.get(orientation, (False, 0))
    return np.ascontiguousarray(np.rot90(rgb[:, ::-1] if mirrored else rgb, turns))
