"""Figures of a model on labelled photos, against those counted by hand from its predictions."""

import csv
import json
import logging
import math
import shutil

import numpy as np
import pytest
import torch
from tiny import write_table

from vsam.calibration import Calibration
from vsam.labels import Labels
from vsam.predictor import Predictor
from vsam.run_folder import load_checkpoint, save_calibration
from vsam.scoring import (
    Scored,
    calibrate_run,
    evaluate_scores,
    score_photos,
    write_per_label,
)
from vsam_datasets.tables import read_labels
from vsam_heatmaps.errors import VsamError


@pytest.fixture(scope="module")
def predictor(tiny_run) -> Predictor:
    return Predictor.from_run(tiny_run, device="cpu")


@pytest.fixture(scope="module")
def rows(tiny_data):
    return read_labels(tiny_data / "labels.csv").split("train")


@pytest.fixture(scope="module")
def scored(predictor, rows, tiny_data) -> Scored:
    return score_photos(predictor, rows, tiny_data / "photos", batch_size=4)


def test_scores_stand_beside_their_own_labels(predictor, rows, tiny_data, scored):
    assert len(rows) == len(scored.category) == 15
    for number, row in enumerate(rows):
        prediction = predictor(tiny_data / "photos" / row.image)
        np.testing.assert_allclose(
            scored.category_scores[number], prediction.category_scores, atol=1e-5
        )
        np.testing.assert_allclose(
            scored.attribute_scores[number], prediction.attribute_scores, atol=1e-5
        )
        assert predictor.labels.categories[scored.category[number]] == row.category
        names = [
            name
            for name, true in zip(
                predictor.labels.attributes, scored.attributes[number], strict=True
            )
            if true
        ]
        assert tuple(names) == row.attributes


def test_figures_are_those_of_the_predictions(predictor, rows, tiny_data, scored):
    predictions = predictor([tiny_data / "photos" / row.image for row in rows])
    found = evaluate_scores(scored, torch.tensor(predictor.thresholds))
    right = [one.category == row.category for one, row in zip(predictions, rows, strict=True)]
    assert found.metrics.category_accuracy == pytest.approx(np.mean(right))
    assert found.metrics.photos == 15
    said = [{label for label, _ in one.attributes} for one in predictions]
    hits = sum(len(a & set(row.attributes)) for a, row in zip(said, rows, strict=True))
    wrong = sum(len(a ^ set(row.attributes)) for a, row in zip(said, rows, strict=True))
    assert found.attribute_f1_micro == pytest.approx(2 * hits / (2 * hits + wrong))
    # There are but two attributes.
    assert found.attribute_recall_top3 == found.attribute_recall_top5 == 1
    losses = [
        -math.log(one.category_scores[predictor.labels.categories.index(row.category)])
        for one, row in zip(predictions, rows, strict=True)
    ]
    assert found.category_nll == pytest.approx(np.mean(losses), rel=1e-4)
    assert json.loads(json.dumps(found.to_json()))["category_top3"] == 1


def test_figures_without_any_label_are_null():
    nothing = Scored(
        torch.full((2, 3), 1 / 3), torch.rand(2, 2), torch.full((2,), -100), torch.zeros(2, 2)
    )
    found = evaluate_scores(nothing, torch.ones(2)).to_json()
    assert found.pop("photos") == 2
    assert set(found.values()) == {None}


def test_scores_of_zero_have_logarithms():
    certain = Scored(
        torch.tensor([[1.0, 0.0]]), torch.rand(1, 1), torch.tensor([1]), torch.zeros(1, 1)
    )
    assert 80 < evaluate_scores(certain, torch.ones(1)).category_nll < 90


def relabelled(rows, path, change):
    write_table(path, [(row.image, *change(row)) for row in rows])
    return read_labels(path).rows


def test_labels_that_the_model_does_not_know_are_left_out_and_told(
    predictor, rows, tiny_data, tmp_path, caplog
):
    caplog.set_level(logging.WARNING, "vsam")

    def change(row):
        category = "hat" if row.category == "tee" else row.category
        return row.split, category, ";".join({"left", "feathered"})

    found = score_photos(
        predictor, relabelled(rows, tmp_path / "l.csv", change), tiny_data / "photos"
    )
    assert (found.category == -100).sum() == sum(row.category == "tee" for row in rows)
    assert found.attributes.sum(dim=0).tolist() == [15, 0]
    assert "1 of the labels' categories, for instance 'hat': they are left out" in caplog.text
    assert "1 of the labels' attributes, for instance 'feathered'" in caplog.text


def test_labels_of_another_model_are_refused(predictor, rows, tiny_data, tmp_path):
    others = relabelled(rows, tmp_path / "l.csv", lambda row: (row.split, "hat", "feathered"))
    with pytest.raises(VsamError, match="it knows none of them: they name 'hat', the model 'dress"):
        score_photos(predictor, others, tiny_data / "photos")


def test_a_photo_that_can_not_be_read_is_named(predictor, rows, tmp_path):
    with pytest.raises(VsamError, match=r"Could not read .*tee/00\.png: No such file"):
        score_photos(predictor, rows, tmp_path)


def test_each_label_has_a_row(predictor, rows, scored, tmp_path):
    path = tmp_path / "new" / "labels.csv"
    write_per_label(path, scored, predictor.labels, torch.tensor([0.25, 0.5]))
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [(row["kind"], row["label"]) for row in found] == [
        ("category", "dress"),
        ("category", "jeans"),
        ("category", "tee"),
        ("attribute", "left"),
        ("attribute", "warm"),
    ]
    for row in found:
        true = [row["label"] in (one.category, *one.attributes) for one in rows]
        assert int(row["count"]) == sum(true)
        assert 0 < float(row["ap"]) <= 1
    assert [row["threshold"] for row in found] == ["", "", "", "0.2500", "0.5000"]
    said = scored.attribute_scores[:, 0].numpy() > 0.25
    true = np.array(["left" in row.attributes for row in rows])
    f1 = 2 * (said & true).sum() / (said.sum() + true.sum())
    assert float(found[3]["f1"]) == pytest.approx(f1, abs=1e-4)
    said = scored.category_scores.argmax(dim=1).numpy() == 1
    true = np.array([row.category == "jeans" for row in rows])
    f1 = 2 * (said & true).sum() / (said.sum() + true.sum())
    assert float(found[1]["f1"]) == pytest.approx(f1, abs=1e-4)


def test_a_label_with_a_carriage_return_stays_in_its_row(scored, tmp_path):
    path = tmp_path / "labels.csv"
    names = Labels(("dress\rlong", "jeans", "tee"), ("left", "warm"))
    write_per_label(path, scored, names, torch.tensor([0.25, 0.5]))
    with path.open(newline="") as file:
        found = [row["label"] for row in csv.DictReader(file)]
    assert found == [*names.categories, *names.attributes]


def test_a_run_is_calibrated_and_the_report_says_what_changed(rows, tiny_run, tiny_data, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    earlier = Calibration(2.0, (0.3, 0.7))
    save_calibration(run, earlier)
    predictor = Predictor.from_run(run, device="cpu")
    report = calibrate_run(run, predictor, rows, tiny_data / "photos")
    found = load_checkpoint(run).calibration
    assert found != earlier
    assert report["photos"] == 15
    assert report["temperature"] == found.temperature
    assert report["category_nll_after"] <= report["category_nll_before"]
    assert report["attribute_f1_micro_after"] >= report["attribute_f1_micro_before"]
    fitted = Predictor.from_run(run, device="cpu", calibrated=True, thresholds="attribute")
    for when, model in {"before": predictor, "after": fitted}.items():
        scored = score_photos(model, rows, tiny_data / "photos")
        again = evaluate_scores(scored, torch.tensor(model.thresholds))
        assert again.category_nll == pytest.approx(report[f"category_nll_{when}"], abs=1e-5)
        assert again.category_ece == pytest.approx(report[f"category_ece_{when}"], abs=1e-5)
        assert again.attribute_f1_macro == pytest.approx(report[f"attribute_f1_macro_{when}"])
