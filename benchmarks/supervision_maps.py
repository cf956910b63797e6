"""Heatmaps of other kinds than the extraction's, made of the keypoints that its shards hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vsam_heatmaps.atomic import making_folder
from vsam_heatmaps.rendering import render_heatmaps
from vsam_heatmaps.shards import Record, ShardInfo, Shards, Status, write_shard

Keypoints = NDArray[np.float32]
Change = Callable[[Keypoints, np.random.Generator], Keypoints]

_FILE = "shard-00000.h5"


def make_maps(clean: Path, kind: str, out: Path) -> Path:
    """Write shards with other maps of the same photos, unless they are there.

    Args:
        clean: The extraction's shards.
        kind: `sigma-X`: σ is X, a share of the side. `jitter-X`: each joint is moved by a Gaussian
            of standard deviation X on both axes. `shift-X`: all joints of a photo are moved
            together by X in a direction of its own. `others`: photos swap their poses.
        out: The folder to make.
    """
    if out.is_dir():
        return out
    shards = Shards(clean)
    found = [shards[id_] for id_ in shards.ids]
    info = shards.info
    name, _, number = kind.partition("-")
    rng = np.random.default_rng(0)
    if name == "others":
        records = _swapped(found)
    else:
        amount = float(number)
        changes: dict[str, Change] = {
            "sigma": lambda keypoints, _: keypoints,
            "jitter": lambda keypoints, rng: _jittered(keypoints, amount, rng),
            "shift": lambda keypoints, rng: _shifted(keypoints, amount, rng),
        }
        if name == "sigma":
            info = replace(info, sigma=amount)
        records = [_redrawn(record, info, changes[name], rng) for record in found]
    with making_folder(out) as folder:
        write_shard(folder / _FILE, info, records)
    return out


def _redrawn(record: Record, info: ShardInfo, change: Change, rng: np.random.Generator) -> Record:
    if record.status is not Status.OK:
        return record
    keypoints = change(record.keypoints, rng)
    maps = render_heatmaps(keypoints, info.render_options)
    return replace(record, keypoints=keypoints, heatmaps=maps)


def _jittered(keypoints: Keypoints, sigma: float, rng: np.random.Generator) -> Keypoints:
    moved = keypoints.copy()
    moved[:, :2] += rng.normal(0, sigma, moved[:, :2].shape).astype(np.float32)
    return moved


def _shifted(keypoints: Keypoints, distance: float, rng: np.random.Generator) -> Keypoints:
    angle = rng.uniform(0, 2 * np.pi)
    moved = keypoints.copy()
    moved[:, :2] += np.array([np.cos(angle), np.sin(angle)], np.float32) * np.float32(distance)
    return moved


def _swapped(records: Sequence[Record]) -> list[Record]:
    """Give each photo the pose of the next one that has one."""
    posed = [record for record in records if record.status is Status.OK]
    following = dict(zip((record.id for record in posed), [*posed[1:], *posed[:1]], strict=True))
    return [
        replace(record, keypoints=other.keypoints, heatmaps=other.heatmaps)
        if (other := following.get(record.id))
        else record
        for record in records
    ]
