"""`vsam serve`: a trained model as a gRPC service."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .train import Device, Precision

if TYPE_CHECKING:
    from vsam.serving.service import Model

_MIB = 1 << 20


class LogLevel(StrEnum):
    """What is logged."""

    info = "info"
    debug = "debug"


def serve(
    model: Annotated[Path, typer.Option(help="Run folder of vsam-train.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on. One that others reach needs TLS or tokens.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8061,
    max_batch: Annotated[int, typer.Option(min=1, help="Most photos in one forward pass.")] = 16,
    max_wait_ms: Annotated[
        float,
        typer.Option(min=0, help="How long a batch waits for those whom the last one answered."),
    ] = 10.0,
    max_queue: Annotated[
        int,
        typer.Option(min=0, help="Most photos in the server; more are refused. 0: four batches."),
    ] = 0,
    max_bytes: Annotated[int, typer.Option(min=1, help="Largest file of a photo.")] = 20 * _MIB,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Photos with more pixels are refused.")
    ] = 100_000_000,
    max_stream: Annotated[
        int, typer.Option(min=1, help="Most photos in one stream_predict.")
    ] = 10_000,
    buffer_bytes: Annotated[
        int,
        typer.Option(help="Memory for photos that are received and decoded."),
    ] = 512 * _MIB,
    workers: Annotated[int, typer.Option(min=1, help="Threads that decode photos.")] = 4,
    idle_seconds: Annotated[
        float, typer.Option(help="A call that brings no whole photo for so long is ended.")
    ] = 60.0,
    drain_seconds: Annotated[
        float, typer.Option(min=0, help="Time for answers that are due after SIGTERM.")
    ] = 30.0,
    tls_cert: Annotated[
        Path | None, typer.Option(help="PEM file of the certificate; turns TLS on.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of its key.")] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(help="PEM file of who signs the certificates that clients must have."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="Tokens, one a line; each call must bring one.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let others reach the server without TLS and tokens.")
    ] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Answer Prometheus here. [default: off]"),
    ] = None,
    device: Annotated[Device, typer.Option()] = Device.auto,
    precision: Annotated[Precision, typer.Option()] = Precision.fp32,
    log_level: Annotated[
        LogLevel, typer.Option(help="debug logs a line for each call.")
    ] = LogLevel.info,
) -> None:
    """Serve a model as TagMyOutfitService over gRPC, with health, reflection and batching.

    SIGTERM and Ctrl-C end it with exit code 0 when all that was accepted is answered, else with 1.
    """
    import logging

    from vsam.serving.options import ServerOptions

    options = ServerOptions(
        host=host,
        port=port,
        max_batch=max_batch,
        max_wait_ms=max_wait_ms,
        max_queue=max_queue,
        max_bytes=max_bytes,
        max_pixels=max_pixels,
        max_stream=max_stream,
        buffer_bytes=buffer_bytes,
        workers=workers,
        idle_seconds=idle_seconds,
        drain_seconds=drain_seconds,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
        token_file=token_file,
        insecure=insecure,
        metrics_port=metrics_port,
    )
    logging.getLogger("vsam.serving").setLevel(log_level.value.upper())
    from vsam.serving.server import serve as run_server

    def load() -> Model:
        from vsam.serving.model import PredictorModel

        return PredictorModel.load(
            model,
            device=device.value,
            precision=precision.value,
            max_pixels=max_pixels,
            max_batch=max_batch,
        )

    run_server(options, load)
