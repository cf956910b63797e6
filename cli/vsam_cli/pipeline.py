"""`vsam pipeline`: a folder's photos, their tags and a page, in one process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .serving import page, protection, with_options
from .train import Device, Precision


@with_options(protection, page)
def pipeline(
    protected: dict[str, Any],
    paged: dict[str, Any],
    folder: Annotated[Path, typer.Argument(help="Photos, with those in sub-folders.")],
    model: Annotated[Path, typer.Option(help="Run folder of vsam-train.")],
    seconds: Annotated[
        float, typer.Option(min=0, help="Time between two pictures at least.")
    ] = 0.0,
    repeat: Annotated[
        bool, typer.Option("--repeat", help="Begin anew after the last photo.")
    ] = False,
    max_batch: Annotated[int, typer.Option(min=1, help="Most photos in one forward pass.")] = 4,
    device: Annotated[Device, typer.Option()] = Device.auto,
    precision: Annotated[Precision, typer.Option()] = Precision.fp32,
) -> None:
    """Tag a folder's photos and show them on a page, without an orchestrator and its services.

    The page stays until SIGTERM or Ctrl-C, which end it with exit code 0.
    """
    from vsam.serving.logs import tell
    from vsam.serving.options import ServiceOptions
    from vsam.serving.page import Page, PageOptions
    from vsam.serving.photo_rounds import PhotoRounds
    from vsam.serving.pictures import Pictures

    # Nobody sends photos here, so that no buffer has to hold them.
    options = ServiceOptions(**protected, buffer_bytes=sys.maxsize)
    rounds = PhotoRounds(folder, max_bytes=options.max_bytes, max_pixels=options.max_pixels)
    paging = PageOptions(port=paged["page_port"], pictures=paged["pictures"])
    pictures = Pictures(paging.pictures)
    shown = Page(pictures, paging, options)
    from vsam.serving.model import PredictorModel
    from vsam.serving.pipeline import run_pipeline, stopped_by_signals

    with stopped_by_signals() as stop:
        shown.open()
        try:
            tell("listening", address=shown.address, metrics="off")
            loaded = PredictorModel.load(
                model,
                device=device.value,
                precision=precision.value,
                max_pixels=options.max_pixels,
                max_batch=max_batch,
            )
            tell("ready", photos=rounds.count)
            run_pipeline(
                rounds,
                loaded,
                pictures,
                stop,
                max_batch=max_batch,
                seconds=seconds,
                repeat=repeat,
            )
        finally:
            shown.close()
    tell("ended", page=shown.address)
