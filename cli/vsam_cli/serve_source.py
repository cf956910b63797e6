"""`vsam serve-source`: a folder's photos as a gRPC service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .serving import protection, service, service_options, with_options


@with_options(protection, service)
def serve_source(
    protected: dict[str, Any],
    served: dict[str, Any],
    folder: Annotated[
        Path, typer.Argument(help="Photos, with those in sub-folders; given in the order of ids.")
    ],
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="Get ends with OUT_OF_RANGE after the last photo, not begins anew."
        ),
    ] = False,
) -> None:
    """Serve photos as ImageSourceService over gRPC: Get gives the next one, GetStream all.

    What can't be read is passed over. SIGTERM and Ctrl-C end it as `vsam serve`.
    """
    from vsam.serving.options import ServiceOptions

    options = ServiceOptions(**service_options(protected, served))
    from vsam.serving.source import serve_source as run_server

    run_server(options, folder, once=once)
