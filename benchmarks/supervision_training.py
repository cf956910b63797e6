"""Train one of the models that `supervision.py` compares, and write what it says of test photos."""

from __future__ import annotations

import copy
import io
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from supervision_data import Data
from supervision_designs import REGULARISER_OF
from supervision_feeds import Batch, CachedFeed, Feed, PhotoFeed, open_cached
from supervision_models import build, kept_blocks, regions_option, run_given
from supervision_plan import FROZEN, PARTS_OF_BODY, SCRATCH, Training
from torch import nn

from vsam import schedules
from vsam.config import TrainConfig
from vsam.evaluation import Metrics, compute_metrics
from vsam.losses import VsamLoss, inverse_frequency_weights
from vsam.modeling.model import TaggingModel, VsamOutput
from vsam.optimizing import make_optimizer, set_learning_rate
from vsam.resuming import Best
from vsam_datasets.category_regions import CategoryRegions
from vsam_datasets.pairs import PairDataset
from vsam_datasets.preprocessing import Preprocessing
from vsam_datasets.tables import LabelRow, count_labels
from vsam_heatmaps.atomic import write_bytes, write_text
from vsam_heatmaps.errors import VsamError
from vsam_heatmaps.shards import Shards

_MAX_GRADIENT_NORM = 5.0
_TEST_BATCH = 50


@dataclass(frozen=True)
class Place:
    """Where a training finds things and leaves them; what a worker process needs.

    Attributes:
        data: The data set.
        photos: Its photos at the size that they are trained at, or none.
        pasted: Likewise those that were pasted, or none.
        features: Its cached outputs of blocks, or none.
        pasted_features: Likewise of those that were pasted.
        weights: Of the pretrained backbone, or none.
        heatmaps: Shards.
        out: Folder of results.
        precision: Of the networks: `fp32` or `bf16`.
    """

    data: Data
    photos: Path | None
    pasted: Path | None
    features: Path | None
    pasted_features: Path | None
    weights: Path | None
    heatmaps: Path
    out: Path
    precision: str


def drawn_rows(rows: Sequence[LabelRow], count: int | None, seed: int) -> list[LabelRow]:
    """Draw the photos to train on: others for each seed, the same for all variants."""
    if count is None or count >= len(rows):
        return list(rows)
    chosen = np.random.default_rng(seed).permutation(len(rows))[:count]
    return [rows[index] for index in sorted(chosen)]


def train_and_score(training: Training, place: Place) -> None:
    """Train a model; write its scores of the test photos (`.npz`), then what it is (`.json`).

    The epoch that counts is the one that does best on the validation split, as in `vsam-train`.
    """
    began = time.monotonic()
    part, variant = training.part, training.variant
    torch.manual_seed(training.seed)
    table = place.data.table
    rows = drawn_rows(table.split("train"), part.photos, training.seed)
    config = _config(training, place)
    model = build(
        part,
        variant,
        place.weights,
        categories=len(table.categories),
        attributes=len(table.attributes),
    )
    counts = count_labels(tuple(rows))[0]
    loss = VsamLoss(
        class_weights=inverse_frequency_weights([counts[name] for name in table.categories]),
        pose_weight=config.pose_weight,
        regulariser=config.regulariser,
        distributions=variant.attention == "regions",
    )
    feeds = _Feeds(training, place)
    train, val, test = (
        feeds.of(chosen, shuffle=chosen is rows)
        for chosen in (rows, table.split("val"), table.split("test"))
    )
    runner = _Runner(model, given=variant.given, autocast=place.precision == "bf16")
    best = _fit(runner, loss, train, val, config)
    scored = {"test": runner.scores(test)}
    if pasted := place.data.pasted_rows():
        scored["pasted"] = runner.scores(feeds.of(pasted, shuffle=False, pasted=True))
    images = {"test": table.split("test"), "pasted": pasted}
    arrays = {
        f"{split}_{name}": values
        for split, named in scored.items()
        for name, values in (
            named.arrays() | {"images": np.array([row.image for row in images[split]])}
        ).items()
    }
    told = {
        "part": part.name,
        "variant": variant.name,
        "seed": training.seed,
        "given_maps": variant.given,
        "maps": part.maps,
        "design": part.design,
        "train_photos": len(rows),
        "config": config.to_json(),
        "categories": table.categories,
        "attributes": table.attributes,
        "parameters_trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "best_epoch": best.epoch + 1,
        "validation": best.metrics,
        "test": asdict(scored["test"].metrics()),
        "seconds": round(time.monotonic() - began, 1),
    }
    out = place.out / training.key
    out.parent.mkdir(parents=True, exist_ok=True)
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)
    write_bytes(out.with_suffix(".npz"), data.getvalue())
    write_text(out.with_suffix(".json"), json.dumps(told, indent=1) + "\n")


@dataclass(frozen=True)
class _Scored:
    """Scores of N photos, and what is true; see `Scored` of `vsam.scoring`."""

    category_scores: torch.Tensor
    attribute_scores: torch.Tensor
    category: torch.Tensor
    attributes: torch.Tensor

    def metrics(self) -> Metrics:
        return compute_metrics(
            self.category_scores, self.attribute_scores, self.category, self.attributes
        )

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            "category_scores": self.category_scores.numpy(),
            "attribute_scores": self.attribute_scores.numpy(),
            "category": self.category.numpy(),
            "attributes": self.attributes.numpy().astype(bool),
        }


class _Runner:
    """Runs a model on batches, with its own maps or with the pose's.

    Args:
        model: The network.
        given: Use the pose's maps.
        autocast: Compute in bf16 where that is safe.
    """

    def __init__(self, model: TaggingModel, *, given: bool, autocast: bool) -> None:
        self.model, self._given, self._autocast = model, given, autocast

    def __call__(self, batch: Batch) -> VsamOutput:
        with torch.autocast("cpu", torch.bfloat16, enabled=self._autocast):
            if self._given:
                return run_given(self.model, batch["image"], batch["heatmap"])
            return self.model(batch["image"])

    @torch.inference_mode()
    def scores(self, feed: Feed) -> _Scored:
        self.model.eval()
        parts: list[tuple[torch.Tensor, ...]] = []
        for batch in feed.batches(0):
            output = self(batch)
            parts.append(
                (
                    output.category_logits.float(),
                    output.attribute_logits.float(),
                    batch["category"],
                    batch["attributes"],
                )
            )
        return _Scored(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _fit(runner: _Runner, loss: VsamLoss, train: Feed, val: Feed, config: TrainConfig) -> Best:
    """Train as `vsam-train` does, in one process and without a folder; end with the best epoch."""
    model = runner.model
    optimizer = make_optimizer(model, config)
    best, kept = Best(), copy.deepcopy(model.state_dict())
    for epoch in range(config.epochs):
        model.train()
        for step, batch in enumerate(train.batches(epoch)):
            set_learning_rate(optimizer, schedules.learning_rate(config, len(train), epoch, step))
            terms = loss(
                runner(batch),
                category=batch["category"],
                attributes=batch["attributes"],
                heatmap=batch["heatmap"],
                has_pose=batch["has_pose"],
                pose_weight=schedules.pose_weight(config, len(train), epoch, step),
            )
            if not terms.total.isfinite():
                raise VsamError(f"The loss became {float(terms.total)} in epoch {epoch + 1}.")
            terms.total.backward()
            nn.utils.clip_grad_norm_(model.parameters(), _MAX_GRADIENT_NORM)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if best.update(epoch, runner.scores(val).metrics()):
            kept = copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)
    return best


def _config(training: Training, place: Place) -> TrainConfig:
    """Write the training down in the terms of `vsam-train`."""
    part, variant = training.part, training.variant
    pretrained = part.backbone != SCRATCH
    return TrainConfig(
        data=place.data.labels,
        photos=place.photos or place.data.photos,
        heatmaps=place.heatmaps,
        out=place.out / training.key,
        attention=variant.attention,
        **regions_option(variant),
        width=part.budget.width,
        image_size=part.budget.image_size,
        batch_norm=not pretrained,
        dropout=part.budget.dropout,
        pose_weight=part.pose_weight[variant.attention] if variant.supervised else 0.0,
        lambda_decay=part.lambda_decay,
        regulariser=REGULARISER_OF.get(part.design, "auto"),
        backbone_weights=place.weights if pretrained else None,
        freeze_backbone=part.backbone == FROZEN,
        epochs=part.budget.epochs,
        batch_size=part.budget.batch_size,
        lr=part.budget.lr,
        backbone_lr_factor=part.budget.backbone_lr_factor,
        weight_decay=part.budget.weight_decay,
        seed=training.seed,
        device="cpu",
        precision=place.precision,
        num_workers=0,
    )


class _Feeds:
    """Makes the feeds of one training."""

    def __init__(self, training: Training, place: Place) -> None:
        self._training, self._place = training, place
        self._table = place.data.table
        self._shards = Shards(place.heatmaps)
        self._cached: dict[bool, tuple[Any, dict[str, int]]] = {}

    def of(self, rows: Sequence[LabelRow], *, shuffle: bool, pasted: bool = False) -> Feed:
        """Make the feed of some photos; `pasted` takes those with another background."""
        size = self._training.part.budget.batch_size if shuffle else _TEST_BATCH
        if self._training.part.backbone == SCRATCH:
            dataset = self._photos(rows, augment=shuffle, pasted=pasted)
            return PhotoFeed(dataset, size, shuffle=shuffle)
        cached, position = self._features(pasted)
        chosen = np.array([position[row.image] for row in rows])
        return CachedFeed(cached, chosen, size, shuffle=shuffle)

    def _photos(self, rows: Sequence[LabelRow], *, augment: bool, pasted: bool) -> PairDataset:
        part, place = self._training.part, self._place
        photos = place.pasted if pasted else place.photos
        assert photos is not None, "photos are there for trainings from scratch"
        prepare = Preprocessing(image_size=part.budget.image_size)
        return PairDataset(
            rows,
            photos,
            categories=self._table.categories,
            attributes=self._table.attributes,
            preprocessing=prepare,
            map_side=self._shards.info.side,
            shards=self._shards,
            **regions_option(self._training.variant),
            augment=augment,
            seed=self._training.seed,
        )

    def _features(self, pasted: bool) -> tuple[Any, dict[str, int]]:
        if pasted not in self._cached:
            place, variant = self._place, self._training.variant
            rows = place.data.pasted_rows() if pasted else self._table.rows
            folder = place.pasted_features if pasted else place.features
            assert folder is not None, "features are there for pretrained backbones"
            regions = CategoryRegions()
            cached = open_cached(
                folder,
                kept_blocks(self._training.part, variant),
                rows,
                self._shards,
                [
                    PARTS_OF_BODY if variant.attention == "regions" else [regions.of(row.category)]
                    for row in rows
                ],
                categories=self._table.categories,
                attributes=self._table.attributes,
            )
            self._cached[pasted] = cached, {row.image: n for n, row in enumerate(rows)}
        return self._cached[pasted]
