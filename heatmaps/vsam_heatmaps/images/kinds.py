"""Tell images by their first bytes, and read their headers before a decoder sees them."""

from __future__ import annotations

import re
import struct

from ..errors import UnreadablePhotoError
from .headers import Header, read_bmp, read_gif, read_jpeg, read_png, read_tiff, read_webp

MAX_SIDE = 1 << 20
"""Longest side in pixels; it is OpenCV's limit."""

_KINDS = (
    ("JPEG", re.compile(rb"\xff\xd8\xff"), read_jpeg),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), read_png),
    ("WebP", re.compile(rb"RIFF....WEBP", re.DOTALL), read_webp),
    ("GIF", re.compile(rb"GIF8[79]a"), read_gif),
    ("BMP", re.compile(rb"BM"), read_bmp),
    ("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]"), read_tiff),
)

# What else lies under the names of photos.
_OTHERS = (
    ("a HEIC image", re.compile(rb"....ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL)),
    ("an AVIF image", re.compile(rb"....ftypavi[fs]", re.DOTALL)),
    ("a video", re.compile(rb"....ftyp", re.DOTALL)),
    ("a JPEG XL image", re.compile(rb"\xff\x0a|\0\0\0\x0cJXL ")),
    ("a JPEG 2000 image", re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51")),
    ("a Photoshop document", re.compile(rb"8BPS")),
    ("a PDF document", re.compile(rb"%PDF")),
    ("an SVG drawing", re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<svg\b", re.DOTALL)),
    ("a web page", re.compile(rb"\s*<(!doctype )?html\b", re.IGNORECASE)),
    ("a ZIP archive", re.compile(rb"PK\x03\x04")),
)


def read_header(data: bytes) -> Header:
    """Read the header of an image, whose kind is known by content.

    Raises:
        UnreadablePhotoError: If it is of no supported kind, is damaged or truncated as far as can
            be told without decoding, or would take a decoder too much time or memory.
    """
    for kind, pattern, read in _KINDS:
        if pattern.match(data):
            try:
                header = read(data)
            except (struct.error, LookupError, OverflowError) as error:
                raise UnreadablePhotoError(
                    f"it is truncated, or its {kind} header is damaged"
                ) from error
            _check_size(header)
            return header
    for name, pattern in _OTHERS:
        if pattern.match(data[:1000]):
            kinds = ", ".join(kind for kind, *_ in _KINDS)
            raise UnreadablePhotoError(
                f"it is not an image of a kind that is read ({kinds}), but {name}"
            )
    raise UnreadablePhotoError("it is not an image, or its header is damaged")


def _check_size(header: Header) -> None:
    width, height = header.size
    if width <= 0 or height <= 0:
        raise UnreadablePhotoError(
            f"its {header.kind} header is damaged: {width} x {height} pixels"
        )
    if max(width, height) > MAX_SIDE:
        raise UnreadablePhotoError(
            f"it has {width} x {height} pixels; no side may have more than {MAX_SIDE}"
        )
