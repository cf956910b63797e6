"""`vsam-heatmaps view`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import ImageColumn, Root


def view(
    shards: Annotated[Path, typer.Argument(help="Folder of shards.")],
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Photos to show.")],
    photos: Annotated[
        list[Path],
        typer.Option(help="What was extracted: a folder or a photo. May be given several times."),
    ],
    out: Annotated[Path, typer.Option(help="Picture to write (.png, .jpg or .webp).")],
    root: Root = None,
    image_column: ImageColumn = None,
) -> None:
    """Draw photos with their skeleton and each map laid over, one row for each."""
    from vsam_heatmaps.outputs import refuse_overwriting, refuse_photos
    from vsam_heatmaps.overlays import view_records
    from vsam_heatmaps.photos import list_photos
    from vsam_heatmaps.shards import Shards

    refuse_overwriting({"--out": out}, {"--photos": photos})
    records = Shards(shards)
    listed = list_photos(photos, root=root, image_column=image_column)
    refuse_photos({"--out": out}, listed)
    view_records(records, ids, listed, out)
    typer.echo(f"Wrote {out}.")
