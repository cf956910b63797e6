"""Files that try to end, hang or fill a program that decodes photos, and what must come of them.

`CASES` maps names to cases. `python tests/hostile.py FOLDER` writes each to a file.
"""

import io
import random
import struct
import sys
import zipfile
from functools import partial
from pathlib import Path

import hostile_bombs
import hostile_kinds
from hostile_cases import Cases
from image_files import encode, gif, jpeg, samples, segment, with_checksums
from PIL import Image


def _ordinary(cases: Cases) -> None:
    for kind, data in samples().items():
        cases.readable(f"ordinary-{kind}", lambda data=data: data, (80, 60))


def _polyglots(cases: Cases) -> None:
    """Files that are two things: what they start as counts."""
    files = samples()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("a.class", bytes(5000))
    packed = archive.getvalue()
    page = b"<html><script>alert(1)</script></html>"
    script = b"!\xfe" + bytes([len(page)]) + page + b"\0"
    for name, data, size in (
        ("jpeg-zip", files["jpeg"] + packed, (80, 60)),
        ("gif-jar", files["gif"] + packed, (80, 60)),
        ("gif-script", gif(before=script), (8, 8)),
        ("jpeg-html", jpeg(before=segment(0xFE, page)), (16, 16)),
        ("jpeg-jpeg", files["jpeg"] + jpeg(60_000, 60), (80, 60)),
        ("webp-zip", files["webp"] + packed, (80, 60)),
        ("tiff-zip", files["tiff"] + packed, (80, 60)),
    ):
        cases.readable(f"polyglot-{name}", lambda data=data: data, size)
    trailing = lambda: files["png"] + bytes(10_000_000)  # noqa: E731
    cases.readable("polyglot-png-trailing", trailing, (80, 60))
    for name, data, reason in (
        ("pdf-jpeg", b"%PDF-1.7\n" + files["jpeg"], "but a PDF document"),
        ("zip-jpeg", packed + files["jpeg"], "but a ZIP archive"),
        ("html-jpeg", page + files["jpeg"], "but a web page"),
        ("space-jpeg", b" " + files["jpeg"], "it is not an image"),
    ):
        cases.refused(f"polyglot-{name}", lambda data=data: data, reason)


def _others(cases: Cases) -> None:
    """What is no photo of the six kinds."""
    cases.refused("other-empty", lambda: b"", "the file is empty")
    known = "it is not an image of a kind that is read (JPEG, PNG, WebP, GIF, BMP, TIFF), but "
    svg = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>'
    for name, data, said in (
        ("svg", svg, "an SVG drawing"),
        ("html", b"<!DOCTYPE html>\n<html lang='en'>Not found</html>", "a web page"),
        ("heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image"),
        ("avif", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "an AVIF image"),
        ("mp4", b"\0\0\0\x18ftypisom\0\0\0\0isomiso2", "a video"),
        ("jpeg-xl", b"\xff\x0a" + bytes(99), "a JPEG XL image"),
        ("jpeg-2000", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99), "a JPEG 2000 image"),
        ("photoshop", b"8BPS\0\1" + bytes(99), "a Photoshop document"),
    ):
        cases.refused(f"other-{name}", lambda data=data: data, known + said)
    for name, data in {
        "zeros": bytes(100_000),
        "random": random.Random(3).randbytes(100_000),
        "text": b"This is a shopping list.\n",
        # What OpenCV or Pillow would decode, or hand to Ghostscript.
        "ppm": b"P6 2 2 255\n" + bytes(12),
        "pfm": b"PF\n2 2\n-1.0\n" + bytes(48),
        "hdr": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 1\n" + bytes(4),
        "sun": b"\x59\xa6\x6a\x95" + struct.pack(">7I", 2, 2, 24, 12, 1, 0, 0) + bytes(12),
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
        "ico": encode(Image.new("RGBA", (16, 16)), "ICO"),
        "tga": encode(Image.new("RGB", (16, 16)), "TGA"),
        "pcx": encode(Image.new("RGB", (16, 16)), "PCX"),
        "wav": b"RIFF\x40\0\0\0WAVEfmt " + bytes(40),
    }.items():
        cases.refused(f"other-{name}", lambda data=data: data, "it is not an image, or its header")


def _truncated(cases: Cases) -> None:
    """Photos cut off at every tenth, in the header, and one byte short."""
    for kind, data in samples().items():
        for tenth in range(1, 10):
            cut = data[: len(data) * tenth // 10]
            cases.refused(f"cut-{kind}-at-{tenth}0-percent", lambda cut=cut: cut, "truncated")
        for length in (1, 3, 5, 9, 16, 24):
            cut = data[:length]
            cases.refused(f"cut-{kind}-at-byte-{length}", lambda cut=cut: cut, "it is ")
        short = partial(data.__getitem__, slice(-1))
        if kind.startswith(("gif", "jpeg")):  # whose last bytes come after the pixels
            cases.either(f"cut-{kind}-by-one", short)
        else:
            cases.refused(f"cut-{kind}-by-one", short, "truncated")


CASES = Cases()
for _add in (
    _ordinary,
    hostile_bombs.add,
    hostile_kinds.add,
    _polyglots,
    _others,
    _truncated,
):
    _add(CASES)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Change some bytes of a file, mostly near its start, where headers are."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        end = min(len(changed), 200) if rng.random() < 0.6 else len(changed)
        at, other = rng.randrange(end), rng.randrange(len(changed))
        length = rng.choice((1, 2, 4, 8, 12))
        match rng.randrange(6):
            case 0:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at] = rng.choice((0, 1, 2, 4, 8, 16, 127, 128, 254, 255))
            case 2:
                number = rng.choice((0, 1, 255, 256, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1))
                changed[at : at + 4] = number.to_bytes(4, rng.choice(("little", "big")))
            case 3 if len(changed) > 2 * length:
                del changed[at : at + length]
            case 4:
                changed[at:at] = changed[other : other + length]
            case _:
                changed[at : at + length] = changed[other : other + length]
    # Else a PNG's wrong checksum hides whatever lies behind it.
    return with_checksums(bytes(changed)) if changed[:4] == b"\x89PNG" else bytes(changed)


def write(folder: Path) -> dict[str, Path]:
    """Write each case to a file, under an extension that says nothing."""
    paths = {name: folder / f"{name}.jpg" for name in CASES}
    for name, path in paths.items():
        path.write_bytes(CASES[name].make())
    return paths


if __name__ == "__main__":
    for _path in write(Path(sys.argv[1])).values():
        print(_path)
