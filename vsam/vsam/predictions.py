"""What is said about a photo. Nothing of torch."""

from __future__ import annotations

from typing import NamedTuple

TOP_CATEGORIES = 5
"""Categories that are listed unless all are wanted."""


class LabelScore(NamedTuple):
    """A category or an attribute with its probability, 0..1."""

    label: str
    score: float
