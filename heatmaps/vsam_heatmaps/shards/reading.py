"""Read a folder of shards by photo id. `heatmaps/README.md` is the format's specification."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import VsamError, expected
from ..landmarks import LANDMARK_SETS
from ..names import NameBlock, Names
from ..paths import StrPath
from ..rendering import compose_regions
from .files import ShardFiles, damage_told, list_shards, opened
from .records import FORMAT, FORMAT_VERSION, Record, ShardInfo, Status, differences


class Shards:
    """Reads a folder of shards by photo id.

    Safe in forked and spawned workers: files are opened by the process that reads, when it reads.
    Where two shards hold the same id (the photo changed and was extracted again), the one with the
    later name counts. Beside its id a record takes some 50 bytes of memory.

    Args:
        path: The folder.
        beside: Another folder's reader: the limits on what is open hold for both together.

    Attributes:
        ids: The photos' ids, sorted; like a tuple of strings.
        superseded: How many records don't count, because a later shard has another.

    Raises:
        VsamError: If it is no folder of shards, or a shard is damaged, of another format version,
            or made with other options than the rest.

    >>> from vsam_heatmaps import extract
    >>> report = extract([Path("photos")], Path("shards"))
    >>> shards = Shards("shards")
    >>> len(shards), shards.counts()
    (4, {'ok': 4, 'no_pose': 0, 'unreadable': 0})
    >>> record = shards["00000.jpg"]
    >>> record.size, record.heatmaps.shape, record.keypoints.shape
    ((384, 512), (7, 56, 56), (33, 4))
    >>> shards.regions("00000.jpg", ["head", "torso"]).shape
    (2, 56, 56)
    """

    def __init__(self, path: StrPath, *, beside: Shards | None = None) -> None:
        self.path = Path(path)
        self.files = files = list_shards(self.path)
        self._rows: ShardFiles = ShardFiles(files, beside._rows if beside else None)
        # Of all rows of all shards, shard after shard:
        ids = NameBlock()
        self._status = bytearray()
        self._sha256 = bytearray()  # 32 bytes a row
        self._ends: list[int] = []  # of each shard
        info: ShardInfo | None = None
        for file in files:
            own, columns = _read_index(file)
            if info is not None and own != info:
                raise VsamError(
                    f"The shards {files[0].name} and {file.name} in {self.path} were made with "
                    f"different options: {differences(info, own)}. Keep them in separate folders."
                )
            info = own
            for id_ in columns.ids:
                ids.add(id_)
            self._status += columns.statuses.astype(np.uint8).tobytes()
            self._sha256 += columns.hashes.astype(np.uint8).tobytes()
            self._ends.append(len(self._status))
        assert info is not None
        self.info: ShardInfo = info
        # The row that counts for each id.
        self._place = array("Q", (positions[-1] for _, positions in ids.groups()))
        self.ids = Names(ids[position] for position in self._place)
        self.superseded = len(ids) - len(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, id_: object) -> bool:
        return id_ in self.ids

    def __iter__(self) -> Iterator[Record]:
        return (self[id_] for id_ in self.ids)

    def status(self, id_: str) -> Status:
        """Look up what became of a photo without reading its maps."""
        return Status(self._status[self._find(id_)])

    def sha256(self, id_: str) -> bytes:
        """Look up the hash of the photo's file."""
        return self._hash(self._find(id_))

    def counts(self) -> dict[str, int]:
        """Count photos by status: keys `ok`, `no_pose`, `unreadable`."""
        counted = Counter(self._status[place] for place in self._place)
        return {status.name.lower(): counted[status] for status in Status}

    def __getitem__(self, id_: str) -> Record:
        """Read one photo's record.

        Raises:
            KeyError: If no shard holds it.
            VsamError: If the shard is damaged.
        """
        place = self._find(id_)
        row = self._rows.row(*self._in_shard(place))
        return Record(
            id=id_,
            status=Status(self._status[place]),
            heatmaps=row.heatmaps,
            channels=self.info.channels,
            keypoints=row.keypoints,
            size=row.size,
            sha256=self._hash(place),
            reason=row.reason,
            people=row.people,
        )

    def regions(self, id_: str, names: Sequence[str]) -> NDArray[np.uint8]:
        """Compose named regions of one photo, (R, H, W) uint8; see `compose_regions`.

        As `shards[id_].regions(names)` does, but reads the maps alone: twice as fast where
        there are many more shards than stay open.
        """
        stored = self._rows.heatmaps(*self._in_shard(self._find(id_)))
        return compose_regions(stored, self.info.channels, names)

    def _hash(self, place: int) -> bytes:
        return bytes(self._sha256[32 * place : 32 * (place + 1)])

    def _in_shard(self, place: int) -> tuple[int, int]:
        """Turn a place among all rows into the shard's number and the row in it."""
        number = bisect_right(self._ends, place)
        return number, place - (self._ends[number - 1] if number else 0)

    def _find(self, id_: str) -> int:
        position = self.ids.find(id_)
        if position is None:
            raise KeyError(f"{id_!r} is in no shard of {self.path}")
        return self._place[position]

    def rows_in(self, number: int) -> list[tuple[str, bool]]:
        """List a shard's rows: each one's id, and whether it is the one that counts for that id.

        Args:
            number: Position of the shard in `files`.

        Raises:
            VsamError: If the shard is damaged.
        """
        start = self._ends[number - 1] if number else 0
        ids = _read_index(self.files[number])[1].ids
        names = [id_.decode() for id_ in ids]
        return [(name, self._find(name) == start + row) for row, name in enumerate(names)]

    def close(self) -> None:
        """Close all open files; reading opens them again."""
        self._rows.close()


def read_info(path: Path) -> ShardInfo:
    """Read the options that a shard was made with.

    Raises:
        VsamError: If it is damaged, no shard, or of another format version.
    """
    with opened(path) as file, damage_told(path):
        return _read_info(path, file)


@dataclass(frozen=True)
class _Index:
    """The columns that are known of all shards: UTF-8 (N,), uint8 (N,), uint8 (N, 32)."""

    ids: list[bytes]
    statuses: NDArray[np.uint8]
    hashes: NDArray[np.uint8]


def _read_index(path: Path) -> tuple[ShardInfo, _Index]:
    with opened(path) as file, damage_told(path):
        info = _read_info(path, file)
        ids = file["id"][:].tolist()
        shape = (len(ids), len(info.channels), info.side, info.side)
        if file["heatmaps"].shape != shape:
            raise expected(f"heatmaps in {path}", f"of shape {shape}", file["heatmaps"].shape)
        points = (len(LANDMARK_SETS[info.landmarks]), 4)
        if file["keypoints"].shape[1:] != points:
            rule = f"({len(ids)}, {points[0]}, 4), of {info.landmarks} landmarks"
            raise expected(f"keypoints in {path}", f"of shape {rule}", file["keypoints"].shape)
        index = _Index(ids, file["status"][:], file["sha256"][:])
        if index.statuses.shape != (len(ids),) or index.hashes.shape != (len(ids), 32):
            raise ValueError("its data sets have different lengths")
        for id_ in ids:
            id_.decode()  # that it is UTF-8
        return info, index


def _read_info(path: Path, file: Any) -> ShardInfo:
    attrs: dict[str, Any] = {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in file.attrs.items()
    }
    if attrs.get("format") != FORMAT:
        raise expected(f"format of {path}", repr(FORMAT), repr(attrs.get("format")))
    version = int(attrs["format_version"])
    if version != FORMAT_VERSION:
        raise expected(
            f"format_version of {path}",
            f"{FORMAT_VERSION}, which this version of vsam reads",
            version,
            "Use the version of vsam that wrote it, or extract the heatmaps again.",
        )
    landmarks = str(attrs.get("landmarks", "body"))  # the attribute came with the second set
    if landmarks not in LANDMARK_SETS:
        rule = f"one of {', '.join(LANDMARK_SETS)}, which this version of vsam reads"
        remedy = "Use the version of vsam that wrote it."
        raise expected(f"landmarks of {path}", rule, repr(landmarks), remedy)
    return ShardInfo(
        side=int(attrs["side"]),
        sigma=float(attrs["sigma"]),
        channels=tuple(json.loads(attrs["channels"])),
        min_visibility=float(attrs["min_visibility"]),
        backend=str(attrs["backend"]),
        pose_model_sha256=str(attrs["pose_model_sha256"]),
        min_confidence=float(attrs["min_confidence"]),
        max_pixels=int(attrs["max_pixels"]),
        # Version 0.1.0 did not write these; it knew one way only.
        precision=str(attrs.get("precision", "f32")),
        crops=bool(attrs.get("crops", False)),
        region_network_sha256=str(attrs.get("region_network_sha256", "")),
        people=str(attrs.get("people", "main")),
        landmarks=landmarks,
    )
