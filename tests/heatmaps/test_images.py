"""Photos as people have them: kinds, rotations, damage, sizes."""

import io
import struct
import zlib

import numpy as np
import pytest
from image_files import tiff
from PIL import Image, ImageOps

from vsam_heatmaps import read_photo
from vsam_heatmaps.errors import UnreadablePhotoError
from vsam_heatmaps.images import decode, decode_photo, from_pillow

WIDTH, HEIGHT = 37, 24
EXIF_ORIENTATION = 274


def gradients() -> np.ndarray:
    """Make a photo without any symmetry: red grows rightwards, green downwards, blue both."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    red, green = columns * 255 // WIDTH, rows * 255 // HEIGHT
    blue = (rows + columns) * 255 // (WIDTH + HEIGHT)
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def noise() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (60, 80, 3), np.uint8)


def opacity() -> np.ndarray:
    return (255 - np.mgrid[:HEIGHT, :WIDTH][1] * 255 // WIDTH).astype(np.uint8)


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


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
    exif[EXIF_ORIENTATION] = orientation
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
    exif[EXIF_ORIENTATION] = orientation
    options = {"save_all": True, "append_images": [second], "lossless": True, "exact": True}
    photo = read(tmp_path, encode(first, "WEBP", exif=exif, **options))
    still = decode_photo(encode(first, "WEBP", exif=exif, lossless=True, exact=True))
    assert levels_apart(photo, still) == 0
    if colours == "RGB":
        first.getexif()[EXIF_ORIENTATION] = orientation
        assert levels_apart(photo, np.asarray(ImageOps.exif_transpose(first))) == 0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparency_lies_over_white_and_is_rotated_too(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    rgba = Image.fromarray(np.dstack([gradients(), opacity()]))
    photo = read(tmp_path, encode(rgba, kind, exif=exif, **options))
    flat = Image.fromarray(np.rint(over_white(gradients(), opacity())).astype(np.uint8))
    flat.getexif()[EXIF_ORIENTATION] = orientation
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
    image = Image.fromarray(noise())
    if alpha:
        image.putalpha(Image.fromarray(noise()[..., 0]))
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


class TestReduced:
    """JPEGs at a half, a quarter and an eighth."""

    SIZE = (333, 517)
    SIDES = {300: 1, 259: 2, 258: 2, 130: 4, 65: 8, 10: 8}  # noqa: RUF012

    def photo(self, mode="RGB") -> Image.Image:
        """Make a smooth photo without any symmetry, so that scales and rotations can be told."""
        return (
            Image.fromarray(gradients()).resize(self.SIZE, Image.Resampling.BICUBIC).convert(mode)
        )

    def turned(self, orientation, image=None, **options) -> bytes:
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = orientation
        return encode(image or self.photo(), "JPEG", quality=95, exif=exif, **options)

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    @pytest.mark.parametrize("progressive", [False, True])
    def test_it_is_the_whole_photo_upright_but_smaller(self, mode, progressive, orientation):
        data = self.turned(orientation, self.photo(mode), progressive=progressive)
        whole = decode(data)
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        assert whole.size == upright.size == whole.image.shape[1::-1]
        for side, divisor in self.SIDES.items():
            reduced = decode(data, least_side=side)
            assert reduced.size == whole.size
            width, height = (-(-length // divisor) for length in whole.size)
            assert reduced.image.shape == (height, width, 3)
            # Another way to the same: means over squares, then turned.
            off = np.abs(self.means(data, divisor, orientation) - reduced.image)
            assert off.mean() < (2 if mode == "CMYK" else 1)  # which is rounded a level apart
            assert off.max() < 12

    def means(self, data, divisor, orientation) -> np.ndarray:
        """Average a JPEG over squares as it is stored, and turn the result upright: float."""
        stored = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), float)
        missing = [(0, -length % divisor) for length in stored.shape[:2]]
        rows, columns = (-(-length // divisor) for length in stored.shape[:2])
        squares = np.pad(stored, [*missing, (0, 0)], "edge")
        small = squares.reshape(rows, divisor, columns, divisor, 3).mean((1, 3))
        flipped = {2: small[:, ::-1], 3: small[::-1, ::-1], 4: small[::-1]}
        across = small.transpose(1, 0, 2)
        flipped |= {5: across, 6: across[:, ::-1], 7: across[::-1, ::-1], 8: across[::-1]}
        return flipped.get(orientation, small)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_the_size_is_known_when_the_small_image_is_square(self, orientation):
        data = self.turned(orientation, self.photo().resize((400, 399)))
        reduced = decode(data, least_side=50)
        assert reduced.image.shape == (50, 50, 3)
        assert reduced.size == ((400, 399) if orientation <= 4 else (399, 400))

    def test_the_shorter_side_can_be_what_counts(self):
        data = encode(self.photo().resize((400, 160)), "JPEG")
        widths = {}
        for side in range(1, 170):
            photo = decode_photo(data, least_shorter_side=side)
            assert photo.shape[0] >= min(side, 160)
            widths[side] = photo.shape[1]
        assert [widths[side] for side in (20, 21, 40, 41, 80, 81)] == [50, 100, 100, 200, 200, 400]
        assert decode_photo(data, least_side=50, least_shorter_side=41).shape == (80, 200, 3)
        assert decode_photo(data, least_side=201, least_shorter_side=41).shape == (160, 400, 3)

    def test_a_photo_is_never_enlarged_nor_reduced_too_far(self):
        data = encode(self.photo().resize((100, 70)), "JPEG")
        for side in range(1, 140):
            photo = decode_photo(data, least_side=side)
            assert max(photo.shape) >= min(side, 100)
            assert max(photo.shape) in (100, 50, 25, 13)
        np.testing.assert_array_equal(decode_photo(data, least_side=51), decode_photo(data))

    @pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP", "GIF"])
    def test_other_formats_are_decoded_in_full(self, kind):
        data = encode(self.photo().quantize(64) if kind == "GIF" else self.photo(), kind)
        reduced = decode(data, least_side=50)
        assert reduced.size == self.SIZE
        np.testing.assert_array_equal(reduced.image, decode_photo(data))

    def test_the_limit_counts_the_whole_photo(self, tmp_path):
        data = self.turned(6)
        pixels = self.SIZE[0] * self.SIZE[1]
        assert read(tmp_path, data, max_pixels=pixels, least_side=50).shape == (42, 65, 3)
        with pytest.raises(UnreadablePhotoError) as refused:
            decode(data, max_pixels=pixels - 1, least_side=50)
        assert str(refused.value) == (
            f"it has 333 x 517 pixels, more than the limit of {pixels - 1} (--max-pixels)"
        )

    @pytest.mark.parametrize(
        "options",
        [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}],
        ids=["plain", "progressive", "no-subsampling", "restarts"],
    )
    def test_what_is_refused_in_full_is_refused_reduced(self, options):
        data = encode(Image.fromarray(noise()).resize((400, 300)), "JPEG", quality=90, **options)
        rng = np.random.default_rng(3)
        damaged = [data[:length] for length in range(1, len(data), len(data) // 80)]
        damaged += [data[:-length] for length in range(1, 20)]
        for position in [*range(0, 700, 7), *rng.integers(700, len(data), 60)]:
            flipped = bytearray(data)
            flipped[position] ^= 1 << int(rng.integers(8))
            damaged.append(bytes(flipped))
        refused = 0
        for each in damaged:
            said = {self.refusal(each, side) for side in (None, 200, 100, 50)}
            assert len(said) == 1, said
            refused += said != {""}
        assert refused > 90

    def refusal(self, data, side) -> str:
        try:
            decode(data, least_side=side)
        except UnreadablePhotoError as error:
            return str(error)
        return ""


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_jpeg_above_the_limit_is_refused_before_it_is_decoded():
    data = bytearray(encode(Image.new("RGB", (16, 16)), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 20000, 30000)
    with pytest.raises(UnreadablePhotoError, match=r"^it has 30000 x 20000 pixels, more than"):
        decode(bytes(data))


def test_jpegs_with_much_before_the_frame_are_read():
    """Comments, application data with a small picture inside, several tables."""
    image = Image.fromarray(gradients())
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    options = {"exif": exif, "comment": b"\xff\xc0" * 900, "icc_profile": b"\xff\xd9" * 70000}
    photo = decode_photo(encode(image, "JPEG", quality=95, **options))
    assert photo.shape == (WIDTH, HEIGHT, 3)
    # Two pictures in one file: a photo and its preview, as phones write them.
    double = encode(image, "MPO", save_all=True, append_images=[image.resize((9, 9))])
    assert decode_photo(double).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "1", "CMYK", "I;16"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_pillow_image_becomes_what_its_file_becomes(tmp_path, mode, orientation):
    rng = np.random.default_rng(0)
    path = tmp_path / ("photo.tiff" if mode == "CMYK" else "photo.png")
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 2**16, (20, 30), dtype=np.uint16))
    else:
        values = rng.integers(0, 256, (20, 30, 4), dtype=np.uint8)
        image = Image.fromarray(values, "RGBA").convert(mode)
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    # Of a TIFF that is not compressed and opened by its path, Pillow itself loses the rotation.
    image.save(path, exif=exif, **({"compression": "tiff_lzw"} if mode == "CMYK" else {}))
    with Image.open(path) as opened:
        found = from_pillow(opened)
    assert found.dtype == np.uint8
    assert found.shape == ((30, 20, 3) if orientation == 6 else (20, 30, 3))
    np.testing.assert_array_equal(found, read_photo(path))


def test_a_pillow_image_without_pixels_or_with_too_many_is_refused():
    for size, limit in (((0, 4), 100), ((11, 10), 100)):
        with pytest.raises(UnreadablePhotoError, match=f"it has {size[0]} x {size[1]} pixels"):
            from_pillow(Image.new("RGB", size), max_pixels=limit)


@pytest.mark.parametrize("levels", [np.int32, np.float32])
def test_a_pillow_image_whose_levels_may_reach_anywhere_is_refused(levels):
    # As Pillow opens a 16-bit PGM; and as arrays from 0 to 1 become: white, and black.
    image = Image.fromarray(np.array([[0, 1], [300, 65535]], levels))
    with pytest.raises(UnreadablePhotoError, match=f"^its levels have 32 bits .mode {image.mode}"):
        from_pillow(image)
