"""Poses in OpenPose's order, against the order as its documentation lists it, joint by joint."""

import numpy as np
import pytest
from stages import COCO_18

from vsam_heatmaps.errors import VsamError
from vsam_heatmaps.landmarks import LANDMARKS
from vsam_heatmaps.openpose import openpose_joints
from vsam_heatmaps.poses import Poses, no_poses


def person() -> np.ndarray:
    """Give (33, 4) with a place of its own for each landmark."""
    points = np.ones((len(LANDMARKS), 4), np.float32)
    points[:, 0] = np.arange(len(LANDMARKS)) / 100
    points[:, 1] = 1 - np.arange(len(LANDMARKS)) / 200
    points[:, 2] = 0.9
    return points


def joints_of(points: np.ndarray, **options: float) -> dict[str, tuple[float, float, float]]:
    [joints] = openpose_joints(Poses(points[None]), **options)
    assert [joint.index for joint in joints] == sorted({joint.index for joint in joints})
    return {COCO_18[joint.index]: (joint.x, joint.y, joint.score) for joint in joints}


def test_each_joint_stands_where_its_landmark_does_and_the_neck_between_the_shoulders():
    points = person()
    points[LANDMARKS.index("left_shoulder"), 2] = 0.7
    found = joints_of(points)
    assert found.keys() == set(COCO_18)
    for name, place in found.items():
        if name != "neck":
            assert place == pytest.approx(points[LANDMARKS.index(name), :3])
    left, right = found["left_shoulder"], found["right_shoulder"]
    assert found["neck"] == pytest.approx(((left[0] + right[0]) / 2, (left[1] + right[1]) / 2, 0.7))


@pytest.mark.parametrize(
    ("column", "value", "gone"),
    [
        (2, 0.4, True),
        (2, 0.5, False),
        (0, -0.01, True),
        (0, 1.01, True),
        (1, 1.01, True),
        (0, 1.0, False),
        (1, 0.0, False),
        (0, np.nan, True),
    ],
)
def test_a_joint_that_is_hidden_outside_or_unknown_is_left_out(column, value, gone):
    points = person()
    points[LANDMARKS.index("left_wrist"), column] = value
    assert joints_of(points).keys() == set(COCO_18) - ({"left_wrist"} if gone else set())


def test_without_a_shoulder_there_is_no_neck():
    points = person()
    points[LANDMARKS.index("right_shoulder"), 2] = 0.1
    assert joints_of(points).keys() == set(COCO_18) - {"right_shoulder", "neck"}
    assert "neck" in joints_of(points, min_visibility=0.1)


def test_people_keep_their_order_and_who_has_no_joint_is_left_out():
    second, hidden = person(), person()
    second[:, 0] += 0.3
    hidden[:, 2] = 0
    people = openpose_joints(Poses(np.stack([second, hidden, person()])), min_visibility=0)
    assert [joints[0].x for joints in people] == pytest.approx([0.3, 0.0])
    assert openpose_joints(no_poses()) == []


def test_what_makes_no_sense_is_refused():
    with pytest.raises(VsamError, match="`min_visibility` to be from 0 to 1, but got 2"):
        openpose_joints(no_poses(), min_visibility=2)
    with pytest.raises(VsamError, match="`landmarks` to be body, but got 'garment'"):
        openpose_joints(no_poses("garment"))
