"""`vsam-heatmaps extract --keypoints`: the same shards from keypoints that people have already."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from vsam_heatmaps import LANDMARKS, Shards, Status, render_heatmaps

NAME = "vsam-heatmaps"
COCO = """
nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow
left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle
""".split()


@pytest.fixture
def photos(mannequins, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        shutil.copy(mannequins / "photos" / f"{number:05d}.jpg", folder)
    (folder / "broken.jpg").write_bytes((folder / "00000.jpg").read_bytes()[:3000])
    return folder


@pytest.fixture
def joints(mannequins):
    """The mannequins' true joints in pixels: {photo: {joint: (x, y)}}."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    with (mannequins / "joints.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["image"], {})[row["joint"]] = (float(row["x"]), float(row["y"]))
    return found


@pytest.fixture
def coco(photos, joints, tmp_path):
    """COCO annotations of three of the photos: joints that a mannequin lacks are not labelled."""
    images, annotations = [], []
    for number in range(3):
        name = f"{number:05d}.jpg"
        width, height = Image.open(photos / name).size
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        keypoints = []
        for joint in COCO:
            x, y = joints[name].get(joint, (0, 0))
            keypoints += [x, y, 2 if joint in joints[name] else 0]
        annotations.append(
            {"id": number, "image_id": number, "category_id": 1, "keypoints": keypoints}
            | {"num_keypoints": sum(v > 0 for v in keypoints[2::3]), "iscrowd": 0}
        )
    path = tmp_path / "person_keypoints.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def test_shards_without_a_network(call_command, photos, coco, joints, tmp_path, shards):
    out = tmp_path / "out"
    command = (NAME, "extract", photos, "--out", out, "--keypoints", coco, "--side", 28)
    done = call_command(*command)
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("5 photos: 3 ok, 1 no_pose, 1 unreadable")
    found = Shards(out)
    assert found.info.backend == "coco-keypoints"
    assert found["00003.jpg"].status is Status.NO_POSE  # not annotated
    for number in range(3):
        record = found[f"{number:05d}.jpg"]
        for joint in COCO:
            keypoint = record.keypoints[LANDMARKS.index(joint)]
            if joint in joints[record.id]:
                width, height = record.size
                x, y = joints[record.id][joint]
                np.testing.assert_allclose(
                    keypoint[:3], ((x + 0.5) / width, (y + 0.5) / height, 1), atol=1e-6
                )
            else:
                assert np.isnan(keypoint[:2]).all()
        np.testing.assert_array_equal(
            record.heatmaps, render_heatmaps(record.keypoints, found.info.render_options)
        )
        # The same file as that of a real extraction, map for map where both know the joints.
        real = Shards(shards)[record.id]
        assert (record.size, record.sha256) == (real.size, real.sha256)
    again = call_command(*command)
    assert "; 5 were there already." in again.stdout
    # Other keypoints are other options.
    changed = json.loads(coco.read_text())
    changed["annotations"][0]["keypoints"][0] += 1
    coco.write_text(json.dumps(changed))
    refused = call_command(*command)
    assert refused.returncode == 1
    assert "were made with other options: pose_model_sha256" in refused.stderr


def test_it_needs_neither_mediapipe_nor_openvino(photos, coco, tmp_path, run_command):
    (tmp_path / "hidden").mkdir()
    for name in ("mediapipe", "openvino"):
        (tmp_path / "hidden" / f"{name}.py").write_text(f"raise ImportError('no {name}')")
    done = run_command(
        *(NAME, "extract", photos, "--out", tmp_path / "out", "--keypoints", coco),
        env={"PYTHONPATH": str(tmp_path / "hidden")},
    )
    assert done.returncode == 3, done.stderr
    assert "3 ok" in done.stdout


def test_garments(call_command, photos, tmp_path):
    path = tmp_path / "list_landmarks.txt"
    columns = "landmark_visibility_{0} landmark_location_x_{0} landmark_location_y_{0}"
    header = ["image_name", "clothes_type", *(columns.format(n) for n in range(1, 9))]
    row = "00001.jpg 2 0 100 200 0 200 200 1 90 400 2 0 0"
    path.write_text("\n".join(["1", " ".join(header), row, ""]))
    out = tmp_path / "out"
    done = call_command(NAME, "extract", photos, "--out", out, "--keypoints", path)
    assert done.returncode == 3, done.stderr
    record = Shards(out)["00001.jpg"]
    assert record.keypoints.shape == (8, 4)
    assert record.channels == ("collar", "sleeves", "waistline", "hem")
    assert [int(peak) > 0 for peak in record.heatmaps.max(axis=(1, 2))] == [0, 0, 1, 1]
    assert Shards(out)["00002.jpg"].keypoints.shape == (8, 4)
    view = call_command(
        *(NAME, "view", out, "00001.jpg", "--photos", photos, "--out", tmp_path / "v.png")
    )
    assert view.returncode == 0, view.stderr


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--pose-engine", "mediapipe"), "Expected `pose_engine` to be left out with keypoints"),
        (("--crops", "on"), "Expected `crops` to be left out with keypoints"),
        (("--root", ".."), "None of the 5 photos is in"),
    ],
)
def test_refusals(call_command, photos, coco, tmp_path, more, message):
    done = call_command(
        *(NAME, "extract", photos, "--out", tmp_path / "out", "--keypoints", coco, *more),
        cwd=photos,
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
