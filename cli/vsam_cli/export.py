"""`vsam export`: a run to a network for OpenVINO, ONNX Runtime or `torch.export`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vsam_heatmaps.counting import counted
from vsam_heatmaps.errors import VsamError

from .common import EXIT_SOME_UNREADABLE, ImageColumn, tell_unreadable


class Format(StrEnum):
    """What an export is for."""

    openvino = "openvino"
    onnx = "onnx"
    torch_export = "torch-export"


class Stored(StrEnum):
    """How weights are stored."""

    fp32 = "fp32"
    fp16 = "fp16"


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of vsam-train.")],
    out: Annotated[Path, typer.Option(help="Folder for the export; it must not exist.")],
    format: Annotated[Format, typer.Option(help="What it is for.")],
    precision: Annotated[
        Stored, typer.Option(help="How weights are stored; fp16 only for OpenVINO.")
    ] = Stored.fp32,
    int8: Annotated[
        bool, typer.Option("--int8", help="Compute in int8; needs --calibrate, only for OpenVINO.")
    ] = False,
    calibrate: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PHOTOS",
            help="Photos like those to be tagged: a folder, a .tar or .parquet file, a .txt list. "
            "May be repeated.",
        ),
    ] = None,
    calibrate_count: Annotated[
        int, typer.Option(min=1, help="How many of them to take, from all over.")
    ] = 300,
    root: Annotated[
        Path | None, typer.Option(help="Folder that ids of photos are relative to.")
    ] = None,
    image_column: ImageColumn = None,
) -> None:
    """Turn a run into a network for another runtime; vsam-predict --model takes it as well."""
    from vsam_heatmaps.photos import list_photos

    if int8 and precision is not Stored.fp32:
        raise VsamError(
            f"Expected `--int8` without `--precision {precision}`: what is not int8 stays fp32."
        )
    listed = None
    if calibrate:
        listed = list_photos(calibrate, root=root, image_column=image_column)

    from vsam.export.making import export_run

    report = export_run(
        run,
        out,
        format=format.value,
        precision="int8" if int8 else precision.value,
        calibrate=listed,
        calibrate_count=calibrate_count,
    )
    calibrated = (
        f", calibrated with {counted(report.calibration_photos, 'photo')}" if listed else ""
    )
    names = " and ".join(file.name for file in report.files)
    typer.echo(f"{out} holds {names}: {report.bytes / 1e6:.1f} MB{calibrated}.")
    tell_unreadable(report.unreadable)
    if report.unreadable:
        raise typer.Exit(EXIT_SOME_UNREADABLE)
