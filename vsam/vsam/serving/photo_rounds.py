"""A folder's photos one after the other, round after round; what can't be read is passed over."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vsam_heatmaps.errors import UnreadablePhotoError, VsamError
from vsam_heatmaps.images import decode_photo
from vsam_heatmaps.photos import Photo, list_photos

from .decoding import is_large
from .logs import tell


class RoundOverError(Exception):
    """There is no further photo in this round; the next call begins the next one."""


class Given(NamedTuple):
    """A photo that can be read.

    Attributes:
        id: As `list_photos` gives it.
        data: The file's bytes.
        image: (H, W, 3) uint8, upright RGB.
    """

    id: str
    data: bytes
    image: Any


class PhotoRounds:
    """Gives photos in the order of their ids; threads may share it.

    A round sees the photos that were there when it began. What can't be read is logged when it is
    first met, and passed over: an orchestrator that is handed a photo which no stage takes would
    end. Large ones are decoded one at a time.

    Args:
        folder: Photos, with those in its sub-folders; or a file that `list_photos` takes.
        max_bytes: Larger files are passed over.
        max_pixels: Photos with more pixels, too.

    Raises:
        VsamError: If there is no photo.
    """

    def __init__(self, folder: Path, *, max_bytes: int, max_pixels: int) -> None:
        self._folder, self._max_bytes, self._max_pixels = folder, max_bytes, max_pixels
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._told: set[str] = set()
        self.count = len(list_photos([folder]))
        """Files that were there at first."""
        self._round: Iterator[Given] | None = None

    def next(self) -> Given:
        """Give the next photo of the round that all callers share.

        Raises:
            RoundOverError: If the round is over.
            VsamError: If the folder is empty or gone.
        """
        with self._lock:
            if self._round is None:
                self._round = self.one()
            try:
                given = next(self._round, None)
            except VsamError:
                self._round = None
                raise
            if given is None:
                self._round = None
                raise RoundOverError
            return given

    def one(self) -> Iterator[Given]:
        """Give the photos of a round of one's own.

        Raises:
            VsamError: If the folder is empty or gone.
        """
        for photo in list_photos([self._folder]):
            with contextlib.suppress(UnreadablePhotoError):
                yield self._read(photo)

    def _read(self, photo: Photo) -> Given:
        try:
            data = photo.read(max_bytes=self._max_bytes)
            with self._turn if is_large(data) else contextlib.nullcontext():
                return Given(photo.id, data, decode_photo(data, max_pixels=self._max_pixels))
        except UnreadablePhotoError as error:
            if photo.id not in self._told:
                self._told.add(photo.id)
                reason = " ".join(str(error).split())
                tell("skipped", logging.WARNING, photo=photo.id, reason=reason)
            raise
