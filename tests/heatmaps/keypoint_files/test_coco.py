"""COCO and COCO-WholeBody: each joint becomes its landmark, and nothing malformed is guessed at."""

import math

import numpy as np
import pytest
from coco_files import (
    COCO,
    FEET,
    HAND,
    HEIGHT,
    KNUCKLES,
    SAMPLE,
    WIDTH,
    annotation,
    check_landmarks,
    document,
    joints,
    opened,
    refusal,
)

from vsam_heatmaps import LANDMARKS, VsamError


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
