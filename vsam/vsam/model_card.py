"""The model card: what a run's own files say about its model, as the hub shows it."""

from __future__ import annotations

import json
import re
import typing
from pathlib import Path
from typing import Any

import yaml

from .config import TrainConfig
from .evaluation import Metrics
from .run_folder import IMPORTED_FROM, METRICS, Checkpoint, Record, load_checkpoint, read_record

CARD = "README.md"

_TAGS = ["vsam", "fashion", "image-classification", "multi-label"]
_FIGURES = {
    "category_accuracy": "category accuracy",
    "category_top3": "category among the first three",
    "attribute_map": "attribute mAP",
    "chance_map": "attribute mAP by chance",
    "photos": "photos",
}


def card_of_run(run: Path, *, license: str | None = None, name: str | None = None) -> str:
    """Write the model card of a run folder; see `describe_model`.

    Raises:
        VsamError: If a file of the run is missing or damaged.
    """
    return describe_model(load_checkpoint(run), read_record(run), license=license, name=name)


def describe_model(
    checkpoint: Checkpoint,
    record: Record,
    *,
    license: str | None = None,
    name: str | None = None,
) -> str:
    """Write a model card: YAML for the hub, then Markdown. What the run doesn't say is left out.

    Args:
        checkpoint: The model.
        record: What the run recorded beside it.
        license: The model's licence as the hub names it; its owner alone can say.
        name: The model's name on the hub, `user/name`.
    """
    facts: dict[str, Any] = {"library_name": "vsam", "pipeline_tag": "image-classification"}
    facts |= {"tags": _TAGS + ["attention"] * _looks(checkpoint)}
    facts |= {"license": license} if license else {}
    sections = [
        _opening(checkpoint, name),
        _use(checkpoint, name),
        _outputs(checkpoint),
        _figures(record),
        _training(checkpoint),
        _limits(checkpoint),
        _labels(checkpoint),
    ]
    front = yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n\n".join(filter(None, sections)) + "\n"


def without_folders(training: dict[str, Any]) -> dict[str, Any]:
    """Keep names of files alone: where they lie on somebody's machine is nobody's business."""
    kinds = typing.get_type_hints(TrainConfig)
    paths = {name for name, kind in kinds.items() if Path in (kind, *typing.get_args(kind))}
    return {
        name: Path(value).name if name in paths and isinstance(value, str) else value
        for name, value in training.items()
    }


def _opening(checkpoint: Checkpoint, name: str | None) -> str:
    labels, config = checkpoint.labels, checkpoint.config
    said = (
        f"# {_plain(name) if name else 'VSAM'}\n\n"
        "VSAM (Ferreira et al., *Pose Guided Attention for Multi-label Fashion Image "
        "Classification*, ICCV Workshops 2019) tags a fashion photo with one of "
        f"{len(labels.categories)} categories and any of {len(labels.attributes)} attributes"
        f"{', and shows where it looked' if _looks(checkpoint) else ''}. "
    )
    if config.regions:
        said += (
            f"It looks at regions of the body, each with a map of its own ("
            f"{_plain(', '.join(config.regions))}), and names the one that spoke for an attribute. "
        )
    source = checkpoint.training.get(IMPORTED_FROM)
    if source:
        said += f"The weights were imported from `{_code(source)}`."
    elif _was_supervised(checkpoint):
        said += (
            "While it was trained, heatmaps of the wearer's pose supervised its attention; a "
            "prediction needs the photo alone."
        )
    return f"{said.strip()}\n\nInput: {config.image_size}×{config.image_size} pixels; " + (
        f"{checkpoint.preprocessing.interpolation} resizing without regard to the proportions, "
        f"{checkpoint.preprocessing.colour.upper()}, levels 0 to "
        f"{checkpoint.preprocessing.pixel_max}, less {_numbers(checkpoint.preprocessing.mean)}, "
        f"divided by {_numbers(checkpoint.preprocessing.std)}. The predictor does all of it."
    )


def _looks(checkpoint: Checkpoint) -> bool:
    """Say whether the model has attention, which can be shown."""
    return checkpoint.config.attention != "none"


def _was_supervised(checkpoint: Checkpoint) -> bool:
    training = checkpoint.training
    return bool(training.get("pose_weight")) and training.get("regulariser") != "none"


def _use(checkpoint: Checkpoint, name: str | None) -> str:
    picture = "prediction.picture()  # the attention over the photo, (H, W, 3) uint8 RGB\n"
    model = json.dumps(name or "FOLDER")
    return (
        "## How to use\n\n"
        "```python\n"
        "from vsam.predictor import Predictor\n\n"
        f"predictor = Predictor.from_pretrained({model})\n"
        'prediction = predictor("photo.jpg")\n'
        "prediction.category, prediction.score, prediction.attributes\n"
        f"{picture if _looks(checkpoint) else ''}"
        "```\n\n"
        f"or `vsam-predict PHOTOS --model {_code(name or 'FOLDER')} --out predictions.jsonl`. No "
        "code comes with the model, and its weights are safetensors."
    )


def _outputs(checkpoint: Checkpoint) -> str:
    said = (
        "## Scores and thresholds\n\n"
        "Category scores are probabilities that sum to 1; each attribute has a probability of its "
        f"own and is predicted above {checkpoint.threshold:g}."
    )
    calibration = checkpoint.calibration
    if calibration is None:
        return said
    return (
        f"{said} The model is calibrated on a validation split, which can be asked for: category "
        f"logits divided by the temperature {calibration.temperature:.3f} "
        "(`calibrated=True`, `--calibrated`), and a threshold for each attribute, "
        f"{min(calibration.thresholds):.3f} to {max(calibration.thresholds):.3f} "
        '(`thresholds="attribute"`, `--thresholds attribute`).'
    )


def _figures(record: Record) -> str:
    columns = {
        f"{title} split": found
        for title, prefix in {"validation": "val_", "test": "test_"}.items()
        if (found := _recorded(record, prefix))
    }
    if not columns:
        return ""
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for field, title in _FIGURES.items():
        cells = [_figure(found.get(field)) for found in columns.values()]
        if any(cells):
            lines.append(f"| {title} | {' | '.join(cells)} |")
    return f"## Figures\n\nAs the training recorded them in `{METRICS}`.\n\n" + "\n".join(lines)


def _recorded(record: Record, prefix: str) -> dict[str, Any]:
    """Find a split's metrics of the epoch whose weights these are."""
    wanted = {f"{prefix}{field}" for field in Metrics.__dataclass_fields__}
    for facts in reversed(record.lines):
        if str(facts.get("epoch")) == record.metadata.get("epoch") and wanted & set(facts):
            return {name.removeprefix(prefix): facts.get(name) for name in wanted}
    return {}


def _figure(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value) if isinstance(value, int) else ""


def _training(checkpoint: Checkpoint) -> str:
    options = {
        name: value
        for name, value in without_folders(checkpoint.training).items()
        if value is not None and name not in ("out", "device", "num_workers")
    }
    if not options:
        return ""
    lines = ["| option | value |", "|---|---|"]
    lines += [f"| `{_code(name)}` | {_plain(str(value))} |" for name, value in options.items()]
    return "## Training\n\n" + "\n".join(lines)


def _limits(checkpoint: Checkpoint) -> str:
    said = [
        "- Scores hold for photos like those that it was trained on.",
        "- Every photo gets one of the categories, also one with several garments or with none.",
        "- It knows the labels below alone; an attribute that isn't predicted may still be there.",
    ]
    if _looks(checkpoint):
        said.append(
            "- The attention shows where the model looked; it is not the outline of a garment."
        )
    if checkpoint.calibration is not None:
        said.append(
            "- Temperature and thresholds were fitted on the validation split; they don't hold for "
            "other kinds of photos."
        )
    return "## Limits\n\n" + "\n".join(said)


def _labels(checkpoint: Checkpoint) -> str:
    return "## Labels\n\n" + "\n\n".join(
        f"<details><summary>{len(names)} {kind}</summary>\n\n"
        f"{', '.join(map(_plain, names))}\n\n</details>"
        for kind, names in vars(checkpoint.labels).items()
    )


def _numbers(values: tuple[float, ...]) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"


def _plain(text: str) -> str:
    """Write text so that Markdown leaves it as it is, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>()#|~$])", r"\\\1", " ".join(text.split()))


def _code(text: object) -> str:
    return " ".join(str(text).replace("`", "'").replace("|", "¦").split())
