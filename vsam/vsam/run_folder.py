"""The run folder: what training leaves and prediction needs. `vsam/README.md` describes it.

No file of it is a pickle: weights and optimizer state are safetensors, the rest is JSON.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from vsam_datasets.preprocessing import Preprocessing
from vsam_heatmaps.atomic import replacing, write_text
from vsam_heatmaps.errors import VsamError, expected, explain_os_error

from .modeling.build import ModelConfig, build_vsam
from .modeling.vsam import VSAM

FORMAT_VERSION = 1
WEIGHTS, CONFIG, LABELS = "model.safetensors", "config.json", "labels.json"
METRICS, LAST = "metrics.jsonl", "last.safetensors"


@dataclass(frozen=True)
class Labels:
    """Names of the model's outputs, in order."""

    categories: tuple[str, ...]
    attributes: tuple[str, ...]


@dataclass(frozen=True)
class Checkpoint:
    """A model with everything that it takes to use it.

    Attributes:
        model: In evaluation mode.
        config: What the model was built from.
        preprocessing: What its input must look like.
        labels: Names of its outputs.
        threshold: Attributes with a probability above it are predicted.
        training: The training's configuration, for the record.
    """

    model: VSAM
    config: ModelConfig
    preprocessing: Preprocessing
    labels: Labels
    threshold: float
    training: dict[str, Any]


def save_description(
    run: Path,
    *,
    config: ModelConfig,
    preprocessing: Preprocessing,
    labels: Labels,
    threshold: float,
    training: dict[str, Any],
) -> None:
    """Write `config.json` and `labels.json`."""
    description = {
        "format_version": FORMAT_VERSION,
        "model": asdict(config),
        "preprocessing": asdict(preprocessing),
        "threshold": threshold,
        "training": training,
    }
    write_text(run / LABELS, json.dumps(asdict(labels), indent=2, ensure_ascii=False) + "\n")
    write_text(run / CONFIG, json.dumps(description, indent=2, ensure_ascii=False) + "\n")


def save_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write tensors as a safetensors file, atomically."""
    from safetensors.torch import save

    owned = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        temporary.write_bytes(save(owned, metadata))


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read a safetensors file and its metadata.

    Raises:
        VsamError: If it is missing, damaged or no such file.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise VsamError(f"Expected {path} to be there, but it is not. Is the run complete?")
    try:
        with safe_open(path, framework="pt") as file:
            # safe_open is no mapping: it has keys(), but can't be iterated.
            tensors = {name: file.get_tensor(name) for name in list(file.keys())}
            return tensors, file.metadata() or {}
    except SafetensorError as error:
        raise VsamError(f"Expected {path} to be a safetensors file, but {error}.") from error
    except OSError as error:
        raise explain_os_error(error, f"read {path}") from error


def load_checkpoint(run: Path) -> Checkpoint:
    """Load a run folder's best model.

    Raises:
        VsamError: If a file is missing or damaged, the format is another version, or the weights
            do not fit the configuration or hold NaN. The file and the tensor are named.
    """
    description, labels = read_description(run), _read_labels(run)
    config, preprocessing = _parse(run, description)
    if (len(labels.categories), len(labels.attributes)) != (config.categories, config.attributes):
        raise VsamError(
            f"Expected {run / LABELS} to name {config.categories} categories and "
            f"{config.attributes} attributes, but it names {len(labels.categories)} and "
            f"{len(labels.attributes)}."
        )
    state, _ = load_tensors(run / WEIGHTS)
    model = build_vsam(config)
    load_weights(model, state, run / WEIGHTS)
    return Checkpoint(
        model=model.eval(),
        config=config,
        preprocessing=preprocessing,
        labels=labels,
        threshold=float(description.get("threshold", 0.5)),
        training=description.get("training", {}),
    )


def load_weights(model: VSAM, state: dict[str, torch.Tensor], path: Path) -> None:
    """Load a state dict; names, shapes and finiteness are checked, and `path` is blamed."""
    wanted = model.state_dict()
    for problem, names in {
        "lacks": sorted(set(wanted) - set(state)),
        "holds the unknown": sorted(set(state) - set(wanted)),
    }.items():
        if names:
            raise VsamError(
                f"Expected {path} to fit its {CONFIG}, but it {problem} {names[0]}"
                f"{f' and {len(names) - 1} more' if names[1:] else ''}."
            )
    for name, tensor in wanted.items():
        if state[name].shape != tensor.shape:
            found = tuple(state[name].shape)
            raise expected(f"{name} in {path}", f"of shape {tuple(tensor.shape)}", found)
        if not state[name].isfinite().all():
            raise VsamError(
                f"Expected {name} in {path} to be finite, but it holds NaN or infinity. "
                "The training diverged, or the file was damaged: train again with a lower --lr."
            )
    model.load_state_dict(state)


def read_description(run: Path) -> dict[str, Any]:
    """Read `config.json`.

    Raises:
        VsamError: If it is missing, damaged or of another format version.
    """
    if not run.is_dir():
        raise VsamError(f"Expected the model {run} to be a run folder, but it is not there.")
    description = _read_json(run / CONFIG)
    version = description.get("format_version")
    if version != FORMAT_VERSION:
        raise expected(f"format_version of {run / CONFIG}", str(FORMAT_VERSION), version)
    return description


def _read_labels(run: Path) -> Labels:
    labels = _read_json(run / LABELS)
    try:
        return Labels(tuple(labels["categories"]), tuple(labels["attributes"]))
    except (KeyError, TypeError) as error:
        raise VsamError(f"Expected {run / LABELS} to hold categories and attributes.") from error


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise VsamError(
            f"Expected {path.parent} to be a run folder of vsam-train, but it has no {path.name}."
        )
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise VsamError(f"Could not read {path}: {error}.") from error
    if not isinstance(value, dict):
        raise VsamError(f"Expected {path} to hold a JSON object.")
    return value


def _parse(run: Path, description: dict[str, Any]) -> tuple[ModelConfig, Preprocessing]:
    try:
        given = dict(description["preprocessing"])
        given |= {name: tuple(given[name]) for name in ("mean", "std")}
        return ModelConfig(**description["model"]), Preprocessing(**given)
    except (KeyError, TypeError) as error:
        raise VsamError(
            f"Expected {run / CONFIG} to describe a model and its preprocessing, but {error}."
        ) from error
