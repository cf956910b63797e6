"""Measure whether the model looks at the person, and at the garment that makes the category.

Compared, trained alike from scratch: VSAM with pose supervision (λ > 0), VSAM without (λ = 0), and
plain VGG-16 with the same heads, which has no attention and is explained by Grad-CAM (of the
category that it predicts, at the last convolution of its last block). Grad-CAM is also made of both
VSAMs. λ is fixed, not chosen by these measures; in so short a training 10, the published value,
hardly moves the map. References that do not see the photo: a map that is the same everywhere (it
gets the mask's share of the area), a centred Gaussian (standard deviation a quarter of height and
width), and the average of the heatmaps that supervise the training: what a model gets that has
learned where people stand and nothing else.

Data: `mannequins`, drawn, whose masks the drawing itself writes; `ccp`, Clothing Co-Parsing, with
its masks by hand: all classes but the background and what is carried (bag, purse, wallet) are the
person. Measured are the photos of the test split that have a category and a mask.

Measures, for the person and for the garment. `share`: a map, the squashed photo's, is resized
bilinearly to the mask and scaled to sum 1; the share of it that lies in the mask. `above the
minimum`: the same after the map's minimum is subtracted, since a sigmoid's map has a floor that
says nothing about places. `pointing`: the pointing game (Zhang et al., 2018): whether the maximum
lies in the mask, or within 3 % of the longer side, their 15 pixels in photos of 500; if several
pixels are the maximum, the share of them that hits.

Intervals are 95 % bootstrap intervals over photos of the mean over seeds; differences are paired.
They say nothing of the seeds: how many of those agree is told beside each difference.

A run that was stopped goes on where it was when it is repeated: everything is kept in the folder
of `--work`, runs in `runs/`, measured photos in `scores/`, one JSON for each run. At the end
`report.md`, `report.json` and `sheet.png` are written there.

Usage: python benchmarks/attention.py --work FOLDER [--ccp CCP] [--data mannequins ccp]
       [--models pose no-pose plain] [--seeds 0 1 2] [--lambda 100] [--epochs 12] [--width 0.25]
       [--image-size 112] [--mannequins 1000] [--ccp-photos N] [--regions max] [--quick]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attention_data import CCP, MANNEQUINS, Data, prepare_ccp, prepare_mannequins
from attention_report import PLAIN, WITH, WITHOUT, Results, draw_rows, markdown

from vsam.attention_maps import MERGES
from vsam_heatmaps.atomic import prepare_output_folder, write_text
from vsam_heatmaps.errors import VsamError

# Sizes and options of `--quick`: enough to see that all paths work.
_QUICK = {"mannequins": 60, "ccp_photos": 60, "epochs": 2, "width": 0.05, "image_size": 64}
_SETTINGS = "settings.json"
# What a folder may be asked for later without making its runs others.
_FREE = ("work", "data", "models", "seeds", "ccp", "device", "num_workers", "quick")


def main() -> None:
    """Prepare, train, measure, report."""
    options = parse()
    try:
        run(options)
    except VsamError as error:
        sys.exit(f"error: {error}")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for everything")
    parser.add_argument("--ccp", type=Path, help="folder with labels.csv, images/ and masks/")
    parser.add_argument(
        "--data",
        nargs="+",
        choices=(MANNEQUINS, CCP),
        help="by default mannequins, and ccp if its folder is given",
    )
    models = [WITH, WITHOUT, PLAIN]
    parser.add_argument("--models", nargs="+", choices=models, default=models)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--lambda", dest="pose_weight", type=float, default=100.0)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--mannequins", type=int, default=1000, help="how many to draw")
    parser.add_argument("--ccp-photos", type=int, help="only so many, all of them with masks")
    parser.add_argument("--regions", choices=MERGES, default="max", help="several maps to one")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--num-workers", type=int, help="processes that load photos")
    parser.add_argument("--quick", action="store_true", help="a tiny size, to try all paths")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(_QUICK)
    options.data = options.data or [MANNEQUINS, *([CCP] if options.ccp else [])]
    if CCP in options.data and options.ccp is None:
        parser.error("--data ccp needs --ccp FOLDER")
    if options.pose_weight <= 0:
        parser.error("--lambda must be above 0: it is compared with 0")
    return options


def run(options: argparse.Namespace) -> None:
    """Do all that is not done yet, then report."""
    work: Path = options.work
    prepare_output_folder(work, ours=_SETTINGS, purpose="this benchmark")
    settings = _settings(options)
    every = [_prepare(name, options) for name in options.data]
    # Imported late: the processes that find poses import this file, and do without torch.
    from attention_models import maps_of, score_references

    results = {}
    for data in every:
        scores = work / "scores" / data.name
        if not (scores / "references.json").is_file():
            score_references(data, scores / "references.json")
        # Seed by seed, so that one that was stopped has whole rows to show.
        for seed in options.seeds:
            for model in options.models:
                _train(data, model, seed, scores / f"{model}-{seed}.json", options)
        results[data.name] = Results(scores, options.seeds, options.pose_weight)
    text = markdown(results, settings)
    told = {
        "settings": settings | {"seeds": options.seeds},
        "data": {
            name: {
                "photos": result.photos,
                "maps": result.summary(),
                "differences": result.differences(),
            }
            for name, result in results.items()
        },
    }
    write_text(work / "report.json", json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    write_text(work / "report.md", text)
    _draw(every, results, options, maps_of)
    print(text)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Take note of what the runs in the folder have in common, or check that it is the same."""
    settings = {name: value for name, value in vars(options).items() if name not in _FREE}
    path = options.work / _SETTINGS
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = [name for name in settings if settings[name] != before.get(name)]
        if changed:
            told = ", ".join(f"{name} {before.get(name)}" for name in changed)
            raise VsamError(
                f"The runs in {options.work} were made with other options: {told}. Name another "
                "folder, or give the same options."
            )
    else:
        write_text(path, json.dumps(settings, indent=2) + "\n")
    return settings


def _prepare(name: str, options: argparse.Namespace) -> Data:
    if name == CCP:
        return prepare_ccp(options.work, options.ccp, options.ccp_photos)
    return prepare_mannequins(options.work, options.mannequins)


def _train(data: Data, model: str, seed: int, out: Path, options: argparse.Namespace) -> None:
    """Train and measure one model, unless that is done."""
    from attention_models import train_and_score

    from vsam.config import TrainConfig

    if out.is_file():
        return
    print(f"{data.name}: {model}, seed {seed}", file=sys.stderr, flush=True)
    chosen: dict[str, Any] = {
        WITH: {"pose_weight": options.pose_weight},
        WITHOUT: {"pose_weight": 0.0},
        PLAIN: {"pose_weight": 0.0, "attention": "none"},
    }[model]
    config = TrainConfig(
        data=data.labels,
        photos=data.photos,
        heatmaps=data.heatmaps,
        out=options.work / "runs" / data.name / f"{model}-{seed}",
        width=options.width,
        image_size=options.image_size,
        batch_norm=True,
        dropout=options.dropout,
        epochs=options.epochs,
        batch_size=options.batch_size,
        lr=options.lr,
        seed=seed,
        device=options.device,
        num_workers=options.num_workers,
        **chosen,
    )
    train_and_score(data, config, out, options.regions)


def _draw(
    every: Sequence[Data], results: dict[str, Results], options: argparse.Namespace, maps_of: Any
) -> None:
    """Write the sheet of examples, of the first seed's runs."""
    import numpy as np

    from vsam_heatmaps.overlays import write_picture

    parts = []
    for data in every:
        runs = options.work / "runs" / data.name

        def maps(model: str, photos: Sequence[Path], runs: Path = runs) -> list[Any]:
            return list(maps_of(runs / f"{model}-{options.seeds[0]}", photos, options.regions))

        parts.append(draw_rows(data, results[data.name], maps))
    width = max(part.shape[1] for part in parts)
    padded = [
        np.pad(part, ((0, 12), (0, width - part.shape[1]), (0, 0)), constant_values=255)
        for part in parts
    ]
    write_picture(options.work / "sheet.png", np.vstack(padded))


if __name__ == "__main__":
    main()
