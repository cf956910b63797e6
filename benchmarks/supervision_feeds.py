"""Batches for `supervision.py`: of photos, or of blocks' outputs that were computed before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, RandomSampler

from vsam.batches import checked
from vsam_datasets.pairs import UNKNOWN_CATEGORY, PairDataset, collate
from vsam_datasets.tables import LabelRow
from vsam_heatmaps.shards import Shards, Status

Batch = dict[str, Any]
"""As `Pair`, with a batch dimension in front; `image` is what the model takes."""


class Feed(Protocol):
    """Gives a split's batches, anew in each epoch."""

    def __len__(self) -> int:
        """Count the batches of an epoch."""

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Give them; an epoch for training is shuffled and augmented by its number."""


class PhotoFeed:
    """Batches of photos.

    Args:
        dataset: Augments or not.
        batch_size: Photos a batch.
        shuffle: For training.
    """

    def __init__(self, dataset: PairDataset, batch_size: int, *, shuffle: bool) -> None:
        self._dataset = dataset
        self._loader = DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=RandomSampler(dataset) if shuffle else None,
            collate_fn=collate,
            # A last batch of one photo has no variance to normalise with.
            drop_last=shuffle and len(dataset) % batch_size == 1,
        )

    def __len__(self) -> int:
        return len(self._loader)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Give the batches; a photo that can't be read stops the training."""
        self._dataset.epoch = epoch
        for batch in checked(self._loader):
            image = batch["image"].contiguous(memory_format=torch.channels_last)
            yield dict(batch) | {"image": image}


@dataclass(frozen=True)
class Cached:
    """What is known of N photos before any training.

    Attributes:
        stages: Outputs of blocks, (N, VIEWS, C, H, W) float16 each.
        category: (N,) int64.
        attributes: (N, A) float32.
        heatmap: (N, R, M, M) uint8, of the photos as they are.
        has_pose: (N,) bool.
    """

    stages: Sequence[np.ndarray]
    category: torch.Tensor
    attributes: torch.Tensor
    heatmap: torch.Tensor
    has_pose: torch.Tensor


class CachedFeed:
    """Batches of cached outputs; the augmentation is the mirror image.

    Args:
        cached: Of all photos.
        rows: Which of them.
        batch_size: Photos a batch.
        shuffle: For training: in an order of its own, each photo mirrored or not.
    """

    def __init__(self, cached: Cached, rows: np.ndarray, batch_size: int, *, shuffle: bool) -> None:
        self._cached, self._rows = cached, np.asarray(rows)
        self._batch_size, self._shuffle = batch_size, shuffle

    def __len__(self) -> int:
        return -(-len(self._rows) // self._batch_size)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Give the batches; order and mirroring come from torch's random state."""
        order = torch.arange(len(self._rows))
        mirrored = torch.zeros(len(self._rows), dtype=torch.bool)
        if self._shuffle:
            order = torch.randperm(len(self._rows))
            mirrored = torch.rand(len(self._rows)) < 0.5
        for start in range(0, len(order), self._batch_size):
            chosen = slice(start, start + self._batch_size)
            rows, flipped = self._rows[order[chosen].numpy()], mirrored[chosen]
            index = torch.from_numpy(rows)
            heatmap = self._cached.heatmap[index].float() / 255
            yield {
                "image": [_taken(stage, rows, flipped) for stage in self._cached.stages],
                "category": self._cached.category[index],
                "attributes": self._cached.attributes[index],
                # A region holds both sides of the body, so that a mirrored map is that of the
                # mirrored photo.
                "heatmap": torch.where(flipped[:, None, None, None], heatmap.flip(-1), heatmap),
                "has_pose": self._cached.has_pose[index],
            }


def _taken(stage: np.ndarray, rows: np.ndarray, mirrored: torch.Tensor) -> torch.Tensor:
    values = torch.from_numpy(stage[rows, mirrored.numpy().astype(int)]).float()  # (B, C, H, W)
    return values.contiguous(memory_format=torch.channels_last)


def open_cached(
    features: Path,
    blocks: Sequence[int],
    rows: Sequence[LabelRow],
    shards: Shards,
    regions: Sequence[Sequence[str]],
    *,
    categories: Sequence[str],
    attributes: Sequence[str],
) -> Cached:
    """Open what `cache_blocks` wrote, with the photos' labels and heatmaps.

    Args:
        features: The folder.
        blocks: Which blocks' outputs.
        rows: The photos, in its order.
        shards: Their heatmaps.
        regions: Of each photo, R names.
        categories: The classes, in the model's order.
        attributes: The attributes, likewise.
    """
    side = shards.info.side
    heatmap = np.zeros((len(rows), len(regions[0]), side, side), np.uint8)
    has_pose = np.zeros(len(rows), bool)
    for number, (row, names) in enumerate(zip(rows, regions, strict=True)):
        if row.image in shards and shards.status(row.image) is Status.OK:
            heatmap[number], has_pose[number] = shards.regions(row.image, names), True
    known = {name: index for index, name in enumerate(categories)}
    target = torch.tensor(
        [[name in row.attributes for name in attributes] for row in rows], dtype=torch.float32
    )
    return Cached(
        stages=[np.load(features / f"b{block}.npy", mmap_mode="r") for block in blocks],
        category=torch.tensor([known.get(row.category, UNKNOWN_CATEGORY) for row in rows]),
        attributes=target,
        heatmap=torch.from_numpy(heatmap),
        has_pose=torch.from_numpy(has_pose),
    )
