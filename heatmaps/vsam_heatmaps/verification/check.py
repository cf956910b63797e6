"""Verify: read a folder of shards from end to end, and tell all that is wrong with it."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray

from ..errors import UnreadablePhotoError, VsamError, one_line
from ..images import MAX_PIXELS, max_bytes
from ..names import NameBlock
from ..photos import Photo, Photos
from ..progress import track
from ..shards import NO_HASH, ShardInfo, differences, read_info
from ..shards.files import damage_told, list_shards, opened
from .rules import (
    column_shapes,
    data_set_problem,
    id_problems,
    map_problem,
    option_problems,
    record_problems,
    render_options_of,
)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong.

    Attributes:
        shard: The shard's file name; empty for a photo that has no record.
        id: The photo's id; empty if it is about the shard as a whole.
        what: What is wrong, in words.
    """

    shard: str
    id: str
    what: str

    def __str__(self) -> str:
        """Tell it in one line, whatever characters the id has."""
        about = [repr(self.id)] if self.id else []
        return one_line(": ".join((self.shard or "photos", *about, self.what)))


@dataclass
class VerifyReport:
    """What a check found.

    Attributes:
        shards: Shards in the folder.
        records: Photos that have a record in a shard whose ids can be read.
        superseded: Records that don't count: a later shard has another of the same photo.
        rendered: Records whose maps were rendered again and compared.
        photos: Photos that were given.
        stale: Temporary files of extractions that were killed, or are running. They are no error.
        found: How many things are wrong.
        findings: They, or the first of them.
    """

    shards: int = 0
    records: int = 0
    superseded: int = 0
    rendered: int = 0
    photos: int = 0
    stale: list[str] = field(default_factory=list)
    found: int = 0
    findings: list[Finding] = field(default_factory=list)


def verify(
    folder: Path, photos: Photos | None = None, *, limit: int | None = None, progress: bool = False
) -> VerifyReport:
    """Check a folder of shards, and whether it fits its photos.

    All that has a checksum is read. Each shard is checked on its own, so that none that is damaged
    hides another. Maps are rendered again from the stored keypoints where they show one person.

    Args:
        folder: The folder of shards.
        photos: The photos that were extracted; without them only the shards are checked.
        limit: How many findings are kept; the rest is counted. By default all are.
        progress: Show progress on stderr.

    Raises:
        VsamError: If it is no folder of shards.
    """
    report = VerifyReport(stale=sorted(path.name for path in folder.glob(".shard-*.tmp")))
    check = _Check(report, limit)
    paths = list_shards(folder)
    report.shards = len(paths)
    infos = check.options(paths)
    with track(len(infos), "shards", "shard", shown=progress) as bar:
        for path, info in infos.items():
            check.shard(path, info)
            bar.update()
    check.count_records()
    if photos is not None:
        report.photos = len(photos)
        with track(len(photos), "photos", shown=progress) as bar:
            most = max((info.max_pixels for info in infos.values()), default=MAX_PIXELS)
            check.photos(photos, bar.update, max_bytes(most))
    return report


class _Check:
    """What was seen so far of a folder's records, and the steps of checking them.

    Beside its id a record takes some 50 bytes.
    """

    def __init__(self, report: VerifyReport, limit: int | None) -> None:
        self._report, self._limit = report, limit
        # Of all rows whose ids could be read, shard after shard:
        self._ids = NameBlock()
        self._hashes = bytearray()  # 32 bytes a row
        self._ends: list[int] = []  # of each shard
        self._names: list[str] = []

    def _tell(self, shard: str, id_: str, what: str) -> None:
        self._report.found += 1
        if self._limit is None or len(self._report.findings) < self._limit:
            self._report.findings.append(Finding(shard, id_, what))

    def _try(self, path: Path, id_: str, what: str, read: Callable[[], _T]) -> _T | None:
        """Read something; if it is damaged, tell so and give None."""
        try:
            with damage_told(path):
                return read()
        except VsamError as error:
            # What has no cause is another format or version: told in full.
            cause = error.__cause__
            why = f"{what} can't be read: {_first_line(cause)}" if cause else str(error)
        except Exception as error:  # impossible values lead to anything; they must hide no other
            why = f"{what} can't be read: {_first_line(error)}"
        self._tell(path.name, id_, why)
        return None

    def options(self, paths: tuple[Path, ...]) -> dict[Path, ShardInfo]:
        """Read the options of the shards that can be read, and compare them."""
        infos: dict[Path, ShardInfo] = {}
        for path in paths:
            info = self._try(path, "", "it", partial(read_info, path))
            if info is not None:
                infos[path] = info
        # By what they look like: damaged options may have no hash, or not equal themselves.
        looks = {path: repr(info) for path, info in infos.items()}
        usual = Counter(looks.values()).most_common(1)
        for path, info in infos.items():
            if looks[path] != usual[0][0]:
                other = next(other for other in infos if looks[other] == usual[0][0])
                told = differences(infos[other], info)
                self._tell(path.name, "", f"its options differ from those of {other.name}: {told}")
            for problem in option_problems(info):
                self._tell(path.name, "", problem)
        return infos

    def shard(self, path: Path, info: ShardInfo) -> None:
        """Check one shard by itself, and remember its ids and hashes."""
        file = self._try(path, "", "it", partial(opened, path))
        if file is None:
            return
        with file:
            data_sets = self._data_sets(path, file, info)
            maps = data_sets.pop("heatmaps", None)
            columns: dict[str, NDArray[Any]] = {}
            for name, data_set in data_sets.items():
                column = self._try(
                    path, "", f"`{name}`", partial(data_set.__getitem__, slice(None))
                )
                if column is not None:
                    columns[name] = column
            ids: list[bytes] = columns["id"].tolist() if "id" in columns else []
            for row, what in chain(id_problems(ids), record_problems(columns)):
                self._tell(path.name, *_of_row(ids, row, what))
            if maps is not None:
                self._maps(path, maps, ids, columns, info)
        for id_ in ids:
            self._ids.add(id_)
        hashes = columns.get("sha256")
        self._hashes += bytes(32 * len(ids)) if hashes is None else hashes.tobytes()
        self._names.append(path.name)
        self._ends.append(len(self._ids))

    def _data_sets(self, path: Path, file: Any, info: ShardInfo) -> dict[str, Any]:
        """Look up a shard's data sets; tell which are not as they should be, and leave them out."""
        shapes = column_shapes(info)
        if "people" not in file.attrs:
            del shapes["people"]  # version 0.1.0 did not count
        found = {}
        for name in shapes:
            looked_up = self._try(path, "", f"`{name}`", partial(_look_up, file, name))
            if looked_up is not None:
                found[name] = looked_up
        lengths = Counter(shape[0] for _, shape in found.values() if shape)
        rows = lengths.most_common(1)[0][0] if lengths else 0
        right = {}
        for name, (data_set, _) in found.items():
            problem = self._try(
                path, "", f"`{name}`", partial(data_set_problem, data_set, rows, *shapes[name])
            )
            if problem:
                self._tell(path.name, "", f"`{name}` {problem}")
            elif problem is not None:
                right[name] = data_set
        return right

    def _maps(
        self,
        path: Path,
        maps: Any,
        ids: list[bytes],
        columns: dict[str, NDArray[Any]],
        info: ShardInfo,
    ) -> None:
        """Read a shard's maps one by one, and compare them with the columns that could be read."""
        options, _ = render_options_of(info)
        people = columns.get("people")
        for row in range(len(maps)):
            id_, what = _of_row(ids, row, "the maps")
            stored = self._try(path, id_, what, partial(maps.__getitem__, row))
            if stored is None or "status" not in columns:
                continue
            alone = info.people == "main" or (people is not None and people[row] == 1)
            render = options if alone else None
            keypoints = columns["keypoints"][row] if "keypoints" in columns else None
            compared, problem = map_problem(stored, columns["status"][row], keypoints, render)
            self._report.rendered += compared
            if problem:
                self._tell(path.name, *_of_row(ids, row, problem))

    def count_records(self) -> None:
        """Count the records that count, and those that later ones supersede."""
        for _, positions in self._ids.groups():
            self._report.records += 1
            if len(positions) > 1:
                self._report.superseded += len(set(map(self._shard_of, positions))) - 1

    def photos(self, photos: Photos, advance: Callable[[], None], limit: int) -> None:
        """Compare the records with the photos: which are missing, and which have changed.

        Args:
            photos: All of them.
            advance: Called after each.
            limit: In bytes. Larger files can't be read, as in the extraction.
        """
        remaining = iter(photos)
        photo = next(remaining, None)

        def no_record(photo: Photo) -> Photo | None:
            self._tell("", photo.id, "the photo has no record")
            advance()
            return next(remaining, None)

        for name, positions in self._ids.groups():
            while photo is not None and photo.id.encode() < name:
                photo = no_record(photo)
            if photo is None or photo.id.encode() != name:
                shard, id_ = self._shard_of(positions[-1]), name.decode("utf-8", "backslashreplace")
                self._tell(shard, id_, "its photo is not among those given")
                continue
            self._contents(photo, positions[-1], limit)
            advance()
            photo = next(remaining, None)
        while photo is not None:
            photo = no_record(photo)

    def _contents(self, photo: Photo, position: int, limit: int) -> None:
        stored = bytes(self._hashes[32 * position : 32 * (position + 1)])
        if stored == NO_HASH:
            return  # it could not be opened then; whether it can now says nothing of the shards
        try:
            same = hashlib.sha256(photo.read(max_bytes=limit)).digest() == stored
            what = "" if same else f"the contents of {photo} are not those that were extracted"
        except UnreadablePhotoError as error:
            what = f"could not read {photo}: {error}"
        if what:
            self._tell(self._shard_of(position), photo.id, what)

    def _shard_of(self, position: int) -> str:
        return self._names[bisect_right(self._ends, position)]


def _look_up(file: Any, name: str) -> tuple[Any, tuple[int, ...]]:
    """Look up what a file has under a name, and its shape if it has one."""
    found = file[name]
    return found, getattr(found, "shape", None) or ()


def _of_row(ids: list[bytes], row: int, what: str) -> tuple[str, str]:
    """Say which record something is about: its id, or else its row in the shard."""
    id_ = ids[row].decode("utf-8", "backslashreplace") if ids else ""
    return (id_, what) if id_ else ("", f"row {row}: {what}")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip("\"'")
