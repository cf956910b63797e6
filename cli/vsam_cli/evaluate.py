"""`vsam evaluate` and `vsam calibrate`: labelled photos to figures, and to better scores."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .common import EXIT_SOME_UNREADABLE, tell_unreadable
from .train import Device, Precision


class Split(StrEnum):
    """Which of the labelled photos."""

    train = "train"
    val = "val"
    test = "test"


class OnError(StrEnum):
    """What to do with a photo that can't be read."""

    stop = "stop"
    skip = "skip"


class Thresholds(StrEnum):
    """Where an attribute's threshold comes from."""

    run = "run"
    attribute = "attribute"


Data = Annotated[
    Path, typer.Option(help="CSV with the columns image, split, category, attributes.")
]
Photos = Annotated[Path, typer.Option(help="Folder that the images are relative to.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Photos in one forward pass.")]
Workers = Annotated[int, typer.Option(min=1, help="Threads that decode photos.")]
MaxPixels = Annotated[int, typer.Option(min=1, help="Photos with more pixels can't be read.")]
OnErrorOption = Annotated[
    OnError,
    typer.Option(help="A photo can't be read: stop, or leave it out and end with code 3."),
]
Calibrated = Annotated[
    bool, typer.Option("--calibrated", help="Category scores at the model's fitted temperature.")
]
ThresholdsOption = Annotated[
    Thresholds,
    typer.Option(help="The model's one for all attributes, or the fitted one of each."),
]
Revision = Annotated[
    str | None, typer.Option(help="Branch, tag or commit, for a model of the hub.")
]


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Run folder, export, or user/name on the hub.")
    ],
    data: Data,
    photos: Photos,
    split: Annotated[Split, typer.Option(help="Which photos.")] = Split.test,
    per_label: Annotated[
        Path | None, typer.Option(help="CSV file for a row of figures for each label.")
    ] = None,
    as_json: Json = False,
    calibrated: Calibrated = False,
    thresholds: ThresholdsOption = Thresholds.run,
    revision: Revision = None,
    on_error: OnErrorOption = OnError.stop,
    batch_size: BatchSize = 32,
    workers: Workers = 4,
    max_pixels: MaxPixels = 100_000_000,
    device: Annotated[Device, typer.Option()] = Device.auto,
    precision: Annotated[Precision, typer.Option()] = Precision.fp32,
) -> None:
    """Tag labelled photos and compare: accuracy, mAP, recall, F1, calibration."""
    from vsam_datasets.tables import read_labels
    from vsam_heatmaps.outputs import refuse_overwriting

    rows = read_labels(data, needed=split.value).split(split.value)

    import torch

    from vsam.folder_prediction.options import model_files
    from vsam.hub import find_run
    from vsam.predictor import Predictor
    from vsam.scoring import evaluate_scores, score_photos, write_per_label

    run = find_run(model, revision=revision)
    refuse_overwriting(
        {"--per-label": per_label},
        {"--data": [data], "--photos": [photos], "MODEL": model_files(run)},
    )
    predictor = Predictor.from_pretrained(
        run,
        device=device.value,
        precision=precision.value,
        calibrated=calibrated,
        thresholds=thresholds.value,
    )
    unreadable: list[tuple[str, str]] = []
    scored = score_photos(
        predictor,
        rows,
        photos,
        batch_size=batch_size,
        workers=workers,
        max_pixels=max_pixels,
        progress=True,
        unreadable=unreadable if on_error is OnError.skip else None,
    )
    limits = torch.tensor(predictor.thresholds)
    _print({"split": split.value, **evaluate_scores(scored, limits).to_json()}, as_json)
    if per_label is not None:
        write_per_label(per_label, scored, predictor.labels, limits)
    _end(unreadable)


def calibrate(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder; its config.json changes.")
    ],
    data: Data,
    photos: Photos,
    split: Annotated[Split, typer.Option(help="Photos to fit on; never those of a test.")] = (
        Split.val
    ),
    as_json: Json = False,
    on_error: OnErrorOption = OnError.stop,
    batch_size: BatchSize = 32,
    workers: Workers = 4,
    max_pixels: MaxPixels = 100_000_000,
    device: Annotated[Device, typer.Option()] = Device.auto,
) -> None:
    """Fit a temperature for categories and a threshold for each attribute, and keep them.

    Predictions use them when asked: vsam-predict --calibrated --thresholds attribute.
    """
    from vsam_datasets.tables import read_labels

    rows = read_labels(data, needed=split.value).split(split.value)

    from vsam.predictor import Predictor
    from vsam.scoring import calibrate_run

    predictor = Predictor.from_run(run, device=device.value)
    unreadable: list[tuple[str, str]] = []
    report = calibrate_run(
        run,
        predictor,
        rows,
        photos,
        batch_size=batch_size,
        workers=workers,
        max_pixels=max_pixels,
        progress=True,
        unreadable=unreadable if on_error is OnError.skip else None,
    )
    _print({"split": split.value, **report}, as_json)
    _end(unreadable)


def _end(unreadable: list[tuple[str, str]]) -> None:
    """List photos that were left out, and end with the code that says so."""
    tell_unreadable(unreadable, "left out")
    if unreadable:
        raise typer.Exit(EXIT_SOME_UNREADABLE)


def _print(figures: Mapping[str, object], as_json: bool) -> None:
    """Print figures to standard output: a line for each, or one JSON object."""
    clean = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.items()
    }
    if as_json:
        typer.echo(json.dumps(clean, allow_nan=False))
        return
    width = max(map(len, clean))
    for name, value in clean.items():
        said = f"{value:.4f}" if isinstance(value, float) else "-" if value is None else value
        typer.echo(f"{name.replace('_', ' '):{width}}  {said}")
