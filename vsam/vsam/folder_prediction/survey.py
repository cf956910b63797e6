"""Survey: figures over all lines of an output, in memory that does not grow with their number."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from .lines import Line

BINS = 20
"""Bins of the histogram of scores, each a twentieth wide."""

LISTED_ERRORS = 500
"""Unreadable photos that are listed one by one."""

# Reasons come from a few sentences with numbers and names in them.
_MAX_REASONS = 50


@dataclass
class Survey:
    """What all lines say together.

    Attributes:
        photos: How many there are.
        unreadable: How many of them could not be read.
        categories: Photos by category.
        attributes: Photos by attribute above its threshold; a photo may have several.
        scores: Photos by the score of their category: `BINS` counts.
        attribute_counts: Photos by how many attributes they have.
        reasons: Unreadable photos by reason, numbers made alike.
        errors: Id and reason of the first unreadable photos.
    """

    photos: int = 0
    unreadable: int = 0
    categories: Counter[str] = field(default_factory=Counter)
    attributes: Counter[str] = field(default_factory=Counter)
    scores: list[int] = field(default_factory=lambda: [0] * BINS)
    attribute_counts: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    errors: list[tuple[str, str]] = field(default_factory=list)

    def add(self, line: Line) -> None:
        """Count a line."""
        self.photos += 1
        if line.error:
            self.unreadable += 1
            reason = re.sub(r"\d+", "…", line.error)
            if reason not in self.reasons and len(self.reasons) >= _MAX_REASONS:
                reason = "other reasons"
            self.reasons[reason] += 1
            if len(self.errors) < LISTED_ERRORS:
                self.errors.append((line.image, line.error))
            return
        self.categories[line.entry["category"]] += 1
        self.attributes.update(line.said)
        self.attribute_counts[len(line.said)] += 1
        self.scores[min(int(line.entry["score"] * BINS), BINS - 1)] += 1
