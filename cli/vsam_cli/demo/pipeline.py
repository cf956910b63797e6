"""Run the demonstration: draw, extract, train with and without poses, predict, report."""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsam.attention_maps import merge_maps
from vsam.config import TrainConfig
from vsam.evaluation import Metrics
from vsam.predictor import Prediction, Predictor
from vsam.run_folder import Labels
from vsam.training import train
from vsam_datasets.mannequins import write_mannequins
from vsam_datasets.mannequins import writing as mannequins_writing
from vsam_datasets.tables import LabelRow, read_labels
from vsam_heatmaps.atomic import prepare_output_folder
from vsam_heatmaps.errors import VsamError
from vsam_heatmaps.extraction import extract
from vsam_heatmaps.images import read_photo
from vsam_heatmaps.overlays import write_picture
from vsam_heatmaps.photos import Photo
from vsam_heatmaps.shards import Record, Shards, Status

_log = logging.getLogger("vsam")

MARKER = f"mannequins/{mannequins_writing.MARKER}"
"""What a folder of a demonstration holds from its first photo on."""

# Small enough to train twice in minutes on two cores: on few photos, many small steps.
_SMALL: dict[str, Any] = {
    "attention": "regions",
    "width": 0.25,
    "image_size": 96,
    "batch_norm": True,
    "dropout": 0.2,
    "min_crop": 0.85,
    "attribute_weight": 3.0,
    "batch_size": 16,
    "lr": 2e-3,
    "fit_threshold": True,
}
_POSE_WEIGHT = 10.0
# A pixel of the heatmap above this share of the peak counts as the wearer's.
_ON_BODY = 0.1


@dataclass(frozen=True)
class DemoOptions:
    """What the demonstration makes.

    Attributes:
        out: Folder for everything.
        count: Mannequins, of which a fifth is kept unseen.
        epochs: Of each training.
        seed: Of the drawings and the trainings.
    """

    out: Path
    count: int = 1000
    epochs: int = 12
    seed: int = 0


@dataclass(frozen=True)
class Model:
    """One of the trained models on the unseen photos.

    Attributes:
        name: For the tables: "with poses".
        pose_weight: λ.
        metrics: On the unseen photos.
        body_focus: Attention on the wearer by the wearer's share of the picture; 1 is chance.
        predictions: By image.
        labels: Names of the outputs.
        threshold: Attributes above it are predicted.
    """

    name: str
    pose_weight: float
    metrics: Metrics
    body_focus: float
    predictions: dict[str, Prediction]
    labels: Labels
    threshold: float


@dataclass(frozen=True)
class Example:
    """One unseen photo for the report."""

    row: LabelRow
    photo: NDArray[np.uint8]
    record: Record
    heatmap: NDArray[np.uint8]


@dataclass(frozen=True)
class DemoResult:
    """Where the report is, and what it says."""

    report: Path
    sheet: Path
    accuracy: float
    photos: int


def run_demo(options: DemoOptions) -> DemoResult:
    """Run all steps; what an earlier demonstration left in the folder is used or replaced."""
    from .report import write_report
    from .sheet import draw_sheet

    out, began = options.out, time.monotonic()
    prepare_output_folder(out, ours=MARKER, purpose="a demonstration")
    data, shards_path = out / "mannequins", out / "heatmaps"
    photos = data / "photos"
    _log.info("1/5 Draw %d mannequins.", options.count)
    write_mannequins(data, count=options.count, seed=options.seed)
    _log.info("2/5 Find their poses.")
    report = extract([photos], shards_path, progress=True)
    _log.info("    %d of %d have a pose.", report.counts["ok"], report.photos)
    models = []
    for step, (name, weight) in enumerate({"with poses": _POSE_WEIGHT, "without": 0.0}.items(), 3):
        _log.info("%d/5 Train and test %s (λ = %g).", step, name, weight)
        run = out / "runs" / name.replace(" ", "-")
        shutil.rmtree(run, ignore_errors=True)
        models.append(_train_and_predict(name, weight, run, data, shards_path, options))
    _log.info("5/5 Write the report.")
    rows, shards = read_labels(data / "labels.csv").split("test"), Shards(shards_path)
    examples = [_example(row, photos, shards) for row in _varied(rows, 24)]
    sheet = out / "sheet.png"
    write_picture(sheet, draw_sheet(examples[:6], models))
    seconds = time.monotonic() - began
    page = write_report(out / "report.html", examples, models, report, options, seconds)
    metrics = models[0].metrics
    return DemoResult(page, sheet, metrics.category_accuracy, metrics.photos)


def _train_and_predict(
    name: str, weight: float, run: Path, data: Path, shards_path: Path, options: DemoOptions
) -> Model:
    config = TrainConfig(
        data=data / "labels.csv",
        photos=data / "photos",
        heatmaps=shards_path,
        out=run,
        **_SMALL,
        epochs=options.epochs,
        pose_weight=weight,
        seed=options.seed,
    )
    metrics = train(config, progress=True).test
    if metrics is None:
        raise VsamError("Expected some mannequins to be unseen, but all were used. Draw more.")
    predictor = Predictor.from_run(run)
    rows = read_labels(data / "labels.csv").split("test")
    predictions = {
        tagged.photo.id: tagged.prediction
        for tagged in predictor.predict_files(
            Photo(row.image, data / "photos" / row.image) for row in rows
        )
        if tagged.prediction is not None
    }
    return Model(
        name=name,
        pose_weight=weight,
        metrics=metrics,
        body_focus=_body_focus(rows, predictions, Shards(shards_path)),
        predictions=predictions,
        labels=predictor.labels,
        threshold=predictor.threshold,
    )


def _body_focus(
    rows: tuple[LabelRow, ...], predictions: dict[str, Prediction], shards: Shards
) -> float:
    """Average how much of the attention lies on the wearer, by the wearer's share of the area."""
    import cv2

    focus = []
    for row in rows:
        if shards.status(row.image) is not Status.OK:
            continue
        attention = merge_maps(predictions[row.image].attention, "mean")
        heat = shards[row.image].heatmaps.max(axis=0)
        small = cv2.resize(heat, attention.shape[::-1], interpolation=cv2.INTER_AREA)
        on_body = np.asarray(small) > _ON_BODY * 255
        if on_body.any():
            focus.append(float(attention[on_body].mean() / attention.mean()))
    return float(np.mean(focus))


def _varied(rows: tuple[LabelRow, ...], count: int) -> list[LabelRow]:
    """Pick rows in the table's order, by turns from each category."""
    queues: dict[str, list[LabelRow]] = {}
    for row in rows:
        queues.setdefault(row.category, []).append(row)
    picked: list[LabelRow] = []
    while len(picked) < min(count, len(rows)):
        picked += [queue.pop(0) for queue in queues.values() if queue]
    return picked[:count]


def _example(row: LabelRow, photos: Path, shards: Shards) -> Example:
    record = shards[row.image]
    return Example(row, read_photo(photos / row.image), record, record.heatmaps.max(axis=0))
