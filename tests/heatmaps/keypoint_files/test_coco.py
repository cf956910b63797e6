"""COCO and COCO-WholeBody: each joint becomes its landmark, and nothing malformed is guessed at."""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


class TestTheMapping:
    def test_of_cocos_joints(self, tmp_path):
        file = opened(tmp_path, document())
        assert (file.name, file.landmarks, file.without_extension) == ("coco-keypoints", "body", 0)
        positions = {landmark: number for number, landmark in enumerate(COCO.values())}
        assert len(positions) == 17
        check_landmarks(file.poses("a/b.jpg", (WIDTH, HEIGHT)).keypoints[0], positions)

    def wholebody(self) -> dict[str, int]:
        order = [*COCO.values(), *FEET.values(), *[None] * 68]
        for side in ("left", "right"):
            order += [f"{side}_{KNUCKLES[name]}" if name in KNUCKLES else None for name in HAND]
        assert len(order) == 133
        return {name: number for number, name in enumerate(order) if name}

    def test_of_wholebodys_joints_in_fields_of_their_own(self, tmp_path):
        more = {
            "foot_kpts": joints(6, 17),
            "face_kpts": joints(68, 23),
            "lefthand_kpts": joints(21, 91),
            "righthand_kpts": joints(21, 112),
        }
        positions = self.wholebody()
        assert len(positions) == 17 + 4 + 6
        for content in (
            document(annotation(**more)),
            [{"image_id": "a/b.jpg", "category_id": 1, "score": 0.7}
             | {"keypoints": joints(17, v=1)}
             | {name: [min(value, 1) if n % 3 == 2 else value for n, value in enumerate(points)]
                for name, points in more.items()}],
        ):  # fmt: skip
            file = opened(tmp_path, content)
            assert (file.name, file.landmarks) == ("coco-wholebody", "body")
            check_landmarks(file.poses("a/b.jpg", (WIDTH, HEIGHT)).keypoints[0], positions)

    def test_of_wholebodys_joints_in_one_list(self, tmp_path):
        result = {"image_id": "a/b.jpg", "category_id": 1, "keypoints": joints(133, v=1)}
        for content in ([result], document(annotation(keypoints=joints(133)))):
            file = opened(tmp_path, content)
            assert file.name == "coco-wholebody"
            found = file.poses("a/b.jpg", (WIDTH, HEIGHT)).keypoints[0]
            check_landmarks(found, self.wholebody())

    def test_fields_may_be_empty(self, tmp_path):
        file = opened(tmp_path, document(annotation(foot_kpts=[], lefthand_kpts=None)))
        assert file.name == "coco-wholebody"
        positions = {landmark: number for number, landmark in enumerate(COCO.values())}
        check_landmarks(file.poses("a/b.jpg", (WIDTH, HEIGHT)).keypoints[0], positions)


class TestAnnotations:
    def test_a_real_one(self, tmp_path):
        file = opened(tmp_path, SAMPLE)
        assert list(file.ids) == ["skiing/000000000785.jpg"]
        poses = file.poses("skiing/000000000785.jpg", (640, 425))
        assert len(poses) == 1
        known = {
            name: point.tolist()
            for name, point in zip(LANDMARKS, poses.keypoints[0], strict=True)
            if point[2] > 0
        }
        assert known == {
            "nose": pytest.approx([367.5 / 640, 81.5 / 425, 1, 1]),
            "left_ear": pytest.approx([386.5 / 640, 78.5 / 425, 0.5, 1]),
            "left_shoulder": pytest.approx([399.5 / 640, 108.5 / 425, 1, 1]),
            "right_shoulder": pytest.approx([358.5 / 640, 129.5 / 425, 1, 1]),
        }

    def test_the_sha256_is_the_files(self, tmp_path):
        # `printf '{"images":[],"annotations":[]}' | sha256sum`
        file = opened(tmp_path, '{"images":[],"annotations":[]}')
        assert file.sha256 == "611ec7d79ac71a34db34c16c0cdb91574b0798bfef4aaa1d9ac14c060f076b63"
        assert list(file.ids) == []

    def test_flags_of_hands_are_scores_that_count_as_seen(self, tmp_path):
        hand = joints(21, 91, v=0)
        hand[3 * 2 + 2], hand[3 * 5 + 2] = 0.038, 1
        file = opened(
            tmp_path, document(annotation(lefthand_kpts=hand, foot_kpts=joints(6, 17, v=1)))
        )
        found = file.poses("a/b.jpg", (WIDTH, HEIGHT)).keypoints[0]
        visibility = dict(zip(LANDMARKS, found[:, 2].tolist(), strict=True))
        hands = [visibility[f"left_{name}"] for name in ("thumb", "index", "pinky")]
        assert hands == [1, 1, 0]
        assert visibility["left_heel"] == 0.5

    def test_crowds_and_people_without_joints_are_left_out(self, tmp_path):
        for left_out in (
            annotation(iscrowd=1),
            annotation(num_keypoints=0),
            annotation(num_keypoints=0, keypoints=[]),
            annotation(keypoints=joints(17, v=0)),
        ):
            file = opened(tmp_path, document(left_out))
            assert file.knows("a/b.jpg")
            assert len(file.poses("a/b.jpg", (WIDTH, HEIGHT))) == 0
            assert len(opened(tmp_path, document(left_out, annotation())).people.points) == 1

    def test_photos_without_people_and_photos_that_it_does_not_know(self, tmp_path):
        images = [*document()["images"], {"id": 8, "file_name": "a/c.jpg"}]
        file = opened(tmp_path, document(images=images))
        assert [file.knows(id_) for id_ in ("a/b.jpg", "a/c.jpg", "b.jpg", "a/b.png")] == [
            *(True, True, False, False)
        ]
        for id_ in ("a/c.jpg", "b.jpg"):
            poses = file.poses(id_, (3, 4))
            assert (len(poses), poses.landmarks) == (0, "body")

    def test_lists_may_come_in_any_order(self, tmp_path):
        whole = document()
        for order in (("annotations", "categories", "images"), tuple(reversed(whole))):
            file = opened(tmp_path, {name: whole[name] for name in order})
            assert len(file.poses("a/b.jpg", (WIDTH, HEIGHT))) == 1

    def test_ids_of_images_may_be_strings(self, tmp_path):
        images = [{"id": "7", "file_name": "x.jpg"}, {"id": 7, "file_name": "y.jpg"}]
        file = opened(tmp_path, document(annotation(image_id="7"), images=images))
        assert [len(file.poses(id_, (9, 9))) for id_ in ("x.jpg", "y.jpg")] == [1, 0]

    def test_a_photo_that_was_scaled(self, tmp_path):
        """Keypoints are shares of the photo that was annotated, whatever the size of this one."""
        file = opened(tmp_path, document())
        original = file.poses("a/b.jpg", (WIDTH, HEIGHT)).keypoints
        for size in ((320, 240), (1280, 960), (201, 151), (427, 320)):
            np.testing.assert_array_equal(file.poses("a/b.jpg", size).keypoints, original)

    def test_without_a_size_the_photos_own_counts(self, tmp_path):
        file = opened(tmp_path, document(images=[{"id": 7, "file_name": "x", "width": None}]))
        found = file.poses("x", (100, 50)).keypoints[0]
        assert found[LANDMARKS.index("nose")].tolist() == pytest.approx([0.015, 0.11, 1, 1])

    def test_annotations_of_categories_without_keypoints_are_left_out(self, tmp_path):
        person = document()["categories"][0]
        bag = {"id": 2, "name": "handbag"}
        other = {"id": 2, "image_id": 7, "category_id": 2, "iscrowd": 0, "bbox": [1, 2, 3, 4]}
        file = opened(tmp_path, document(other, annotation(), categories=[bag, person]))
        assert len(file.people.points) == 1
        line = refusal(tmp_path, document(other, annotation(), categories=[bag]))
        assert line.startswith("Expected `keypoints of annotation 0 in FILE` to be there, but got")

    def test_joints_may_be_spelled_with_spaces(self, tmp_path):
        names = [name.replace("_", " ").title() for name in COCO]
        assert "Left Eye" in names
        opened(tmp_path, document(categories=[{"id": 1, "keypoints": names}]))

    def test_names_of_wholebodys_133_joints(self, tmp_path):
        names = [*COCO, *FEET, *(f"face-{number}" for number in range(68))]
        names += [f"{side}_{joint}" for side in ("left", "right") for joint in HAND]
        whole = document(annotation(keypoints=joints(133)), categories=[{"keypoints": names}])
        assert opened(tmp_path, whole).name == "coco-wholebody"
        names[17], names[18] = names[18], names[17]
        assert "`joint 17 of category 0 in FILE` to be 'left_big_toe', as in COCO, but got " in (
            refusal(tmp_path, whole | {"categories": [{"keypoints": names}]})
        )


class TestResults:
    def result(self, **changed) -> dict:
        entry = {"image_id": 397133, "category_id": 1, "keypoints": joints(17, v=0.5)}
        return entry | {"score": 0.9} | changed

    def test_numbers_are_file_names_without_zeros_and_extension(self, tmp_path):
        file = opened(tmp_path, [self.result()])
        assert list(file.ids) == ["000000397133"]
        assert [
            file.knows(id_)
            for id_ in ("000000397133.jpg", "000000397133.png", "397133.jpg", "a/000000397133.jpg")
        ] == [True, True, False, False]

    def test_strings_are_file_names(self, tmp_path):
        file = opened(tmp_path, [self.result(image_id="a/b.jpg")])
        assert [file.knows(id_) for id_ in ("a/b.jpg", "a/b.png", "b.jpg")] == [True, False, False]

    def test_scores_are_visibilities(self, tmp_path):
        points = joints(17, v=0)
        points[2], points[5], points[8] = 0.25, 1.0098, 6
        found = opened(tmp_path, [self.result(keypoints=points)]).poses("000000397133", (99, 99))
        names = ("nose", "left_eye", "right_eye", "left_ear")
        seen = [float(found.keypoints[0, LANDMARKS.index(name), 2]) for name in names]
        assert seen == [0.25, 1, 1, 0]

    def boxes(self, *scores: float | None) -> list[dict]:
        """Make people in a row, all of one size and as far from the middle of 600 x 100 pixels."""
        people = []
        for number, score in enumerate(scores):
            left = 600 - 60 if number % 2 else 0
            points = [value for n in range(17) for value in (left + n * 59 / 16, 20 + 3.0 * n, 0.8)]
            people.append(self.result(keypoints=points, score=score))
        return people

    def lefts(self, poses) -> list[bool]:
        return [bool(np.nanmax(person[:, 0]) < 0.5) for person in poses.keypoints]

    def test_the_surest_comes_first(self, tmp_path):
        file = opened(tmp_path, self.boxes(0.3, 0.6))
        assert self.lefts(file.poses("000000397133", (600, 100))) == [False, True]
        file = opened(tmp_path, self.boxes(0.6, 0.3))
        assert self.lefts(file.poses("000000397133", (600, 100))) == [True, False]

    def test_without_scores_who_has_most_joints(self, tmp_path):
        people = self.boxes(None, None)
        people[0]["keypoints"][3 * 8 : 3 * 9] = [0, 0, 0]
        file = opened(tmp_path, people)
        assert self.lefts(file.poses("000000397133", (600, 100))) == [False, True]

    def test_people_below_the_least_confidence_are_left_out(self, tmp_path):
        file = opened(tmp_path, self.boxes(0.3, 0.9))
        counts = {
            least: len(file.poses("000000397133", (600, 100), min_confidence=least))
            for least in (0.0, 0.3, 0.31, 0.9, 0.91)
        }
        assert counts == {0.0: 2, 0.3: 2, 0.31: 1, 0.9: 1, 0.91: 0}
        file = opened(tmp_path, self.boxes(None, 0.6))
        assert len(file.poses("000000397133", (600, 100), min_confidence=0.9)) == 1

    def test_none(self, tmp_path):
        file = opened(tmp_path, "[]")
        assert (file.name, len(file.ids)) == ("coco-keypoints", 0)
        with pytest.raises(VsamError, match=r"like 'a\.jpg', those of the keypoints none\. Set"):
            file.check_ids(["a.jpg"])

    @pytest.mark.parametrize(
        ("changed", "line"),
        [
            (
                {"image_id": "x.jpg"},
                "FILE has numbers and strings as image_id, from result 1 in FILE on. Write all of "
                "them as one or the other.",
            ),
            (
                {"image_id": -1},
                "Expected `image_id of result 1 in FILE` to be 0 or above, in 18 digits, but got "
                "-1.",
            ),
            (
                {"image_id": 10**400},
                "Expected `image_id of result 1 in FILE` to be 0 or above, in 18 digits, but got "
                "a huge number.",
            ),
            (
                {"image_id": True},
                "Expected `image_id of result 1 in FILE` to be a whole number or a file name, but "
                "got True.",
            ),
            (
                {"score": "0.9"},
                "Expected `score of result 1 in FILE` to be a number of at most 1000000, but got "
                "'0.9'.",
            ),
            (
                {"score": math.nan},
                "Expected `score of result 1 in FILE` to be a number of at most 1000000, but got "
                "nan.",
            ),
            (
                {"keypoints": joints(17, v=-0.01)},
                "Expected `keypoints of result 1 in FILE` to be x and y of at most 1000000 pixels "
                "and v from 0 to 10, but got (1.0, 5.0, -0.01) at joint 0.",
            ),
            (
                {"keypoints": joints(133)},
                "Expected `joints of result 1 in FILE` to be coco-keypoints, as before, but got "
                "coco-wholebody.",
            ),
        ],
    )
    def test_malformed_ones(self, tmp_path, changed, line):
        assert refusal(tmp_path, [self.result(), self.result(**changed)]) == line


NUMBERS = "51 numbers (x, y, v of 17 joints) or 399 numbers (x, y, v of 133 joints)"
LIMITS = "x and y of at most 1000000 pixels and v from 0 to 10"
READ = (
    "What is read: COCO or COCO-WholeBody keypoints in JSON (annotations or a list of results), a "
    "folder of OpenPose's *_keypoints.json, and DeepFashion's list_landmarks.txt."
)


def with_value(index: int, value: object) -> dict:
    points: list = joints(17)
    points[index] = value
    return document(annotation(keypoints=points))


class TestRefusals:
    @pytest.mark.parametrize(
        ("content", "rule", "got"),
        [
            (document(annotation(keypoints=joints(16))), NUMBERS, "a list of 48"),
            (document(annotation(keypoints=joints(26))), NUMBERS, "a list of 78"),
            (document(annotation(keypoints=None)), NUMBERS, "none"),
            (document(annotation(keypoints={"nose": 1})), NUMBERS, "an object of 1"),
            (document(annotation(keypoints="1,2,3")), NUMBERS, "'1,2,3'"),
            (with_value(4, "12.5"), "numbers alone", "'12.5'"),
            (with_value(4, [12.5]), "numbers alone", "a list of 1"),
            (with_value(4, None), "numbers alone", "none"),
            (with_value(4, True), "numbers alone", "True"),
            (with_value(4, math.nan), LIMITS, "(4.0, nan, 2) at joint 1"),
            (with_value(3, math.inf), LIMITS, "(inf, 7.0, 2) at joint 1"),
            (with_value(4, 1e7), LIMITS, "(4.0, 10000000.0, 2) at joint 1"),
            (with_value(4, -1e7), LIMITS, "(4.0, -10000000.0, 2) at joint 1"),
            (with_value(0, 10**400), LIMITS, "(a huge number, 5.0, 2) at joint 0"),
            (with_value(5, -1), LIMITS, "(4.0, 7.0, -1) at joint 1"),
            (with_value(5, 11), LIMITS, "(4.0, 7.0, 11) at joint 1"),
        ],
    )
    def test_points(self, tmp_path, content, rule, got):
        line = f"Expected `keypoints of annotation 0 in FILE` to be {rule}, but got {got}."
        assert refusal(tmp_path, content) == line

    @pytest.mark.parametrize("v", [3, 0.5, 1.5])
    def test_flags_that_are_none(self, tmp_path, v):
        assert refusal(tmp_path, with_value(5, v)) == (
            f"Expected `v of annotation 0 in FILE` to be 0, 1 or 2, but got {v}. Write keypoints "
            "that have scores as a list of results."
        )

    @pytest.mark.parametrize(
        ("changed", "line"),
        [
            (
                {"image_id": 8},
                "The image_id of annotation 1 in FILE is none of its `images`. Add the image, or "
                "remove the annotation.",
            ),
            (
                {"image_id": None},
                "Expected `image id of annotation 1 in FILE` to be a whole number or a string, but "
                "got none.",
            ),
            (
                {"image_id": 7.0},
                "Expected `image id of annotation 1 in FILE` to be a whole number or a string, but "
                "got 7.0.",
            ),
            (
                {"iscrowd": "no"},
                "Expected `iscrowd of annotation 1 in FILE` to be 0 or 1, but got 'no'.",
            ),
            (
                {"foot_kpts": joints(6)},
                "Expected `joints of annotation 1 in FILE` to be coco-keypoints, as before, but "
                "got coco-wholebody.",
            ),
            (
                {"righthand_kpts": joints(20)},
                "Expected `righthand_kpts of annotation 1 in FILE` to be 63 numbers (x, y, v of "
                "21 joints), but got a list of 60.",
            ),
        ],
    )
    def test_annotations(self, tmp_path, changed, line):
        assert refusal(tmp_path, document(annotation(), annotation(**changed))) == line

    @pytest.mark.parametrize(
        ("image", "line"),
        [
            ({"id": 7, "file_name": "z"}, "The id 7 of image 1 in FILE is another image's, too."),
            (
                {"id": 8, "file_name": "a/b.jpg"},
                "FILE has two images of the file_name 'a/b.jpg', so whose keypoints are whose "
                "can't be told. Remove one.",
            ),
            ({"id": 8}, "Expected `file_name of image 1 in FILE` to be a file name, but got none."),
            (
                {"id": 8, "file_name": ""},
                "Expected `file_name of image 1 in FILE` to be a file name, but got ''.",
            ),
            (
                {"id": 8, "file_name": "\ud800"},
                "Expected `file_name of image 1 in FILE` to be a file name, but got '\\ud800'.",
            ),
            (
                {"id": 8, "file_name": "c", "width": 640},
                "Expected `height of image 1 in FILE` to be a whole number above 0, but got none.",
            ),
            (
                {"id": 8, "file_name": "c", "width": 0, "height": 0},
                "Expected `width of image 1 in FILE` to be a whole number above 0, but got 0.",
            ),
            (
                {"id": 8, "file_name": "c", "width": "640", "height": 480},
                "Expected `width of image 1 in FILE` to be a whole number above 0, but got '640'.",
            ),
            ("a/c.jpg", "Expected `image 1 in FILE` to be an object, but got 'a/c.jpg'."),
        ],
    )
    def test_images(self, tmp_path, image, line):
        content = document(images=[*document()["images"], image])
        assert refusal(tmp_path, content) == line

    @pytest.mark.parametrize(
        ("names", "line"),
        [
            (
                [*COCO][:16],
                "Expected `keypoints of category 0 in FILE` to be COCO's 17 joints or "
                "COCO-WholeBody's 133, but got 16 names.",
            ),
            (
                ["nose", "right_eye", "left_eye", *list(COCO)[3:]],
                "Expected `joint 1 of category 0 in FILE` to be 'left_eye', as in COCO, but got "
                "'right_eye'. COCO's 17 joints or COCO-WholeBody's 133 are read, in its order.",
            ),
            ("nose", "Expected `keypoints of category 0 in FILE` to be a list, but got 'nose'."),
        ],
    )
    def test_another_skeleton(self, tmp_path, names, line):
        content = document(categories=[{"id": 1, "keypoints": names}])
        assert refusal(tmp_path, content) == line

    @pytest.mark.parametrize(
        ("content", "line"),
        [
            (
                {"images": []},
                f"Expected `FILE` to have `annotations`, as COCO's annotation files do, but it has "
                f"none. {READ}",
            ),
            (
                {"annotations": []},
                f"Expected `FILE` to have `images`, as COCO's annotation files do, but it has "
                f"none. {READ}",
            ),
            (
                {"version": 1.3, "people": []},
                "FILE looks like OpenPose's result for one photo. Name the folder that it is in.",
            ),
            (document(annotations={}), "Expected `annotations in FILE` to be a list, but got an "
             "object of 0."),
            ('{"images": [], "annotations": [], "images": []}', "FILE has `images` twice. Merge "
             "them into one list."),
            ([1], "Expected `result 0 in FILE` to be an object, but got 1."),
        ],
    )  # fmt: skip
    def test_other_documents(self, tmp_path, content, line):
        assert refusal(tmp_path, content) == line

    def test_cut_off_anywhere(self, tmp_path):
        whole = json.dumps(document())
        for length in range(1, len(whole), 7):
            said = refusal(tmp_path, whole[:length])
            assert said.startswith("Could not read FILE: it is not JSON, or is cut off (")
            assert opened(tmp_path, whole + " \n").name == "coco-keypoints"
        for end in ("}", "]", "0", ",", "{}"):
            assert "(something follows its end at character " in refusal(tmp_path, whole + end)


# Whatever JSON holds, and more: NaN and infinities, which Python's reader takes.
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["nose", "", "\ud800", 0, 1, -1, 1e308, 10**400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


def places(value: object, path: tuple = ()) -> list[tuple]:
    """List the paths to all values in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, child in inner:
        found.append((*path, key))
        if isinstance(child, dict | list):
            found += places(child, (*path, key))
    return found


WHOLE = document(
    annotation(),
    annotation(iscrowd=1),
    images=[{"id": 7, "file_name": "a", "width": 9, "height": 9}, {"id": 8, "file_name": "b"}],
)
RESULTS = [{"image_id": 5, "category_id": 1, "score": 0.5, "keypoints": joints(17, v=1)}] * 2


@settings(max_examples=250, deadline=None, derandomize=True)
@given(
    data=st.data(),
    whole=st.sampled_from([WHOLE, RESULTS]),
    changes=st.integers(1, 3),
)
def test_whatever_a_file_holds_it_is_read_or_refused_in_a_line(
    tmp_path_factory, data, whole, changes
):
    changed = copy.deepcopy(whole)
    for _ in range(changes):
        *above, key = data.draw(st.sampled_from(places(changed)))
        parent = changed
        for step in above:
            parent = parent[step]
        if data.draw(st.booleans()):
            parent[key] = data.draw(anything)
        else:
            del parent[key]
        if not changed:
            break
    path = tmp_path_factory.mktemp("mutated") / "keypoints.json"
    path.write_text(json.dumps(changed))
    try:
        file = open_keypoints(path)
        for id_ in (*file.ids, "unknown.jpg"):
            for poses in (file.poses(id_, (9, 9)), file.poses(id_, (9, 9), min_confidence=0.4)):
                known = poses.keypoints[poses.keypoints[..., 2] > 0]
                assert np.isfinite(known).all()
                assert (known[:, 2] <= 1).all()
    except VsamError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
