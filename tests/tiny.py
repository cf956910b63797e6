"""A data set and a model so small that training takes a second: helpers of several tests."""

import contextlib
import csv
import logging
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vsam_heatmaps.landmarks import LANDMARKS
from vsam_heatmaps.rendering import RenderOptions, render_heatmaps
from vsam_heatmaps.shards import Record, ShardInfo, Status, no_keypoints, write_shard

COLOURS = {"tee": (200, 60, 60), "jeans": (50, 70, 190), "dress": (60, 170, 80)}
SIZES = {"width": 0.05, "image_size": 32}
SIDE = 16

ENDING = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", None))


def keypoints(x: float, y: float) -> np.ndarray:
    """Put a whole body around a point: (33, 4), in shares of the photo."""
    points = np.ones((len(LANDMARKS), 4), np.float32)
    points[:, 0] = x + np.linspace(-0.03, 0.03, len(LANDMARKS))
    points[:, 1] = y + np.linspace(-0.2, 0.2, len(LANDMARKS))
    return points


def shard_info(**changed: Any) -> ShardInfo:
    values: dict[str, Any] = {
        "side": SIDE,
        "sigma": 0.05,
        "channels": RenderOptions().channel_names,
        "min_visibility": 0.5,
        "backend": "drawn",
        "pose_model_sha256": "0" * 64,
        "min_confidence": 0.5,
        "max_pixels": 10**8,
    }
    return ShardInfo(**values | changed)


def record(id_: str, points: np.ndarray | None, info: ShardInfo | None = None) -> Record:
    """Make the record of a photo with a pose, or of one without."""
    info = info or shard_info()
    maps = np.zeros((len(info.channels), info.side, info.side), np.uint8)
    if points is not None:
        maps = render_heatmaps(points, info.render_options)
    return Record(
        id=id_,
        status=Status.NO_POSE if points is None else Status.OK,
        heatmaps=maps,
        channels=info.channels,
        keypoints=no_keypoints(info.landmarks) if points is None else points,
        size=(40, 48),
        sha256=bytes(32),
    )


def write_shards(folder: Path, records: Sequence[Record], info: ShardInfo | None = None) -> Path:
    """Write records into two shards, the later half first."""
    half = len(records) // 2
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate([records[half:], records[:half]]):
        if part:
            write_shard(folder / f"shard-{number:05d}.h5", info or shard_info(), part)
    return folder


def write_table(path: Path, rows: Iterable[Sequence[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", "split", "category", "attributes"])
        table.writerows(rows)
    return path


def write_tiny_data(folder: Path, count: int = 24) -> Path:
    """Write `photos/`, `labels.csv` and `shards/`.

    The background's colour is the category, a bright bar is the person, and its side of the photo
    is an attribute. Photo 1 has no pose, photo 2 no record.
    """
    rng = np.random.default_rng(0)
    rows, records = [], []
    for number in range(count):
        category = list(COLOURS)[number % 3]
        left = bool(number // 3 % 2)
        x, y = (0.3 if left else 0.7) + rng.uniform(-0.05, 0.05), 0.5
        photo = np.empty((48, 40, 3), np.uint8)
        photo[:] = COLOURS[category]
        photo[10:38, round(x * 40) - 2 : round(x * 40) + 3] = 255
        photo = np.clip(photo + rng.integers(-10, 10, photo.shape), 0, 255).astype(np.uint8)
        id_ = f"{category}/{number:02d}.png"
        (folder / "photos" / category).mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo).save(folder / "photos" / id_)
        attributes = ["left"] if left else []
        attributes += ["warm"] if category == "tee" else []
        split = "val" if number % 4 == 3 else "test" if number % 8 == 6 else "train"
        rows.append((id_, split, category, ";".join(attributes)))
        if number != 2:
            records.append(record(id_, None if number == 1 else keypoints(x, y)))
    write_table(folder / "labels.csv", rows)
    write_shards(folder / "shards", records)
    return folder


def train_config(folder: Path, out: Path, **changed: Any) -> Any:
    """Configure a short training on a folder of `write_tiny_data`."""
    from vsam.config import TrainConfig

    values: dict[str, Any] = {
        "data": folder / "labels.csv",
        "photos": folder / "photos",
        "heatmaps": folder / "shards",
        "out": out,
        "batch_norm": True,
        "epochs": 2,
        "batch_size": 8,
        "lr": 3e-3,
        "device": "cpu",
        "num_workers": 0,
        **SIZES,
    }
    return TrainConfig(**values | changed)


def train_arguments(data: Path, out: Path, *more: object) -> list[str]:
    """List the command line of a short training on a folder of `write_tiny_data`."""
    given = [
        *("--data", data / "labels.csv", "--photos", data / "photos"),
        *("--heatmaps", data / "shards", "--out", out),
        *("--width", 0.05, "--image-size", 32, "--batch-norm", "--epochs", 2),
        *("--batch-size", 8, "--device", "cpu", "--num-workers", 0),
    ]
    return [str(argument) for argument in (*given, *more)]


def command(name: str) -> str:
    """Give the path of an installed command."""
    return str(Path(sys.executable).parent / name)


def environment() -> dict[str, str]:
    """Give commands as many threads as the tests have: sums depend on how they are split."""
    import torch

    return os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}


def call(
    name: str, arguments: Sequence[object], monkeypatch: pytest.MonkeyPatch
) -> int | str | None:
    """Run one of the commands in this process, as its script does: its exit code.

    It logs to `sys.stderr`, as it would there; what it sets for the process is taken back.
    """
    import importlib

    module = importlib.import_module(f"vsam_cli.{name.removeprefix('vsam').strip('-') or 'main'}")
    with _process_left_alone(), monkeypatch.context() as patch:
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        patch.setattr(sys, "unraisablehook", sys.unraisablehook)
        patch.setattr(logging.getLogger(), "handlers", [])
        with pytest.raises(SystemExit) as ended:
            module.run()
    return ended.value.code


@contextlib.contextmanager
def _process_left_alone() -> Iterator[None]:
    """Take back which signals a command handles, and how much it logs."""
    handlers = {number: signal.getsignal(number) for number in ENDING if number is not None}
    level = logging.getLogger().level
    try:
        yield
    finally:
        logging.getLogger().setLevel(level)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def the_error(stderr: str) -> str:
    """Check that stderr has one line for the user and no traceback; give that line."""
    assert "Traceback" not in stderr
    lines = [line for line in stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, stderr
    assert stderr.splitlines()[-1] == lines[0], stderr
    return lines[0]
