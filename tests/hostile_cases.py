"""A list of files, and what must come of each when it is decoded."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Make = Callable[[], bytes]


@dataclass(frozen=True)
class Case:
    """A file.

    Attributes:
        make: Makes its bytes; takes some milliseconds.
        outcome: What decoding must come to; `either` where decoders may differ.
        reason: A part of the reason, if it is unreadable.
        size: Width and height of the upright photo, if it is readable.
        max_pixels: The limit under which it is meant to be decoded.
    """

    make: Make
    outcome: Literal["readable", "unreadable", "either"]
    reason: str = ""
    size: tuple[int, int] | None = None
    max_pixels: int = 4_000_000


class Cases(dict[str, Case]):
    """Cases by name."""

    def readable(self, name: str, make: Make, size: tuple[int, int] | None = None) -> None:
        self._put(name, Case(make, "readable", size=size))

    def refused(self, name: str, make: Make, reason: str, **options: int) -> None:
        self._put(name, Case(make, "unreadable", reason, **options))

    def either(self, name: str, make: Make) -> None:
        self._put(name, Case(make, "either"))

    def _put(self, name: str, case: Case) -> None:
        assert name not in self, name
        self[name] = case
