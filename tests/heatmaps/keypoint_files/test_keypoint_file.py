"""Keypoint files as a whole: known poses through each format, lookup by id, memory, workers."""

import json
import multiprocessing
import os
import pickle
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsam_datasets.mannequins import draw_mannequin
from vsam_heatmaps import LANDMARKS, RenderOptions, VsamError, render_heatmaps
from vsam_heatmaps.errors import UnreadablePhotoError
from vsam_heatmaps.keypoint_files import KeypointFile, open_keypoints
from vsam_heatmaps.poses import main_person_first

SIDES = ("left", "right")
COCO = [
    "nose",
    *(f"{side}_{stem}" for stem in ("eye", "ear", "shoulder", "elbow") for side in SIDES),
    *(f"{side}_{stem}" for stem in ("wrist", "hip", "knee", "ankle") for side in SIDES),
]
HAND = {2: "thumb", 5: "index", 17: "pinky"}
WHOLEBODY = [
    *COCO,
    *("left_foot_index", "", "left_heel", "right_foot_index", "", "right_heel"),
    *[""] * 68,
    *(f"{side}_{HAND[n]}" if n in HAND else "" for side in SIDES for n in range(21)),
]
ARM, LEG = ("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle")
FACE = ["right_eye", "left_eye", "right_ear", "left_ear"]
OPENPOSE_18 = [
    *("nose", ""),
    *(f"{side}_{stem}" for stems in (ARM, LEG) for side in ("right", "left") for stem in stems),
    *FACE,
]
OPENPOSE_25 = [*OPENPOSE_18[:8], "", *OPENPOSE_18[8:], *WHOLEBODY[17:23]]

Write = Callable[[Path, dict[str, tuple[np.ndarray, tuple[int, int]]]], Path]


def flat(joints: np.ndarray, order: list[str], v: float) -> list[float]:
    """List x, y, v of the named joints; (33, 3) x, y in pixels and whether the joint is there."""
    found = []
    for name in order:
        x, y, there = joints[LANDMARKS.index(name)] if name else (0, 0, 0)
        found += [float(x), float(y), v] if there else [0, 0, 0]
    return found


def as_coco(folder: Path, photos) -> Path:
    document: dict = {"images": [], "annotations": [], "categories": []}
    for number, (id_, (joints, (width, height))) in enumerate(photos.items()):
        image = {"id": number, "file_name": id_, "width": width, "height": height}
        document["images"].append(image)
        person = {"image_id": number, "keypoints": flat(joints, COCO, 2), "iscrowd": 0}
        document["annotations"].append(person)
    path = folder / "coco.json"
    path.write_text(json.dumps(document))
    return path


def as_results(order: list[str]) -> Write:
    def write(folder: Path, photos) -> Path:
        path = folder / "results.json"
        results = [
            {"image_id": id_, "category_id": 1, "keypoints": flat(joints, order, 1), "score": 1}
            for id_, (joints, _) in photos.items()
        ]
        path.write_text(json.dumps(results))
        return path

    return write


def as_openpose(order: list[str], *, shares: bool = False) -> Write:
    def write(folder: Path, photos) -> Path:
        for id_, (joints, (width, height)) in photos.items():
            points = np.array(flat(joints, order, 1)).reshape(-1, 3)
            if shares:
                points /= (width - 1, height - 1, 1)
            path = folder / "openpose" / id_.replace(".jpg", "_keypoints.json")
            path.parent.mkdir(parents=True, exist_ok=True)
            person = {"person_id": [-1], "pose_keypoints_2d": points.ravel().tolist()}
            path.write_text(json.dumps({"version": 1.3, "people": [person]}))
        return folder / "openpose"

    return write


FORMATS = {
    "coco": (as_coco, COCO),
    "results": (as_results(COCO), COCO),
    "wholebody": (as_results(WHOLEBODY), WHOLEBODY),
    "openpose-18": (as_openpose(OPENPOSE_18), OPENPOSE_18),
    "openpose-25": (as_openpose(OPENPOSE_25), OPENPOSE_25),
    "openpose-shares": (as_openpose(OPENPOSE_25, shares=True), OPENPOSE_25),
}


@pytest.fixture(scope="module")
def photos() -> dict[str, tuple[np.ndarray, tuple[int, int]]]:
    """Give true joints of drawn people, pixels from the centre of the first one, and the size."""
    sizes = [(384, 512), (300, 500), (451, 333), (640, 480)]
    return {
        f"{number % 2}/{number:02d}.jpg": (draw_mannequin(number, 0, size=size).joints, size)
        for number, size in enumerate(sizes)
    }


@pytest.mark.parametrize("name", FORMATS)
def test_known_poses_come_back_and_render_to_the_same_maps(tmp_path, photos, name):
    write, order = FORMATS[name]
    known = [landmark in order for landmark in LANDMARKS]
    assert sum(known) == len([joint for joint in order if joint])
    file = open_keypoints(write(tmp_path, photos))
    file.check_ids(list(photos))
    assert len(photos) == 4
    for id_, (joints, size) in photos.items():
        poses = file.poses(id_, size)
        assert len(poses) == 1
        truth = np.zeros((33, 4), np.float32)
        truth[:, :2] = (joints[:, :2] + 0.5) / size
        truth[:, 2] = truth[:, 3] = known & (joints[:, 2] > 0)
        there = truth[:, 2] > 0
        assert there.sum() > 12
        np.testing.assert_allclose(poses.keypoints[0, there], truth[there], atol=1e-6, rtol=0)
        assert np.isnan(poses.keypoints[0, ~there, :2]).all()
        assert not poses.keypoints[0, ~there, 2:].any()
        for channels in ("parts", "joints"):
            options = RenderOptions(channels=channels)
            maps = render_heatmaps(truth, options).astype(int)
            assert maps.any()
            assert np.abs(render_heatmaps(poses.keypoints[0], options) - maps).max() <= 1


def test_sizes_that_fit_and_others(tmp_path):
    def opened(width: int, height: int) -> KeypointFile:
        image = {"id": 1, "file_name": "x.jpg", "width": width, "height": height}
        path = tmp_path / "coco.json"
        path.write_text(json.dumps({"images": [image], "annotations": []}))
        return open_keypoints(path)

    with pytest.raises(UnreadablePhotoError) as refused:
        opened(640, 480).poses("x.jpg", (480, 640))
    assert str(refused.value) == "its keypoints are for a photo of 640 x 480, but it has 480 x 640"
    for size in ((640, 479), (640, 427), (100, 100), (320, 241), (1280, 957)):
        with pytest.raises(UnreadablePhotoError):
            opened(640, 480).poses("x.jpg", size)
    for size in ((640, 480), (64, 48), (427, 320), (1, 1)):
        assert len(opened(640, 480).poses("x.jpg", size)) == 0

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(
        size=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
        scale=st.floats(0.05, 3),
        rounding=st.sampled_from([round, int, lambda side: int(side) + 1]),
    )
    def any_scale_fits_and_no_turn_does(size, scale, rounding):
        scaled = tuple(max(1, rounding(side * scale)) for side in size)
        opened(*size).poses("x.jpg", scaled)
        opened(*scaled).poses("x.jpg", size)
        if size[0] != size[1]:
            with pytest.raises(UnreadablePhotoError):
                opened(*size).poses("x.jpg", size[::-1])

    any_scale_fits_and_no_turn_does()


def test_ids_of_other_folders(tmp_path, photos):
    path = as_coco(tmp_path, photos)
    file = open_keypoints(path)
    file.check_ids([])
    file.check_ids(["unknown.jpg", "0/00.jpg"])  # one is enough
    with pytest.raises(VsamError) as refused:
        file.check_ids(["00.jpg", "01.jpg", "02.jpg"])
    assert str(refused.value) == (
        f"None of the 3 photos is in {path}: the photos are called like '00.jpg', those of the "
        "keypoints '0/00.jpg'. Set --root to the folder that the names in the keypoints are "
        "relative to."
    )


def test_the_main_person_comes_first(tmp_path):
    """As for poses that are found; joints that nobody knows take no part."""
    rng = np.random.default_rng(5)
    people = []
    for left, width, joints in ((10, 30, 17), (50, 100, 15), (170, 20, 17), (50, 100, 6)):
        points = np.zeros((17, 3))
        points[:joints] = np.column_stack(
            [rng.uniform(left, left + width, joints), rng.uniform(10, 190, joints), [2] * joints]
        )
        people.append(points)
    people[3] = people[1] + (1, 0, 0)  # found twice
    people[3][7:] = 0
    path = tmp_path / "coco.json"
    annotations = [{"image_id": 1, "keypoints": points.ravel().tolist()} for points in people]
    path.write_text(
        json.dumps({"images": [{"id": 1, "file_name": "x"}], "annotations": annotations})
    )
    poses = open_keypoints(path).poses("x", (200, 200))
    noses = (poses.keypoints[:, 0, 0] * 200 - 0.5).tolist()
    assert noses == pytest.approx([people[index][0, 0] for index in (1, 0, 2)], abs=1e-4)
    assert main_person_first(poses, 200, 200).keypoints.shape == (3, 33, 4)


def test_joints_that_lie_far_away_are_not_known(tmp_path):
    """They are in the limits of numbers, and no positions: `verify` would refuse the shard."""
    points = np.tile([50.0, 60.0, 2.0], (2, 17, 1))
    points[0, 3, 0], points[0, 4, 1], points[0, 5, 0] = 100 * 200 + 1, -100 * 100 - 1, 99 * 200
    points[1, :, 0] = 9e5
    path = tmp_path / "coco.json"
    annotations = [{"image_id": 1, "keypoints": each.ravel().tolist()} for each in points]
    path.write_text(
        json.dumps({"images": [{"id": 1, "file_name": "x"}], "annotations": annotations})
    )
    poses = open_keypoints(path).poses("x", (200, 100))
    assert len(poses) == 1  # of the other no joint is left
    known = ~np.isnan(poses.keypoints[0, :, 0])
    names = [LANDMARKS[index] for index in np.flatnonzero(known)]
    assert "left_shoulder" in names
    assert not {"left_ear", "right_ear"} & set(names)
    assert len(names) == 15


def test_it_travels_to_worker_processes(tmp_path, photos):
    file = open_keypoints(as_coco(tmp_path, photos))
    (tmp_path / "coco.json").unlink()  # it is all in memory
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        for id_, (_, size) in photos.items():
            poses = pool.submit(file.poses, id_, size).result(timeout=100)
            np.testing.assert_array_equal(poses.keypoints, file.poses(id_, size).keypoints)


def test_a_person_takes_little_memory(tmp_path):
    count = 3000
    images = [{"id": n, "file_name": f"train/{n:012d}.jpg"} for n in range(count)]
    points = list(range(51))
    points[2::3] = [2] * 17
    annotations = [{"image_id": n, "keypoints": points} for n in range(count)]
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    size = len(pickle.dumps(open_keypoints(path)))
    # 204 of joints, 8 of the score, 8 of the size, 17 of whose they are, 30 of the photo's name.
    assert size / count < 270


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "it is not there"),
        (b"", "it is neither JSON nor a list of landmarks"),
        (b"\x89PNG\r\n", "it is neither JSON nor a list of landmarks"),
        (b"image,x,y\na.jpg,1,2\n", "it is neither JSON nor a list of landmarks"),
        (b"12 monkeys", "it is neither JSON nor a list of landmarks"),
    ],
)
def test_what_is_no_keypoint_file(tmp_path, content, reason):
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VsamError) as refused:
        open_keypoints(path)
    assert str(refused.value) == (
        f"Expected `{path}` to hold keypoints, but {reason}. What is read: COCO or COCO-WholeBody "
        "keypoints in JSON (annotations or a list of results), a folder of OpenPose's "
        "*_keypoints.json, and DeepFashion's list_landmarks.txt."
    )


@pytest.mark.skipif(sys.platform == "win32", reason="makes a pipe")
@pytest.mark.timeout(20)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")  # as `<(gunzip < keypoints.json.gz)` is one
    with pytest.raises(VsamError) as refused:
        open_keypoints(tmp_path / "pipe.json")
    assert str(refused.value) == (
        f"Expected `{tmp_path}/pipe.json` to hold keypoints, but it is a pipe, a socket or a "
        "device, and they are read twice. Write them into a file."
    )
