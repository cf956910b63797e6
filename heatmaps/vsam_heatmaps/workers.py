"""The worker processes of an extraction: photos in, records out."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .engines import Engine
from .errors import UnreadablePhotoError
from .images import decode
from .photos import Photo
from .poses import PoseEstimator, Poses
from .rendering import RenderOptions, render_heatmaps
from .shards import Record, Status, no_keypoints

LEAST_SIDE = 500
"""Large JPEGs are decoded at a reduced scale with at least this many pixels on the longer side."""


@dataclass(frozen=True)
class Work:
    """What a worker must know to make records; see `ExtractOptions`."""

    engine: Engine
    render: RenderOptions
    people: str
    max_pixels: int


Task = list[tuple[Photo, bytes | None]]
"""A batch of photos, each with the hash of the contents whose record is there already."""

Submit = Callable[[Task], "Future[list[Record | None]]"]
"""Hands a task to the workers; the result has None where the known hash still holds."""


@contextmanager
def worker_pool(count: int, work: Work) -> Iterator[Submit]:
    """Start worker processes; give a function that hands them a task."""
    # Spawned, not forked: MediaPipe's and OpenCV's threads don't survive a fork.
    pool = ProcessPoolExecutor(
        count,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(work,),
    )

    def submit(task: Task) -> Future[list[Record | None]]:
        # Workers are started by a submission and inherit the blocked signal: Ctrl-C reaches the
        # main process alone, which ends them in order.
        with _interrupt_blocked():
            return pool.submit(_process, task)

    try:
        yield submit
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupt_blocked() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# What a worker process holds. The estimator is made at the first photo that needs one: a run that
# finds nothing new loads no networks.
_work: Work
_estimator: PoseEstimator | None = None


def _start_worker(work: Work) -> None:
    global _work
    _work = work
    import cv2

    cv2.setNumThreads(1)  # the processes share the cores, not the threads of each
    # MediaPipe's C++ side warns on stderr about what no user can change; what goes wrong comes back
    # as a result or an exception.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """End this process when its parent is gone (killed): nobody else would."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _process(task: Task) -> list[Record | None]:
    """Make the records of a batch; None where the photo's hash is still the known one."""
    return [_record(photo, known) for photo, known in task]


def _record(photo: Photo, known: bytes | None) -> Record | None:
    sha256 = bytes(32)
    size = (0, 0)
    try:
        data = photo.read()
        sha256 = hashlib.sha256(data).digest()
        if sha256 == known:
            return None
        decoded = decode(data, max_pixels=_work.max_pixels, least_side=LEAST_SIDE)
        size = decoded.size
        try:
            poses = _the_estimator().estimate(decoded.image)
        except (RuntimeError, ValueError) as error:
            said = str(error).splitlines()[0]
            raise UnreadablePhotoError(f"the pose estimator failed: {said}") from error
    except UnreadablePhotoError as error:
        return _without_pose(photo, Status.UNREADABLE, size, sha256, str(error))
    if not len(poses):
        return _without_pose(photo, Status.NO_POSE, size, sha256)
    return Record(
        id=photo.id,
        status=Status.OK,
        heatmaps=_render(poses),
        channels=_work.render.channel_names,
        keypoints=poses.keypoints[0],
        size=size,
        sha256=sha256,
        people=len(poses),
    )


def _render(poses: Poses) -> NDArray[np.uint8]:
    """Render the main person, or all: a map is a maximum over joints, so also over people."""
    shown = len(poses) if _work.people == "all" else 1
    maps = [render_heatmaps(person, _work.render) for person in poses.keypoints[:shown]]
    return np.maximum.reduce(maps)


def _without_pose(
    photo: Photo, status: Status, size: tuple[int, int], sha256: bytes, reason: str = ""
) -> Record:
    render = _work.render
    maps = np.zeros((len(render.channel_names), render.side, render.side), np.uint8)
    channels = render.channel_names
    return Record(photo.id, status, maps, channels, no_keypoints(), size, sha256, reason)


def _the_estimator() -> PoseEstimator:
    global _estimator
    if _estimator is None:
        _estimator = _work.engine.estimator()
    return _estimator
