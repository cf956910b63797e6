"""Poses: their shape, and which of several people is the main one."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsam_heatmaps import Poses, VsamError
from vsam_heatmaps.poses import main_person_first, no_poses

PHOTO = (400, 300)  # width, height


def person(left, top, right, bottom, *, visibility=1.0, unseen=(), seed=0) -> np.ndarray:
    """Make (33, 4) keypoints that fill a box, in pixels of `PHOTO`; its corners are joints.

    `unseen` are (x, y) of joints that are not visible.
    """
    points = np.random.default_rng(seed).uniform((left, top), (right, bottom), (33, 2))
    points[0], points[1] = (left, top), (right, bottom)
    keypoints = np.zeros((33, 4), np.float32)
    keypoints[:, :2] = points / PHOTO
    keypoints[:, 2:] = visibility, 1
    for index, (x, y) in enumerate(unseen, start=2):
        keypoints[index] = x / PHOTO[0], y / PHOTO[1], 0.1, 1
    return keypoints


def order(*people) -> list[int]:
    """Tell which of these people `main_person_first` gives, in which order."""
    ordered = main_person_first(Poses(np.stack(people)), *PHOTO)
    return [
        next(
            index for index, one in enumerate(people) if np.array_equal(one, found, equal_nan=True)
        )
        for found in ordered.keypoints
    ]


class TestPoses:
    def test_hold_what_they_are_given(self):
        keypoints = np.random.default_rng(0).uniform(0, 1, (2, 33, 4)).astype(np.float32)
        poses = Poses(keypoints)
        assert len(poses) == 2
        assert poses.keypoints is keypoints

    def test_nobody(self):
        poses = no_poses()
        assert len(poses) == 0
        assert poses.keypoints.shape == (0, 33, 4)
        assert len(main_person_first(poses, *PHOTO)) == 0

    @pytest.mark.parametrize("shape", [(33, 4), (1, 33, 3), (1, 32, 4), (0,), (1, 4, 33)])
    def test_keypoints_of_another_shape(self, shape):
        with pytest.raises(VsamError) as refused:
            Poses(np.zeros(shape, np.float32))
        assert str(refused.value) == (
            f"Expected `keypoints` to be of shape (P, 33, 4), but got {shape}."
        )

    def test_of_garments(self):
        keypoints = np.random.default_rng(0).uniform(0, 1, (2, 8, 4)).astype(np.float32)
        poses = main_person_first(Poses(keypoints, "garment"), *PHOTO)
        assert (len(poses), poses.landmarks) == (2, "garment")
        assert no_poses("garment").keypoints.shape == (0, 8, 4)
        with pytest.raises(VsamError, match=r"to be of shape \(P, 8, 4\), but got \(2, 33, 4\)\.$"):
            Poses(np.zeros((2, 33, 4), np.float32), "garment")
        with pytest.raises(VsamError, match=r"`landmarks` to be one of body, garment, but got 'x'"):
            Poses(keypoints, "x")


class TestTheMainPerson:
    def test_the_larger_of_two_beside_each_other(self):
        small, large = person(40, 100, 100, 200), person(280, 90, 380, 210)
        assert order(small, large) == [1, 0]
        assert order(large, small) == [0, 1]

    def test_the_one_in_the_middle_of_two_as_large(self):
        corner, middle = person(0, 0, 80, 100), person(160, 100, 240, 200)
        assert order(corner, middle) == [1, 0]

    def test_how_much_the_middle_counts(self):
        """A quarter of the diagonal away, a person counts exp(-1/2) of their size."""
        # The diagonal of 400 x 300 is 500; 125 to the left of the middle.
        share = 1.5 * math.exp(-0.5)  # the first one counts one and a half times
        aside = person(25, 100, 125, 200)
        for size, first in ((math.sqrt(share * 1.02), 1), (math.sqrt(share * 0.98), 0)):
            half = 50 * size
            middle = person(200 - half, 150 - half, 200 + half, 150 + half)
            assert order(aside, middle) == [first, 1 - first]

    def test_the_first_counts_one_and_a_half_times(self):
        """Of two beside each other the most confident one is the main person."""
        first = person(50, 75, 100, 225)
        for width, order_of_both in ((74, [0, 1]), (76, [1, 0])):
            other = person(325 - width / 2, 75, 325 + width / 2, 225)
            assert order(first, other) == order_of_both

    def test_equal_people_stay_in_order(self):
        # In shares that float32 holds exactly: eighths and quarters.
        left, right = person(50, 75, 100, 225), person(300, 75, 350, 225)
        assert order(left, right) == [0, 1]
        assert order(right, left) == [0, 1]

    def test_only_what_lies_in_the_photo_counts(self):
        huge_but_outside = person(-500, 100, 40, 200)
        inside = person(170, 100, 230, 200)
        assert order(huge_but_outside, inside) == [1, 0]

    def test_only_visible_joints_count(self):
        far = [(0, 0), (400, 300)]
        small = person(100, 130, 130, 170, unseen=far)
        large = person(270, 120, 320, 180)
        assert order(small, large) == [1, 0]

    def test_of_an_unsure_person_the_most_visible_joint_counts(self):
        """Someone without a joint of 0.5 is small, but stays."""
        unsure = person(100, 50, 200, 250, visibility=0.3)
        unsure[5, 2] = 0.4
        sure = person(270, 120, 320, 180)
        assert order(unsure, sure) == [1, 0]

    def test_alone_a_person_stays_as_they_are(self):
        alone = Poses(person(0, 0, 10, 10)[None])
        assert main_person_first(alone, *PHOTO) is alone


class TestJointsThatNobodyKnows:
    def without(self, keypoints: np.ndarray, joints) -> np.ndarray:
        keypoints = keypoints.copy()
        keypoints[joints] = (math.nan, math.nan, 0, 0)
        return keypoints

    def test_make_no_box(self):
        small, large = person(40, 100, 100, 200), person(250, 90, 380, 210)
        few = self.without(large, slice(2, 20))
        assert order(small, few) == [1, 0]
        # The corners of the box are the first two joints: what is left of it is a point.
        one = self.without(large, [*range(4), *range(5, 33)])
        assert order(one, small) == [1, 0]

    def test_of_somebody_unsure(self):
        unsure = self.without(person(100, 50, 200, 250, visibility=0.3), slice(5, 33))
        assert order(unsure, person(270, 120, 320, 180)) == [0, 1]
        unsure[:5, 2] = 0  # not even the known joints are seen
        assert order(unsure, person(270, 120, 320, 180)) == [0, 1]

    def test_two_are_one_by_the_joints_that_are_known_of_both(self):
        whole = person(100, 50, 180, 200)
        half = self.without(whole, slice(15, 33))
        assert len(order(whole, half)) == 1
        half[:, 0] += 20 / PHOTO[0]  # a tenth of the box are 17 pixels
        assert len(order(whole, half)) == 2
        assert len(order(self.without(whole, slice(0, 15)), half)) == 2  # they share none

    def test_a_person_without_any_comes_last(self):
        nobody = self.without(person(0, 0, 400, 300), slice(None))
        somebody = person(170, 100, 230, 200)
        ordered = main_person_first(Poses(np.stack([nobody, somebody])), *PHOTO)
        np.testing.assert_array_equal(ordered.keypoints, np.stack([somebody, nobody]))


class TestThoseFoundTwice:
    box = (100, 50, 180, 200)  # its diagonal is 170: 17 pixels are a tenth

    def shifted(self, dx: float) -> np.ndarray:
        keypoints = person(*self.box)
        keypoints[:, 0] += dx / PHOTO[0]
        return keypoints

    @pytest.mark.parametrize(("dx", "count"), [(0, 1), (1, 1), (16.8, 1), (17.2, 2), (60, 2)])
    def test_are_one_up_to_a_tenth_of_their_size(self, dx, count):
        assert len(order(person(*self.box), self.shifted(dx))) == count

    def test_the_first_stays(self):
        """It is the more confident one, even where the other would be the main person."""
        # The second is nearer to the middle.
        assert order(self.shifted(0), self.shifted(10)) == [0]
        assert order(self.shifted(10), self.shifted(0)) == [0]

    def test_among_others(self):
        other = person(260, 40, 390, 290)
        assert order(self.shifted(0), other, self.shifted(5), self.shifted(9)) == [1, 0]

    def test_two_who_stand_close_are_two(self):
        """The same box, other joints: people who embrace are not one."""
        assert len(order(person(*self.box, seed=1), person(*self.box, seed=2))) == 2


def slow_order(keypoints: np.ndarray, width: int, height: int) -> list[int]:
    """The rule as the docstring has it, one joint after the other, without those found twice."""
    weights = []
    for joints in keypoints.astype(float):
        most = max(joint[2] for joint in joints)
        points = [
            (min(max(x * width, 0), width), min(max(y * height, 0), height))
            for x, y, visibility, _ in joints
            if visibility >= min(0.5, most)
        ]
        left, right = min(x for x, _ in points), max(x for x, _ in points)
        top, bottom = min(y for _, y in points), max(y for _, y in points)
        size = (right - left) * (bottom - top) / (width * height)
        off = math.hypot((left + right - width) / 2, (top + bottom - height) / 2)
        share = off / math.hypot(width, height)
        weights.append(size * math.exp(-(share**2) / (2 * 0.25**2)))
    weights[0] *= 1.5
    return sorted(range(len(weights)), key=lambda index: -weights[index])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    count=st.integers(2, 8),
    seed=st.integers(0, 10_000),
    width=st.integers(50, 900),
    height=st.integers(50, 900),
)
def test_the_rule_written_out(count, seed, width, height):
    rng = np.random.default_rng(seed)
    middles, extents = rng.uniform(0, 1, (count, 1, 2)), rng.uniform(0.05, 0.6, (count, 1, 2))
    keypoints = np.empty((count, 33, 4), np.float32)
    # Joints spread at random: no two people are the same one.
    keypoints[:, :, :2] = middles + extents * rng.uniform(-1, 1, (count, 33, 2))
    keypoints[:, :, 2:] = rng.uniform(0, 1, (count, 33, 2))
    before = keypoints.copy()
    ordered = main_person_first(Poses(keypoints), width, height)
    np.testing.assert_array_equal(keypoints, before)
    expected = keypoints[slow_order(keypoints, width, height)]
    np.testing.assert_array_equal(ordered.keypoints, expected)
