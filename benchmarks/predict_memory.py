"""Measure the memory of `vsam-predict` for few and for many photos.

The same small photos are given under many ids, as hard links in folders of a thousand; some of them
are broken. The model is tiny and untrained, and made here: what grows with the number of photos is
the same for a large one. Looked up several times a second (Linux only): the anonymous memory of the
process. With `--all-scores` lines are as long as DeepFashion's 46 categories and 1000 attributes
make them.

Usage: python benchmarks/predict_memory.py [--counts 5000 100000] [--format parquet] [--resume]
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
from memory import own_and_shared
from PIL import Image

_RUN = "from vsam_cli.predict import run; run()"
_PHOTOS = 16


def make_model(run: Path, categories: int, attributes: int) -> None:
    """Write a run folder of a tiny model with drawn weights."""
    import torch

    from vsam.labels import Labels
    from vsam.modeling.build import ModelConfig, build_vsam
    from vsam.run_folder import WEIGHTS, save_description, save_tensors
    from vsam_datasets.preprocessing import Preprocessing

    torch.manual_seed(0)
    config = ModelConfig(categories, attributes, width=0.03, image_size=32)
    run.mkdir()
    save_tensors(run / WEIGHTS, build_vsam(config).state_dict(), {})
    save_description(
        run,
        config=config,
        preprocessing=Preprocessing(image_size=32),
        labels=Labels(
            tuple(f"category {number}" for number in range(categories)),
            tuple(f"attribute {number}" for number in range(attributes)),
        ),
        threshold=0.5,
        training={},
    )


def make_links(folder: Path, count: int) -> None:
    """Link to a few drawn photos, one of them broken, under `count` names."""
    rng = np.random.default_rng(0)
    sources = []
    for number in range(_PHOTOS):
        below = folder / f"{number:04d}"
        below.mkdir(parents=True)
        path = below / f"{number:07d}.jpg"
        Image.fromarray(rng.integers(0, 256, (64, 48, 3), dtype=np.uint8)).save(path)
        sources.append(path)
    sources[-1].write_bytes(b"no photo")
    for number in range(_PHOTOS, count):
        below = folder / f"{number // 1000:04d}"
        below.mkdir(exist_ok=True)
        (below / f"{number:07d}.jpg").hardlink_to(sources[number % _PHOTOS])


def measure(arguments: list[str], stop_at: Path | None = None) -> dict[str, float]:
    """Run the command; give the peak of its own memory. Kill it when `stop_at` has 1 MB."""
    start, peak = time.perf_counter(), 0
    with subprocess.Popen(
        [sys.executable, "-c", _RUN, *arguments], stdout=subprocess.DEVNULL
    ) as command:
        while command.poll() is None:
            peak = max(peak, own_and_shared(command.pid)[0])
            if stop_at is not None and stop_at.exists() and stop_at.stat().st_size > 1_000_000:
                command.kill()
            time.sleep(0.1)
    if command.returncode not in (3, -9):  # 3: one photo of sixteen is broken
        raise SystemExit(f"vsam-predict ended with code {command.returncode}.")
    return {"own_mb": round(peak / 1e6, 1), "seconds": round(time.perf_counter() - start, 1)}


def main() -> None:
    """Measure the smaller and the larger count; print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs=2, default=[5000, 100_000])
    parser.add_argument("--format", choices=("jsonl", "csv", "parquet"), default="jsonl")
    parser.add_argument("--all-scores", action="store_true")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--resume", action="store_true", help="kill it once, and go on")
    given = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_model(folder / "run", *((46, 1000) if given.all_scores else (8, 20)))
        for count in given.counts:
            photos, out = folder / f"photos-{count}", folder / f"p-{count}.{given.format}"
            make_links(photos, count)
            arguments = [str(photos), "--model", str(folder / "run"), "--out", str(out)]
            arguments += ["--device", "cpu"]
            arguments += ["--all-scores"] if given.all_scores else []
            arguments += ["--report", str(folder / "report.html")] if given.report else []
            if given.resume:
                measure(arguments, folder / f".{out.name}.vsam-partial" / "journal")
                arguments.append("--resume")
            found.append({"photos": count, **measure(arguments)})
            found[-1]["output_mb"] = round(out.stat().st_size / 1e6, 1)
    few, many = found
    slope = (many["own_mb"] - few["own_mb"]) / (many["photos"] - few["photos"])
    figures = {"few": few, "many": many, "ratio": round(many["own_mb"] / few["own_mb"], 3)}
    print(json.dumps({**figures, "bytes_a_photo": round(1e6 * slope)}, indent=2))


if __name__ == "__main__":
    main()
