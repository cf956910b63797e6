"""`vsam-heatmaps merge`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


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
    typer.echo(f"{report.records} records are in {out}, in {report.shards} shards.")
    if report.superseded:
        typer.echo(f"{report.superseded} that later ones supersede were left out.")
    if report.repeated:
        typer.echo(f"{report.repeated} photos had the same record in several folders.")
    if report.chosen:
        typer.echo(f"{report.chosen} had different ones: the {on_conflict.value} was taken.")
