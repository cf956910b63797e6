"""`vsam`: the commands beside the three main ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vsam_heatmaps.counting import counted

from .card import card
from .common import EXIT_CODES, Version, make_app, run_app
from .evaluate import calibrate, evaluate
from .export import export
from .import_keras import import_keras
from .pipeline import pipeline
from .serve import serve
from .serve_pose import serve_pose
from .serve_source import serve_source
from .serve_view import serve_view
from .tag import tag
from .web import web

app = make_app(f"Fashion tagging with pose-supervised attention. {EXIT_CODES}")
data_app = make_app("Make data sets.")
app.add_typer(data_app, name="data")
app.command("import-keras")(import_keras)
app.command("evaluate")(evaluate)
app.command("calibrate")(calibrate)
app.command("card")(card)
app.command(epilog=EXIT_CODES)(export)
app.command("serve", no_args_is_help=True)(serve)
app.command("serve-pose")(serve_pose)
app.command("serve-source", no_args_is_help=True)(serve_source)
app.command("serve-view")(serve_view)
app.command("pipeline", no_args_is_help=True)(pipeline)
app.command("web", no_args_is_help=True)(web)
app.command("tag", no_args_is_help=True, epilog=EXIT_CODES)(tag)


@app.callback()
def main(
    version: Version = False,
) -> None:
    """Hold the options of all sub-commands."""


@data_app.callback()
def data() -> None:
    """Make data sets."""


@data_app.command()
def mannequins(
    out: Annotated[Path, typer.Argument(help="Folder for photos, labels.csv and joints.csv.")],
    count: Annotated[int, typer.Option(help="How many to draw.")] = 1000,
    seed: Annotated[int, typer.Option(help="Another seed draws other mannequins.")] = 0,
    masks: Annotated[
        bool, typer.Option("--masks", help="Write true masks of person and garment too.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes. Default: one for each core.")
    ] = None,
) -> None:
    """Draw people with garments: photos, labels and the true joints."""
    from vsam_datasets.mannequins import write_mannequins

    write_mannequins(out, count=count, seed=seed, masks=masks, workers=workers)
    also = ", masks/" if masks else ""
    drawn = counted(count, "mannequin is", "mannequins are")
    typer.echo(f"{drawn} in {out}: photos/, labels.csv, joints.csv{also}.")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that it makes.")] = Path("demo"),
    count: Annotated[int, typer.Option(min=50, help="Mannequins to draw.")] = 1000,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each training.")] = 12,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Run the whole path on drawn mannequins and write a report: draw, extract, train, predict."""
    from .demo.pipeline import DemoOptions, run_demo

    result = run_demo(DemoOptions(out=out, count=count, epochs=epochs, seed=seed))
    typer.echo(
        f"Category accuracy on {result.photos} unseen mannequins: {result.accuracy:.3f}; "
        f"the report is {result.report}, the picture {result.sheet}."
    )


def run() -> None:
    """Run `vsam`."""
    run_app(app, "vsam")
