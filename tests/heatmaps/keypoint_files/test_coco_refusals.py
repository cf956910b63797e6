"""Whatever a COCO file holds, it is read or refused in one line."""

import copy
import json
import math

import numpy as np
import pytest
from coco_files import (
    COCO,
    annotation,
    document,
    joints,
    opened,
    refusal,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from vsam_heatmaps import VsamError
from vsam_heatmaps.keypoint_files import open_keypoints

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
