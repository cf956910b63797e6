"""Compare `vsam-heatmaps extract` with the loop that one would write (`naive.py`).

Every run is a new process of Python, from its start to its end, for both sides alike: imports,
loading of the networks and, for `extract`, the start of its workers are in it. In each turn each
side runs on one photo (`seconds_on_one_photo`: the start-up, until there is a record), on --few and
on --photos. `with_start_up` is --photos over the seconds of their run. `warm` is the slope between
--few and --photos, that is photos a second once everything is loaded. The first turn warms up (file
cache, compiled modules) and does not count. Given are medians; ratios to the naive loop are made in
each turn, then the median is taken.

Usage: python benchmarks/extract.py PHOTOS [--photos 600] [--few 64] [--repeats 5] [--workers N]
       [--engines mediapipe openvino] [--crops off on] [--precision f32 auto] [--stage-photos 200]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from vsam_heatmaps.engines import PRECISIONS

_EXTRACT = "from vsam_cli.heatmaps import run; run()"
_NAIVE = Path(__file__).with_name("naive.py")


@dataclass(frozen=True)
class Side:
    """One way of doing the work: `extract` with these options, or the naive loop."""

    engine: str
    crops: bool = False
    precision: str = "f32"

    @property
    def name(self) -> str:
        """How the figures call it."""
        if self.engine != "openvino":
            return self.engine
        return f"openvino, crops {'on' if self.crops else 'off'}, {self.precision}"

    def command(self, photos: Path, out: Path, workers: int | None) -> list[str]:
        """Give the command that writes the maps of a folder."""
        if self.engine == "naive":
            return [sys.executable, str(_NAIVE), str(photos), f"{out}.h5"]
        crops = "on" if self.crops else "off"
        options = ["--pose-engine", self.engine, "--crops", crops, "--precision", self.precision]
        if workers:
            options += ["--workers", str(workers)]
        return [sys.executable, "-c", _EXTRACT, "extract", str(photos), "--out", str(out), *options]


def sides_of(engines: list[str], crops: list[str], precisions: list[str]) -> list[Side]:
    """List the sides: the naive loop first, then each engine with each of its options."""
    sides = [Side("naive")]
    for engine in engines:
        if engine == "mediapipe":
            sides.append(Side(engine))
        else:
            sides += [Side(engine, crop == "on", kind) for crop in crops for kind in precisions]
    return sides


def link(photos: list[Path], folder: Path, count: int) -> Path:
    """Make a folder of links to `count` photos; after the last one the first one follows."""
    folder.mkdir()
    for number in range(count):
        source = photos[number % len(photos)]
        (folder / f"{number:06d}{source.suffix}").symlink_to(source.resolve())
    return folder


def seconds(side: Side, photos: Path, workers: int | None) -> float:
    """Run a side in a new process; give its seconds."""
    with tempfile.TemporaryDirectory() as temporary:
        # Modules are compiled once, in the warm-up, as on the machines of most users, wherever
        # this environment keeps them.
        environment = os.environ | {"PYTHONPYCACHEPREFIX": str(photos.parent / "compiled")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        command = side.command(photos, Path(temporary, "out"), workers)
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, env=environment, check=False)
        spent = time.perf_counter() - start
    if done.returncode:
        sys.stderr.buffer.write(done.stderr)
        raise SystemExit(f"{side.name} ended with code {done.returncode}.")
    return spent


def summary(
    side: list[dict[int, float]], naive: list[dict[int, float]], few: int, many: int
) -> dict[str, object]:
    """Turn the seconds of each turn, by number of photos, into rates and ratios."""

    def warm(turn: dict[int, float]) -> float:
        return (turn[many] - turn[few]) / (many - few)  # seconds a photo

    def median(values: list[float], digits: int) -> float:
        return round(statistics.median(values), digits)

    turns = list(zip(side, naive, strict=True))
    ratios = [warm(other) / warm(own) for own, other in turns]
    return {
        "seconds_on_one_photo": median([turn[1] for turn in side], 2),
        "photos_per_second": {
            "with_start_up": median([many / turn[many] for turn in side], 1),
            "warm": median([1 / warm(turn) for turn in side], 1),
        },
        "times_as_fast_as_naive": {
            "with_start_up": median([other[many] / own[many] for own, other in turns], 2),
            "warm": median(ratios, 2),
            "warm_least_and_most": [round(min(ratios), 2), round(max(ratios), 2)],
        },
    }


def main() -> None:
    """Run all sides by turns and print medians as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=600)
    parser.add_argument("--few", type=int, default=64, help="the slope's other end")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, help="of `extract`; default: one for each core")
    engines, crops = ["mediapipe", "openvino"], ["off", "on"]
    parser.add_argument("--engines", nargs="+", choices=engines, default=engines)
    parser.add_argument("--crops", nargs="+", choices=crops, default=crops)
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["f32", "auto"])
    parser.add_argument("--stage-photos", type=int, default=200, help="0: no shares of stages")
    arguments = parser.parse_args()
    few, many = arguments.few, arguments.photos
    workers = arguments.workers or os.cpu_count() or 1
    if not 16 * workers <= few < many:
        # Each worker must have a task of eight photos, or fewer are started.
        parser.error(f"--few must be at least {16 * workers} and less than --photos")
    photos = sorted(path for path in arguments.folder.iterdir() if path.is_file())
    sides = sides_of(arguments.engines, arguments.crops, arguments.precision)
    turns: dict[Side, list[dict[int, float]]] = {side: [] for side in sides}
    shares = {}
    with tempfile.TemporaryDirectory() as temporary:
        folders = {n: link(photos, Path(temporary, f"photos-{n}"), n) for n in (1, few, many)}
        for repeat in range(arguments.repeats + 1):
            for side in sides:
                turn = {
                    count: seconds(side, folder, arguments.workers)
                    for count, folder in folders.items()
                }
                told = ", ".join(f"{count}: {spent:.2f} s" for count, spent in turn.items())
                print(f"turn {repeat}, {side.name}: {told}", file=sys.stderr, flush=True)
                if repeat:  # the first turn warms up
                    turns[side].append(turn)
        if arguments.stage_photos:
            from stages import stage_shares

            some = [photos[number % len(photos)] for number in range(arguments.stage_photos)]
            for side in sides[1:]:
                shares[side.name] = stage_shares(
                    some,
                    Path(temporary, "shard.h5"),
                    side.engine,
                    crops=side.crops,
                    precision=side.precision,
                )
    naive = turns[sides[0]]
    figures = {
        "photos": many,
        "few": few,
        "repeats": arguments.repeats,
        "workers": workers,
        "sides": {side.name: summary(turns[side], naive, few, many) for side in sides},
        "share_of_time_in_one_process": shares,
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
