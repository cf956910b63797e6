"""Processes that tests start: none outlives the block that it was started for."""

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

WAIT = 60  # seconds, for what takes a few


@contextlib.contextmanager
def started(command: Sequence[object], **options: Any) -> Iterator["subprocess.Popen[Any]"]:
    """Run a command in a session of its own; kill what is left of it when the block ends.

    Args:
        command: The program and its arguments.
        options: Those of `Popen`.
    """
    with subprocess.Popen(list(map(str, command)), start_new_session=True, **options) as process:
        try:
            yield process
        finally:
            kill(process)


def kill(process: "subprocess.Popen[Any]") -> None:
    """Kill a process of `started`, and all that it started and that still runs."""
    # PermissionError: so says macOS where all have ended.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid in session_members(process.pid):  # in other groups, as Ray's are
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait(WAIT)


def session_members(session: int) -> list[int]:
    """List the living processes of a session; none where there is no /proc."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # ended meanwhile
            continue
        if int(its_session) == session and state not in "ZX":
            members.append(int(stat.parent.name))
    return members


def is_spawned_worker(pid: int) -> bool:
    """Tell whether a process is one that `multiprocessing` spawned for work."""
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # ended meanwhile
        return False


def wait_until(
    condition: Callable[[], object],
    process: "subprocess.Popen[Any] | None" = None,
    *,
    seconds: float = 100,
    pause: float = 0.01,
) -> None:
    """Wait until a condition holds; fail if that takes too long, or the process has ended."""
    end = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, process.communicate(timeout=WAIT)
        assert time.monotonic() < end, "waited in vain"
        time.sleep(pause)


class Logged:
    """A process of `logged`, and what it has logged so far."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        self._new: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            self._new.put(self.lines[-1])
        self._new.put(None)

    def wait_for(self, text: str) -> str:
        """Wait until it logs a line with a text; give the line."""
        until, wrong = time.monotonic() + WAIT, "it ended"
        try:
            while (line := self._new.get(timeout=max(0, until - time.monotonic()))) is not None:
                if text in line:
                    return line
        except queue.Empty:
            wrong = f"it ran for {WAIT} s"
        raise AssertionError(f"{wrong} without {text}:\n" + "\n".join(self.lines))

    def wait(self) -> int:
        """Wait for its end, and until all that it logged is read."""
        code = self.process.wait(WAIT)
        self._reader.join(WAIT)
        return code


Log = TypeVar("Log", bound=Logged)


@contextlib.contextmanager
def logged(command: Sequence[object], kind: type[Log] = Logged, **options: Any) -> Iterator[Log]:
    """Run a command as `started` does, and read what it logs."""
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True}
    with started(command, **pipes, **options) as process:
        log = kind(process)
        try:
            yield log
        finally:
            kill(process)
            log.wait()
