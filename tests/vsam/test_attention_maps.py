"""What maps look at: against loops over pixels, and refusals."""

import math
import re

import numpy as np
import pytest

from vsam.attention_maps import (
    POINTING_TOLERANCE,
    distribution,
    merge_maps,
    pointing_hit,
    share_inside,
    stretch,
)
from vsam_heatmaps.errors import VsamError

RNG = np.random.default_rng(0)


def slow_bilinear(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Interpolate between pixel centres; beyond the outermost ones the map stays the same."""
    result = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            y = (row + 0.5) * values.shape[0] / height - 0.5
            x = (column + 0.5) * values.shape[1] / width - 0.5
            y0, x0 = math.floor(y), math.floor(x)
            for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
                weight = (y - y0 if dy else 1 - y + y0) * (x - x0 if dx else 1 - x + x0)
                inside_y = min(max(y0 + dy, 0), values.shape[0] - 1)
                inside_x = min(max(x0 + dx, 0), values.shape[1] - 1)
                result[row, column] += weight * values[inside_y, inside_x]
    return result


def slow_hit(weights: np.ndarray, mask: np.ndarray, tolerance: float) -> float:
    """Ask of each maximum whether some pixel of the mask is near."""
    best = max(weights.ravel())
    hits = []
    for row, column in np.ndindex(*weights.shape):
        if weights[row, column] == best:
            distances = [math.dist((row, column), place) for place in np.argwhere(mask)]
            hits.append(min(distances) <= tolerance * max(mask.shape))
    return sum(hits) / len(hits)


class TestDistribution:
    @pytest.mark.parametrize("size", [(31, 22), (7, 40), (28, 28)])
    @pytest.mark.parametrize("from_minimum", [False, True])
    def test_it_is_the_interpolated_map_scaled_to_one(
        self, size: tuple[int, int], from_minimum: bool
    ) -> None:
        attention = RNG.uniform(0.2, 0.9, (7, 7)).astype(np.float32)
        weights = distribution(attention, size, from_minimum=from_minimum)
        values = attention.astype(float)
        expected = slow_bilinear(values - values.min() if from_minimum else values, *size)
        assert weights.shape == size
        assert weights.sum() == pytest.approx(1)
        # OpenCV rounds the weights of its interpolation to single precision.
        assert weights == pytest.approx(expected / expected.sum(), rel=1e-5, abs=1e-9)

    @pytest.mark.parametrize("value", [0.0, 0.3])
    def test_a_flat_map_is_even(self, value: float) -> None:
        flat = np.full((7, 7), value, np.float32)
        for from_minimum in (False, True):
            weights = distribution(flat, (20, 10), from_minimum=from_minimum)
            assert weights == pytest.approx(np.full((20, 10), 1 / 200))

    @pytest.mark.parametrize(
        "attention",
        [np.zeros((2, 3, 3)), np.full((3, 3), -0.1), np.full((3, 3), np.nan)],
    )
    def test_what_is_no_map_is_refused(self, attention: np.ndarray) -> None:
        with pytest.raises(VsamError, match="finite numbers, 0 or more"):
            distribution(attention, (4, 4))


class TestShareInside:
    def test_it_is_the_sum_over_the_mask(self) -> None:
        weights = distribution(RNG.uniform(size=(7, 7)), (23, 17))
        mask = RNG.uniform(size=(23, 17)) < 0.3
        slow = sum(weights[place] for place in np.ndindex(23, 17) if mask[place])
        assert share_inside(weights, mask) == pytest.approx(slow)
        assert share_inside(weights, mask) + share_inside(weights, ~mask) == pytest.approx(1)

    def test_a_flat_map_gets_the_masks_area(self) -> None:
        mask = np.zeros((20, 10), bool)
        mask[3:9, 2:7] = True
        assert share_inside(distribution(np.ones((5, 5)), (20, 10)), mask) == pytest.approx(0.15)


class TestPointingHit:
    def test_it_agrees_with_a_loop(self) -> None:
        results = set()
        for _ in range(60):
            weights = RNG.integers(0, 150, (14, 20)).astype(float)
            mask = RNG.uniform(size=(14, 20)) < 0.02
            mask[5, 5] = True
            hit = pointing_hit(weights, mask, 0.15)
            assert hit == pytest.approx(slow_hit(weights, mask, 0.15))
            results.add(hit)
        assert {0.0, 1.0} < results  # several pixels often share the maximum

    @pytest.mark.parametrize(("away", "hit"), [(0, 1.0), (15, 1.0), (16, 0.0)])
    def test_the_usual_tolerance_is_15_pixels_of_500(self, away: int, hit: float) -> None:
        assert POINTING_TOLERANCE * 500 == 15
        mask = np.zeros((375, 500), bool)
        mask[100:200, 100:200] = True
        weights = np.zeros(mask.shape)
        weights[150, 199 + away] = 1
        assert pointing_hit(weights, mask) == hit

    def test_a_flat_map_points_at_random(self) -> None:
        mask = np.zeros((10, 20), bool)
        mask[:, :5] = True
        assert pointing_hit(np.ones((10, 20)), mask, 0.1) == pytest.approx(7 / 20)

    def test_an_empty_mask_is_refused(self) -> None:
        with pytest.raises(VsamError, match="somewhere true"):
            pointing_hit(np.ones((4, 4)), np.zeros((4, 4), bool))


@pytest.mark.parametrize("measure", [share_inside, pointing_hit])
@pytest.mark.parametrize("mask", [np.ones((4, 5), bool), np.ones((4, 4), np.uint8)])
def test_another_shape_or_type_is_refused(measure, mask: np.ndarray) -> None:
    with pytest.raises(VsamError, match="booleans of the map's shape"):
        measure(np.ones((4, 4)) / 16, mask)


class TestMergeMaps:
    def test_maximum_and_mean(self) -> None:
        maps = RNG.uniform(size=(3, 4, 4)).astype(np.float32)
        assert (merge_maps(maps) == maps.max(axis=0)).all()
        assert merge_maps(maps, "mean") == pytest.approx((maps[0] + maps[1] + maps[2]) / 3)
        assert (merge_maps(maps[:1]) == maps[0]).all()

    @pytest.mark.parametrize(
        ("shape", "said"), [((0, 4, 4), "--attention none"), ((4, 4), "of the shape (R, S, S)")]
    )
    def test_no_map_is_refused(self, shape: tuple[int, ...], said: str) -> None:
        with pytest.raises(VsamError, match=re.escape(said)):
            merge_maps(np.zeros(shape, np.float32))

    def test_another_way_is_refused(self) -> None:
        with pytest.raises(VsamError, match="one of max, mean, but got 'sum'"):
            merge_maps(np.zeros((1, 4, 4), np.float32), "sum")


def test_stretching_keeps_the_order_and_fills_the_range() -> None:
    attention = RNG.uniform(0.4, 0.5, (6, 6)).astype(np.float32)
    stretched = stretch(attention)
    assert (stretched.min(), stretched.max()) == (0, 1)
    assert (np.argsort(stretched.ravel()) == np.argsort(attention.ravel())).all()
    assert not stretch(np.full((3, 3), 0.5, np.float32)).any()
