"""Photos as people have them: kinds, rotations, damage, sizes."""

import io
import struct
import zlib

import numpy as np
import pytest
from image_files import ORIENTATION, encode, gradients, noise, tiff
from PIL import Image, ImageOps

from vsam_heatmaps import read_photo
from vsam_heatmaps.errors import UnreadablePhotoError
from vsam_heatmaps.images import decode_photo

HEIGHT, WIDTH = gradients().shape[:2]


def opacity() -> np.ndarray:
    return (255 - np.mgrid[:HEIGHT, :WIDTH][1] * 255 // WIDTH).astype(np.uint8)


def png_chunks(width, height, depth, colour_type, rows, *, transparent=None) -> bytes:
    """Write a PNG by hand: Pillow writes no 16-bit colour."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"tRNS", transparent) if transparent else b"",
            chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows), 9)),
            chunk(b"IEND", b""),
        ]
    )


def read(tmp_path, data: bytes, name="photo.jpg", **options) -> np.ndarray:
    path = tmp_path / name
    path.write_bytes(data)
    photo = read_photo(path, **options)
    assert photo.dtype == np.uint8
    assert photo.ndim == 3
    assert photo.shape[2] == 3
    return photo


def levels_apart(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return np.abs(a.astype(float) - b.astype(float)).max()


def over_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return rgb * share + 255 * (1 - share)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_rotation_is_applied(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    data = encode(Image.fromarray(gradients()), kind, exif=exif, **options)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert (upright.size == (WIDTH, HEIGHT)) == (orientation <= 4)
    # Two JPEG decoders may round a level apart; the others lose nothing.
    assert levels_apart(read(tmp_path, data), np.asarray(upright)) <= (2 if kind == "JPEG" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("colours", ["RGB", "RGBA"])
def test_animations_are_rotated_too(tmp_path, colours, orientation):
    rgba = Image.fromarray(np.dstack([gradients(), opacity()]))
    first, second = rgba.convert(colours), Image.new(colours, (WIDTH, HEIGHT), "red")
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"save_all": True, "append_images": [second], "lossless": True, "exact": True}
    photo = read(tmp_path, encode(first, "WEBP", exif=exif, **options))
    still = decode_photo(encode(first, "WEBP", exif=exif, lossless=True, exact=True))
    assert levels_apart(photo, still) == 0
    if colours == "RGB":
        first.getexif()[ORIENTATION] = orientation
        assert levels_apart(photo, np.asarray(ImageOps.exif_transpose(first))) == 0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparency_lies_over_white_and_is_rotated_too(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    rgba = Image.fromarray(np.dstack([gradients(), opacity()]))
    photo = read(tmp_path, encode(rgba, kind, exif=exif, **options))
    flat = Image.fromarray(np.rint(over_white(gradients(), opacity())).astype(np.uint8))
    flat.getexif()[ORIENTATION] = orientation
    assert levels_apart(photo, np.asarray(ImageOps.exif_transpose(flat))) <= 1


def test_one_transparent_colour_becomes_white(tmp_path):
    grey = Image.fromarray(gradients()[..., 0])
    photo = read(tmp_path, encode(grey, "PNG", transparency=int(gradients()[0, 9, 0])))
    wanted = gradients()[..., 0].copy()
    wanted[:, 9] = 255
    assert levels_apart(photo, np.dstack([wanted] * 3)) == 0
    palette = Image.fromarray(gradients()).quantize(16)
    for kind in ("PNG", "GIF"):
        photo = read(tmp_path, encode(palette, kind, transparency=3))
        wanted = np.array(palette.convert("RGB"))
        hidden = np.asarray(palette) == 3
        assert hidden.any()
        wanted[hidden] = 255
        assert levels_apart(photo, wanted) == 0


def test_sixteen_bits_become_eight(tmp_path):
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    grey = (columns * 65535 // WIDTH).astype(">u2")
    colour = np.stack([grey, rows * 65535 // HEIGHT, grey[::-1, ::-1]], -1).astype(">u2")
    with_alpha = np.dstack([colour, grey]).astype(">u2")
    share = grey[..., None] / 65535
    laid = colour / 257 * share + 255 * (1 - share)
    for colour_type, pixels, wanted, tolerance in (
        (0, grey, np.dstack([grey / 257] * 3), 1),  # 65535 / 257 = 255; cut or rounded
        (2, colour, colour / 257, 1),
        (6, with_alpha, laid, 2),  # colour and opacity are rounded
    ):
        data = png_chunks(WIDTH, HEIGHT, 16, colour_type, [row.tobytes() for row in pixels])
        assert levels_apart(read(tmp_path, data, "photo.png"), wanted) <= tolerance
    data = png_chunks(
        WIDTH, HEIGHT, 16, 0, [row.tobytes() for row in grey], transparent=grey[0, 0].tobytes()
    )
    assert levels_apart(read(tmp_path, data)[:, 1:], np.dstack([grey / 257] * 3)[:, 1:]) <= 1


@pytest.mark.parametrize(
    ("mode", "kind", "options", "tolerance"),
    [
        ("L", "PNG", {}, 0),
        ("L", "JPEG", {"quality": 95}, 1),
        ("LA", "PNG", {}, 0),
        ("P", "PNG", {}, 0),
        ("P", "GIF", {}, 0),
        ("P", "BMP", {}, 0),
        ("1", "PNG", {}, 0),
        ("1", "TIFF", {}, 0),
        # CMYK to RGB is a product that the two libraries round differently.
        ("CMYK", "JPEG", {"quality": 95}, 2),
        ("CMYK", "TIFF", {}, 2),
        ("RGB", "JPEG", {"quality": 90, "progressive": True, "subsampling": 0}, 2),
        ("RGB", "WEBP", {"lossless": True}, 0),
        ("RGB", "WEBP", {"quality": 90}, 2),
        ("RGB", "BMP", {}, 0),
        ("RGB", "TIFF", {"compression": "tiff_lzw"}, 0),
    ],
)
def test_every_kind_becomes_rgb(tmp_path, mode, kind, options, tolerance):
    image = Image.fromarray(gradients())
    image = image.quantize(64) if mode == "P" else image.convert(mode)
    data = encode(image, kind, **options)
    reference = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert len(np.unique(reference)) > 1
    # The name says nothing: what is inside counts.
    assert levels_apart(read(tmp_path, data, "PHOTO.JPG"), reference) <= tolerance


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [False, True])
def test_cmyk_of_16_bits(tmp_path, order, packed):
    """As printers have it, and as Pillow reads it: the high bytes count."""
    values = np.random.default_rng(0).integers(0, 2**16, (HEIGHT, WIDTH, 4), np.uint16)
    pixels = values.astype(f"{order}u2").tobytes()
    tags = {258: (3, [16] * 4), 259: (3, [8 if packed else 1]), 262: (3, [5]), 277: (3, [4])}
    data = tiff(
        WIDTH, HEIGHT, order=order, tags=tags, pixels=zlib.compress(pixels) if packed else pixels
    )
    photo = read(tmp_path, data)
    assert levels_apart(photo, np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))) == 0
    high = Image.fromarray((values >> 8).astype(np.uint8), "CMYK")
    assert levels_apart(photo, np.asarray(high.convert("RGB"))) == 0


@pytest.mark.parametrize("transparent", [False, True])
def test_planes_of_16_bits(tmp_path, transparent):
    """CMYK, and RGB with opacity. Pillow gets them wrong unless they are compressed."""
    values = np.random.default_rng(0).integers(0, 2**16, (HEIGHT, WIDTH, 4), np.uint16)
    colours = {262: (3, [2]), 338: (3, [2])} if transparent else {262: (3, [5])}
    high = Image.fromarray((values >> 8).astype(np.uint8), "RGBA" if transparent else "CMYK")
    if transparent:
        high = Image.alpha_composite(Image.new("RGBA", high.size, "white"), high)
    for compression in (8, 1):
        planes = [plane.tobytes() for plane in values.transpose(2, 0, 1).astype("<u2")]
        if compression == 8:
            planes = [zlib.compress(plane) for plane in planes]
        sizes = [len(plane) for plane in planes]
        starts = [8 + sum(sizes[:number]) for number in range(4)]
        tags = {258: (3, [16] * 4), 259: (3, [compression]), 277: (3, [4]), 284: (3, [2])}
        tags |= colours | {273: (4, starts), 279: (4, sizes)}
        data = tiff(WIDTH, HEIGHT, tags=tags, pixels=b"".join(planes))
        if compression == 8:
            assert levels_apart(read(tmp_path, data), np.asarray(high.convert("RGB"))) == 0
        else:
            with pytest.raises(UnreadablePhotoError, match="uncompressed planes of 16 bits; save"):
                read(tmp_path, data)


@pytest.mark.parametrize("packed", [False, True])
def test_planes_of_grey_and_opacity_are_refused(tmp_path, packed):
    """No decoder gets them right; packed, Pillow gives other greys and no error."""
    planes = [plane.tobytes() for plane in np.full((2, HEIGHT, WIDTH), 128, np.uint8)]
    planes = [zlib.compress(plane) for plane in planes] if packed else planes
    tags = {258: (3, [8] * 2), 259: (3, [8 if packed else 1]), 262: (3, [1]), 277: (3, [2])}
    tags |= {284: (3, [2]), 338: (3, [2])}
    tags |= {273: (4, [8, 8 + len(planes[0])]), 279: (4, [len(plane) for plane in planes])}
    data = tiff(WIDTH, HEIGHT, tags=tags, pixels=b"".join(planes))
    with pytest.raises(UnreadablePhotoError, match="grey and opacity in planes of their own; save"):
        read(tmp_path, data)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path, kind):
    first, second = Image.fromarray(gradients()), Image.fromarray(255 - gradients())
    if kind == "GIF":
        first, second = first.quantize(64), second.quantize(64)
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(first, kind, save_all=True, append_images=[second], duration=50, **options)
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert levels_apart(read(tmp_path, data), np.asarray(first.convert("RGB"))) == 0


@pytest.mark.parametrize(
    ("kind", "options", "alpha"),
    [
        ("JPEG", {}, False),
        ("JPEG", {"progressive": True}, False),
        ("PNG", {}, False),
        ("PNG", {}, True),
        ("WEBP", {}, False),
        ("WEBP", {"lossless": True}, False),
        ("WEBP", {}, True),
        ("GIF", {}, False),
        ("GIF", {"transparency": 3}, True),
        ("BMP", {}, False),
        ("TIFF", {"compression": "tiff_lzw"}, False),
        ("TIFF", {}, True),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about a damaged TIFF
def test_truncated_files_are_refused(tmp_path, kind, options, alpha):
    image = noise()
    if alpha:
        image.putalpha(image.getchannel("R"))
    if kind == "GIF":
        image = image.quantize(64)
    data = encode(image, kind, **options)
    assert read(tmp_path, data).shape == (60, 80, 3)
    lengths = [1, 3, 12, 40, *(len(data) * share // 100 for share in (5, 20, 50, 80, 95, 99))]
    for length in lengths:
        with pytest.raises(UnreadablePhotoError, match=r"^it is (not an image|truncated)"):
            read(tmp_path, data[:length])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"This is a shopping list.\n", "it is not an image, or its header is damaged"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "it is not an image"),
        (b"\xff\xd8\xff\xe0", "it is truncated, or its JPEG header is damaged"),
        (bytes(1000), "it is not an image"),
    ],
)
def test_what_is_no_photo_is_refused(tmp_path, data, reason):
    with pytest.raises(UnreadablePhotoError) as refused:
        read(tmp_path, data)
    assert str(refused.value).startswith(reason)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(UnreadablePhotoError, match=r"^No such file or directory$"):
        read_photo(tmp_path / "none.jpg")
    with pytest.raises(UnreadablePhotoError, match=r"^Is a directory$"):
        read_photo(tmp_path)


def test_the_smallest_photos_are_read(tmp_path):
    for mode in ("RGB", "RGBA", "L", "1"):
        photo = read(tmp_path, encode(Image.new(mode, (1, 1), "white"), "PNG"))
        assert photo.tolist() == [[[255, 255, 255]]]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_photo_above_the_limit_is_refused_before_it_is_decoded(tmp_path):
    # 400 million pixels in some fifty kilobytes. The rows' data is cut off: decoding would find
    # "truncated", so the reason shows that nothing was decoded.
    whole = png_chunks(20000, 20000, 1, 0, (bytes(2500) for _ in range(20000)))
    with pytest.raises(UnreadablePhotoError, match=r"^it has 20000 x 20000 pixels, more than"):
        read(tmp_path, whole[:2000])
    middling = png_chunks(12000, 9000, 1, 0, (bytes(1500) for _ in range(9000)))
    with pytest.raises(UnreadablePhotoError) as refused:
        read(tmp_path, middling[:2000])
    assert str(refused.value) == (
        "it has 12000 x 9000 pixels, more than the limit of 100000000 (--max-pixels)"
    )


def test_the_limit_is_the_number_of_pixels(tmp_path):
    data = encode(Image.fromarray(gradients()), "PNG")
    assert read(tmp_path, data, max_pixels=WIDTH * HEIGHT).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(UnreadablePhotoError, match=r"more than the limit of 887 \(--max-pixels\)"):
        read(tmp_path, data, max_pixels=WIDTH * HEIGHT - 1)
