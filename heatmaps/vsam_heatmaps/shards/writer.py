"""Gather records into numbered shards of one folder."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import VsamError
from .files import PATTERN
from .records import Record, ShardInfo
from .writing import write_shard


class ShardWriter:
    """Writes a shard whenever one is full, and the rest at the end of the `with` block.

    The rest is also written when the block ends by an error or Ctrl-C: what is finished is kept.

    Args:
        out: The folder.
        info: What all its shards share.
        shard_size: Records a shard.
        number: The first shard's number. By default they are numbered on from the last one there.

    Raises:
        VsamError: If the last shard there has no number, or one can't be written.
    """

    def __init__(
        self, out: Path, info: ShardInfo, shard_size: int, number: int | None = None
    ) -> None:
        self._out, self._info, self._shard_size = out, info, shard_size
        self._number = next_shard_number(out) if number is None else number
        self._records: list[Record] = []

    def add(self, record: Record) -> None:
        """Take a record; when it fills a shard, write that."""
        self._records.append(record)
        if len(self._records) == self._shard_size:
            self._flush()

    def _flush(self) -> None:
        # Forgotten before they are written: a write that failed is not tried again on the way out.
        records, self._records = self._records, []
        if records:
            write_shard(shard_path(self._out, self._number), self._info, records)
            self._number += 1

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._flush()


def shard_path(folder: Path, number: int, run: str = "") -> Path:
    """Name the shard of a number.

    Args:
        folder: The folder of shards.
        number: Its number.
        run: A run's own hexadecimal mark, where others might write a shard of this number, too.
    """
    return folder / f"shard-{number:06d}{'-' if run else ''}{run}.h5"


def next_shard_number(folder: Path) -> int:
    """Find the number that follows the last shard's in a folder.

    Raises:
        VsamError: If the last one has no number.
    """
    last = max(folder.glob(PATTERN), default=None)
    if last is None:
        return 0
    number = re.fullmatch(r"shard-(\d+)(-[0-9a-f]+)?\.h5", last.name)
    if number is None:
        raise VsamError(
            f"Expected the last shard in {folder} to have a number for a name, but it is "
            f"{last.name}, so that a newer one can't follow. Rename it."
        )
    return int(number[1]) + 1
