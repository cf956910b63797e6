"""Metrics of a model on labelled photos."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multilabel_average_precision,
)

from vsam_datasets.pairs import UNKNOWN_CATEGORY


@dataclass(frozen=True)
class Metrics:
    """What a model achieves on N photos; NaN where no label allows to say it.

    Attributes:
        category_accuracy: Share of photos whose category comes first, 0..1.
        category_top3: Share of photos whose category is among the first three.
        attribute_map: Mean over attributes of the average precision, 0..1; attributes that no
            photo has are left out.
        chance_map: What scores without meaning would reach: the mean frequency of the attributes.
        photos: N.
    """

    category_accuracy: float
    category_top3: float
    attribute_map: float
    chance_map: float
    photos: int


def compute_metrics(
    category_scores: torch.Tensor,
    attribute_scores: torch.Tensor,
    category: torch.Tensor,
    attributes: torch.Tensor,
) -> Metrics:
    """Compare scores with labels.

    Args:
        category_scores: (N, K), higher is likelier.
        attribute_scores: (N, A), probabilities.
        category: (N,) int64, `UNKNOWN_CATEGORY` where unknown; those don't count.
        attributes: (N, A), 0 or 1.
    """
    known = category != UNKNOWN_CATEGORY
    accuracy = top3 = float("nan")
    if known.any():
        classes = category_scores.shape[1]
        given, true = category_scores[known], category[known]
        if classes > 1:
            accuracy = float(multiclass_accuracy(given, true, num_classes=classes, average="micro"))
        else:
            accuracy = 1.0
        top3 = float(
            (given.topk(min(3, classes)).indices == true[:, None]).any(dim=1).float().mean()
        )
    precision = average_precisions(attribute_scores, attributes)
    present = ~precision.isnan()
    return Metrics(
        category_accuracy=accuracy,
        category_top3=top3,
        attribute_map=float(precision[present].mean()),
        chance_map=float(attributes[:, present].float().mean()),
        photos=len(category),
    )


def attribute_recall(scores: torch.Tensor, attributes: torch.Tensor, k: int) -> float:
    """Compute DeepFashion's top-k recall of attributes (Liu et al., CVPR 2016), 0..1.

    Each photo's attributes are ranked by score; of all true attributes of all photos this is the
    share that lies among the first k of its photo. Equal scores keep the order of the labels. NaN
    if no photo has any attribute.

    Args:
        scores: (N, A), probabilities.
        attributes: (N, A), 0 or 1.
        k: How many of each photo count.
    """
    first = scores.argsort(dim=1, descending=True, stable=True)[:, :k]  # (N, A) -> (N, k)
    true = attributes > 0
    # Nothing by nothing is NaN.
    return float(true.gather(1, first).sum() / true.sum())


@dataclass(frozen=True)
class F1:
    """F1 = 2 TP / (2 TP + FP + FN) of attributes, 0..1; NaN where nothing allows to say it.

    Attributes:
        micro: Counted over all decisions together.
        macro: Mean over the attributes that at least one photo has.
        each: (A,), of each attribute; NaN for those that no photo has.
    """

    micro: float
    macro: float
    each: torch.Tensor


def attribute_f1(decided: torch.Tensor, attributes: torch.Tensor) -> F1:
    """Compare decisions with labels.

    Args:
        decided: (N, A) bool.
        attributes: (N, A), 0 or 1.
    """
    true = attributes > 0
    hits = (decided & true).sum(dim=0).double()
    both = decided.sum(dim=0) + true.sum(dim=0)  # 2 TP + FP + FN
    present = true.any(dim=0)
    each = torch.where(present, 2 * hits / both, float("nan"))
    return F1(
        micro=float(2 * hits.sum() / both.sum()), macro=float(each[present].mean()), each=each
    )


def best_threshold(scores: torch.Tensor, attributes: torch.Tensor) -> float:
    """Find the threshold with the highest F1 over all attributes together, to two decimals.

    F1 = 2 TP / (2 TP + FP + FN), counted over all N · A decisions (micro average). Among equals the
    lowest is taken.

    Args:
        scores: (N, A), probabilities.
        attributes: (N, A), 0 or 1.
    """
    thresholds = torch.arange(5, 96) / 100
    true = attributes > 0
    # decided + true = 2 TP + FP + FN
    f1 = torch.stack(
        [
            2 * ((scores > t) & true).sum() / ((scores > t).sum() + true.sum()).clamp(min=1)
            for t in thresholds
        ]
    )
    return round(float(thresholds[f1.argmax()]), 2)


def average_precisions(scores: torch.Tensor, attributes: torch.Tensor) -> torch.Tensor:
    """Compute the average precision of each attribute, (A,); NaN for those that no photo has."""
    labels = scores.shape[1]
    present = attributes.sum(dim=0) > 0
    result = torch.full((labels,), float("nan"))
    if present.any():
        # Attributes without a positive are left out: torchmetrics warns about each of them.
        kept = int(present.sum())
        if kept == 1:
            from torchmetrics.functional.classification import binary_average_precision

            values = binary_average_precision(
                scores[:, present].flatten(), attributes[:, present].flatten().long()
            )[None]
        else:
            values = multilabel_average_precision(
                scores[:, present], attributes[:, present].long(), num_labels=kept, average="none"
            )
        result[present] = values.float()
    return result
