"""Read TIFF directories: a TIFF's own, and the one that every EXIF block is."""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass
from typing import Any

from ..errors import UnreadablePhotoError

MAX_PIECES = 1 << 16
"""A TIFF in more strips or tiles is refused: each takes up to 13 µs beside its pixels."""

# libtiff's own limit; cameras write some dozens.
_MAX_ENTRIES = 4096
_MAX_SAMPLES = 6

# Bytes that a value of each type takes (TIFF 6.0, section 2; the last three are BigTIFF's).
_TYPE_SIZES = dict(enumerate((1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4), start=1))
_TYPE_SIZES |= {16: 8, 17: 8, 18: 8}
_UNSIGNED = {1: "B", 3: "H", 4: "I", 16: "Q"}

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIPS, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP, _PLANAR = 273, 274, 277, 278, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 322, 323, 324, 338, 339

# None, CCITT, LZW, JPEG, deflate (two numbers), PackBits. Left out are old-style JPEG (6), which
# Technical Note 2 replaced in 1995, and LZMA, whose decoder takes what memory the file asks for.
_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946})
_GREYS, _RGB, _PALETTE, _CMYK, _LAB = (0, 1), 2, 3, 5, 8
_PHOTOMETRICS = frozenset({*_GREYS, _RGB, _PALETTE, _CMYK, 6, _LAB})  # 6: YCbCr
_FLOAT, _SEPARATE, _UNCOMPRESSED = 3, 2, 1


@dataclass(frozen=True)
class _Layout:
    """How a directory is written: classic TIFF's (version 42) or BigTIFF's (43)."""

    order: str
    offset: str
    count: str
    entry: str  # tag, type, number of values, the values or where they are

    def unpack(self, form: str, data: bytes, position: int) -> tuple[Any, ...]:
        return struct.unpack_from(self.order + form, data, position)


class Directory:
    """The first directory of a TIFF.

    Args:
        data: The whole TIFF.

    Raises:
        UnreadablePhotoError: If it counts more data than the file has. Decoders copy what each of
            thousands of entries refers to, though it be the same: 1 MB became 3 GB.
        struct.error, LookupError, OverflowError: If it is damaged.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        order = {b"II": "<", b"MM": ">"}[data[:2]]
        classic = _Layout(order, "I", "H", "HHI4s")
        layout = {42: classic, 43: _Layout(order, "Q", "Q", "HHQ8s")}[
            struct.unpack_from(order + "H", data, 2)[0]
        ]
        self._layout = layout
        [start] = layout.unpack(layout.offset, data, 4 if layout is classic else 8)
        [count] = layout.unpack(layout.count, data, start)
        if count > _MAX_ENTRIES:
            raise UnreadablePhotoError(f"its TIFF directory is damaged: it has {count} entries")
        first = start + struct.calcsize("<" + layout.count)
        size = struct.calcsize("<" + layout.entry)
        entries = data[first : first + count * size]
        self._entries: dict[int, tuple[int, int, bytes]] = {}
        elsewhere = 0
        for tag, kind, number, value in struct.iter_unpack(order + layout.entry, entries):
            taken = _TYPE_SIZES.get(kind, 0) * number
            elsewhere += taken if taken > len(value) else 0
            self._entries.setdefault(tag, (kind, number, value))
        if elsewhere > len(data) or len(entries) < count * size:
            raise UnreadablePhotoError(
                "it is truncated, or its TIFF directory is damaged: "
                "it counts more data than the file has"
            )

    def number(self, tag: int) -> int:
        """Count a tag's values; 0 if it isn't there."""
        return self._entries[tag][1] if tag in self._entries else 0

    def values(self, tag: int, *default: int) -> tuple[int, ...]:
        """Give a tag's first values, whole numbers, at most `_MAX_SAMPLES`."""
        kind, number, value = self._entries.get(tag, (0, 0, b""))
        if kind not in _UNSIGNED or not number:
            return default
        form = f"{min(number, _MAX_SAMPLES)}{_UNSIGNED[kind]}"
        if _TYPE_SIZES[kind] * number <= len(value):
            return self._layout.unpack(form, value, 0)
        [offset] = self._layout.unpack(self._layout.offset, value, 0)
        return self._layout.unpack(form, self._data, offset)


def read_directory(data: bytes) -> tuple[tuple[int, int], bool]:
    """Read a TIFF's directory, and refuse what can't be decoded or only at any price.

    Returns:
        Width and height before rotation, and whether Pillow must decode it: OpenCV multiplies
        colours by their opacity, gets LAB wrong, and doesn't know 2 bits, 4 bits of grey, 16 bits
        of CMYK, or more than four samples.

    Raises:
        UnreadablePhotoError: If it is unsupported, or would take too much time or memory.
        struct.error, LookupError, OverflowError: If it is damaged.
    """
    directory = Directory(data)
    width, height = directory.values(_WIDTH)[0], directory.values(_HEIGHT)[0]
    samples = directory.values(_SAMPLES, 1)[0]
    bits = directory.values(_BITS, 1)
    photometric = directory.values(_PHOTOMETRIC)[0]
    compression = directory.values(_COMPRESSION, 1)[0]
    extra = directory.values(_EXTRA_SAMPLES)
    sample_format = directory.values(_SAMPLE_FORMAT, 1)
    if not 1 <= samples <= _MAX_SAMPLES:
        raise _unsupported(f"{samples} samples a pixel; 1 to {_MAX_SAMPLES} can be decoded")
    if _FLOAT in sample_format:
        raise _unsupported("samples in floating point; save it with 8 or 16 bits")
    if len(set(bits)) > 1 or bits[0] not in (1, 2, 4, 8, 16):
        depths = "/".join(map(str, bits))
        raise _unsupported(f"samples of {depths} bits; 1, 2, 4, 8 or 16 can be decoded")
    if photometric not in _PHOTOMETRICS:
        raise _unsupported(f"colours of kind {photometric}; save it as RGB")
    if compression not in _COMPRESSIONS:
        raise _unsupported(f"compression of kind {compression}; save it with LZW or deflate")
    _check_pieces(directory, width, height, samples)
    opacity = (1, 2, 999) if photometric == _RGB else (2,)  # 999: Corel Draw's
    transparent = photometric in (*_GREYS, _RGB, _PALETTE) and bool(extra) and extra[0] in opacity
    pillow = (
        transparent
        or (photometric == _RGB and samples == 4 and not extra)
        or photometric == _LAB
        or (photometric == _CMYK and bits[0] == 16)
        or samples > 4
        or bits[0] == 2
        or (bits[0] == 4 and photometric != _PALETTE)
    )
    planes = directory.values(_PLANAR, 1)[0] == _SEPARATE
    if pillow and planes and bits[0] == 16 and compression == _UNCOMPRESSED:
        # Pillow would take them for planes of 8 bits, and make wrong colours of them.
        raise _unsupported("uncompressed planes of 16 bits; save it with LZW or deflate")
    if pillow and planes and photometric in _GREYS:
        raise _unsupported("grey and opacity in planes of their own; save it with them interleaved")
    return (width, height), pillow


def _unsupported(what: str) -> UnreadablePhotoError:
    return UnreadablePhotoError(f"it is a TIFF with {what}")


def _check_pieces(directory: Directory, width: int, height: int, samples: int) -> None:
    """Refuse strips and tiles that are too many, or so large that most of them is padding.

    Decoders decode the padding, too: half a megabyte of tiles around a line of 1,000,000 pixels
    took 90 s.
    """
    planes = samples if directory.values(_PLANAR, 1)[0] == _SEPARATE else 1
    tiled = directory.number(_TILES) or directory.number(_TILE_WIDTH)
    if tiled:
        wide, high = directory.values(_TILE_WIDTH)[0], directory.values(_TILE_HEIGHT)[0]
    else:
        wide, high = width, min(directory.values(_ROWS_PER_STRIP, height)[0], height)
    if not (width and height):
        return  # refused where the sizes of all kinds are
    if not (wide and high):
        raise UnreadablePhotoError("its TIFF directory is damaged: its strips or tiles are empty")
    across, down = -(-width // wide), -(-height // high)
    listed = directory.number(_TILES if tiled else _STRIPS)
    if max(across * down * planes, listed) > MAX_PIECES:
        raise UnreadablePhotoError(
            f"it is a TIFF in {max(across * down * planes, listed)} strips or tiles, more than the "
            f"limit of {MAX_PIECES}; save it again"
        )
    if across * wide * down * high > width * height * 5 // 4 + (1 << 22):
        raise UnreadablePhotoError(
            f"its TIFF directory is damaged: its tiles of {wide} x {high} pixels are far larger "
            f"than its {width} x {height} pixels"
        )


def exif_orientation(exif: bytes) -> int:
    """Find the orientation in an EXIF block, 1 to 8; 0 if there is none.

    It is read as OpenCV reads it: 16 bits, whatever type they are said to have.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    with contextlib.suppress(struct.error, KeyError):
        order = {b"II*\0": "<", b"MM\0*": ">"}[exif[:4]]
        [start] = struct.unpack_from(order + "I", exif, 4)
        [count] = struct.unpack_from(order + "H", exif, start)
        for entry in range(min(count, _MAX_ENTRIES)):
            tag, value = struct.unpack_from(order + "H6xH", exif, start + 2 + 12 * entry)
            if tag == _ORIENTATION:
                return int(value) if 1 <= value <= 8 else 1
    return 0
