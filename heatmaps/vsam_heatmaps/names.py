"""Hundreds of thousands of names in little memory: one block of bytes instead of as many objects.

A Python string takes about 50 bytes more than its characters, and as much again in a dictionary.
Here a name takes its UTF-8 bytes and eight more, and is found by bisection.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import overload


class NameBlock:
    """Names as UTF-8, in the order in which they were added."""

    def __init__(self) -> None:
        self._block = bytearray()
        self._ends = array("Q")

    def add(self, name: bytes) -> None:
        """Append a name."""
        self._block += name
        self._ends.append(len(self._block))

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[bytes]:
        return (self[position] for position in range(len(self)))

    def __getitem__(self, position: int) -> bytes:
        start = self._ends[position - 1] if position else 0
        return bytes(self._block[start : self._ends[position]])

    def groups(self) -> Iterator[tuple[bytes, list[int]]]:
        """Give each different name, sorted, with the positions at which it was added, ascending."""
        # Mostly they are sorted already, and sorting would take another 100 bytes a name.
        ordered = all(self[position - 1] <= self[position] for position in range(1, len(self)))
        added = range(len(self))
        order = added if ordered else sorted(added, key=self.__getitem__)
        for name, positions in groupby(order, key=self.__getitem__):
            yield name, list(positions)


class Names(Sequence[str]):
    """Sorted names without duplicates, to be used like a tuple of strings.

    Args:
        names: UTF-8, sorted, each once. The order of UTF-8 is that of code points, so it is the
            order in which Python sorts strings.

    >>> names = Names([b"a.jpg", b"b.jpg"])
    >>> names[1], names.find("b.jpg"), names.find("c.jpg")
    ('b.jpg', 1, None)
    """

    def __init__(self, names: Iterable[bytes]) -> None:
        self._block = NameBlock()
        for name in names:
            self._block.add(name)

    def __len__(self) -> int:
        return len(self._block)

    @overload
    def __getitem__(self, position: int) -> str: ...

    @overload
    def __getitem__(self, position: slice) -> tuple[str, ...]: ...

    def __getitem__(self, position: int | slice) -> str | tuple[str, ...]:
        chosen = range(len(self))[position]
        if isinstance(chosen, range):
            return tuple(self[each] for each in chosen)
        return self._block[chosen].decode()

    def find(self, name: str) -> int | None:
        """Find a name's position, or None if it is not there."""
        wanted = name.encode("utf-8", "surrogatepass")  # what is no text is not there
        position = bisect_left(self._block, wanted)
        found = position < len(self) and self._block[position] == wanted
        return position if found else None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.find(name) is not None

    def count_missing(self, other: Names) -> int:
        """Count the names that `other` doesn't hold."""
        return sum(1 for _ in self.missing_positions(other))

    def missing(self, other: Names) -> Iterator[str]:
        """Give the names that `other` doesn't hold, in order."""
        return (self[position] for position in self.missing_positions(other))

    def missing_positions(self, other: Names) -> Iterator[int]:
        """Give the positions of the names that `other` doesn't hold, in order."""
        others = iter(other)
        theirs = next(others, None)
        for position, ours in enumerate(self):
            while theirs is not None and theirs < ours:
                theirs = next(others, None)
            if ours != theirs:
                yield position

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Names | tuple):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]
