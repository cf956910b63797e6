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
