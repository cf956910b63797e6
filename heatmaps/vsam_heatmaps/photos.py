"""Find the photos in folders, and keep the list of them small."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from .errors import VsamError
from .images import read_bytes
from .names import NameBlock, Names

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
)
"""File name extensions, in lower case, of what counts as a photo in a folder."""


@dataclass(frozen=True)
class Photo:
    """A photo on disk.

    Attributes:
        id: Its path relative to the root of the photos, with `/` between folders.
        path: Where it lies.
    """

    id: str
    path: Path

    def read(self) -> bytes:
        """Read its bytes; nothing is decoded.

        Raises:
            UnreadablePhotoError: If the system refuses.
        """
        return read_bytes(self.path)

    def __str__(self) -> str:
        """Say where it lies, for messages."""
        return str(self.path)


@dataclass(frozen=True)
class _Origin:
    """Where a part of the photos comes from.

    Attributes:
        folder: The folder, as the user named it.
        prefix: What its photos' ids have before their path in the folder, as UTF-8.
    """

    folder: Path
    prefix: bytes


class Photos(Sequence[Photo]):
    """Photos sorted by id, made when they are asked for: in between, one takes 12 bytes and its id.

    Args:
        ids: The photos' ids.
        origins: Folders that photos come from.
        chosen: For each photo the position of its origin.
        exceptions: Paths that can't be told from the id, by its position.
    """

    def __init__(
        self,
        ids: Names,
        origins: Sequence[_Origin],
        chosen: Sequence[int],
        exceptions: dict[int, Path],
    ) -> None:
        self.ids = ids
        self._origins, self._chosen, self._exceptions = origins, chosen, exceptions

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, position: int) -> Photo: ...

    @overload
    def __getitem__(self, position: slice) -> list[Photo]: ...

    def __getitem__(self, position: int | slice) -> Photo | list[Photo]:
        chosen = range(len(self))[position]
        if isinstance(chosen, range):
            return [self[each] for each in chosen]
        id_ = self.ids[chosen]
        origin = self._origins[self._chosen[chosen]]
        return Photo(id_, self._exceptions.get(chosen) or _path(origin, id_.encode()))


def _path(origin: _Origin, id_: bytes) -> Path:
    return origin.folder / os.fsdecode(id_[len(origin.prefix) :])


def list_photos(inputs: Iterable[Path], *, root: Path | None = None) -> Photos:
    """List the photos in folders (recursively) and the given files, sorted by id.

    Hidden files and folders are left out; links are followed, each folder is visited once.

    Args:
        inputs: Folders and files.
        root: The folder that ids are relative to. By default each folder's photos are relative to
            that folder, and a file's id is its name.

    Raises:
        VsamError: If an input is missing, isn't below `root`, if there is no photo in it, or if
            two photos get the same id.
    """
    listing = _Listing()
    for given in inputs:
        if not given.exists():
            raise VsamError(f"Expected `{given}` to be a folder or a photo, but it is not there.")
        if not given.is_dir():
            listing.add(given.parent, [given.name], root or given.parent)
        elif not listing.add(given, _walk(given, "", set()), root or given):
            raise VsamError(
                f"Expected `{given}` to hold photos, but it holds none. "
                f"Photos end in {' '.join(sorted(EXTENSIONS))}."
            )
    return listing.photos()


class _Listing:
    """Gathers photos in the order in which they are found."""

    def __init__(self) -> None:
        self._ids = NameBlock()
        self._origins: dict[_Origin, int] = {}
        self._chosen = array("I")
        self._exceptions: dict[int, Path] = {}

    def add(self, folder: Path, names: Iterable[str], base: Path) -> int:
        """Add files, paths relative to the folder; count them."""
        # Not resolve(): a link keeps the name that the user sees.
        above, below = Path(os.path.abspath(base)), Path(os.path.abspath(folder))  # noqa: PTH100
        prefix, within = "", ""
        if above != below and below.is_relative_to(above):
            prefix = below.relative_to(above).as_posix() + "/"
        elif above != below:
            # Photos lie below the base if it is in this folder and they are in that part of it.
            inside = above.is_relative_to(below)
            within = above.relative_to(below).as_posix() + "/" if inside else "/"
        origin = _Origin(folder / within.rstrip("/"), _as_text(prefix))
        position = self._origins.setdefault(origin, len(self._origins))
        before = len(self._ids)
        for name in names:
            if not name.startswith(within):
                raise VsamError(
                    f"Expected `{folder / name}` to lie below the root {base}, but it doesn't."
                )
            tail = _as_text(name[len(within) :])
            if tail != os.fsencode(name[len(within) :]):
                self._exceptions[len(self._ids)] = folder / name
            self._ids.add(origin.prefix + tail)
            self._chosen.append(position)
        return len(self._ids) - before

    def photos(self) -> Photos:
        """Sort the photos by id; the same photo given twice counts once.

        Raises:
            VsamError: If two photos have the same id.
        """
        kept = array("Q")
        clashes: list[tuple[int, int]] = []
        for _, positions in self._ids.groups():
            first, *others = positions
            kept.append(first)
            clashes += [(other, first) for other in others if not self._same(first, other)]
        if clashes:
            second, first = min(clashes)
            raise VsamError(
                f"Two photos have the id {self._ids[first].decode()!r}: {self._path(first)} and "
                f"{self._path(second)}. Name a folder above both with --root."
            )
        exceptions = {
            position: self._exceptions[found]
            for position, found in enumerate(kept)
            if found in self._exceptions
        }
        ids = Names(self._ids[found] for found in kept)
        chosen = array("I", (self._chosen[found] for found in kept))
        return Photos(ids, tuple(self._origins), chosen, exceptions)

    def _path(self, position: int) -> Path:
        origins = tuple(self._origins)
        found = _path(origins[self._chosen[position]], self._ids[position])
        return self._exceptions.get(position, found)

    def _same(self, first: int, second: int) -> bool:
        a, b = self._path(first), self._path(second)
        return a == b or a.samefile(b)


def _walk(folder: Path, below: str, visited: set[str]) -> Iterator[str]:
    """Give the photos' paths relative to the folder that was given, `/` between folders."""
    real = os.path.realpath(folder)
    if real in visited:
        return
    visited.add(real)
    photos: list[str] = []
    folders: list[tuple[bool, str]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                # A name without a file behind it (a broken link) is listed: it is reported, not
                # lost. Names alone are kept: entries are ten times as large.
                if entry.is_dir():
                    folders.append((entry.is_symlink(), entry.name))
                elif Path(entry.name).suffix.lower() in EXTENSIONS:
                    photos.append(entry.name)
    except OSError as error:
        raise VsamError(f"Could not list {folder}: {error.strerror}.") from error
    for name in sorted(photos):
        yield below + name
    # Links come last, so that a folder reached both ways keeps its own name.
    for _, name in sorted(folders):
        yield from _walk(folder / name, f"{below}{name}/", visited)


def _as_text(name: str) -> bytes:
    """Encode a file name to UTF-8; bytes that are none are escaped: text can't hold them."""
    return os.fsencode(name).decode("utf-8", "backslashreplace").encode()
