"""Calibrate scores on a validation split: how sure the model may say it is, and where yes begins.

A temperature makes category scores say how often the model is right, and leaves their order as it
is (Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017). Each attribute gets the
threshold with its best F1, because rare and hard attributes never reach a common one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vsam_datasets.pairs import UNKNOWN_CATEGORY
from vsam_heatmaps.errors import expected

MIN_POSITIVES = 10
"""An attribute with fewer photos keeps the threshold of all: recall at a threshold that n photos
were to choose is known no better than to a standard error of 0.5 / √n, 0.16 for ten."""

_TEMPERATURES = (0.05, 20.0)
_BINS = 15  # as Guo et al.


@dataclass(frozen=True)
class Calibration:
    """What a validation split says about a model's scores.

    Attributes:
        temperature: The category logits are divided by it; above 1 the model was too sure.
        thresholds: One for each attribute, 0..1; a score above it says yes.
    """

    temperature: float
    thresholds: tuple[float, ...]

    def __post_init__(self) -> None:
        low, high = _TEMPERATURES
        if not low <= self.temperature <= high:
            raise expected("temperature", f"from {low} to {high}", self.temperature)
        for threshold in self.thresholds:
            if not 0 <= threshold <= 1:
                raise expected("thresholds", "from 0 to 1 each", threshold)


def fit_calibration(
    category_logits: torch.Tensor,
    attribute_scores: torch.Tensor,
    category: torch.Tensor,
    attributes: torch.Tensor,
    *,
    threshold: float,
) -> Calibration:
    """Fit temperature and thresholds.

    Args:
        category_logits: (N, K), logits or logarithms of probabilities.
        attribute_scores: (N, A), probabilities.
        category: (N,) int64, `UNKNOWN_CATEGORY` where unknown; those don't count.
        attributes: (N, A), 0 or 1.
        threshold: For all attributes, if no photo has any.
    """
    return Calibration(
        temperature=fit_temperature(category_logits, category),
        thresholds=fit_thresholds(attribute_scores, attributes, otherwise=threshold),
    )


def has_labels(category: torch.Tensor, attributes: torch.Tensor) -> bool:
    """Say whether there is anything to fit: the labels are as in `fit_calibration`."""
    return bool((category != UNKNOWN_CATEGORY).any() or attributes.any())


def fit_temperature(logits: torch.Tensor, category: torch.Tensor) -> float:
    """Find the temperature with the lowest negative log likelihood, from 0.05 to 20.

    The likelihood is convex in β = 1 / T: its slope, E[z] under the model less z of the true class,
    rises, so that bisection finds its root.

    Where every photo is right it never does: the likelihood asks for ever surer scores, and only
    more photos could tell how sure the model may be. The temperature is 1 then.

    Args:
        logits: (N, K), logits or logarithms of probabilities.
        category: (N,) int64, `UNKNOWN_CATEGORY` where unknown.
    """
    known = category != UNKNOWN_CATEGORY
    z, true = logits[known].double(), category[known]
    if (z.argmax(dim=1) == true).all():  # also of no photo at all
        return 1.0

    def slope(log_beta: float) -> float:
        probabilities = (z * math.exp(log_beta)).softmax(dim=1)
        mean = torch.where(probabilities > 0, probabilities * z, 0.0).sum(dim=1)
        return float((mean - z.gather(1, true[:, None])[:, 0]).mean())

    low, high = (-math.log(temperature) for temperature in reversed(_TEMPERATURES))
    if slope(high) <= 0:
        return _TEMPERATURES[0]
    if slope(low) >= 0:  # no better than a guess: as unsure as the range allows
        return _TEMPERATURES[1]
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return math.exp(-(low + high) / 2)


def fit_thresholds(
    scores: torch.Tensor, attributes: torch.Tensor, *, otherwise: float
) -> tuple[float, ...]:
    """Find each attribute's threshold with the highest F1; among equals the lowest.

    A threshold lies midway between the lowest score that says yes and the next one below.
    Attributes that fewer than `MIN_POSITIVES` photos have take the one that is best for all
    together.

    Args:
        scores: (N, A), probabilities.
        attributes: (N, A), 0 or 1.
        otherwise: For all, if no photo has any attribute.
    """
    from .evaluation import best_threshold  # imports torchmetrics, which predicting need not

    positives = (attributes > 0).sum(dim=0).tolist()
    common = best_threshold(scores, attributes) if any(positives) else otherwise
    values, true = scores.float().numpy(), (attributes > 0).numpy()
    return tuple(
        _best_cut(values[:, i], true[:, i]) if count >= MIN_POSITIVES else common
        for i, count in enumerate(positives)
    )


def _best_cut(scores: NDArray[np.float32], true: NDArray[np.bool_]) -> float:
    """Find one attribute's threshold; at least one photo has it."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    below = np.append(ranked[1:], np.float32(0))
    # F1 = 2 TP / (2 TP + FP + FN), if the first n of the ranking say yes: TP + FP = n.
    said = np.arange(1, len(ranked) + 1)
    f1 = 2 * true[order].cumsum() / (said + true.sum())
    f1[ranked == below] = -1  # no threshold parts equal scores
    last = len(f1) - 1 - int(f1[::-1].argmax())  # the lowest of the best
    middle = np.float32(below[last] + (ranked[last] - below[last]) / 2)
    # Between two neighbours of float32 there is no third number.
    return float(middle if middle < ranked[last] else below[last])


def log_likelihood_loss(
    logits: torch.Tensor, category: torch.Tensor, temperature: float = 1.0
) -> float:
    """Compute the mean of -log p of the true categories; NaN if none is known.

    Args:
        logits: (N, K), logits or logarithms of probabilities.
        category: (N,) int64, `UNKNOWN_CATEGORY` where unknown; those don't count.
        temperature: The logits are divided by it.
    """
    return float(
        torch.nn.functional.cross_entropy(
            logits.double() / temperature, category, ignore_index=UNKNOWN_CATEGORY
        )
    )


def calibration_error(
    logits: torch.Tensor, category: torch.Tensor, temperature: float = 1.0
) -> float:
    """Compute the expected calibration error, 0..1; NaN if no category is known.

    Photos are sorted into 15 bins of equal width by the score of their predicted category; the
    error is the mean over photos of |share of right ones − mean score| of their bin (Guo et al.).

    Args:
        logits: (N, K), logits or logarithms of probabilities.
        category: (N,) int64, `UNKNOWN_CATEGORY` where unknown; those don't count.
        temperature: The logits are divided by it.
    """
    known = category != UNKNOWN_CATEGORY
    score, said = (logits[known].double() / temperature).softmax(dim=1).max(dim=1)
    excess = (said == category[known]).double() - score
    bins = (score * _BINS).ceil().long().clamp(1, _BINS) - 1  # (0, 1/15], (1/15, 2/15], …
    sums = torch.zeros(_BINS, dtype=torch.float64).index_add(0, bins, excess)
    return float(sums.abs().sum() / len(score)) if len(score) else math.nan
