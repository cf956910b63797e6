"""`vsam web`: a trained model as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .evaluate import Calibrated, Revision, Thresholds, ThresholdsOption
from .train import Device, Precision

if TYPE_CHECKING:
    from vsam.predictor import Predictor

_MIB = 1 << 20


def web(
    model: Annotated[
        str, typer.Option(help="Run folder, export, or user/name on the Hugging Face hub.")
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on. One that others reach needs passwords.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8062,
    examples: Annotated[
        Path | None, typer.Option(help="Folder with example photos. Default: drawn mannequins.")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="JSON lines of vsam-predict, for the gallery.")
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="Folder that the predictions' ids are relative to.")
    ] = None,
    thresholds: ThresholdsOption = Thresholds.run,
    calibrated: Calibrated = False,
    revision: Revision = None,
    pose_model: Annotated[
        Path | None,
        typer.Option(help=".task bundle of the pose networks. Default: the one fetched before."),
    ] = None,
    max_bytes: Annotated[int, typer.Option(min=1, help="Largest file of a photo.")] = 20 * _MIB,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Photos with more pixels are refused.")
    ] = 100_000_000,
    auth_file: Annotated[
        Path | None, typer.Option(help="Who may see the page: name:password a line.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let others reach the page without passwords.")
    ] = False,
    device: Annotated[Device, typer.Option()] = Device.auto,
    precision: Annotated[Precision, typer.Option()] = Precision.fp32,
) -> None:
    """Serve a page that tags photos and shows where the model looked.

    SIGTERM and Ctrl-C end it with exit code 0. Photos are not kept.
    """
    from vsam.web.options import WebOptions

    options = WebOptions(
        host=host,
        port=port,
        max_bytes=max_bytes,
        max_pixels=max_pixels,
        auth_file=auth_file,
        insecure=insecure,
        examples=examples,
        predictions=predictions,
        photos=photos,
        pose_model=pose_model,
    )
    from vsam.web.server import serve

    def load() -> Predictor:
        from vsam.predictor import Predictor

        return Predictor.from_pretrained(
            model,
            device=device.value,
            precision=precision.value,
            calibrated=calibrated,
            thresholds=thresholds.value,
            revision=revision,
        )

    serve(options, load)
