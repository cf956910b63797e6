"""Photos in tar files: WebDataset's, and any other that is not compressed."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ..errors import UnreadablePhotoError
from ..images import MAX_BYTES, check_size
from .folders import prefix_within
from .photo import Photo, Stamp, stamp_of
from .tar_members import read_members


@dataclass(frozen=True)
class TarPhoto(Photo):
    """A photo in a tar file.

    Attributes:
        member: Its name there.
        offset: Where its bytes begin in the file.
        size: How many there are.
        stamp: The tar file's, when it was listed.
        fault: Why there are no bytes, else empty.
    """

    member: str
    offset: int
    size: int
    stamp: Stamp
    fault: str = ""

    def read(self, *, max_bytes: int = MAX_BYTES) -> bytes:
        """Read its bytes; nothing is decoded.

        The file is opened for each photo, which takes some microseconds: so threads, and processes
        that were forked or spawned, need not know of each other.

        Args:
            max_bytes: More are refused.

        Raises:
            UnreadablePhotoError: If the system refuses, the tar file changed since it was listed,
                there are too many bytes, or none.
        """
        if self.fault:
            raise UnreadablePhotoError(self.fault)
        check_size(self.size, max_bytes)
        try:
            with self.path.open("rb") as file:
                if stamp_of(os.fstat(file.fileno())) != self.stamp:
                    raise UnreadablePhotoError("the tar file has changed since it was listed")
                file.seek(self.offset)
                data = file.read(self.size)
        except OSError as error:
            raise UnreadablePhotoError(error.strerror or str(error)) from error
        if len(data) != self.size:
            raise UnreadablePhotoError("the tar file ends within it")
        return data

    def __str__(self) -> str:
        """Say where it lies, for messages."""
        return f"{self.path}: {self.member}"


@dataclass(frozen=True, eq=False)
class Tar:
    """The photos of a tar file, in the order in which they lie there; a `Source`.

    Attributes:
        path: The file.
        prefix: What ids have before the member's name, as UTF-8.
        stamp: The file's when it was listed.
        offsets: Where each photo's bytes begin.
        sizes: How many there are.
        faults: Why a photo has none, by its place.
    """

    path: Path
    prefix: bytes
    stamp: Stamp
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    sizes: array[int] = field(default_factory=lambda: array("Q"))
    faults: dict[int, str] = field(default_factory=dict)
    sequential: ClassVar[bool] = True

    def photo(self, id_: bytes, place: int) -> Photo:
        """Make a photo."""
        return TarPhoto(
            id_.decode(),
            self.path,
            id_[len(self.prefix) :].decode(),
            self.offsets[place],
            self.sizes[place],
            self.stamp,
            self.faults.get(place, ""),
        )


def find_in_tar(path: Path, root: Path | None) -> tuple[Tar, Iterator[bytes]]:
    """Find the photos in a tar file by its headers alone; give their ids in the order there.

    A member stored twice counts once, the last time, as when it is unpacked. A link to another
    photo in the file is that photo; any other is listed and can't be read.

    Raises:
        VsamError: If it can't be read, is no whole and plain tar file, or holds a photo that is
            sparse or whose name leads out of a folder.
    """
    stamp, found = read_members(path)
    source = Tar(path, prefix_within(path, root), stamp)
    kept = found.without_replaced()
    for place, position in enumerate(kept):
        source.offsets.append(found.offsets[position])
        source.sizes.append(found.sizes[position])
        if position in found.links:
            source.faults[place] = found.links[position].fault
    return source, (source.prefix + found.names[position] for position in kept)
