"""What a run needs to go on after an interruption, and which of its epochs was the best."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from vsam_heatmaps.errors import expected

from . import run_folder
from .evaluation import Metrics
from .losses import VsamLoss
from .modeling.model import TaggingModel

# In the file's metadata: the state of the gradient scaler, if the training has one (fp16).
_SCALER = "gradient_scaler"


class Best:
    """Remembers the best epoch: the highest sum of category accuracy and attribute mAP."""

    def __init__(self) -> None:
        self.epoch, self.score = -1, -math.inf
        self.metrics: dict[str, Any] = {}

    def update(self, epoch: int, metrics: Metrics | None) -> bool:
        """Take note of an epoch; say whether it is the best so far.

        Where no validation says so, the last one is: without metrics, or with NaN alone.
        """
        figures = (metrics.category_accuracy, metrics.attribute_map) if metrics else ()
        known = [value for value in figures if not math.isnan(value)]
        if metrics is None or not known:
            self.epoch = epoch
            return True
        score = sum(known)
        if score <= self.score:
            return False
        self.epoch, self.score, self.metrics = epoch, score, asdict(metrics)
        return True


def save_last(
    out: Path,
    model: TaggingModel,
    criterion: VsamLoss,
    optimizer: Any,
    scaler: torch.amp.GradScaler | None,
    epoch: int,
    best: Best,
) -> None:
    """Save what resuming needs, as one file: it is whole, or it is the epoch before."""
    state = optimizer.state_dict()
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"loss.{name}": tensor for name, tensor in criterion.state_dict().items()}
    for index, values in state["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
    metadata = {
        "format_version": str(run_folder.FORMAT_VERSION),
        "epoch": str(epoch + 1),
        "best": json.dumps(vars(best)),
    }
    if scaler is not None:
        metadata[_SCALER] = json.dumps(scaler.state_dict())
    run_folder.save_tensors(out / run_folder.LAST, tensors, metadata)


def load_last(
    out: Path,
    model: TaggingModel,
    criterion: VsamLoss,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None,
) -> tuple[int, Best]:
    """Load what `save_last` saved; give the number of finished epochs and the best so far.

    The gradient scaler of an older file, which has none, starts anew.

    Raises:
        VsamError: If the file is damaged, is none of `save_last`, or does not fit the model.
    """
    path = out / run_folder.LAST
    tensors, metadata = run_folder.load_tensors(path)
    if metadata.get("format_version") != str(run_folder.FORMAT_VERSION) or "best" not in metadata:
        raise expected(
            f"format_version of {path}",
            f"{run_folder.FORMAT_VERSION}, with the state of a training",
            metadata.get("format_version"),
        )
    weights: dict[str, dict[str, torch.Tensor]] = {"model": {}, "loss": {}}
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind in weights:
            weights[kind][rest] = tensor
        else:
            index, _, field = rest.partition(".")
            moments.setdefault(int(index), {})[field] = tensor
    run_folder.load_weights(model, weights["model"], path)
    run_folder.load_weights(criterion, weights["loss"], path)
    state = optimizer.state_dict()
    state["state"] = moments
    optimizer.load_state_dict(state)
    if scaler is not None and _SCALER in metadata:
        scaler.load_state_dict(json.loads(metadata[_SCALER]))
    best = Best()
    vars(best).update(json.loads(metadata["best"]))
    return int(metadata["epoch"]), best
