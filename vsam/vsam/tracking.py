"""What a run tells about itself: lines of metrics, TensorBoard scalars and pictures."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from vsam_datasets.pairs import PairDataset
from vsam_datasets.preprocessing import Preprocessing
from vsam_heatmaps.atomic import write_text

from .attention_maps import attention_overlay
from .modeling.model import TaggingModel
from .run_folder import METRICS

_log = logging.getLogger("vsam")
_PICTURES = 8


class Tracker:
    """Writes `metrics.jsonl` and TensorBoard events into a run folder.

    Args:
        run: The folder.
        start: Number of finished epochs when resuming; later lines are taken back.
        enabled: False does nothing, for all processes but the main one.
    """

    def __init__(self, run: Path, start: int, *, enabled: bool = True) -> None:
        self._path = run / METRICS
        self._enabled = enabled
        self._lines: list[str] = []
        self._writer: Any = None
        if not enabled:
            return
        if start and self._path.is_file():
            lines = self._path.read_text().splitlines()
            self._lines = [line for line in lines if _is_before(line, start)]
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=start + 1)

    def epoch(self, facts: dict[str, Any], *, progress: bool) -> None:
        """Record an epoch's figures; NaN becomes null."""
        if not self._enabled:
            return
        clean = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in facts.items()
        }
        self._lines.append(json.dumps(clean, allow_nan=False))
        write_text(self._path, "\n".join(self._lines) + "\n")
        for name, value in clean.items():
            if value is not None and name != "epoch":
                split, _, figure = name.partition("_")
                tag = f"{split}/{figure}" if figure else name
                self._writer.add_scalar(tag, value, facts["epoch"])
        if progress:
            shown = {
                name: value
                for name, value in clean.items()
                if isinstance(value, float) and name not in ("lr", "lambda", "seconds")
            }
            said = "  ".join(f"{name} {value:.3f}" for name, value in shown.items())
            _log.info("epoch %d: %s", facts["epoch"], said)

    @torch.inference_mode()
    def attention(
        self, model: TaggingModel, dataset: PairDataset, preprocessing: Preprocessing, epoch: int
    ) -> None:
        """Add pictures of the attention over the first photos of a data set."""
        if not self._enabled:
            return
        pairs = [dataset[index] for index in range(min(_PICTURES, len(dataset)))]
        images = torch.stack([pair["image"] for pair in pairs if "error" not in pair])
        device = next(model.parameters()).device
        model.eval()
        attention = model(images.to(device)).attention.float().cpu().numpy()
        if attention.shape[1] == 0:
            return
        photos = preprocessing.denormalize(images).permute(0, 2, 3, 1).numpy()
        tiles = [
            np.hstack([photo, attention_overlay(photo, heat)])
            for photo, heat in zip(photos, attention, strict=True)
        ]
        self._writer.add_images("attention", np.stack(tiles), epoch, dataformats="NHWC")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()


def _is_before(line: str, start: int) -> bool:
    facts = json.loads(line)
    return facts["epoch"] <= start and "lr" in facts
