"""Interrupts that come at a bad moment: put off until it is over, or found where they were lost.

What a signal's handler raises ends the work, unless it lands where exceptions are dropped: in a
finalizer, or in C code that asks an object something and takes any error for a no. Work that goes
on all the same finds here that it should not.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterable, Iterator

_noted: BaseException | None = None


def signals_to_end() -> list[int]:
    """List the signals that ask a program to end: SIGINT, SIGTERM and, but on Windows, SIGHUP.

    Without those that are ignored: whoever runs us with `nohup` wants that.
    """
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = [int(getattr(signal, name)) for name in names if hasattr(signal, name)]
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


def noted(interrupt: BaseException) -> BaseException:
    """Remember what a signal's handler is about to raise, and give it back."""
    global _noted
    _noted = interrupt
    return interrupt


def is_noted(raised: BaseException | None) -> bool:
    """Tell whether this is the interrupt that was noted."""
    return raised is not None and raised is _noted


def raise_lost() -> None:
    """Raise the interrupt that was noted, if any. Work calls it between its steps.

    Whoever gets here after an interrupt was not ended by it.
    """
    if _noted is not None:
        raise _noted


@contextlib.contextmanager
def starting_processes() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP wait while `multiprocessing` spawns processes in the block.

    At its end their handlers are run. A process that is half started would say that it lost its
    parent. Those that are started inherit that the signals are blocked (not on Windows): Ctrl-C in
    a terminal, or its end, ends the main process alone, which is to end them in order.
    """
    numbers = signals_to_end()
    came: list[int] = []
    try:
        with contextlib.ExitStack() as handlers:
            # Blocking is not enough: another thread, which doesn't, takes one for the main thread.
            if threading.current_thread() is threading.main_thread():
                for number in numbers:
                    if callable(handler := signal.getsignal(number)):
                        handlers.callback(signal.signal, number, handler)
                        signal.signal(number, lambda which, _: came.append(which))
            with _blocked(numbers):
                yield
    finally:
        for number in came:
            signal.raise_signal(number)


def begin_process() -> None:
    """Make a process of `starting_processes` end on SIGTERM and with its parent, not on Ctrl-C.

    Python ends with SIGTERM what is left of a parent that ends in order. Of one that was killed,
    nobody would.
    """
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    else:  # Windows, where nothing is blocked
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _blocked(numbers: Iterable[int]) -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker  # commands start without it

    resource_tracker.ensure_running()  # its first start would unblock them again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
