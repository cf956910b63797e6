"""The server's log: one line an event, `key=value`. Nothing of a photo is ever logged."""

from __future__ import annotations

import contextlib
import json
import logging
import time
import traceback
from collections.abc import Iterator

import grpc

log = logging.getLogger("vsam.serving")


def tell(event: str, level: int = logging.INFO, *, trace: bool = False, **fields: object) -> None:
    """Log an event.

    Args:
        event: What happened, in a word.
        level: Of logging.
        trace: Add the traceback of the exception that is being handled, in the same line.
        fields: Values in the order given; those with other signs than of a plain word are quoted.
    """
    if not log.isEnabledFor(level):
        return
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    said = {"time": moment, "level": logging.getLevelName(level).lower(), "event": event, **fields}
    if trace:
        said["trace"] = traceback.format_exc()
    log.log(level, "%s", " ".join(f"{name}={_quoted(str(said[name]))}" for name in said))


@contextlib.contextmanager
def grpc_logged() -> Iterator[None]:
    """Until the block ends, say of clients that left before their answers what `tell` says.

    If a client leaves at the moment in which it is answered, gRPC logs an error and a traceback. It
    is none, and happens once in some thousand calls that clients give up.
    """
    logger, left = logging.getLogger("grpc._cython.cygrpc"), _Left()
    logger.addFilter(left)
    try:
        yield
    finally:
        logger.removeFilter(left)


class _Left(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info and record.exc_info[1]
        if not isinstance(error, grpc.aio.InternalError):
            return True
        tell("left", logging.DEBUG, about=record.getMessage())
        return False


def _quoted(text: str) -> str:
    plain = text and text.isascii() and text.isprintable() and not set(text) & set(' "=\\')
    return text if plain else json.dumps(text)
