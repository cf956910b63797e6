"""`vsam-predict`: photos to categories, attributes and attention pictures."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vsam_heatmaps.errors import VsamError

from .common import (
    EXIT_CODES,
    EXIT_SOME_UNREADABLE,
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
    out: Annotated[str, typer.Option(help="File for the predictions; - is standard output.")],
    output_format: Annotated[
        Format, typer.Option("--format", help="One JSON object a line, or a table.")
    ] = Format.jsonl,
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
    root: Annotated[
        Path | None, typer.Option(help="Folder that ids are relative to. Default: the one given.")
    ] = None,
    image_column: Annotated[
        str | None, typer.Option(help="Column of Parquet files that holds the photos.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Photos in one forward pass.")] = 32,
    workers: Annotated[int, typer.Option(min=1, help="Threads that decode photos.")] = 4,
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
    """Tag photos, in the order of their ids; those in .tar and .parquet files as they lie there."""
    from vsam_heatmaps.atomic import prepare_output_folder
    from vsam_heatmaps.photos import list_photos
    from vsam_heatmaps.progress import track

    if attention is not None and any(_lies_in(attention, folder) for folder in photos):
        raise VsamError(
            f"Expected --attention to lie outside the photos, but {attention} is inside: the "
            "pictures would be tagged as photos the next time."
        )
    if threshold is not None and thresholds is not Thresholds.run:
        raise VsamError("Expected --threshold or --thresholds attribute to be given, but not both.")
    listed = list_photos(photos, root=root, image_column=image_column)

    from vsam import prediction_files
    from vsam.predictor import Predictor

    predictor = Predictor.from_pretrained(
        model,
        device=device.value,
        precision=precision.value,
        calibrated=calibrated,
        thresholds=thresholds.value,
        revision=revision,
    )
    if attention is not None:
        prepare_output_folder(attention, ours="**/*.attention.jpg", purpose="attention pictures")
    unreadable: list[tuple[str, str]] = []
    with (
        prediction_files.opened_output(out) as file,
        track(len(listed), "predict") as bar,
    ):
        if output_format is Format.csv:
            write = prediction_files.csv_writer(file, predictor.labels, all_scores=all_scores)
        else:
            write = prediction_files.jsonl_writer(file)
        for tagged in predictor.predict_files(
            listed.reading_order,
            batch_size=batch_size,
            workers=workers,
            max_pixels=max_pixels,
            reduced=reduced_decode,
            also=prediction_files.shrink_for_overlay if attention else None,
        ):
            id_, prediction = tagged.photo.id, tagged.prediction
            if prediction is None:
                unreadable.append((id_, tagged.error))
                write(id_, None, tagged.error)
            else:
                write(id_, prediction.describe(threshold=threshold, all_scores=all_scores), "")
                if attention is not None:
                    prediction_files.write_attention(
                        attention, id_, tagged.extra, prediction.attention
                    )
            bar.update()
    tell_unreadable(unreadable)
    if unreadable:
        raise typer.Exit(EXIT_SOME_UNREADABLE)


def _lies_in(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def run() -> None:
    """Run `vsam-predict`."""
    run_app(app, "vsam-predict")
