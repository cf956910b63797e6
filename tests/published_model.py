"""The published model's layers with drawn weights, its Keras 2 file, and photos to try it on.

Nothing here uses vsam: the test of parity and `vsam/parity/make_reference.py`, which runs the model
in TensorFlow, make the same weights and photos out of a seed.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

CATEGORIES, ATTRIBUTES = 46, 1000
BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
PHOTO_SIZES = ((200, 300), (224, 224), (672, 448))
"""Widths and heights; sampling 448 for 224 falls on the border of two pixels each time."""

Weights = dict[str, dict[str, np.ndarray]]


def kernel_shapes() -> dict[str, tuple[int, ...]]:
    """List the layers that have weights, with their kernels: (H, W, I, O) or (I, O)."""
    shapes: dict[str, tuple[int, ...]] = {}
    channels = 3
    for block, outputs in enumerate(BLOCKS, start=1):
        for number, output in enumerate(outputs, start=1):
            shapes[f"block{block}_conv{number}"] = (3, 3, channels, output)
            channels = output
    return shapes | {
        "conv_1x1x512": (1, 1, 128 + 256 + 512, 512),
        "conv_7x7x1": (7, 7, 2, 1),
        "conv2d_1": (3, 3, 512, 1024),
        "conv2d_2": (3, 3, 512, 1024),
        "out_1_dense": (1024, CATEGORIES),
        "out_3_dense": (1024, ATTRIBUTES),
    }


# Factors on He's scale: activations stay near 1, maps and scores spread between 0 and 1.
_GAINS = {
    "block1_conv1": 1 / 64,
    "conv_7x7x1": 1.5,
    "out_1_dense": 3.0,
    "out_3_dense": 3.0,
}


def draw(shape: tuple[int, ...], bound: float, *seed: int) -> np.ndarray:
    """Draw float32 numbers from -bound to bound.

    From the bits of PCG64, which numpy promises to keep, unlike what its Generator makes of them.
    """
    bits = np.random.PCG64(np.random.SeedSequence(seed)).random_raw(math.prod(shape))
    units = (bits >> np.uint64(40)).astype(np.float32) * np.float32(2**-23) - np.float32(1)
    return (units * np.float32(bound)).reshape(shape)


def draw_weights(seed: int) -> Weights:
    """Draw kernels and biases of all layers."""
    weights = {}
    for number, (name, shape) in enumerate(kernel_shapes().items()):
        # Uniform numbers up to sqrt(6 / n) have He's variance, 2 / n.
        bound = _GAINS.get(name, 1.0) * math.sqrt(6 / math.prod(shape[:-1]))
        kernel = draw(shape, bound, seed, number, 0)
        # Sums of zero keep what photos have in common from drowning what tells them apart.
        axes = tuple(range(kernel.ndim - 1))
        weights[name] = {
            "kernel": kernel - kernel.mean(axis=axes, dtype=np.float64).astype(np.float32),
            "bias": draw(shape[-1:], 0.1, seed, number, 1),
        }
    return weights


def write_keras2(path: Path, weights: Weights, *, below: str = "") -> Path:
    """Write weights as Keras 2's `save_weights` does; `below="model_weights"` as its `save`."""
    import h5py

    with h5py.File(path, "w") as file:
        root = file.create_group(below) if below else file
        # Layers without weights are listed, too.
        names = ["input1", *weights, "block1_pool", "Category_deep_2"]
        root.attrs["layer_names"] = [name.encode() for name in names]
        root.attrs["backend"] = b"tensorflow"
        root.attrs["keras_version"] = b"2.2.4"
        for name in names:
            group = root.create_group(name)
            arrays = weights.get(name, {})
            group.attrs["weight_names"] = [f"{name}/{role}:0".encode() for role in arrays]
            for role, array in arrays.items():
                group[f"{name}/{role}:0"] = array
    return path


def draw_photo(width: int, height: int) -> np.ndarray:
    """Draw a photo of shapes and gradients with integers alone, (H, W, 3) uint8 RGB."""
    y, x = np.mgrid[:height, :width]
    red = 255 * x // width
    green = np.where((x - width // 2) ** 2 + (y - height // 3) ** 2 < (width // 4) ** 2, 230, 60)
    blue = np.where((x // 9 + y // 14) % 2, 200, 30) + y * 50 // height
    return np.stack([red, green, blue], axis=2).astype(np.uint8)


def preprocess(image: Any) -> np.ndarray:
    """Make the published model's input of a Pillow image, (224, 224, 3) float32."""
    from PIL import Image

    small = np.asarray(image.convert("RGB").resize((224, 224), Image.NEAREST), np.float32)
    return small[..., ::-1] - np.array([103.939, 116.779, 123.68], np.float32)


def describe_file(path: Path) -> list[str]:
    """List the groups, arrays and attributes of an HDF5 file."""
    import h5py

    lines = []

    def note(name: str, item: Any) -> None:
        what = f"{item.shape} {item.dtype}" if isinstance(item, h5py.Dataset) else "group"
        lines.append(f"{name}: {what}, {', '.join(sorted(item.attrs))}")

    with h5py.File(path) as file:
        note("/", file)
        file.visititems(note)
    return lines


def loss_inputs() -> dict[str, np.ndarray]:
    """Draw outputs and targets of five samples; the loss is computed from them."""
    maps = (5, 9, 9)
    return {
        "category_logits": draw((5, 4), 4, 9, 0),
        "attribute_logits": draw((5, 6), 4, 9, 1),
        "attention": draw(maps, 0.5, 9, 2) + np.float32(0.5),
        "category": np.array([0, 1, 3, 2, 0]),
        "class_weights": np.array([0.5, 2.0, 1.0, 3.0], np.float32),
        "attributes": (draw((5, 6), 1, 9, 3) > 0.3).astype(np.float32),
        "heatmap": (draw(maps, 0.5, 9, 4) + np.float32(0.5)) ** 4,
    }
