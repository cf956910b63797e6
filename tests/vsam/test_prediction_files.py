"""Files of predictions: JSON lines, tables, pictures; whole or not there."""

import csv
import io
import json
import sys

import cv2
import numpy as np
import pytest

from vsam.attention_maps import attention_overlay, stretch
from vsam.prediction_files import (
    csv_writer,
    jsonl_writer,
    opened_output,
    read_predictions,
    shrink_for_overlay,
    write_attention,
)
from vsam.run_folder import Labels
from vsam_heatmaps.errors import VsamError

LABELS = Labels(("dress", 'tee "new", blue'), ("belt", "maxi"))
DESCRIPTION = {
    "category": "dress",
    "score": 0.75,
    "categories": [
        {"label": "dress", "score": 0.75},
        {"label": 'tee "new", blue', "score": 0.25},
    ],
    "attributes": [{"label": "maxi", "score": 0.9}, {"label": "belt", "score": 0.6}],
}
ODD = 'a\nb/"ü", 服.jpg'


def test_a_json_line_is_one_line_whatever_the_name():
    file = io.StringIO()
    write = jsonl_writer(file)
    write(ODD, DESCRIPTION, "")
    write("b\u2028c.jpg", None, "it is\nbroken")
    lines = file.getvalue().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"image": ODD, **DESCRIPTION},
        {"image": "b\u2028c.jpg", "error": "it is\nbroken"},
    ]


@pytest.mark.parametrize("all_scores", [False, True])
def test_a_table_has_a_row_for_each_photo(all_scores):
    file = io.StringIO()
    write = csv_writer(file, LABELS, all_scores=all_scores)
    write(ODD, DESCRIPTION, "")
    write("b.jpg", None, "broken")
    found = list(csv.reader(io.StringIO(file.getvalue(), newline="")))
    scored = ["categories:dress", 'categories:tee "new", blue', "attributes:belt"]
    scored += ["attributes:maxi"]
    header = ["image", "category", "score", "attributes", "error", "details"]
    details = {key: DESCRIPTION[key] for key in ("categories", "attributes")}
    assert found[0] == [*header, *(scored if all_scores else [])]
    assert [*found[1][:5], json.loads(found[1][5]), *found[1][6:]] == [
        *(ODD, "dress", "0.75", "maxi;belt", "", details),
        *("0.75 0.25 0.6 0.9".split() * all_scores),
    ]
    assert found[2:] == [["b.jpg", "", "", "", "broken", "", *([""] * 4 * all_scores)]]


@pytest.mark.parametrize("name", ["a\rb.jpg", "a\r\nb.jpg", "\r", "a\nb.jpg", 'a",\r"b.jpg', " b "])
def test_a_table_keeps_names_with_line_breaks(tmp_path, name):
    out = tmp_path / "p.csv"
    with opened_output(str(out)) as file:
        write = csv_writer(file, LABELS, all_scores=False)
        write(name, DESCRIPTION, "")
        write(name, None, name)
        write("plain.jpg", None, "")
    assert list(read_predictions(out)) == [
        {"image": name, **DESCRIPTION},
        {"image": name, "error": name},
        {"image": "plain.jpg", "error": ""},
    ]
    assert out.read_bytes().endswith(b"\nplain.jpg,,,,,\n")


def test_a_file_appears_when_it_is_whole(tmp_path):
    out = tmp_path / "sub" / "predictions.jsonl"
    with opened_output(str(out)) as file:
        file.write("né\n")
        file.flush()
        assert not out.exists()
    assert out.read_bytes() == "né\n".encode()
    assert [path.name for path in out.parent.iterdir()] == ["predictions.jsonl"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, VsamError])
def test_a_failure_leaves_nothing_or_the_old_file(tmp_path, error):
    out = tmp_path / "predictions.jsonl"

    def fail():
        with opened_output(str(out)) as file:
            file.write("half")
            file.flush()
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []
    out.write_text("old")
    with pytest.raises(error):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.jsonl"]
    assert out.read_text() == "old"


def test_a_dash_is_standard_output(capsys):
    with opened_output("-") as file:
        assert file is sys.stdout
        file.write("here\n")
    assert capsys.readouterr().out == "here\n"


@pytest.mark.parametrize("name", ["", "/", "/absent/"])
def test_a_folder_is_no_output(tmp_path, name):
    with (
        pytest.raises(VsamError, match="Expected `--out` to be a file"),
        opened_output(f"{tmp_path}{name}"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_attention_lies_under_the_photos_id(tmp_path):
    photo = np.full((90, 60, 3), 100, np.uint8)
    attention = np.full((2, 8, 8), 0.5, np.float32)
    attention[1, 6, 1] = 0.6
    path = write_attention(tmp_path, "a b/ü.png", attention_overlay(photo, attention))
    assert path == tmp_path / "a b" / "ü.png.attention.jpg"
    picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert picture.shape == (90, 60, 3)
    changed = np.abs(picture.astype(int) - picture[5, 50]).sum(axis=2)
    row, column = np.unravel_index(changed.argmax(), changed.shape)
    # Map pixel (6, 1) covers the rows 67 to 79 and the columns 7 to 15 of the photo.
    assert 67 <= row < 79
    assert 7 <= column < 15


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((1280, 640), (640, 320)), ((100, 50), (100, 50)), ((640, 640), (640, 640))],
)
def test_overlays_are_no_larger_than_they_need_be(shape, expected):
    photo = np.zeros((*shape, 3), np.uint8)
    assert shrink_for_overlay(photo).shape == (*expected, 3)


def test_extreme_shapes_keep_a_pixel():
    assert shrink_for_overlay(np.zeros((1, 5000, 3), np.uint8)).shape == (1, 640, 3)


def test_stretch_reaches_from_zero_to_one_and_flat_maps_are_zero():
    rng = np.random.default_rng(0)
    found = stretch(rng.uniform(0.4, 0.6, (8, 8)).astype(np.float32))
    assert (found.min(), found.max()) == (0, 1)
    flat = stretch(np.full((8, 8), 0.7, np.float32))
    assert not flat.any()
