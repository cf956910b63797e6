"""`vsam import-keras`: the published Keras weights to a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_keras(
    weights: Annotated[
        Path, typer.Argument(metavar="WEIGHTS.h5", help="The published model's weights, Keras 2.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the run; it must not exist.")],
    categories: Annotated[
        Path | None,
        typer.Option(help="Names of the categories, one a line. Default: DeepFashion's 46."),
    ] = None,
    attributes: Annotated[
        Path | None,
        typer.Option(help="Names of the attributes, one a line. Default: DeepFashion's 1000."),
    ] = None,
) -> None:
    """Turn the published VSAM's weights into a run for vsam-predict and vsam-train --init."""
    from vsam.keras_import import import_keras as run_import

    labels = run_import(weights, out, categories=categories, attributes=attributes)
    typer.echo(
        f"{out} holds the model: {len(labels.categories)} categories, "
        f"{len(labels.attributes)} attributes."
    )
