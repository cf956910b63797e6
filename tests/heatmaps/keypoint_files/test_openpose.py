"""OpenPose's folders: 18 and 25 joints, pixels and shares, sub-folders, and what is refused."""

import json
import math
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsam_heatmaps import LANDMARKS, VsamError
from vsam_heatmaps.keypoint_files import KeypointFile, open_keypoints

# OpenPose's own names of its joints (its `poseParameters.cpp`), in order, and MediaPipe's of each.
COCO_18 = {
    "Nose": "nose",
    "Neck": None,
    "RShoulder": "right_shoulder",
    "RElbow": "right_elbow",
    "RWrist": "right_wrist",
    "LShoulder": "left_shoulder",
    "LElbow": "left_elbow",
    "LWrist": "left_wrist",
    "RHip": "right_hip",
    "RKnee": "right_knee",
    "RAnkle": "right_ankle",
    "LHip": "left_hip",
    "LKnee": "left_knee",
    "LAnkle": "left_ankle",
    "REye": "right_eye",
    "LEye": "left_eye",
    "REar": "right_ear",
    "LEar": "left_ear",
}
BODY_25 = {
    "Nose": "nose",
    "Neck": None,
    "RShoulder": "right_shoulder",
    "RElbow": "right_elbow",
    "RWrist": "right_wrist",
    "LShoulder": "left_shoulder",
    "LElbow": "left_elbow",
    "LWrist": "left_wrist",
    "MidHip": None,
    "RHip": "right_hip",
    "RKnee": "right_knee",
    "RAnkle": "right_ankle",
    "LHip": "left_hip",
    "LKnee": "left_knee",
    "LAnkle": "left_ankle",
    "REye": "right_eye",
    "LEye": "left_eye",
    "REar": "right_ear",
    "LEar": "left_ear",
    "LBigToe": "left_foot_index",
    "LSmallToe": None,
    "LHeel": "left_heel",
    "RBigToe": "right_foot_index",
    "RSmallToe": None,
    "RHeel": "right_heel",
}

# As OpenPose writes it for one person of whom the head is seen.
SAMPLE = """
{"version":1.3,"people":[{"person_id":[-1],"pose_keypoints_2d":[582.349,107.866,0.945918,
  0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,
  570.1,98.25,0.45,596.5,99.5,1.02,0,0,0,612,110,0.7,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],
  "face_keypoints_2d":[],"hand_left_keypoints_2d":[],"hand_right_keypoints_2d":[],
  "pose_keypoints_3d":[],"face_keypoints_3d":[],"hand_left_keypoints_3d":[],
  "hand_right_keypoints_3d":[]}]}
"""


def joints(count: int) -> list[float]:
    """Make a flat list of joints that all lie elsewhere: joint n at (3 n + 2, 2 n + 5)."""
    return [value for n in range(count) for value in (3 * n + 2.0, 2 * n + 5.0, 1.0)]


def saved(folder: Path, name: str, *people: list[float]) -> Path:
    path = folder / f"{name}_keypoints.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"people": [{"pose_keypoints_2d": points} for points in people]}))
    return path


def refusal(folder: Path) -> str:
    with pytest.raises(VsamError) as refused:
        open_keypoints(folder)
    said = str(refused.value)
    assert len(said.splitlines()) == 1
    return said.replace(str(folder), "DIR")


@pytest.mark.parametrize(("order", "name"), [(COCO_18, "openpose-18"), (BODY_25, "openpose-25")])
def test_each_joint_becomes_its_landmark(tmp_path, order, name):
    saved(tmp_path, "photo", joints(len(order)))
    file = open_keypoints(tmp_path)
    assert (file.name, file.landmarks) == (name, "body")
    found = file.poses("photo.jpg", (160, 90)).keypoints[0]
    positions = {landmark: number for number, landmark in enumerate(order.values()) if landmark}
    assert len(positions) == {18: 17, 25: 21}[len(order)]
    for landmark, point in zip(LANDMARKS, found.tolist(), strict=True):
        if landmark in positions:
            x, y = 3 * positions[landmark] + 2, 2 * positions[landmark] + 5
            assert point == pytest.approx(((x + 0.5) / 160, (y + 0.5) / 90, 1, 1), abs=1e-6)
        else:
            assert math.isnan(point[0])
            assert math.isnan(point[1])
            assert point[2:] == [0, 0]


def test_a_real_one(tmp_path):
    (tmp_path / "IMG.0001_keypoints.json").write_text(SAMPLE)
    file = open_keypoints(tmp_path)
    poses = file.poses("IMG.0001.JPG", (1280, 720))
    assert (len(poses), file.name) == (1, "openpose-25")
    known = {
        name: point.tolist()
        for name, point in zip(LANDMARKS, poses.keypoints[0], strict=True)
        if point[2] > 0
    }
    assert known == {
        "nose": pytest.approx([582.849 / 1280, 108.366 / 720, 0.945918, 1], abs=1e-6),
        "right_eye": pytest.approx([570.6 / 1280, 98.75 / 720, 0.45, 1], abs=1e-6),
        "left_eye": pytest.approx([597 / 1280, 100 / 720, 1, 1], abs=1e-6),
        "left_ear": pytest.approx([612.5 / 1280, 110.5 / 720, 0.7, 1], abs=1e-6),
    }


def test_folders_mirror_those_of_the_photos(tmp_path):
    saved(tmp_path, "a", joints(18))
    saved(tmp_path, "été/a")
    saved(tmp_path, "été/b.c", joints(18), joints(18))
    saved(tmp_path, ".hidden/d", joints(25))
    (tmp_path / "notes.txt").write_text("hello")
    file = open_keypoints(tmp_path)
    assert list(file.ids) == ["a", "été/a", "été/b.c"]
    counts = {id_: len(file.poses(id_, (90, 90))) for id_ in ("a.png", "été/a.jpg", "été/b.c.jpg")}
    # Two people at one place are one.
    assert counts == {"a.png": 1, "été/a.jpg": 0, "été/b.c.jpg": 1}
    known = {id_: file.knows(id_) for id_ in ("été/a.webp", "b.c.jpg", "été/b.jpg", "a", "d.jpg")}
    assert list(known.values()) == [True, False, False, True, False]


def test_links_are_followed_and_no_folder_is_read_twice(tmp_path):
    saved(tmp_path / "elsewhere", "x", joints(18))
    saved(tmp_path / "here", "a", joints(18))
    (tmp_path / "here" / "there").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "here")
    assert list(open_keypoints(tmp_path / "here").ids) == ["a", "there/x"]


def test_links_that_no_system_follows_are_left_out(tmp_path):
    saved(tmp_path, "a", joints(18))
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "long").symlink_to("x" * 300)
    assert list(open_keypoints(tmp_path).ids) == ["a"]


def test_names_that_are_no_text(tmp_path):
    saved(tmp_path, os.fsdecode(b"caf\xe9"), joints(18))
    # As `list_photos` calls such a photo.
    assert open_keypoints(tmp_path).knows("caf\\xe9.jpg")


def test_the_sha256_is_that_of_what_sha256sum_prints(tmp_path):
    letters = "qwertzuiopasdfghjkl"
    for letter in letters:
        saved(tmp_path, letter, joints(18))
        saved(tmp_path, f"sub/{letter}", joints(18))
    names = [f"{letter}_keypoints.json" for letter in sorted(letters)]
    names = sorted([*names, *(f"sub/{name}" for name in names)])
    printed = subprocess.run(
        ["sha256sum", *names], cwd=tmp_path, capture_output=True, check=True
    ).stdout
    again = subprocess.run(["sha256sum"], input=printed, capture_output=True, check=True).stdout
    before = open_keypoints(tmp_path).sha256
    assert before == again.decode().split()[0]
    (tmp_path / "q_keypoints.json").rename(tmp_path / "x_keypoints.json")
    assert open_keypoints(tmp_path).sha256 != before


def test_shares_of_the_photo(tmp_path):
    """OpenPose divides by width - 1 and height - 1: 0 and 1 are the centres of the last pixels."""
    pixels = np.array(joints(25)).reshape(-1, 3)
    pixels[4], pixels[7] = (0, 0, 1), (99, 79, 1)
    shares = pixels / (99, 79, 1)
    saved(tmp_path / "shares", "x", shares.ravel().tolist())
    saved(tmp_path / "pixels", "x", pixels.ravel().tolist())
    found = [
        open_keypoints(tmp_path / name).poses("x.jpg", (100, 80)).keypoints
        for name in ("shares", "pixels")
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-6, rtol=0)
    right_wrist = found[0][0, LANDMARKS.index("right_wrist"), :2]
    assert right_wrist == pytest.approx((0.5 / 100, 0.5 / 80))
    # The same shares of a larger photo.
    larger = open_keypoints(tmp_path / "shares").poses("x.jpg", (1000, 800)).keypoints[0]
    left_wrist = larger[LANDMARKS.index("left_wrist"), :2]
    assert left_wrist == pytest.approx((999.5 / 1000, 799.5 / 800))


def test_a_folder_without_anybody(tmp_path):
    saved(tmp_path, "x")
    saved(tmp_path, "y", [0.0] * 54)
    file = open_keypoints(tmp_path)
    assert [file.knows(id_) for id_ in ("x.jpg", "y.jpg", "z.jpg")] == [True, True, False]
    assert [len(file.poses(id_, (9, 9))) for id_ in ("x.jpg", "y.jpg")] == [0, 0]


def test_one_file_for_two_photos_is_refused(tmp_path):
    saved(tmp_path, "a/x", joints(18))
    file = open_keypoints(tmp_path)
    file.check_ids(["a/x.jpg", "x.png"])
    with pytest.raises(VsamError) as refused:
        file.check_ids(["a/x.jpg", "a/x.png"])
    assert str(refused.value) == (
        f"{tmp_path} has one entry, 'a/x', for both 'a/x.jpg' and 'a/x.png'. Give photos names "
        "that differ in more than the extension."
    )
    with pytest.raises(VsamError) as refused:
        file.check_ids(["x.jpg", "y.jpg"])
    assert str(refused.value) == (
        f"None of the 2 photos is in {tmp_path}: the photos are called like 'x.jpg', those of the "
        "keypoints 'a/x' (whatever the extension). Set --root to the folder that the names in the "
        "keypoints are relative to."
    )


class TestRefusals:
    def test_models_that_are_mixed(self, tmp_path):
        saved(tmp_path, "a", joints(18))
        saved(tmp_path, "b")
        saved(tmp_path, "c", joints(25))
        assert refusal(tmp_path) == (
            "Expected `pose_keypoints_2d of person 0 in DIR/c_keypoints.json` to be of 18 joints, "
            "as in the files before, but got 25. Keep the results of different models in separate "
            "folders."
        )

    def test_a_folder_of_something_else(self, tmp_path):
        (tmp_path / "a.json").write_text("{}")
        assert refusal(tmp_path) == (
            "Expected `DIR` to hold OpenPose's *_keypoints.json, but it holds none. Name the "
            "folder that OpenPose wrote with --write_json."
        )

    def test_shares_from_minus_one(self, tmp_path):
        points = (np.array(joints(18)).reshape(-1, 3) / (99, 79, 1)).tolist()
        points[3][0] = -0.25
        saved(tmp_path, "a", [value for point in points for value in point])
        assert refusal(tmp_path) == (
            "Expected the positions in DIR/a_keypoints.json to be pixels or from 0 to 1, but they "
            "go from -0.25 to 0.535354. Write them with OpenPose's --keypoint_scale 0 or 3."
        )

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("", "Could not read FILE: it is not JSON, or is cut off (Expecting value: line 1 "
             "column 1 (char 0))."),
            ("[]", "Expected `FILE` to be an object, but got a list of 0."),
            ("{}", "Expected `people in FILE` to be a list, but got none."),
            ('{"people": [7]}', "Expected `person 0 in FILE` to be an object, but got 7."),
            ('{"people": [{}]}', "Expected `pose_keypoints_2d of person 0 in FILE` to be 54 "
             "numbers (x, y, v of 18 joints) or 75 numbers (x, y, v of 25 joints), but got none."),
            ('{"people": [{"pose_keypoints_2d": []}]}', "Expected `pose_keypoints_2d of person 0 "
             "in FILE` to be 54 numbers (x, y, v of 18 joints) or 75 numbers (x, y, v of 25 "
             "joints), but got a list of 0."),
        ],
    )  # fmt: skip
    def test_malformed_files(self, tmp_path, text, line):
        path = tmp_path / "x_keypoints.json"
        path.write_text(text)
        assert refusal(tmp_path).replace("DIR/x_keypoints.json", "FILE") == line

    def test_a_nesting_without_end(self, tmp_path):
        (tmp_path / "x_keypoints.json").write_text("[" * 100_000)
        assert refusal(tmp_path).startswith(
            "Could not read DIR/x_keypoints.json: it is not JSON, or is cut off (maximum recursion"
        )

    def test_bytes_that_are_no_text(self, tmp_path):
        (tmp_path / "x_keypoints.json").write_bytes(b'{"people": [], "x": "\xff"}')
        assert refusal(tmp_path).startswith(
            "Could not read DIR/x_keypoints.json: it is not JSON, or is cut off ('utf-8' codec"
        )

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(
        index=st.integers(0, 53),
        value=st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    )
    def test_any_number_is_read_or_refused(self, tmp_path_factory, index, value):
        folder = tmp_path_factory.mktemp("openpose")
        points: list = joints(18)
        points[index] = value
        saved(folder, "x", points)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        least, most = (0, 10) if index % 3 == 2 else (-1e6, 1e6)
        if is_number and least <= value <= most:
            file = open_keypoints(folder)
            assert isinstance(file, KeypointFile)
            nose = file.poses("x.jpg", (9, 9)).keypoints[0, 0, :2]
            lost = index == 2 or (index < 2 and abs(value + 0.5) > 900)  # 100 photos
            assert np.isfinite(nose).all() or lost
        else:
            assert "pose_keypoints_2d of person 0 in DIR/x_keypoints.json" in refusal(folder)
