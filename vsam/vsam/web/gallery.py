"""A folder's predictions: read from a file, filtered, shown with small pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from vsam_heatmaps.errors import UnreadablePhotoError, VsamError

from .. import prediction_files
from .markup import nothing_yet, render
from .pictures import thumbnail
from .tagging import Tagger

PAGE = 24
"""Photos on a page of the gallery."""

_KEPT_THUMBNAILS = 1000  # some 15 kB each
_THREADS = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """One photo of the gallery.

    Attributes:
        image: The photo's id.
        category: The likeliest, or empty if the photo was unreadable.
        score: Its probability.
        attributes: Those above their thresholds, with probabilities, the likeliest first.
        error: Why the photo was unreadable, else empty.
        picture: A small JPEG as a data: URI, of photos that a visitor gave.
    """

    image: str
    category: str = ""
    score: float = 0.0
    attributes: tuple[tuple[str, float], ...] = ()
    error: str = ""
    picture: str = ""


def read_predictions(path: Path) -> list[Entry]:
    """Read what `vsam-predict` wrote, in any of its formats.

    Raises:
        VsamError: If it can't be read, or a line is no prediction.
    """
    entries: list[Entry] = []
    for number, line in enumerate(prediction_files.read_predictions(path), 1):
        try:
            entries.append(entry_of(line))
        except (ValueError, TypeError, KeyError) as error:
            raise VsamError(
                f"Expected line {number} of {path} to be a prediction, but it isn't. Give a file "
                "that vsam-predict wrote."
            ) from error
    return entries


def entry_of(line: dict[str, Any], *, picture: str = "") -> Entry:
    """Take what the gallery shows out of a line of predictions.

    Raises:
        ValueError, TypeError, KeyError: If it is none.
    """
    image = line["image"]
    if not isinstance(image, str):
        raise TypeError
    if "error" in line:
        return Entry(image, error=str(line["error"]), picture=picture)
    attributes = [(str(one["label"]), _score(one["score"])) for one in line["attributes"]]
    category = str(line["category"])
    return Entry(image, category, _score(line["score"]), tuple(attributes), picture=picture)


def _score(value: Any) -> float:
    score = float(value)
    if not 0 <= score <= 1:
        raise ValueError(value)
    return score


@dataclass(frozen=True)
class Wanted:
    """What a visitor is looking for; empty values want everything.

    Attributes:
        category: It must be this one.
        attributes: It must have all of them.
        text: Each of its words must occur in the id, the category, an attribute or the error.
    """

    category: str = ""
    attributes: tuple[str, ...] = ()
    text: str = ""

    def fits(self, entry: Entry) -> bool:
        """Say whether a photo is among those wanted.

        >>> dress = Entry("a/1.jpg", "Dress", 0.9, (("floral", 0.8),))
        >>> Wanted(text="FLORAL a/1").fits(dress), Wanted(attributes=("dotted",)).fits(dress)
        (True, False)
        """
        if self.category and entry.category != self.category:
            return False
        labels = [label for label, _ in entry.attributes]
        if not set(self.attributes) <= set(labels):
            return False
        if not self.text.strip():
            return True
        told = "\n".join([entry.image, entry.category, entry.error, *labels]).casefold()
        return all(word in told for word in self.text.casefold().split())


class Gallery:
    """The photos of a predictions file, and how all are shown.

    Args:
        entries: From `read_predictions`.
        photos: The folder that ids are relative to.
        tagger: Reads photos within the limits.
    """

    def __init__(self, entries: Sequence[Entry], photos: Path | None, tagger: Tagger) -> None:
        self.entries = list(entries)
        self._photos = None if photos is None else photos.resolve()
        self._tagger = tagger
        self._thumbnail = lru_cache(_KEPT_THUMBNAILS)(self._make_thumbnail)

    def show(self, given: Sequence[Entry], wanted: Wanted, page: int) -> tuple[str, int, int]:
        """Show a page of the photos that are wanted.

        Args:
            given: Photos that a visitor gave; they come first.
            wanted: Which photos.
            page: Which page, from 0; the last one if there are fewer.

        Returns:
            HTML, the page that it shows, and how many pages there are.
        """
        every = [*given, *self.entries]
        if not every:
            return nothing_yet("Give photos above: they are shown here with their tags."), 0, 1
        found = [entry for entry in every if wanted.fits(entry)]
        pages = max(1, math.ceil(len(found) / PAGE))
        page = min(max(page, 0), pages - 1)
        shown = found[page * PAGE : (page + 1) * PAGE]
        with ThreadPoolExecutor(_THREADS) as pool:
            cards = [
                (entry, *picture)
                for entry, picture in zip(shown, pool.map(self._picture, shown), strict=True)
            ]
        html = render(
            "gallery.html",
            cards=cards,
            found=len(found),
            total=len(every),
            page=page,
            pages=pages,
        )
        return html, page, pages

    def _picture(self, entry: Entry) -> tuple[str, str]:
        """Give an entry's small picture, or a sentence that says why there is none."""
        if entry.picture:
            return entry.picture, ""
        if entry.error:
            return "", "No picture"
        try:
            return self._thumbnail(entry.image), ""
        except UnreadablePhotoError as error:
            return "", f"No picture: {error}."

    def _make_thumbnail(self, image: str) -> str:
        if self._photos is None:
            raise UnreadablePhotoError("it was not given here")
        path = inside(self._photos, image)
        if path is None:
            raise UnreadablePhotoError("it lies outside the folder of photos")
        return thumbnail(self._tagger.read(path))


def inside(folder: Path, image: str) -> Path | None:
    """Find the file of an id in a folder; None if the id, or a link on its way, leads out of it.

    Args:
        folder: Resolved.
        image: A relative path with `/` between its parts.
    """
    try:
        path = folder.joinpath(*PurePosixPath(image).parts).resolve()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL in it, a loop of links
        return None
    return path if path != folder and path.is_relative_to(folder) else None


def choices(entries: Sequence[Entry]) -> tuple[list[str], list[str]]:
    """List the categories and the attributes that occur, sorted."""
    categories = {entry.category for entry in entries if entry.category}
    attributes = {label for entry in entries for label, _ in entry.attributes}
    return sorted(categories), sorted(attributes)
