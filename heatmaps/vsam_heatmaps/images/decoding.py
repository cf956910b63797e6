"""Decode photos: what people have on disk becomes upright RGB."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UnreadablePhotoError
from ..paths import StrPath
from .headers import Header
from .kinds import read_header

MAX_PIXELS = 100_000_000
"""Photos with more pixels are refused before they are decoded: 300 MB as RGB are enough."""

_DAMAGED = "it is truncated, damaged or of an unsupported kind"

# The only parts of Pillow that run. Image.open would try some forty, of which one starts
# Ghostscript, and would refuse more than 178 megapixels whatever `max_pixels` is.
_PILLOW_FORMATS = {
    "PNG": "PngImagePlugin.PngImageFile",
    "GIF": "GifImagePlugin.GifImageFile",
    "BMP": "BmpImagePlugin.BmpImageFile",
    "TIFF": "TiffImagePlugin.TiffImageFile",
}
_BAND = 1 << 18  # pixels that are laid over white at once


def max_bytes(max_pixels: int = MAX_PIXELS) -> int:
    """Say how large a file can be that holds a photo: 16-bit RGBA, not compressed, and 64 MiB."""
    return 8 * max_pixels + (1 << 26)


MAX_BYTES = max_bytes()
"""Larger files are refused before they are read, unless more pixels are allowed."""


def read_photo(
    path: StrPath, *, max_pixels: int = MAX_PIXELS, least_side: int | None = None
) -> NDArray[np.uint8]:
    """Read and decode a photo; see `decode_photo`.

    Raises:
        UnreadablePhotoError: If it can't be read or decoded.
    """
    data = read_bytes(Path(path), max_bytes=max_bytes(max_pixels))
    return decode_photo(data, max_pixels=max_pixels, least_side=least_side)


def read_bytes(path: Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Read a photo's file.

    Args:
        path: A file, or a link to one.
        max_bytes: Larger files are refused, and so are those that grow while they are read.

    Raises:
        UnreadablePhotoError: If the system refuses, if it is too large, or if it is no file but a
            folder, a pipe, a socket or a device: to open some of them already waits, or acts.
    """
    try:
        _check_file(path.stat(), max_bytes)
        with open(path, "rb", opener=_open_at_once) as file:
            size = _check_file(os.fstat(file.fileno()), max_bytes)  # another may be there by now
            data = file.read(size + 1)
    except OSError as error:
        raise UnreadablePhotoError(error.strerror or str(error)) from error
    except MemoryError as error:
        raise UnreadablePhotoError("there is not enough memory to read it") from error
    if len(data) > size:
        raise UnreadablePhotoError("it grew while it was read: something is still writing it")
    return data


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # Windows has no such pipes


def _check_file(found: os.stat_result, max_bytes: int) -> int:
    """Give the size in bytes of what should be a file."""
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise UnreadablePhotoError("it is a pipe, a socket or a device, not a file")
    check_size(found.st_size, max_bytes)
    return found.st_size


def check_size(size: int, max_bytes: int) -> None:
    """Refuse what is too large for a photo.

    Raises:
        UnreadablePhotoError: If it has more bytes than `max_bytes`.
    """
    if size > max_bytes:
        raise UnreadablePhotoError(
            f"it has {size} bytes, more than the limit of {max_bytes} for a photo"
        )


def decode_photo(
    data: bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    least_side: int | None = None,
    least_shorter_side: int | None = None,
) -> NDArray[np.uint8]:
    """Decode a photo to upright 8-bit RGB: the image of `decode`, (H, W, 3) uint8."""
    return decode(
        data,
        max_pixels=max_pixels,
        least_side=least_side,
        least_shorter_side=least_shorter_side,
    ).image


def from_pillow(image: Any, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Turn a Pillow image into upright 8-bit RGB, (H, W, 3) uint8, as `decode` does with a file.

    Raises:
        UnreadablePhotoError: If it has no or too many pixels, levels of 32 bits, whose range nobody
            knows, or its file is damaged.
    """
    from PIL import ImageOps

    width, height = image.size
    if not 0 < width * height <= max_pixels:
        raise UnreadablePhotoError(
            f"it has {width} x {height} pixels, not 1 to the limit of {max_pixels}"
        )
    if image.mode in ("I", "F"):  # Pillow would cut off at 0 and 255, and all become white or black
        raise UnreadablePhotoError(
            f"its levels have 32 bits (mode {image.mode}), of which nobody knows how far they "
            "reach; scale them to 8 bits"
        )
    try:
        upright = ImageOps.exif_transpose(image)
        rgb = np.empty((upright.height, upright.width, 3), np.uint8)
        rgb[:] = _over_white(upright)
    except (OSError, ValueError, SyntaxError) as error:  # the file is read only now
        raise UnreadablePhotoError(_DAMAGED) from error
    return rgb


@dataclass(frozen=True)
class Decoded:
    """A decoded photo.

    Attributes:
        image: (H, W, 3) uint8, RGB, upright. After a reduced decode H and W are a half, a quarter
            or an eighth of the photo's, rounded up.
        size: Width and height of the whole upright photo in pixels.
    """

    image: NDArray[np.uint8]
    size: tuple[int, int]


def decode(
    data: bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    least_side: int | None = None,
    least_shorter_side: int | None = None,
) -> Decoded:
    """Decode a photo to upright 8-bit RGB, if wanted at a reduced scale.

    EXIF rotation is applied, transparency is laid over white, 16 bits become 8, grey and CMYK
    become RGB, and of an animation the first frame is taken.

    Args:
        data: The file's bytes; the format is known by content, not by name.
        max_pixels: Photos with more pixels are refused before they are decoded. What counts is the
            whole photo, also when the decode is reduced.
        least_side: A JPEG may be decoded at a half, a quarter or an eighth of its scale, the
            smallest at which its longer side is not below this many pixels: most of the time of a
            large one goes into pixels that a network never sees. None decodes in full, as does
            every other format.
        least_shorter_side: The same for its shorter side; with both, both hold.

    Raises:
        UnreadablePhotoError: If it is empty, truncated, too large or no image.
    """
    try:
        return _decode(data, max_pixels, least_side, least_shorter_side)
    except MemoryError as error:
        raise UnreadablePhotoError("there is not enough memory to decode it") from error


def _decode(
    data: bytes, max_pixels: int, least_side: int | None, least_shorter_side: int | None
) -> Decoded:
    if not data:
        raise UnreadablePhotoError("the file is empty")
    header = read_header(data)
    width, height = header.size
    if width * height > max_pixels:
        raise UnreadablePhotoError(
            f"it has {width} x {height} pixels, more than the limit of {max_pixels} (--max-pixels)"
        )
    if header.flaw:
        raise UnreadablePhotoError(header.flaw)
    if header.pillow:
        return _in_full(_turned(_decode_with_pillow(header), header.orientation))
    if header.alpha:
        return _in_full(_turned(_decode_over_white(header.data), header.orientation))
    if header.kind == "WebP":  # of which OpenCV turns still ones only
        return _in_full(_turned(_decode_as_stored(header.data), header.orientation))
    least = [
        (side, wanted)
        for side, wanted in (
            (max(header.size), least_side),
            (min(header.size), least_shorter_side),
        )
        if wanted is not None
    ]
    if header.kind != "JPEG" or not least:
        return _in_full(_decode_with_opencv(header.data))
    fits = (d for d in (8, 4, 2) if all(-(-side // d) >= wanted for side, wanted in least))
    divisor = next(fits, 1)
    image = _decode_with_opencv(header.data, divisor)
    return Decoded(image, _upright(header, image, divisor))


def _in_full(image: NDArray[np.uint8]) -> Decoded:
    return Decoded(image, (image.shape[1], image.shape[0]))


def _decode_with_opencv(data: bytes, divisor: int = 1) -> NDArray[np.uint8]:
    """Decode to upright RGB, (H, W, 3) uint8, at 1 / `divisor` of the scale (JPEG alone)."""
    import cv2

    # The flags named COLOR contain BGR, which can't be combined with RGB: these are the scale.
    reduced = {
        1: 0,
        2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
        4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
        8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    }[divisor]
    return _imdecode(data, cv2.IMREAD_COLOR_RGB | reduced)


def _decode_as_stored(data: bytes) -> NDArray[np.uint8]:
    """Decode to RGB with OpenCV, (H, W, 3) uint8, not turned."""
    import cv2

    return _imdecode(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)


def _imdecode(data: bytes, flags: int) -> NDArray[np.uint8]:
    import cv2

    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        with _opencv_errors_explained():
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    finally:
        cv2.utils.logging.setLogLevel(before)
    if image is None:
        raise UnreadablePhotoError(_DAMAGED)
    return np.asarray(image, np.uint8)


@contextlib.contextmanager
def _opencv_errors_explained() -> Iterator[None]:
    import cv2

    try:
        yield
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        raise UnreadablePhotoError(f"OpenCV can't decode it: {error.err}") from error


def _upright(header: Header, image: NDArray[np.uint8], divisor: int) -> tuple[int, int]:
    """Turn a JPEG's (width, height) as its decoded image was turned by EXIF."""
    width, height = (-(-side // divisor) for side in header.size)
    # A square can't tell: 4000 x 3999 is as square as 3999 x 4000 at an eighth.
    as_stored = image.shape[:2] == (height, width)
    turned = header.orientation >= 5 if width == height else not as_stored
    return (header.size[1], header.size[0]) if turned else header.size


def _turned(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn an image upright, by EXIF's orientation."""
    import cv2

    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    with _opencv_errors_explained():
        if orientation >= 5:
            image = np.asarray(cv2.transpose(image), np.uint8)
        return image if flip is None else np.asarray(cv2.flip(image, flip), np.uint8)


def _decode_over_white(data: bytes) -> NDArray[np.uint8]:
    """Decode a transparent WebP with OpenCV, and lay it over white; (H, W, 3) uint8, not turned.

    Pillow needs three times the memory: its decoder is made for animations.
    """
    import cv2
    from PIL import Image

    image = _imdecode(data, cv2.IMREAD_UNCHANGED)  # (H, W, 4), blue first
    rgb = np.empty((*image.shape[:2], 3), np.uint8)
    for rows in _bands(*image.shape[:2]):
        band = np.ascontiguousarray(image[rows, :, [2, 1, 0, 3]])
        rgb[rows] = _over_white(Image.fromarray(band))
    return rgb


def _decode_with_pillow(header: Header) -> NDArray[np.uint8]:
    """Decode an image with Pillow, and lay it over white; (H, W, 3) uint8, not turned.

    What OpenCV makes of transparency differs by format: of TIFF it multiplies colours by their
    opacity, of grey PNG it drops it.
    """
    module, name = _PILLOW_FORMATS[header.kind].split(".")
    plugin: Any = getattr(importlib.import_module(f"PIL.{module}"), name)
    try:
        with plugin(io.BytesIO(header.data)) as image:
            image.load()
            width, height = image.size  # a TIFF is turned by now
            left, top, right, bottom = header.box or (0, 0, width, height)
            rgb = np.full((height, width, 3), 255, np.uint8)
            for rows in _bands(bottom - top, right - left):
                band = image.crop((left, top + rows.start, right, top + rows.stop))
                rgb[top:bottom, left:right][rows] = _over_white(band)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever damage leads them to
        raise UnreadablePhotoError(_DAMAGED) from error
    return rgb


def _bands(height: int, width: int) -> list[slice]:
    """Cut an image into bands of rows: what is made of each on the way takes little memory."""
    rows = max(1, _BAND // width)
    return [slice(top, min(top + rows, height)) for top in range(0, height, rows)]


def _over_white(image: Any) -> NDArray[np.uint8]:
    """Lay a Pillow image over white: (H, W, 3) uint8."""
    from PIL import Image

    if image.mode.startswith("I;16"):  # Pillow would cut off at 255
        return np.asarray(np.asarray(image)[..., None] >> 8, np.uint8)  # (H, W) -> (H, W, 1)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(image.convert("RGB"))
