"""What an extraction keeps of the shards that are in its folder already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

from ..hashes import HashIndex
from ..photos import Photo, Photos
from ..shards import NO_HASH, Record, Shards, Status
from .workers import Known, Moved, Outcome, Task, Unchanged, Written


@dataclass(frozen=True)
class Settled:
    """What became of a photo.

    Attributes:
        status: Its status.
        reason: Why it is unreadable, else empty.
        unchanged: Whether the record that was there already holds.
        renamed: Whether its record is that of a photo that is gone, with the same contents.
        record: The record to be written, if it isn't written yet.
    """

    status: Status
    reason: str
    unchanged: bool = False
    renamed: bool = False
    record: Record | None = None


class Earlier:
    """Decides by contents, not by dates, which records of an earlier run hold.

    Args:
        old: The earlier records, or None.
        photos: The photos of this run.
        retry_unreadable: Look again at what could not be read.
        names_count: A record hangs on its photo's name, too: under another one it doesn't hold.

    Attributes:
        gone: Number of records whose photo is not among those of this run.
        moved: Hashes of the contents that gone photos had, of those whose record would hold.
    """

    def __init__(
        self, old: Shards | None, photos: Photos, *, retry_unreadable: bool, names_count: bool
    ) -> None:
        self._old, self._retry_unreadable = old, retry_unreadable
        # Positions in the sorted ids: a catalogue may have been renamed as a whole.
        gone = list(old.ids.missing_positions(photos.ids)) if old else []
        self.gone = len(gone)
        self.moved = HashIndex(() if names_count else self._contents(gone))

    def _contents(self, positions: list[int]) -> list[tuple[bytes, int]]:
        if self._old is None:
            return []
        ids = ((self._old.ids[at], at) for at in positions)
        hashes = ((self._old.sha256(id_), at) for id_, at in ids if not self._again(id_))
        return [(sha256, at) for sha256, at in hashes if sha256 != NO_HASH]

    def _again(self, id_: str) -> bool:
        """Whether a photo is looked at though its contents have this record."""
        assert self._old is not None
        return self._retry_unreadable and self._old.status(id_) is Status.UNREADABLE

    def tasks(self, photos: Sequence[Photo]) -> Sequence[Task]:
        """Make the tasks of photos, each when it is asked for."""
        return _Tasks(self, photos)

    def task(self, photo: Photo) -> Task:
        """Make the task of a photo: its record holds while its contents have the known hash."""
        old = self._old
        if old is None or photo.id not in old:
            return Task(photo)
        failed = old.status(photo.id) is Status.UNREADABLE
        # The reason is in the record, which is read for the few that have one.
        known = Known(old.sha256(photo.id), old[photo.id].reason if failed else "")
        return Task(photo, known, again=self._again(photo.id))

    def settle(self, task: Task, outcome: Outcome | Written) -> Settled:
        """Find out what an outcome means for the photo's record."""
        if isinstance(outcome, Unchanged):
            assert self._old is not None
            assert task.known is not None
            status = self._old.status(task.photo.id)
            return Settled(status, task.known.reason, unchanged=True)
        if isinstance(outcome, Written):
            return Settled(outcome.status, outcome.reason)
        if isinstance(outcome, Moved):
            record = self._renamed(task.photo, outcome.sha256)
            return Settled(record.status, record.reason, renamed=True, record=record)
        return Settled(outcome.status, outcome.reason, record=outcome)

    def _renamed(self, photo: Photo, sha256: bytes) -> Record:
        position = self.moved.find(sha256)
        assert self._old is not None
        assert position is not None
        return replace(self._old[self._old.ids[position]], id=photo.id)


class _Tasks(Sequence[Task]):
    def __init__(self, earlier: Earlier, photos: Sequence[Photo]) -> None:
        self._earlier, self._photos = earlier, photos

    def __len__(self) -> int:
        return len(self._photos)

    @overload
    def __getitem__(self, position: int) -> Task: ...

    @overload
    def __getitem__(self, position: slice) -> list[Task]: ...

    def __getitem__(self, position: int | slice) -> Task | list[Task]:
        if isinstance(position, slice):
            return [self._earlier.task(photo) for photo in self._photos[position]]
        return self._earlier.task(self._photos[position])

    def __iter__(self) -> Iterator[Task]:
        return map(self._earlier.task, self._photos)
