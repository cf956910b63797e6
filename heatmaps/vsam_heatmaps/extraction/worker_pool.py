"""Worker processes that are replaced when a photo kills them.

`concurrent.futures` gives up when one of its processes dies, and doesn't say at which task it was.
Here each worker has a pipe of its own and answers photo by photo, so it is known which photo a
worker was at when it died or hung. That photo is tried once more, alone; if it kills again, it is
recorded as unreadable, and the rest goes on.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from multiprocessing import connection as connections
from typing import Any

from .. import interrupts
from ..errors import VsamError
from .workers import Outcome, RecordMaker, Task, Work, unreadable

_log = logging.getLogger("vsam")

# Photos that a worker holds: the one in work, and others so that it needs not wait while the main
# process writes a shard (0.15 s). The pipe takes all of them, at most so many bytes each (two paths
# of 4 KB): a main process that waits for a worker to take a photo, while that waits for it to take
# a record, would wait for ever. Where a pipe can't be made so large, a worker holds fewer: Linux
# gives the pipes of a user who is not root 64 MiB, and 8 KB to each beyond that.
_HELD = 24
_TASK_BYTES = 10 << 10
_RESULTS_BYTES = 1 << 20
# A worker rings after so many photos, or when it has none left; what it has said by then is read at
# once. A main process that wakes up for every photo takes a core from a worker every time. It must
# where the pipe can't take so many records: the worker would wait for it before it could ring.
_RING_AFTER = 8
_RECORD_BYTES = 2 << 10  # beside its maps
_SECONDS_WITHOUT_RING = 0.5  # for a worker whose next photo takes long
# Results that may wait for an earlier one, for each worker, as they are given in order.
_AHEAD = 64
_SECONDS_TO_LOAD = 600.0
_DEATHS_AT_START = 3  # without any success: not chance
_SECONDS_TO_END = 10.0


class _Message(Enum):
    """What a worker says; each comes with one more object."""

    STARTED = auto()
    LOADING = auto()
    LOADED = auto()
    OUTCOME = auto()
    FAILED = auto()


@dataclass
class _Worker:
    """A process as the main process sees it.

    Attributes:
        tasks: Where it gets photos.
        results: Where it answers.
        bell: Where it rings when there is enough to read; it ends when the worker does.
        wakes: What the main process waits for: the bell, or else each result.
        sha256: Shared memory: the hash of the photo in work, zeros until it is known.
        begun: Shared memory: of how many photos it has begun the work.
        answered: Of how many it has given the outcome.
        most: How many photos it may hold.
        held: Positions of the photos that it was given and has not answered.
        since: When it began with the first of them, or a little later.
        state: The last thing it said of itself.
        overdue: Whether it was ended because it took too long.
    """

    process: Any
    tasks: Any
    results: Any
    bell: Any
    wakes: Any
    sha256: Any
    begun: Any
    most: int
    answered: int = 0
    held: deque[int] = field(default_factory=deque)
    since: float = 0.0
    state: _Message | None = None
    overdue: bool = False

    @property
    def has_room(self) -> bool:
        return len(self.held) < self.most


class WorkerPool:
    """Turns tasks into outcomes, in order, over worker processes. A context manager.

    Args:
        count: Number of processes.
        work: What they do.
        max_seconds: A photo that takes longer counts as one that kills its worker.
    """

    def __init__(self, count: int, work: Work, *, max_seconds: float) -> None:
        self._count, self._work, self._max_seconds = count, work, max_seconds
        # Spawned, not forked: MediaPipe's and OpenCV's threads don't survive a fork.
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._tasks: dict[int, Task] = {}  # those without an outcome, by position
        self._again: deque[int] = deque()  # held by a worker that died, but not in work
        self._suspects: deque[int] = deque()  # in work when a worker died
        self._accused: set[int] = set()  # suspects that have not been cleared, or killed again
        self._outcomes: dict[int, Outcome] = {}
        self._deaths_at_start = 0

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        for worker in self._workers:
            worker.tasks.close()  # what a worker ends at
            worker.results.close()
            worker.bell.close()
            if kind is not None:
                worker.process.kill()  # it has nothing to put in order
        end = time.monotonic() + _SECONDS_TO_END
        for worker in self._workers:
            worker.process.join(max(0.0, end - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers.clear()

    def outcomes(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Outcome]]:
        """Give each task with its outcome, in the order of the tasks.

        After an error, or when the caller leaves off, the workers are ended and the pool is as new.

        Raises:
            VsamError: If workers can't start, or can't load the networks.
        """
        try:
            yield from self._all_outcomes(tasks)
        except BaseException as error:
            self.__exit__(type(error))
            for left in (self._tasks, self._again, self._suspects, self._accused, self._outcomes):
                left.clear()
            raise

    def _all_outcomes(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Outcome]]:
        coming = iter(tasks)
        given = taken = 0  # positions
        ended = False
        while True:
            interrupts.raise_lost()
            while not ended and taken - given < self._count * _AHEAD and self._has_room():
                task = next(coming, None)
                ended = task is None
                if task is not None:
                    self._tasks[taken] = task
                    self._hand_out(taken)
                    taken += 1
            self._hand_out_again()
            while given in self._outcomes:
                yield self._tasks.pop(given), self._outcomes.pop(given)
                given += 1
            if ended and given == taken:
                return
            self._listen()

    # Handing out

    def _has_room(self) -> bool:
        if self._accused or self._again:
            return False
        more_may_start = len(self._workers) < self._count
        return more_may_start or any(worker.has_room for worker in self._workers)

    def _hand_out(self, position: int) -> None:
        """Give a photo to the worker that holds the fewest."""
        idle = [worker for worker in self._workers if not worker.held]
        if not idle and len(self._workers) < self._count:
            self._start()
        worker = min(self._workers, key=lambda each: (not each.has_room, len(each.held)))
        if not worker.held:
            worker.since = time.monotonic()
        worker.held.append(position)
        with contextlib.suppress(OSError):  # it died: `_listen` sees to it
            worker.tasks.send(self._tasks[position])

    def _hand_out_again(self) -> None:
        """Give suspects out one at a time, while nothing else is in work; then what is left."""
        if self._suspects:
            if not any(worker.held for worker in self._workers):
                self._hand_out(self._suspects.popleft())
            return
        if self._accused:
            return  # a suspect is in work, alone
        while self._again and any(worker.has_room for worker in self._all_started()):
            self._hand_out(self._again.popleft())

    def _all_started(self) -> list[_Worker]:
        while len(self._workers) < self._count:
            self._start()
        return self._workers

    def _start(self) -> None:
        with interrupts.starting_processes():
            self._workers.append(self._new_worker())

    def _new_worker(self) -> _Worker:
        get_task, put_task = self._context.Pipe(duplex=False)
        get_result, put_result = self._context.Pipe(duplex=False)
        bell, ring = self._context.Pipe(duplex=False)
        render = self._work.render
        record = len(render.channel_names) * render.side**2 + _RECORD_BYTES
        rings = _enlarge(put_result, _RESULTS_BYTES) >= _RING_AFTER * record
        most = max(1, min(_HELD, _enlarge(put_task, _HELD * _TASK_BYTES) // _TASK_BYTES))
        sha256 = self._context.RawArray("B", 32)
        begun = self._context.RawValue("Q")
        process = self._context.Process(
            target=_serve,
            args=(get_task, put_result, ring, self._work, sha256, begun),
            daemon=True,
            name="vsam-heatmaps",
        )
        process.start()
        get_task.close()
        put_result.close()
        ring.close()
        wakes = bell if rings else get_result
        return _Worker(
            process, put_task, get_result, bell, wakes, sha256, begun, most, since=time.monotonic()
        )

    # Listening

    def _listen(self) -> None:
        """Wait until a worker rings, hear them all, and see who died or takes too long."""
        connections.wait([worker.wakes for worker in self._workers], timeout=_SECONDS_WITHOUT_RING)
        for worker in list(self._workers):
            self._hear(worker)
        for worker in list(self._workers):
            if time.monotonic() - worker.since > self._limit(worker):
                worker.overdue = True
                worker.process.kill()
                self._bury(worker)

    def _limit(self, worker: _Worker) -> float:
        if worker.state in (None, _Message.LOADING):
            return _SECONDS_TO_LOAD
        return self._max_seconds if worker.held else float("inf")

    def _hear(self, worker: _Worker) -> None:
        """Take all that a worker has said."""
        with contextlib.suppress(EOFError, OSError):
            while worker.bell.poll():
                worker.bell.recv_bytes()
        try:  # what a dead worker has said is still there
            while worker.results.poll():
                message, value = worker.results.recv()
                self._understand(worker, message, value)
        except (EOFError, OSError):
            self._bury(worker)

    def _understand(self, worker: _Worker, message: _Message, value: Any) -> None:
        worker.since = time.monotonic()
        if message is _Message.FAILED:
            raise value
        if message is _Message.OUTCOME:
            position = worker.held.popleft()
            worker.answered += 1
            self._accused.discard(position)
            self._outcomes[position] = value
        else:
            worker.state = message
            if message is _Message.LOADED:
                self._deaths_at_start = 0

    def _bury(self, worker: _Worker) -> None:
        """Take leave of a worker that died: find out at which photo, and give back the others."""
        worker.process.join()
        worker.tasks.close()
        worker.results.close()
        worker.bell.close()
        self._workers.remove(worker)
        cause = f"it took more than {self._max_seconds:g} s (--max-seconds)"
        if not worker.overdue:
            cause = f"a worker process died on it ({_cause_of_death(worker.process.exitcode)})"
        loads = worker.state in (None, _Message.LOADING)
        # None was in work when it was killed from outside while it was idle, or had just answered.
        idle = worker.begun.value == worker.answered and not worker.overdue
        if loads or idle:
            for position in reversed(worker.held):
                (self._suspects if position in self._accused else self._again).appendleft(position)
            if loads or not worker.answered:
                self._died_at_start(worker)
            return
        suspect, *others = worker.held
        self._again.extendleft(reversed(others))
        task = self._tasks[suspect]
        if suspect not in self._accused:
            self._accused.add(suspect)
            self._suspects.append(suspect)
            _log.warning("%s: %s; it is tried once more, alone.", task.photo, cause)
            return
        self._accused.remove(suspect)
        _log.warning("%s: %s again; it is left out.", task.photo, cause)
        self._outcomes[suspect] = unreadable(
            task, self._work.render, f"{cause}, twice", bytes(worker.sha256)
        )

    def _died_at_start(self, worker: _Worker) -> None:
        self._deaths_at_start += 1
        if self._deaths_at_start >= _DEATHS_AT_START:
            at = "they loaded the pose networks" if worker.state else "they started"
            raise VsamError(
                f"{_DEATHS_AT_START} worker processes died while {at} "
                f"({_cause_of_death(worker.process.exitcode)}): memory is short, or the "
                "installation is broken. What was finished is kept; run the command again, with "
                "fewer --workers if memory was short."
            )


def _cause_of_death(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name}, as when memory runs out" if name == "SIGKILL" else name


def _enlarge(pipe: Any, size: int) -> int:
    """Give a pipe room for so many bytes, where the system lets us; say how many it takes."""
    try:
        import fcntl

        get, set_ = fcntl.F_GETPIPE_SZ, fcntl.F_SETPIPE_SZ
    except (ImportError, AttributeError):  # not Linux: pipes of unknown size
        return 0
    with contextlib.suppress(OSError):  # the user's pipes have too many pages already
        fcntl.fcntl(pipe.fileno(), set_, size)
    return fcntl.fcntl(pipe.fileno(), get)


# What runs in a worker process


def _serve(tasks: Any, results: Any, bell: Any, work: Work, shared: Any, begun: Any) -> None:
    """Answer task after task until the main process closes the pipe."""
    interrupts.begin_process()
    _make_quiet()

    silent = 0  # photos since the last ring

    def say(message: _Message, value: object = None) -> None:
        nonlocal silent
        results.send((message, value))
        silent += 1
        if message is not _Message.OUTCOME or silent >= _RING_AFTER or not tasks.poll():
            bell.send_bytes(b"")
            silent = 0

    def around_loading(done: bool) -> None:
        say(_Message.LOADED if done else _Message.LOADING)

    def hashed(sha256: bytes) -> None:
        shared[:] = sha256

    maker = RecordMaker(work, around_loading=around_loading, hashed=hashed)
    with contextlib.suppress(EOFError, OSError):
        say(_Message.STARTED)
        while True:
            task = tasks.recv()
            begun.value += 1
            try:
                outcome = maker.outcome(task)
            except Exception as error:
                if not isinstance(error, VsamError):
                    error.add_note(f"In a worker, at {task.photo}:\n{traceback.format_exc()}")
                say(_Message.FAILED, error)
                return
            say(_Message.OUTCOME, outcome)


def _make_quiet() -> None:
    import cv2

    cv2.setNumThreads(1)  # the processes share the cores, not the threads of each
    # MediaPipe's C++ side warns on stderr about what no user can change; what goes wrong comes back
    # as a result or an exception.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
