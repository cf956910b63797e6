"""Extract: photos to poses to heatmaps to shards, over worker processes.

The main process lists the photos, hands them to the workers in order, takes the records back in the
same order and writes a shard whenever one is full. So the contents of the shards depend on the
photos and the options alone, not on the number of workers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..atomic import locked, prepare_output_folder
from ..engines import PEOPLE, Engine, Lookup, choose_engine
from ..errors import VsamError, expected
from ..images import MAX_PIXELS
from ..keypoint_files import open_keypoints
from ..paths import StrPath
from ..photos import Photo, Photos, list_photos
from ..pose_model import find_pose_model
from ..progress import track
from ..rendering import RenderOptions
from ..shards import PATTERN, ShardInfo, Shards, Status, differences
from ..shards.pruning import prune
from ..shards.writer import ShardWriter
from .job import Job, Settle, Settlements
from .resuming import Earlier, Settled
from .worker_pool import WorkerPool
from .workers import Outcome, Task, Work, Written

# Options that say how networks find poses, and their defaults.
_OF_NETWORKS = {"pose_model": None, "pose_engine": "auto", "precision": "auto", "crops": None}

_MOST = 2**31 - 1  # of a count; shards hold it, and no photo has so many pixels
RUN_ENGINES = ("local", "ray")
"""Where an extraction runs: on this machine, or on a Ray cluster."""


@dataclass(frozen=True)
class ExtractOptions:
    """How photos become shards.

    Attributes:
        render: How keypoints become maps.
        keypoints: A file or folder of keypoints, see `open_keypoints`: no network runs then. Which
            landmarks are rendered follows from it.
        pose_model: A `.task` bundle; the default is MediaPipe's official full model.
        pose_engine: What runs the networks, see `choose_engine`.
        precision: Arithmetic of the networks, see `choose_engine`.
        crops: Whether people of whom only a part shows are looked for, see `choose_engine`.
        people: `main`: maps show the main person; `all`: everybody that was found. Keypoints are
            the main person's, see `main_person_first`.
        min_confidence: Least confidence, 0..1, at which a person is reported; by default 0.5, of
            the people of a keypoint file 0.
        max_pixels: Photos with more pixels count as unreadable.
        max_seconds: A photo that keeps a worker busy for longer is tried once more, alone, and
            then counts as unreadable.
        shard_size: Photos a shard. A killed run loses at most the shard it was filling.
        workers: Processes; the default is one for each core.
        stop_on_error: Stop at the first unreadable photo instead of recording it.
        retry_unreadable: Try again what could not be read before, though it has not changed.
        prune: At the end remove the records of photos that were not given.
        engine: `local`: worker processes on this machine; `ray`: a Ray cluster, see `ray_engine`.
    """

    render: RenderOptions = field(default_factory=RenderOptions)
    keypoints: Path | None = None
    pose_model: Path | None = None
    pose_engine: str = "auto"
    precision: str = "auto"
    crops: bool | None = None
    people: str = "main"
    min_confidence: float | None = None
    max_pixels: int = MAX_PIXELS
    max_seconds: float = 60.0
    shard_size: int = 512
    workers: int | None = None
    stop_on_error: bool = False
    retry_unreadable: bool = False
    prune: bool = False
    engine: str = "local"

    def __post_init__(self) -> None:
        if self.people not in PEOPLE:
            raise expected("people", f"one of {', '.join(PEOPLE)}", repr(self.people))
        if self.min_confidence is not None and not 0 <= self.min_confidence <= 1:
            raise expected("min_confidence", "from 0 to 1", self.min_confidence)
        for name, unset in _OF_NETWORKS.items():
            if self.keypoints is not None and getattr(self, name) != unset:
                raise expected(name, "left out with keypoints", getattr(self, name))
        if self.engine not in RUN_ENGINES:
            raise expected("engine", f"one of {', '.join(RUN_ENGINES)}", repr(self.engine))
        if not self.max_seconds > 0:
            raise expected("max_seconds", "positive", self.max_seconds)
        for name in ("workers", "shard_size", "max_pixels"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= _MOST:
                raise expected(name, f"from 1 to {_MOST}", value)


def _no_counts() -> dict[str, int]:
    return {status.name.lower(): 0 for status in Status}


@dataclass
class ExtractReport:
    """What a run did.

    Attributes:
        photos: Photos that were given.
        unchanged: Of them, those whose record was there already, for the same contents.
        renamed: Of them, those whose contents had a record under the id of a photo that is gone.
        counts: The given photos by status: keys `ok`, `no_pose`, `unreadable`.
        unreadable: Id and reason of each unreadable photo, by id.
        gone: Records in the folder whose photo was not among those given.
        pruned: Whether those were removed.
    """

    photos: int = 0
    unchanged: int = 0
    renamed: int = 0
    counts: dict[str, int] = field(default_factory=_no_counts)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    gone: int = 0
    pruned: bool = False

    def add(self, photo: Photo, settled: Settled) -> None:
        """Count one photo."""
        self.counts[settled.status.name.lower()] += 1
        self.unchanged += settled.unchanged
        self.renamed += settled.renamed
        if settled.status is Status.UNREADABLE:
            self.unreadable.append((photo.id, settled.reason))


def extract(
    inputs: StrPath | Iterable[StrPath],
    out: StrPath,
    *,
    root: StrPath | None = None,
    image_column: str | None = None,
    options: ExtractOptions | None = None,
    progress: bool = False,
) -> ExtractReport:
    """Find the pose in each photo and write heatmaps into shards.

    A second run into the same folder does only what is new: photos without a record, and photos
    whose contents changed. What was finished before an interruption is kept. A photo that was
    renamed keeps its record: it is known by its contents.

    Args:
        inputs: Folders (searched recursively), photos, tar and Parquet files, lists (.txt); or
            one of them.
        out: Folder for the shards.
        root: Folder that ids are relative to; see `list_photos`.
        image_column: Column with the photos in Parquet files; see `list_photos`.
        options: See `ExtractOptions`.
        progress: Show progress on stderr.

    Raises:
        VsamError: If an input is missing or empty, the folder holds something else or shards made
            with other options, is being written by another run, or can't be written.

    >>> report = extract("photos", "shards")
    >>> report.photos, report.counts["ok"], report.unreadable
    (4, 4, [])
    >>> extract("photos", "shards").unchanged
    4
    """
    options = options or ExtractOptions()
    out = Path(out)
    photos = list_photos(inputs, root=root, image_column=image_column)
    prepare_output_folder(out, ours=PATTERN, purpose="shards")
    with lock_folder(out):
        for stale in out.glob(".shard-*.tmp"):
            stale.unlink()
        return _extract(photos, out, options, progress)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold a folder of shards for the one run that may write into it.

    Raises:
        VsamError: If another run holds it, or the system refuses.
    """
    taken = f"Another extraction is writing into {folder}. Wait until it ends."
    with locked(folder / ".lock", taken=taken):
        yield


def _extract(photos: Photos, out: Path, options: ExtractOptions, progress: bool) -> ExtractReport:
    engine = _choose_engine(options)
    if isinstance(engine, Lookup):
        engine.file.check_ids(photos.ids)
        options = replace(options, render=replace(options.render, landmarks=engine.file.landmarks))
    info = _shard_info(options, engine)
    old = Shards(out) if any(out.glob(PATTERN)) else None
    if old is not None and old.info != info:
        raise VsamError(
            f"The shards in {out} were made with other options: {differences(old.info, info)}. "
            "Name another folder, or give the same options."
        )
    earlier = Earlier(
        old,
        photos,
        retry_unreadable=options.retry_unreadable,
        names_count=isinstance(engine, Lookup),  # keypoints are looked up by them
    )
    job = Job(
        work=Work(engine, options.render, options.people, options.max_pixels, earlier.moved),
        info=info,
        out=out,
        shard_size=options.shard_size,
        workers=options.workers,
        max_seconds=options.max_seconds,
    )
    report = ExtractReport(photos=len(photos), gone=earlier.gone)

    def settle(task: Task, outcome: Outcome | Written) -> Settled:
        settled = earlier.settle(task, outcome)
        if settled.status is Status.UNREADABLE and options.stop_on_error:
            raise VsamError(f"Could not read {task.photo}: {settled.reason}.")
        return settled

    run = _run_locally
    if options.engine == "ray":
        from .ray_engine import run_on_ray as run
    tasks = earlier.tasks(photos.reading_order)
    with track(len(photos), "poses", shown=progress) as bar:
        for task, settled in run(job, tasks, settle):
            report.add(task.photo, settled)
            bar.update()
    report.unreadable.sort()  # photos come in the order in which they are read, or done
    if options.prune:
        prune(out, photos.ids)
        report.pruned = True
    return report


def _run_locally(job: Job, tasks: Sequence[Task], settle: Settle) -> Settlements:
    """Make records over worker processes of this machine, and write them."""
    workers = min(job.workers or os.cpu_count() or 1, len(tasks))
    with (
        WorkerPool(workers, job.work, max_seconds=job.max_seconds) as pool,
        ShardWriter(job.out, job.info, job.shard_size) as writer,
    ):
        for task, outcome in pool.outcomes(tasks):
            settled = settle(task, outcome)
            if settled.record is not None:
                writer.add(settled.record)
            yield task, settled


def _choose_engine(options: ExtractOptions) -> Engine | Lookup:
    if options.keypoints is not None:
        return Lookup(open_keypoints(options.keypoints), options.min_confidence or 0.0)
    return choose_engine(
        options.pose_engine,
        find_pose_model(options.pose_model),
        precision=options.precision,
        crops=options.crops,
        min_confidence=0.5 if options.min_confidence is None else options.min_confidence,
    )


def _shard_info(options: ExtractOptions, engine: Engine | Lookup) -> ShardInfo:
    """Gather what the shards of a run share."""
    common = ShardInfo(
        side=options.render.side,
        sigma=options.render.sigma,
        channels=options.render.channel_names,
        min_visibility=options.render.min_visibility,
        landmarks=options.render.landmarks,
        people=options.people,
        max_pixels=options.max_pixels,
        min_confidence=engine.min_confidence,
        backend="",
        pose_model_sha256="",
        precision="",
    )
    if isinstance(engine, Lookup):
        return replace(common, backend=engine.file.name, pose_model_sha256=engine.file.sha256)
    return replace(
        common,
        backend=engine.name,
        pose_model_sha256=engine.model.sha256,
        precision=engine.precision,
        crops=engine.crops,
        region_network_sha256=engine.region_network_sha256,
    )
