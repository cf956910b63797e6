"""`vsam-heatmaps merge`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vsam_heatmaps.counting import counted


class OnConflict(StrEnum):
    """What to do where folders have different records of a photo."""

    stop = "stop"
    first = "first"
    last = "last"


def merge(
    folders: Annotated[
        list[Path], typer.Argument(metavar="SHARDS…", help="Folders of shards, or one to re-shard.")
    ],
    out: Annotated[Path, typer.Option(help="New folder for the shards.")],
    shard_size: Annotated[int, typer.Option(min=1, help="Photos in one shard.")] = 512,
    on_conflict: Annotated[
        OnConflict,
        typer.Option(
            help="Where folders have different records of a photo: stop before anything is "
            "written, or take that of the first or last of them."
        ),
    ] = OnConflict.stop,
) -> None:
    """Join folders of shards into a new one, sorted, with one record a photo."""
    from vsam_heatmaps.shards.merging import merge as run_merge

    report = run_merge(
        folders, out, shard_size=shard_size, on_conflict=on_conflict.value, progress=True
    )
    typer.echo(
        f"{counted(report.records, 'record is', 'records are')} in {out}, "
        f"in {counted(report.shards, 'shard')}."
    )
    if report.superseded:
        typer.echo(
            counted(
                report.superseded,
                "that a later one supersedes was left out.",
                "that later ones supersede were left out.",
            )
        )
    if report.repeated:
        typer.echo(f"{counted(report.repeated, 'photo')} had the same record in several folders.")
    if report.chosen:
        typer.echo(f"{report.chosen} had different ones: the {on_conflict.value} was taken.")
