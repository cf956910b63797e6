"""A prediction: names, order, thresholds, and the picture of its attention."""

import copy
import gc
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vsam.labels import Labels
from vsam.predictions import Prediction, weakly
from vsam_heatmaps.errors import UnreadablePhotoError, VsamError


def predict(**changed) -> Prediction:
    values = {
        "category_scores": np.array([0.05, 0.4, 0.1, 0.2, 0.1, 0.15], np.float32),
        "attribute_scores": np.array([0.5, 0.9, 0.50001, 0.1], np.float32),
        "attention": np.zeros((1, 8, 8), np.float32),
        "labels": Labels(tuple("abcdef"), tuple("wxyz")),
        "thresholds": np.full(4, 0.5, np.float32),
    }
    return Prediction(**values | changed)


def test_a_prediction_names_the_best_labels():
    prediction = predict()
    assert prediction.category == "b"
    assert prediction.score == pytest.approx(0.4)
    # Equal scores keep the order of the labels.
    assert [label for label, _ in prediction.categories] == ["b", "d", "f", "c", "e"]
    assert prediction.categories[1].label == "d"
    assert prediction.categories[1].score == pytest.approx(0.2)
    assert [label for label, _ in prediction.top_categories(9)] == ["b", "d", "f", "c", "e", "a"]
    assert [label for label, _ in prediction.attributes] == ["x", "y"]
    assert repr(prediction) == "<Prediction b 0.40; x 0.90, y 0.50>"


def test_a_description_holds_jsons_values():
    prediction = predict()
    short = prediction.describe()
    assert list(short) == ["category", "score", "categories", "attributes"]
    assert (short["category"], short["score"]) == ("b", 0.4)
    assert [entry["label"] for entry in short["categories"]] == ["b", "d", "f", "c", "e"]
    assert short["attributes"] == [{"label": "x", "score": 0.9}, {"label": "y", "score": 0.50001}]
    assert json.loads(json.dumps(short)) == short
    assert [entry["label"] for entry in prediction.describe(threshold=0.05)["attributes"]] == [
        *"xywz"
    ]
    assert prediction.describe(threshold=1)["attributes"] == []
    everything = prediction.describe(all_scores=True)
    assert [entry["label"] for entry in everything["categories"]] == ["b", "d", "f", "c", "e", "a"]
    assert [entry["label"] for entry in everything["attributes"]] == ["x", "y", "w", "z"]


def test_each_attribute_has_its_own_threshold_and_must_be_above_it():
    thresholds = np.array([0.4, 0.95, 0.6, 0.1], np.float32)
    assert [label for label, _ in predict(thresholds=thresholds).attributes] == ["w"]
    equal = predict(attribute_scores=np.full(4, 0.3, np.float32))
    assert equal.describe(threshold=0.3)["attributes"] == []


def spot(*places: tuple[int, int]) -> np.ndarray:
    """Make maps of 8 x 8 with one hot pixel each."""
    maps = np.zeros((len(places), 8, 8), np.float32)
    for number, (row, column) in enumerate(places):
        maps[number, row, column] = 0.2
    return maps


def changed_places(picture: np.ndarray) -> np.ndarray:
    """Say which of 8 x 8 fields differ most from the corner's colour."""
    rows, columns = (size // 8 for size in picture.shape[:2])
    distance = np.abs(picture.astype(int) - picture[-1, -1]).sum(axis=2)
    fields = distance[: 8 * rows, : 8 * columns].reshape(8, rows, 8, columns).mean(axis=(1, 3))
    return np.argwhere(fields > fields.max() * 0.8)


@pytest.mark.parametrize("shape", [(80, 160), (64, 64)])
def test_the_overlay_shows_where_the_attention_is(shape):
    photo = np.full((*shape, 3), 120, np.uint8)
    before = photo.copy()
    picture = predict(attention=spot((1, 5)), source=photo).overlay()
    assert picture.shape == (*shape, 3)
    assert picture.dtype == np.uint8
    assert changed_places(picture).tolist() == [[1, 5]]
    assert (photo == before).all()
    several = predict(attention=spot((1, 5), (4, 2)), source=photo).overlay()
    assert changed_places(several).tolist() == [[1, 5], [4, 2]]


def test_an_overlay_has_the_size_asked_for():
    prediction = predict(attention=spot((1, 1)), source=np.zeros((100, 200, 3), np.uint8))
    assert prediction.overlay(size=50).shape == (25, 50, 3)
    assert prediction.overlay(size=500).shape == (100, 200, 3)
    with pytest.raises(VsamError, match="Expected `size` to be at least 1, but got 0"):
        prediction.overlay(size=0)


def test_an_overlay_of_a_path_reads_it_again(tmp_path):
    path = tmp_path / "photo.png"
    Image.new("RGB", (40, 20)).save(path)
    prediction = predict(attention=spot((1, 1)), source=str(path))
    assert prediction.overlay().shape == (20, 40, 3)
    assert prediction.overlay(Image.new("L", (9, 7))).shape == (7, 9, 3)
    path.unlink()
    with pytest.raises(UnreadablePhotoError, match=f"Could not read {path}: No such file"):
        prediction.overlay()


def test_without_attention_or_photo_there_is_no_overlay():
    with pytest.raises(VsamError, match="to have an attention map, but it has none"):
        predict(attention=spot()).overlay(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(VsamError, match="has no photo to draw on"):
        predict(attention=spot((1, 1))).overlay()


def test_a_weak_source_keeps_no_photo_in_memory_and_can_be_sent():
    photo = np.zeros((16, 16, 3), np.uint8)
    prediction = predict(attention=spot((1, 1)), source=weakly(photo))
    assert prediction.overlay().shape == photo.shape
    sent = pickle.loads(pickle.dumps(prediction))
    assert sent.category == "b"
    assert sent.source is None
    assert copy.deepcopy(prediction).category == "b"
    del photo
    gc.collect()
    with pytest.raises(VsamError, match="it is not kept in memory"):
        prediction.overlay()
    assert weakly("a.jpg") == "a.jpg"
    assert weakly(Path("a.jpg")) == Path("a.jpg")
    image = Image.new("RGB", (5, 4))
    assert weakly(image)() is image
