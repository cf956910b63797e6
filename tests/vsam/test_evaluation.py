"""Metrics against their formulas, written out."""

import math
import warnings
from dataclasses import astuple

import numpy as np
import pytest
import torch

from vsam.evaluation import (
    attribute_f1,
    attribute_recall,
    average_precisions,
    best_threshold,
    compute_metrics,
)


def slow_average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Sum the precision at each positive, from the best score down; scores differ."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    found, summed = 0, 0.0
    for rank, index in enumerate(order, start=1):
        if labels[index]:
            found += 1
            summed += found / rank
    return summed / found if found else math.nan


def test_average_precision_of_a_ranking_worked_by_hand():
    scores = torch.tensor([[0.9], [0.8], [0.7], [0.6], [0.1]])
    labels = torch.tensor([[1.0], [0.0], [1.0], [0.0], [1.0]])
    # Positives at the ranks 1, 3 and 5: (1/1 + 2/3 + 3/5) / 3.
    assert average_precisions(scores, labels).tolist() == pytest.approx([34 / 45])


@pytest.mark.parametrize("seed", range(4))
def test_metrics_equal_their_formulas(seed):
    rng = np.random.default_rng(seed)
    photos, classes, attributes = 40, 6, 9
    category_scores = rng.normal(size=(photos, classes)).astype(np.float32)
    attribute_scores = rng.permutation(photos * attributes).reshape(photos, attributes) / 1000
    category = rng.integers(0, classes, photos)
    category[:7] = -100
    labels = (rng.uniform(size=(photos, attributes)) < 0.2).astype(np.float32)
    labels[:, 4] = 0
    found = compute_metrics(
        torch.from_numpy(category_scores),
        torch.from_numpy(attribute_scores.astype(np.float32)),
        torch.from_numpy(category),
        torch.from_numpy(labels),
    )
    ranks = [
        sorted(range(classes), key=lambda k: -row[k]).index(true)
        for row, true in zip(category_scores, category, strict=True)
        if true != -100
    ]
    assert len(ranks) == 33
    precisions = [
        slow_average_precision(attribute_scores[:, k], labels[:, k])
        for k in range(attributes)
        if labels[:, k].any()
    ]
    present = labels[:, labels.any(axis=0)]
    assert found.category_accuracy == pytest.approx(np.mean([rank == 0 for rank in ranks]))
    assert found.category_top3 == pytest.approx(np.mean([rank < 3 for rank in ranks]))
    assert found.attribute_map == pytest.approx(np.mean(precisions), rel=1e-5)
    assert found.chance_map == pytest.approx(present.mean(), rel=1e-5)
    assert found.photos == photos


def test_average_precision_is_nan_where_no_photo_has_the_attribute():
    scores = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(5, 3)
    labels[2, 1] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = average_precisions(scores, labels)
    assert found.isnan().tolist() == [True, False, True]
    assert float(found[1]) == pytest.approx(
        slow_average_precision(scores[:, 1].numpy(), labels[:, 1].numpy())
    )


def test_metrics_are_nan_where_no_label_allows_them():
    found = compute_metrics(
        torch.randn(4, 3), torch.rand(4, 2), torch.full((4,), -100), torch.zeros(4, 2)
    )
    assert all(math.isnan(value) for value in astuple(found)[:4])
    assert found.photos == 4


def test_one_class_is_always_right():
    found = compute_metrics(
        torch.randn(3, 1), torch.rand(3, 1), torch.tensor([0, -100, 0]), torch.zeros(3, 1)
    )
    assert (found.category_accuracy, found.category_top3) == (1.0, 1.0)


def test_two_classes_are_always_among_three():
    scores = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    found = compute_metrics(scores, torch.rand(2, 1), torch.tensor([0, 1]), torch.ones(2, 1))
    assert (found.category_accuracy, found.category_top3) == (0.5, 1.0)
    assert (found.attribute_map, found.chance_map) == (1.0, 1.0)


@pytest.mark.parametrize("seed", range(5))
def test_best_threshold_has_the_highest_f1_of_all(seed):
    generator = np.random.default_rng(seed)
    true = generator.random((40, 6)) < 0.3
    # cautious scores: right ones lie mostly below a half
    scores = np.clip(generator.normal(0.2 + 0.2 * true, 0.1), 0, 1).astype(np.float32)

    def f1(threshold):
        said = scores > np.float32(threshold)
        hits, wrong = (said & true).sum(), (said & ~true).sum() + (~said & true).sum()
        return 2 * hits / (2 * hits + wrong)

    found = best_threshold(torch.tensor(scores), torch.tensor(true).float())
    assert f1(found) == max(f1(step / 100) for step in range(5, 96))
    assert found < 0.5
    assert f1(found) > f1(0.5) + 0.05


def test_best_threshold_without_any_attribute_is_a_number():
    assert 0 < best_threshold(torch.rand(4, 3), torch.zeros(4, 3)) < 1


def test_recall_of_attributes_worked_by_hand():
    scores = torch.tensor([[0.9, 0.8, 0.1, 0.2], [0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.5, 0.5]])
    attributes = torch.tensor([[1.0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 1, 0]])
    # Found among the first two: one of two, one of one, one of two (equals keep their order).
    assert attribute_recall(scores, attributes, 2) == pytest.approx(3 / 5)
    assert attribute_recall(scores, attributes, 1) == pytest.approx(2 / 5)
    assert attribute_recall(scores, attributes, 9) == 1
    assert math.isnan(attribute_recall(scores, torch.zeros(3, 4), 2))


@pytest.mark.parametrize("seed", range(3))
def test_recall_and_f1_equal_their_formulas(seed):
    rng = np.random.default_rng(seed)
    scores = rng.random((30, 8)).astype(np.float32)
    true = rng.random((30, 8)) < 0.3
    true[:, 3] = False
    found = matched = 0
    for row, labels in zip(scores, true, strict=True):
        first = sorted(range(8), key=lambda i: -row[i])[:5]
        found, matched = found + labels.sum(), matched + labels[first].sum()
    attributes = torch.tensor(true).float()
    assert attribute_recall(torch.tensor(scores), attributes, 5) == pytest.approx(matched / found)

    decided = scores > 0.6

    def f1(said, labels):
        hits, wrong = (said & labels).sum(), (said != labels).sum()
        return 2 * hits / (2 * hits + wrong)

    each = [f1(decided[:, i], true[:, i]) for i in range(8) if i != 3]
    result = attribute_f1(torch.tensor(decided), attributes)
    assert result.micro == pytest.approx(f1(decided, true))
    assert result.macro == pytest.approx(np.mean(each))
    assert result.each.isnan().tolist() == [i == 3 for i in range(8)]


def test_f1_is_nan_where_nothing_is_said_and_nothing_true():
    result = attribute_f1(torch.zeros(3, 2, dtype=torch.bool), torch.zeros(3, 2))
    assert math.isnan(result.micro)
    assert math.isnan(result.macro)
