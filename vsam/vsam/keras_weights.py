"""Read the weights that Keras 2 saves as HDF5. Nothing of the file is run, and no Keras is needed.

A group for each layer, listed in the attribute `layer_names` of the root or of `model_weights`; in
each the arrays that its attribute `weight_names` lists, mostly as `layer/kernel:0`.
"""

from __future__ import annotations

import contextlib
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vsam_datasets.preprocessing import Preprocessing
from vsam_heatmaps.errors import VsamError, explain_os_error

from .misfits import Shape

VGG_PREPROCESSING = Preprocessing(
    colour="bgr", mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0), pixel_max=255
)
"""What Keras' VGG-16 was trained on: levels of blue, green and red, less their means."""

_REMEDY = "Expected are weights that Keras 2 saved as HDF5 (model.save_weights('weights.h5'))."
# Keras 1 numbered its arrays: block1_conv1_W_1:0 is a kernel, block1_conv1_b_1:0 a bias.
_OLD_ROLES = {"W": "kernel", "b": "bias"}


def is_hdf5(path: Path) -> bool:
    """Say whether a file is HDF5, by its content."""
    return bool(h5py.is_hdf5(path))


def read_shapes(path: Path) -> dict[str, Shape]:
    """Read which weights a file holds.

    Returns:
        Shapes by `layer/kernel` and `layer/bias`; layers without weights are left out, and so is
        the state of an optimizer.

    Raises:
        VsamError: If the file is missing, damaged, or no HDF5 file in the layout of Keras 2.
    """
    with _opened(path) as weights:
        return {name: tuple(dataset.shape) for name, dataset in weights.items()}


def read_tensors(path: Path, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """Read weights in torch's order of axes, as float32.

    Args:
        path: The file.
        names: As `read_shapes` gives them.

    Raises:
        VsamError: As for `read_shapes`, and if an array holds no numbers, NaN or infinity.
    """
    tensors = {}
    with _opened(path) as weights:
        for name in names:
            if weights[name].dtype.kind != "f":
                raise VsamError(
                    f"Expected {name} in {path} to hold floats, but it is {weights[name].dtype}."
                )
            values = np.asarray(weights[name][()], np.float32)
            if not np.isfinite(values).all():
                raise VsamError(
                    f"Expected {name} in {path} to be finite, but it holds NaN or infinity."
                )
            tensors[name] = torch.from_numpy(_to_torch(values))
    return tensors


def keras_shape(shape: Iterable[int]) -> Shape:
    """Turn the shape of one of torch's weights into that of Keras.

    >>> keras_shape((64, 3, 5, 7)), keras_shape((46, 1024)), keras_shape((46,))
    ((5, 7, 3, 64), (1024, 46), (46,))
    """
    # (O, I, H, W) -> (H, W, I, O) and (O, I) -> (I, O)
    outputs, *inputs = shape
    return (*inputs[1:], *inputs[:1], outputs)


def _to_torch(values: NDArray[np.float32]) -> NDArray[np.float32]:
    # (H, W, I, O) -> (O, I, H, W) and (I, O) -> (O, I)
    axes = list(range(values.ndim))
    return np.ascontiguousarray(values.transpose([*reversed(axes[-2:]), *axes[:-2]]))


def block_layers(features: nn.Module) -> dict[str, str]:
    """Map Keras' names of VGG's convolutions to torchvision's: `block1_conv2` to `2`.

    Args:
        features: Convolution blocks that end with max-pooling each.
    """
    layers, block, number = {}, 1, 0
    for name, layer in features.named_children():
        if isinstance(layer, nn.Conv2d):
            number += 1
            layers[f"block{block}_conv{number}"] = name
        elif isinstance(layer, nn.MaxPool2d):
            block, number = block + 1, 0
    return layers


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[dict[str, h5py.Dataset]]:
    """Open a file; give its weights by `layer/kernel` and `layer/bias`."""
    if not path.is_file():
        raise VsamError(f"Expected the weights {path} to be a file, but it is not there.")
    try:
        path.open("rb").close()
    except OSError as error:
        raise explain_os_error(error, f"read {path}") from error
    try:
        if not is_hdf5(path):
            kind = "a Keras 3 archive (.keras)" if zipfile.is_zipfile(path) else "no HDF5 file"
            raise VsamError(f"{path} is {kind}. {_REMEDY}")
        with h5py.File(path, "r") as file:
            yield _datasets(path, file)
    # h5py raises all of these for files that are truncated or damaged.
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise VsamError(f"Could not read {path}, it is damaged or truncated: {reason}.") from error


def _datasets(path: Path, file: h5py.File) -> dict[str, h5py.Dataset]:
    root = file.get("model_weights", file)
    layers = _names(root, "layer_names")
    if layers is None:
        kind = "layers" in file or "_layer_checkpoint_dependencies" in file
        said = "is laid out as Keras 3 does it (.weights.h5)" if kind else "holds no Keras weights"
        raise VsamError(f"{path} {said}. {_REMEDY}")
    found: dict[str, h5py.Dataset] = {}
    for layer in layers:
        group = root[layer]
        weights = _names(group, "weight_names") or []
        scopes = {name.rpartition("/")[0] for name in weights}
        for name in weights:
            scope, _, last = name.rpartition("/")
            # A model used as a layer of another keeps its own layers' names.
            owner = layer if len(scopes) == 1 else scope.rpartition("/")[2]
            key = f"{owner}/{_role(last)}"
            if key in found:
                raise VsamError(f"Expected {path} to hold one {key}, but it holds several.")
            if not isinstance(group[name], h5py.Dataset):
                raise KeyError(f"{layer}/{name} is no array")
            found[key] = group[name]
    return found


def _role(name: str) -> str:
    name = re.sub(r":\d+$", "", name)
    old = re.search(r"_([Wb])(_\d+)?$", name)
    return _OLD_ROLES[old[1]] if old else name


def _names(group: Any, attribute: str) -> list[str] | None:
    """Read a list of names; long ones are split into `layer_names0`, `layer_names1` and so on."""
    parts = [attribute] if attribute in group.attrs else []
    while not parts or parts[-1] != attribute:
        following = f"{attribute}{len(parts)}"
        if following not in group.attrs:
            break
        parts.append(following)
    if not parts:
        return None
    given = [name for part in parts for name in np.ravel(group.attrs[part])]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in given]
