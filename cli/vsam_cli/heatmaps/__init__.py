"""`vsam-heatmaps`: photos to heatmap shards, and what can be done with shards."""

from __future__ import annotations

from ..common import EXIT_CODES, Version, make_app, run_app
from .export import export
from .extract import extract
from .inspect import inspect
from .list import list_records
from .merge import merge
from .report import report
from .verify import verify
from .view import view

app = make_app(f"Find poses in photos and store them as heatmaps. {EXIT_CODES}")


@app.callback()
def main(
    version: Version = False,
) -> None:
    """Keep `extract` a sub-command, and hold the options of all of them."""


for _command in (extract, inspect, view, verify, merge, report, export):
    app.command()(_command)
app.command("list")(list_records)


def run() -> None:
    """Run `vsam-heatmaps`."""
    run_app(app, "vsam-heatmaps")
