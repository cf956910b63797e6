"""Train VSAM on image-heatmap pairs. `_train` reads from top to bottom."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, RandomSampler

from vsam_datasets.pairs import Pair, PairDataset, collate
from vsam_datasets.tables import SPLITS, count_labels, read_labels
from vsam_heatmaps import interrupts
from vsam_heatmaps.errors import VsamError, expected
from vsam_heatmaps.progress import track

from . import run_folder, schedules
from .batches import checked, ids_of
from .calibration import Calibration, fit_calibration, has_labels
from .config import TrainConfig
from .evaluation import Metrics, best_threshold, compute_metrics
from .losses import LossTerms, VsamLoss, inverse_frequency_weights
from .misfits import listed
from .modeling.build import ModelConfig, build_vsam
from .networks import find_device
from .optimizing import make_optimizer, set_learning_rate
from .resuming import Best, load_last, save_last
from .run_folder import Labels
from .starting import holding_run, load_start, require_same_run, require_variance
from .supervision import open_supervision
from .tracking import Tracker

_log = logging.getLogger("vsam")

_MAX_GRADIENT_NORM = 5.0
_MIXED_PRECISION = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


@dataclass(frozen=True)
class TrainReport:
    """What a training run achieved.

    Attributes:
        best_epoch: The epoch, from 1, whose weights are in `model.safetensors`.
        validation: Its metrics; None without a validation split that has labels.
        test: Its metrics on the test split; None without one.
    """

    best_epoch: int
    validation: Metrics | None
    test: Metrics | None


def train(config: TrainConfig, *, resume: bool = False, progress: bool = False) -> TrainReport:
    """Train a model and leave a run folder.

    Each epoch draws its randomness from the seed and its own number alone, so a resumed run
    continues exactly as the undisturbed one would have.

    Args:
        config: See `TrainConfig`.
        resume: Go on from the last whole epoch in `config.out`.
        progress: Show progress on stderr.

    Raises:
        VsamError: If labels, photos, heatmaps, weights or the folder are not as expected, a photo
            can't be read, the loss, the weights or the scores stop being finite, or another
            training is writing the folder.
    """
    with contextlib.ExitStack() as held:
        return _train(config, held, resume=resume, progress=progress)


def _train(
    config: TrainConfig, held: contextlib.ExitStack, *, resume: bool, progress: bool
) -> TrainReport:
    """Train; what is entered into `held` ends with the training."""
    table = read_labels(config.data, config.photos)
    labels = Labels(table.categories or ("unknown",), table.attributes or ("none",))
    model_config = ModelConfig(
        categories=len(labels.categories),
        attributes=len(labels.attributes),
        image_size=config.image_size,
        backbone=config.backbone,
        attention=config.attention,
        regions=config.regions or (),
        width=config.width,
        batch_norm=config.batch_norm,
        dropout=config.dropout,
    )
    supervision = open_supervision(config, table, model_config.attention_side)
    if resume:
        require_same_run(config, labels)
    accelerator = _make_accelerator(config)
    set_seed(config.seed)
    model = build_vsam(model_config)
    preprocessing = load_start(model, model_config, labels, config, resume=resume)
    if config.freeze_backbone:
        model.freeze_backbone()
    require_variance(model, config, len(table.split("train")))
    # Last of the checks: a run that can't start leaves no folder.
    held.enter_context(holding_run(config, resume=resume, lock=accelerator.is_main_process))
    model = model.to(memory_format=torch.channels_last)
    counts = count_labels(table.split("train"))[0]
    criterion = VsamLoss(
        class_weights=inverse_frequency_weights([counts[name] for name in labels.categories]),
        pose_weight=config.pose_weight,
        attribute_weight=config.attribute_weight,
        regulariser=config.regulariser,
        temperature=config.temperature,
        learn_temperature=config.learn_temperature,
        distributions=config.attention == "regions",
    )
    optimizer = make_optimizer(model, config, also=criterion.parameters())
    start, best = 0, Best()
    if resume:
        start, best = load_last(config.out, model, criterion, optimizer, accelerator.scaler)
    datasets = {
        split: PairDataset(
            rows,
            config.photos,
            categories=labels.categories,
            attributes=labels.attributes,
            preprocessing=preprocessing,
            map_side=model_config.attention_side,
            shards=supervision.shards,
            region=config.region,
            category_regions=supervision.category_regions,
            regions=config.regions,
            augment=split == "train",
            min_crop=config.min_crop,
            seed=config.seed,
            max_pixels=config.max_pixels,
        )
        for split in SPLITS
        if (rows := table.split(split))
    }
    network, optimizer = accelerator.prepare(model, optimizer)
    # Processes that train together refuse a module in which there is nothing to learn.
    learns = any(True for _ in criterion.parameters())
    loss = accelerator.prepare(criterion) if learns else criterion.to(accelerator.device)
    # Processes that train together take turns in one order: it must not come from the state of
    # each, and accelerate makes its own generator once, so that a resumed run would begin anew.
    order = torch.Generator() if accelerator.num_processes > 1 else None
    loaders = {
        split: accelerator.prepare(_make_loader(dataset, config, order, shuffle=split == "train"))
        for split, dataset in datasets.items()
    }

    def describe(threshold: float, calibration: Calibration | None = None) -> None:
        if accelerator.is_main_process:
            run_folder.save_description(
                config.out,
                config=model_config,
                preprocessing=preprocessing,
                labels=labels,
                threshold=threshold,
                training=config.to_json(),
                calibration=calibration,
            )

    if resume:  # what was fitted to the weights holds as long as they stay
        kept = run_folder.read_description(config.out)
        describe(kept.threshold, kept.calibration)
    else:
        describe(config.threshold)
    fittable = any(row.attributes for row in table.split("val"))
    if config.fit_threshold and not fittable:
        _log.warning(
            "No photo of a validation split has an attribute: the threshold stays %g.",
            config.threshold,
        )
    steps = len(loaders["train"])
    with Tracker(config.out, start, enabled=accelerator.is_main_process) as tracker:
        for epoch in range(start, config.epochs):
            seed = (config.seed + 1_000_003 * (epoch + 1)) % 2**32
            set_seed(seed)
            if order is not None:
                order.manual_seed(seed)
            began = time.monotonic()
            terms = _train_epoch(
                epoch,
                config,
                accelerator,
                network,
                optimizer,
                loss,
                loaders["train"],
                progress,
            )
            facts: dict[str, Any] = {
                "epoch": epoch + 1,
                "lr": schedules.learning_rate(config, steps, epoch, steps - 1),
                "lambda": schedules.pose_weight(config, steps, epoch, steps - 1),
            }
            facts |= {f"train_{name}": value for name, value in terms.items()}
            if config.learn_temperature:
                facts["temperature"] = criterion.temperature.item()
            _require_finite(model.state_dict().values(), f"weights after epoch {epoch + 1}")
            validation = None
            if "val" in datasets:
                validation = evaluate(accelerator, network, loaders["val"], "val", epoch)
                facts |= {f"val_{name}": value for name, value in asdict(validation).items()}
            facts["seconds"] = round(time.monotonic() - began, 2)
            is_best = best.update(epoch, validation)  # in all processes: they know the same metrics
            if accelerator.is_main_process:
                if is_best:
                    describe(config.threshold)
                    run_folder.save_tensors(
                        config.out / run_folder.WEIGHTS,
                        model.state_dict(),
                        {"epoch": str(epoch + 1)},
                    )
                # Before the state: resuming drops a line too many, but could not add a lost one.
                tracker.epoch(facts, progress=progress)
                save_last(config.out, model, criterion, optimizer, accelerator.scaler, epoch, best)
                if "val" in datasets:
                    tracker.attention(model, datasets["val"], preprocessing, epoch + 1)
            accelerator.wait_for_everyone()
        checkpoint = run_folder.load_checkpoint(config.out)
        model.load_state_dict(checkpoint.model.state_dict())
        if "val" in datasets:
            validated = _scores_and_labels(accelerator, network, loaders["val"], "val", best.epoch)
            threshold = config.threshold
            if config.fit_threshold and validated[3].any():
                threshold = best_threshold(validated[1], validated[3])
            if has_labels(*validated[2:]):
                describe(threshold, fit_calibration(*validated, threshold=threshold))
        test = None
        if "test" in datasets:
            test = evaluate(accelerator, network, loaders["test"], "test", best.epoch)
        if test is not None and accelerator.is_main_process:
            tracker.epoch(
                {"epoch": best.epoch + 1}
                | {f"test_{name}": value for name, value in asdict(test).items()},
                progress=progress,
            )
    validation = Metrics(**best.metrics) if best.metrics else None
    return TrainReport(best.epoch + 1, validation, test)


def _train_epoch(
    epoch: int,
    config: TrainConfig,
    accelerator: Accelerator,
    network: nn.Module,
    optimizer: Any,
    loss: nn.Module,
    loader: Any,
    progress: bool,
) -> dict[str, float]:
    """Run one epoch; give the mean of each loss term."""
    network.train()
    loader.dataset.epoch = epoch
    sums, seen, done = torch.zeros(4), 0, 0
    steps, photos = len(loader), len(loader.dataset)
    shown = progress and accelerator.is_main_process
    with track(photos, f"epoch {epoch + 1}/{config.epochs}", shown=shown) as bar:
        for step, batch in enumerate(checked(loader)):
            interrupts.raise_lost()
            set_learning_rate(optimizer, schedules.learning_rate(config, steps, epoch, step))
            output = network(batch["image"].contiguous(memory_format=torch.channels_last))
            terms: LossTerms = loss(
                output,
                category=batch["category"],
                attributes=batch["attributes"],
                heatmap=batch["heatmap"],
                has_pose=batch["has_pose"],
                pose_weight=schedules.pose_weight(config, steps, epoch, step),
            )
            if not terms.total.isfinite():
                raise VsamError(
                    f"The loss became {terms.total.item()} in epoch {epoch + 1}, step {step + 1}, "
                    f"on {listed(ids_of(loader, batch))}. The last whole epoch is kept; try a "
                    "lower --lr, or --batch-norm."
                )
            accelerator.backward(terms.total)
            accelerator.clip_grad_norm_(
                [*network.parameters(), *loss.parameters()], _MAX_GRADIENT_NORM
            )
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            count = len(batch["index"])
            sums += torch.stack([term.detach().float().cpu() for term in terms]) * count
            seen += count
            means = dict(zip(LossTerms._fields, (sums / seen).tolist(), strict=True))
            # Processes that train together see some photos twice, to fill their last batches.
            counted = min(count * accelerator.num_processes, photos - done)
            done += counted
            bar.update(counted, **means)
    if accelerator.num_processes > 1:
        shares = torch.tensor([*sums, seen], device=accelerator.device)
        *totals, count = accelerator.reduce(shares, "sum").tolist()
        means = {name: each / count for name, each in zip(LossTerms._fields, totals, strict=True)}
    return means


def evaluate(
    accelerator: Accelerator, network: nn.Module, loader: Any, split: str, epoch: int
) -> Metrics:
    """Compute the metrics of a model, as it is after an epoch, on a loader of a split's pairs.

    Raises:
        VsamError: If its scores are not finite. Processes that train together all raise it.
    """
    return compute_metrics(*_scores_and_labels(accelerator, network, loader, split, epoch))


@torch.inference_mode()
def _scores_and_labels(
    accelerator: Accelerator, network: nn.Module, loader: Any, split: str, epoch: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Run a model over a loader; give what `compute_metrics` takes. Raises as `evaluate`."""
    network.eval()
    parts: list[list[torch.Tensor]] = [[], [], [], []]
    for batch in checked(loader):
        output = network(batch["image"].contiguous(memory_format=torch.channels_last))
        gathered = accelerator.gather_for_metrics(
            (
                output.category_logits.float(),
                output.attribute_logits.float(),
                batch["category"],
                batch["attributes"],
            )
        )
        for part, tensor in zip(parts, gathered, strict=True):
            part.append(tensor.cpu())
    categories, attributes, category, attribute = (torch.cat(part) for part in parts)
    _require_finite((categories, attributes), f"{split} scores after epoch {epoch + 1}")
    return categories, attributes.sigmoid(), category, attribute


def _require_finite(tensors: Iterable[torch.Tensor], what: str) -> None:
    if not all(tensor.isfinite().all() for tensor in tensors):
        raise VsamError(
            f"Expected the {what} to be finite, but they hold NaN or infinity. The last whole "
            "epoch is kept; try a lower --lr, or --batch-norm."
        )


def _make_loader(
    dataset: PairDataset,
    config: TrainConfig,
    order: torch.Generator | None,
    *,
    shuffle: bool,
) -> DataLoader[Pair]:
    """Make a loader.

    Args:
        dataset: The photos of a split.
        config: Says how many are in a batch, and who reads them.
        order: Draws the order of processes that train together; one draws from torch's state.
        shuffle: For training.
    """
    workers = config.num_workers
    return DataLoader(
        dataset,
        batch_size=config.batch_size,
        sampler=RandomSampler(dataset, generator=order) if shuffle else None,
        num_workers=min(4, os.cpu_count() or 1) if workers is None else workers,
        collate_fn=collate,
        # A last batch of one photo has no variance to normalise with. Of several processes
        # accelerate fills the last batch with photos of the first.
        drop_last=(
            shuffle and order is None and len(dataset) > 1 and len(dataset) % config.batch_size == 1
        ),
        pin_memory=torch.cuda.is_available(),
    )


def _make_accelerator(config: TrainConfig) -> Accelerator:
    device = find_device(config.device)
    if config.precision == "fp16" and device.type == "cpu":  # accelerate would compute in fp32
        raise expected(
            "--precision", "one that a CPU trains in", config.precision, "Use bf16 or fp32."
        )
    return Accelerator(
        cpu=config.device == "cpu", mixed_precision=_MIXED_PRECISION[config.precision]
    )
