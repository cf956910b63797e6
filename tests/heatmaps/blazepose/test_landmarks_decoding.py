"""The landmark network's output: refinement written out slowly, keypoints on the photo, mirrors."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsam_heatmaps import LANDMARKS
from vsam_heatmaps.blazepose.landmarks import RegionPose, decode_landmarks, refine_points
from vsam_heatmaps.blazepose.regions import Region

POINTS = 39
FLAT = np.full((64, 64, POINTS), -9, np.float32)  # no peak: refines nothing
REGIONS = [Region(100, 80, 128), Region(300, 200, 90, 0.7), Region(10, 400, 500, -2.5)]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def refined(points: np.ndarray, heatmaps: np.ndarray) -> np.ndarray:
    """MediaPipe's refinement, cell by cell: the mean of a window of 7 x 7, weighted by its map."""
    height, width, _ = heatmaps.shape
    result = points.astype(np.float64)
    for index, (x, y) in enumerate(points.astype(np.float64)):
        if not (0 <= x < 1 and 0 <= y < 1):  # NaN, too
            continue
        column, row = int(x * width), int(y * height)
        total, across, down, peak = 0.0, 0.0, 0.0, 0.0
        for r in range(max(0, row - 3), min(height, row + 4)):
            for c in range(max(0, column - 3), min(width, column + 4)):
                value = sigmoid(float(heatmaps[r, c, index]))
                total += value
                across += value * c
                down += value * r
                peak = max(peak, value)
        if peak >= 0.5:
            result[index] = across / total / width, down / total / height
    return result


# Shares of the region; also at its border, just outside, at the borders of cells, and no number.
share = st.one_of(
    st.floats(-0.125, 1.125, width=32),
    st.integers(-1, 64).map(lambda cell: cell / 64),
    st.sampled_from(
        [0.0, -0.0, 1.0, -1e-6, -0.01, 1 - 2**-24, 1.01, -7.0, 1e9, math.nan, math.inf, -math.inf]
    ),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    points=st.lists(st.tuples(share, share), min_size=1, max_size=12),
    seed=st.integers(0, 10_000),
    level=st.sampled_from([-12.0, -4.0, 0.0, 4.0]),
    size=st.sampled_from([(64, 64), (10, 6)]),
)
def test_refinement_equals_the_loop(points, seed, level, size):
    points = np.array(points, np.float32)
    rng = np.random.default_rng(seed)
    heatmaps = rng.normal(level, 4, (*size, len(points))).astype(np.float32)
    before = points.copy(), heatmaps.copy()
    result = refine_points(points, heatmaps)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(points, before[0])
    np.testing.assert_array_equal(heatmaps, before[1])
    # 49 terms in float32 instead of float64, as shares of a side of 64 cells at most.
    np.testing.assert_allclose(result, refined(points, heatmaps), rtol=1e-6, atol=2e-6)


def test_a_peak_draws_its_point():
    for column, row in ((20, 30), (0, 0), (63, 63), (0, 63), (61, 2)):
        heatmaps = np.full((64, 64, 2), -60, np.float32)
        heatmaps[row, column] = 3
        near = np.array([[column / 64, row / 64], [(column + 0.9) / 64, (row + 0.9) / 64]])
        result = refine_points(near.astype(np.float32), heatmaps)
        np.testing.assert_allclose(result, [[column / 64, row / 64]] * 2, atol=1e-6)


def test_only_a_peak_of_a_half_draws():
    points = np.array([[0.3, 0.6]] * 2, np.float32)
    heatmaps = np.full((64, 64, 2), -60, np.float32)
    column, row = int(0.3 * 64), int(0.6 * 64)
    heatmaps[row + 2, column + 1] = -0.001, 0.0
    result = refine_points(points, heatmaps)
    np.testing.assert_array_equal(result[0], points[0])
    np.testing.assert_allclose(result[1], [(column + 1) / 64, (row + 2) / 64], atol=1e-6)


def test_a_peak_beyond_the_window_draws_nothing():
    points = np.array([[10.5 / 64, 10.5 / 64]] * 4, np.float32)
    heatmaps = np.full((64, 64, 4), -60, np.float32)
    for index, (row, column) in enumerate(((10, 14), (14, 10), (6, 10), (10, 6))):
        heatmaps[row, column, index] = 9
    np.testing.assert_array_equal(refine_points(points, heatmaps), points)


def values_of(seed: int) -> np.ndarray:
    """Make raw output: points in and around a region of 256 pixels, logits around 0."""
    rng = np.random.default_rng(seed)
    points = np.empty((POINTS, 5), np.float32)
    points[:, :2] = rng.uniform(-30, 286, (POINTS, 2))
    points[:, 2:] = rng.normal(0, 4, (POINTS, 3))
    return points


def on_photo(x: float, y: float, region: Region) -> tuple[float, float]:
    """Where pixel (x, y) of the input lies on the photo, with complex numbers."""
    number = complex(x / 256 - 0.5, y / 256 - 0.5) * region.side
    number *= complex(math.cos(region.angle), math.sin(region.angle))
    return number.real + region.x, number.imag + region.y


@pytest.mark.parametrize("region", REGIONS)
def test_keypoints_on_the_photo(region):
    values = values_of(1)
    pose = decode_landmarks(values.reshape(-1), 0.75, FLAT, region)
    assert isinstance(pose, RegionPose)
    assert (pose.score, pose.region) == (0.75, region)
    assert pose.keypoints.shape == (33, 4)
    assert pose.keypoints.dtype == np.float32
    for index in range(33):
        x, y, _, visibility, presence = (float(value) for value in values[index])
        expected = on_photo(x, y, region)
        # float32 coordinates of some hundred pixels have steps of 6e-5.
        np.testing.assert_allclose(pose.keypoints[index, :2], expected, rtol=0, atol=5e-4)
        likely = sigmoid(visibility), sigmoid(presence)
        np.testing.assert_allclose(pose.keypoints[index, 2:], likely, atol=2e-7)


def test_heatmaps_move_keypoints():
    values, region = values_of(2), REGIONS[1]
    heatmaps = np.random.default_rng(2).normal(-2, 3, (64, 64, POINTS)).astype(np.float32)
    moved = refined(values[:, :2] / np.float32(256), heatmaps)
    assert (np.abs(moved - values[:, :2] / 256) > 1e-3).any(axis=1).sum() > 20
    pose = decode_landmarks(values.reshape(-1), 1.0, heatmaps, region)
    expected = [on_photo(256 * x, 256 * y, region) for x, y in moved[:33]]
    np.testing.assert_allclose(pose.keypoints[:, :2], expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("region", REGIONS)
def test_where_it_should_have_looked(region):
    """Points 33 and 34 of the network are the hips' centre and the end of the whole body."""
    values = values_of(3)
    values[33, :2], values[34, :2] = (120, 140), (150, 60)
    aligned = decode_landmarks(values.reshape(-1), 1.0, FLAT, region).aligned
    x, y = on_photo(120, 140, region)
    assert (aligned.x, aligned.y) == pytest.approx((x, y), abs=1e-3)
    share = region.side / 256
    assert aligned.side == pytest.approx(2.5 * math.hypot(30, 80) * share, rel=1e-5)
    turned = math.atan2(30, 80) + region.angle
    assert math.remainder(aligned.angle - turned, 2 * math.pi) == pytest.approx(0, abs=1e-5)


def counterparts() -> list[int]:
    """Find each landmark's other side by name, a second time."""
    pairs = {"left": "right", "right": "left"}
    other = ["_".join(pairs.get(word, word) for word in name.split("_")) for name in LANDMARKS]
    return [LANDMARKS.index(name) for name in other]


@pytest.mark.parametrize("region", REGIONS)
def test_a_mirrored_look_gives_the_same_joints(region):
    """What a network without a preference for a side says of the mirrored input, decoded.

    It sees the edge x of the region at 256 - x, and takes each left joint for a right one.
    """
    values = values_of(4)
    plain = decode_landmarks(values.reshape(-1), 0.9, FLAT, region)
    order = [*counterparts(), 33, 34, 37, 38, 35, 36]
    seen = values[order].copy()
    seen[:, 0] = 256 - seen[:, 0]
    mirrored = decode_landmarks(seen.reshape(-1), 0.9, FLAT, region, mirrored=True)
    # float32 coordinates of some hundred pixels have steps of 6e-5.
    np.testing.assert_allclose(mirrored.keypoints, plain.keypoints, rtol=0, atol=5e-4)
    assert mirrored.region == region
    aligned = (mirrored.aligned.x, mirrored.aligned.y, mirrored.aligned.side)
    assert aligned == pytest.approx(
        (plain.aligned.x, plain.aligned.y, plain.aligned.side), abs=2e-3
    )
    away = math.remainder(mirrored.aligned.angle - plain.aligned.angle, 2 * math.pi)
    assert away == pytest.approx(0, abs=1e-4)


def test_points_that_are_no_numbers():
    """They stay so, and nobody else is touched."""
    values = values_of(5)
    clean = decode_landmarks(values.reshape(-1), 1.0, FLAT, REGIONS[0]).keypoints
    values[7, :2] = math.nan
    found = decode_landmarks(values.reshape(-1), 1.0, FLAT, REGIONS[0]).keypoints
    assert np.isnan(found[7, :2]).all()
    others = np.arange(33) != 7
    np.testing.assert_array_equal(found[others], clean[others])
