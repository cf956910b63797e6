"""What is known of one photo: the unit that engines make, the journal keeps and outputs hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vsam_heatmaps.photos import Photo
from vsam_heatmaps.photos.photo import stamp_of

from .pictures import Picture

Stamp = tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """A photo to be tagged.

    Attributes:
        photo: The photo.
        picture: Whether the report shows it.
        again: Its line is there already, and only the picture for the report is wanted.
    """

    photo: Photo
    picture: bool = False
    again: bool = False


@dataclass(frozen=True)
class Line:
    """What the output says of a photo.

    Attributes:
        image: The photo's id.
        stamp: The photo's from before it was read, see `stamp_of_photo`.
        entry: `Prediction.describe()`, or `error` alone.
        said: Names of the attributes above their thresholds.
        picture: For the report, if it shows the photo and that could be read.
    """

    image: str
    stamp: Stamp | None
    entry: dict[str, Any]
    said: tuple[str, ...] = ()
    picture: Picture | None = None

    @property
    def error(self) -> str:
        """Why the photo could not be read; empty if it could."""
        return str(self.entry.get("error", ""))


Block = tuple[Sequence[Line], dict[str, Any]]
"""Lines that are kept together or not at all, and the form of what is said, see `form_of`."""


def stamp_of_photo(photo: Photo) -> Stamp | None:
    """Tell a photo's state: what differs when its contents have changed, None if it isn't there."""
    held = getattr(photo, "stamp", None)
    if held is not None:  # in another file, and that changes with it
        return tuple(held)
    try:
        return stamp_of(photo.path.stat())
    except OSError:
        return None


def form_of(description: dict[str, Any]) -> dict[str, Any]:
    """Make an example of all keys that a description may have, out of one with all scores.

    Of a list one entry is left, with the keys of all. Tables take their columns' types from it.

    >>> form_of({"score": 0.5, "attributes": [{"label": "a"}, {"label": "b", "region": "head"}]})
    {'score': 0.5, 'attributes': [{'label': 'a', 'region': 'head'}]}
    """
    form = {
        key: [{name: entry[name] for entry in reversed(value) for name in entry}]
        if isinstance(value, list)
        else value
        for key, value in description.items()
    }
    # A model without attributes says nothing of their form.
    return {key: value if value != [{}] else form["categories"] for key, value in form.items()}
