"""What a photo is: an id, where it lies, and its bytes when they are asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..images import MAX_BYTES, read_bytes

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
)
"""File name extensions, in lower case, of what counts as a photo in a folder or in a tar file."""


@dataclass(frozen=True)
class Photo:
    """A photo on disk.

    Attributes:
        id: Its path relative to the root of the photos, with `/` between folders.
        path: The file that it is; for a photo inside another file, that file.
    """

    id: str
    path: Path

    def read(self, *, max_bytes: int = MAX_BYTES) -> bytes:
        """Read its bytes; nothing is decoded.

        Args:
            max_bytes: More are refused; see `images.max_bytes`.

        Raises:
            UnreadablePhotoError: If the system refuses, or there are too many.
        """
        return read_bytes(self.path, max_bytes=max_bytes)

    def __str__(self) -> str:
        """Say where it lies, for messages."""
        return str(self.path)


Stamp = tuple[int, int]
"""Size in bytes and time of the last change in nanoseconds: what differs when a file has changed.

Who reads from a place in a file that was listed before would else give one photo another's bytes.
"""


def stamp_of(status: os.stat_result) -> Stamp:
    """Take the stamp from what the system says about a file."""
    return status.st_size, status.st_mtime_ns


def has_photo_name(name: str) -> bool:
    """Whether a file name ends like that of a photo."""
    return PurePosixPath(name).suffix.lower() in EXTENSIONS


def is_hidden(part: str) -> bool:
    """Whether the name of a file or folder says that it is not for the user's eyes.

    Tar and zip files from a Mac hold such copies of each file, with its name and no picture.
    """
    return part.startswith(".") or part == "__MACOSX"


def id_from_stored(name: str) -> str | None:
    """Normalise a path that somebody stored inside a file: no `.`, no doubled slash.

    Results are written under such names, so they must not lead out of a folder.

    Returns:
        None if it is empty, absolute, has `..` in it or a character that no path can have.

    >>> id_from_stored("./dress//1.jpg"), id_from_stored("../1.jpg"), id_from_stored("/1.jpg")
    ('dress/1.jpg', None, None)
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        return None
    return "/".join(parts)


def escaped(name: bytes) -> bytes:
    """Escape the bytes of a name that are no UTF-8: text can't hold them."""
    return name.decode("utf-8", "backslashreplace").encode()
