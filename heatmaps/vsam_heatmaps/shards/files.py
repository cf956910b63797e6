"""Read rows of many shards' files, of which a few are open; tell damage in one line."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import VsamError

PATTERN = "shard-*.h5"

# Readers of large folders must stay below the system's limit on open files. An open shard also
# holds its small columns, 540 bytes a row: the second limit bounds that for very large shards.
_MAX_OPEN_SHARDS = 64
_MAX_OPEN_ROWS = 262_144


@dataclass(frozen=True)
class Row:
    """What a shard stores about one photo beside its id, status and hash; see `Record`."""

    heatmaps: NDArray[np.uint8]
    keypoints: NDArray[np.float32]
    size: tuple[int, int]
    people: int
    reason: str


class ShardFiles:
    """Gives rows of shards by the shard's number.

    Safe in forked and spawned workers: files are opened by the process that reads, when it reads.

    Args:
        paths: The shards.
        beside: Others that are read at the same time: the limits hold for both together.
    """

    def __init__(self, paths: Sequence[Path], beside: ShardFiles | None = None) -> None:
        self.paths = tuple(paths)
        self._open: OrderedDict[Path, _OpenShard] = beside._open if beside else OrderedDict()
        self._pid = os.getpid()

    def row(self, number: int, row: int) -> Row:
        """Read a row.

        Raises:
            VsamError: If the shard is damaged.
        """
        with damage_told(self.paths[number]):
            return self._shard(number).row(row)

    def heatmaps(self, number: int, row: int) -> NDArray[np.uint8]:
        """Read a row's maps alone, (C, H, W) uint8.

        Raises:
            VsamError: If the shard is damaged.
        """
        with damage_told(self.paths[number]):
            return self._shard(number).heatmaps[row]

    def _shard(self, number: int) -> _OpenShard:
        if self._pid != os.getpid():
            # Handles inherited by a fork belong to the parent: forget them, don't close them.
            self._open, self._pid = OrderedDict(), os.getpid()
        path = self.paths[number]
        shard = self._open.get(path)
        if shard is None:
            shard = _OpenShard(path)
            rows = len(shard) + sum(map(len, self._open.values()))
            while self._open and (len(self._open) >= _MAX_OPEN_SHARDS or rows > _MAX_OPEN_ROWS):
                closed = self._open.popitem(last=False)[1]
                rows -= len(closed)
                closed.close()
            self._open[path] = shard
        self._open.move_to_end(path)
        return shard

    def close(self) -> None:
        """Close all open files; reading opens them again."""
        while self._open:
            self._open.popitem()[1].close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict(), "_pid": -1}


class _OpenShard:
    """An open shard.

    The small columns are read once: HDF5 checks and unpacks such a column as a whole for each
    row that is asked for, which took ten times as long as the row's maps. They are read when the
    first row is: whoever wants maps alone does not wait for them. The maps are chunks of their
    own, each checked when it is read.
    """

    def __init__(self, path: Path) -> None:
        self._file = opened(path)
        try:
            self.heatmaps = self._file["heatmaps"]  # reads what is indexed
            self._rows = len(self.heatmaps)
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return self._rows

    @cached_property
    def _columns(self) -> dict[str, NDArray[Any]]:
        """Read the small columns, of N rows each; see `heatmaps/README.md`."""
        columns = {name: self._file[name][:] for name in ("keypoints", "size", "reason")}
        # Version 0.1.0 did not count, and looked for one person.
        columns["people"] = (
            self._file["people"][:]
            if "people" in self._file
            else np.isfinite(columns["keypoints"][:, 0, 0])
        )
        if any(len(column) != self._rows for column in columns.values()):
            raise ValueError("its data sets have different lengths")
        return columns

    def row(self, row: int) -> Row:
        columns = self._columns
        width, height = columns["size"][row].tolist()
        return Row(
            heatmaps=self.heatmaps[row],
            keypoints=columns["keypoints"][row].copy(),  # a caller may change what it is given
            size=(width, height),
            people=int(columns["people"][row]),
            reason=columns["reason"][row].decode(),
        )

    def close(self) -> None:
        self._file.close()


def list_shards(folder: Path) -> tuple[Path, ...]:
    """List the shards in a folder by name: of two records of a photo the later one counts.

    Raises:
        VsamError: If there are none.
    """
    files = tuple(sorted(folder.glob(PATTERN)))
    if not files:
        found = "it holds none" if folder.is_dir() else "it is not there"
        raise VsamError(
            f"Expected `{folder}` to be a folder of shards ({PATTERN}), but {found}. "
            "Make them with: vsam-heatmaps extract PHOTOS --out SHARDS."
        )
    return files


def opened(path: Path) -> Any:
    """Open a shard as an `h5py.File`.

    Raises:
        VsamError: If it may not be read, is damaged or is no HDF5 file.
    """
    import h5py
    import hdf5plugin  # noqa: F401  registers the Zstandard filter

    try:
        # No cache of chunks: with random access it is hardly ever hit, and takes a megabyte a file.
        return h5py.File(path, "r", locking=False, rdcc_nbytes=0)
    except OSError as error:
        if not os.access(path, os.R_OK):
            raise VsamError(f"Could not read {path}: check its permissions.") from error
        raise _damaged(path, error) from error


@contextlib.contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Turn what h5py raises on damaged data into one line."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: BaseException) -> VsamError:
    reason = str(error).splitlines()[0].strip("\"'")
    return VsamError(
        f"The shard {path} is damaged or truncated ({reason}). Delete it and run "
        "vsam-heatmaps extract again: it makes what is missing."
    )
