"""Serve `TagMyOutfitService`."""

from __future__ import annotations

from collections.abc import Callable

from .hosting import host
from .options import ServerOptions
from .service import Model, TagService


def serve(options: ServerOptions, load: Callable[[], Model]) -> None:
    """Answer until a signal comes, and what was accepted after that; see `host`.

    Args:
        options: Where and how.
        load: Makes the model; runs in the thread that will run it.

    Raises:
        VsamError: As `host`.
    """
    host(options, lambda metrics: TagService(options, metrics, load))
