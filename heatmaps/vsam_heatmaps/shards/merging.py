"""Merge: records of several folders of shards into one, sorted, each photo's once."""

from __future__ import annotations

import errno
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from ..atomic import making_folder, refuse_unless_empty
from ..errors import VsamError, expected, explain_os_error
from ..progress import track
from .files import PATTERN
from .reading import Shards
from .records import Record, differences
from .writer import ShardWriter

ON_CONFLICT = ("stop", "first", "last")
"""What becomes of a photo with different records: nothing is merged, or one of them is taken."""


@dataclass
class MergeReport:
    """What a merge did.

    Attributes:
        records: Records in the new folder.
        shards: Shards in it.
        superseded: Records that were left out, because a later shard of their folder has another.
        repeated: Photos of which several folders had the same record.
        chosen: Photos of which folders had different records, of which one was taken.
    """

    records: int = 0
    shards: int = 0
    superseded: int = 0
    repeated: int = 0
    chosen: int = 0


def merge(
    folders: Sequence[Path],
    out: Path,
    *,
    shard_size: int = 512,
    on_conflict: str = "stop",
    progress: bool = False,
) -> MergeReport:
    """Join folders of shards into a new one; with a single folder, write its shards anew.

    The new folder holds one record a photo, sorted by id, each as it was to the byte. It appears
    at once, when all is written: a merge that fails or is killed leaves nothing under its name.

    Args:
        folders: Folders of shards made with the same options.
        out: The new folder; not there yet, or empty.
        shard_size: Records a shard.
        on_conflict: Where folders have different records of a photo: `stop` fails before anything
            is written, `first` and `last` take that of the first or last of these folders.
        progress: Show progress on stderr.

    Raises:
        VsamError: If an input is no folder of shards, is damaged, is being written, or has other
            options than the first, if records differ, or if the new folder can't be written.
    """
    if on_conflict not in ON_CONFLICT:
        raise expected("on_conflict", f"one of {', '.join(ON_CONFLICT)}", repr(on_conflict))
    if shard_size < 1:
        raise expected("shard_size", "at least 1", shard_size)
    if not folders:
        raise expected("folders", "at least one", "none")
    refuse_unless_empty(out)
    sources = _open(folders)
    report = MergeReport(superseded=sum(source.superseded for source in sources))
    photos = 0
    for id_, holders in _photos(sources):
        photos += 1
        if len(holders) > 1:
            told = _disagreement(id_, holders)
            if told and on_conflict == "stop":
                raise VsamError(
                    f"{told}. Take one with --on-conflict first or last, or leave a folder out."
                )
            report.chosen += bool(told)
            report.repeated += not told
    with (
        making_folder(out) as folder,
        track(photos, "merging", "record", shown=progress) as bar,
    ):
        with ShardWriter(folder, sources[0].info, shard_size) as writer:
            for id_, holders in _photos(sources):
                writer.add(holders[0 if on_conflict == "first" else -1][id_])
                report.records += 1
                bar.update()
        report.shards = len(list(folder.glob(PATTERN)))
    sources[0].close()
    return report


def _open(folders: Sequence[Path]) -> list[Shards]:
    """Open the folders; their limits on open files are one."""
    sources: list[Shards] = []
    for folder in folders:
        _refuse_if_written(folder)
        source = Shards(folder, beside=sources[0] if sources else None)
        sources.append(source)
        if source.info != sources[0].info:
            raise VsamError(
                f"The shards in {sources[0].path} and {source.path} were made with different "
                f"options: {differences(sources[0].info, source.info)}. Extract one of them again, "
                "or keep them apart."
            )
    return sources


def _refuse_if_written(folder: Path) -> None:
    """Refuse a folder that an extraction is writing.

    One that starts later does no harm: whole shards are added, and those read now stay.
    """
    import filelock

    path = folder / ".lock"
    if not path.exists():
        return
    try:
        filelock.FileLock(path).acquire(timeout=0).lock.release()
        held = False
    except filelock.Timeout:
        held = True
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise explain_os_error(error, f"lock {folder}") from error
        held = _seen_held(path)
    if held:
        raise VsamError(f"An extraction is writing into {folder}. Wait until it ends.")


def _seen_held(path: Path) -> bool:
    """Whether a lock is held, as far as can be told by who may not write it: it may be shared."""
    try:
        import fcntl

        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):  # Windows has no such locks; or it may not even be read
        return False
    return False


def _photos(sources: Sequence[Shards]) -> Iterator[tuple[str, list[Shards]]]:
    """Give each photo's id, sorted, with the folders that have a record of it, in their order."""

    def ids(number: int) -> Iterator[tuple[str, int]]:
        return ((id_, number) for id_ in sources[number].ids)

    merged = heapq.merge(*map(ids, range(len(sources))))
    for id_, group in groupby(merged, key=itemgetter(0)):
        yield id_, [sources[number] for _, number in group]


def _disagreement(id_: str, holders: Sequence[Shards]) -> str:
    """Tell which two folders' records of a photo differ, and in what; empty if all are the same."""
    first = holders[0]
    for other in holders[1:]:
        a, b = first[id_], other[id_]
        told = [f.name for f in fields(Record) if not _same(getattr(a, f.name), getattr(b, f.name))]
        if told:
            names = ", ".join(told)
            return f"The records of {id_!r} in {first.path} and {other.path} differ ({names})"
    return ""


def _same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):  # to the byte: NaN is NaN
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    return a == b
