"""Kinds of JPEG, PNG, TIFF and EXIF that few programs write, or none."""

import random
import struct
import zlib
from functools import partial

import numpy as np
from hostile_cases import Cases
from image_files import chunk, encode, exif, jpeg, noise, png, samples, segment, tiff, webp
from PIL import Image


def add(cases: Cases) -> None:
    for group in (_jpeg, _png, _png_headers, _tiff, _tiff_directories, _exif):
        group(cases)


def _jpeg(cases: Cases) -> None:
    for name, frame in {"lossless": 0xC3, "hierarchical": 0xC5, "arithmetic": 0xC9}.items():
        cases.refused(f"jpeg-{name}", partial(jpeg, frame=frame), "lossless, hierarchical or")
    cases.refused("jpeg-arithmetic-progressive", partial(jpeg, frame=0xCA), "arithmetic-coded")
    for channels in (0, 2, 5, 255):
        make = partial(jpeg, channels=channels, data=bytes(99))
        cases.refused(f"jpeg-{channels}-channels", make, f"{channels} channels of 8 bits")
    cases.refused("jpeg-12-bit", partial(jpeg, frame=0xC1, depth=12), "3 channels of 12 bits")
    for channels in (1, 3, 4):
        cases.readable(f"jpeg-{channels}-channels", partial(jpeg, channels=channels), (16, 16))
    cmyk = samples()["jpeg-cmyk"]
    ycck = bytearray(cmyk)
    ycck[cmyk.index(b"Adobe") + 11] = 2
    cases.readable("jpeg-ycck", lambda: bytes(ycck), (80, 60))
    frameless = b"\xff\xd8" + segment(0xFE, b"x") * 9 + b"\xff\xd9"
    cases.refused("jpeg-no-frame", lambda: frameless, "JPEG header")
    # OpenCV says nothing of data that are wrong. That they end too early it does.
    corrupt = bytearray(encode(noise(400, 300), "JPEG", quality=90))
    corrupt[len(corrupt) // 2 : len(corrupt) // 2 + 2000] = bytes(2000)
    cases.either("jpeg-corrupt-data", lambda: bytes(corrupt))
    for name, markers in {"codes": b"\xc4", "quantisation": b"\xdb"}.items():
        data = jpeg().replace(b"\xff" + markers, b"\xff\xfe")
        cases.either(f"jpeg-no-{name}", lambda data=data: data)


def _png(cases: Cases) -> None:
    data = samples()["png"]
    broken = _flipped(data, data.index(b"IDAT") + 5000)
    cases.refused("png-wrong-pixels", lambda: broken, "truncated, damaged")
    broken_alpha = _flipped(samples()["png-alpha"], -20)
    cases.refused("png-alpha-wrong-checksum", lambda: broken_alpha, "a checksum of the PNG is")
    wrong = _flipped(chunk(b"tEXt", b"a\0b"), -1)
    for name, colour in {"png": 2, "png-alpha": 6}.items():
        make = partial(png, colour=colour, before=wrong)
        cases.readable(f"{name}-wrong-checksum-of-a-text", make, (16, 16))
    cases.readable("png-interlaced", _interlaced, (8, 8))
    for depth in (1, 2, 4, 8, 16):
        make = partial(png, colour=0, depth=depth)
        cases.readable(f"png-grey-{depth}-bit", make, (16, 16))
    ramp = zlib.compress(b"".join(b"\0" + bytes(range(row, row + 16)) for row in range(16)))
    short = partial(png, colour=3, before=chunk(b"PLTE", bytes(3)), pixels=ramp)
    cases.either("png-palette-too-short", short)
    cases.either("png-no-palette", partial(png, colour=3))


def _flipped(data: bytes, position: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)


def _interlaced() -> bytes:
    passes = ((1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4))  # width, height
    pixels = zlib.compress(b"".join(bytes((1 + 3 * width) * height) for width, height in passes))
    return _with_header(png(8, 8, pixels=pixels), interlace=1)


def _with_header(data: bytes, *, depth=8, colour=2, interlace=0) -> bytes:
    header = data[12:24] + bytes([depth, colour, 0, 0, interlace])
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def _png_headers(cases: Cases) -> None:
    for colour, depth in ((2, 4), (3, 16), (1, 8), (7, 8), (0, 0), (0, 3), (6, 255)):
        make = partial(_with_header, png(), colour=colour, depth=depth)
        cases.refused(f"png-colour-{colour}-depth-{depth}", make, "damaged")
    data = png()
    start, end = data[:8], chunk(b"IEND")
    for name, broken, reason in (
        ("wrong-header-checksum", data[:29] + b"\0\0\0\0" + data[33:], "damaged"),
        ("header-second", start + chunk(b"gAMA", bytes(4)) + data[8:], "PNG header is damaged"),
        ("apple", start + chunk(b"CgBI", bytes(4)) + data[8:], "PNG header is damaged"),
        ("no-pixels", data[:33] + end, "it is a PNG without pixels"),
        ("huge-pixels", data[:33] + b"\x7f" + data[34:], "a chunk of the PNG is damaged"),
        # OpenCV would get 2 GB for each of these.
        ("huge-end", data[: -len(end)] + b"\x7f" + end[1:], "a chunk of the PNG is damaged"),
    ):
        cases.refused(f"png-{name}", lambda broken=broken: broken, reason)


def _tiff(cases: Cases) -> None:
    for count in (0, 17, 65535):
        make = partial(tiff, tags={277: (3, [count])})
        cases.refused(f"tiff-{count}-samples", make, f"a TIFF with {count} samples a pixel")
    for count in (1, 2, 5):
        tags = {277: (3, [count]), 258: (3, [8] * count)}
        make = partial(tiff, pixels=bytes(256 * count), tags=tags)
        cases.either(f"tiff-{count}-samples-of-rgb", make)
    for bits in (1, 2, 4, 8, 16):
        cases.readable(f"tiff-grey-{bits}-bit", partial(_grey_tiff, bits), (16, 16))
    for bits in (0, 3, 12, 24, 32, 64):
        reason = f"a TIFF with samples of {bits} bits"
        cases.refused(f"tiff-grey-{bits}-bit", partial(_grey_tiff, bits), reason)
    mixed = partial(tiff, tags={258: (3, [8, 9, 8])})
    cases.refused("tiff-mixed-bits", mixed, "samples of 8/9/8 bits")
    for name, value in {"nan": np.nan, "inf": np.inf, "huge": 3e38, "ordinary": 0.5}.items():
        data = encode(Image.fromarray(np.full((16, 16), value, np.float32)), "TIFF")
        cases.refused(f"tiff-float-{name}", lambda data=data: data, "floating point")
    for mode in ("CMYK", "YCbCr", "LAB", "LA", "1"):
        data = encode(Image.new(mode, (20, 10)), "TIFF")
        cases.readable(f"tiff-{mode}", lambda data=data: data, (20, 10))
    for kind in (4, 32803, 32844, 65535):
        make = partial(tiff, tags={262: (3, [kind])})
        cases.refused(f"tiff-colours-{kind}", make, f"colours of kind {kind}")
    for kind in (0, 6, 9, 34676, 65535):
        make = partial(tiff, tags={259: (3, [kind])})
        cases.refused(f"tiff-compression-{kind}", make, f"compression of kind {kind}")


def _grey_tiff(bits: int) -> bytes:
    return tiff(pixels=bytes(32 * bits), tags={277: (3, [1]), 258: (3, [bits]), 262: (3, [1])})


def _tiff_directories(cases: Cases) -> None:
    cases.readable("tiff-big-endian", partial(tiff, order=">"), (16, 16))
    big_tiff = encode(noise(), "TIFF", big_tiff=True)
    cases.readable("tiff-big", lambda: big_tiff, (80, 60))
    nowhere = b"II*\0" + struct.pack("<I", 2**32 - 1) + bytes(99)
    cases.refused("tiff-directory-nowhere", lambda: nowhere, "TIFF header is damaged")
    far = b"II+\0\x08\0\0\0" + struct.pack("<Q", 2**64 - 1) + bytes(99)
    cases.refused("tiff-big-directory-nowhere", lambda: far, "TIFF header is damaged")
    for name, tag in {"width": 256, "height": 257, "colours": 262}.items():
        make = partial(tiff, tags={tag: (4, [])})
        cases.refused(f"tiff-no-{name}", make, "TIFF header is damaged")
    cases.either("tiff-strip-nowhere", partial(tiff, tags={273: (4, [2**32 - 1])}))


def _exif(cases: Cases) -> None:
    upright = {
        "0": exif(0),
        "9": exif(9),
        "65535": exif(65535),
        "wrong-type": exif(6, kind=1, order=">"),
        "cut-off": exif(6)[:15],
        "empty": b"",
        "only-a-start": b"II*\0",
        "directory-nowhere": b"II*\0" + struct.pack("<I", 2**32 - 1),
        "huge-count": exif(1, count=2**32 - 1),
        "noise": random.Random(1).randbytes(65_000),
    }
    turned = {"cyclic": exif(6, after=8), "65535-entries": exif(6, entries=65535)}
    for name, block in (upright | turned).items():
        size = (20, 30) if name in turned else (30, 20)
        for kind, make in {
            "jpeg": _jpeg_with,
            "png": lambda data: png(30, 20, before=chunk(b"eXIf", data)),
            "png-alpha": lambda data: png(30, 20, colour=6, before=chunk(b"eXIf", data)),
            "webp": partial(_webp_with, 0x08),
            "webp-alpha": partial(_webp_with, 0x18),
        }.items():
            cases.readable(f"exif-{kind}-{name}", partial(make, block), size)


def _jpeg_with(block: bytes) -> bytes:
    return jpeg(30, 20, before=segment(0xE1, b"Exif\0\0" + block))


def _webp_with(flags: int, block: bytes) -> bytes:
    frame = encode(Image.new("RGB", (30, 20)), "WEBP", lossless=True)[20:]
    return webp((30, 20), flags=flags, chunks=[(b"VP8L", frame), (b"EXIF", block)])
