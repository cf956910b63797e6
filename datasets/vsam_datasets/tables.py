"""Read tables of labels: which photo, which split, which category and attributes."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vsam_heatmaps.errors import VsamError, explain_os_error

SPLITS = ("train", "val", "test")
COLUMNS = ("image", "split", "category", "attributes")


@dataclass(frozen=True)
class LabelRow:
    """One labelled photo.

    Attributes:
        image: The photo's id: its path relative to the folder of photos.
        split: `train`, `val` or `test`.
        category: Its category, or "" if unknown.
        attributes: Its attributes, sorted.
    """

    image: str
    split: str
    category: str
    attributes: tuple[str, ...]


@dataclass(frozen=True)
class LabelTable:
    """A table of labels; make it with `read_labels`."""

    rows: tuple[LabelRow, ...]

    def split(self, name: str) -> tuple[LabelRow, ...]:
        """List the rows of one split, in the table's order."""
        return tuple(row for row in self.rows if row.split == name)

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """All categories in alphabetical order: the model's classes."""
        return tuple(sorted({row.category for row in self.rows if row.category}))

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """All attributes in alphabetical order: the model's attribute outputs."""
        return tuple(sorted({name for row in self.rows for name in row.attributes}))


def read_labels(path: Path, photos: Path | None = None, *, needed: str = "train") -> LabelTable:
    """Read a CSV file with the columns `image, split, category, attributes`.

    Attributes are separated by `;`. An empty category means unknown. Other columns are ignored.

    Args:
        path: The file, UTF-8.
        photos: If given, every image must be a file below this folder.
        needed: The split that must have rows.

    Raises:
        VsamError: If the file is missing or lacks a column, a split is unknown, an image is
            listed twice or is not there, or the needed split has no row. Lines are named.
    """
    rows: list[LabelRow] = []
    first_line: dict[str, int] = {}
    for line, record in read_table(path, COLUMNS):
        where = f"{path}, line {line}"
        image, split = record["image"], record["split"].strip()
        if not image:
            raise VsamError(f"{where}: expected `image` to name a photo, but it is empty.")
        if split not in SPLITS:
            raise VsamError(
                f"{where}: expected `split` to be train, val or test, but got {split!r}."
            )
        if image in first_line:
            raise VsamError(f"{where}: the image {image!r} is on line {first_line[image]} already.")
        first_line[image] = line
        names = {name.strip() for name in record["attributes"].split(";")} - {""}
        rows.append(LabelRow(image, split, record["category"].strip(), tuple(sorted(names))))
    if photos is not None:
        _require_photos(path, rows, photos)
    if not any(row.split == needed for row in rows):
        raise VsamError(
            f"Expected {path} to have rows with the split {needed}, but none of its {len(rows)} "
            "has."
        )
    return LabelTable(tuple(rows))


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Read a CSV file: each record with the number of its last line.

    Args:
        path: The file, UTF-8.
        columns: Those that it must have; the others are there, too.

    Raises:
        VsamError: If the file is missing, is no such text, or lacks a column.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")  # read_text would change quoted line ends
    except UnicodeDecodeError as error:
        raise VsamError(
            f"Expected {path} to be UTF-8 text, but byte {error.start} is not."
        ) from error
    except OSError as error:
        raise explain_os_error(error, f"read {path}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), restval="")
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise VsamError(
            f"Expected {path} to have the columns {', '.join(columns)}, "
            f"but {' and '.join(missing)} is missing."
        )
    try:
        for record in reader:
            yield reader.line_num, record
    except csv.Error as error:  # an open quote makes one field of the rest of the file
        raise VsamError(f"{path}, after line {reader.line_num}: {error}.") from error


def _require_photos(path: Path, rows: list[LabelRow], photos: Path) -> None:
    if not photos.is_dir():
        raise VsamError(f"Expected `--photos` to be a folder, but {photos} is not one.")
    absent = [row.image for row in rows if not (photos / row.image).is_file()]
    if absent:
        raise VsamError(
            f"{len(absent)} of {len(rows)} images in {path} are not below {photos}, for instance "
            f"{absent[0]!r}. Check --photos, or take the lines out."
        )


def count_labels(rows: tuple[LabelRow, ...]) -> tuple[Counter[str], Counter[str]]:
    """Count how often each category and each attribute occurs."""
    return (
        Counter(row.category for row in rows if row.category),
        Counter(name for row in rows for name in row.attributes),
    )
