"""Paths as callers give them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

StrPath = str | os.PathLike[str]
"""What public functions take for a path: text, a `Path`, or whatever else names a file."""


def paths_of(given: StrPath | Iterable[StrPath]) -> list[Path]:
    """Take one path, or several.

    >>> paths_of("photos") == paths_of([Path("photos")]) == [Path("photos")]
    True
    """
    if isinstance(given, str | os.PathLike):
        return [Path(given)]
    return [Path(each) for each in given]
