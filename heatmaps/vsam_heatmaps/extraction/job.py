"""What an extraction gives to whoever runs it, on one machine or on many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..shards import ShardInfo
from .resuming import Settled
from .workers import Outcome, Task, Work, Written


@dataclass(frozen=True)
class Job:
    """An extraction that is to be run.

    Attributes:
        work: What is done with a photo.
        info: What the shards share.
        out: The folder of shards.
        shard_size: Photos a shard.
        workers: How many photos are looked at at once; None: one for each core.
        max_seconds: How long a photo may take.
    """

    work: Work
    info: ShardInfo
    out: Path
    shard_size: int
    workers: int | None
    max_seconds: float


Settle = Callable[[Task, Outcome | Written], Settled]
"""Finds out what an outcome means; raises to stop the run. See `Earlier.settle`."""

Settlements = Iterator[tuple[Task, Settled]]
"""Each task with what became of it, when its record is written or about to be."""
