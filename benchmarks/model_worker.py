"""What `model.py` starts: one side of a comparison, in a process of its own.

Prints a JSON line when it is warm, then measures once for each line on its standard input.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vsam.losses import VsamLoss
from vsam.modeling.build import ModelConfig, build_vsam
from vsam.predictor import Predictor
from vsam.run_folder import Labels, save_description, save_tensors
from vsam_datasets.preprocessing import Preprocessing
from vsam_heatmaps.landmarks import PARTS

_CATEGORIES, _ATTRIBUTES = 46, 1000  # of the published model
_SIZE = 224
_FEW = 64  # photos of a run that is nothing but start-up


def answer(measure: Callable[[], dict[str, float]]) -> None:
    """Say that all is warm, then measure whenever a line comes."""
    print(json.dumps({}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(measure()), flush=True)


def peak_mb() -> float:
    """Give the largest memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def step(arguments: argparse.Namespace) -> None:
    """Measure one training step on a drawn batch."""
    regions = tuple(PARTS) if arguments.attention == "regions" else ()
    config = ModelConfig(
        categories=_CATEGORIES,
        attributes=_ATTRIBUTES,
        attention=arguments.attention,
        regions=regions,
    )
    torch.manual_seed(0)
    before = peak_mb()
    layout = torch.contiguous_format if arguments.contiguous else torch.channels_last
    model = build_vsam(config).to(memory_format=layout).train()
    network: Any = torch.compile(model) if arguments.compile else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    supervised = arguments.attention != "none"
    criterion = VsamLoss(
        class_weights=torch.ones(_CATEGORIES),
        pose_weight=10.0 if supervised else 0.0,
        regulariser="kl" if regions else "l2",
        distributions=bool(regions),
    )
    count = arguments.batch_size
    images = torch.randn(count, 3, _SIZE, _SIZE).contiguous(memory_format=layout)
    labels = {
        "category": torch.randint(_CATEGORIES, (count,)),
        "attributes": (torch.rand(count, _ATTRIBUTES) < 0.01).float(),
        "heatmap": torch.rand(
            count, len(regions) or int(supervised), config.attention_side, config.attention_side
        ),
        "has_pose": torch.ones(count, dtype=torch.bool),
    }
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=arguments.precision == "bf16")

    def measure() -> dict[str, float]:
        began = time.perf_counter()
        with autocast:
            output = network(images)
        criterion(output, **labels).total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "peak_mb": peak_mb(), "before_mb": before}

    for _ in range(2):
        measure()
    answer(measure)


def make_run(folder: Path, *, size: int, width: float, batch_norm: bool) -> Path:
    """Make a run folder with drawn weights."""
    config = ModelConfig(
        categories=_CATEGORIES,
        attributes=_ATTRIBUTES,
        image_size=size,
        width=width,
        batch_norm=batch_norm,
    )
    torch.manual_seed(0)
    folder.mkdir()
    save_tensors(folder / "model.safetensors", build_vsam(config).state_dict(), {})
    save_description(
        folder,
        config=config,
        preprocessing=Preprocessing(image_size=size),
        labels=Labels(
            tuple(f"category {i}" for i in range(_CATEGORIES)),
            tuple(f"attribute {i}" for i in range(_ATTRIBUTES)),
        ),
        threshold=0.9,  # scores of drawn weights lie around a half; few attributes are to be listed
        training={},
    )
    return folder


def alone(arguments: argparse.Namespace) -> None:
    """Measure the model alone, on tensors in memory, in the batches of `vsam-predict`."""
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder) / "run", **_model_of(arguments))
        predictor = Predictor.from_run(run, device="cpu")
    pixels = torch.randint(0, 256, (32, 3, arguments.size, arguments.size), dtype=torch.uint8)
    inputs = predictor.preprocessing.normalize(pixels).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def measure(photos: int = arguments.photos) -> dict[str, float]:
        began = time.perf_counter()
        for start in range(0, photos, len(inputs)):
            predictor.network(inputs[: photos - start])
        return {"seconds": time.perf_counter() - began}

    measure(2 * len(inputs))
    answer(measure)


def folder_of(arguments: argparse.Namespace) -> None:
    """Measure `vsam-predict` on a folder, less what it takes on a few photos: its start-up."""
    photos = sorted(arguments.folder.glob("*.jpg"))
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        run = make_run(work / "run", **_model_of(arguments))
        sources = {}
        for count in (_FEW, _FEW + arguments.photos):
            sources[count] = work / f"photos-{count}"
            sources[count].mkdir()
            for number, photo in zip(range(count), itertools.cycle(photos), strict=False):
                (sources[count] / f"{number:06d}.jpg").symlink_to(photo.resolve())

        def seconds(count: int) -> float:
            began = time.perf_counter()
            subprocess.run(
                [
                    *(sys.executable, "-c", "from vsam_cli.predict import run; run()"),
                    *(str(sources[count]), "--model", str(run), "--device", "cpu"),
                    *("--out", str(work / "predictions.jsonl")),
                ],
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            return time.perf_counter() - began

        def measure() -> dict[str, float]:
            few = seconds(_FEW)
            return {"seconds": seconds(_FEW + arguments.photos) - few, "start": few}

        seconds(_FEW)
        answer(measure)


def _model_of(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "size": arguments.size,
        "width": arguments.width,
        "batch_norm": arguments.batch_norm,
    }


def make(arguments: argparse.Namespace) -> None:
    """Make the published model with drawn weights, as a Keras file, a run and each export."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import published_model

    from vsam.export.making import export_run
    from vsam.keras_import import import_keras
    from vsam_heatmaps.photos import list_photos

    weights = published_model.write_keras2(
        arguments.work / "weights.h5", published_model.draw_weights(1)
    )
    import_keras(weights, arguments.work / "run")
    for name in sorted({name.partition(":")[0] for name in arguments.formats} - {"run"}):
        quantised = name.endswith("-int8")
        export_run(
            arguments.work / "run",
            arguments.work / name,
            format=name.removesuffix("-int8"),
            precision="int8" if quantised else "fp32",
            calibrate=list_photos([arguments.folder]) if quantised else None,
        )


def network(arguments: argparse.Namespace) -> None:
    """Measure one batch through a run or an export."""
    predictor = Predictor.from_run(arguments.run, device="cpu", precision=arguments.precision)
    size = predictor.preprocessing.image_size
    pixels = torch.randint(0, 256, (arguments.batch_size, 3, size, size), dtype=torch.uint8)
    images = predictor.preprocessing.normalize(pixels)

    @torch.inference_mode()
    def measure() -> dict[str, float]:
        began = time.perf_counter()
        predictor.network(images)
        return {"seconds": time.perf_counter() - began}

    for _ in range(2):
        measure()
    answer(measure)


def main() -> None:
    """Run one side."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))
    parser = argparse.ArgumentParser(description=__doc__)
    sides = parser.add_subparsers(required=True)
    one = sides.add_parser("step")
    one.add_argument("--attention", default="single")
    one.add_argument("--batch-size", type=int, default=8)
    one.add_argument("--contiguous", action="store_true")
    one.add_argument("--compile", action="store_true")
    one.add_argument("--precision", default="fp32")
    one.set_defaults(run_side=step)
    for name, side in {"alone": alone, "folder": folder_of}.items():
        one = sides.add_parser(name)
        one.add_argument("--size", type=int, required=True)
        one.add_argument("--width", type=float, required=True)
        one.add_argument("--batch-norm", action="store_true")
        one.add_argument("--photos", type=int, required=True)
        one.add_argument("--folder", type=Path, required=True)
        one.set_defaults(run_side=side)
    one = sides.add_parser("make")
    one.add_argument("--work", type=Path, required=True)
    one.add_argument("--folder", type=Path, required=True)
    one.add_argument("--formats", nargs="+", required=True)
    one.set_defaults(run_side=make)
    one = sides.add_parser("network")
    one.add_argument("--run", type=Path, required=True)
    one.add_argument("--batch-size", type=int, required=True)
    one.add_argument("--precision", default="fp32")
    one.set_defaults(run_side=network)
    arguments = parser.parse_args()
    arguments.run_side(arguments)


if __name__ == "__main__":
    main()
