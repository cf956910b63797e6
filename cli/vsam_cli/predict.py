"""`vsam-predict`: photos to categories, attributes and attention pictures."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from vsam_heatmaps import interrupts
from vsam_heatmaps.errors import VsamError

from .common import (
    EXIT_CODES,
    EXIT_SOME_UNREADABLE,
    ImageColumn,
    Root,
    Version,
    make_app,
    run_app,
    tell_unreadable,
)
from .evaluate import Calibrated, Revision, Thresholds, ThresholdsOption
from .train import Device, Precision

app = make_app("Tag photos with a trained model.")


class Format(StrEnum):
    """How predictions are written."""

    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


class Engine(StrEnum):
    """Where photos are tagged."""

    local = "local"
    ray = "ray"


@app.command(epilog=EXIT_CODES, no_args_is_help=True)
def predict(
    photos: Annotated[
        list[Path],
        typer.Argument(
            metavar="PHOTOS…",
            help="Folders (with sub-folders), photos, .tar and .parquet files, .txt lists.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="Run folder of vsam-train, what vsam export made of it, or user/name on the "
            "Hugging Face hub."
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            help="File for the predictions: .jsonl, .csv or .parquet; - is standard output."
        ),
    ],
    output_format: Annotated[
        Format | None,
        typer.Option("--format", help="Default: by the file's ending, else JSON lines."),
    ] = None,
    all_scores: Annotated[
        bool, typer.Option("--all-scores", help="List every category and attribute.")
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Attributes above it are listed. Default: the model's."),
    ] = None,
    thresholds: ThresholdsOption = Thresholds.run,
    calibrated: Calibrated = False,
    revision: Revision = None,
    attention: Annotated[
        Path | None,
        typer.Option(help="Folder for pictures of the attention over each photo."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="HTML file with figures and a sheet of the photos.")
    ] = None,
    report_photos: Annotated[
        int, typer.Option(min=0, help="Photos that the report shows, evenly chosen.")
    ] = 500,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what an unfinished run has tagged.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Tag new photos as they come, until Ctrl-C.")
    ] = False,
    watch_seconds: Annotated[
        float, typer.Option(min=0.05, help="Time between two looks at watched folders.")
    ] = 1.0,
    engine: Annotated[
        Engine, typer.Option(help="Where it runs: this machine, or a Ray cluster.")
    ] = Engine.local,
    root: Root = None,
    image_column: ImageColumn = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Photos in one forward pass.")] = 32,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Threads that decode photos (4); with Ray actors (one for each CPU or GPU)."
        ),
    ] = None,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Photos with more pixels count as unreadable.")
    ] = 100_000_000,
    reduced_decode: Annotated[
        bool,
        typer.Option(
            "--reduced-decode",
            help="Decode large JPEGs at a reduced scale: faster, and scores move by about 0.01.",
        ),
    ] = False,
    device: Annotated[Device, typer.Option()] = Device.auto,
    precision: Annotated[Precision, typer.Option()] = Precision.fp32,
    version: Version = False,
) -> None:
    """Tag photos; the predictions are in the order of the photos' ids."""
    from vsam.prediction_files import output_path
    from vsam_heatmaps.outputs import refuse_overwriting, refuse_photos
    from vsam_heatmaps.photos import list_photos

    if attention is not None and any(_lies_in(attention, folder) for folder in photos):
        raise VsamError(
            f"Expected --attention to lie outside the photos, but {attention} is inside: the "
            "pictures would be tagged as photos the next time."
        )
    if threshold is not None and thresholds is not Thresholds.run:
        raise VsamError("Expected --threshold or --thresholds attribute to be given, but not both.")

    outputs = {"--out": output_path(out), "--report": report}
    refuse_overwriting(outputs, {"PHOTOS": photos})

    # Heavy from here on; a list that can't be made is told before.
    listed = None if watch else list_photos(photos, root=root, image_column=image_column)
    refuse_photos(outputs, listed or ())

    from vsam.folder_prediction import FolderOptions, predict_folder, watch_folders
    from vsam.prediction_files import format_of

    options = FolderOptions(
        model=model,
        revision=revision,
        device=device.value,
        precision=precision.value,
        calibrated=calibrated,
        thresholds=thresholds.value,
        threshold=threshold,
        all_scores=all_scores,
        format=output_format.value if output_format else format_of(out),
        attention=attention,
        report=report,
        report_photos=report_photos,
        batch_size=batch_size,
        workers=workers,
        max_pixels=max_pixels,
        reduced=reduced_decode,
        engine=engine.value,
        resume=resume,
    )
    if listed is None:
        with _stopped_by_signals() as stop:
            done = watch_folders(photos, out, options, stop, root=root, seconds=watch_seconds)
    else:
        done = predict_folder(listed, out, options, progress=True)
    tell_unreadable(done.errors, count=done.unreadable)
    if done.unreadable:
        raise typer.Exit(EXIT_SOME_UNREADABLE)


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """Give an event that the first signal to end sets; a second one ends the command at once."""
    stop = threading.Event()
    before: dict[int, Any] = {}

    def ask(number: int, frame: object) -> None:
        stop.set()
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in interrupts.signals_to_end():
        before[number] = signal.signal(number, ask)
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _lies_in(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def run() -> None:
    """Run `vsam-predict`."""
    run_app(app, "vsam-predict")
