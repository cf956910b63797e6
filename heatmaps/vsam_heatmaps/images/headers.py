"""Read the headers of images: what they are, how large, and what of them a decoder may see.

A file of some kilobytes can keep a decoder busy for hours or make it fill the memory, and a header
can claim any size. So headers are read here first, without a decoder, in microseconds. What no
decoder handles within bounds is refused or left out; `heatmaps/README.md` lists it.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import UnreadablePhotoError
from .tiff_headers import exif_orientation, read_directory

MAX_SCANS = 100
"""Most scans of a JPEG; real ones have some ten. An empty one takes up to 0.5 ns a pixel."""

# Segments, chunks and blocks, each of which costs the loops below up to 1 µs. PNG writers cut
# 8 KB chunks, GIFs consist of blocks of 255 bytes at most.
_MAX_PARTS = 1 << 18

# OpenCV unpacks all of a PNG's compressed data, however few are needed: 1 MB can become 1 GB, for
# which it takes 2 s. Pillow, a few per cent slower, unpacks what the pixels need.
_PNG_FOR_OPENCV = 1 << 19

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Header:
    """What an image's header says.

    Attributes:
        kind: The format's name.
        size: Width and height before rotation in pixels.
        data: The file, without what a decoder need not see and might choke on.
        orientation: EXIF's, 1 to 8; 1 is upright. Always 1 for TIFF, which decoders turn upright.
        pillow: Whether Pillow must decode it, because OpenCV does it wrongly or without bounds.
        alpha: Whether OpenCV must decode its opacity, too.
        box: Left, top, right and bottom of the part that has pixels, if that isn't all of it.
        flaw: Why it can't be decoded, should its size be acceptable; else empty.
    """

    kind: str
    size: tuple[int, int]
    data: bytes
    orientation: int = 1
    pillow: bool = False
    alpha: bool = False
    box: Box | None = None
    flaw: str = ""


# A marker of JPEG and its code; not those that stand alone, within the data of a scan.
_JPEG_MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")
# Of the frames' headers the first two are baseline ones.
_JPEG_FRAMES, _PROGRESSIVE = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}, 0xC2
_EOI, _SOS, _APP1 = 0xD9, 0xDA, 0xE1


def read_jpeg(data: bytes) -> Header:
    """Read a JPEG's segments up to its first scan (ITU T.81, annex B), and count the scans."""
    size, channels, frame, orientation, position = None, 0, 0, 0, 2
    for _ in range(_MAX_PARTS):
        found = _JPEG_MARKER.search(data, position)
        if not found:
            break
        marker, position = found[1][0], found.end()
        [length] = struct.unpack_from(">H", data, position)
        if marker in _JPEG_FRAMES:
            depth, height, width, channels = struct.unpack_from(">BHHB", data, position + 2)
            if marker > _PROGRESSIVE:
                raise UnreadablePhotoError(
                    "it is a lossless, hierarchical or arithmetic-coded JPEG; "
                    "baseline and progressive ones can be decoded"
                )
            if depth != 8 or channels not in (1, 3, 4):
                raise UnreadablePhotoError(
                    f"it is a JPEG with {channels} channels of {depth} bits; "
                    "1, 3 or 4 of 8 bits can be decoded"
                )
            size, frame = (width, height), marker
        elif marker == _APP1 and not orientation and data.startswith(b"Exif\0\0", position + 2):
            orientation = exif_orientation(data[position + 2 : position + length])
        elif marker == _SOS and size:
            several = frame == _PROGRESSIVE or data[position + 2] < channels
            if several and _has_too_many_scans(data, position):
                raise UnreadablePhotoError(
                    f"it is a JPEG in more than {MAX_SCANS} scans, which would take too long"
                )
            return Header("JPEG", size, data, orientation or 1)
        elif marker in (_SOS, _EOI):
            break
        position += max(length, 2)
    raise struct.error("no frame")


def _has_too_many_scans(data: bytes, position: int) -> bool:
    """Count scans from the length field of the first one's header."""
    # Within the data of a scan 0xFF is followed by 0, so this counts them all, and with them what
    # looks like one in a thumbnail, or behind the JPEG's end.
    if data.count(b"\xff\xda", position) < MAX_SCANS:
        return False
    scans = 1
    for _ in range(_MAX_PARTS):
        position += struct.unpack_from(">H", data, position)[0]
        found = _JPEG_MARKER.search(data, position)
        if not found or found[1][0] == _EOI:
            return False
        position = found.end()
        scans += found[1][0] == _SOS
        if scans > MAX_SCANS:
            return True
    return True


_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# All that a decoder needs. Texts and colour profiles may be compressed: 7 MB of texts keep OpenCV
# busy for 27 s. Without the chunks of an animation there is none: its still image remains.
_PNG_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND"})
_GREY, _WITH_ALPHA = 0, (4, 6)
_PNG_TRUNCATED = "it is truncated, or a chunk of the PNG is damaged"


def read_png(data: bytes) -> Header:
    """Read a PNG's chunks, and keep those that decoders need (PNG specification, 5.3)."""
    length, kind, width, height, depth, colour = struct.unpack_from(">I4sIIBB", data, 8)
    if (length, kind) != (13, b"IHDR"):
        raise struct.error("no header")
    kept: list[tuple[int, int]] = []
    compressed, orientation, transparent, position = 0, 1, colour in _WITH_ALPHA, 8
    flaw = f"it is a PNG in more than {_MAX_PARTS} chunks; save it again"
    for _ in range(_MAX_PARTS):
        length, kind = struct.unpack(">I4s", data[position : position + 8].ljust(8, b"\0"))
        end = position + 12 + length
        if end > len(data):  # OpenCV would get memory for the length that is claimed, up to 2 GB
            flaw = _PNG_TRUNCATED
            break
        if kind in _PNG_CHUNKS:
            kept.append((position, end))
        if kind == b"IDAT":
            compressed += length
        elif kind == b"tRNS" and not compressed:
            transparent = True
        elif kind == b"eXIf":
            orientation = exif_orientation(data[position + 8 : end - 4]) or 1
        elif kind == b"IEND":
            flaw = "" if compressed else "it is a PNG without pixels"
            break
        position = end
    if colour == _GREY and depth == 16:
        transparent = False  # one grey of 65,536 may be, which no decoder used here can tell
    pillow = transparent or compressed > _PNG_FOR_OPENCV
    if pillow and not flaw:  # Pillow doesn't check the pixels' chunks; OpenCV does
        flaw = _check_crcs(data, kept)
    data = b"".join([_PNG_SIGNATURE, *(data[start:end] for start, end in kept)])
    return Header("PNG", (width, height), data, orientation, pillow, flaw=flaw)


def _check_crcs(data: bytes, chunks: list[tuple[int, int]]) -> str:
    view = memoryview(data)
    for start, end in chunks:
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            return "it is damaged: a checksum of the PNG is wrong"
    return ""


_EXTENSION, _PICTURE, _TRAILER, _CONTROL = 0x21, 0x2C, 0x3B, 0xF9


def read_gif(data: bytes) -> Header:
    """Read a GIF up to its first picture (GIF89a, section 20), and leave out what else is there.

    They are Pillow's: OpenCV counts all pictures first, and clears 160 KB of tables for each code
    that asks for it, of which 1 MB holds millions.
    """
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    screen = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)  # with the palette
    position, control = screen, b""
    parts = iter(range(_MAX_PARTS))
    for _ in parts:
        block = data[position]
        if block == _PICTURE:
            left, top, wide, high = struct.unpack_from("<HHHH", data, position + 1)
            if not (wide and high):
                break
            box = (left, top, left + wide, top + high)
            size = max(width, box[2]), max(height, box[3])
            data = data[:screen] + control + data[position:]
            return Header("GIF", size, data, pillow=True, box=box)
        if block == _TRAILER:
            break
        position += 1
        if block == _EXTENSION:
            start, label = position - 1, data[position]
            position = _after_blocks(data, position + 1, parts)
            control = data[start:position] if label == _CONTROL else control
    raise struct.error("no picture")


def _after_blocks(data: bytes, position: int, parts: Iterator[int]) -> int:
    """Find the end of a row of GIF's blocks: each its length and so many bytes, the last empty."""
    for _ in parts:
        length = data[position]
        position += 1 + length
        if not length:
            return position
    raise UnreadablePhotoError(
        f"it is a GIF with more than {_MAX_PARTS} blocks before its first picture; save it again"
    )


_WEBP_ALPHA, _WEBP_EXIF = 0x10, 0x08


def read_webp(data: bytes) -> Header:
    """Read a WebP's first chunk (RFC 9649), and its EXIF."""
    kind = data[12:16]
    if kind == b"VP8X":
        flags, width, w, height, h = struct.unpack_from("<B3xHBHB", data, 20)
        size = (w << 16 | width) + 1, (h << 16 | height) + 1
        alpha = bool(flags & _WEBP_ALPHA)
        orientation = _webp_orientation(data) if flags & _WEBP_EXIF else 1
        return Header("WebP", size, data, orientation, alpha=alpha)
    if kind == b"VP8L":
        mark, bits = struct.unpack_from("<BI", data, 20)
        if mark == 0x2F:
            size = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
            return Header("WebP", size, data, alpha=bool(bits >> 28 & 1))
    elif kind == b"VP8 ":
        mark, width, height = struct.unpack_from("<3sHH", data, 23)
        if mark == b"\x9d\x01\x2a":
            return Header("WebP", (width & 0x3FFF, height & 0x3FFF), data)
    raise struct.error("no frame")


def _webp_orientation(data: bytes) -> int:
    position = 12
    for _ in range(_MAX_PARTS):
        if position + 8 > len(data):
            break
        kind, length = struct.unpack_from("<4sI", data, position)
        if kind == b"EXIF":
            return exif_orientation(data[position + 8 : position + 8 + length]) or 1
        position += 8 + length + (length & 1)
    return 1


_CORE_HEADER, _BITFIELDS, _ALPHA_HEADER = 12, 3, 56
_BGRX = (0xFF0000, 0xFF00, 0xFF)


def read_bmp(data: bytes) -> Header:
    """Read a BMP's header (Windows' BITMAPCOREHEADER, BITMAPINFOHEADER and what follows it)."""
    [length] = struct.unpack_from("<I", data, 14)
    if length == _CORE_HEADER:
        width, height = struct.unpack_from("<HH", data, 18)
        return Header("BMP", (width, height), data)
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    pillow = False
    if bits == 32 and compression == _BITFIELDS:  # OpenCV takes the four bytes for BGRX
        *masks, alpha = struct.unpack_from("<4I", data, 54)
        pillow = tuple(masks) != _BGRX or (length >= _ALPHA_HEADER and alpha != 0)
    return Header("BMP", (width, abs(height)), data, pillow=pillow)


def read_tiff(data: bytes) -> Header:
    """Read a TIFF's directory; see `read_directory`."""
    size, pillow = read_directory(data)
    return Header("TIFF", size, data, pillow=pillow)
