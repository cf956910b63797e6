"""Outputs must not replace what a command reads, one another, or a device."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from .atomic import is_special
from .errors import expected
from .photos.photo import Photo, has_photo_name


def refuse_overwriting(
    outputs: Mapping[str, Path | None], inputs: Mapping[str, Iterable[Path]] | None = None
) -> None:
    """Check before any work that no output is an input, another output or a device.

    Links are followed.

    Args:
        outputs: Files to be written, by the option that names them; None where it was not given.
        inputs: Files and folders that are read, by their option. Of a folder what has a photo's
            name counts: other files may lie there.

    Raises:
        VsamError: If one is; the option, the path and the other option are named. Also if there
            is a pipe, a socket or a device.
    """
    read = {
        os.path.realpath(path): name for name, paths in (inputs or {}).items() for path in paths
    }
    written: dict[str, str] = {}
    for name, output in outputs.items():
        if output is None:
            continue
        path = os.path.realpath(output)
        other = read.get(path) or written.get(path)
        if other is None and has_photo_name(path):
            other = next((read[str(f)] for f in Path(path).parents if str(f) in read), None)
        if other is not None:
            raise expected(name, f"another file than those of {other}", output, "Name another.")
        if is_special(output):
            told = f"{output}, which is a pipe, a socket or a device"
            raise expected(name, "a file", told, "Name a file.")
        written[path] = name


def refuse_photos(outputs: Mapping[str, Path | None], photos: Iterable[Photo]) -> None:
    """Check before any work that no output is a photo that is read, whatever led to it.

    A list may name photos anywhere, and a folder may have links to others.

    Args:
        outputs: See `refuse_overwriting`.
        photos: All that are read.

    Raises:
        VsamError: If one is; the option and the path are named.
    """
    there = {name: path.stat() for name, path in outputs.items() if path and path.exists()}
    for photo in photos if there else ():
        try:
            found = photo.path.stat()
        except OSError:
            continue
        for name, output in there.items():
            if os.path.samestat(found, output):
                told = f"{outputs[name]}, which is the photo {photo.id!r}"
                raise expected(name, "another file than the photos", told, "Name another.")
