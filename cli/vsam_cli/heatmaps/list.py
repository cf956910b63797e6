"""`vsam-heatmaps list`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vsam_heatmaps.errors import one_line


class StatusName(StrEnum):
    """What became of a photo."""

    ok = "ok"
    no_pose = "no_pose"
    unreadable = "unreadable"


def list_records(
    shards: Annotated[Path, typer.Argument(help="Folder of shards.")],
    status: Annotated[StatusName | None, typer.Option(help="Only photos of this status.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line instead of a table.")
    ] = False,
) -> None:
    """Print each photo's id, status and, if it is unreadable, the reason; tabs between them."""
    from vsam_heatmaps.shards import Shards, Status

    opened = Shards(shards)
    for id_ in opened.ids:
        found = opened.status(id_)
        name = found.name.lower()
        if status not in (None, name):
            continue
        # A reason is in the record, which is read for the few that have one.
        reason = opened[id_].reason if found is Status.UNREADABLE else ""
        if as_json:
            typer.echo(json.dumps({"image": id_, "status": name, "reason": reason}))
        else:
            typer.echo("\t".join((_escaped(id_), name, _escaped(reason))))


def _escaped(text: str) -> str:
    """Escape control characters, and backslashes, so that different names stay different."""
    return one_line(text.replace("\\", "\\\\"))
