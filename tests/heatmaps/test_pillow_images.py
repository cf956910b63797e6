"""Images that are open in Pillow."""

import numpy as np
import pytest
from image_files import ORIENTATION
from PIL import Image

from vsam_heatmaps import read_photo
from vsam_heatmaps.errors import UnreadablePhotoError
from vsam_heatmaps.images import from_pillow


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
    exif[ORIENTATION] = orientation
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
