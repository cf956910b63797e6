"""Measure how an extraction on Ray grows with the number of actors, beside local workers.

    python benchmarks/ray_scaling.py PHOTOS --actors 1 2

Ray is started once, on this machine. Each way runs with few and with many photos: the difference
gives the rate without the start (actors, networks), the rest is the start. By turns; medians. The
main process's own time a photo says how many photos a second it could hand out and take back at
most, whatever the number of machines.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path

import ray
import ray.data

from vsam_heatmaps import extract
from vsam_heatmaps.extraction import ExtractOptions
from vsam_heatmaps.photos import list_photos
from vsam_heatmaps.shards import Shards


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--few", type=int, default=400)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--shard-size", type=int, default=50)
    arguments = parser.parse_args()
    paths = [photo.path for photo in list_photos([arguments.photos])]
    logging.getLogger("ray").setLevel(logging.ERROR)
    ray.init(num_cpus=max(arguments.actors), include_dashboard=False, log_to_driver=False)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    ways = [(engine, count) for count in arguments.actors for engine in ("local", "ray")]
    times: dict[tuple[str, int], list[tuple[float, float, float]]] = {way: [] for way in ways}
    for turn in range(arguments.turns + 1):  # the first warms up
        for way in ways:
            few = _run(*way, paths[: arguments.few], arguments.shard_size)
            many = _run(*way, paths, arguments.shard_size)
            more = len(paths) - arguments.few
            rate = more / (many[0] - few[0])
            start = many[0] - len(paths) / rate
            own = (many[1] - few[1]) / more
            print(f"{turn}: {way}: {rate:.1f} photos/s, start {start:.1f} s", file=sys.stderr)
            if turn:
                times[way].append((rate, start, own))
    for (engine, count), runs in times.items():
        rate, start, own = (statistics.median(column) for column in zip(*runs, strict=True))
        figures = {"engine": engine, "actors": count, "photos_per_s": round(rate, 1)}
        figures |= {"range": [round(min(r[0] for r in runs), 1), round(max(r[0] for r in runs), 1)]}
        figures |= {"start_s": round(start, 1), "main_process_us_a_photo": round(1e6 * own)}
        print(json.dumps(figures))


def _run(engine: str, count: int, paths: list[Path], shard_size: int) -> tuple[float, float]:
    """Extract into an empty folder: seconds, and seconds of the main process's own work."""
    options = ExtractOptions(engine=engine, workers=count, shard_size=shard_size)
    with tempfile.TemporaryDirectory() as out:
        start, own = time.monotonic(), time.process_time()
        extract(paths, Path(out), options=options)
        seconds, own = time.monotonic() - start, time.process_time() - own
        assert len(Shards(out)) == len(paths)
    return seconds, own


if __name__ == "__main__":
    main()
