"""The list of photos: an id and a number for each, and the photo when it is asked for."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Protocol, overload

import numpy as np

from ..names import Names
from .photo import Photo


class Source(Protocol):
    """Where a part of the photos comes from: a folder, or a file that holds photos.

    Attributes:
        sequential: Whether its photos are best read in the order in which they lie in it.
    """

    sequential: ClassVar[bool]

    def photo(self, id_: bytes, place: int) -> Photo:
        """Make a photo.

        Args:
            id_: Its id, UTF-8.
            place: How many of the source's photos were found before it.
        """
        ...


class Photos(Sequence[Photo]):
    """Photos sorted by id, made when they are asked for: in between, one takes 12 bytes and its id.

    Args:
        ids: The photos' ids.
        found: For each photo how many were found before it.
        starts: For each source the number of its first photo; ascending.
        sources: Where the photos from there on come from; those that are not sequential first.
        exceptions: Paths that can't be told from the id, by the photo's number.
    """

    def __init__(
        self,
        ids: Names,
        found: array[int],
        starts: Sequence[int],
        sources: Sequence[Source],
        exceptions: dict[int, Path],
    ) -> None:
        self.ids = ids
        self._found, self._starts, self._sources = found, starts, sources
        self._exceptions = exceptions

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
        return make_photo(
            self.ids[chosen], self._found[chosen], self._starts, self._sources, self._exceptions
        )

    @cached_property
    def reading_order(self) -> Sequence[Photo]:
        """The same photos in the order in which they are best read, whatever order was given.

        First those that are files, by id; then those inside other files, in the order in which
        they lie there, the files sorted by path. Four bytes a photo, if it is not just by id.
        """
        sequential = (
            start
            for start, source in zip(self._starts, self._sources, strict=True)
            if source.sequential
        )
        first = next(sequential, None)
        if first is None:
            return self
        found = np.frombuffer(self._found, np.uint32).astype(np.int64)
        by_id = np.arange(len(self))
        order = np.argsort(np.where(found < first, by_id, len(self) + found), kind="stable")
        return _Reordered(self, array("I", order.astype(np.uint32).tobytes()))


class _Reordered(Sequence[Photo]):
    """The same photos in another order."""

    def __init__(self, photos: Photos, order: array[int]) -> None:
        self._photos, self._order = photos, order

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, position: int) -> Photo: ...

    @overload
    def __getitem__(self, position: slice) -> list[Photo]: ...

    def __getitem__(self, position: int | slice) -> Photo | list[Photo]:
        if isinstance(position, slice):
            return [self._photos[each] for each in self._order[position]]
        return self._photos[self._order[position]]


def make_photo(
    id_: str,
    found: int,
    starts: Sequence[int],
    sources: Sequence[Source],
    exceptions: dict[int, Path],
) -> Photo:
    """Make the photo that was found after `found` others; see `Photos`."""
    if found in exceptions:
        return Photo(id_, exceptions[found])
    number = bisect_right(starts, found) - 1
    return sources[number].photo(id_.encode(), found - starts[number])
