"""Photos to begin with: out of a folder, or drawn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vsam_heatmaps.errors import UnreadablePhotoError, VsamError
from vsam_heatmaps.photos import Photo, list_photos

from .pictures import thumbnail
from .tagging import Tagger

_COUNT = 6
_SEED = 8
_SIZE = (384, 512)  # of a drawing, in pixels


@dataclass(frozen=True)
class Example:
    """A photo that a visitor can choose.

    Attributes:
        name: What it is called.
        thumbnail: A small JPEG, as a data: URI.
        source: Its pixels, or the file that holds them.
    """

    name: str
    thumbnail: str
    source: NDArray[np.uint8] | Path


def find_examples(folder: Path, tagger: Tagger) -> list[Example]:
    """Take the first photos of a folder and its sub-folders that can be read.

    Raises:
        VsamError: If there is none.
    """
    examples: list[Example] = []
    reason = ""
    for photo in list_photos([folder]):
        if len(examples) == _COUNT:
            break
        if type(photo) is not Photo:  # inside another file
            continue
        try:
            examples.append(Example(photo.id, thumbnail(tagger.read(photo.path)), photo.path))
        except UnreadablePhotoError as error:
            reason = reason or f"{photo.id}: {error}"
    if not examples:
        raise VsamError(
            f"Expected --examples to hold photos, but none of {folder} could be read. {reason}"
        )
    return examples


def draw_examples() -> list[Example]:
    """Draw mannequins, each in another kind of garment."""
    from vsam_datasets.mannequins import draw_mannequin

    examples: dict[str, Example] = {}
    index = 0
    while len(examples) < _COUNT:
        drawn = draw_mannequin(index, _SEED, size=_SIZE)
        index += 1
        name = f"{drawn.category.lower()}.png"
        examples.setdefault(name, Example(name, thumbnail(drawn.photo), drawn.photo))
    return list(examples.values())
