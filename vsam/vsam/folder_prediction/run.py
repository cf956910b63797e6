"""Tag a folder: photos to lines, lines to the journal, the journal to the output, in that order.

Lines go into the journal in the order in which engines finish them; pictures of the attention are
written before the line that they belong to. When all are there, the output is written from the
journal in the order of the ids, then the report, and the journal is removed. So whenever a run is
killed, what the journal holds is finished, and everything else is done again.
"""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vsam_heatmaps.atomic import (
    prepare_output_folder,
    remove_leftovers,
    remove_leftovers_below,
)
from vsam_heatmaps.photos import Photo, Photos
from vsam_heatmaps.progress import track

from ..labels import Labels
from ..prediction_files import ATTENTION_SUFFIX, STANDARD_OUTPUT
from .journal import Journal
from .lines import Block, Line, Stamp, Task, stamp_of_photo
from .options import FolderOptions
from .output import Summary, opened_stream, write_output
from .partial import opened_partial
from .pictures import Picture, evenly
from .tagging import DECODERS, Tagger

_NOWHERE = 2**64 - 1  # the place of a line that is not there yet

Engine = Callable[[Iterable[Task]], Iterator[Block]]
"""Tags photos, in blocks of whole batches; blocks may come in any order."""


@dataclass
class FolderReport:
    """What a run did.

    Attributes:
        photos: Photos in the output.
        kept: Of them, those whose line was there already.
        unreadable: Of them, those that could not be read.
        errors: Id and reason of the first of these.
    """

    photos: int = 0
    kept: int = 0
    unreadable: int = 0
    errors: list[tuple[str, str]] = field(default_factory=list)


def predict_folder(
    photos: Photos, out: str | Path, options: FolderOptions, *, progress: bool = False
) -> FolderReport:
    """Tag photos and write what the model says of each, in the order of their ids.

    The output appears under its name when it is whole. Until then the work lies beside it, in
    `.NAME.vsam-partial`, and `options.resume` goes on with it: a photo that could be read and whose
    size and time of change are those from before keeps its line. Standard output gets lines as they
    are made: in the order of the ids, but photos inside other files come last, as they lie there.

    Args:
        photos: Which photos.
        out: The file, or `-` for standard output.
        options: How.
        progress: Show progress on stderr.

    Raises:
        VsamError: If the model, the output or a folder is not as it must be, the work beside the
            output is another run's, or the system refuses. Photos that can't be read are no error.
    """
    from ..hub import find_run
    from ..run_folder import read_run

    options.check(str(out))
    run = find_run(options.model, revision=options.revision)
    options.check_apart(str(out), run)
    settings, (_, labels) = options.settings(run), read_run(run)
    with track(len(photos), "predict", shown=progress) as bar, _engine(run, options) as engine:
        if options.attention is not None:
            prepare_attention(options.attention)
        if str(out) == STANDARD_OUTPUT:
            return _stream(photos, options, labels, engine, bar.update)
        with opened_partial(Path(out), settings, resume=options.resume) as partial:
            if options.resume:
                remove_stale(options)
            book = _Book(photos, partial.journal)
            bar.update(book.kept)
            chosen = frozenset(evenly(photos.ids, options.report_photos if options.report else 0))
            drawn = partial.pictures.read(book.stamp)
            summary = Summary({image: drawn[image] for image in drawn.keys() & chosen})
            for lines, form in engine(book.tasks(chosen)):
                # First what belongs to the lines: a line in the journal is finished.
                partial.pictures.append(lines)
                book.add(lines, form)
                for line in lines:
                    if line.picture is not None:
                        summary.pictures[line.image] = line.picture
                bar.update(len(lines))
            for image, picture in _missing_pictures(book, chosen, summary, engine):
                summary.pictures[image] = picture
            if options.engine == "ray":
                remove_stale(options)  # of actors that died

            def lines_by_id() -> Iterator[Line]:
                for line in book.lines():
                    summary.add(line, chosen)
                    yield line

            write_output(Path(out), options, labels, lines_by_id(), partial.journal.form)
            finish_report(options, summary)
        return report_of(summary, book.kept)


class _Book:
    """Where each photo's line is in the journal; eight bytes a photo."""

    def __init__(self, photos: Photos, journal: Journal) -> None:
        self._photos, self._journal = photos, journal
        self._offsets = array("Q", [_NOWHERE]) * len(photos)
        self._again: set[int] = set()  # positions of those that could not be read
        journal.recover(self._found)
        self.kept = len(photos) - self._offsets.count(_NOWHERE)

    def _found(self, image: str, stamp: Stamp | None, offset: int) -> None:
        position = self._photos.ids.find(image)
        if position is not None:
            same = stamp == stamp_of_photo(self._photos[position])
            self._offsets[position] = offset if same else _NOWHERE
            (self._again.add if stamp is None else self._again.discard)(position)

    def stamp(self, image: str) -> Stamp | None:
        """Tell the state that a photo is in now; a line of another one does not count."""
        position = self._photos.ids.find(image)
        return None if position is None else stamp_of_photo(self._photos[position])

    def tasks(self, chosen: frozenset[str]) -> Iterator[Task]:
        """Give the photos without a line, in the order in which they are best read.

        Those that are tried again come last: the batches of the others are as they would have been,
        and so is every digit of their scores.
        """
        again: list[Photo] = []
        for photo in self._photos.reading_order:
            position = self._position(photo.id)
            if self._offsets[position] == _NOWHERE:
                if position in self._again:
                    again.append(photo)
                else:
                    yield Task(photo, photo.id in chosen)
        yield from (Task(photo, photo.id in chosen) for photo in again)

    def add(self, lines: Any, form: dict[str, Any]) -> None:
        """Put a block into the journal."""
        for line, offset in zip(lines, self._journal.append(lines, form), strict=True):
            self._offsets[self._position(line.image)] = offset

    def line(self, image: str) -> Line:
        """Read the line of a photo."""
        return self._journal.read(self._offsets[self._position(image)])

    def photo(self, image: str) -> Photo:
        """Give a photo by its id."""
        return self._photos[self._position(image)]

    def lines(self) -> Iterator[Line]:
        """Read all lines, in the order of the ids."""
        return map(self._journal.read, self._offsets)

    def _position(self, image: str) -> int:
        position = self._photos.ids.find(image)
        assert position is not None
        return position


def _missing_pictures(
    book: _Book, chosen: frozenset[str], summary: Summary, engine: Engine
) -> Iterator[tuple[str, Picture]]:
    """Look again at photos that are to be shown, but were tagged when no report was asked for."""
    missing = sorted(chosen - summary.pictures.keys())
    tasks = [
        Task(book.photo(image), picture=True, again=True)
        for image in missing
        if not book.line(image).error
    ]
    for lines, _ in engine(tasks) if tasks else ():
        for line in lines:
            # One that has changed since it was tagged is not what its line tells of.
            if line.picture is not None and line.stamp == book.line(line.image).stamp:
                yield line.image, line.picture


def _stream(
    photos: Photos,
    options: FolderOptions,
    labels: Labels,
    engine: Engine,
    advance: Callable[[int], None],
) -> FolderReport:
    chosen = frozenset(evenly(photos.ids, options.report_photos if options.report else 0))
    summary = Summary()
    tasks = (Task(photo, photo.id in chosen) for photo in photos.reading_order)
    with opened_stream(options, labels) as write:
        for lines, _ in engine(tasks):
            write(lines)
            for line in lines:
                summary.add(line, chosen)
            advance(len(lines))
    finish_report(options, summary)
    return report_of(summary, 0)


@contextlib.contextmanager
def _engine(run: Path, options: FolderOptions) -> Iterator[Engine]:
    if options.engine == "ray":
        from .ray_engine import ray_engine

        with ray_engine(run, options) as engine:
            yield engine
    else:
        yield Tagger(run, options, options.workers or DECODERS).blocks


def prepare_attention(folder: Path) -> None:
    """Make the folder for pictures of the attention, or accept one that holds such."""
    prepare_output_folder(folder, ours=f"**/*{ATTENTION_SUFFIX}", purpose="attention pictures")


def remove_stale(options: FolderOptions) -> None:
    """Remove what a killed process left half written beside the output."""
    if options.attention is not None:
        remove_leftovers_below(options.attention, f"*{ATTENTION_SUFFIX}")
    if options.report is not None:
        remove_leftovers(options.report)


def finish_report(options: FolderOptions, summary: Summary) -> None:
    """Write the report, if one is asked for."""
    if options.report is not None:
        from .report import write_report

        write_report(options.report, options, summary)


def report_of(summary: Summary, kept: int) -> FolderReport:
    """Say what a run did."""
    survey = summary.survey
    return FolderReport(survey.photos, kept, survey.unreadable, survey.errors)
