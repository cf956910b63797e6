"""Which members of a tar file are photos, by its headers alone; and whether the file is whole."""

from __future__ import annotations

import os
import posixpath
import tarfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import VsamError, explain_os_error
from ..names import NameBlock
from .photo import Stamp, escaped, has_photo_name, id_from_stored, is_hidden, stamp_of

_UNPACKERS = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ": "unxz",
    b"(\xb5/\xfd": "unzstd",
}
"""How a compressed file begins, and what unpacks it."""


# Links to links are followed so far, as Linux does.
_MOST_LINKS = 40


def read_members(path: Path) -> tuple[Stamp, Members]:
    """List the photos in a tar file; also give the file's stamp from before.

    Raises:
        VsamError: If it can't be read, is no whole and plain tar file, or holds a photo that is
            sparse or whose name leads out of a folder.
    """
    found = Members(path)
    try:
        with path.open("rb") as file:
            stamp = stamp_of(os.fstat(file.fileno()))
            for member in _members(path, file):
                found.add(member)
    except OSError as error:
        raise explain_os_error(error, f"read {path}") from error
    found.resolve_links()
    return stamp, found


@dataclass
class _Link:
    """A link in a tar file to another name in it."""

    target: bytes
    hard: bool

    @property
    def fault(self) -> str:
        return (
            f"it is a link to {self.target.decode()!r}, and no such photo is in the tar file; "
            "store what it points at (tar --dereference --hard-dereference)"
        )


class Members:
    """The photos among the members of a tar file, in the order in which they lie there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.names = NameBlock()
        self.offsets, self.sizes = array("Q"), array("Q")
        self.links: dict[int, _Link] = {}
        self._odd: dict[int, str] = {}  # names that are no UTF-8

    def add(self, member: tarfile.TarInfo) -> None:
        """Add a member if it is a photo."""
        name = member.name
        if not has_photo_name(name) or not (member.isreg() or member.islnk() or member.issym()):
            return
        id_ = id_from_stored(name)
        if id_ is None:
            raise VsamError(
                f"Expected the photos in {self._path} to have relative names without `..`, but got "
                f"{name!r}. Make the tar file from the photos' folder: tar -C FOLDER -cf NAME.tar ."
            )
        if any(map(is_hidden, id_.split("/"))):
            return
        if member.issparse():
            raise VsamError(
                f"Expected the photos in {self._path} to be whole, but {name!r} is stored as a "
                "sparse file. Make the tar file without --sparse."
            )
        position = len(self.names)
        text = _as_text(id_)
        if text != id_.encode("utf-8", "surrogateescape"):
            self._odd[position] = id_
        self.names.add(text)
        if member.isreg():
            self.offsets.append(member.offset_data)
            self.sizes.append(member.size)
            return
        self.offsets.append(0)
        self.sizes.append(0)
        hard = member.islnk()
        target = (
            member.linkname if hard else posixpath.join(posixpath.dirname(id_), member.linkname)
        )
        self.links[position] = _Link(_as_text(posixpath.normpath(target)), hard)

    def resolve_links(self) -> None:
        """Let links have the bytes of the photos that they point at; keep those that can't."""
        wanted = {link.target for link in self.links.values()}
        if not wanted:
            return
        latest: dict[bytes, int] = {}
        # A hard link is what has that name before it, also if it is stored again later.
        for position in range(len(self.names)):
            if position in self.links and self.links[position].hard:
                self._resolve(position, latest)
            if self.names[position] in wanted and position not in self.links:
                latest[self.names[position]] = position
        for _ in range(_MOST_LINKS):
            resolved = [at for at in list(self.links) if self._resolve(at, latest)]
            for position in resolved:
                name = self.names[position]
                latest[name] = max(position, latest.get(name, position))
            if not resolved:
                return

    def _resolve(self, position: int, latest: dict[bytes, int]) -> bool:
        found = latest.get(self.links[position].target)
        if found is None:
            return False
        self.offsets[position], self.sizes[position] = self.offsets[found], self.sizes[found]
        del self.links[position]
        return True

    def without_replaced(self) -> array[int]:
        """Give the positions of the members that count, ascending.

        Raises:
            VsamError: If two names differ only in how bytes that are no UTF-8 are escaped.
        """
        kept = array("Q")
        for name, positions in self.names.groups():
            if len({self._odd.get(position) for position in positions}) > 1:
                raise VsamError(
                    f"Two photos in {self._path} would have the id {name.decode()!r}: the bytes of "
                    "one name are no UTF-8. Rename it."
                )
            kept.append(positions[-1])
        return array("Q", sorted(kept))


def _as_text(name: str) -> bytes:
    return escaped(name.encode("utf-8", "surrogateescape"))


def _members(path: Path, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Give all members.

    Raises:
        VsamError: If it is no tar file or not whole; `tarfile` takes a damaged header for the end.
    """
    tar = _opened(path, file)
    while True:
        try:
            member = tar.next()
        except OSError:
            raise
        except Exception as error:  # tarfile raises whatever a damaged header leads it to
            raise _damaged(path, str(error)) from error
        if member is None:
            break
        tar.members.clear()  # it would keep a kilobyte a member
        if member.size < 0 or tar.offset < member.offset_data:
            raise _damaged(path, f"the size of {member.name!r} is negative")
        yield member
    file.seek(tar.offset)
    _check_end(path, file)


def _opened(path: Path, file: BinaryIO) -> Any:
    begin = file.read(8)
    file.seek(0)
    for magic, unpacker in _UNPACKERS.items():
        if begin.startswith(magic):
            raise compressed(path, f"{unpacker} < {path} > PLAIN.tar")
    try:
        return tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape")
    except OSError:
        raise
    except Exception as error:  # as above
        raise VsamError(f"Expected `{path}` to be a tar file, but it is not: {error}.") from error


def _check_end(path: Path, file: BinaryIO) -> None:
    """Check that the file goes on with a block of zeros, the end mark, and with filling."""
    end = file.read(tarfile.BLOCKSIZE)
    if len(end) < tarfile.BLOCKSIZE or any(end):
        raise _damaged(path, "its end mark is missing, or a header before it is damaged")
    while filling := file.read(1 << 16):
        if any(filling):
            raise VsamError(
                f"Expected `{path}` to be one tar file, but something follows its end. "
                "Join tar files with `tar --concatenate`, not with cat, or give each by itself."
            )


def _damaged(path: Path, reason: str) -> VsamError:
    return VsamError(
        f"The tar file {path} is truncated or damaged ({reason}). Make or fetch it again."
    )


def compressed(path: Path, remedy: str) -> VsamError:
    """Build the error for a file of which no part can be read alone."""
    return VsamError(
        f"Expected `{path}` not to be compressed, for photos to be read one by one, but it is. "
        f"Unpack it first: {remedy}."
    )
