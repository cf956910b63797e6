"""Gather photos from several inputs, and give each its id."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..errors import VsamError
from ..names import NameBlock, Names
from ..paths import StrPath, paths_of
from .archives import find_in_tar
from .folders import Folder, Found, find_file, find_in, name_some
from .lists import find_listed
from .photo import EXTENSIONS, Photo
from .sequence import Photos, Source, make_photo
from .tables import find_in_table
from .tar_members import compressed

_ARCHIVES = frozenset({".tar", ".parquet"})
_COMPRESSED = {
    **dict.fromkeys((".gz", ".tgz"), "gunzip"),
    **dict.fromkeys((".bz2", ".tbz", ".tbz2"), "bunzip2"),
    **dict.fromkeys((".xz", ".txz"), "unxz"),
    **dict.fromkeys((".zst", ".tzst"), "unzstd"),
    ".zip": "unzip",
}


def list_photos(
    inputs: StrPath | Iterable[StrPath],
    *,
    root: StrPath | None = None,
    image_column: str | None = None,
    allow_empty: bool = False,
) -> Photos:
    """List the photos in folders, lists, tar files, Parquet files and the given files, by id.

    Folders are searched recursively for photos alone; hidden files and folders are left out, links
    are followed, and each folder is visited once. `heatmaps/README.md` tells what the other kinds
    of input are, and which ids their photos get.

    Args:
        inputs: Folders and files, or one of them. A file that ends in `.txt` is a list of paths,
            one in `.tar` or `.parquet` holds photos, and any other is a photo.
        root: The folder that ids are relative to. By default each folder's photos are relative to
            that folder, a list's to the list's folder, and those inside a file have the name that
            they have there; a file's id is its name.
        image_column: The column of Parquet files that holds the photos, if that is not clear.
        allow_empty: Take folders without photos, too.

    Raises:
        VsamError: If an input is missing, damaged, compressed or isn't below `root`, if there is no
            photo in it, or if two photos get the same id.
    """
    root = None if root is None else Path(root)
    listing = _Listing()
    archives = []
    for given in paths_of(inputs):
        suffix = given.suffix.lower()
        if not given.exists():
            raise VsamError(f"Expected `{given}` to be a folder or a photo, but it is not there.")
        if given.is_dir():
            if not listing.add_files(*find_in(given, root or given)) and not allow_empty:
                raise _nothing_in_folder(given)
        elif suffix in _ARCHIVES:
            archives.append(given)
        elif suffix in _COMPRESSED:
            raise compressed(given, f"{_COMPRESSED[suffix]} {given}")
        elif suffix != ".txt":
            listing.add_files(*find_file(given, root or given.parent))
        elif not listing.add_files(*find_listed(given, root)):
            raise VsamError(f"Expected `{given}` to name photos, one path a line, but it is empty.")
    # Sorted, for the order of reading not to depend on that of the arguments.
    for given in sorted(archives):
        if given.suffix.lower() == ".tar":
            source: Source
            source, ids = find_in_tar(given, root)
        else:
            source, ids = find_in_table(given, root, image_column)
        if not listing.add(source, ids):
            raise _nothing_in(given)
    return listing.photos()


def _nothing_in_folder(folder: Path) -> VsamError:
    inside = name_some(folder, _ARCHIVES)
    if not inside:
        return _nothing_in(folder)
    return VsamError(
        f"Expected `{folder}` to hold photos, but it holds files with photos in them. "
        f"Name these files: {inside}"
    )


def _nothing_in(given: Path) -> VsamError:
    return VsamError(
        f"Expected `{given}` to hold photos, but it holds none. "
        f"Photos end in {' '.join(sorted(EXTENSIONS))}."
    )


class _Listing:
    """Gathers photos in the order in which they are found."""

    def __init__(self) -> None:
        self._ids = NameBlock()
        self._starts = array("Q")
        self._sources: list[Source] = []
        self._folders: dict[Folder, Folder] = {}
        self._exceptions: dict[int, Path] = {}

    def add_files(self, folder: Folder, found: Iterable[Found]) -> int:
        """Add files in a folder; count them."""
        return self.add(self._folders.setdefault(folder, folder), self._noting_exceptions(found))

    def _noting_exceptions(self, found: Iterable[Found]) -> Iterable[bytes]:
        for id_, path in found:
            if path is not None:
                self._exceptions[len(self._ids)] = path
            yield id_

    def add(self, source: Source, ids: Iterable[bytes]) -> int:
        """Add photos by id, in the order in which they lie in their source; count them."""
        before = len(self._ids)
        if not self._sources or self._sources[-1] is not source:
            self._starts.append(before)
            self._sources.append(source)
        for id_ in ids:
            self._ids.add(id_)
        return len(self._ids) - before

    def photos(self) -> Photos:
        """Sort the photos by id; the same photo given twice counts once.

        Raises:
            VsamError: If two photos have the same id.
        """
        kept = array("I")
        clashes: list[tuple[int, int]] = []
        for _, positions in self._ids.groups():
            first, *others = positions
            kept.append(first)
            clashes += [(other, first) for other in others if not self._same(first, other)]
        if clashes:
            second, first = min(clashes)
            raise VsamError(
                f"Two photos have the id {self._ids[first].decode()!r}: {self._photo(first)} and "
                f"{self._photo(second)}. Name a folder above both with --root."
            )
        ids = Names(self._ids[found] for found in kept)
        return Photos(ids, kept, self._starts, tuple(self._sources), self._exceptions)

    def _photo(self, found: int) -> Photo:
        id_ = self._ids[found].decode()
        return make_photo(id_, found, self._starts, self._sources, self._exceptions)

    def _same(self, first: int, second: int) -> bool:
        a, b = self._photo(first), self._photo(second)
        # In a file they are the same if they lie at the same place.
        return type(a) is type(b) and replace(a, path=b.path) == b and _same_file(a.path, b.path)


def _same_file(a: Path, b: Path) -> bool:
    try:
        return a == b or a.samefile(b)
    except OSError:  # what is not there is listed, too
        return os.path.realpath(a) == os.path.realpath(b)
