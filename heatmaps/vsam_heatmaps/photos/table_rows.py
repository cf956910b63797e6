"""The bytes of photos in Parquet files, row by row in little memory."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import UnreadablePhotoError
from ..images import MAX_BYTES, check_size
from .photo import Photo, Stamp, stamp_of

_BATCH_BYTES = 4 << 20  # of photos in a batch; a process holds two
_BATCH_ROWS = (8, 256)


@dataclass(frozen=True)
class TablePhoto(Photo):
    """A photo in a Parquet file.

    Attributes:
        column: The column of its bytes: `image.bytes` in a struct, else `image`.
        group: The row group in which it lies.
        start: The first row of that group.
        row: Its row in the file, from 0.
        stamp: The file's, when it was listed.
    """

    column: str
    group: int
    start: int
    row: int
    stamp: Stamp

    def read(self, *, max_bytes: int = MAX_BYTES) -> bytes:
        """Read its bytes; nothing is decoded.

        Fast in the order of the rows: each process keeps some rows around the last one. To go back
        beyond them, the row group is read again from its beginning.

        Args:
            max_bytes: More are refused.

        Raises:
            UnreadablePhotoError: If the row has none or too many, the file is damaged there or has
                changed since it was listed, or the system refuses.
        """
        # The process is part of the key: a fork would share its parent's place in the file.
        rows = _rows(self.path, self.column, self.stamp, os.getpid())
        data = rows.read(self.group, self.row - self.start)
        if data is None:
            raise UnreadablePhotoError("its row of the table holds no image")
        check_size(len(data), max_bytes)
        return data

    def __str__(self) -> str:
        """Say where it lies, for messages."""
        return f"{self.path}: row {self.row}"


@lru_cache(maxsize=2)  # two, for threads that are on both sides of the end of a file
def _rows(path: Path, column: str, stamp: Stamp, process: int) -> _Rows:
    return _Rows(path, column, stamp)


class _Rows:
    """Reads a column forward, row group by row group, and keeps the last two batches of rows."""

    def __init__(self, path: Path, column: str, stamp: Stamp) -> None:
        try:
            now = stamp_of(path.stat())
        except OSError as error:
            raise UnreadablePhotoError(error.strerror or str(error)) from error
        if now != stamp:
            raise UnreadablePhotoError("the Parquet file has changed since it was listed")
        try:
            self._file = open_table(path)
        except Exception as error:  # pyarrow raises whatever a damaged file leads it to
            raise UnreadablePhotoError(f"the Parquet file: {first_line(error)}") from error
        self._column = column
        self._lock = threading.Lock()
        self._group, self._next = -1, 0  # the row to be decoded next
        self._batches: Iterator[Any] = iter(())
        self._kept: deque[tuple[int, int, Any]] = deque(maxlen=2)  # group, first row, bytes

    def read(self, group: int, row: int) -> bytes | None:
        """Read the bytes in a row of a row group; None if there are none.

        Raises:
            UnreadablePhotoError: If the file is damaged there.
        """
        with self._lock:
            try:
                return self._read(group, row)
            except Exception as error:  # pyarrow raises whatever a damaged file leads it to
                self._group = -1
                raise UnreadablePhotoError(
                    f"the Parquet file is damaged here ({first_line(error)})"
                ) from error

    def _read(self, group: int, row: int) -> bytes | None:
        while True:
            for kept, start, values in self._kept:
                if kept == group and start <= row < start + len(values):
                    return values[row - start].as_py()
            if group != self._group or row < self._next:
                self._begin(group)
            self._decode()

    def _begin(self, group: int) -> None:
        # All columns together, which are hardly more than the photos: to be asked for a single one
        # of a damaged file may end the process inside pyarrow.
        metadata = self._file.metadata.row_group(group)
        fitting = _BATCH_BYTES * metadata.num_rows // max(1, metadata.total_byte_size)
        least, most = _BATCH_ROWS
        self._batches = self._file.iter_batches(
            batch_size=min(max(fitting, least), most),
            row_groups=[group],
            columns=[self._column],
            use_threads=False,
        )
        self._group, self._next = group, 0

    def _decode(self) -> None:
        batch = next(self._batches, None)
        if batch is None:
            raise ValueError("the row group ends early")
        self._kept.append((self._group, self._next, only_field(batch.column(0))))
        self._next += len(batch)


def open_table(path: Path) -> Any:
    """Open a Parquet file so that a page at a time is in memory, not a whole row group."""
    from pyarrow import parquet

    return parquet.ParquetFile(
        str(path), pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True
    )


def only_field(values: Any) -> Any:
    """Give what a column of structs with one field holds; of another column itself."""
    from pyarrow import compute, types

    if types.is_struct(values.type):
        return compute.struct_field(values, [0])  # null where the struct is
    return values


def first_line(error: Exception) -> str:
    """Give the first line of what a library says, without its full stop."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
