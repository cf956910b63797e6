"""Progress of long work: a tqdm bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .counting import counted

_log = logging.getLogger("vsam")
_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts finished units; see `track`."""

    def __init__(self, total: int, what: str, unit: str, *, shown: bool) -> None:
        self._total, self._what, self._unit = total, what, unit
        self._done, self._start = 0, time.monotonic()
        self._last_line = self._start
        self._shown = shown
        self._bar = None
        if shown and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, desc=what, unit=unit, dynamic_ncols=True, smoothing=0.05)

    def update(self, count: int = 1, **figures: float) -> None:
        """Count finished units; `figures` (a loss, say) stand behind the bar or in the line."""
        self._done += count
        if self._bar is not None:
            if figures:
                self._bar.set_postfix(
                    {name: f"{value:.4g}" for name, value in figures.items()}, refresh=False
                )
            self._bar.update(count)
        elif self._shown and time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            _log.info("%s", self._line(figures))

    def close(self) -> None:
        """End the bar; elsewhere log the last line."""
        if self._bar is not None:
            self._bar.close()
        elif self._shown and self._done:
            _log.info("%s", self._line({}))

    def _line(self, figures: dict[str, float]) -> str:
        seconds = max(time.monotonic() - self._start, 1e-9)
        rate = self._done / seconds
        left = (self._total - self._done) / rate if rate else 0.0
        said = "".join(f", {name} {value:.4g}" for name, value in figures.items())
        return (
            f"{self._what}: {self._done} of {counted(self._total, self._unit)}, "
            f"{rate:.1f} {self._unit}s/s, {left:.0f} s left{said}"
        )


@contextmanager
def track(total: int, what: str, unit: str = "photo", *, shown: bool = True) -> Iterator[Progress]:
    """Show the progress of `total` units of work while the block runs.

    Args:
        total: Number of units.
        what: The work in a word or two: "poses".
        unit: One unit, in the singular.
        shown: False shows nothing, for use as a library.
    """
    progress = Progress(total, what, unit, shown=shown)
    try:
        yield progress
    finally:
        progress.close()
