"""`vsam serve`: a trained model as a gRPC service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .serving import protection, service, service_options, with_options
from .train import Device, Precision

if TYPE_CHECKING:
    from vsam.serving.service import Model


@with_options(protection, service)
def serve(
    protected: dict[str, Any],
    served: dict[str, Any],
    model: Annotated[Path, typer.Option(help="Run folder of vsam-train.")],
    max_batch: Annotated[int, typer.Option(min=1, help="Most photos in one forward pass.")] = 16,
    max_wait_ms: Annotated[
        float,
        typer.Option(min=0, help="How long a batch waits for those whom the last one answered."),
    ] = 10.0,
    max_stream: Annotated[
        int, typer.Option(min=1, help="Most photos in one stream_predict.")
    ] = 10_000,
    device: Annotated[Device, typer.Option()] = Device.auto,
    precision: Annotated[Precision, typer.Option()] = Precision.fp32,
) -> None:
    """Serve a model as TagMyOutfitService over gRPC, with health, reflection and batching.

    SIGTERM and Ctrl-C end it with exit code 0 when all that was accepted is answered, else with 1.
    """
    from vsam.serving.options import ServerOptions

    options = ServerOptions(
        **service_options(protected, served),
        max_batch=max_batch,
        max_wait_ms=max_wait_ms,
        max_stream=max_stream,
    )
    from vsam.serving.server import serve as run_server

    def load() -> Model:
        from vsam.serving.model import PredictorModel

        return PredictorModel.load(
            model,
            device=device.value,
            precision=precision.value,
            max_pixels=options.max_pixels,
            max_batch=max_batch,
        )

    run_server(options, load)
