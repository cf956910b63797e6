"""`vsam card`: a run to its model card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def card(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    out: Annotated[
        str, typer.Option(help="File for the card, such as RUN/README.md; - is standard output.")
    ] = "-",
    license: Annotated[
        str | None, typer.Option(help="The model's licence as the hub names it: apache-2.0, ….")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The model's name on the hub: user/name.")
    ] = None,
) -> None:
    """Write a model card from what the run itself says: labels, input, figures, training."""
    from vsam.folder_prediction.options import model_files
    from vsam.model_card import card_of_run
    from vsam.prediction_files import opened_output, output_path
    from vsam.run_folder import LAST, METRICS
    from vsam_heatmaps.outputs import refuse_overwriting

    refuse_overwriting(
        {"--out": output_path(out)}, {"RUN": [*model_files(run), run / METRICS, run / LAST]}
    )
    text = card_of_run(run, license=license, name=name)
    with opened_output(out) as file:
        file.write(text)
