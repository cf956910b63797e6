"""Average precision and accuracy on resamples of photos, against written-out loops."""

import numpy as np
import pytest
import torch
from scoring import average_precision, draw_photos, interval, share_right

from vsam.evaluation import average_precisions


def slow_average_precision(scores, true, counts):
    """Walk through one resample photo by photo."""
    values = []
    for photo, copies in enumerate(counts):
        if not (true[photo] and copies):
            continue
        hits, seen = 1, 1  # itself, once
        for other, times in enumerate(counts):
            if other != photo and scores[other] >= scores[photo]:
                seen += times
                hits += times * true[other]
        values += [hits / seen] * copies
    return np.mean(values) if values else np.nan


@pytest.fixture
def rng():
    return np.random.default_rng(7)


class TestDrawPhotos:
    def test_each_resample_has_as_many_photos(self):
        counts = draw_photos(30, seed=1, resamples=50)
        assert counts.shape == (50, 30)
        assert (counts.sum(axis=1) == 30).all()
        assert len({tuple(row) for row in counts}) == 50

    def test_the_seed_decides(self):
        first, again, other = (draw_photos(9, seed=s, resamples=20) for s in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()

    def test_photos_are_drawn_alike(self):
        counts = draw_photos(5, seed=0, resamples=4000)
        # Of 5 draws each photo gets a mean of 1; its standard error here is 0.014.
        np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.07)


class TestAveragePrecision:
    @pytest.mark.parametrize("ties", [False, True])
    def test_on_all_photos_it_is_the_usual_one(self, rng, ties):
        scores, true = rng.normal(size=(60, 8)), rng.random((60, 8)) < 0.2
        if ties:
            scores = scores.round()
        expected = average_precisions(torch.from_numpy(scores), torch.from_numpy(true).float())
        ones = np.ones((1, 60), int)
        found = [average_precision(s, t, ones)[0] for s, t in zip(scores.T, true.T, strict=True)]
        np.testing.assert_allclose(found, expected, rtol=1e-5)

    @pytest.mark.parametrize("ties", [False, True])
    def test_on_resamples_it_is_the_loop(self, rng, ties):
        scores, true = rng.normal(size=25), rng.random(25) < 0.2
        if ties:
            scores = scores.round()
        counts = draw_photos(25, seed=3, resamples=40)
        expected = [slow_average_precision(scores, true, row) for row in counts]
        assert np.isfinite(expected).any()
        np.testing.assert_allclose(average_precision(scores, true, counts), expected, rtol=1e-12)

    def test_a_resample_without_the_label_has_none(self):
        counts = np.array([[0, 2], [1, 1]])
        found = average_precision(np.array([0.2, 0.9]), np.array([True, False]), counts)
        assert np.isnan(found[0])
        assert found[1] == 0.5

    def test_copies_of_a_photo_do_not_confirm_each_other(self):
        scores = -np.arange(10.0)
        true = np.arange(10) == 9  # the last of all
        counts = np.ones((1, 10), int)
        counts[0, 9] = 3
        assert average_precision(scores, true, counts)[0] == pytest.approx(1 / 10)


def test_share_right_is_that_of_the_drawn_photos(rng):
    right = rng.random(20) < 0.6
    counts = draw_photos(20, seed=0, resamples=10)
    expected = [np.repeat(right, row).mean() for row in counts]
    np.testing.assert_allclose(share_right(right, counts), expected)


def test_the_interval_of_a_mean_is_about_two_standard_errors(rng):
    right = rng.random(400) < 0.3
    low, high = interval(share_right(right, draw_photos(400, seed=0)))
    error = np.sqrt(right.mean() * (1 - right.mean()) / 400)
    assert low == pytest.approx(right.mean() - 1.96 * error, abs=0.25 * error)
    assert high == pytest.approx(right.mean() + 1.96 * error, abs=0.25 * error)
