"""Regions: to the photo and back, cuts against plain sampling, and what both networks ask for."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsam_heatmaps.blazepose.regions import Region

regions = st.builds(
    Region,
    x=st.floats(-5000, 5000),
    y=st.floats(-5000, 5000),
    side=st.floats(0.1, 10_000),
    angle=st.floats(-math.pi, math.pi),
)
shares = st.lists(st.tuples(st.floats(-2, 3), st.floats(-2, 3)), min_size=1, max_size=8).map(
    lambda points: np.array(points, np.float64)
)


def painted(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Make a photo in which every pixel differs from its neighbours."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def turned(points: np.ndarray, region: Region) -> np.ndarray:
    """Where points of a region lie on the photo, written out with complex numbers.

    y points down, so that multiplying by exp(i·angle) turns clockwise as one sees the photo.
    """
    x, y = np.moveaxis(points, -1, 0)
    number = (x - 0.5 + 1j * (y - 0.5)) * region.side * np.exp(1j * region.angle)
    return np.stack([number.real + region.x, number.imag + region.y], axis=-1)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(region=regions, points=shares)
def test_to_photo_and_back(region, points):
    on_photo = region.to_photo(points)
    # Some operations on numbers up to `largest`, each off by half an epsilon of it at most.
    largest = abs(region.x) + abs(region.y) + 6 * region.side
    noise = 16 * np.finfo(np.float64).eps * largest
    np.testing.assert_allclose(on_photo, turned(points, region), rtol=0, atol=noise)
    back = region.from_photo(on_photo)
    np.testing.assert_allclose(back, points, rtol=0, atol=2 * noise / region.side)
    np.testing.assert_allclose(region.to_photo(back), on_photo, rtol=0, atol=4 * noise)


def test_the_type_and_the_shape_of_points_stay():
    region = Region(30, 40, 20, 0.3)
    for dtype in (np.float32, np.float64):
        for shape in ((2,), (5, 2), (3, 4, 2), (0, 2)):
            points = np.full(shape, 0.25, dtype)
            for mapped in (region.to_photo(points), region.from_photo(points)):
                assert mapped.dtype == dtype
                assert mapped.shape == shape
            assert (points == 0.25).all()


def test_corners_of_an_upright_region():
    region = Region(x=50, y=30, side=20)
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0.5]])
    on_photo = [[40, 20], [60, 20], [40, 40], [60, 40], [50, 30]]
    np.testing.assert_allclose(region.to_photo(corners), on_photo, atol=1e-12)


def test_a_region_turned_by_a_quarter_has_its_top_on_the_right():
    top = np.array([0.5, 0.0])
    np.testing.assert_allclose(Region(50, 30, 20, math.pi / 2).to_photo(top), [60, 30], atol=1e-12)
    np.testing.assert_allclose(Region(50, 30, 20, -math.pi / 2).to_photo(top), [40, 30], atol=1e-12)


def test_moved():
    region = Region(10, 20, 30, 0.4)
    assert region.moved(5, -7) == Region(15, 13, 30, 0.4)
    assert region == Region(10, 20, 30, 0.4)


class TestAround:
    @pytest.mark.parametrize(
        ("scale_point", "angle"),
        [
            ((100, 150), 0.0),  # stands
            ((150, 200), math.pi / 2),  # lies, the head to the right
            ((50, 200), -math.pi / 2),
            ((100 + 50 / math.sqrt(2), 200 - 50 / math.sqrt(2)), math.pi / 4),
        ],
    )
    def test_known_points(self, scale_point, angle):
        region = Region.around(np.array([100.0, 200.0]), np.array(scale_point, float))
        assert (region.x, region.y) == (100, 200)
        assert region.angle == pytest.approx(angle, abs=1e-12)
        assert region.radius == pytest.approx(50)
        assert region.side == pytest.approx(125)  # a quarter more than the circle's diameter

    def test_head_down(self):
        region = Region.around(np.array([100.0, 200.0]), np.array([100.0, 250.0]))
        assert abs(region.angle) == pytest.approx(math.pi)

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(region=regions)
    def test_a_region_comes_back_from_its_points(self, region):
        hips = region.to_photo(np.array([0.5, 0.5]))
        scale_point = region.to_photo(np.array([0.5, 0.5 - region.radius / region.side]))
        again = Region.around(hips, scale_point)
        # The points are rounded as large as the photo is, and seen over the distance between them.
        noise = 16 * np.finfo(np.float64).eps * (abs(region.x) + abs(region.y) + region.side)
        assert (again.x, again.y) == pytest.approx((region.x, region.y), abs=noise)
        assert again.side == pytest.approx(region.side, abs=4 * noise)
        away = math.remainder(again.angle - region.angle, 2 * math.pi)
        assert abs(away) <= 4 * noise / region.radius + 1e-15
        assert -math.pi <= again.angle <= math.pi

    def test_points_of_both_types(self):
        for dtype in (np.float32, np.float64):
            region = Region.around(np.array([1, 2], dtype), np.array([1, 0], dtype))
            assert region == Region(1, 2, 5, 0)
            assert all(type(value) is float for value in (region.x, region.y, region.side))


def sampled(photo: np.ndarray, columns: np.ndarray, rows: np.ndarray, repeat: bool) -> np.ndarray:
    """Sample a photo between its pixels, written out: linear along rows, then along columns."""
    pad = 64
    padding = [(pad, pad), (pad, pad), (0, 0)]
    padded = np.pad(photo, padding, mode="edge" if repeat else "constant").astype(np.float64)
    whole = np.arange(-pad, photo.shape[1] + pad)
    along = np.stack(
        [[np.interp(columns, whole, line[:, c]) for c in range(3)] for line in padded]
    )  # (H, 3, columns)
    whole = np.arange(-pad, photo.shape[0] + pad)
    return np.stack(
        [
            [np.interp(rows, whole, along[:, c, column]) for c in range(3)]
            for column in range(len(columns))
        ]
    ).transpose(2, 0, 1)  # (rows, columns, 3)


class TestCut:
    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(
        left=st.integers(-20, 40),
        top=st.integers(-20, 30),
        size=st.integers(2, 32),
        step=st.sampled_from([0.25, 0.5, 1.0, 2.0]),
        repeat=st.booleans(),
    )
    def test_an_upright_region_equals_plain_sampling(self, left, top, size, step, repeat):
        """Pixel i of a cut is the photo at coordinate i / size, taken as a pixel's index."""
        photo = painted(30, 40)
        side = size * step
        region = Region(left + side / 2, top + side / 2, side)
        cut = region.cut(photo, size, repeat_border=repeat)
        assert cut.dtype == np.uint8
        assert cut.shape == (size, size, 3)
        at = np.arange(size) * step
        expected = sampled(photo, left + at, top + at, repeat)
        # Rounded to whole levels: half a level, and as much again in OpenCV's own rounding.
        assert np.abs(cut - expected).max() <= 1

    @pytest.mark.parametrize(("size", "step"), [(16, 1), (8, 2), (5, 3)])
    def test_whole_steps_pick_pixels(self, size, step):
        photo = painted(40, 50)
        side = size * step
        cut = Region(10 + side / 2, 7 + side / 2, side).cut(photo, size, repeat_border=False)
        np.testing.assert_array_equal(cut, photo[7 : 7 + side : step, 10 : 10 + side : step])

    @pytest.mark.parametrize("turns", [1, 2, 3])
    def test_quarter_turns_pick_pixels(self, turns):
        """Pixel i of a turned cut is read from the far end: side · (1 − i / size)."""
        photo, side = painted(40, 50), 16
        region = Region(10 + side / 2, 7 + side / 2, side, turns * math.pi / 2)
        cut = region.cut(photo, side, repeat_border=False)
        expected = np.empty_like(cut)
        for row in range(side):
            for column in range(side):
                x, y = {1: (side - row, column), 2: (side - column, side - row),
                        3: (row, side - column)}[turns]  # fmt: skip
                expected[row, column] = photo[7 + y, 10 + x]
        # float32 corners put the samples off by some 1e-5 pixels: less than a level.
        assert np.abs(cut.astype(int) - expected).max() <= 1

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(
        angle=st.floats(-math.pi, math.pi),
        side=st.floats(30, 120),
        x=st.floats(0.2, 0.8),
        y=st.floats(0.2, 0.8),
    )
    def test_a_bright_dot_appears_where_from_photo_says(self, angle, side, x, y):
        size = 48
        region = Region(100, 90, side, angle)
        column, row = region.to_photo(np.array([x, y]))
        columns, rows = np.meshgrid(np.arange(200), np.arange(180))
        spread = max(2.0, 2 * side / size)  # smooth enough for bilinear sampling
        dot = 250 * np.exp(-((columns - column) ** 2 + (rows - row) ** 2) / (2 * spread**2))
        photo = np.repeat(dot.round().astype(np.uint8)[..., None], 3, axis=2)
        cut = region.cut(photo, size, repeat_border=False)[..., 0].astype(float)
        # Its faint surroundings, which the edge of the cut may cross, don't count.
        weights = np.where(cut > 60, cut, 0)
        centre = (
            np.array([(weights.sum(axis=axis) * np.arange(size)).sum() for axis in (0, 1)])
            / weights.sum()
        )
        # The grid of pixels, and OpenCV's coordinates in steps of 1/32 of one.
        expected = region.from_photo(np.array([column, row])) * size
        np.testing.assert_allclose(centre, expected, rtol=0, atol=0.15)

    def test_outside_the_photo(self):
        photo = np.full((20, 30, 3), 200, np.uint8)
        region = Region(15, 10, 60)
        black = region.cut(photo, 60, repeat_border=False)
        expected = np.zeros((60, 60, 3), np.uint8)
        expected[20:40, 15:45] = 200
        np.testing.assert_array_equal(black, expected)
        assert (region.cut(photo, 60, repeat_border=True) == 200).all()

    def test_a_region_of_a_padded_photo_shows_the_same(self):
        photo, region = painted(60, 60), Region(30, 28, 20, 0.3)
        padded = np.pad(photo, [(11, 0), (17, 3), (0, 0)])
        expected = region.cut(photo, 24, repeat_border=True)
        cut = region.moved(17, 11).cut(padded, 24, repeat_border=True)
        # float32 corners, rounded elsewhere: less than a level for neighbours 255 apart.
        assert np.abs(cut.astype(int) - expected).max() <= 1

    def test_any_layout_of_a_photo(self):
        photo, region = painted(40, 50), Region(20, 20, 30, 0.2)
        expected = region.cut(photo, 24, repeat_border=True)
        doubled = np.repeat(np.repeat(photo, 2, axis=0), 2, axis=1)[::2, ::2]
        backwards = np.ascontiguousarray(photo[::-1, ::-1, ::-1])[::-1, ::-1, ::-1]
        fortran = np.asfortranarray(photo)
        for layout in (doubled, backwards, fortran):
            assert not layout.flags.c_contiguous
            layout.flags.writeable = False
            before = layout.copy()
            np.testing.assert_array_equal(region.cut(layout, 24, repeat_border=True), expected)
            np.testing.assert_array_equal(layout, before)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1)])
    def test_photos_of_one_line(self, shape):
        photo = np.full((*shape, 3), 90, np.uint8)
        region = Region(shape[1] / 2, shape[0] / 2, max(shape))
        assert (region.cut(photo, 32, repeat_border=True) == 90).all()
        assert region.cut(photo, 32, repeat_border=False).any()
