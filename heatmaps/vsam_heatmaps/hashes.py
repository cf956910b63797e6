"""Look up where contents are by their hash: many hashes in little memory."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable

_LENGTH = 32  # bytes of a SHA-256


class HashIndex:
    """SHA-256 hashes, each with the position of what has it: 40 bytes an entry.

    Args:
        entries: Hash and position. Of equal hashes the one with the lowest position counts.

    >>> index = HashIndex([(bytes([7]) * 32, 4), (bytes([1]) * 32, 9)])
    >>> index.find(bytes([7]) * 32), index.find(bytes(32))
    (4, None)
    """

    def __init__(self, entries: Iterable[tuple[bytes, int]] = ()) -> None:
        ordered = sorted(entries)
        self._hashes = b"".join(sha256 for sha256, _ in ordered)
        self._positions = array("Q", (position for _, position in ordered))

    def __len__(self) -> int:
        return len(self._positions)

    def find(self, sha256: bytes) -> int | None:
        """Find the position of what has this hash, or None."""
        at = bisect_left(range(len(self)), sha256, key=self._hash)
        return self._positions[at] if at < len(self) and self._hash(at) == sha256 else None

    def _hash(self, at: int) -> bytes:
        return self._hashes[_LENGTH * at : _LENGTH * (at + 1)]
