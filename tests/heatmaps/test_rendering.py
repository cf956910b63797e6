"""Rendering: the formula written out slowly, sub-pixel peaks, what is left out, regions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsam_heatmaps import LANDMARKS, RenderOptions, VsamError, compose_regions, render_heatmaps
from vsam_heatmaps.landmarks import LANDMARK_SETS

# MediaPipe's numbering of the landmarks, written down here a second time on purpose.
PART_INDICES = {
    "head": range(11),
    "shoulders": (11, 12),
    "elbows": (13, 14),
    "hands": range(15, 23),
    "hips": (23, 24),
    "knees": (25, 26),
    "feet": range(27, 33),
}
REGION_PARTS = {
    "torso": ("shoulders", "hips"),
    "upper": ("shoulders", "elbows", "hands", "hips"),
    "lower": ("hips", "knees", "feet"),
    "full": ("shoulders", "elbows", "hands", "hips", "knees", "feet"),
}


def keypoints_at(points: dict[int, tuple[float, ...]]) -> np.ndarray:
    """Make (33, 4) keypoints of {index: (x, y[, visibility])}; all others are invisible."""
    keypoints = np.zeros((33, 4), np.float32)
    for index, (x, y, *visibility) in points.items():
        keypoints[index] = (x, y, *(visibility or [1.0]), 1.0)
    return keypoints


def slow_map(keypoints, joints, side, sigma, min_visibility):
    """One channel, pixel by pixel, as the format's description has it; 0..255, not rounded."""
    pixels = np.zeros((side, side))
    for row in range(side):
        for column in range(side):
            u, v = (column + 0.5) / side, (row + 0.5) / side
            for joint in joints:
                x, y, visibility, _ = (float(value) for value in keypoints[joint])
                inside = 0 <= x <= 1 and 0 <= y <= 1
                if inside and visibility >= min_visibility:
                    squared = (u - x) ** 2 + (v - y) ** 2
                    value = min(visibility, 1) * math.exp(-squared / (2 * sigma**2))
                    pixels[row, column] = max(pixels[row, column], 255 * value)
    return pixels


share = st.one_of(
    st.floats(-0.25, 1.25, width=32),
    st.sampled_from([0.0, 1.0, 0.5, -1e-6, 1 + 1e-6, math.nan, math.inf, -math.inf]),
)
poses = st.lists(
    st.tuples(share, share, st.one_of(st.floats(0, 1, width=32), st.just(math.nan)), st.just(1.0)),
    min_size=33,
    max_size=33,
).map(lambda rows: np.array(rows, np.float32))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    keypoints=poses,
    side=st.integers(4, 17),
    sigma=st.floats(0.01, 1.0),
    min_visibility=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
)
def test_parts_equal_the_formula_written_out(keypoints, side, sigma, min_visibility):
    options = RenderOptions(side, sigma, "parts", min_visibility)
    before = keypoints.copy()
    maps = render_heatmaps(keypoints, options)
    assert maps.dtype == np.uint8
    assert maps.shape == (7, side, side)
    assert options.channel_names == tuple(PART_INDICES)
    np.testing.assert_array_equal(keypoints, before)
    for channel, joints in zip(maps, PART_INDICES.values(), strict=True):
        expected = slow_map(keypoints, joints, side, sigma, min_visibility)
        # Rounding to whole levels is the only difference: half a level, and float noise.
        assert np.abs(channel - expected).max() <= 0.5 + 1e-6


@settings(max_examples=15, deadline=None, derandomize=True)
@given(keypoints=poses, side=st.integers(4, 24), sigma=st.floats(0.02, 0.3))
def test_joint_channels_parts_and_regions_are_one_picture(keypoints, side, sigma):
    joints = render_heatmaps(keypoints, RenderOptions(side, sigma, "joints"))
    parts = render_heatmaps(keypoints, RenderOptions(side, sigma, "parts"))
    assert joints.shape == (33, side, side)
    for index in (0, 12, 22, 32):
        expected = slow_map(keypoints, [index], side, sigma, 0.5)
        assert np.abs(joints[index] - expected).max() <= 0.5 + 1e-6
    for part, indices in PART_INDICES.items():
        of_joints = joints[list(indices)].max(axis=0)
        for channels, maps in ((LANDMARKS, joints), (tuple(PART_INDICES), parts)):
            np.testing.assert_array_equal(compose_regions(maps, channels, [part])[0], of_joints)
    names = list(REGION_PARTS)
    from_parts = compose_regions(parts, tuple(PART_INDICES), names)
    from_joints = compose_regions(joints, LANDMARKS, names)
    for number, name in enumerate(names):
        indices = [index for part in REGION_PARTS[name] for index in PART_INDICES[part]]
        np.testing.assert_array_equal(from_parts[number], joints[indices].max(axis=0))
        np.testing.assert_array_equal(from_joints[number], joints[indices].max(axis=0))
    assert compose_regions(joints, LANDMARKS, []).shape == (0, side, side)
    one = compose_regions(joints, LANDMARKS, ["left_wrist"])[0]
    np.testing.assert_array_equal(one, joints[15])


def recovered(profile: np.ndarray, sigma: float) -> float:
    """Find the peak of a Gaussian's cross-section, in pixels, from two of its values.

    ln v(a) − ln v(b) of a Gaussian is linear in the position of its peak, wherever a and b lie;
    so it works at the border, too.
    """
    at = int(profile.argmax())
    a, b = (at, at + 3) if at + 3 < len(profile) else (at - 3, at)
    logs = np.log(profile[b]) - np.log(profile[a])
    return (a + b) / 2 + sigma**2 * logs / (b - a)


@pytest.mark.parametrize("side", [56, 37])
def test_peak_is_recovered_at_every_sub_pixel_offset_and_at_the_border(side):
    sigma = 0.05
    corners = [0.0, 0.1, 0.5, side - 0.5, side - 0.1, side]
    inside = [side // 2 + step / 16 for step in range(17)]
    # A level of rounding in ln v, at the weaker of the two pixels (three pixels and a half off).
    weakest = 255 * math.exp(-(3.5**2 + 0.5**2) / 2 / (sigma * side) ** 2)
    tolerance = (sigma * side) ** 2 / 3 * (0.5 / weakest + 0.5 / 250) + 1e-6
    for edge_x in inside + corners:
        for edge_y in (inside[5], inside[0], 0.0, float(side)):
            keypoints = keypoints_at({0: (edge_x / side, edge_y / side)})
            pixels = render_heatmaps(keypoints, RenderOptions(side, sigma))[0].astype(float)
            row, column = np.unravel_index(pixels.argmax(), pixels.shape)
            # In pixels with the origin at the centre of the first one.
            assert abs(column - (edge_x - 0.5)) <= 0.5 + tolerance
            assert abs(row - (edge_y - 0.5)) <= 0.5 + tolerance
            assert recovered(pixels[row], sigma * side) == pytest.approx(
                edge_x - 0.5, abs=tolerance
            )
            assert recovered(pixels[:, column], sigma * side) == pytest.approx(
                edge_y - 0.5, abs=tolerance
            )
    assert tolerance < 0.06  # a peak that is rounded to a pixel would be off by up to half a one


@pytest.mark.parametrize(
    "point",
    [
        (-0.001, 0.5),
        (1.001, 0.5),
        (0.5, -0.001),
        (0.5, 1.001),
        (math.nan, 0.5),
        (0.5, math.nan),
        (math.inf, 0.5),
        (0.5, 0.5, math.nan),
        (0.5, 0.5, 0.49),
        (0.5, 0.5, 0.0),
    ],
)
def test_joints_that_are_outside_invisible_or_unknown_add_nothing(point):
    alone = keypoints_at({15: (0.25, 0.75)})
    both = keypoints_at({15: (0.25, 0.75), 16: point})
    for channels in ("parts", "joints"):
        options = RenderOptions(channels=channels)
        maps = render_heatmaps(both, options)
        np.testing.assert_array_equal(maps, render_heatmaps(alone, options))
        assert maps[3 if channels == "parts" else 15].max() > 200


def test_confidence_scales_a_joint_up_to_one():
    at_a_centre = (20.5 / 56, 30.5 / 56)
    for visibility, level in ((0.6, 153), (0.52, 133), (1.0, 255), (1.2, 255)):
        maps = render_heatmaps(keypoints_at({13: (*at_a_centre, visibility)}))
        assert maps[2, 30, 20] == maps.max() == pytest.approx(level, abs=0.51)


def test_a_pose_nobody_knows_gives_empty_maps():
    assert not render_heatmaps(np.full((33, 4), np.nan, np.float32)).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"side": 3}, "Expected `side` to be from 4 to 1024 pixels, but got 3."),
        ({"side": 1025}, "Expected `side` to be from 4 to 1024 pixels, but got 1025."),
        (
            {"sigma": 0},
            "Expected `sigma` to be a share of the side above 0 and up to 1, but got 0.",
        ),
        (
            {"sigma": math.nan},
            "Expected `sigma` to be a share of the side above 0 and up to 1, but got nan.",
        ),
        (
            {"sigma": 1.5},
            "Expected `sigma` to be a share of the side above 0 and up to 1, but got 1.5.",
        ),
        (
            {"channels": "limbs"},
            "Expected `channels` to be one of parts, joints, but got limbs.",
        ),
        ({"min_visibility": -0.1}, "Expected `min_visibility` to be from 0 to 1, but got -0.1."),
        ({"min_visibility": 1.1}, "Expected `min_visibility` to be from 0 to 1, but got 1.1."),
        (
            {"landmarks": "face"},
            "Expected `landmarks` to be one of body, garment, but got 'face'.",
        ),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(VsamError) as refused:
        RenderOptions(**options)
    assert str(refused.value) == message


def test_regions_that_do_not_exist_or_cannot_be_composed_are_refused():
    maps = np.zeros((7, 4, 4), np.uint8)
    with pytest.raises(VsamError, match=r"^Expected `region` to be one of head, .*, full or a "):
        compose_regions(maps, tuple(PART_INDICES), ["full", "ankles"])
    with pytest.raises(VsamError, match=r"'left_wrist' can't be made .* with other --channels\.$"):
        compose_regions(maps, tuple(PART_INDICES), ["left_wrist"])


def mmpose_unbiased(x: float, y: float, side: int, sigma: float) -> np.ndarray:
    """Render one joint as mmpose's `generate_unbiased_gaussian_heatmaps` does, 0..1.

    mmpose counts pixels from the centre of the first one, σ in pixels.
    """
    columns = np.arange(0, side, 1, np.float64)
    rows = columns[:, None]
    mu_x, mu_y = x * side - 0.5, y * side - 0.5
    return np.exp(-((columns - mu_x) ** 2 + (rows - mu_y) ** 2) / (2 * (sigma * side) ** 2))


@pytest.mark.parametrize("side", [56, 37])
@pytest.mark.parametrize("sigma", [0.05, 0.031, 0.12])
def test_maps_equal_mmposes_unbiased_formula_and_torchs_normal_distribution(side, sigma):
    """Two other libraries' formulas; 3σ is no whole number of pixels in any of these cases."""
    torch = pytest.importorskip("torch")
    centres = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    offsets = [0.0, 0.3 / side, 0.5, *((side // 2 + step / 8) / side for step in range(9)), 1.0]
    for x in offsets:
        for y in (offsets[0], offsets[5], offsets[-1]):
            keypoints = keypoints_at({0: (x, y)})
            # The point as it is after rounding to float32, as the renderer gets it.
            x32, y32 = map(float, keypoints[0, :2])
            pixels = render_heatmaps(keypoints, RenderOptions(side, sigma))[0] / 255
            density = [
                torch.distributions.Normal(torch.tensor(at, dtype=torch.float64), sigma)
                for at in (x32, y32)
            ]
            along_x, along_y = ((d.log_prob(centres) - d.log_prob(d.mean)).exp() for d in density)
            for other in (
                mmpose_unbiased(x32, y32, side, sigma),
                torch.outer(along_y, along_x).numpy(),
            ):
                assert np.abs(pixels - other).max() <= 0.5 / 255 + 1e-9


# DeepFashion's garment landmarks: two of each part, left before right.
GARMENT_PARTS = {"collar": (0, 1), "sleeves": (2, 3), "waistline": (4, 5), "hem": (6, 7)}


def garment(seed: int = 0) -> np.ndarray:
    """Make (8, 4) keypoints; the waistline is not known, and the right hem is hidden."""
    keypoints = np.ones((8, 4), np.float32)
    keypoints[:, :2] = np.random.default_rng(seed).uniform(0.1, 0.9, (8, 2))
    keypoints[7, 2] = 0.5
    keypoints[4:6] = (math.nan, math.nan, 0, 0)
    return keypoints


class TestGarments:
    options = RenderOptions(20, 0.1, landmarks="garment")

    def test_parts_and_joints_equal_the_formula(self):
        keypoints = garment()
        parts = render_heatmaps(keypoints, self.options)
        assert self.options.channel_names == tuple(GARMENT_PARTS)
        assert parts.shape == (4, 20, 20)
        for channel, joints in zip(parts, GARMENT_PARTS.values(), strict=True):
            slow = slow_map(keypoints, joints, 20, 0.1, 0.5)
            assert np.abs(channel - slow).max() <= 0.5 + 1e-6
        assert not parts[2].any()
        joints_options = RenderOptions(20, 0.1, "joints", landmarks="garment")
        joints = render_heatmaps(keypoints, joints_options)
        assert joints.shape == (8, 20, 20)
        assert joints_options.channel_names[::2] == (
            *("left_collar", "left_sleeve", "left_waistline", "left_hem"),
        )
        for index in range(8):
            slow = slow_map(keypoints, [index], 20, 0.1, 0.5)
            assert np.abs(joints[index] - slow).max() <= 0.5 + 1e-6

    def test_regions(self):
        joints_options = RenderOptions(20, 0.1, "joints", landmarks="garment")
        for options in (self.options, joints_options):
            maps, names = render_heatmaps(garment(), options), options.channel_names
            (whole, sleeves) = compose_regions(maps, names, ["garment", "sleeves"])
            np.testing.assert_array_equal(whole, maps.max(axis=0))
            of_sleeves = render_heatmaps(garment(), self.options)[1]
            np.testing.assert_array_equal(sleeves, of_sleeves)

    def test_regions_of_the_other_set(self):
        maps = render_heatmaps(garment(), self.options)
        with pytest.raises(VsamError) as refused:
            compose_regions(maps, self.options.channel_names, ["torso"])
        assert str(refused.value) == (
            "The region 'torso' can't be made of these heatmaps' channels (collar, sleeves, "
            "waistline, hem): they show garment landmarks. Choose one of collar, sleeves, "
            "waistline, hem, garment."
        )
        with pytest.raises(VsamError) as refused:
            compose_regions(maps, self.options.channel_names, ["knee"])
        assert str(refused.value) == (
            "Expected `region` to be one of collar, sleeves, waistline, hem, garment or a "
            "landmark's name, but got 'knee'."
        )
        with pytest.raises(VsamError, match=r"'garment' can't be made of .* they show body land"):
            compose_regions(np.zeros((7, 4, 4), np.uint8), tuple(PART_INDICES), ["garment"])
        with pytest.raises(VsamError, match=r"'left_hem' can't be made .* other --channels\.$"):
            compose_regions(maps, self.options.channel_names, ["left_hem"])

    def test_keypoints_of_the_other_set(self):
        with pytest.raises(VsamError) as refused:
            render_heatmaps(garment())
        assert str(refused.value) == (
            "Expected `keypoints` to be of shape (33, 4), the 33 body landmarks, but got (8, 4)."
        )
        with pytest.raises(VsamError, match=r"of shape \(8, 4\), the 8 garment landmarks, but got"):
            render_heatmaps(np.zeros((33, 4), np.float32), self.options)


def test_no_two_sets_share_a_name_or_a_count():
    names = [
        name
        for one in LANDMARK_SETS.values()
        for name in (*one.landmarks, *one.parts, *one.regions)
    ]
    assert len(set(names)) == len(names) > 50
    assert len({len(one) for one in LANDMARK_SETS.values()}) == len(LANDMARK_SETS) == 2
    for one in LANDMARK_SETS.values():
        of_parts = [name for part in one.parts.values() for name in part]
        assert sorted(of_parts) == sorted(one.landmarks)
