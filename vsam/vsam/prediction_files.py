"""Predictions as JSON lines, CSV and Parquet, and attention as pictures."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np
from numpy.typing import NDArray

from vsam_heatmaps.atomic import LONGEST_NAME, replacing, write_bytes
from vsam_heatmaps.errors import VsamError, explain_os_error
from vsam_heatmaps.paths import StrPath

from .attention_maps import shrink
from .labels import Labels

STANDARD_OUTPUT = "-"
"""In the place of a file's name."""

FORMATS = ("jsonl", "csv", "parquet")
"""How predictions are written; also how the files' names end. Each says the same."""

ATTENTION_SUFFIX = ".attention.jpg"

_LONGEST_FOLDER = 255  # bytes
_LONGEST_FILE = LONGEST_NAME - len(ATTENTION_SUFFIX)

# Overlays are for looking at: larger ones would fill disks.
_OVERLAY_SIDE = 640

_COLUMNS = ("image", "category", "score", "attributes", "error", "details")

# Labels with scores in a row group, and rows: as objects of Python some 15 MB.
_CELLS_A_ROW_GROUP = 50_000


# All scores of a thousand attributes are 50 KB.
_WIDEST_FIELD = 1 << 26


class Writer(Protocol):
    """Writes one photo's entry: its id, and either a description or an error."""

    def __call__(self, image: str, description: dict[str, Any] | None, error: str) -> None:
        """Write it."""
        ...


def output_path(out: str) -> Path | None:
    """Give the file that `--out` names; None for standard output.

    Raises:
        VsamError: If it names a folder.
    """
    if out == STANDARD_OUTPUT:
        return None
    if out.endswith(("/", os.sep)) or Path(out).is_dir():
        raise VsamError(f"Expected `--out` to be a file, but {out} is a folder.")
    return Path(out)


@contextlib.contextmanager
def opened_output(out: str) -> Iterator[TextIO]:
    """Open a file that appears when it is whole, or standard output for `-`.

    Both are UTF-8, but on a terminal, which has its own encoding.

    Raises:
        VsamError: If it is a folder, or can't be written.
    """
    path = output_path(out)
    if path is None:
        if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
            sys.stdout.reconfigure(encoding="utf-8")
        try:
            yield sys.stdout
            sys.stdout.flush()
        except BrokenPipeError:
            raise  # nobody reads on: the command ends without a word
        except OSError as error:
            raise explain_os_error(error, "write to standard output") from error
        return
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        yield file


def jsonl_writer(file: TextIO) -> Writer:
    """Make a writer of one JSON object a line."""

    def write(image: str, description: dict[str, Any] | None, error: str) -> None:
        entry = {"image": image, **(description or {"error": error})}
        # ASCII: a line stays a line, whatever a file name holds.
        file.write(json.dumps(entry, allow_nan=False) + "\n")

    return write


class _LineFeeds:
    """Ends rows in a line feed.

    The csv module ends them in a carriage return and a line feed. Told to leave the former out, it
    would no longer put fields that hold one in quotes.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, row: str) -> int:
        return self._file.write(row.removesuffix("\r\n") + "\n")


def table_writer(file: TextIO) -> Any:
    r"""Make a `csv.writer` as all our tables have it: rows end in `\n`, and read back as written.

    Args:
        file: Opened with `newline=""`.
    """
    return csv.writer(_LineFeeds(file))


def csv_writer(file: TextIO, labels: Labels, *, all_scores: bool) -> Writer:
    """Make a writer of a table: image, category, score, attributes, error, details.

    `attributes` are their names; `details` is a JSON object of all that a description has beside
    category and score, so that no format says less than another. With all scores, a column for each
    category and attribute follows.
    """
    scored = [("categories", name) for name in labels.categories]
    scored += [("attributes", name) for name in labels.attributes]
    table = table_writer(file)
    header = [*_COLUMNS, *(f"{kind}:{name}" for kind, name in scored if all_scores)]
    table.writerow(header)

    def write(image: str, description: dict[str, Any] | None, error: str) -> None:
        if description is None:
            table.writerow([image, "", "", "", error, *[""] * (len(header) - 5)])
            return
        names = ";".join(entry["label"] for entry in description["attributes"])
        details = {key: description[key] for key in description if key not in _COLUMNS[1:3]}
        row = [image, description["category"], description["score"], names, ""]
        row.append(json.dumps(details, allow_nan=False))
        if all_scores:
            scores = {
                (kind, entry["label"]): entry["score"]
                for kind in ("categories", "attributes")
                for entry in description[kind]
            }
            row += [scores[key] for key in scored]
        table.writerow(row)

    return write


@contextlib.contextmanager
def opened_parquet(path: Path, form: dict[str, Any]) -> Iterator[Writer]:
    """Make a writer of a Parquet file: the columns image, those of a description, error.

    Lists of labels are lists of structs. A row group has a bounded number of labels, so that
    memory stays the same whatever the number of rows.

    Args:
        path: The file; it is whole when the block ends.
        form: A description with all keys that may come up; columns have the types of its values.
            Without any, all rows are errors.
    """
    import pyarrow
    from pyarrow import parquet

    fields = list(pyarrow.infer_type([form])) if form else []
    text = pyarrow.string()
    schema = pyarrow.schema([("image", text), *((f.name, f.type) for f in fields), ("error", text)])
    rows: list[dict[str, Any]] = []
    held = 0

    with parquet.ParquetWriter(path, schema, compression="zstd") as table:

        def flush() -> None:
            nonlocal held
            if rows:
                table.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
            rows.clear()
            held = 0

        def write(image: str, description: dict[str, Any] | None, error: str) -> None:
            nonlocal held
            rows.append({"image": image, **(description or {"error": error})})
            listed = (value for value in (description or {}).values() if isinstance(value, list))
            held += 1 + sum(map(len, listed))
            if held >= _CELLS_A_ROW_GROUP:
                flush()

        yield write
        flush()


def read_predictions(path: StrPath) -> Iterator[dict[str, Any]]:
    """Read what was written, whatever the format: for each photo what its JSON line says.

    Args:
        path: A file that ends in one of `FORMATS`.

    Raises:
        VsamError: If it can't be read or is no such file.
    """
    read = {"jsonl": _read_jsonl, "csv": _read_csv, "parquet": _read_parquet}
    try:
        yield from read[format_of(str(path))](Path(path))
    except ModuleNotFoundError:
        raise
    except OSError as error:
        raise explain_os_error(error, f"read {path}") from error
    except (ValueError, KeyError, TypeError, csv.Error, RecursionError) as error:
        raise VsamError(f"Expected {path} to be a file of predictions, but it is not.") from error


def format_of(out: str) -> str:
    """Tell the format from a file's ending; a name without one, or `-`, means JSON lines.

    Raises:
        VsamError: If it is none.

    >>> format_of("new/p.parquet"), format_of("-")
    ('parquet', 'jsonl')
    """
    suffix = Path(out).suffix.lower().removeprefix(".")
    if suffix in ("", "json", "ndjson"):
        return "jsonl"
    if suffix not in FORMATS:
        raise VsamError(
            f"Expected `--out` to end in .jsonl, .csv or .parquet, but got {out}. Name another "
            "file, or choose with --format."
        )
    return suffix


def _read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield dict(json.loads(line))
            except (ValueError, TypeError, RecursionError) as error:
                raise VsamError(
                    f"Expected line {number} of {path} to be a prediction, but it isn't. Give a "
                    "file that vsam-predict wrote."
                ) from error


def _read_csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        for row in _wide_rows(csv.DictReader(file)):
            if not row["details"]:
                yield {"image": row["image"], "error": row["error"]}
                continue
            yield {
                "image": row["image"],
                "category": row["category"],
                "score": float(row["score"]),
                **json.loads(row["details"]),
            }


def _wide_rows(table: csv.DictReader[str]) -> Iterator[dict[str, str]]:
    """Read rows with wide fields; the limit is the process's, so it is given back after each."""
    while True:
        before = csv.field_size_limit(_WIDEST_FIELD)
        try:
            row = next(table, None)
        finally:
            csv.field_size_limit(before)
        if row is None:
            return
        yield row


def _read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=256):
            yield from map(_without_nulls, batch.to_pylist())


def _without_nulls(value: Any) -> Any:
    """Leave out what a row or a struct does not have."""
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


def shrink_for_overlay(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale an (H, W, 3) photo down to what an overlay needs."""
    return shrink(photo, _OVERLAY_SIDE)


def write_attention(folder: Path, image: str, picture: NDArray[np.uint8]) -> Path:
    """Write a picture of the attention as `folder/<image>.attention.jpg`.

    What is too long for a file's or a folder's name is cut, and ends in a hash.

    Args:
        folder: For the pictures; sub-folders follow the id.
        image: The photo's id.
        picture: (H, W, 3) uint8 RGB, as `Prediction.picture` draws it.

    Raises:
        VsamError: If the picture can't be written.
    """
    import cv2

    done, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert done
    path = _attention_path(folder, image)
    write_bytes(path, data.tobytes())
    return path


def remove_attention(folder: Path, image: str) -> None:
    """Remove the picture that `write_attention` made of a photo, if there is one.

    Raises:
        VsamError: If it can't be removed.
    """
    path = _attention_path(folder, image)
    try:
        path.unlink(missing_ok=True)
    except NotADirectoryError:  # so there is none
        pass
    except OSError as error:
        raise explain_os_error(error, f"remove {path}") from error


def _attention_path(folder: Path, image: str) -> Path:
    *above, name = image.split("/")
    within = folder.joinpath(*(_fitting(part, _LONGEST_FOLDER) for part in above))
    return within / f"{_fitting(name, _LONGEST_FILE)}{ATTENTION_SUFFIX}"


def _fitting(name: str, longest: int) -> str:
    """Cut a name to so many bytes of UTF-8; a hash of the whole keeps it apart from others."""
    data = name.encode()
    if len(data) <= longest:
        return name
    mark = f"~{hashlib.sha256(data).hexdigest()[:16]}"
    return data[: longest - len(mark)].decode(errors="ignore") + mark
