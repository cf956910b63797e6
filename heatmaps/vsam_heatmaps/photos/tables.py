"""Photos in Parquet files, as Hugging Face and others keep them: in a column, beside labels."""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar

from ..errors import VsamError, expected, explain_os_error
from ..names import NameBlock
from .folders import prefix_within
from .photo import Photo, Stamp, id_from_stored, stamp_of
from .table_rows import TablePhoto, first_line, only_field, open_table

_IMAGE_NAMES = frozenset("image img photo picture jpg jpeg png webp".split())
_ID_NAMES = ("id", "image_id", "file_name", "__key__")


@dataclass(frozen=True, eq=False)
class Table:
    """The photos of a Parquet file, in the order of its rows; a `Source`.

    Attributes:
        path: The file.
        column: The column of the photos' bytes.
        starts: The first row of each row group.
        stamp: The file's when it was listed.
    """

    path: Path
    column: str
    starts: tuple[int, ...]
    stamp: Stamp
    sequential: ClassVar[bool] = True

    def photo(self, id_: bytes, place: int) -> Photo:
        """Make a photo."""
        group = bisect_right(self.starts, place) - 1
        start = self.starts[group]
        return TablePhoto(id_.decode(), self.path, self.column, group, start, place, self.stamp)


def find_in_table(
    path: Path, root: Path | None, image_column: str | None
) -> tuple[Table, Iterator[bytes]]:
    """Find the photos in a Parquet file, one in each row; give their ids in the order of the rows.

    Args:
        path: The file.
        root: The folder that ids are relative to.
        image_column: The column with the photos: of bytes, or of structs that have `bytes`. By
            default it is the only one of that kind, or the only such one with a usual name.

    Raises:
        VsamError: If it can't be read, is no whole Parquet file, or it is not clear which column
            holds the photos.
    """
    prefix = prefix_within(path, root)
    try:
        stamp = stamp_of(path.stat())
    except OSError as error:
        raise explain_os_error(error, f"read {path}") from error
    with _damage_told(path):
        file = open_table(path)
        metadata, schema = file.metadata, file.schema_arrow
        counts = [metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        if sum(counts) != metadata.num_rows:
            raise ValueError(f"it has {sum(counts)} rows, and should have {metadata.num_rows}")
    image = _image_column(path, schema, image_column)
    column = f"{image}.bytes" if _is_struct(schema, image) else image
    source = Table(path, column, tuple(accumulate(counts[:-1], initial=0)), stamp)
    with _damage_told(path):
        names = _stored_ids(file, schema, image)
    if names is not None:
        return source, (prefix + name for name in names)
    prefix = prefix or prefix_within(path, path.parent)
    digits = len(str(metadata.num_rows - 1))
    return source, (prefix + b"%0*d" % (digits, row) for row in range(metadata.num_rows))


def _image_column(path: Path, schema: Any, given: str | None) -> str:
    """Choose the column that holds the photos; see `find_in_table`."""
    there = [field.name for field in schema if _holds_bytes(field.type)]
    named = [name for name in there if name.lower() in _IMAGE_NAMES]
    if given is not None and given not in there:
        said = ", ".join(there) or "none"
        raise expected("image_column", f"a column of images in {path} ({said})", repr(given))
    if not there:
        columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise VsamError(
            f"Expected `{path}` to have a column of images (binary, or a struct with `bytes`), "
            f"but it has: {columns}."
        )
    for chosen in ([given] if given is not None else [], there, named):
        if len(chosen) == 1:
            return chosen[0]
    raise VsamError(
        f"Expected `{path}` to have one column of images, but it has {', '.join(there)}. "
        "Name one with --image-column."
    )


def _holds_bytes(kind: Any) -> bool:
    """Whether a column of this type can hold photos."""
    from pyarrow import types

    if types.is_struct(kind):
        field = kind.get_field_index("bytes")
        return field >= 0 and _holds_bytes(kind.field(field).type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _is_struct(schema: Any, column: str) -> bool:
    from pyarrow import types

    return bool(types.is_struct(schema.field(column).type))


def _stored_ids(file: Any, schema: Any, image: str) -> NameBlock | None:
    """Read ids from the first column that has a usable one for each row, all different."""
    kind = schema.field(image).type
    if _is_struct(schema, image) and kind.get_field_index("path") >= 0:
        nested = _holds_names(kind.field("path").type)
        names = _read_ids(file, f"{image}.path") if nested else None
        if names is not None:
            return names
    for column in _ID_NAMES:
        if column in schema.names and _holds_names(schema.field(column).type):
            names = _read_ids(file, column)
            if names is not None:
                return names
    return None


def _holds_names(kind: Any) -> bool:
    from pyarrow import types

    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_integer(kind)
    )


def _read_ids(file: Any, column: str) -> NameBlock | None:
    import pyarrow

    names = NameBlock()
    for batch in file.iter_batches(batch_size=1 << 16, columns=[column], use_threads=False):
        values = only_field(batch.column(0))
        for stored in values.cast(pyarrow.string()).cast(pyarrow.binary()).to_pylist():
            try:
                id_ = id_from_stored((stored or b"").decode())
            except UnicodeDecodeError:
                return None
            if id_ is None:
                return None
            names.add(id_.encode())
    if len(names) != file.metadata.num_rows:  # pyarrow does not look whether columns are whole
        raise ValueError(f"{column} has {len(names)} rows, not {file.metadata.num_rows}")
    different = all(len(positions) == 1 for _, positions in names.groups())
    return names if different else None


@contextlib.contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError:
        raise  # pyarrow itself: the command tells how to install it
    except Exception as error:  # pyarrow raises whatever a damaged file leads it to
        raise VsamError(
            f"Could not read {path}: it is no Parquet file, truncated or damaged "
            f"({first_line(error)}). Make or fetch it again."
        ) from error
