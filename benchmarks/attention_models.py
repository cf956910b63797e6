"""Train the models that `attention.py` compares, and measure what their maps look at."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attention_data import Data, Truth
from attention_report import ATTENTION, GRAD_CAM, MEASURES, REFERENCES
from numpy.typing import NDArray

from vsam.attention_maps import distribution, merge_maps, pointing_hit, share_inside
from vsam.config import TrainConfig
from vsam.explanation import grad_cam
from vsam.run_folder import LAST, load_checkpoint
from vsam.training import train
from vsam_heatmaps.atomic import write_text
from vsam_heatmaps.images import read_photo

Map = NDArray[np.floating]

_BATCH = 32
# Standard deviation of the centred Gaussian as a share of the photo's height and width.
_SIGMA = 0.25


def train_and_score(data: Data, config: TrainConfig, out: Path, regions: str) -> None:
    """Train a model, or go on with its training, and write what its maps look at on test photos.

    Args:
        data: What to train on and to measure.
        config: See `TrainConfig`.
        out: JSON to write: accuracy and, by map and measure, one number for each photo.
        regions: How several regions' maps become one, see `merge_maps`.
    """
    began = time.monotonic()
    report = train(config, resume=(config.out / LAST).is_file(), progress=True)
    rows = data.measured()
    photos = [data.photos / row.image for row in rows]
    scores: dict[str, dict[str, list[float]]] = {}
    for row, maps in zip(rows, maps_of(config.out, photos, regions), strict=True):
        add_scores(scores, maps, data.truth(row))
    metrics = report.test
    assert metrics is not None, "the photos to measure are of the test split"
    told = {
        "category_accuracy": metrics.category_accuracy,
        "attribute_map": metrics.attribute_map,
        "best_epoch": report.best_epoch,
        "seconds": round(time.monotonic() - began, 1),
        "images": [row.image for row in rows],
        "scores": scores,
    }
    write_text(out, json.dumps(told) + "\n")


def score_references(data: Data, out: Path) -> None:
    """Write, in the same form, what maps look at that do not depend on the photo."""
    maps = dict(zip(REFERENCES, (even(), gaussian(), data.average_heatmap()), strict=True))
    rows = data.measured()
    scores: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        add_scores(scores, maps, data.truth(row))
    told = {"images": [row.image for row in rows], "scores": scores}
    write_text(out, json.dumps(told) + "\n")


def maps_of(run: Path, photos: Sequence[Path], regions: str) -> Iterator[dict[str, Map]]:
    """Give each photo's maps, (S, S) each, by name: attention if there is any, and Grad-CAM.

    Grad-CAM explains the category that the model predicts.
    """
    checkpoint = load_checkpoint(run)
    model = checkpoint.model.eval()
    for start in range(0, len(photos), _BATCH):
        taken = [read_photo(path) for path in photos[start : start + _BATCH]]
        images = torch.stack([checkpoint.preprocessing(photo) for photo in taken])
        with torch.inference_mode():
            attention = model(images).attention.float().numpy()  # (B, R, S, S)
        explained = grad_cam(model, images).numpy()  # (B, h, w)
        for several, cam in zip(attention, explained, strict=True):
            seen = {ATTENTION: merge_maps(several, regions)} if len(several) else {}
            yield seen | {GRAD_CAM: cam}


def add_scores(
    scores: dict[str, dict[str, list[float]]], maps: Mapping[str, Map], truth: Truth
) -> None:
    """Measure the maps of one photo; append to `scores`, by map and by measure."""
    for name, each in maps.items():
        found = measure(each, truth)
        by_measure = scores.setdefault(name, {key: [] for key in MEASURES})
        for key, value in found.items():
            by_measure[key].append(round(value, 6))


def measure(attention: Map, truth: Truth) -> dict[str, float]:
    """Tell how much of a map lies on person and garment, and whether its maximum does."""
    size: Any = truth.person.shape
    weights = distribution(attention, size)
    above = distribution(attention, size, from_minimum=True)
    return {
        f"{target}_{key}": value
        for target, mask in (("person", truth.person), ("garment", truth.garment))
        for key, value in (
            ("share", share_inside(weights, mask)),
            ("share_above_minimum", share_inside(above, mask)),
            ("pointing", pointing_hit(weights, mask)),
        )
    }


def even() -> Map:
    """Make a map that is the same everywhere."""
    return np.ones((1, 1))


def gaussian(side: int = 56) -> Map:
    """Make a centred Gaussian over the squashed photo, (side, side)."""
    places = (np.arange(side) + 0.5) / side - 0.5
    line = np.exp(-(places**2) / (2 * _SIGMA**2))
    return np.outer(line, line)
