"""Image files put together byte by byte: what no library writes, because no decoder should see it.

Each function writes a valid file by default; its arguments make it wrong.
"""

import io
import struct
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

ORIENTATION = 274


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width=80, height=60, channels=3) -> Image.Image:
    values = np.random.default_rng(5).integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(values)


def gradients(width=37, height=24) -> np.ndarray:
    """Make a photo without any symmetry: red grows rightwards, green downwards, blue both."""
    rows, columns = np.mgrid[:height, :width]
    red, green = columns * 255 // width, rows * 255 // height
    blue = (rows + columns) * 255 // (width + height)
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def samples() -> dict[str, bytes]:
    """Write ordinary small photos, one or more of each format."""
    rgb, rgba = noise(), noise(channels=4)
    return {
        "jpeg": encode(rgb, "JPEG"),
        "jpeg-progressive": encode(rgb, "JPEG", progressive=True),
        "jpeg-cmyk": encode(rgb.convert("CMYK"), "JPEG"),
        "png": encode(rgb, "PNG"),
        "png-alpha": encode(rgba, "PNG"),
        "png-palette": encode(rgb.quantize(16), "PNG"),
        "webp": encode(rgb, "WEBP"),
        "webp-alpha": encode(rgba, "WEBP", lossless=True),
        "gif": encode(rgb.quantize(64), "GIF"),
        "gif-transparent": encode(rgb.quantize(64), "GIF", transparency=3),
        "bmp": encode(rgb, "BMP"),
        "bmp-alpha": encode(rgba, "BMP"),
        "tiff": encode(rgb, "TIFF", compression="tiff_lzw"),
        "tiff-alpha": encode(rgba, "TIFF"),
        "tiff-jpeg": encode(rgb, "TIFF", compression="jpeg"),
    }


def zeros(count: int) -> bytes:
    """Compress so many zero bytes (a multiple of 1 MiB) with zlib, in no time: 1 MB a GB."""
    deflate = zlib.compressobj(9, wbits=-15)
    million = deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    checksum = (count % 65521) << 16 | 1  # Adler-32 of zeros
    blocks = million * (count >> 20)
    return b"\x78\xda" + blocks + zlib.compressobj(wbits=-15).flush() + struct.pack(">I", checksum)


def exif(value: int = 6, *, order="<", kind=3, count=1, entries=1, after=0, before=b"") -> bytes:
    """Write an EXIF block with an orientation; it starts where a TIFF would."""
    value_form = {1: "B3x", 3: "H2x", 4: "I"}[kind]
    return (
        {"<": b"II*\0", ">": b"MM\0*"}[order]
        + struct.pack(order + "IH", 8, entries)
        + before
        + struct.pack(order + "HHI" + value_form, ORIENTATION, kind, count, value)
        + struct.pack(order + "I", after)
    )


def segment(marker: int, data: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg(
    width=16,
    height=16,
    *,
    frame=0xC0,
    depth=8,
    channels=3,
    together: int | None = None,
    scans=1,
    data=b"",
    before=b"",
) -> bytes:
    """Write a grey JPEG.

    `frame` is the code of its frame header: 0xC0 is baseline, 0xC2 progressive. The first scan has
    so many channels `together`, by default all. Scans after it refine coefficients of the first
    channel, all of which are zero.
    """
    blocks = -(-width // 8) * -(-height // 8)
    ids = range(1, channels + 1)
    sampled = b"".join(bytes([each % 256, 0x11, 0]) for each in ids)
    selected = b"".join(bytes([each % 256, 0]) for each in ids[: together or 4])
    progressive, lossless = frame in (0xC2, 0xCA), frame in (0xC3, 0xCB)
    spectrum = (0, 0, 0) if progressive else (1, 0, 0) if lossless else (0, 63, 0)
    # The codes: 0 for a difference of 0, and for the end of the block (0x00), or, in a progressive
    # one, of 32,767 blocks (0xE0, and 14 bits).
    tables = segment(0xDB, b"\0" + bytes([1] * 64))
    tables += segment(0xC4, b"\0" + bytes([1] + [0] * 15) + b"\0")
    tables += segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + (b"\xe0" if progressive else b"\0"))
    first = bytes(blocks * channels // (8 if progressive else 4) + 1)
    runs = "0" + "1" * 14
    bits = runs * -(-blocks // 32767)
    bits += "1" * (-len(bits) % 8)
    refining = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return b"".join(
        [
            b"\xff\xd8",
            before,
            tables,
            segment(frame, struct.pack(">BHHB", depth, height, width, channels % 256) + sampled),
            segment(0xDA, bytes([len(selected) // 2]) + selected + bytes(spectrum)),
            data or first,
            (segment(0xDA, bytes([1, 1, 0, 1, 63, 0x10])) + refining) * (scans - 1),
            b"\xff\xd9",
        ]
    )


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width=16, height=16, *, colour=2, depth=8, pixels=None, before=b"", after=b"", end=b""
) -> bytes:
    """Write a black PNG; `pixels` are compressed rows, `before` and `after` chunks around them."""
    if pixels is None:
        samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
        pixels = zlib.compress(bytes((1 + -(-width * samples * depth // 8)) * height))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            before,
            chunk(b"IDAT", pixels),
            after,
            chunk(b"IEND"),
            end,
        ]
    )


def with_checksums(data: bytes) -> bytes:
    """Write the right checksums into a PNG whose bytes were changed."""
    written, position = data[:8], 8
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if position + 12 + length > len(data):
            break
        written += chunk(kind, data[position + 8 : position + 8 + length])
        position += 12 + length
    return written + data[position:]


def gif_picture(codes: Sequence[int], width: int, height: int, *, left=0, top=0) -> bytes:
    """Write a picture of up to four colours from LZW codes of three bits (4 clears, 5 ends)."""
    bits = int("".join(map(str, reversed(codes))), 8)
    packed = bits.to_bytes(-(-3 * len(codes) // 8), "little")
    blocks = (packed[start : start + 255] for start in range(0, len(packed), 255))
    return b"".join(
        [
            struct.pack("<BHHHHBB", 0x2C, left, top, width, height, 0, 2),
            *(bytes([len(block)]) + block for block in blocks),
            b"\0",
        ]
    )


def gif_codes(pixels: Iterable[int]) -> list[int]:
    """Give codes for pixels; the table is cleared after each two, so that codes stay small."""
    codes = []
    for position, pixel in enumerate(pixels):
        codes += [pixel] if position % 2 else [4, pixel]
    return [*codes, 5]


def gif(width=8, height=8, *, pictures: Sequence[bytes] | None = None, before=b"") -> bytes:
    """Write a GIF of four greys; by default it has one picture, all of its first colour."""
    if pictures is None:
        pictures = [gif_picture(gif_codes([0] * (width * height)), width, height)]
    palette = bytes(value for grey in (0, 85, 170, 255) for value in [grey] * 3)
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x81, 0, 0)
    return b"".join([screen, palette, before, *pictures, b";"])


def bmp(width=8, height=8, *, bits=24, compression=0, masks=(), pixels=None) -> bytes:
    """Write a BMP; without `pixels` it is black."""
    if pixels is None:
        pixels = bytes(-(-width * bits // 32) * 4 * abs(height))
    extra = struct.pack(f"<{len(masks)}I", *masks) + (bytes(4 << bits) if bits <= 8 else b"")
    length = 40 + (16 if len(masks) == 4 else 0)
    start = 14 + 40 + len(extra)
    file = struct.pack("<2sIII", b"BM", (start + len(pixels)) % 2**32, 0, start)
    info = struct.pack("<IiiHHIIIIII", length, width, height, 1, bits, compression, *[0] * 5)
    return file + info + extra + pixels


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1)
        for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp(canvas=(8, 8), *, flags=0, chunks: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """Write an extended WebP."""
    width, height = ((side - 1).to_bytes(3, "little") for side in canvas)
    return riff((b"VP8X", bytes([flags, 0, 0, 0]) + width + height), *chunks)


def webp_frame(side=8) -> bytes:
    """Write the lossless chunk's data of a green square."""
    return encode(Image.new("RGB", (side, side), (0, 90, 0)), "WEBP", lossless=True)[20:]


_FORMS = {1: "B", 3: "H", 4: "I", 7: "B"}


def tiff(
    width=16,
    height=16,
    *,
    pixels: bytes | None = None,
    tags: dict[int, tuple[int, Sequence[int]]] | None = None,
    raw: Iterable[tuple[int, int, int, int]] = (),
    order="<",
    after: int | None = 0,
    end=b"",
) -> bytes:
    """Write a black TIFF, its pixels at byte 8.

    Args:
        width, height: Its size in pixels.
        pixels: What its one strip holds.
        tags: Types and values that are added or replace others; a tag without values is left out.
        raw: Further entries as they are written: tag, type, count, value.
        order: `<` for little-endian, `>` for big-endian.
        after: Where the next directory is; None means this one again.
        end: What follows the directory, the first byte of which is at `len(file) - len(end)`.
    """
    pixels = bytes(width * height * 3) if pixels is None else pixels
    fields = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [8, 8, 8]),
        259: (3, [1]),
        262: (3, [2]),
        273: (4, [8]),
        277: (3, [3]),
        278: (4, [height]),
        279: (4, [len(pixels)]),
    } | (tags or {})
    body, entries = pixels + b"\0" * (len(pixels) & 1), list(raw)
    packed = []
    for tag, (kind, values) in fields.items():
        data = struct.pack(f"{order}{len(values)}{_FORMS[kind]}", *values)
        if not values:
            continue
        if len(data) > 4:
            data, body = (
                struct.pack(order + "I", 8 + len(body)),
                body + data + b"\0" * (len(data) & 1),
            )
        packed.append(
            (tag, struct.pack(order + "HHI", tag, kind, len(values)) + data.ljust(4, b"\0"))
        )
    packed += [(entry[0], struct.pack(order + "HHII", *entry)) for entry in entries]
    start = 8 + len(body)
    return b"".join(
        [
            {"<": b"II*\0", ">": b"MM\0*"}[order],
            struct.pack(order + "I", start),
            body,
            struct.pack(order + "H", len(packed)),
            *(entry for _, entry in sorted(packed)),
            struct.pack(order + "I", start if after is None else after),
            end,
        ]
    )
