"""Decode photos: what people have on disk becomes upright RGB."""

from __future__ import annotations

import contextlib
import io
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import UnreadablePhotoError

MAX_PIXELS = 100_000_000
"""Photos with more pixels are refused before they are decoded: 300 MB as RGB are enough."""

# The frame headers of JPEGs that OpenCV decodes (baseline, extended, progressive), and what may
# stand before: tables, restart interval, application data, comments.
_JPEG_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_JPEG_SEGMENTS = frozenset({0xC4, 0xCC, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE})
_EXIF_ORIENTATION = 0x0112

_DAMAGED = "it is truncated, damaged or of an unsupported kind"


def read_photo(
    path: Path, *, max_pixels: int = MAX_PIXELS, least_side: int | None = None
) -> NDArray[np.uint8]:
    """Read and decode a photo; see `decode_photo`.

    Raises:
        UnreadablePhotoError: If it can't be read or decoded.
    """
    return decode_photo(read_bytes(path), max_pixels=max_pixels, least_side=least_side)


def read_bytes(path: Path) -> bytes:
    """Read a photo's file; what the system refuses becomes an `UnreadablePhotoError`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadablePhotoError(error.strerror or str(error)) from error


def decode_photo(
    data: bytes, *, max_pixels: int = MAX_PIXELS, least_side: int | None = None
) -> NDArray[np.uint8]:
    """Decode a photo to upright 8-bit RGB: the image of `decode`, (H, W, 3) uint8."""
    return decode(data, max_pixels=max_pixels, least_side=least_side).image


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


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, least_side: int | None = None) -> Decoded:
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

    Raises:
        UnreadablePhotoError: If it is empty, truncated, too large or no image.
    """
    if not data:
        raise UnreadablePhotoError("the file is empty")
    jpeg = _jpeg_size(data)
    (width, height), transparent = (jpeg, False) if jpeg else _size_and_transparency(data)
    if width * height > max_pixels:
        raise UnreadablePhotoError(
            f"it has {width} x {height} pixels, more than the limit of {max_pixels} (--max-pixels)"
        )
    if transparent:
        return _in_full(_decode_over_white(data))
    if jpeg is None or least_side is None:
        return _in_full(_decode_with_opencv(data))
    divisor = next((d for d in (8, 4, 2) if -(-max(jpeg) // d) >= least_side), 1)
    image = _decode_with_opencv(data, divisor)
    return Decoded(image, _upright(jpeg, image, divisor, data))


def _in_full(image: NDArray[np.uint8]) -> Decoded:
    return Decoded(image, (image.shape[1], image.shape[0]))


def _size_and_transparency(data: bytes) -> tuple[tuple[int, int], bool]:
    """Read an image's (width, height) before rotation, and whether it may be transparent."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as header:
            transparent = "A" in header.getbands() or "transparency" in header.info
            # Pillow cuts 16-bit grey off at 255: OpenCV then, without the one transparent grey.
            return header.size, transparent and not header.mode.startswith("I")
    except Image.DecompressionBombError as error:
        raise UnreadablePhotoError("it has more than 178 megapixels") from error
    except Exception as error:  # Pillow's plugins raise whatever a damaged header leads them to
        raise UnreadablePhotoError("it is not an image, or its header is damaged") from error


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Read (width, height) before rotation from a JPEG's frame header (ITU T.81, annex B).

    Pillow would do it as well, but takes a tenth of the time in which a small photo is decoded.

    Returns:
        None for what is no JPEG, and for one that is damaged or uncommon in any way.
    """
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    position = 2
    with contextlib.suppress(IndexError, struct.error):  # the data ends
        while data[position] == 0xFF:
            marker = data[position + 1]
            length, depth, height, width, channels = struct.unpack_from(
                ">HBHHB", data, position + 2
            )
            if marker in _JPEG_FRAMES:
                usual = depth == 8 and channels in (1, 3, 4) and width and height
                return (width, height) if usual else None
            if marker not in _JPEG_SEGMENTS:
                return None
            position += 2 + length
    return None


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
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | reduced)
    except cv2.error as error:
        raise UnreadablePhotoError(f"OpenCV can't decode it: {error.err}") from error
    if image is None:
        raise UnreadablePhotoError(_DAMAGED)
    return np.asarray(image, np.uint8)


def _upright(
    size: tuple[int, int], image: NDArray[np.uint8], divisor: int, data: bytes
) -> tuple[int, int]:
    """Turn a JPEG's (width, height) as its decoded image was turned by EXIF."""
    width, height = (-(-side // divisor) for side in size)
    if width != height:
        turned = image.shape[:2] != (height, width)
    else:  # the image can't tell: 4000 x 3999 is as square as 3999 x 4000 at an eighth
        turned = size[0] != size[1] and _exif_orientation(data) >= 5
    return (size[1], size[0]) if turned else size


def _exif_orientation(data: bytes) -> int:
    from PIL import Image

    with contextlib.suppress(Exception):  # damaged EXIF counts as none, as with OpenCV
        return int(Image.open(io.BytesIO(data)).getexif().get(_EXIF_ORIENTATION, 1))
    return 1


def _decode_over_white(data: bytes) -> NDArray[np.uint8]:
    """Decode an image with transparency, lay it over white and turn it upright.

    With Pillow: what OpenCV makes of transparency differs by format. Of TIFF it multiplies colours
    by their opacity, of grey PNG it drops it, and EXIF rotation it leaves out for some.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image).convert("RGBA")
    except Exception as error:  # as above
        raise UnreadablePhotoError(_DAMAGED) from error
    white = Image.new("RGBA", upright.size, "white")
    return np.array(Image.alpha_composite(white, upright).convert("RGB"))
