"""Records and shards made of random numbers, for tests of what is done with shards."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from vsam_heatmaps import LANDMARKS, PARTS, Record, Status, render_heatmaps
from vsam_heatmaps.shards import ShardInfo, write_shard

SIDE = 16
INFO = ShardInfo(
    side=SIDE,
    sigma=0.08,
    channels=tuple(PARTS),
    min_visibility=0.25,
    backend="mediapipe",
    pose_model_sha256="ab" * 32,
    min_confidence=0.5,
    max_pixels=1_000_000,
)


def make_record(id_: str, seed: int = 0, status: Status = Status.OK, **changes) -> Record:
    """Make a record that follows all rules."""
    rng = np.random.default_rng(seed)
    keypoints = rng.random((len(LANDMARKS), 4), np.float32)
    size = (int(rng.integers(1, 5000)), int(rng.integers(1, 5000)))
    sha256, people, reason = rng.bytes(32), 1, ""
    if status is not Status.OK:
        keypoints, people = np.full_like(keypoints, np.nan), 0
    if status is Status.UNREADABLE:
        size, reason = (0, 0), "it is truncated, dämaged"
    maps = render_heatmaps(keypoints, INFO.render_options)
    record = Record(id_, status, maps, INFO.channels, keypoints, size, sha256, reason, people)
    return replace(record, **changes)


def records() -> list[Record]:
    """Make one record of each kind, and one more under a name that is hard to write."""
    return [
        make_record("a.jpg", 1, people=3),
        make_record("été/日本 👗\n2.jpg", 2),
        make_record("b.jpg", 3, Status.NO_POSE),
        make_record("c.jpg", 4, Status.UNREADABLE, sha256=bytes(32)),
    ]


def write(folder: Path, number: int, records: list[Record], info: ShardInfo = INFO) -> Path:
    """Write a shard of a number; give its path."""
    path = folder / f"shard-{number:06d}.h5"
    write_shard(path, info, records)
    return path


def same(a: Record, b: Record) -> bool:
    """Whether two records are the same to the byte."""
    plain = ("id", "status", "channels", "size", "sha256", "reason", "people")
    return all(getattr(a, name) == getattr(b, name) for name in plain) and all(
        (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
        for one, other in ((a.heatmaps, b.heatmaps), (a.keypoints, b.keypoints))
    )


def rewrite(path: Path, name: str, change: Callable[[np.ndarray], Any], **options: Any) -> None:
    """Replace a data set of a shard by what `change` makes of it; it may change it in place."""
    with h5py.File(path, "r+") as file:
        before = file[name][:]
        changed = change(before)
        array = before if changed is None else np.asarray(changed)
        if array.dtype.kind == "S":
            array = array.astype(h5py.string_dtype("utf-8", array.dtype.itemsize))
        del file[name]
        chunks = (1, *array.shape[1:]) if name == "heatmaps" else array.shape
        settings = {"chunks": chunks, "fletcher32": True} | options
        file.create_dataset(name, data=array, **settings)
