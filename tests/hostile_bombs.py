"""Small files that would take much memory or time: sizes, compression, frames, scans, pieces."""

import struct
import zlib
from collections.abc import Callable
from functools import partial

from hostile_cases import Cases
from image_files import (
    bmp,
    chunk,
    gif,
    gif_codes,
    gif_picture,
    jpeg,
    png,
    samples,
    segment,
    tiff,
    webp,
    webp_frame,
    zeros,
)

GIGA = 1 << 30
OPAQUE, ALPHA = 2, 6  # colour types of PNG
ALPHA_TAGS = {258: (3, [8] * 4), 277: (3, [4]), 338: (3, [2])}


def add(cases: Cases) -> None:
    for group in (_sizes, _edges, _compression, _frames, _scans, _pieces):
        group(cases)


def _sizes(cases: Cases) -> None:
    """Headers that claim any size."""

    def webp_of(width: int, height: int, *, flags=0) -> bytes:
        return webp((width, height), flags=flags, chunks=[(b"VP8L", webp_frame())])

    def gif_of(width: int, height: int) -> bytes:
        return gif(width, height, pictures=[gif_picture([4, 0, 5], width, height)])

    def gif_canvas(width: int, height: int) -> bytes:
        return gif(width, height, pictures=[gif_picture([4, 0, 5], 1, 1)])

    short = {"jpeg": _resized_jpeg, "gif": gif_of, "gif-canvas": gif_canvas}
    long = {
        "png": partial(png, pixels=b"x"),
        "png-alpha": partial(png, colour=ALPHA, pixels=b"x"),
        "bmp": partial(bmp, pixels=b"x"),
        "webp": webp_of,
        "webp-alpha": partial(webp_of, flags=0x10),
        "tiff": partial(tiff, pixels=b"x"),
        "tiff-alpha": partial(tiff, pixels=b"x", tags=ALPHA_TAGS),
    }
    for kind, make in (short | long).items():
        cases.refused(
            f"size-{kind}-60000",
            partial(make, 60_000, 60_000),
            "it has 60000 x 60000 pixels, more than the limit of 4000000 (--max-pixels)",
        )
    for kind, make in long.items():
        cases.refused(
            f"size-{kind}-strip",
            partial(make, 1, 16_000_000),
            "it has 1 x 16000000 pixels; no side may have more than 1048576",
            max_pixels=100_000_000,
        )


def _resized_jpeg(width: int, height: int) -> bytes:
    data = bytearray(jpeg())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _edges(cases: Cases) -> None:
    """Sizes of nothing, below nothing, at the limit and just over it."""
    for kind, make in {"jpeg": _resized_jpeg, "png": png, "bmp": bmp, "tiff": tiff}.items():
        wide, high = partial(make, 0, 9), partial(make, 9, 0)
        cases.refused(f"size-{kind}-0-wide", wide, "header is damaged: 0 x 9 pixels")
        cases.refused(f"size-{kind}-0-high", high, "header is damaged: 9 x 0 pixels")
    for kind, make in {"jpeg": jpeg, "png": png, "bmp": bmp, "tiff": tiff}.items():
        at, over = partial(make, 2000, 2000), partial(make, 2000, 2001)
        cases.readable(f"size-{kind}-at-the-limit", at, (2000, 2000))
        cases.refused(f"size-{kind}-over-the-limit", over, "more than the limit of 4000000")
    cases.refused("size-bmp-negative-wide", partial(bmp, -9, 9, pixels=b"x"), "damaged: -9 x 9")
    lowest = partial(bmp, 1, -(2**31), pixels=b"x")
    cases.refused("size-bmp-lowest", lowest, "no side may have more than")
    cases.readable("size-bmp-top-down", partial(bmp, 9, -7), (9, 7))
    nothing, some = gif_picture([5], 0, 9), gif_picture(gif_codes([1] * 20), 5, 4)
    cases.refused("size-gif-0-wide-picture", partial(gif, 9, 9, pictures=[nothing]), "GIF header")
    cases.readable("size-gif-0-canvas", partial(gif, 0, 0, pictures=[some]), (5, 4))
    beyond = gif_picture([4, 0, 5], 60_000, 60_000, left=60_000, top=60_000)
    reason = "it has 120000 x 120000 pixels, more than"
    cases.refused("size-gif-picture-beyond", partial(gif, 9, 9, pictures=[beyond]), reason)


def _compression(cases: Cases) -> None:
    """Data that become far larger than the picture."""
    for name, colour in {"png": OPAQUE, "png-alpha": ALPHA}.items():
        plain = partial(png, colour=colour)
        for megas in (450, 16_000):  # the first is as large as what OpenCV still decodes
            make = partial(_with_zeros, plain, megas << 20)
            cases.readable(f"bomb-{name}-pixels-{megas}-mb", make, (16, 16))
        for kind, head in {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}.items():
            make = partial(_with_chunks, plain, "before", kind, head, GIGA)
            cases.readable(f"bomb-{name}-{kind.decode()}", make, (16, 16))
        for place in ("before", "after"):
            make = partial(_with_chunks, plain, place, b"zTXt", b"a\0\0", 7 << 20, 1000)
            cases.readable(f"bomb-{name}-1000-texts-{place}", make, (16, 16))
    cases.readable("bomb-png-chunks", lambda: png(before=chunk(b"abCd") * 100_000), (16, 16))
    cases.refused("bomb-png-more-chunks", lambda: png(before=chunk(b"abCd") * 300_000), "chunks")
    cases.either("bomb-png-empty-pixels", lambda: png(before=chunk(b"IDAT") * 100_000))
    deflated = {259: (3, [8])}
    for name, tags in {"tiff": deflated, "tiff-alpha": deflated | ALPHA_TAGS}.items():
        make = partial(_with_zeros, partial(tiff, tags=tags), 8 * GIGA)
        cases.readable(f"bomb-{name}-deflate", make, (16, 16))
    packed = zlib.compress(bytes(768))
    for count in (0, 1, 2**32 - 1):
        tags = {279: (4, [count])}
        cases.either(f"bomb-tiff-{count}-bytes", partial(tiff, tags=tags))
        make = partial(tiff, pixels=packed, tags=tags | deflated)
        cases.either(f"bomb-tiff-deflate-{count}-bytes", make)
    codes = gif_codes([0] * 64)
    clearing = [*codes[:30], *[4] * 1_000_000, *codes[30:]]
    make = lambda: gif(pictures=[gif_picture(clearing, 8, 8)])  # noqa: E731
    cases.readable("bomb-gif-clear-codes", make, (8, 8))
    comment = b"!\xfe" + b"\1a" * 200_000
    cases.readable("bomb-gif-comments", partial(gif, before=comment + b"\0"), (8, 8))
    again = partial(gif, before=(comment + b"\0") * 9)
    cases.refused("bomb-gif-more-comments", again, "blocks before its first picture")
    empty, deltas = b"\0\1" * 1_000_000, b"\0\2\0\0" * 500_000
    cases.either("bomb-bmp-rle", partial(bmp, 999, 999, bits=8, compression=1, pixels=empty))
    cases.either("bomb-bmp-rle-deltas", partial(bmp, bits=8, compression=1, pixels=deltas))


def _with_zeros(make: Callable[..., bytes], count: int) -> bytes:
    return make(pixels=zeros(count))


def _with_chunks(
    make: Callable[..., bytes], place: str, kind: bytes, head: bytes, size: int, count=1
) -> bytes:
    return make(**{place: chunk(kind, head + zeros(size)) * count})


def _frames(cases: Cases) -> None:
    """Animations and documents of many pictures: the first counts."""
    picture = gif_picture(gif_codes([1] * 64), 8, 8)
    cases.readable("frames-gif", partial(gif, pictures=[picture] * 5000), (8, 8))
    control = chunk(b"acTL", struct.pack(">II", 5000, 0)) + _frame_control(16)
    more = _frame_control(16) + chunk(b"fdAT", bytes(4) + zlib.compress(bytes(49 * 16)))
    cases.readable("frames-png", lambda: png(before=control, after=more * 5000), (16, 16))
    huge = partial(png, before=control, after=_frame_control(60_000))
    cases.readable("frames-png-huge-second", huge, (16, 16))
    short = partial(png, before=control + chunk(b"fcTL"))
    cases.readable("frames-png-short-control", short, (16, 16))
    still = webp_frame()
    frame = bytes(6) + b"\7\0\0\7\0\0" + bytes(4) + b"VP8L" + struct.pack("<I", len(still)) + still
    chunks = [(b"ANIM", bytes(6)), *[(b"ANMF", frame)] * 5000]
    cases.readable("frames-webp", partial(webp, flags=0x02, chunks=chunks), (8, 8))
    cases.readable("frames-webp-alpha", partial(webp, flags=0x12, chunks=chunks), (8, 8))
    cases.readable("frames-tiff", partial(_tiff_chain, 5000), (16, 16))
    cases.readable("frames-tiff-cycle", partial(tiff, after=None), (16, 16))
    cases.readable("frames-tiff-nowhere", partial(tiff, after=2**32 - 1), (16, 16))


def _frame_control(side: int) -> bytes:
    return chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, side, side, 0, 0, 1, 10, 0, 0))


def _tiff_chain(count: int) -> bytes:
    start = len(tiff())
    links = (start + 18 * (each + 1) if each < count - 1 else 0 for each in range(count))
    entry = struct.pack("<HHHII", 1, 256, 4, 1, 16)
    return tiff(after=start, end=b"".join(entry + struct.pack("<I", link) for link in links))


def _scans(cases: Cases) -> None:
    """JPEGs that are drawn again and again."""
    reason = "it is a JPEG in more than 100 scans"
    progressive = partial(jpeg, frame=0xC2)
    huge = partial(progressive, 9000, 9000, scans=1000)
    cases.refused("scans-1000", huge, reason, max_pixels=100_000_000)
    cases.refused("scans-101", partial(progressive, 2000, 2000, scans=101), reason)
    cases.readable("scans-100", partial(progressive, 2000, 2000, scans=100), (2000, 2000))
    cases.refused("scans-baseline", partial(jpeg, 2000, 2000, together=1, scans=1000), reason)
    # What looks like thousands of scans lies behind its end.
    trailing = samples()["jpeg-progressive"] + b"\xff\xda\0\x08" * 10_000
    cases.readable("scans-behind-the-end", lambda: trailing, (80, 60))
    one = segment(0xDA, bytes([1, 1, 0, 1, 63, 0x10]))
    comment = segment(0xFE, b"\xff\xd9" * 100)
    hidden = progressive(64, 64)[:-2] + comment + one * 200 + b"\xff\xd9"
    cases.refused("scans-behind-a-comment-with-an-end", lambda: hidden, reason)
    tags = {259: (3, [7]), 262: (3, [6])}
    many = progressive(2000, 2000, scans=1000)
    cases.either("scans-tiff", partial(tiff, 2000, 2000, pixels=many, tags=tags))
    cases.either("size-tiff-other-jpeg", lambda: tiff(pixels=jpeg(4000, 1000), tags=tags))


def _pieces(cases: Cases) -> None:
    """Files in more or larger pieces than their pictures ask for."""
    comment = segment(0xFE, b"")
    cases.readable("pieces-jpeg", lambda: jpeg(before=comment * 200_000), (16, 16))
    cases.refused("pieces-jpeg-more", lambda: jpeg(before=comment * 300_000), "JPEG header")
    strips = partial(tiff, 1, 1_000_000, pixels=b"abc", tags={278: (4, [1])})
    cases.refused("pieces-tiff-strips", strips, "in 1000000 strips or tiles, more than the limit")
    listed = partial(tiff, tags={273: (4, [8] * 100_000)})
    cases.refused("pieces-tiff-listed", listed, "in 100000 strips or tiles, more than the limit")
    nothing = {tag: (4, []) for tag in (273, 278, 279)} | {324: (4, [8]), 325: (4, [768])}
    for name, width, height, side, reason in (
        ("padded", 1, 1_000_000, 1024, "its tiles of 1024 x 1024 pixels are far larger than"),
        ("huge", 16, 16, 60_000, "are far larger than its 16 x 16 pixels"),
        ("empty", 16, 16, 0, "its strips or tiles are empty"),
    ):
        tags = nothing | {322: (4, [side]), 323: (4, [side])}
        make = partial(tiff, width, height, pixels=bytes(768), tags=tags)
        cases.refused(f"pieces-tiff-{name}-tiles", make, reason)
    same = [(40_000 + each, 7, 2_000_000, 8) for each in range(2000)]
    reason = "it counts more data than the file has"
    cases.refused("pieces-tiff-same-data", lambda: tiff(pixels=bytes(3_000_000), raw=same), reason)
    cases.refused("pieces-tiff-huge-tag", lambda: tiff(raw=[(40_000, 7, 2**32 - 1, 8)]), reason)
    many = [(40_000, 3, 1, 8)] * 5000
    cases.refused("pieces-tiff-tags", lambda: tiff(raw=many), "it has 5009 entries")
