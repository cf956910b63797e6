"""Read a large JSON file one list item at a time: annotations of COCO take a gigabyte at once."""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from ..errors import VsamError, explain_os_error

_CHUNK = 1 << 20  # bytes read at once
# A number that ends where the text read so far ends may go on. No sensible one is as long as this,
# and a longer one that is cut is refused: what follows is no delimiter.
_AHEAD = 1 << 12

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


class JsonStream:
    """Goes through a JSON document once. Used as a context manager.

    Each name that `members` gives must be followed by taking its value with `items`, `value` or
    `skip`.

    Args:
        path: A UTF-8 file.

    Raises:
        VsamError: If it can't be read; all methods do if it is not JSON.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._text = ""
        self._at = 0
        self._before = 0  # characters before the text
        self._hash = hashlib.sha256()
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise explain_os_error(error, f"read {path}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def peek(self) -> str:
        """Look at the next character that is no space; empty at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            assert space is not None, "the pattern matches nothing, too"
            self._at = space.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def members(self) -> Iterator[str]:
        """Give the names of an object's members, in order."""
        self._take("{")
        while self.peek() != "}":
            if self.peek() != '"':
                raise self._not_json("a member's name is missing")
            name = self.value()
            self._take(":")
            yield name
            if self.peek() != "}":
                self._take(",")
                if self.peek() == "}":
                    raise self._not_json("a comma too many")
        self._take("}")

    def items(self) -> Iterator[Any]:
        """Give a list's items, in order."""
        self._take("[")
        while self.peek() != "]":
            yield self.value()
            if self.peek() != "]":
                self._take(",")
                if self.peek() == "]":
                    raise self._not_json("a comma too many")
        self._take("]")

    def value(self) -> Any:
        """Take a whole value."""
        self.peek()
        while True:
            if len(self._text) - self._at < _AHEAD and self._more():
                continue
            try:
                value, self._at = _DECODER.raw_decode(self._text, self._at)
                return value
            except json.JSONDecodeError as error:
                if not self._more():
                    self._at = error.pos
                    raise self._not_json(error.msg) from error
            except (ValueError, RecursionError) as error:  # a number or a nesting without end
                raise self._not_json(str(error).split(":")[0]) from error

    def skip(self) -> None:
        """Pass over a value; the items of a list are forgotten one by one."""
        if self.peek() == "[":
            for _ in self.items():
                pass
        else:
            self.value()

    def finish(self) -> str:
        """Check that nothing follows, and give the file's SHA-256, hexadecimal."""
        if self.peek():
            raise self._not_json("something follows its end")
        return self._hash.hexdigest()

    def _take(self, character: str) -> None:
        if self.peek() != character:
            raise self._not_json(f"{character!r} is missing")
        self._at += 1

    def _more(self) -> bool:
        """Read on; False at the end of the file."""
        left = self._text[self._at :]
        try:
            # As much again: a value of any length is decoded a few times at most.
            data = self._file.read(max(_CHUNK, len(left)))
            read = self._decode(data, final=not data)
        except OSError as error:
            raise explain_os_error(error, f"read {self.path}") from error
        except UnicodeDecodeError as error:
            raise VsamError(f"Could not read {self.path}: it is not JSON in UTF-8.") from error
        self._hash.update(data)
        self._before += self._at
        self._text, self._at = left + read, 0
        return bool(data)

    def _not_json(self, reason: str) -> VsamError:
        at = self._before + self._at
        return VsamError(
            f"Could not read {self.path}: it is not JSON, or is cut off ({reason} at character "
            f"{at})."
        )
