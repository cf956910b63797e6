"""Photos that are files: in folders, named one by one, or named in a list."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..errors import VsamError
from .photo import Photo, escaped, has_photo_name, is_hidden


@dataclass(frozen=True)
class Folder:
    """Files in a folder and its sub-folders; a `Source`.

    Attributes:
        folder: The folder, as the user named it.
        prefix: What its photos' ids have before their path in the folder, as UTF-8.
    """

    folder: Path
    prefix: bytes
    sequential: ClassVar[bool] = False

    def photo(self, id_: bytes, place: int) -> Photo:
        """Make a photo: its path is told by its id."""
        return Photo(id_.decode(), self.folder / os.fsdecode(id_[len(self.prefix) :]))


Found = tuple[bytes, Path | None]
"""An id, UTF-8, and the photo's path where the id doesn't tell it."""


def find_in(folder: Path, base: Path) -> tuple[Folder, Iterator[Found]]:
    """Find the photos in a folder, recursively; ids are relative to the base.

    Raises:
        VsamError: If one of them doesn't lie below the base, or a folder can't be listed (when it
            comes to that one).
    """
    return _found(folder, walk(folder, has_photo_name), base)


def find_file(file: Path, base: Path) -> tuple[Folder, Iterator[Found]]:
    """Take one file, whatever its name; its id is relative to the base.

    Raises:
        VsamError: If it doesn't lie below the base.
    """
    return _found(file.parent, iter([file.name]), base)


def _found(folder: Path, names: Iterator[str], base: Path) -> tuple[Folder, Iterator[Found]]:
    prefix, within = relative_to_base(folder, base)
    source = Folder(folder / within.rstrip("/"), as_text(prefix))

    def found() -> Iterator[Found]:
        for name in names:
            if not name.startswith(within):
                raise not_below(folder / name, base)
            below = name[len(within) :]
            tail = as_text(below)
            told = tail == os.fsencode(below)
            yield source.prefix + tail, None if told else folder / name

    return source, found()


def relative_to_base(folder: Path, base: Path) -> tuple[str, str]:
    """Compare a folder with the one that ids are relative to.

    Returns:
        What ids have before the paths in the folder, and what these paths must begin with, which
        the ids then lack: each empty or ending in `/`.
    """
    # Not resolve(): a link keeps the name that the user sees.
    above, below = Path(os.path.abspath(base)), Path(os.path.abspath(folder))  # noqa: PTH100
    if above == below:
        return "", ""
    if below.is_relative_to(above):
        return below.relative_to(above).as_posix() + "/", ""
    # Photos lie below the base if it is in this folder and they are in that part of it.
    inside = above.is_relative_to(below)
    return "", above.relative_to(below).as_posix() + "/" if inside else "/"


def not_below(path: Path, base: Path) -> VsamError:
    """Build the error for a file that has no id."""
    return VsamError(f"Expected `{path}` to lie below the root {base}, but it doesn't.")


def walk(folder: Path, wanted: Callable[[str], bool]) -> Iterator[str]:
    """Give the paths of files below a folder, `/` between folders; hidden ones are left out.

    Each folder is visited once, and links come last: a folder that is reached both ways keeps its
    own name.

    Args:
        folder: Where to begin.
        wanted: Says of a file's name whether to give it.

    Raises:
        VsamError: If a folder can't be listed, when it comes to that one.
    """
    visited: set[str] = set()
    links = deque([""])
    while links:
        yield from _walk_tree(folder, links.popleft(), wanted, visited, links)


def _walk_tree(
    top: Path, below: str, wanted: Callable[[str], bool], visited: set[str], links: deque[str]
) -> Iterator[str]:
    """Give the files of one tree; note its links to folders."""
    folder = top / below
    real = os.path.realpath(folder)
    if real in visited:
        return
    visited.add(real)
    files: list[str] = []
    folders: list[tuple[str, bool]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                # A name without a file behind it (a broken link) is listed: it is reported, not
                # lost. Names alone are kept: entries are ten times as large.
                if _is_folder(entry):
                    folders.append((entry.name, entry.is_symlink()))
                elif wanted(entry.name):
                    files.append(entry.name)
    except OSError as error:
        raise VsamError(f"Could not list {folder}: {error.strerror}.") from error
    for name in sorted(files):
        yield below + name
    for name, is_link in sorted(folders):
        if is_link:
            links.append(f"{below}{name}/")
        else:
            yield from _walk_tree(top, f"{below}{name}/", wanted, visited, links)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one; a link that can't be followed is none.

    The system refuses to follow links in a circle, links into folders that are closed to us, and
    those to names that are too long.
    """
    try:
        return entry.is_dir()
    except OSError:
        return False


def name_some(folder: Path, suffixes: frozenset[str], shown: int = 3) -> str:
    """Name the first files below a folder that end in one of the suffixes; empty without any."""
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes and not is_hidden(path.name)
    )
    return " ".join(map(str, found[:shown])) + (" …" if len(found) > shown else "")


def as_text(name: str) -> bytes:
    """Encode a file name, as the system gives it, to UTF-8."""
    return escaped(os.fsencode(name))


def prefix_within(path: Path, root: Path | None) -> bytes:
    """Give what ids of photos in a file begin with: below a root, its path there, less the suffix.

    Raises:
        VsamError: If it doesn't lie below the root.
    """
    if root is None:
        return b""
    prefix, within = relative_to_base(path.parent, root)
    if within:
        raise not_below(path, root)
    return as_text(f"{prefix}{path.stem}/")
