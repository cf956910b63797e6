"""The network's input against Pillow and numpy, and the way back."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vsam_datasets.preprocessing import PairedAugmentation, Preprocessing
from vsam_heatmaps.errors import VsamError


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# Where sides share large factors, centres fall between two pixels and rounding decides.
sides = st.one_of(st.integers(1, 300), st.sampled_from([32, 64, 256, 320, 512, 640, 1024]))


@given(height=sides, width=sides, size=st.sampled_from([32, 48, 112, 224]))
@settings(max_examples=40, deadline=None)
def test_nearest_takes_pillows_pixels(height, width, size):
    photo = noise(height, width)
    found = Preprocessing(image_size=size, interpolation="nearest").resize(photo)
    expected = np.asarray(Image.fromarray(photo).resize((size, size), Image.NEAREST))
    assert found.dtype == torch.uint8
    assert np.array_equal(found.permute(1, 2, 0).numpy(), expected)


@given(height=sides, width=sides, size=st.sampled_from([32, 112]))
@settings(max_examples=40, deadline=None)
def test_bilinear_is_within_a_level_of_pillow(height, width, size):
    photo = noise(height, width)
    found = Preprocessing(image_size=size).resize(photo).permute(1, 2, 0).numpy()
    expected = np.asarray(Image.fromarray(photo).resize((size, size), Image.BILINEAR))
    # Both average over the same pixels, and round after each of the two passes.
    assert np.abs(found.astype(int) - expected).max() <= 2


def test_resize_takes_another_size_and_leaves_the_photo():
    photo = noise(50, 70)
    before = photo.copy()
    assert Preprocessing(image_size=32).resize(photo, 48).shape == (3, 48, 48)
    assert np.array_equal(photo, before)


def test_photos_with_another_memory_layout_are_read_as_they_look():
    photo = noise(64, 64)
    turned = np.rot90(photo)
    preprocess = Preprocessing(image_size=32)
    assert torch.equal(preprocess(turned), preprocess(np.ascontiguousarray(turned)))


def test_normalisation_is_torchvisions_by_default():
    photo = noise(64, 64)
    expected = (photo / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    found = Preprocessing(image_size=64)(photo).permute(1, 2, 0).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_levels_can_stay_as_they_are():
    # As Keras prepares photos for VGG: the very same float32 arithmetic, so the same bits.
    means = (103.939, 116.779, 123.68)
    published = Preprocessing(
        image_size=64,
        interpolation="nearest",
        colour="bgr",
        mean=means,
        std=(1, 1, 1),
        pixel_max=255,
    )
    photo = noise(64, 64)
    expected = photo[..., ::-1].astype(np.float32) - np.array(means, np.float32)
    assert np.array_equal(published(photo).permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
@pytest.mark.parametrize("pixel_max", [1, 255])
def test_denormalize_undoes_normalize(colour, pixel_max):
    # Every level in every channel.
    levels = torch.stack([torch.arange(256, dtype=torch.uint8).roll(k * 85) for k in range(3)])
    pixels = levels.view(3, 16, 16)
    preprocess = Preprocessing(
        colour=colour, mean=(0.1, 0.5, 0.7), std=(0.2, 0.3, 1.0), pixel_max=pixel_max
    )
    assert torch.equal(preprocess.denormalize(preprocess.normalize(pixels)), pixels)
    batch = torch.stack([pixels, pixels.flip(0)])
    assert torch.equal(preprocess.denormalize(preprocess.normalize(batch)), batch)


@pytest.mark.parametrize(
    "values",
    [
        {"image_size": 0},
        {"image_size": 16},
        {"image_size": 31},
        {"interpolation": "cubic"},
        {"colour": "gray"},
        {"mean": (0.5, 0.5)},
        {"mean": (0.5, 0.5, float("nan"))},
        {"std": (1.0, 1.0, 0.0)},
        {"std": (1.0, 1.0, float("inf"))},
        {"pixel_max": 100},
    ],
)
def test_impossible_values_are_refused(values):
    with pytest.raises(VsamError, match=f"Expected `{next(iter(values))}` to be"):
        Preprocessing(**values)


def test_it_can_be_rebuilt_from_its_values():
    given_ = Preprocessing(image_size=96, colour="bgr", mean=(0.1, 0.2, 0.3))
    assert Preprocessing(**asdict(given_)) == given_


def test_augmentation_recolours_the_photo_alone():
    torch.manual_seed(0)
    augment = PairedAugmentation(32, scale=(1, 1), ratio=(1, 1))
    photo = torch.full((3, 32, 32), 100, dtype=torch.uint8)
    heatmap = torch.full((1, 32, 32), 0.5)
    moved = [augment(photo, heatmap) for _ in range(10)]
    assert len({int(pixels.sum()) for pixels, _ in moved}) > 5
    for pixels, map_ in moved:
        assert type(pixels) is type(map_) is torch.Tensor
        assert pixels.dtype == torch.uint8
        torch.testing.assert_close(map_, heatmap)


def test_augmentation_mirrors_about_half_of_the_pairs():
    torch.manual_seed(0)
    augment = PairedAugmentation(32, scale=(1, 1), ratio=(1, 1), colour=0)
    photo = torch.zeros(3, 32, 32, dtype=torch.uint8)
    photo[:, :, :8] = 255
    heatmap = photo[:1].float() / 255
    mirrored = 0
    for _ in range(100):
        pixels, map_ = augment(photo, heatmap)
        assert torch.equal(pixels[:1].float() / 255, map_)
        mirrored += bool(pixels[0, 0, -1] == 255)
    assert 30 <= mirrored <= 70
