"""The run folder: what training leaves and prediction needs. `vsam/README.md` describes it.

No file of it is a pickle: weights and optimizer state are safetensors, the rest is JSON.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import typing
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from vsam_datasets.preprocessing import Preprocessing
from vsam_heatmaps.atomic import replacing, write_text
from vsam_heatmaps.errors import VsamError, expected, explain_os_error

from .calibration import Calibration
from .labels import Labels
from .misfits import describe_misfits
from .modeling.build import ModelConfig, build_vsam
from .modeling.model import TaggingModel

FORMAT_VERSION = 1
_MAX_JSON = 1 << 26
WEIGHTS, CONFIG, LABELS = "model.safetensors", "config.json", "labels.json"
METRICS, LAST = "metrics.jsonl", "last.safetensors"
CALIBRATION = "calibration"
"""The section of `config.json` that only a calibrated run has."""
IMPORTED_FROM = "imported_from"
"""In the place of the training's options: the file that an imported model came from."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """What `config.json` says.

    Attributes:
        config: What the model is built from.
        preprocessing: What its input must look like.
        threshold: Attributes with a probability above it are predicted.
        training: The training's configuration, or where the weights came from; for the record.
        calibration: What the validation split says about the scores, if it was asked.
        export: How the network was exported, see `vsam.export.folder`; None of a run.
    """

    config: ModelConfig
    preprocessing: Preprocessing
    threshold: float
    training: dict[str, Any]
    calibration: Calibration | None = None
    export: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Description):
    """A model with everything that it takes to use it.

    Attributes:
        model: In evaluation mode.
        labels: Names of its outputs.
    """

    model: TaggingModel
    labels: Labels


def require_new(run: Path) -> None:
    """Raise a `VsamError` if a run folder is there already and not empty."""
    if run.is_file() or (run.is_dir() and any(run.iterdir())):
        raise VsamError(
            f"Expected {run} to be a new folder, but it is there already. Name another one."
        )


@contextlib.contextmanager
def new_run(run: Path) -> Iterator[Path]:
    """Give a folder beside `run` to write into; on success it becomes `run`, else it vanishes.

    Raises:
        VsamError: As `require_new`, or if the operating system refuses.
    """
    require_new(run)
    with replacing(run) as folder:
        try:
            folder.mkdir()
            yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def save_description(
    run: Path,
    *,
    config: ModelConfig,
    preprocessing: Preprocessing,
    labels: Labels,
    threshold: float,
    training: dict[str, Any],
    calibration: Calibration | None = None,
) -> None:
    """Write `config.json` and `labels.json`."""
    description = {
        "format_version": FORMAT_VERSION,
        "model": asdict(config),
        "preprocessing": asdict(preprocessing),
        "threshold": threshold,
        "training": training,
    }
    if calibration is not None:
        description[CALIBRATION] = asdict(calibration)
    write_text(run / LABELS, json.dumps(asdict(labels), indent=2, ensure_ascii=False) + "\n")
    write_text(
        run / CONFIG, json.dumps(description, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    )


def save_calibration(run: Path, calibration: Calibration) -> None:
    """Put a calibration into a run's `config.json`; the rest stays as it is.

    Raises:
        VsamError: As `read_description`, or if the file can't be written.
    """
    read_description(run)
    description = _read_json(run / CONFIG) | {CALIBRATION: asdict(calibration)}
    write_text(
        run / CONFIG, json.dumps(description, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    )


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
    with _opened_tensors(path) as file:
        # safe_open is no mapping: it has keys(), but can't be iterated.
        tensors = {name: file.get_tensor(name) for name in list(file.keys())}
        return tensors, file.metadata() or {}


def _read_metadata(path: Path) -> dict[str, str]:
    with _opened_tensors(path) as file:
        return file.metadata() or {}


@contextlib.contextmanager
def _opened_tensors(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise VsamError(f"Expected {path} to be there, but it is not. Is the run complete?")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise VsamError(f"Expected {path} to be a safetensors file, but {error}.") from error
    except OSError as error:
        raise explain_os_error(error, f"read {path}") from error


def load_checkpoint(run: Path) -> Checkpoint:
    """Load a run folder's best model.

    Raises:
        VsamError: If a file is missing or damaged, the format is another version, or the weights
            do not fit the configuration or hold NaN. The file and the tensor are named. Also if
            it is an export, which holds no weights.
    """
    description, labels = read_run(run)
    if description.export is not None:
        raise VsamError(
            f"Expected {run} to be a run, but it is an export: it can be predicted with, but not "
            "trained or exported again. Name the run that it was made from."
        )
    state, _ = load_tensors(run / WEIGHTS)
    model = build_vsam(description.config)
    load_weights(model, state, run / WEIGHTS)
    return Checkpoint(model=model.eval(), labels=labels, **vars(description))


def read_run(run: Path) -> tuple[Description, Labels]:
    """Read all but the weights of a run folder or an export.

    Raises:
        VsamError: As `read_description`, or if there are not as many labels as outputs.
    """
    description, labels = read_description(run), _read_labels(run)
    config = description.config
    if (len(labels.categories), len(labels.attributes)) != (config.categories, config.attributes):
        raise VsamError(
            f"Expected {run / LABELS} to name {config.categories} categories and "
            f"{config.attributes} attributes, but it names {len(labels.categories)} and "
            f"{len(labels.attributes)}."
        )
    return description, labels


@dataclass(frozen=True)
class Record:
    """What a run recorded about its weights.

    Attributes:
        metadata: Of the weights' file; `epoch` is the one, from 1, that they are of.
        metrics: The text of `metrics.jsonl`, or "" without one.
    """

    metadata: dict[str, str]
    metrics: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The lines of metrics, in the order of the epochs."""
        return [json.loads(line) for line in self.metrics.splitlines()]


def read_record(run: Path) -> Record:
    """Read what a run recorded about its weights.

    Raises:
        VsamError: If a file is damaged, or the weights are missing.
    """
    path = run / METRICS
    try:
        record = Record(
            _read_metadata(run / WEIGHTS),
            path.read_text(encoding="utf-8") if path.is_file() else "",
        )
        good = all(isinstance(line, dict) for line in record.lines)
    except (ValueError, RecursionError):  # no UTF-8, no JSON
        good = False
    except OSError as error:
        raise explain_os_error(error, f"read {path}") from error
    if not good:
        raise VsamError(f"Expected {path} to hold a JSON object on each line, but it does not.")
    return record


def load_weights(model: nn.Module, state: dict[str, torch.Tensor], path: Path) -> None:
    """Load a state dict.

    Args:
        model: What takes it.
        state: Tensors by name.
        path: The file that it comes from, for errors.

    Raises:
        VsamError: If a name or a shape is not the model's, or a number is not finite.
    """
    misfits = describe_misfits(
        {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()},
        {name: tuple(tensor.shape) for name, tensor in state.items()},
    )
    if misfits:
        raise VsamError(f"Expected {path} to fit its {CONFIG}, but {misfits}.")
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise VsamError(
                f"Expected {name} in {path} to be finite, but it holds NaN or infinity. "
                "The training diverged, or the file was damaged: train again with a lower --lr."
            )
    model.load_state_dict(state)


def read_description(run: Path) -> Description:
    """Read `config.json`.

    Raises:
        VsamError: If it is missing, damaged, of another format version, or describes no model.
    """
    if not run.is_dir():
        raise VsamError(f"Expected the model {run} to be a run folder, but it is not there.")
    path = run / CONFIG
    values = _read_json(path)
    version = values.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise expected(f"format_version of {path}", str(FORMAT_VERSION), version)
    config = _rebuild(ModelConfig, path, "model", values)
    preprocessing = _rebuild(Preprocessing, path, "preprocessing", values)
    if config.image_size != preprocessing.image_size:
        raise VsamError(
            f"Expected {path} to give the model and its preprocessing one `image_size`, but it "
            f"gives {config.image_size} and {preprocessing.image_size}."
        )
    threshold, training = values.get("threshold", 0.5), values.get("training", {})
    if type(threshold) not in (int, float) or not 0 <= threshold <= 1:
        raise expected(f"threshold in {path}", "from 0 to 1", repr(threshold))
    if not isinstance(training, dict):
        raise expected(f"training in {path}", "a JSON object", repr(training))
    calibration = None
    if CALIBRATION in values:
        calibration = _rebuild(Calibration, path, CALIBRATION, values)
        if len(calibration.thresholds) != config.attributes:
            raise VsamError(
                f"Expected calibration.thresholds in {path} to be {config.attributes}, one for "
                f"each attribute, but there are {len(calibration.thresholds)}."
            )
    export = values.get("export")
    if not isinstance(export, dict | None):
        raise expected(f"export in {path}", "a JSON object", repr(export))
    return Description(
        config=config,
        preprocessing=preprocessing,
        threshold=float(threshold),
        training=training,
        calibration=calibration,
        export=export,
    )


_Section = TypeVar("_Section")


def _rebuild(kind: type[_Section], path: Path, section: str, values: dict[str, Any]) -> _Section:
    """Make a dataclass out of a section of `config.json`; the types of its values are checked."""
    given = values.get(section)
    if not isinstance(given, dict):
        raise expected(f"{section} in {path}", "a JSON object", repr(given))
    hints = typing.get_type_hints(kind)
    fields = {}
    for name, value in given.items():
        if name not in hints:
            raise VsamError(f"{path} names the unknown `{section}.{name}`. Is it of a newer vsam?")
        if not _is_of(hints[name], value):
            rule = f"of another type ({getattr(hints[name], '__name__', hints[name])})"
            raise expected(f"{section}.{name} in {path}", rule, repr(value))
        fields[name] = tuple(value) if isinstance(value, list) else value
    try:
        return kind(**fields)
    except TypeError as error:  # a field without a default is missing
        raise VsamError(f"Expected {path} to describe a {section}, but {error}.") from error
    except VsamError as error:
        raise VsamError(f"{path} describes an impossible {section}: {error}") from error


def _is_of(kind: Any, value: Any) -> bool:
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        if kinds[-1] is Ellipsis:
            return isinstance(value, list) and all(_is_of(kinds[0], one) for one in value)
        return (
            isinstance(value, list) and len(value) == len(kinds) and all(map(_is_of, kinds, value))
        )
    return type(value) is kind or (kind is float and type(value) is int)


def _read_labels(run: Path) -> Labels:
    labels = _read_json(run / LABELS)
    names = []
    for kind in ("categories", "attributes"):
        given = labels.get(kind)
        if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
            raise VsamError(
                f"Expected {run / LABELS} to hold categories and attributes, each a list of names."
            )
        names.append(tuple(given))
    return Labels(*names)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise VsamError(
            f"Expected {path.parent} to be a run folder of vsam-train, but it has no {path.name}."
        )
    try:
        size = path.stat().st_size
        if size > _MAX_JSON:  # it may come from anywhere
            raise VsamError(
                f"Expected {path} to have at most {_MAX_JSON} bytes, but it has {size}."
            )
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise VsamError(f"Could not read {path}: {error}.") from error
    if not isinstance(value, dict):
        raise VsamError(f"Expected {path} to hold a JSON object.")
    return value
