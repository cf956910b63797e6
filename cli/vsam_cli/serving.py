"""Options that all commands share which listen on the network."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

_MIB = 1 << 20


class LogLevel(StrEnum):
    """What is logged."""

    info = "info"
    debug = "debug"


def protection(
    host: Annotated[
        str, typer.Option(help="Address to listen on. One that others reach needs TLS or tokens.")
    ] = "127.0.0.1",
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
    max_bytes: Annotated[int, typer.Option(min=1, help="Largest file of a photo.")] = 20 * _MIB,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Photos with more pixels are refused.")
    ] = 100_000_000,
) -> None:
    """Who may ask, and for what: `vsam.serving.options.ServiceOptions`."""


def service(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8061,
    max_queue: Annotated[
        int,
        typer.Option(
            min=0,
            help="Most photos in the server; more are refused. "
            "0: four times as many as are worked on at a time.",
        ),
    ] = 0,
    buffer_bytes: Annotated[
        int,
        typer.Option(help="Memory for photos that are received and decoded."),
    ] = 512 * _MIB,
    workers: Annotated[int, typer.Option(min=1, help="Threads that read or decode photos.")] = 4,
    idle_seconds: Annotated[
        float, typer.Option(help="A call that brings no whole photo for so long is ended.")
    ] = 60.0,
    drain_seconds: Annotated[
        float, typer.Option(min=0, help="Time for answers that are due after SIGTERM.")
    ] = 30.0,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Answer Prometheus here. [default: off]"),
    ] = None,
    log_level: Annotated[
        LogLevel, typer.Option(help="debug logs a line for each call.")
    ] = LogLevel.info,
) -> None:
    """How calls are answered: the rest of `ServiceOptions`."""


def page(
    page_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the page; 0 takes any that is free.")
    ] = 8062,
    pictures: Annotated[int, typer.Option(min=1, help="The page shows the latest so many.")] = 24,
) -> None:
    """A page with pictures: `vsam.serving.page.PageOptions`."""


Command = Callable[..., None]


def with_options(*groups: Command) -> Callable[[Command], Command]:
    """Give a command the options of groups, after its own.

    Args:
        groups: Functions whose parameters are the options.

    Returns:
        What makes a command that Typer can read. The one that it wraps gets a dict of options for
        each group, in its first parameters.
    """

    def decorate(command: Command) -> Command:
        own = _parameters(command)[len(groups) :]
        shared = [_parameters(group) for group in groups]

        def run(**given: Any) -> None:
            values = [{each.name: given.pop(each.name) for each in group} for group in shared]
            command(*values, **given)

        parameters = [*own, *(each for group in shared for each in group)]
        run.__doc__ = command.__doc__
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
        )
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate


def _parameters(function: Command) -> list[inspect.Parameter]:
    return list(inspect.signature(function, eval_str=True).parameters.values())


def service_options(protected: dict[str, Any], served: dict[str, Any]) -> dict[str, Any]:
    """Set the log's level, and give the fields of `ServiceOptions`."""
    fields = protected | served
    logging.getLogger("vsam.serving").setLevel(fields.pop("log_level").value.upper())
    return fields
