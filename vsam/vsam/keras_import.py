"""Turn the published VSAM's Keras weights into a run folder.

The published model's layers have names of their own, except its heads' convolutions, which Keras
numbered: `conv2d_1` and `conv2d_2` in one file, other numbers in another, the category's first.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch

from vsam_datasets import deepfashion
from vsam_datasets.tables import label_name
from vsam_heatmaps.errors import VsamError, explain_os_error

from . import run_folder
from .keras_weights import (
    VGG_PREPROCESSING,
    block_layers,
    keras_shape,
    read_shapes,
    read_tensors,
)
from .misfits import Shape, describe_misfits
from .modeling.build import ModelConfig, build_vsam
from .modeling.vsam import VSAM
from .run_folder import Labels

PREPROCESSING = replace(VGG_PREPROCESSING, interpolation="nearest")
"""The published model's input."""

_THRESHOLD = 0.5
_DENSE_LAYERS = {"categories": "out_1_dense", "attributes": "out_3_dense"}
_HEADS = {"categories": "category_head", "attributes": "attribute_head"}


def import_keras(
    weights: Path, run: Path, *, categories: Path | None = None, attributes: Path | None = None
) -> Labels:
    """Make a run folder out of the published model's weights.

    Args:
        weights: HDF5 file of Keras 2.
        run: The folder to make; it must not exist, or be empty.
        categories: Text file with the categories' names, one a line, in the order of the outputs.
            By default DeepFashion's 46.
        attributes: The same of the attributes; by default DeepFashion's 1000.

    Returns:
        Names of the model's outputs.

    Raises:
        VsamError: If a file can't be read, layers are missing, unknown or of another shape, or the
            numbers of names and outputs differ. Nothing is left behind then.
    """
    run_folder.require_new(run)
    shapes = read_shapes(weights)
    labels = Labels(
        _read_names("categories", categories, deepfashion.category_names(), shapes),
        _read_names("attributes", attributes, deepfashion.attribute_names(), shapes),
    )
    config = ModelConfig(
        categories=len(labels.categories),
        attributes=len(labels.attributes),
        image_size=PREPROCESSING.image_size,
    )
    with torch.device("meta"):  # shapes without numbers: the file brings all of these
        model = build_vsam(config)
    assert isinstance(model, VSAM)
    names = _match(model, shapes, weights)
    tensors = read_tensors(weights, names)
    state = {ours: tensors[theirs] for theirs, ours in names.items()}
    model.load_state_dict(state, assign=True)
    with run_folder.new_run(run) as folder:
        run_folder.save_tensors(folder / run_folder.WEIGHTS, state, {})
        run_folder.save_description(
            folder,
            config=config,
            preprocessing=PREPROCESSING,
            labels=labels,
            threshold=_THRESHOLD,
            training={run_folder.IMPORTED_FROM: weights.name, "sha256": _sha256(weights)},
        )
    return labels


def _match(model: VSAM, shapes: dict[str, Shape], path: Path) -> dict[str, str]:
    """Map the names of the file's weights to those of a model's; all are there and fit."""
    layers = {name: f"features.{ours}" for name, ours in block_layers(model.features).items()}
    layers |= {"conv_1x1x512": "attention.fuse.conv", "conv_7x7x1": "attention.attend.conv"}
    for (kind, head), convolution in zip(_HEADS.items(), _head_convolutions(shapes), strict=True):
        layers |= {convolution: f"{head}.conv", _DENSE_LAYERS[kind]: f"{head}.linear"}
    names = {
        f"{layer}/{role}": f"{module}.{parameter}"
        for layer, module in layers.items()
        for role, parameter in {"kernel": "weight", "bias": "bias"}.items()
    }
    state = model.state_dict()
    wanted = {theirs: keras_shape(state[ours].shape) for theirs, ours in names.items()}
    misfits = describe_misfits(*_whole_layers_by_name(wanted, shapes))
    if misfits:
        raise VsamError(f"Expected {path} to hold the published VSAM's layers, but {misfits}.")
    return names


def _head_convolutions(shapes: dict[str, Shape]) -> list[str]:
    """Find the two numbered convolutions, the lower number first; what is missing is added."""
    numbers = {
        layer: int(found[1] or 0)
        for layer in _layers(shapes)
        if (found := re.fullmatch(r"conv2d(?:_(\d+))?", layer))
    }
    there = sorted(numbers, key=lambda layer: numbers[layer])[:2]
    missing = [name for name in ("conv2d_1", "conv2d_2") if name not in there]
    return [*there, *missing[: 2 - len(there)]]


def _layers(names: Iterable[str]) -> set[str]:
    return {name.rpartition("/")[0] for name in names}


def _whole_layers_by_name(
    wanted: dict[str, Shape], given: dict[str, Shape]
) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Give a layer that only one side has as one entry, not as kernel and bias."""

    def shortened(names: dict[str, Shape], others: set[str]) -> dict[str, Shape]:
        return {
            name if (layer := name.rpartition("/")[0]) in others else layer: shape
            for name, shape in names.items()
        }

    return shortened(wanted, _layers(given)), shortened(given, _layers(wanted))


def _read_names(
    kind: str, path: Path | None, default: tuple[str, ...], shapes: dict[str, Shape]
) -> tuple[str, ...]:
    """Read the names of a head's outputs; there are as many as it has."""
    kernel = shapes.get(f"{_DENSE_LAYERS[kind]}/kernel", ())
    outputs = kernel[-1] if len(kernel) == 2 else None  # what is no dense layer is told later
    names = default if path is None else _read_lines(path)
    if outputs in (None, len(names)):
        return names
    if path is None:
        raise VsamError(
            f"The weights have {outputs} {kind}, but DeepFashion has {len(names)}. Give their "
            f"names with --{kind} FILE, one a line."
        )
    raise VsamError(
        f"Expected {path} to name {outputs} {kind}, as many as the weights have, but it names "
        f"{len(names)}."
    )


def _read_lines(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise explain_os_error(error, f"read {path}") from error
    except UnicodeDecodeError as error:
        raise VsamError(f"Expected {path} to be UTF-8 text, but {error}.") from error
    names = tuple(map(label_name, lines))
    if not names or not all(names):
        raise VsamError(f"Expected {path} to hold a name on each line, but a line is empty.")
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise VsamError(f"Expected the names in {path} to differ, but {twice!r} is there twice.")
    return names


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
