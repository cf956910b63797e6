"""JPEGs that are decoded at a fraction of their size."""

import io
import struct

import numpy as np
import pytest
from image_files import ORIENTATION, encode, gradients, noise
from PIL import Image, ImageOps

from vsam_heatmaps import read_photo
from vsam_heatmaps.errors import UnreadablePhotoError
from vsam_heatmaps.images import decode, decode_photo


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
        exif[ORIENTATION] = orientation
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
        (path := tmp_path / "photo.jpg").write_bytes(data)
        assert read_photo(path, max_pixels=pixels, least_side=50).shape == (42, 65, 3)
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
        data = encode(noise().resize((400, 300)), "JPEG", quality=90, **options)
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
    exif[ORIENTATION] = 6
    options = {"exif": exif, "comment": b"\xff\xc0" * 900, "icc_profile": b"\xff\xd9" * 70000}
    photo = decode_photo(encode(image, "JPEG", quality=95, **options))
    assert photo.shape == (image.width, image.height, 3)
    # Two pictures in one file: a photo and its preview, as phones write them.
    double = encode(image, "MPO", save_all=True, append_images=[image.resize((9, 9))])
    assert decode_photo(double).shape == (image.height, image.width, 3)
