"""Watch folders: tag photos as they come, until somebody says stop.

A folder is looked at again and again. A photo is tagged when its size and time of change are the
same in two looks in a row, so a file that is still being written is waited for; if it changes while
it is read, that reading counts for nothing. A photo that changes later is tagged again, and its
line replaced. A photo that is removed keeps its line, if it was tagged before.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vsam_heatmaps.errors import VsamError, expected
from vsam_heatmaps.photos import Photo, list_photos

from ..labels import Labels
from ..prediction_files import STANDARD_OUTPUT
from .journal import Journal
from .lines import Line, Stamp, Task, stamp_of_photo
from .options import FolderOptions
from .output import Summary, opened_stream, write_output
from .partial import Partial, opened_partial
from .pictures import Picture, evenly
from .run import FolderReport, finish_report, prepare_attention, remove_stale, report_of
from .tagging import DECODERS, Tagger

_log = logging.getLogger("vsam")

# Photos that are tagged between two looks: of a large folder the first ones are kept soon.
_MOST_BETWEEN_LOOKS = 1024

# The output is written whole each time. Of the time that passes it takes this share at most.
_SHARE_FOR_WRITING = 0.05


def watch_folders(
    folders: Sequence[Path],
    out: str | Path,
    options: FolderOptions,
    stop: threading.Event,
    *,
    root: Path | None = None,
    seconds: float = 1.0,
) -> FolderReport:
    """Tag photos that are in folders, and those that come into them.

    The output appears when the photos that were there are tagged, and is written anew, whole and in
    the order of the ids, when others have been. To standard output lines go as they are made; there
    a photo that changes gets another one. The work beside the output (see `predict_folder`) stays,
    so that `options.resume` can go on later.

    Args:
        folders: Folders, searched recursively.
        out: The file, or `-` for standard output.
        options: How; on this machine.
        stop: Set by another thread or a signal's handler; the batch in work is finished.
        root: Folder that ids are relative to; see `list_photos`.
        seconds: Between two looks.

    Raises:
        VsamError: As `predict_folder`, or if one of the folders is none or vanishes.
    """
    from ..hub import find_run
    from ..run_folder import read_run

    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise expected("seconds", f"positive, at most {threading.TIMEOUT_MAX:.0f}", seconds)
    if options.engine != "local":
        raise VsamError("Expected `--engine` to be local with --watch: it tags on this machine.")
    for folder in folders:
        if not folder.is_dir():
            raise VsamError(f"Expected `{folder}` to be a folder with --watch, but it is not.")
    options.check(str(out))
    run = find_run(options.model, revision=options.revision)
    options.check_apart(str(out), run)
    settings, (_, labels) = options.settings(run), read_run(run)
    tagger = Tagger(run, options, options.workers or DECODERS)
    if options.attention is not None:
        prepare_attention(options.attention)
    looks = _Looks(folders, root)
    if str(out) == STANDARD_OUTPUT:
        with opened_stream(options, labels) as write:
            streamed = _Streamed(write, options)
            _watch(looks, tagger, streamed, stop, seconds)
        finish_report(options, streamed.summary)
        return report_of(streamed.summary, 0)
    with opened_partial(Path(out), settings, resume=options.resume, keep=True) as partial:
        if options.resume:
            remove_stale(options)
        kept = _Kept(partial, Path(out), options, labels, looks, tagger.form)
        _watch(looks, tagger, kept, stop, seconds)
        summary = kept.write()
    finish_report(options, summary)
    return report_of(summary, kept.resumed)


class _Looks:
    """Looks at folders, and remembers which photos were tagged and which are waited for."""

    def __init__(self, folders: Sequence[Path], root: Path | None) -> None:
        self._folders, self._root = folders, root
        self.tagged: dict[str, Stamp | None] = {}
        self._waiting: dict[str, Stamp] = {}
        self._told = False

    def ready(self) -> list[Photo]:
        """Look; give photos that are new or have changed, and have not since the last look."""
        try:
            present = list_photos(self._folders, root=self._root, allow_empty=True)
        except VsamError as error:
            if not isinstance(error.__cause__, OSError) or self._told:
                raise
            self._told = True  # once: a sub-folder that is removed meanwhile can't be listed
            _log.warning("%s It is tried again.", error)
            return []
        self._told = False
        ready: list[Photo] = []
        waiting: dict[str, Stamp] = {}
        for photo in present:
            stamp = stamp_of_photo(photo)
            if stamp is None or self.tagged.get(photo.id) == stamp:
                continue
            if len(ready) < _MOST_BETWEEN_LOOKS and self._waiting.get(photo.id) == stamp:
                ready.append(photo)
            else:
                waiting[photo.id] = stamp
        self._waiting = waiting
        return ready


class _Sample:
    """Chooses pictures for the report while nobody knows how many photos will come.

    It takes every photo until there are twice as many pictures as are wanted, then leaves out every
    second, and from then on takes every second photo; and so on.
    """

    def __init__(self, options: FolderOptions, pictures: dict[str, Picture], seen: int) -> None:
        self._most = 2 * options.report_photos if options.report is not None else 0
        self.pictures = pictures
        self._seen, self._stride = seen, 1
        self._thin()

    def wants(self, image: str) -> bool:
        """Whether a picture of the next photo is wanted; one that has changed is drawn anew."""
        self._seen += 1
        return image in self.pictures or (self._most > 0 and (self._seen - 1) % self._stride == 0)

    def add(self, image: str, picture: Picture) -> None:
        """Take a picture in."""
        self.pictures[image] = picture
        self._thin()

    def _thin(self) -> None:
        while len(self.pictures) > self._most:
            self.pictures = dict(list(self.pictures.items())[::2]) if self._most else {}
            self._stride *= 2


class _Streamed:
    """Lines to standard output."""

    def __init__(self, write: Any, options: FolderOptions) -> None:
        self._write = write
        self.summary = Summary()
        self.sample = _Sample(options, {}, 0)
        self._most = options.report_photos

    def add(self, lines: Sequence[Line], form: dict[str, Any]) -> None:
        self._write(lines)
        for line in lines:
            self.summary.add(line, (line.image,))
        if len(self.summary.shown) > 2 * self._most:
            self.summary.shown = list(evenly(self.summary.shown, self._most))

    def caught_up(self) -> None:
        pass


class _Kept:
    """Lines to the journal, and from there to the output whenever all that is there is tagged."""

    def __init__(
        self,
        partial: Partial,
        out: Path,
        options: FolderOptions,
        labels: Labels,
        looks: _Looks,
        form: dict[str, Any],
    ) -> None:
        self._form = form  # of lines that may come, should none have come yet
        self._journal: Journal = partial.journal
        self._file, self._out, self._options = partial.pictures, out, options
        self._labels, self._tagged = labels, looks.tagged
        self._offsets: dict[str, int] = {}
        self._journal.recover(self._found)
        self.resumed = len(self._offsets)
        drawn = partial.pictures.read(self._tagged.get)
        self.sample = _Sample(options, drawn, self.resumed)
        self._unwritten = bool(self._offsets)
        self._next_write = 0.0

    def _found(self, image: str, stamp: Stamp | None, offset: int) -> None:
        self._offsets[image] = offset
        self._tagged[image] = stamp

    def add(self, lines: Sequence[Line], form: dict[str, Any]) -> None:
        self._file.append(lines)
        for line, offset in zip(lines, self._journal.append(lines, form), strict=True):
            self._offsets[line.image] = offset
        self._unwritten = True

    def caught_up(self) -> None:
        if self._unwritten and time.monotonic() >= self._next_write:
            self.write()

    def write(self) -> Summary:
        """Write the output; say what is in it."""
        start = time.monotonic()
        chosen = frozenset(evenly(sorted(self.sample.pictures), self._options.report_photos))
        summary = Summary(self.sample.pictures)

        def lines() -> Iterator[Line]:
            for image in sorted(self._offsets):
                line = self._journal.read(self._offsets[image])
                summary.add(line, chosen)
                yield line

        form = self._journal.form or self._form
        write_output(self._out, self._options, self._labels, lines(), form)
        self._unwritten = False
        took = time.monotonic() - start
        self._next_write = time.monotonic() + took / _SHARE_FOR_WRITING
        return summary


def _watch(
    looks: _Looks,
    tagger: Tagger,
    kept: _Streamed | _Kept,
    stop: threading.Event,
    seconds: float,
) -> None:
    while not stop.is_set():
        start = time.monotonic()
        ready = looks.ready()
        looking = time.monotonic() - start
        _tag(ready, looks, tagger, kept, stop)
        if not ready:
            kept.caught_up()
        # A folder so large that a look takes long is looked at less often.
        stop.wait(max(seconds, 4 * looking))


def _tag(
    ready: list[Photo],
    looks: _Looks,
    tagger: Tagger,
    kept: _Streamed | _Kept,
    stop: threading.Event,
) -> None:
    photos = {photo.id: photo for photo in ready}
    tasks = (Task(photo, kept.sample.wants(photo.id)) for photo in ready)
    with contextlib.closing(tagger.blocks(tasks)) as blocks:
        for lines, form in blocks:
            # What changed while it was read is looked at once more; what vanished has no line.
            whole = [
                line
                for line in lines
                if line.stamp is not None and line.stamp == stamp_of_photo(photos[line.image])
            ]
            if whole:
                kept.add(whole, form)
            for line in whole:
                looks.tagged[line.image] = line.stamp
                if line.picture is not None:
                    kept.sample.add(line.image, line.picture)
            if stop.is_set():
                return
