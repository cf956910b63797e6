"""Source, tags and page in one process: the workflow of the published demo without its services."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from vsam_heatmaps import interrupts
from vsam_heatmaps.errors import VsamError, expected

from .logs import tell
from .model import PredictorModel
from .photo_rounds import Given, PhotoRounds
from .pictures import Pictures, small_jpeg

_PAUSE = 1.0  # seconds after a round in which no photo can be read


def run_pipeline(
    rounds: PhotoRounds,
    model: PredictorModel,
    pictures: Pictures,
    stop: threading.Event,
    *,
    max_batch: int,
    seconds: float = 0.0,
    repeat: bool = False,
) -> None:
    """Tag photos and show them; then wait, so that the page stays.

    Args:
        rounds: The photos.
        model: What tags them.
        pictures: What the page shows.
        stop: Set when all is to end.
        max_batch: Most photos in a forward pass.
        seconds: Time between two pictures at least.
        repeat: Begin anew after the last photo, or a second after a round without any that can be
            read.

    Raises:
        VsamError: If no photo can be read, the folder is gone, or the seconds are too many.
    """
    if not 0 <= seconds <= threading.TIMEOUT_MAX:
        raise expected("seconds", f"from 0 to {threading.TIMEOUT_MAX:.0f}", seconds)
    shown, told = 0, False
    while not stop.is_set():
        before = shown
        for jpeg, prediction in _predicted(rounds.one(), model, max_batch):
            categories, attributes = model.describe(
                prediction, all_categories=True, all_attributes=False
            )
            pictures.add(
                jpeg,
                *(
                    ((entry["label"], entry["score"]) for entry in tags)
                    for tags in (categories, attributes)
                ),
            )
            shown += 1
            if stop.wait(seconds):
                return
        if not shown:
            raise VsamError("Expected photos that can be read, but there is none. See above why.")
        if not repeat:
            tell("done", photos=shown)
            stop.wait()
        elif shown > before:
            told = False
        else:
            if not told:
                tell("empty", logging.WARNING, about="no photo can be read any more; still looking")
            told = True
            stop.wait(_PAUSE)


def _predicted(
    photos: Iterable[Given], model: PredictorModel, max_batch: int
) -> Iterator[tuple[bytes, Any]]:
    """Give each photo's small copy and prediction; decoded, one photo at a time is kept."""
    prepared = ((small_jpeg(each.image), model.prepare_image(each.image)) for each in photos)
    while batch := list(islice(prepared, max_batch)):
        jpegs, items = zip(*batch, strict=True)
        yield from zip(jpegs, model.predict(items), strict=True)


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """Give what SIGTERM, SIGINT and SIGHUP set, each once: the second time they do as before."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in interrupts.signals_to_end()}

    def end(number: int, frame: object) -> None:
        tell("ending", signal=signal.Signals(number).name)
        signal.signal(number, before[number])
        stop.set()

    for number in before:
        signal.signal(number, end)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
