"""The same tagging on a Ray cluster (https://docs.ray.io): each actor has a model of its own.

The main process cuts the photos into blocks of whole batches, so that the model sees the same
batches as on one machine, and writes lines as they come back. An actor that dies is replaced, and
its block is done again. Photos, the model and the folder for pictures of the attention must be
under the same paths on all machines, with `vsam[ray,train]` installed on them.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from vsam_heatmaps.errors import VsamError
from vsam_heatmaps.ray_cluster import cluster

from .lines import Block, Task
from .options import FolderOptions, hash_model
from .tagging import Tagger

# Photos decode while the model works within a block; more batches wait longer for it to be kept.
_BATCHES_A_BLOCK = 4

# Blocks that are handed to Ray at once: their lists of photos lie in its object store. Between two
# waves actors are started anew.
_BLOCKS_A_WAVE = 1024

_DECODERS = 2  # threads beside each actor's model


class _BlockTagger:
    """Tags one block after the other: the class of Ray's actors."""

    def __init__(self, run: Path, model: str, options: FolderOptions) -> None:
        self._run, self._model, self._options = run, model, options

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        return {"done": [pickle.dumps(self._tag(pickle.loads(tasks))) for tasks in batch["tasks"]]}

    def _tag(self, tasks: list[Task]) -> Block | VsamError:
        try:
            lines = [line for block, _ in self._tagger.blocks(tasks) for line in block]
        except VsamError as error:  # what is raised here comes back as mere text
            return error
        return lines, self._tagger.form

    @cached_property
    def _tagger(self) -> Tagger:
        # Not when the actor starts: what goes wrong there can't be given back.
        run = _here(self._run, self._options)
        if hash_model(run) != self._model:
            raise VsamError(
                f"Expected the model {self._options.model} to be the same on every machine of the "
                f"cluster, but it is another one on {os.uname().nodename}. Put it into a folder "
                "that all share."
            )
        return Tagger(run, self._options, _DECODERS)


def _here(run: Path, options: FolderOptions) -> Path:
    """Find the model on this machine: one of the hub lies in the cache that each has."""
    from ..hub import find_run

    return run if run.exists() else find_run(options.model, revision=options.revision)


@contextlib.contextmanager
def ray_engine(
    run: Path, options: FolderOptions
) -> Iterator[Callable[[Iterable[Task]], Iterator[Block]]]:
    """Give an engine on the cluster that `RAY_ADDRESS` names, or on one started here.

    Args:
        run: The model's folder.
        options: How; `workers` is the number of actors, each on one CPU, and on one GPU where the
            cluster has any and the device may be one.

    Raises:
        VsamError: If Ray isn't there, or what an actor raises.
    """
    import ray

    model = hash_model(run)
    with cluster(options.workers):
        resources = ray.cluster_resources()
        gpus = 0 if options.device == "cpu" else int(resources.get("GPU", 0))
        most = gpus or int(resources.get("CPU", 1))
        actors = min(options.workers or most, most)

        def engine(tasks: Iterable[Task]) -> Iterator[Block]:
            source, size = iter(tasks), options.batch_size * _BATCHES_A_BLOCK
            blocks = iter(lambda: list(islice(source, size)), [])
            while wave := list(islice(blocks, _BLOCKS_A_WAVE)):
                yield from _wave(wave, min(actors, len(wave)), bool(gpus), (run, model, options))

        yield engine


def _wave(
    blocks: list[list[Task]], actors: int, on_gpu: bool, arguments: tuple[object, ...]
) -> Iterator[Block]:
    import ray
    from ray.data import ActorPoolStrategy

    rows = [{"tasks": pickle.dumps(tasks)} for tasks in blocks]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        _BlockTagger,
        batch_size=1,
        compute=ActorPoolStrategy(size=actors),
        fn_constructor_args=arguments,
        num_cpus=1,
        num_gpus=1 if on_gpu else None,
    )
    for row in dataset.iter_rows():
        done = pickle.loads(row["done"])
        if isinstance(done, VsamError):
            raise done
        yield done
