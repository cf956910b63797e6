"""Calibration against the slow way: every temperature of a grid, every threshold there is."""

import math

import numpy as np
import pytest
import torch

from vsam.calibration import (
    MIN_POSITIVES,
    Calibration,
    calibration_error,
    fit_calibration,
    fit_temperature,
    fit_thresholds,
    log_likelihood_loss,
)
from vsam.evaluation import best_threshold
from vsam_heatmaps.errors import VsamError


def draw_categories(seed: int, sharpness: float, photos: int = 300) -> tuple:
    """Draw logits that are too sure by a factor: classes follow the logits before it."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (photos, 5))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    category = np.array([rng.choice(5, p=share) for share in shares])
    return torch.tensor(logits * sharpness, dtype=torch.float32), torch.tensor(category)


def slow_loss(logits: torch.Tensor, category: torch.Tensor, temperature: float) -> float:
    summed = 0.0
    for row, true in zip(logits.tolist(), category.tolist(), strict=True):
        scaled = [value / temperature for value in row]
        summed += math.log(sum(math.exp(value) for value in scaled)) - scaled[true]
    return summed / len(logits)


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 4.0])
def test_the_temperature_is_the_best_of_a_grid(sharpness):
    logits, category = draw_categories(1, sharpness)
    found = fit_temperature(logits, category)
    grid = [found * (1 + step / 100) for step in range(-20, 21)] + [0.05, 0.5, 1, 2, 5, 20]
    least = min(slow_loss(logits, category, temperature) for temperature in grid)
    assert slow_loss(logits, category, found) == pytest.approx(least, abs=1e-9)
    # 300 photos say how sure to be to about a tenth.
    assert found == pytest.approx(sharpness, rel=0.2)
    assert log_likelihood_loss(logits, category, found) == pytest.approx(least, abs=1e-9)


def test_logarithms_of_scores_serve_as_logits():
    logits, category = draw_categories(2, 3.0)
    assert fit_temperature(logits.softmax(dim=1).log(), category) == pytest.approx(
        fit_temperature(logits, category), rel=1e-5
    )


def test_photos_without_a_category_do_not_count():
    logits, category = draw_categories(3, 2.0)
    known = fit_temperature(logits[50:], category[50:])
    category[:50] = -100
    assert fit_temperature(logits, category) == known
    assert fit_temperature(logits, torch.full_like(category, -100)) == 1.0
    assert math.isnan(log_likelihood_loss(logits, torch.full_like(category, -100)))
    assert math.isnan(calibration_error(logits, torch.full_like(category, -100)))


def test_where_every_photo_is_right_the_temperature_stays_and_where_none_is_it_ends():
    logits = torch.eye(4) * 3
    assert fit_temperature(logits, torch.arange(4)) == 1.0
    assert fit_temperature(logits, (torch.arange(4) + 1) % 4) == 20.0
    # Most are right, and the scores hardly say so: the surest that there is.
    hardly, truth = torch.eye(4).repeat(5, 1) * 0.01, torch.arange(4).repeat(5)
    truth[0] = 1
    assert fit_temperature(hardly, truth) == 0.05
    # One class alone is always right.
    assert fit_temperature(torch.randn(5, 1), torch.zeros(5, dtype=torch.long)) == 1.0
    assert math.isfinite(
        fit_temperature(torch.tensor([[3e38, -3e38], [0.0, 1.0]]), torch.ones(2).long())
    )


def test_the_calibration_error_of_photos_worked_by_hand():
    # Two photos at 0.9, one of them right; one at 0.6, right; one unknown.
    logits = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.5, 0.5]]).log()
    category = torch.tensor([0, 0, 0, -100])
    assert calibration_error(logits, category) == pytest.approx((2 * 0.4 + 0.4) / 3, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_calibration_error_equals_its_formula_and_falls(seed):
    logits, category = draw_categories(seed, 4.0)
    scores = logits.double().softmax(dim=1).numpy()
    summed = 0.0
    for number in range(15):
        chosen = [
            (row.argmax() == true, row.max())
            for row, true in zip(scores, category.tolist(), strict=True)
            if number / 15 < row.max() <= (number + 1) / 15
        ]
        if chosen:
            right, mean = np.mean(chosen, axis=0)
            summed += len(chosen) * abs(right - mean)
    before = calibration_error(logits, category)
    assert before == pytest.approx(summed / len(logits), abs=1e-9)
    assert calibration_error(logits, category, fit_temperature(logits, category)) < before / 2


def draw_attributes(seed: int, photos: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.random((photos, 6)) < [0.5, 0.3, 0.25, 0.9, 0.05, 0.0]
    centre = rng.uniform(0.1, 0.6, 6)
    scores = np.clip(rng.normal(centre + 0.15 * true, 0.1), 0, 1)
    return scores.astype(np.float32), true


def slow_f1(scores: np.ndarray, true: np.ndarray, threshold: float) -> float:
    said = scores > np.float32(threshold)
    hits, wrong = int((said & true).sum()), int((said != true).sum())
    return 2 * hits / (2 * hits + wrong)


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_thresholds_have_the_highest_f1_of_all_there_are(seed, rounded):
    scores, true = draw_attributes(seed)
    if rounded:
        scores = scores.round(1)  # many are equal
    found = fit_thresholds(torch.tensor(scores), torch.tensor(true).float(), otherwise=0.5)
    common = best_threshold(torch.tensor(scores), torch.tensor(true).float())
    counts = true.sum(axis=0)
    assert counts[4] < MIN_POSITIVES <= counts[2]
    for i, threshold in enumerate(found):
        if counts[i] < MIN_POSITIVES:
            assert threshold == common
            continue
        values = scores[:, i]
        there_are = sorted({0.0, *values.tolist()})
        best = max(slow_f1(values, true[:, i], t) for t in there_are)
        assert slow_f1(values, true[:, i], threshold) == best
        # Among equals the lowest: with the next lower score in, it would be worse.
        below = values[values <= np.float32(threshold)]
        if below.size and below.max() > 0:
            lower = np.nextafter(below.max(), np.float32(0))
            assert slow_f1(values, true[:, i], lower) < best


def test_a_threshold_lies_midway_and_parts_neighbours():
    def fit(no: float, yes: float) -> float:
        scores = torch.tensor([no] * 10 + [yes] * 10)[:, None]
        attributes = torch.tensor([0.0] * 10 + [1.0] * 10)[:, None]
        (threshold,) = fit_thresholds(scores, attributes, otherwise=0.9)
        assert np.float32(no) <= np.float32(threshold) < np.float32(yes)
        return threshold

    assert fit(0.25, 0.75) == 0.5
    assert fit(0.0, 1.0) == 0.5
    fit(0.3, float(np.nextafter(np.float32(0.3), np.float32(1))))


def test_without_any_attribute_the_given_threshold_is_taken():
    assert fit_thresholds(torch.rand(5, 3), torch.zeros(5, 3), otherwise=0.4) == (0.4, 0.4, 0.4)


def test_all_is_fitted_at_once():
    logits, category = draw_categories(5, 2.0, photos=60)
    scores, true = map(torch.tensor, draw_attributes(5))
    found = fit_calibration(logits, scores, category, true.float(), threshold=0.5)
    assert found.temperature == fit_temperature(logits, category)
    assert found.thresholds == fit_thresholds(scores, true.float(), otherwise=0.5)


@pytest.mark.parametrize("temperature", [0, -1, 1e9, math.nan, math.inf])
def test_an_impossible_temperature_is_refused(temperature):
    with pytest.raises(VsamError, match=r"Expected `temperature` to be from 0\.05 to 20"):
        Calibration(temperature, ())


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan])
def test_an_impossible_threshold_is_refused(threshold):
    with pytest.raises(VsamError, match="Expected `thresholds` to be from 0 to 1 each"):
        Calibration(1.0, (0.5, threshold))
