"""The server's log: one line an event, `key=value`. Nothing of a photo is ever logged."""

from __future__ import annotations

import json
import logging
import time
import traceback

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


def _quoted(text: str) -> str:
    plain = text and text.isascii() and text.isprintable() and not set(text) & set(' "=\\')
    return text if plain else json.dumps(text)
