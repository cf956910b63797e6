"""Extract: photos to poses to heatmaps to shards, over worker processes.

The main process lists the photos, hands batches to the workers in order, takes the records back in
the same order and writes a shard whenever one is full. So the contents of the shards depend on the
photos and the options alone, not on the number of workers.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from .atomic import prepare_output_folder
from .engines import PEOPLE, choose_engine
from .errors import VsamError, expected, explain_os_error
from .images import MAX_PIXELS
from .photos import Photo, Photos, list_photos
from .pose_model import find_pose_model
from .progress import track
from .rendering import RenderOptions
from .shard_writer import ShardWriter
from .shards import PATTERN, Record, ShardInfo, Shards, Status, differences
from .workers import Submit, Task, Work, worker_pool

_BATCH = 8  # photos a task: small enough that Ctrl-C and the end of a run wait for little
_TASKS_PER_WORKER = 4  # in flight, so that no worker waits for the main process


@dataclass(frozen=True)
class ExtractOptions:
    """How photos become shards.

    Attributes:
        render: How keypoints become maps.
        pose_model: A `.task` bundle; the default is MediaPipe's official full model.
        pose_engine: What runs the networks, see `choose_engine`.
        precision: Arithmetic of the networks, see `choose_engine`.
        crops: Whether people of whom only a part shows are looked for, see `choose_engine`.
        people: `main`: maps show the main person; `all`: everybody that was found. Keypoints are
            the main person's, see `main_person_first`.
        min_confidence: Least confidence, 0..1, at which a person is reported.
        max_pixels: Photos with more pixels count as unreadable.
        shard_size: Photos a shard. A killed run loses at most the shard it was filling.
        workers: Processes; the default is one for each core.
        stop_on_error: Stop at the first unreadable photo instead of recording it.
    """

    render: RenderOptions = field(default_factory=RenderOptions)
    pose_model: Path | None = None
    pose_engine: str = "auto"
    precision: str = "auto"
    crops: bool | None = None
    people: str = "main"
    min_confidence: float = 0.5
    max_pixels: int = MAX_PIXELS
    shard_size: int = 512
    workers: int | None = None
    stop_on_error: bool = False

    def __post_init__(self) -> None:
        if self.people not in PEOPLE:
            raise expected("people", f"one of {', '.join(PEOPLE)}", repr(self.people))
        if not 0 <= self.min_confidence <= 1:
            raise expected("min_confidence", "from 0 to 1", self.min_confidence)
        if self.workers is not None and self.workers < 1:
            raise expected("workers", "at least 1", self.workers)
        if self.shard_size < 1:
            raise expected("shard_size", "at least 1", self.shard_size)
        if self.max_pixels < 1:
            raise expected("max_pixels", "at least 1", self.max_pixels)


def _no_counts() -> dict[str, int]:
    return {status.name.lower(): 0 for status in Status}


@dataclass
class ExtractReport:
    """What a run did.

    Attributes:
        photos: Photos that were given.
        unchanged: Of them, those whose record was there already, for the same contents.
        counts: The given photos by status: keys `ok`, `no_pose`, `unreadable`.
        unreadable: Id and reason of each unreadable photo.
        gone: Records in the folder whose photo was not among those given.
    """

    photos: int = 0
    unchanged: int = 0
    counts: dict[str, int] = field(default_factory=_no_counts)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    gone: int = 0


def extract(
    inputs: Iterable[Path],
    out: Path,
    *,
    root: Path | None = None,
    options: ExtractOptions | None = None,
    progress: bool = False,
) -> ExtractReport:
    """Find the pose in each photo and write heatmaps into shards.

    A second run into the same folder does only what is new: photos without a record, and photos
    whose contents changed. What was finished before an interruption is kept.

    Args:
        inputs: Folders (searched recursively) and files.
        out: Folder for the shards.
        root: Folder that ids are relative to; see `list_photos`.
        options: See `ExtractOptions`.
        progress: Show progress on stderr.

    Raises:
        VsamError: If an input is missing or empty, the folder holds something else or shards made
            with other options, is being written by another run, or can't be written.
    """
    import filelock

    options = options or ExtractOptions()
    photos = list_photos(inputs, root=root)
    prepare_output_folder(out, ours=PATTERN, purpose="shards")
    # The system frees the lock when its process dies, so a killed run's is never in the way.
    lock = filelock.FileLock(out / ".lock")
    try:
        held = lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise VsamError(f"Another extraction is writing into {out}. Wait until it ends.") from error
    except OSError as error:
        raise explain_os_error(error, f"lock {out}") from error
    with held:
        for stale in out.glob(".shard-*.tmp"):
            stale.unlink()
        return _extract(photos, out, options, progress)


def _extract(photos: Photos, out: Path, options: ExtractOptions, progress: bool) -> ExtractReport:
    model = find_pose_model(options.pose_model)
    engine = choose_engine(
        options.pose_engine,
        model,
        precision=options.precision,
        crops=options.crops,
        min_confidence=options.min_confidence,
    )
    info = ShardInfo(
        side=options.render.side,
        sigma=options.render.sigma,
        channels=options.render.channel_names,
        min_visibility=options.render.min_visibility,
        backend=engine.name,
        precision=engine.precision,
        crops=engine.crops,
        region_network_sha256=engine.region_network_sha256,
        people=options.people,
        pose_model_sha256=model.sha256,
        min_confidence=options.min_confidence,
        max_pixels=options.max_pixels,
    )
    work = Work(engine, options.render, options.people, options.max_pixels)
    old = Shards(out) if any(out.glob(PATTERN)) else None
    if old is not None and old.info != info:
        raise VsamError(
            f"The shards in {out} were made with other options: {differences(old.info, info)}. "
            "Name another folder, or give the same options."
        )
    report = ExtractReport(photos=len(photos))
    report.gone = old.ids.count_missing(photos.ids) if old else 0
    writer = ShardWriter(out, info, options.shard_size)
    workers = min(options.workers or os.cpu_count() or 1, -(-len(photos) // _BATCH))
    with (
        track(len(photos), "poses", shown=progress) as bar,
        worker_pool(workers, work) as submit,
        writer,
    ):
        for photo, record in _in_order(photos, old, submit, workers):
            if record is None or (old is not None and _still_unreadable(old, record)):
                assert old is not None
                report.unchanged += 1
                status, reason = old.status(photo.id), ""
                if status is Status.UNREADABLE:
                    reason = old[photo.id].reason
            else:
                status, reason = record.status, record.reason
                if status is not Status.UNREADABLE or not options.stop_on_error:
                    writer.add(record)
            report.counts[status.name.lower()] += 1
            if status is Status.UNREADABLE:
                if options.stop_on_error:
                    raise VsamError(f"Could not read {photo}: {reason}.")
                report.unreadable.append((photo.id, reason))
            bar.update()
    return report


def _still_unreadable(old: Shards, record: Record) -> bool:
    """Whether a file that has no contents to compare could not be read before, for one reason."""
    return (
        record.status is Status.UNREADABLE
        and record.id in old
        and record.sha256 == old.sha256(record.id)
        and record.reason == old[record.id].reason
    )


def _in_order(
    photos: Sequence[Photo], old: Shards | None, submit: Submit, workers: int
) -> Iterator[tuple[Photo, Record | None]]:
    """Give each photo with its new record, or None where the old one holds, in order."""
    waiting: deque[tuple[Task, Future[list[Record | None]]]] = deque()

    def finish() -> Iterator[tuple[Photo, Record | None]]:
        task, future = waiting.popleft()
        try:
            records = future.result()
        except BrokenProcessPool as error:
            raise VsamError(
                f"A worker process died on one of {task[0][0]} … {task[-1][0]} or soon "
                "after: out of memory, or a crash inside a library. What was finished is kept; run "
                "the command again, with fewer --workers if memory was short."
            ) from error
        yield from zip((photo for photo, _ in task), records, strict=True)

    for start in range(0, len(photos), _BATCH):
        task = [
            (photo, old.sha256(photo.id) if old is not None and photo.id in old else None)
            for photo in photos[start : start + _BATCH]
        ]
        waiting.append((task, submit(task)))
        if len(waiting) > workers * _TASKS_PER_WORKER:
            yield from finish()
    while waiting:
        yield from finish()
