"""`vsam-heatmaps inspect`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def inspect(
    shards: Annotated[Path, typer.Argument(help="Folder of shards.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print what a folder of shards holds."""
    from dataclasses import asdict

    from vsam_heatmaps.shards import FORMAT_VERSION, Shards

    opened = Shards(shards)
    facts = {
        "format_version": FORMAT_VERSION,
        "photos": len(opened),
        **opened.counts(),
        "shards": len(opened.files),
        **asdict(opened.info),
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        typer.echo(f"{name:18} {', '.join(value) if isinstance(value, tuple) else value}")
