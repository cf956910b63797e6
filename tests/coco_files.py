"""Keypoints as COCO's files have them."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from vsam_heatmaps import LANDMARKS, VsamError
from vsam_heatmaps.keypoint_files import KeypointFile, open_keypoints

# What the formats call their joints, in order, and which landmark of MediaPipe's each is. Written
# down here a second time on purpose.
COCO = {
    "nose": "nose",
    "left_eye": "left_eye",
    "right_eye": "right_eye",
    "left_ear": "left_ear",
    "right_ear": "right_ear",
    "left_shoulder": "left_shoulder",
    "right_shoulder": "right_shoulder",
    "left_elbow": "left_elbow",
    "right_elbow": "right_elbow",
    "left_wrist": "left_wrist",
    "right_wrist": "right_wrist",
    "left_hip": "left_hip",
    "right_hip": "right_hip",
    "left_knee": "left_knee",
    "right_knee": "right_knee",
    "left_ankle": "left_ankle",
    "right_ankle": "right_ankle",
}
FEET = {
    "left_big_toe": "left_foot_index",
    "left_small_toe": None,
    "left_heel": "left_heel",
    "right_big_toe": "right_foot_index",
    "right_small_toe": None,
    "right_heel": "right_heel",
}
HAND = """
    hand_root thumb1 thumb2 thumb3 thumb4 forefinger1 forefinger2 forefinger3 forefinger4
    middle_finger1 middle_finger2 middle_finger3 middle_finger4 ring_finger1 ring_finger2
    ring_finger3 ring_finger4 pinky_finger1 pinky_finger2 pinky_finger3 pinky_finger4
""".split()
KNUCKLES = {"thumb2": "thumb", "forefinger1": "index", "pinky_finger1": "pinky"}
WIDTH, HEIGHT = 640, 480
# The first person of `example_gt.json` of COCO-WholeBody is standing like this: body, v = 2.
SAMPLE = """
{"info": {"description": "by hand"},
 "images": [{"id": 785, "file_name": "skiing/000000000785.jpg", "width": 640, "height": 425}],
 "annotations": [{"id": 442619, "image_id": 785, "category_id": 1, "iscrowd": 0, "area": 27789.1,
   "num_keypoints": 4, "bbox": [280.79, 44.73, 218.7, 346.68],
   "keypoints": [367,81,2, 0,0,0, 0,0,0, 386,78,1, 0,0,0, 399,108,2, 358,129,2, 0,0,0, 0,0,0,
                 0,0,0, 0,0,0, 0,0,0, 0,0,0, 0,0,0, 0,0,0, 0,0,0, 0,0,0]}],
 "categories": [{"id": 1, "name": "person", "supercategory": "person", "skeleton": [[16, 14]],
   "keypoints": ["nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder",
     "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip",
     "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"]}]}
"""


def joints(count: int, start: int = 0, v: float = 2) -> list[float]:
    """Make a flat list of joints that all lie elsewhere: joint n at (3 n + 1, 2 n + 5)."""
    return [value for n in range(start, start + count) for value in (3 * n + 1.0, 2 * n + 5.0, v)]


def annotation(**changed) -> dict:
    entry = {"id": 1, "image_id": 7, "category_id": 1, "iscrowd": 0, "num_keypoints": 17}
    return entry | {"keypoints": joints(17)} | changed


def document(*annotations: dict, **changed) -> dict:
    whole = {
        "images": [{"id": 7, "file_name": "a/b.jpg", "width": WIDTH, "height": HEIGHT}],
        "annotations": list(annotations) or [annotation()],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO)}],
    }
    return whole | changed


def saved(folder: Path, content: object, name: str = "keypoints.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def opened(folder: Path, content: object) -> KeypointFile:
    return open_keypoints(saved(folder, content))


def refusal(folder: Path, content: object) -> str:
    """Give the line that refuses, with the file's path as FILE."""
    with pytest.raises(VsamError) as refused:
        opened(folder, content)
    said = str(refused.value)
    assert len(said.splitlines()) == 1
    return said.replace(str(folder / "keypoints.json"), "FILE")


def check_landmarks(found: np.ndarray, positions: dict[str, int], size=(WIDTH, HEIGHT)) -> None:
    """Check that each named landmark is the joint of that number, and that no other is known."""
    assert found.shape == (33, 4)
    known = {name for name, point in zip(LANDMARKS, found, strict=True) if point[2] > 0}
    assert known == set(positions)
    for name, point in zip(LANDMARKS, found.tolist(), strict=True):
        if name in positions:
            x, y = 3 * positions[name] + 1, 2 * positions[name] + 5
            expected = ((x + 0.5) / size[0], (y + 0.5) / size[1], 1, 1)
            assert point == pytest.approx(expected, abs=1e-6), name
        else:
            assert [math.isnan(value) for value in point] == [True, True, False, False]
            assert point[2:] == [0, 0]
