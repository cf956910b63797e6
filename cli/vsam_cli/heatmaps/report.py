"""`vsam-heatmaps report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import ImageColumn, Root


def report(
    shards: Annotated[Path, typer.Argument(help="Folder of shards.")],
    out: Annotated[Path, typer.Option(help="HTML file to write.")],
    photos: Annotated[
        list[Path] | None,
        typer.Option(
            help="What was extracted: a folder or a photo. May be given several times. Without "
            "it the page has no pictures."
        ),
    ] = None,
    root: Root = None,
    image_column: ImageColumn = None,
    samples: Annotated[int, typer.Option(min=0, help="Photos on each sheet at most.")] = 24,
    seed: Annotated[int, typer.Option(help="Another seed chooses other random photos.")] = 0,
) -> None:
    """Write one HTML page about shards: figures, and pictures of typical and doubtful poses."""
    from vsam_heatmaps.outputs import refuse_overwriting, refuse_photos
    from vsam_heatmaps.photos import list_photos
    from vsam_heatmaps.reports import write_report

    refuse_overwriting({"--out": out}, {"SHARDS": shards.glob("*.h5"), "--photos": photos or []})
    listed = list_photos(photos, root=root, image_column=image_column) if photos else None
    refuse_photos({"--out": out}, listed or ())
    write_report(
        shards,
        out,
        photos=listed,
        samples=samples,
        seed=seed,
        progress=True,
    )
    typer.echo(f"Wrote {out}.")
