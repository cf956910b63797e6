"""The journal: finished lines of an unfinished run, in a file that survives being killed.

A block is some lines and a closing one with their number and checksum, written at once. When the
file is opened again, what follows the last whole block is cut off: so a block's lines are all there
or none of them is. A line is its head, a tab, and the photo's entry, both JSON, which has no bare
tabs. Of a photo that was tagged more than once the last line counts.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vsam_heatmaps.errors import explain_os_error

from .lines import Line, Stamp

_CLOSING = b"="
_ERROR = b'{"error":'
_SECONDS_BETWEEN_SYNCS = 1.0

Found = Callable[[str, Stamp | None, int], None]
"""Is told of a line: the photo's id and stamp, and where the line begins in the file.

The stamp of a photo that could not be read is None: it is tried again, for what was mended need not
be the photo itself, but its permissions or the disk.
"""


class Journal:
    """Finished lines in a file.

    Args:
        path: The file; it is made if it isn't there.

    Attributes:
        form: The form of what the lines say, see `form_of`; empty before any.
        lines: How many there are.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.form: dict[str, Any] = {}
        self.lines = 0
        self._synced = 0.0
        try:
            path.touch()
            self._file = path.open("rb+")
        except OSError as error:
            raise explain_os_error(error, f"write {path}") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def recover(self, found: Found = lambda image, stamp, offset: None) -> int:
        """Tell of all lines in whole blocks, in the order of writing, and cut off what follows.

        Returns:
            How many lines there are.
        """
        self._file.seek(0)
        whole = offset = 0
        block: list[tuple[str, Stamp | None, int]] = []
        checksum = 0
        self.lines = 0
        for line in self._file:
            try:
                if line.startswith(_CLOSING):
                    closing = json.loads(line[1:]) if line.endswith(b"\n") else {}
                    if (closing["lines"], closing["crc32"]) != (len(block), checksum):
                        break
                    self.form = closing["form"]
                    whole = offset + len(line)
                    for each in block:
                        found(*each)
                    self.lines += len(block)
                    block, checksum = [], 0
                else:
                    text, _, entry = line.partition(b"\t")
                    head = json.loads(text)
                    stamp = None if entry.startswith(_ERROR) else head["stamp"]
                    block.append((head["image"], stamp and tuple(stamp), offset))
                    checksum = zlib.crc32(line, checksum)
            except (ValueError, KeyError, TypeError):  # torn, or blocks that a power cut emptied
                break
            offset += len(line)
        self._file.truncate(whole)
        return self.lines

    def append(self, lines: Sequence[Line], form: dict[str, Any]) -> list[int]:
        """Add a block; give where each of its lines begins.

        Raises:
            VsamError: If the system refuses.
        """
        start = self._file.seek(0, os.SEEK_END)
        offsets, block = [], bytearray()
        for line in lines:
            offsets.append(start + len(block))
            head = {"image": line.image, "stamp": line.stamp, "said": line.said}
            entry = json.dumps(line.entry, allow_nan=False)
            block += json.dumps(head).encode() + b"\t" + entry.encode() + b"\n"
        closing = {"lines": len(lines), "crc32": zlib.crc32(block), "form": form}
        block += _CLOSING + json.dumps(closing).encode() + b"\n"
        try:
            self._file.write(block)
            self._file.flush()
            # A killed process loses nothing without it: it is for the power.
            if time.monotonic() - self._synced > _SECONDS_BETWEEN_SYNCS:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            raise explain_os_error(error, f"write {self._path}") from error
        self.form = form
        self.lines += len(lines)
        return offsets

    def read(self, offset: int) -> Line:
        """Read the line that begins there."""
        self._file.seek(offset)
        head, _, entry = self._file.readline().partition(b"\t")
        values = json.loads(head)
        stamp = values["stamp"] and tuple(values["stamp"])
        return Line(values["image"], stamp, json.loads(entry), tuple(values["said"]))
