"""`vsam-heatmaps view`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def view(
    shards: Annotated[Path, typer.Argument(help="Folder of shards.")],
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Photos to show.")],
    photos: Annotated[Path, typer.Option(help="Folder that the ids are relative to.")],
    out: Annotated[Path, typer.Option(help="Picture to write (.png, .jpg or .webp).")],
) -> None:
    """Draw photos with their skeleton and each map laid over, one row for each."""
    from vsam_heatmaps.outputs import refuse_overwriting
    from vsam_heatmaps.overlays import view_records
    from vsam_heatmaps.shards import Shards

    refuse_overwriting({"--out": out}, {"--photos": [photos / id_ for id_ in ids]})
    view_records(Shards(shards), ids, photos, out)
    typer.echo(f"Wrote {out}.")
