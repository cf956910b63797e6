"""Which pose is taken of someone of whom only a part shows: hand-made proposals, a fake look."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsam_heatmaps import LANDMARKS
from vsam_heatmaps.blazepose.crops import (
    best_pose,
    deviation,
    is_confirmed,
    trusted_visibility,
    visibility_features,
)
from vsam_heatmaps.blazepose.detection import Detections
from vsam_heatmaps.blazepose.landmarks import RegionPose
from vsam_heatmaps.blazepose.region_network import COARSE_JOINTS, Proposal, RegionWeights
from vsam_heatmaps.blazepose.regions import Region

SIZE = (400, 300)
REGION = Region(200, 150, 250)
ALIGNED = Region(190, 155, 260, 0.1)
COARSE = [LANDMARKS.index(name) for name in COARSE_JOINTS]
# Weights that listen to one feature after the other, and to all.
WEIGHTS = [*np.eye(5), np.array([0.7, 0.3, -0.9, -0.5, 0.2])]


def a_pose(seed: int = 0) -> np.ndarray:
    """Make (33, 4) keypoints inside the photo; left and right are far apart."""
    rng = np.random.default_rng(seed)
    keypoints = np.empty((33, 4), np.float32)
    keypoints[:, :2] = rng.uniform((60, 40), (340, 260), (33, 2))
    keypoints[:, 2:] = rng.uniform(0.05, 0.95, (33, 2))
    return keypoints


def shifted(keypoints: np.ndarray, share: float) -> np.ndarray:
    """Move all joints by a share of the region's side, to the right."""
    moved = keypoints.copy()
    moved[:, 0] += share * REGION.side
    return moved


def exchanged(keypoints: np.ndarray) -> np.ndarray:
    """Exchange the sides, by the joints' names."""
    swapped = keypoints.copy()
    for index, name in enumerate(LANDMARKS):
        other = name.replace("left", "?").replace("right", "left").replace("?", "right")
        swapped[LANDMARKS.index(other)] = keypoints[index]
    return swapped


def proposal_of(keypoints: np.ndarray, person: float = 0.9) -> Proposal:
    return Proposal(REGION, person, keypoints[COARSE, :2].copy())


def seen(keypoints: np.ndarray) -> RegionPose:
    return RegionPose(keypoints, 0.9, REGION, ALIGNED)


def detections(*scores: float) -> Detections:
    count = len(scores)
    return Detections(
        np.array(scores, np.float32),
        np.zeros((count, 4), np.float32),
        np.zeros((count, 4, 2), np.float32),
    )


def test_the_coarse_joints_are_landmarks():
    assert len(set(COARSE)) == 12


class TestDeviation:
    def test_of_a_pose_as_proposed(self):
        assert deviation(a_pose(), proposal_of(a_pose()), SIZE) == 0

    def test_is_a_share_of_the_region(self):
        moved = shifted(a_pose(), 0.3)
        assert deviation(moved, proposal_of(a_pose()), SIZE) == pytest.approx(0.3, rel=1e-5)

    @settings(max_examples=50, deadline=None, derandomize=True)
    @given(seed=st.integers(0, 10_000), spread=st.floats(0, 400))
    def test_written_out(self, seed, spread):
        rng = np.random.default_rng(seed)
        keypoints, proposed = a_pose(seed), a_pose(seed + 1)
        proposed[:, :2] += rng.normal(0, spread, (33, 2))
        away, inside = [], []
        for name in COARSE_JOINTS:
            (x, y), (u, v) = (pose[LANDMARKS.index(name), :2] for pose in (keypoints, proposed))
            away.append(math.hypot(x - u, y - v) / REGION.side)
            inside.append(-20 < u < 420 and -15 < v < 315)  # a twentieth of the photo around it
        if sum(inside) >= 2:
            away = [one for one, counts in zip(away, inside, strict=True) if counts]
        expected = sum(away) / len(away)
        found = deviation(keypoints, proposal_of(proposed), SIZE)
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)

    def test_only_joints_proposed_inside_the_photo_count(self):
        proposed = a_pose()
        proposed[COARSE[5:], :2] = -500
        keypoints = shifted(a_pose(), 0.2)
        assert deviation(keypoints, proposal_of(proposed), SIZE) == pytest.approx(0.2, rel=1e-5)

    def test_all_count_where_fewer_than_two_are_inside(self):
        proposed = a_pose()
        proposed[COARSE[1:], :2] += (1000, 0)
        found = deviation(a_pose(), proposal_of(proposed), SIZE)
        assert found == pytest.approx(1000 / 250 * 11 / 12, rel=1e-5)


class TestIsConfirmed:
    def confirmed(self, share, *scores):
        return is_confirmed(
            [seen(shifted(a_pose(), share))], detections(*scores), proposal_of(a_pose()), SIZE
        )

    def test_a_pose_as_proposed_is(self):
        assert self.confirmed(0.0, 0.6)
        assert self.confirmed(0.03, 0.6)

    def test_a_pose_elsewhere_is_not(self):
        assert not self.confirmed(0.05, 0.6)
        assert not self.confirmed(0.5, 0.99)

    def test_a_detection_that_is_sure_may_deviate_more(self):
        assert self.confirmed(0.11, 0.9)
        assert not self.confirmed(0.11, 0.8)
        assert not self.confirmed(0.13, 0.9)

    def test_with_more_people_what_was_found_stands(self):
        """The proposal lies between them."""
        assert self.confirmed(3.0, 0.6, 0.55)

    def test_exchanged_sides_are_not(self):
        pose = exchanged(a_pose())
        assert not is_confirmed([seen(pose)], detections(0.99), proposal_of(a_pose()), SIZE)

    def test_the_most_confident_pose_is_asked(self):
        right, wrong = seen(a_pose()), seen(shifted(a_pose(), 1))
        assert is_confirmed([right, wrong], detections(0.9), proposal_of(a_pose()), SIZE)
        assert not is_confirmed([wrong, right], detections(0.9), proposal_of(a_pose()), SIZE)


class Look:
    """A landmark network that says what it is told to, and remembers where it looked."""

    def __init__(self, *answers: np.ndarray) -> None:
        self.answers = answers
        self.asked: list[tuple[Region, bool]] = []

    def __call__(self, region: Region, mirrored: bool) -> RegionPose:
        self.asked.append((region, mirrored))
        return seen(self.answers[len(self.asked) - 1])


AT_THE_REGION, MIRRORED, AS_IT_ASKS = (REGION, False), (REGION, True), (ALIGNED, False)


class TestBestPose:
    def best(self, look, *found):
        return best_pose([seen(pose) for pose in found], look, proposal_of(a_pose()), SIZE)

    def test_one_look_is_enough_if_it_agrees(self):
        look = Look(shifted(a_pose(), 0.02))
        np.testing.assert_array_equal(self.best(look), look.answers[0])
        assert look.asked == [AT_THE_REGION]

    def test_exchanged_sides_are_put_right_without_another_look(self):
        look = Look(exchanged(a_pose()))
        np.testing.assert_array_equal(self.best(look), a_pose())
        assert look.asked == [AT_THE_REGION]

    def test_then_it_looks_at_the_region_mirrored(self):
        look = Look(shifted(a_pose(), 0.3), a_pose())
        np.testing.assert_array_equal(self.best(look), a_pose())
        assert look.asked == [AT_THE_REGION, MIRRORED]

    def test_then_where_the_first_look_asked_for(self):
        look = Look(shifted(a_pose(), 0.3), shifted(a_pose(), 0.4), a_pose())
        np.testing.assert_array_equal(self.best(look), a_pose())
        assert look.asked == [AT_THE_REGION, MIRRORED, AS_IT_ASKS]

    @pytest.mark.parametrize("best", [0, 1, 2])
    def test_of_poses_that_all_deviate_the_nearest_is_taken(self, best):
        shares = [0.5, 0.5, 0.5]
        shares[best] = 0.2
        look = Look(*(shifted(a_pose(), share) for share in shares))
        np.testing.assert_array_equal(self.best(look), look.answers[best])
        assert len(look.asked) == 3

    def test_with_sides_exchanged_if_that_is_nearer(self):
        look = Look(*(exchanged(shifted(a_pose(), share)) for share in (0.5, 0.2, 0.4)))
        np.testing.assert_array_equal(self.best(look), shifted(a_pose(), 0.2))

    def test_what_was_found_is_taken_if_it_is_nearest(self):
        """As the photo's confident person was not confirmed, the network looks all the same."""
        far, near = shifted(a_pose(), 0.9), shifted(a_pose(), 0.1)
        look = Look(*(shifted(a_pose(), share) for share in (0.5, 0.2, 0.4)))
        np.testing.assert_array_equal(self.best(look, far, near), near)
        assert len(look.asked) == 3

    def test_what_was_found_gives_way_to_what_is_nearer(self):
        look = Look(*(shifted(a_pose(), share) for share in (0.5, 0.2, 0.4)))
        np.testing.assert_array_equal(self.best(look, shifted(a_pose(), 0.3)), look.answers[1])

    def test_nothing_that_it_is_given_changes(self):
        found = shifted(a_pose(), 0.3)
        look = Look(*(exchanged(shifted(a_pose(), share)) for share in (0.5, 0.2, 0.4)))
        kept = [found.copy(), *(answer.copy() for answer in look.answers)]
        self.best(look, found)
        for before, after in zip(kept, (found, *look.answers), strict=True):
            np.testing.assert_array_equal(before, after)


def weights(visibility: np.ndarray) -> RegionWeights:
    return RegionWeights([], [], np.array([1.0, 0.0]), visibility)


def near_joint(name: str) -> str:
    """Which of the coarse joints a landmark hangs on: its own, its limb's, or else a shoulder."""
    side = "right" if "right" in name else "left"
    for limb, parts in {
        "shoulder": ("shoulder",), "elbow": ("elbow",), "hip": ("hip",), "knee": ("knee",),
        "wrist": ("wrist", "pinky", "index", "thumb"), "ankle": ("ankle", "heel", "foot_index"),
    }.items():  # fmt: skip
        if name.removeprefix(f"{side}_") in parts:
            return f"{side}_{limb}"
    return f"{side}_shoulder"


def slow_visibility(keypoints, proposal, size, regression) -> list[float]:
    """The logistic regression, one joint after the other."""
    away = {
        name: math.dist(keypoints[LANDMARKS.index(name), :2], proposal.joints[index])
        / proposal.region.side
        for index, name in enumerate(COARSE_JOINTS)
    }
    whole = deviation(keypoints, proposal, size)
    result = []
    for name, (x, y, *likely) in zip(LANDMARKS, keypoints.tolist(), strict=True):
        likely = [min(max(value, 0.001), 0.999) for value in likely]
        features = [
            *(math.log(value / (1 - value)) for value in likely),
            math.log(away[near_joint(name)] + 0.01),
            math.log(whole + 0.01),
            1.0,
        ]
        logit = sum(w * f for w, f in zip(regression, features, strict=True))
        inside = 0 <= x <= size[0] and 0 <= y <= size[1]
        result.append(1 / (1 + math.exp(-logit)) if inside else 0.0)
    return result


class TestTrustedVisibility:
    @pytest.mark.parametrize("regression", WEIGHTS)
    def test_the_formula(self, regression):
        keypoints, proposal = a_pose(1), proposal_of(shifted(a_pose(2), 0.1))
        found = trusted_visibility(keypoints, proposal, SIZE, weights(regression))
        assert found.shape == (33,)
        assert found.dtype == np.float32
        expected = slow_visibility(keypoints, proposal, SIZE, regression)
        # Logarithms and five products in float32.
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)

    def test_weights_as_the_file_has_them(self):
        keypoints, proposal = a_pose(1), proposal_of(a_pose(2))
        half = WEIGHTS[-1].astype(np.float16)
        found = trusted_visibility(keypoints, proposal, SIZE, weights(half))
        expected = trusted_visibility(keypoints, proposal, SIZE, weights(half.astype(np.float64)))
        np.testing.assert_array_equal(found, expected)

    @settings(max_examples=50, deadline=None, derandomize=True)
    @given(
        seed=st.integers(0, 10_000),
        spread=st.floats(0, 2000),
        regression=st.lists(st.floats(-50, 50), min_size=5, max_size=5).map(np.array),
    )
    def test_a_probability_and_none_outside(self, seed, spread, regression):
        rng = np.random.default_rng(seed)
        keypoints = a_pose(seed)
        keypoints[:, :2] += rng.normal(0, spread, (33, 2))
        keypoints[:, 2:] = rng.integers(0, 2, (33, 2))  # the ends, where logits have none
        with np.errstate(all="raise", under="ignore"):
            found = trusted_visibility(keypoints, proposal_of(a_pose()), SIZE, weights(regression))
        assert ((found >= 0) & (found <= 1)).all()
        x, y = keypoints[:, 0], keypoints[:, 1]
        outside = (x < 0) | (x > SIZE[0]) | (y < 0) | (y > SIZE[1])
        assert not found[outside].any()

    def test_the_photos_edge_is_inside(self):
        keypoints = a_pose()
        keypoints[:4, :2] = (0, 0), SIZE, (-0.01, 5), (5, SIZE[1] + 0.01)
        found = trusted_visibility(keypoints, proposal_of(a_pose()), SIZE, weights(WEIGHTS[-1]))
        assert (found[:2] > 0).all()
        assert not found[2:4].any()

    def test_features_that_training_fits(self):
        features = visibility_features(a_pose(), proposal_of(a_pose(3)), SIZE)
        assert features.shape == (33, 5)
        assert features.dtype == np.float32
        assert np.isfinite(features).all()
        assert (features[:, 4] == 1).all()
        assert len(np.unique(features[:, 3])) == 1  # of the whole pose
