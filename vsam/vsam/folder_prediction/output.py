"""Finished lines to the output and the report, each of which appears when it is whole."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vsam_heatmaps.atomic import replacing

from ..labels import Labels
from ..prediction_files import (
    STANDARD_OUTPUT,
    Writer,
    csv_writer,
    jsonl_writer,
    opened_output,
    opened_parquet,
)
from .lines import Line
from .options import FolderOptions
from .pictures import Picture
from .survey import Survey


@dataclass
class Summary:
    """What lines say together, and those of them that the report shows.

    Attributes:
        pictures: Pictures by id. A photo whose picture is here is shown.
        survey: Figures over all.
        shown: Lines with their pictures.
    """

    pictures: dict[str, Picture] = field(default_factory=dict)
    survey: Survey = field(default_factory=Survey)
    shown: list[Line] = field(default_factory=list)

    def add(self, line: Line, chosen: Container[str]) -> None:
        """Take a line in; it is shown if its id is chosen and it has a picture."""
        self.survey.add(line)
        picture = line.picture or self.pictures.get(line.image)
        if line.image in chosen and picture is not None and not line.error:
            self.shown.append(replace(line, picture=picture))


def write_output(
    out: Path,
    options: FolderOptions,
    labels: Labels,
    lines: Iterable[Line],
    form: dict[str, Any],
) -> None:
    """Write all lines into the file that the user named.

    Raises:
        VsamError: If the system refuses.
    """
    with _opened(out, options, labels, form) as write:
        for line in lines:
            write_line(write, line)


def write_line(write: Writer, line: Line) -> None:
    """Write one line."""
    write(line.image, None if line.error else line.entry, line.error)


@contextlib.contextmanager
def _opened(
    out: Path, options: FolderOptions, labels: Labels, form: dict[str, Any]
) -> Iterator[Writer]:
    if options.format == "parquet":
        with replacing(out) as temporary, opened_parquet(temporary, form) as write:
            yield write
    else:
        with opened_output(str(out)) as file:
            yield text_writer(file, options, labels)


@contextlib.contextmanager
def opened_stream(options: FolderOptions, labels: Labels) -> Iterator[Any]:
    """Give a function that writes lines to standard output, and sees to it that they get there."""
    with opened_output(STANDARD_OUTPUT) as file:
        write = text_writer(file, options, labels)

        def write_all(lines: Iterable[Line]) -> None:
            for line in lines:
                write_line(write, line)
            file.flush()

        yield write_all


def text_writer(file: Any, options: FolderOptions, labels: Labels) -> Writer:
    """Make the writer of the options' format, which is one of text."""
    if options.format == "csv":
        return csv_writer(file, labels, all_scores=options.all_scores)
    return jsonl_writer(file)
