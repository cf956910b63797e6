"""Photos that a text file names, one path a line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import VsamError, explain_os_error
from .folders import Folder, Found, as_text

_BOM = b"\xef\xbb\xbf"


def find_listed(path: Path, root: Path | None) -> tuple[Folder, Iterator[Found]]:
    r"""Take the files that a list names.

    A list is UTF-8 with a path on each line, which ends in `\n` or `\r\n`. Blank lines are left
    out. Paths are relative to the list's folder, with `root` to that; so are ids. What is named
    is taken, whatever its name and whether it is there.

    Raises:
        VsamError: If it can't be read or is no such list, or if a path leads out of that folder
            (when it comes to that one).
    """
    base = root or path.parent
    source = Folder(base, b"")
    return source, _read(path, base)


def _read(path: Path, base: Path) -> Iterator[Found]:
    above = os.path.abspath(base).rstrip(os.sep) + os.sep  # noqa: PTH100  links keep their names
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                line = raw.removesuffix(b"\n").removesuffix(b"\r")
                if number == 1:
                    line = line.removeprefix(_BOM)
                if line.strip():
                    yield _entry(_text(line, number, path), number, path, base, above)
    except OSError as error:
        raise explain_os_error(error, f"read {path}") from error


def _text(line: bytes, number: int, path: Path) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise VsamError(
            f"Expected `{path}` to be a list in UTF-8, but its line {number} is not. "
            "Save it as UTF-8."
        ) from error
    if "\0" in text:
        raise VsamError(
            f"Expected `{path}` to be a list of paths in UTF-8, but its line {number} has a zero "
            "byte in it. Save it as UTF-8."
        )
    return text


def _entry(line: str, number: int, path: Path, base: Path, above: str) -> Found:
    whole = os.path.normpath(os.path.join(above, line))  # noqa: PTH118  as Path, but five times as fast
    if not whole.startswith(above):
        raise VsamError(
            f"Expected line {number} of {path} to name a photo below {base}, but got {line!r}. "
            "Name a folder above all photos with --root, and write paths that are relative to it."
        )
    name = whole[len(above) :]
    tail = as_text(name.replace(os.sep, "/"))
    # Behind a link `..` leads elsewhere than the words say: such a path is kept as it is.
    told = tail == os.fsencode(name) and ".." not in line.split("/")
    return tail, None if told else base / line
