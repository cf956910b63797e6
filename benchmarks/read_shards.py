"""Measure random access to the records of a folder of shards, and how large they are.

One core: torch is held to one thread, and the DataLoader has no worker processes. Every record is
read once a turn, in an order of its own.

Usage: python benchmarks/read_shards.py SHARDS [--repeats 5] [--batch-size 64]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from vsam_heatmaps.shards import Shards


class Maps(Dataset[np.ndarray]):
    """The heatmaps of each record, (C, H, W) uint8."""

    def __init__(self, shards: Shards) -> None:
        self._shards, self._ids = shards, list(shards.ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._shards[self._ids[index]].heatmaps


def read_records(shards: Shards, seed: int) -> None:
    """Read whole records, one after the other."""
    ids = list(shards.ids)
    random.Random(seed).shuffle(ids)
    for id_ in ids:
        shards[id_]


def load_maps(shards: Shards, seed: int, batch_size: int) -> None:
    """Read the maps as training does: shuffled, in batches."""
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(Maps(shards), batch_size, shuffle=True, generator=generator)
    assert sum(len(batch) for batch in loader) == len(shards)


def main() -> None:
    """Measure by turns and print medians as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    shards = Shards(arguments.shards)
    ways: dict[str, Callable[[int], None]] = {
        "records": lambda seed: read_records(shards, seed),
        "dataloader_maps": lambda seed: load_maps(shards, seed, arguments.batch_size),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(arguments.repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way(repeat)
            if repeat:  # the first turn warms up
                rates[name].append(len(shards) / (time.perf_counter() - start))
    shards.close()
    stored, raw = 0, 0  # of all data sets; what is stored includes HDF5's own structures
    stored_maps, raw_maps = 0, 0
    for path in shards.files:
        stored += path.stat().st_size
        with h5py.File(path, locking=False) as file:
            raw += sum(data.nbytes for data in file.values())
            raw_maps += file["heatmaps"].nbytes
            stored_maps += file["heatmaps"].id.get_storage_size()
    figures = {
        "records": len(shards),
        "shards": len(shards.files),
        "records_per_second": {name: round(statistics.median(v)) for name, v in rates.items()},
        "bytes_per_record": round(stored / len(shards)),
        "raw_bytes_per_record": round(raw / len(shards)),
        "share_of_raw": round(stored / raw, 3),
        "share_of_raw_maps": round(stored_maps / raw_maps, 3),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
