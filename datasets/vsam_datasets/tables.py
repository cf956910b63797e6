"""Read tables of labels: which photo, which split, which category and attributes."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vsam_heatmaps.errors import VsamError, explain_os_error
from vsam_heatmaps.paths import StrPath
from vsam_heatmaps.photos.photo import id_from_stored

SPLITS = ("train", "val", "test")
COLUMNS = ("image", "split", "category", "attributes")
_SHOWN_COLUMNS = 8


@dataclass(frozen=True)
class LabelRow:
    """One labelled photo.

    Attributes:
        image: The photo's id: its path relative to the folder of photos.
        split: `train`, `val` or `test`.
        category: Its category, or "" if unknown; as `label_name` writes it, like the attributes.
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


def read_labels(
    path: StrPath, photos: StrPath | None = None, *, needed: str = "train"
) -> LabelTable:
    """Read a CSV file with the columns `image, split, category, attributes`.

    Attributes are separated by `;`. An empty category means unknown. Other columns are ignored.

    Args:
        path: The file, UTF-8.
        photos: If given, every image must be a file below this folder.
        needed: The split that must have rows.

    Raises:
        VsamError: As `read_table`, or if a split is unknown, an image is no plain path below a
            folder, is listed twice or is not there, or the needed split has no row. Lines are
            named.
    """
    path = Path(path)
    rows: list[LabelRow] = []
    first_line: dict[str, int] = {}
    for line, record in read_table(path, COLUMNS):
        where = f"{path}, line {line}"
        image, split = record["image"], record["split"].strip()
        if not image:
            raise VsamError(f"{where}: expected `image` to name a photo, but it is empty.")
        if id_from_stored(image) != image:
            raise VsamError(
                f"{where}: expected `image` to be a path below the folder of photos without `.`, "
                f"`..` and empty parts, but got {image!r}. {_remedy_for(image)}"
            )
        if split not in SPLITS:
            raise VsamError(
                f"{where}: expected `split` to be train, val or test, but got {split!r}."
            )
        if image in first_line:
            raise VsamError(f"{where}: the image {image!r} is on line {first_line[image]} already.")
        first_line[image] = line
        names = {label_name(name) for name in record["attributes"].split(";")} - {""}
        rows.append(LabelRow(image, split, label_name(record["category"]), tuple(sorted(names))))
    if photos is not None:
        _require_photos(path, rows, Path(photos))
    if not any(row.split == needed for row in rows):
        raise VsamError(
            f"Expected {path} to have rows with the split {needed}, but none of its {len(rows)} "
            "has."
        )
    return LabelTable(tuple(rows))


def label_name(written: str) -> str:
    """Give the one name that a label has: without spaces around it, composed (Unicode's NFC).

    An accent may be a character of its own, as on a Mac, or part of its letter: both look the same.

    >>> label_name(" E\u0301te ") == "\u00c9te"
    True
    """
    return unicodedata.normalize("NFC", written.strip())


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Read a CSV file: each record with the number of its first line.

    Args:
        path: The file, UTF-8.
        columns: Those that it must have, once each and without line breaks in their fields; the
            others are there, too.

    Raises:
        VsamError: If the file is missing, is no such text, lacks a column or has it twice, a record
            has more or fewer fields than the header, or a quote is not closed. Lines are named.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")  # read_text would change quoted line ends
    except UnicodeDecodeError as error:
        raise VsamError(
            f"Expected {path} to be UTF-8 text, but byte {error.start} is not."
        ) from error
    except OSError as error:
        raise explain_os_error(error, f"read {path}") from error
    records = _records(path, text)
    _, header = next(records, (1, []))
    missing = [name for name in columns if name not in header]
    if missing:
        named = ", ".join(map(repr, header[:_SHOWN_COLUMNS])) or "nothing"
        raise VsamError(
            f"Expected {path} to have the columns {', '.join(columns)}, "
            f"but {' and '.join(missing)} is missing: its first line names {named}. Put commas "
            "alone between the names."
        )
    for name in columns:
        if header.count(name) > 1:
            raise VsamError(
                f"Expected {path} to have one column `{name}`, but it has {header.count(name)}. "
                "Rename the others."
            )
    for line, fields in records:
        if len(fields) != len(header):
            raise VsamError(
                f"{path}, line {line}: expected {len(header)} fields, as in the header, but got "
                f"{len(fields)}. Put a field that holds a comma in quotes, part attributes with "
                "`;`, and keep the commas of empty fields."
            )
        record = dict(zip(header, fields, strict=True))
        for name in columns:
            if "\n" in record[name] or "\r" in record[name]:
                raise VsamError(
                    f"{path}, line {line}: expected `{name}` to be on one line, but it goes on "
                    "over the next. Close its quotes, or take the line break out."
                )
        yield line, record


def _records(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Give the fields of each record that is not an empty line, with its first line's number."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:  # an open quote makes one field of the rest of the file
        raise VsamError(
            f"{path}, line {line}: expected a record of CSV, but got {error}. Close its quotes, "
            "and double those within a field."
        ) from error


def _remedy_for(image: str) -> str:
    plain = id_from_stored(image)
    return "Name a photo in that folder." if plain is None else f"Write {plain!r}."


def _require_photos(path: Path, rows: list[LabelRow], photos: Path) -> None:
    if not photos.is_dir():
        raise VsamError(f"Expected `--photos` to be a folder, but {photos} is not one.")
    absent = [row.image for row in rows if not (photos / row.image).is_file()]
    if absent:
        raise VsamError(
            f"{len(absent)} of {len(rows)} images in {path} are not below {photos}, for instance "
            f"{absent[0]!r}. {_reason_for_absence(absent[0], photos)}"
        )


def _reason_for_absence(image: str, photos: Path) -> str:
    for form in ("NFC", "NFD"):
        other = unicodedata.normalize(form, image)
        if other != image and (photos / other).is_file():
            return (
                f"The folder has {other!a}, which looks the same: bring the table's names to "
                f"Unicode's form {form}."
            )
    return "Check --photos, or take the lines out."


def count_labels(rows: tuple[LabelRow, ...]) -> tuple[Counter[str], Counter[str]]:
    """Count how often each category and each attribute occurs."""
    return (
        Counter(row.category for row in rows if row.category),
        Counter(name for row in rows for name in row.attributes),
    )
