"""Survey: one pass over a folder of shards, for the figures of a report and what it shows."""

from __future__ import annotations

import heapq
import random
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ..landmarks import landmark_set
from ..rendering import compose_regions
from ..shards import Record, Shards, Status

BINS = 20
"""Bins of the histogram of visibilities, each a twentieth wide."""

# Reasons come from a few sentences. Should another program have written all different ones, memory
# stays bounded.
_MAX_REASONS = 200
_EXAMPLES = 3
_SHAPES = ("tall", "portrait", "square", "landscape", "wide")


@dataclass
class Reason:
    """Unreadable photos with the same reason, but for its numbers.

    Attributes:
        text: The reason of the first of them.
        count: How many they are.
        examples: Ids of the first few.
    """

    text: str
    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class Survey:
    """What a folder of shards holds, in figures, and which of its photos a report shows.

    Attributes:
        visibilities: Photos with a pose by their joints' mean visibility: `BINS` counts.
        visibility: The mean of that over these photos; 0 without any.
        parts: For each body part how many photos have it in their maps.
        people: Photos that could be read by the number of people found.
        sides: Longer side in pixels of each photo that could be read.
        shapes: The same photos by their shape, from tall to wide.
        reasons: Of unreadable photos, the most frequent first.
        random: Ids of random photos with a pose, sorted.
        worst: Mean visibility and id of the photos where it is lowest, the lowest first.
        no_pose: Ids of random photos without a pose, sorted.
        unreadable: Ids of random unreadable photos, sorted.
    """

    visibilities: list[int] = field(default_factory=lambda: [0] * BINS)
    visibility: float = 0.0
    parts: dict[str, int] = field(default_factory=dict)
    people: Counter[int] = field(default_factory=Counter)
    sides: array[int] = field(default_factory=lambda: array("I"))
    shapes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_SHAPES, 0))
    reasons: list[Reason] = field(default_factory=list)
    random: list[str] = field(default_factory=list)
    worst: list[tuple[float, str]] = field(default_factory=list)
    no_pose: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def survey(
    shards: Shards, samples: int, seed: int, advance: Callable[[], None] = lambda: None
) -> Survey:
    """Read all records of a folder once.

    Beside what `Shards` keeps of it, a record takes 4 bytes.

    Args:
        shards: The folder.
        samples: How many ids of each kind are chosen at most.
        seed: Another seed chooses other random ones.
        advance: Called after each record.

    Raises:
        VsamError: If a shard is damaged.
    """
    result = Survey()
    parts = tuple(landmark_set(shards.info.landmarks).parts)
    result.parts = dict.fromkeys(parts, 0)
    reasons: dict[str, Reason] = {}
    chance = random.Random(seed)
    chosen = {status: _Lowest(samples) for status in Status}
    worst = _Lowest(samples)
    for record in shards:
        chosen[record.status].add(chance.random(), record.id)
        if record.status is Status.OK:
            visibility = float(np.nan_to_num(record.keypoints[:, 2]).mean().clip(0, 1))
            worst.add(visibility, record.id)
            result.visibilities[min(int(visibility * BINS), BINS - 1)] += 1
            result.visibility += visibility
            maps = compose_regions(record.heatmaps, record.channels, parts)
            for part, its_map in zip(parts, maps, strict=True):
                result.parts[part] += bool(its_map.any())
        if record.status is Status.UNREADABLE:
            _count_reason(reasons, record)
        else:
            width, height = record.size
            result.people[record.people] += 1
            result.sides.append(max(width, height, 0))
            result.shapes[_shape(width, height)] += 1
        advance()
    result.visibility /= max(1, sum(result.visibilities))
    result.reasons = sorted(reasons.values(), key=lambda reason: -reason.count)
    result.worst = list(worst)
    result.random, result.no_pose, result.unreadable = (
        sorted(id_ for _, id_ in chosen[status])
        for status in (Status.OK, Status.NO_POSE, Status.UNREADABLE)
    )
    return result


class _Lowest:
    """Keeps the few ids with the lowest keys, and gives them, the lowest first."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._heap: list[tuple[float, int, str]] = []
        self._added = 0

    def add(self, key: float, id_: str) -> None:
        self._added += 1
        # Negative, as a heap gives away its least; of equal keys those that came first are kept.
        entry = (-key, -self._added, id_)
        if len(self._heap) < self._count:
            heapq.heappush(self._heap, entry)
        elif self._count:
            heapq.heappushpop(self._heap, entry)

    def __iter__(self) -> Iterator[tuple[float, str]]:
        return ((-key, id_) for key, _, id_ in sorted(self._heap, reverse=True))


def _shape(width: int, height: int) -> str:
    if 2 * min(width, height) <= max(width, height):
        return "tall" if width < height else "wide"
    if 20 * abs(width - height) <= max(width, height):
        return "square"
    return "portrait" if width < height else "landscape"


def _count_reason(reasons: dict[str, Reason], record: Record) -> None:
    kind, text = re.sub(r"\d+", "0", record.reason), record.reason
    if kind not in reasons and len(reasons) >= _MAX_REASONS:
        kind, text = "", "other reasons"
    reason = reasons.setdefault(kind, Reason(text))
    reason.count += 1
    if len(reason.examples) < _EXAMPLES:
        reason.examples.append(record.id)
