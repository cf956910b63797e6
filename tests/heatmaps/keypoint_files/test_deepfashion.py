"""DeepFashion's landmarks: three types of clothes, both variants of the file, and refusals."""

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsam_heatmaps import VsamError
from vsam_heatmaps.keypoint_files import open_keypoints
from vsam_heatmaps.landmarks import GARMENT

# The landmarks of each type of clothes, in the order of the files, as DeepFashion's README has it.
TYPES = {
    1: ["left collar", "right collar", "left sleeve", "right sleeve", "left hem", "right hem"],
    2: ["left waistline", "right waistline", "left hem", "right hem"],
    3: [
        *("left collar", "right collar", "left sleeve", "right sleeve"),
        *("left waistline", "right waistline", "left hem", "right hem"),
    ],
}
# Two lines of the Category and Attribute benchmark's layout, written by hand.
SAMPLE = """\
2
image_name  clothes_type  landmark_visibility_1 landmark_location_x_1 landmark_location_y_1  \
landmark_visibility_2 landmark_location_x_2 landmark_location_y_2  landmark_visibility_3 \
landmark_location_x_3 landmark_location_y_3  landmark_visibility_4 landmark_location_x_4 \
landmark_location_y_4  landmark_visibility_5 landmark_location_x_5 landmark_location_y_5  \
landmark_visibility_6 landmark_location_x_6 landmark_location_y_6  landmark_visibility_7 \
landmark_location_x_7 landmark_location_y_7  landmark_visibility_8 landmark_location_x_8 \
landmark_location_y_8
img/Pleated_Blouse/img_00000001.jpg                        1  0 146 102  0 173 095  1 094 242  \
0 205 255  0 136 229  2 000 000 \n\
img/Denim_Skirt/img_00000007.jpg                           2  0 060 010  0 120 011  0 050 199  \
0 130 200 \n\
"""
COLUMNS = SAMPLE.splitlines()[1]


def saved(folder: Path, text: str) -> Path:
    path = folder / "list_landmarks.txt"
    path.write_bytes(text.encode())
    return path


def listed(*rows: str, columns: str = COLUMNS) -> str:
    return "\n".join([str(len(rows)), columns, *rows]) + "\n"


def refusal(folder: Path, text: str) -> str:
    path = saved(folder, text)
    with pytest.raises(VsamError) as refused:
        open_keypoints(path)
    said = str(refused.value)
    assert len(said.splitlines()) == 1
    return said.replace(str(path), "FILE")


def test_a_real_one(tmp_path):
    path = saved(tmp_path, SAMPLE)
    file = open_keypoints(path)
    assert (file.name, file.landmarks) == ("deepfashion-landmarks", "garment")
    assert file.sha256 == hashlib.sha256(SAMPLE.encode()).hexdigest()
    assert list(file.ids) == [
        "img/Denim_Skirt/img_00000007.jpg",
        "img/Pleated_Blouse/img_00000001.jpg",
    ]
    poses = file.poses("img/Pleated_Blouse/img_00000001.jpg", (300, 280))
    assert (len(poses), poses.landmarks) == (1, "garment")
    known = {
        name: point.tolist()
        for name, point in zip(GARMENT.landmarks, poses.keypoints[0], strict=True)
        if point[2] > 0
    }
    assert known == {
        "left_collar": pytest.approx([146.5 / 300, 102.5 / 280, 1, 1]),
        "right_collar": pytest.approx([173.5 / 300, 95.5 / 280, 1, 1]),
        "left_sleeve": pytest.approx([94.5 / 300, 242.5 / 280, 0.5, 1]),  # hidden
        "right_sleeve": pytest.approx([205.5 / 300, 255.5 / 280, 1, 1]),
        "left_hem": pytest.approx([136.5 / 300, 229.5 / 280, 1, 1]),
    }
    skirt = file.poses("img/Denim_Skirt/img_00000007.jpg", (200, 250)).keypoints[0]
    assert np.isnan(skirt[:4, :2]).all()
    assert skirt[GARMENT.landmarks.index("left_waistline")].tolist() == pytest.approx(
        [60.5 / 200, 10.5 / 250, 1, 1]
    )


@pytest.mark.parametrize("variation", [False, True])
@pytest.mark.parametrize("type_", [1, 2, 3])
def test_each_landmark_of_each_type(tmp_path, type_, variation):
    columns = COLUMNS.replace("clothes_type", "clothes_type variation_type" * variation or
                              "clothes_type")  # fmt: skip
    names = TYPES[type_]
    numbers = " ".join(f"0 {10 * n + 3} {7 * n + 2}" for n in range(len(names)))
    row = f"x.jpg {type_} {'5 ' * variation}{numbers}"
    file = open_keypoints(saved(tmp_path, listed(row, columns=columns)))
    found = file.poses("x.jpg", (90, 70)).keypoints[0]
    assert found.shape == (8, 4)
    for landmark, point in zip(GARMENT.landmarks, found.tolist(), strict=True):
        name = landmark.replace("_", " ")
        if name in names:
            n = names.index(name)
            assert point == pytest.approx(((10 * n + 3.5) / 90, (7 * n + 2.5) / 70, 1, 1))
        else:
            assert [math.isnan(value) for value in point[:2]] == [True, True]
            assert point[2:] == [0, 0]


def test_an_image_in_two_lines_has_two_garments(tmp_path):
    rows = ["x.jpg 2 0 10 10 0 30 10 0 10 30 0 30 30", "x.jpg 2 0 60 10 0 99 10 0 60 90 0 99 90"]
    file = open_keypoints(saved(tmp_path, listed(*rows)))
    poses = file.poses("x.jpg", (100, 100))
    assert len(poses) == 2
    assert poses.keypoints[0, GARMENT.landmarks.index("left_hem"), 0] == pytest.approx(0.605)


def test_a_garment_of_which_nothing_shows_is_none(tmp_path):
    file = open_keypoints(saved(tmp_path, listed("x.jpg 2 2 0 0 2 0 0 2 0 0 2 0 0")))
    assert file.knows("x.jpg")
    poses = file.poses("x.jpg", (9, 9))
    assert (len(poses), poses.landmarks) == (0, "garment")
    assert file.poses("y.jpg", (9, 9)).landmarks == "garment"


def test_other_line_ends_a_mark_and_empty_lines(tmp_path):
    text = "\ufeff" + SAMPLE.replace("\n", "\r\n") + "\r\n\r\n"
    assert len(open_keypoints(saved(tmp_path, text)).ids) == 2


ROW = "x.jpg 2 0 10 10 0 30 10 0 10 30 0 30 30"


class TestRefusals:
    @pytest.mark.parametrize(
        ("row", "line"),
        [
            ("x.jpg", "Expected `clothes_type in line 4 of FILE` to be 1 (upper-body), 2 "
             "(lower-body) or 3 (full-body), but got ''."),
            ("x.jpg 4 0 1 1", "Expected `clothes_type in line 4 of FILE` to be 1 (upper-body), 2 "
             "(lower-body) or 3 (full-body), but got '4'."),
            ("x.jpg 1 0 10 10 0 30 10 0 10 30 0 30 30", "Expected `line 4 of FILE` to be 6 "
             "landmarks of clothes_type 1, 18 numbers, but got 12."),
            (ROW + " 5", "Expected `line 4 of FILE` to be 4 landmarks of clothes_type 2, 12 "
             "numbers, but got 13."),
            (ROW.replace("0 30 10", "0 30 nan"), "Expected `line 4 of FILE` to be numbers after "
             "its clothes_type, but got 'nan'."),
            (ROW.replace("0 30 10", "0 3_0 10"), "Expected `line 4 of FILE` to be numbers after "
             "its clothes_type, but got '3_0'."),
            (ROW.replace("0 30 10", "3 30 10"), "Expected `visibility in line 4 of FILE` to be 0, "
             "1 or 2, but got '3'."),
            (ROW.replace("0 30 10", "0 30 99999999"), "Expected `line 4 of FILE` to be x and y of "
             "at most 1000000 pixels and v from 0 to 10, but got (30.0, 99999999.0, 1.0) at joint "
             "1."),
        ],
    )  # fmt: skip
    def test_lines(self, tmp_path, row, line):
        assert refusal(tmp_path, listed(ROW, row)) == line

    def test_a_file_that_is_cut_off(self, tmp_path):
        lines = listed(ROW, ROW, ROW)
        assert refusal(tmp_path, lines[: lines.rindex("x.jpg")]) == (
            "Expected `lines of FILE` to be 3, as its first line says, but got 2."
        )

    def test_other_lists_of_deepfashion(self, tmp_path):
        boxes = "1\nimage_name  x_1  y_1  x_2  y_2\nimg/x.jpg 1 2 3 4\n"
        assert refusal(tmp_path, boxes) == (
            "Expected `line 2 of FILE` to be the columns of DeepFashion's list_landmarks.txt "
            "(image_name clothes_type [variation_type] landmark_visibility_1 "
            "landmark_location_x_1 …), but got image_name x_1 y_1 x_2 y_2."
        )
        swapped = COLUMNS.replace("location_x_2", "location_z_2")
        assert "Expected `line 2 of FILE` to be the columns" in (
            refusal(tmp_path, listed(ROW, columns=swapped))
        )

    def test_bytes_that_are_no_text(self, tmp_path):
        path = saved(tmp_path, "")
        path.write_bytes(listed(ROW).encode() + b"\xff.jpg 2\n")
        with pytest.raises(VsamError, match=r"^Line 4 of .*txt is not text in UTF-8\.$"):
            open_keypoints(path)

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(
        start=st.integers(0, len(SAMPLE)),
        length=st.integers(0, 30),
        put=st.text(alphabet="0123456789.- \n\tx_é", max_size=6),
    )
    def test_whatever_is_changed(self, tmp_path_factory, start, length, put):
        """It is read, with landmarks that are finite, or refused in a line."""
        text = SAMPLE[:start] + put + SAMPLE[start + length :]
        path = saved(tmp_path_factory.mktemp("mutated"), text)
        try:
            file = open_keypoints(path)
        except VsamError as error:
            assert len(str(error).splitlines()) == 1  # noqa: PT017
            return
        assert len(file.ids) == 2
        for id_ in file.ids:
            keypoints = file.poses(id_, (300, 300)).keypoints
            assert np.isfinite(keypoints[keypoints[..., 2] > 0]).all()
