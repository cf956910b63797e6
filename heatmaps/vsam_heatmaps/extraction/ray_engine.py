"""The same extraction on a Ray cluster (https://docs.ray.io): each actor writes its own shards.

The main process lists the photos and cuts the list into blocks of one shard each. A block's shard
has its name from the start, so a block that is done again, after a machine was lost, replaces its
own shard and doubles nothing. The name bears a mark of the run: actors that outlive a killed main
process for a moment can't overwrite a shard of the next run. Only what became of each photo comes
back to the main process: some bytes a photo, whatever the maps' size. Photos and shards must be
under the same paths on all machines, and `vsam[ray]` must be installed on them.
"""

from __future__ import annotations

import os
import pickle
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from ..engines import Engine, Lookup
from ..errors import VsamError
from ..pose_model import find_pose_model
from ..ray_cluster import cluster
from ..shards import Record, write_shard
from ..shards.writer import ShardWriter, next_shard_number, shard_path
from .job import Job, Settle, Settlements
from .worker_pool import WorkerPool
from .workers import Moved, Task, Unchanged, Written

# Blocks that are handed to Ray at once: their lists of photos lie in its object store, some 100 MB
# for two million photos. Between two waves actors are started anew.
_BLOCKS_A_WAVE = 4096


@dataclass(frozen=True)
class _Block:
    """Photos whose new records make one shard.

    Attributes:
        start: Position of the first of them among all tasks.
        path: Where the shard is written.
        tasks: The photos.
    """

    start: int
    path: Path
    tasks: Sequence[Task]


_Outcomes = list[Written | Unchanged | Moved]


class _BlockMaker:
    """Makes one block after the other: the class of Ray's actors.

    It has a worker process of its own, so that a photo that kills its worker is dealt with as on a
    single machine, and the actor lives on.
    """

    def __init__(self, job: Job) -> None:
        self._job = replace(job, work=replace(job.work, engine=_here(job.work.engine)))
        self._pool = WorkerPool(1, self._job.work, max_seconds=job.max_seconds)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        blocks = [pickle.loads(block) for block in batch["block"]]
        # Not the photos: the main process makes these tasks again faster than it would unpack them.
        done = [pickle.dumps(self._make(block)) for block in blocks]
        return {"start": [block.start for block in blocks], "done": done}

    def _make(self, block: _Block) -> _Outcomes:
        records: list[Record] = []
        outcomes: _Outcomes = []
        for _, outcome in self._pool.outcomes(iter(block.tasks)):
            if isinstance(outcome, Record):
                records.append(outcome)
                outcomes.append(Written(outcome.status, outcome.reason))
            else:
                outcomes.append(outcome)
        if records:
            write_shard(block.path, self._job.info, records)
        return outcomes


def _here(engine: Engine | Lookup) -> Engine | Lookup:
    """Find the pose model on this machine: it must be the one that the main process has.

    Raises:
        VsamError: If it is another one.
    """
    if isinstance(engine, Lookup) or engine.model.path.exists():
        return engine
    model = find_pose_model()
    if model.sha256 != engine.model.sha256:
        raise VsamError(
            f"Expected the pose model {engine.model.path} to be on every machine of the cluster, "
            f"but it is not on {os.uname().nodename}. Put it into a folder that all share."
        )
    return replace(engine, model=model)


def run_on_ray(job: Job, tasks: Sequence[Task], settle: Settle) -> Settlements:
    """Make records on the Ray cluster that `RAY_ADDRESS` names, or on one started here.

    Args:
        job: What is to be done; `workers` is the number of actors, each on one CPU.
        tasks: The photos.
        settle: See `Settle`.

    Raises:
        VsamError: If Ray isn't there, or what a worker raises.
    """
    import ray
    import ray.data

    number = next_shard_number(job.out)
    blocks = -(-len(tasks) // job.shard_size)
    with (
        cluster(job.workers),
        # For the records that are kept under a new name: they are copied here.
        ShardWriter(job.out, job.info, job.shard_size, number + blocks) as writer,
    ):
        cpus = int(ray.cluster_resources().get("CPU", 1))
        actors = min(job.workers or cpus, cpus, blocks)
        for start, outcomes in _blocks_done(job, _in_blocks(job, tasks, number), actors):
            its_tasks = tasks[start : start + len(outcomes)]
            for task, outcome in zip(its_tasks, outcomes, strict=True):
                settled = settle(task, outcome)
                if settled.record is not None:
                    writer.add(settled.record)
                yield task, settled


def _in_blocks(job: Job, tasks: Sequence[Task], number: int) -> Iterator[_Block]:
    run = secrets.token_hex(4)
    for start in range(0, len(tasks), job.shard_size):
        path = shard_path(job.out, number, run)
        yield _Block(start, path, tasks[start : start + job.shard_size])
        number += 1


def _blocks_done(
    job: Job, blocks: Iterator[_Block], actors: int
) -> Iterator[tuple[int, _Outcomes]]:
    """Give where each block starts and its outcomes, as soon as its shard is written."""
    import ray
    from ray.data import ActorPoolStrategy

    while wave := [{"block": pickle.dumps(block)} for block in islice(blocks, _BLOCKS_A_WAVE)]:
        dataset = ray.data.from_items(wave, override_num_blocks=len(wave)).map_batches(
            _BlockMaker,
            batch_size=1,
            compute=ActorPoolStrategy(size=actors),
            fn_constructor_args=(job,),
            num_cpus=1,
        )
        try:
            for row in dataset.iter_rows():
                yield int(row["start"]), pickle.loads(row["done"])
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, VsamError):
                raise error.cause from error
            raise
