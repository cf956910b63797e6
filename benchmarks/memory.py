"""Measure the memory of `extract` for few and for many photos: the whole tree of processes.

The same photos are given under many ids, as links in folders of a thousand. Looked up several
times a second (Linux only): the anonymous memory of the command and its workers, and on top of it
once the pages of files (libraries, networks), which the processes share, as many as the largest
process has. The proportional set size would depend on what else runs on the machine.

Without PHOTOS, sixteen tiny pictures without people are made: no landmarks are sought in them and
the networks' part is short, so that many fit into a few minutes. What grows with the number of
photos is the same. `--again` measures a second run over the same shards, too.

Usage: python benchmarks/memory.py [PHOTOS] [--counts 5000 40000] [--workers 2] [--again]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

TARGET = 200_000
_RUN = "from vsam_cli.heatmaps import run; run()"


def make_pictures(folder: Path) -> None:
    """Draw sixteen gradients."""
    folder.mkdir()
    for number in range(16):
        pixels = np.full((64, 48, 3), 8 * number, np.uint8)
        pixels[..., 0] += np.arange(48, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")


def make_links(photos: list[Path], folder: Path, count: int) -> None:
    """Link to the photos under `count` names."""
    for number in range(count):
        below = folder / f"{number // 1000:04d}"
        if number % 1000 == 0:
            below.mkdir(parents=True)
        source = photos[number % len(photos)]
        (below / f"{number:07d}{source.suffix}").symlink_to(source.resolve())


def own_and_shared(process: int) -> tuple[int, int]:
    """Give a process's anonymous memory and its pages of files in bytes; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    fields = dict(line.split(":", 1) for line in lines if line.startswith("Rss"))
    own, shared = (1024 * int(fields.get(name, "0").split()[0]) for name in ("RssAnon", "RssFile"))
    return own, shared


def measure(photos: Path, out: Path, workers: int) -> dict[str, float]:
    """Run the command; give the peak of the tree and of the main process alone."""
    arguments = ["extract", str(photos), "--out", str(out), "--workers", str(workers)]
    start = time.perf_counter()
    peak, main_peak = 0, 0
    with subprocess.Popen(
        [sys.executable, "-c", _RUN, *arguments], stdout=subprocess.DEVNULL
    ) as command:
        main = psutil.Process(command.pid)
        while command.poll() is None:
            try:
                tree = [main.pid, *(child.pid for child in main.children(recursive=True))]
            except psutil.Error:  # it has just ended
                continue
            own, shared = zip(*map(own_and_shared, tree), strict=True)
            peak = max(peak, sum(own) + max(shared))
            main_peak = max(main_peak, own[0])
            time.sleep(0.2)
    if command.returncode:
        raise SystemExit(f"vsam-heatmaps ended with code {command.returncode}.")
    seconds = time.perf_counter() - start
    return {
        "peak_mb": round(peak / 1e6, 1),
        "main_process_own_mb": round(main_peak / 1e6, 1),
        "seconds": round(seconds, 1),
    }


def summary(few: dict[str, float], many: dict[str, float], counts: list[int]) -> dict[str, object]:
    """Compare two runs and go on in a straight line."""
    slope = (many["peak_mb"] - few["peak_mb"]) / (counts[-1] - counts[0])
    main_slope = (many["main_process_own_mb"] - few["main_process_own_mb"]) / (
        counts[-1] - counts[0]
    )
    return {
        "few": few,
        "many": many,
        "ratio": round(many["peak_mb"] / few["peak_mb"], 3),
        "bytes_a_photo": round(1e6 * slope),
        "bytes_a_photo_of_main_process": round(1e6 * main_slope),
        f"ratio_at_{TARGET}": round(1 + slope * (TARGET - counts[0]) / few["peak_mb"], 3),
    }


def main() -> None:
    """Measure the smaller and the larger count; print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, nargs="?")
    parser.add_argument("--counts", type=int, nargs=2, default=[5000, 40_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="measure a second run, too")
    arguments = parser.parse_args()
    runs: dict[str, list[dict[str, float]]] = {"first_run": [], "second_run": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if arguments.photos is None:
            make_pictures(folder / "pictures")
        sources = sorted((arguments.photos or folder / "pictures").iterdir())[:16]
        for count in arguments.counts:
            links, out = folder / f"links-{count}", folder / f"shards-{count}"
            make_links(sources, links, count)
            runs["first_run"].append(measure(links, out, arguments.workers))
            if arguments.again:
                runs["second_run"].append(measure(links, out, arguments.workers))
    figures = {
        name: summary(*both, arguments.counts) for name, both in runs.items() if len(both) == 2
    }
    print(json.dumps({"photos": arguments.counts, **figures}, indent=2))


if __name__ == "__main__":
    main()
