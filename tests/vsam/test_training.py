"""Training on tiny data: what a run leaves, and which labels and photos do."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import (
    keypoints,
    record,
    shard_info,
    train_config,
    write_shards,
    write_table,
)
from training_runs import finished_epochs, lines, refusal, without_column

from vsam.calibration import fit_calibration
from vsam.modeling.build import ModelConfig, build_vsam
from vsam.predictor import Predictor
from vsam.run_folder import load_checkpoint, save_tensors
from vsam.scoring import score_photos
from vsam.training import train
from vsam_datasets.tables import read_labels
from vsam_heatmaps import RenderOptions, read_photo

SETTINGS = {"epoch", "lr", "lambda", "seconds"}
TERMS = {"train_total", "train_category", "train_attributes", "train_attention"}
METRICS = {"category_accuracy", "category_top3", "attribute_map", "chance_map", "photos"}


def test_the_command_leaves_a_whole_run(tiny_run):
    names = {path.name for path in tiny_run.iterdir()}
    assert names == {
        "config.json",
        "labels.json",
        "last.safetensors",
        "metrics.jsonl",
        "model.safetensors",
        "tensorboard",
    }
    checkpoint = load_checkpoint(tiny_run)
    assert checkpoint.labels.categories == ("dress", "jeans", "tee")
    assert checkpoint.labels.attributes == ("left", "warm")
    assert checkpoint.config == ModelConfig(
        categories=3, attributes=2, image_size=32, width=0.05, batch_norm=True
    )
    assert checkpoint.preprocessing.image_size == 32
    assert checkpoint.training["pose_weight"] == 10.0
    assert checkpoint.training["lr"] == 0.003
    assert finished_epochs(tiny_run) == 2


def test_metrics_have_a_line_for_each_epoch_and_one_for_the_test_split(tiny_run):
    *epochs, last = lines(tiny_run)
    assert [line["epoch"] for line in epochs] == [1, 2]
    for line in epochs:
        assert set(line) == SETTINGS | TERMS | {f"val_{m}" for m in METRICS}
        assert line["lambda"] == 10
        total = line["train_category"] + line["train_attributes"] + 10 * line["train_attention"]
        assert line["train_total"] == pytest.approx(total, rel=1e-5)
        assert all(math.isfinite(value) for value in line.values())
        assert line["val_photos"] == 6
    assert set(last) == {"epoch"} | {f"test_{m}" for m in METRICS}
    assert last["test_photos"] == 3
    best = max(epochs, key=lambda e: e["val_category_accuracy"] + e["val_attribute_map"])
    assert last["epoch"] == best["epoch"]
    with safe_open(tiny_run / "model.safetensors", framework="pt") as file:
        assert file.metadata()["epoch"] == str(best["epoch"])


def test_tensorboard_holds_the_figures_and_pictures(tiny_run):
    events = EventAccumulator(str(tiny_run / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"train/total", "train/attention", "val/attribute_map", "lr", "lambda"} <= set(
        tags["scalars"]
    )
    recorded = {scalar.step: scalar.value for scalar in events.Scalars("train/total")}
    expected = {line["epoch"]: line["train_total"] for line in lines(tiny_run) if "lr" in line}
    assert recorded == pytest.approx(expected, rel=1e-5)
    assert tags["images"] == ["attention"]
    pictures = events.Images("attention")
    assert [picture.step for picture in pictures] == [1, 2]
    # A grid of the six photos of the validation split, each with the attention beside it.
    assert pictures[0].width * pictures[0].height >= 6 * 64 * 32


def test_the_report_is_what_the_files_say(tiny_data, tmp_path):
    report = train(train_config(tiny_data, tmp_path / "run"))
    by_epoch = {line["epoch"]: line for line in lines(tmp_path / "run") if "lr" in line}
    best = by_epoch[report.best_epoch]
    assert report.validation.attribute_map == best["val_attribute_map"]
    assert report.test.category_accuracy == lines(tmp_path / "run")[-1]["test_category_accuracy"]


def test_a_fitted_threshold_is_saved_with_the_model(tiny_data, tmp_path):
    plain, fitted = tmp_path / "plain", tmp_path / "fitted"
    train(train_config(tiny_data, plain, epochs=1))
    train(train_config(tiny_data, fitted, epochs=1, fit_threshold=True))
    assert json.loads((plain / "config.json").read_text())["threshold"] == 0.5
    rows = read_labels(tiny_data / "labels.csv").split("val")
    predictor = Predictor.from_run(fitted)
    assert predictor.threshold != 0.5

    def f1(threshold):
        hits = wrong = 0
        for row in rows:
            photo = read_photo(tiny_data / "photos" / row.image)
            scores = predictor.predict([photo])[0].attribute_scores
            for name, score in zip(predictor.labels.attributes, scores, strict=True):
                said, true = score > threshold, name in row.attributes
                hits, wrong = hits + (said and true), wrong + (said != true)
        return 2 * hits / (2 * hits + wrong)

    assert f1(predictor.threshold) >= max(f1(step / 20) for step in range(2, 19)) - 1e-9


def test_a_trained_run_is_calibrated_on_its_validation_split(tiny_run, tiny_data):
    rows = read_labels(tiny_data / "labels.csv").split("val")
    scored = score_photos(Predictor.from_run(tiny_run), rows, tiny_data / "photos")
    wanted = fit_calibration(
        scored.category_logits,
        scored.attribute_scores,
        scored.category,
        scored.attributes,
        threshold=0.5,
    )
    found = load_checkpoint(tiny_run).calibration
    assert found.temperature == pytest.approx(wanted.temperature, rel=1e-3)
    assert found.thresholds == pytest.approx(wanted.thresholds, abs=1e-4)


def test_a_run_without_validation_is_not_calibrated(tiny_data, tmp_path):
    rows = [row for row in read_labels(tiny_data / "labels.csv").rows if row.split == "train"]
    table = write_table(
        tmp_path / "labels.csv",
        [(row.image, row.split, row.category, ";".join(row.attributes)) for row in rows],
    )
    train(train_config(tiny_data, tmp_path / "run", data=table, epochs=1))
    assert load_checkpoint(tmp_path / "run").calibration is None


def test_the_pose_moves_the_attention(tiny_data, tmp_path):
    reached = {}
    for pose_weight in (1e-9, 100.0):  # the term is told in both cases; only its weight differs
        run = tmp_path / str(pose_weight)
        settings = {"batch_norm": False, "dropout": 0.0, "lr": 1e-2}
        settings |= {"epochs": 5, "batch_size": 2}
        train(train_config(tiny_data, run, pose_weight=pose_weight, **settings))
        epochs = [line for line in lines(run) if "lr" in line]
        reached[pose_weight] = [line["train_attention"] for line in epochs]
    with_pose, without = reached[100.0], reached[1e-9]
    assert len(with_pose) == 5
    # Both see the same crops. Maps in 0..1 come no nearer to a peak than their soft maximum
    # allows: 0.28 is the distance of a flat map, 0.22 about the least.
    assert with_pose[-1] < without[-1] - 0.01
    assert with_pose[-1] < with_pose[0] - 0.01


def test_a_table_without_categories_trains(tiny_data, tmp_path):
    table = without_column(tiny_data, tmp_path / "l.csv", lambda row: (*row[:2], "", row[3]))
    report = train(train_config(tiny_data, tmp_path / "run", data=table, epochs=1))
    assert math.isnan(report.validation.category_accuracy)
    (line, _) = lines(tmp_path / "run")
    assert line["train_category"] == 0
    assert line["val_category_accuracy"] is None
    assert line["val_attribute_map"] > 0
    assert load_checkpoint(tmp_path / "run").labels.categories == ("unknown",)


def test_a_table_without_attributes_trains(tiny_data, tmp_path):
    table = without_column(tiny_data, tmp_path / "l.csv", lambda row: (*row[:3], ""))
    report = train(train_config(tiny_data, tmp_path / "run", data=table, epochs=1))
    assert math.isnan(report.validation.attribute_map)
    assert load_checkpoint(tmp_path / "run").labels.attributes == ("none",)


def test_without_a_validation_split_the_last_epoch_counts(tiny_data, tmp_path, caplog):
    table = without_column(
        tiny_data, tmp_path / "l.csv", lambda row: row if row[1] == "train" else None
    )
    config = train_config(tiny_data, tmp_path / "run", data=table, fit_threshold=True)
    report = train(config)
    assert (report.best_epoch, report.validation, report.test) == (2, None, None)
    assert [text for text in caplog.messages if "threshold" in text] == [
        "No photo of a validation split has an attribute: the threshold stays 0.5."
    ]
    assert [set(line) for line in lines(tmp_path / "run")] == [SETTINGS | TERMS] * 2
    last = load_file(tmp_path / "run" / "last.safetensors")
    for name, tensor in load_file(tmp_path / "run" / "model.safetensors").items():
        assert torch.equal(tensor, last[f"model.{name}"]), name


def test_a_validation_split_without_labels_chooses_nothing(tiny_data, tmp_path, caplog):
    table = without_column(
        tiny_data,
        tmp_path / "l.csv",
        lambda row: (*row[:2], "", "") if row[1] == "val" else row,
    )
    run = tmp_path / "run"
    report = train(train_config(tiny_data, run, data=table, fit_threshold=True, threshold=0.4))
    assert (report.best_epoch, report.validation) == (2, None)
    last = load_file(run / "last.safetensors")
    for name, tensor in load_file(run / "model.safetensors").items():
        assert torch.equal(tensor, last[f"model.{name}"]), name
    assert load_checkpoint(run).threshold == 0.4
    assert [text for text in caplog.messages if "threshold" in text] == [
        "No photo of a validation split has an attribute: the threshold stays 0.4."
    ]
    resumed = train(
        train_config(tiny_data, run, data=table, fit_threshold=True, threshold=0.4, epochs=3),
        resume=True,
    )
    assert resumed.best_epoch == 3


def test_a_single_photo_left_over_is_no_batch(tiny_data, tmp_path):
    # 15 photos in batches of 7 leave one, which batch normalisation could not use.
    table = without_column(
        tiny_data, tmp_path / "l.csv", lambda row: row if row[1] == "train" else None
    )
    assert len(table.read_text().splitlines()) == 16
    train(train_config(tiny_data, tmp_path / "run", data=table, epochs=1, batch_size=7))
    assert finished_epochs(tmp_path / "run") == 1


@pytest.mark.parametrize("batch_norm", [False, True])
def test_one_training_photo_trains(tiny_data, tmp_path, batch_norm):
    table = write_table(tmp_path / "l.csv", [("tee/00.png", "train", "tee", "left")])
    config = train_config(
        tiny_data, tmp_path / "run", data=table, epochs=1, batch_norm=batch_norm, image_size=64
    )
    train(config)
    assert load_checkpoint(tmp_path / "run").labels.categories == ("tee",)


def test_without_heatmaps_and_lambda_training_needs_no_shards(tiny_data, tmp_path):
    train(train_config(tiny_data, tmp_path / "run", heatmaps=None, pose_weight=0.0, epochs=1))
    assert lines(tmp_path / "run")[0]["train_attention"] == 0


def test_initial_weights_come_from_the_backbone_file(tiny_data, tmp_path):
    torch.manual_seed(123)
    sizes = {"image_size": 32, "width": 0.05, "batch_norm": True}
    donor = build_vsam(ModelConfig(categories=3, attributes=2, **sizes))
    weights = tmp_path / "w.safetensors"
    save_tensors(weights, {f"features.{n}": t for n, t in donor.features.state_dict().items()}, {})
    # A rate this small changes nothing that float32 can tell.
    config = train_config(tiny_data, tmp_path / "run", epochs=1, lr=1e-30, backbone_weights=weights)
    train(config)
    trained = load_checkpoint(tmp_path / "run").model
    assert torch.equal(trained.features[0].weight, donor.features[0].weight)
    assert not torch.equal(trained.attention.fuse.conv.weight, donor.attention.fuse.conv.weight)


def test_training_on_garment_landmarks(tiny_data, tmp_path):
    """Maps of DeepFashion's landmarks supervise the attention as those of bodies do."""
    info = shard_info(
        channels=RenderOptions(landmarks="garment").channel_names, landmarks="garment"
    )
    points = np.ones((8, 4), np.float32)
    points[:, :2] = np.linspace(0.3, 0.7, 8)[:, None]
    rows = read_labels(tiny_data / "labels.csv").rows
    records = [record(row.image, points, info) for row in rows]
    given = {"heatmaps": write_shards(tmp_path / "shards", records, info), "epochs": 1}
    for region in ("garment", "hem"):
        run = tmp_path / region
        train(train_config(tiny_data, run, region=region, **given))
        assert any(line.get("train_attention", 0) > 0 for line in lines(run))
    for region in ("by-category", "torso", "upper"):
        said = refusal(train_config(tiny_data, tmp_path / "no", region=region, **given))
        assert said == (
            "Expected `--region` to be one of collar, sleeves, waistline, hem, garment, but got "
            f"{region!r}."
        )
    said = refusal(train_config(tiny_data, tmp_path / "no", region="garment"))
    assert said.startswith("Expected `--region` to be one of by-category, head, ")


def test_photos_of_any_shape_train(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    rows, records = [], []
    for number, (width, height) in enumerate([(10, 200), (200, 10), (33, 47), (32, 32)]):
        Image.new("L" if number else "RGBA", (width, height), 128).save(photos / f"{number}.png")
        rows.append((f"{number}.png", "train", "tee", ""))
        records.append(record(f"{number}.png", keypoints(0.5, 0.5), shard_info()))
    write_table(tmp_path / "labels.csv", rows)
    write_shards(tmp_path / "shards", records)
    train(train_config(tmp_path, tmp_path / "run", epochs=1, batch_size=4))
    assert lines(tmp_path / "run")[0]["train_attention"] > 0
