"""`vsam-heatmaps export`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vsam_heatmaps.counting import counted

from ..common import EXIT_SOME_UNREADABLE, tell_unreadable
from .options import ImageColumn, Root


class OnWrongPhoto(StrEnum):
    """What to do with a record whose photo is missing, unreadable or another one."""

    stop = "stop"
    skip = "skip"


def export(
    shards: Annotated[Path, typer.Argument(help="Folder of shards.")],
    photos: Annotated[
        list[Path],
        typer.Option(
            metavar="PHOTOS",
            help="The photos that the shards were made from, given as to extract; may be repeated.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the tar files, new or empty.")],
    root: Root = None,
    image_column: ImageColumn = None,
    maxcount: Annotated[int, typer.Option(min=1, help="Most samples in a tar file.")] = 1000,
    maxsize: Annotated[
        float, typer.Option(min=1, max=1e15, help="Most bytes in a tar file.")
    ] = 1e9,
    only_ok: Annotated[
        bool, typer.Option("--only-ok", help="Leave out photos without a pose.")
    ] = False,
    on_error: Annotated[
        OnWrongPhoto,
        typer.Option(
            help="Stop at the first record whose photo is missing, unreadable or another one, or "
            "leave such records out."
        ),
    ] = OnWrongPhoto.stop,
) -> None:
    """Write photos with their heatmaps as WebDataset tar files, for trainers that stream."""
    from vsam_heatmaps.export import ExportOptions
    from vsam_heatmaps.export import export as run_export
    from vsam_heatmaps.photos import list_photos
    from vsam_heatmaps.shards import Shards

    options = ExportOptions(
        maxcount=maxcount,
        maxsize=int(maxsize),
        only_ok=only_ok,
        stop_on_error=on_error is OnWrongPhoto.stop,
    )
    opened = Shards(shards)
    listed = list_photos(photos, root=root, image_column=image_column)
    report = run_export(opened, listed, out, options=options, progress=True)
    tell_unreadable(report.left_out, "left out")
    samples = sum(report.tars.values())
    counts = ", ".join(f"{number} {status}" for status, number in report.counts.items())
    typer.echo(
        f"{counted(samples, 'sample')} ({counts}) {'is' if samples == 1 else 'are'} in "
        f"{counted(len(report.tars), 'tar file')} in {out}; "
        f"{counted(len(report.left_out), 'record was', 'records were')} left out."
    )
    if report.without_record:
        typer.echo(
            f"{counted(report.without_record, 'photo has', 'photos have')} no record in {shards}."
        )
    if report.left_out:
        raise typer.Exit(EXIT_SOME_UNREADABLE)
