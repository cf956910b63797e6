"""The page's parts without Gradio: its gallery, its pictures, its HTML, its examples."""

import base64
import csv
import dataclasses
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from vsam.labels import Labels
from vsam.predictions import Prediction
from vsam.web import markup
from vsam.web.examples import draw_examples, find_examples
from vsam.web.gallery import Entry, Wanted, inside, read_predictions
from vsam.web.pictures import attention_figure, pose_figure
from vsam.web.poses import pose_maps
from vsam.web.tagging import Answer, failed
from vsam_heatmaps.errors import UnreadablePhotoError, VsamError
from vsam_heatmaps.images import read_photo
from vsam_heatmaps.overlays import heat_layer, heat_overlay
from vsam_heatmaps.rendering import RenderOptions, compose_regions, render_heatmaps

LABELS = Labels(categories=("coat", "dress"), attributes=("floral", "<b>", "long"))


def prediction(maps: int = 1) -> Prediction:
    return Prediction(
        category_scores=np.array([0.25, 0.75], np.float32),
        attribute_scores=np.array([0.9, 0.6, 0.1], np.float32),
        attention=np.random.default_rng(0).random((maps, 4, 4), np.float32),
        labels=LABELS,
        thresholds=np.full(3, 0.5, np.float32),
    )


def decode(uri: str) -> np.ndarray:
    data = np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_UNCHANGED)


def keypoints() -> np.ndarray:
    points = np.ones((33, 4), np.float32)
    points[:, :2] = np.random.default_rng(1).random((33, 2)) * 0.8 + 0.1
    return points


def test_a_layer_laid_over_the_photo_is_the_overlay():
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 255, (40, 30, 3), np.uint8)
    heat = rng.random((6, 6)).astype(np.float32)
    layer = heat_layer(heat, (40, 30)).astype(np.float64)
    opacity = layer[..., 3:] / 255
    by_hand = photo * 0.75 * (1 - opacity) + layer[..., :3] * opacity
    assert np.abs(by_hand - heat_overlay(photo, heat)).max() < 1.5  # opacity has 255 steps


@pytest.mark.parametrize(("maps", "layers"), [(0, []), (1, ["all"]), (3, ["all", "0", "1", "2"])])
def test_a_figure_has_a_layer_for_each_map(maps, layers):
    photo = np.zeros((40, 30, 3), np.uint8)
    figure = attention_figure(photo, prediction(maps).attention)
    assert list(figure.layers) == layers
    assert figure.size == (30, 40)
    assert all(decode(layer).shape == (40, 30, 4) for layer in figure.layers.values())


def test_a_region_s_pose_is_shown_for_its_map():
    points = keypoints()
    parts = render_heatmaps(points, RenderOptions(side=112))
    names = RenderOptions().channel_names
    head, full, feet = pose_maps(points, ["head", "single", "feet"])
    assert np.array_equal(head, parts[names.index("head")])
    assert np.array_equal(feet, parts[names.index("feet")])
    assert np.array_equal(full, compose_regions(parts, names, ["full"])[0])
    photo = np.zeros((224, 224, 3), np.uint8)

    def opacity(figure, key):
        return decode(figure.layers[key])[..., 3].astype(int)

    regions = pose_figure(photo, points, ("head", "feet"), 2)
    assert list(regions.layers) == ["all", "0", "1"]
    together = np.maximum(opacity(regions, "0"), opacity(regions, "1"))
    # The maximum of two maps, enlarged, is not quite that of the enlarged maps.
    assert np.abs(opacity(regions, "all") - together).mean() < 1
    assert not np.array_equal(opacity(regions, "0"), opacity(regions, "1"))
    assert list(pose_figure(photo, points, (), 1).layers) == ["all"]
    assert list(pose_figure(photo, points, (), 0).layers) == ["all"]


def test_an_answer_is_written_as_vsam_predict_writes_it():
    answer = Answer("a.jpg", prediction(), threshold=0.7)
    assert json.loads(answer.as_jsonl()) == {"image": "a.jpg"} | prediction().describe(
        threshold=0.7
    )
    (row,) = csv.DictReader(answer.as_csv().splitlines())
    assert (row["image"], row["category"], row["attributes"]) == ("a.jpg", "dress", "floral")


def test_names_and_labels_are_no_markup():
    answer = Answer("<script>.jpg", prediction())
    pages = [markup.category(answer), markup.attributes(answer), markup.problem("<i>")]
    looked = attention_figure(np.zeros((8, 8, 3), np.uint8), prediction().attention)
    pages.append(markup.figures('"><script>', looked, None, "<i>"))
    assert not [page for page in pages for tag in ("<script", "<b>", "<i>") if tag in page]
    assert "&lt;b&gt;" in markup.attributes(answer)


def test_the_region_that_spoke_is_named():
    said = prediction(2)
    added = np.zeros((2, len(said.labels.attributes)), np.float32)
    added[1, said.labels.attributes.index("floral")] = 1
    said = dataclasses.replace(said, regions=("head", "feet"), contributions=added)
    page = markup.attributes(Answer("a.jpg", said))
    assert '<span class="v-region">feet</span>' in page.partition("&lt;b&gt;")[0]
    assert "v-region" not in markup.attributes(Answer("a.jpg", prediction()))


def test_a_photo_that_failed_gets_a_sentence():
    assert failed("a.jpg", UnreadablePhotoError("it is\nempty.")) == (
        "“a.jpg” could not be read as a photo: it is empty."
    )
    assert failed("a.jpg", VsamError("Expected it to be finite.")) == (
        "“a.jpg” could not be tagged: Expected it to be finite."
    )


GOOD = {"image": "a.jpg", "category": "dress", "score": 0.5, "categories": [], "attributes": []}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"image": 1, "error": ""}',
        json.dumps(GOOD | {"score": 1.5}),
        json.dumps(GOOD | {"score": None}),
        json.dumps(GOOD | {"attributes": [{"label": "x"}]}),
        json.dumps(GOOD | {"attributes": 3}),
        json.dumps(GOOD).removesuffix("}"),
        "[" * 100_000,
        "\udcff",
    ],
)
def test_a_line_that_is_no_prediction_is_named(tmp_path, line):
    path = tmp_path / "p.jsonl"
    data = json.dumps(GOOD) + "\n" + line + "\n" + json.dumps(GOOD) + "\n"
    path.write_bytes(data.encode("utf-8", "surrogateescape"))
    with pytest.raises(VsamError, match=r"line 2 of .*p.jsonl"):
        read_predictions(path)


def test_predictions_are_read(tmp_path):
    path = tmp_path / "p.jsonl"
    floral = GOOD | {"attributes": [{"label": "floral", "score": 0.7}]}
    bad = {"image": "b.jpg", "error": "it is empty"}
    path.write_text(json.dumps(floral) + "\n" + json.dumps(bad) + "\n")
    assert read_predictions(path) == [
        Entry("a.jpg", "dress", 0.5, (("floral", 0.7),)),
        Entry("b.jpg", error="it is empty"),
    ]
    with pytest.raises(VsamError, match="none"):
        read_predictions(tmp_path / "none")


def test_what_is_wanted():
    entry = Entry("Shop/1.jpg", "Dress", 0.9, (("floral", 0.8), ("long", 0.7)))
    unread = Entry("shop/2.jpg", error="truncated")
    assert Wanted().fits(entry)
    assert Wanted(category="Dress", attributes=("floral", "long"), text="SHOP flor").fits(entry)
    wrong = [
        Wanted(category="Coat"),
        Wanted(attributes=("floral", "short")),
        Wanted(text="shop dotted"),
    ]
    assert not any(one.fits(entry) for one in wrong)
    assert [Wanted(text="trunc").fits(one) for one in (entry, unread)] == [False, True]
    assert not Wanted(category="Dress").fits(unread)


def test_ids_stay_inside_the_folder(tmp_path):
    folder = tmp_path / "photos"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "1.jpg").touch()
    (tmp_path / "secret.jpg").touch()
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / "up").symlink_to(tmp_path)
    (folder / "near.jpg").symlink_to(folder / "a" / "1.jpg")
    folder = folder.resolve()
    assert inside(folder, "a/1.jpg") == folder / "a" / "1.jpg"
    assert inside(folder, "near.jpg") == folder / "a" / "1.jpg"
    outside = [
        *("../secret.jpg", "a/../../secret.jpg", "link.jpg", "up/secret.jpg", "/etc/passwd"),
        *(str(tmp_path / "secret.jpg"), "", ".", "..", "a\0b", "x" * 5000),
    ]
    assert [id_ for id_ in outside if inside(folder, id_) is not None] in ([], ["x" * 5000])


class Reader:
    """Reads photos as the page's `Tagger` does, without a model."""

    def read(self, path):
        return read_photo(path)


def test_examples_are_drawn_or_found(tmp_path):
    drawn = draw_examples()
    assert len({one.name for one in drawn}) == len(drawn) == 6
    (tmp_path / "a.jpg").write_bytes(b"no photo")
    with pytest.raises(VsamError, match=r"--examples .* a.jpg"):
        find_examples(tmp_path, Reader())
    Image.new("RGB", (40, 30), (10, 20, 30)).save(tmp_path / "b.png")
    (found,) = find_examples(tmp_path, Reader())
    assert (found.name, found.source) == ("b.png", tmp_path / "b.png")
    assert decode(found.thumbnail).shape == (30, 40, 3)
    (tmp_path / "b.png").unlink()
    with pytest.raises(UnreadablePhotoError):
        Reader().read(found.source)
