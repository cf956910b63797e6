"""What a training refuses at its start, and what stops it on its way."""

import csv
import json
import math
import re

import pytest
import torch
from tiny import (
    train_config,
    write_table,
    write_tiny_data,
)
from training_runs import refusal, without_column

from vsam.run_folder import load_checkpoint
from vsam.training import train
from vsam_datasets.pairs import PairDataset
from vsam_datasets.tables import read_labels


@pytest.mark.parametrize("regulariser", ["l2", "bce"])
def test_a_loss_that_explodes_ends_the_run_and_keeps_the_last_epoch(
    tiny_data, tmp_path, regulariser
):
    run = tmp_path / "run"
    settings = {"batch_norm": False, "regulariser": regulariser}
    train(train_config(tiny_data, run, epochs=1, **settings))
    before = {name: (run / name).read_bytes() for name in ("last.safetensors", "model.safetensors")}
    # As if it had been started with this rate: only the check of the options would stop it.
    description = json.loads((run / "config.json").read_text())
    description["training"]["lr"] = 1e30
    (run / "config.json").write_text(json.dumps(description))
    config = train_config(tiny_data, run, epochs=3, lr=1e30, **settings)
    message = refusal(config, resume=True)
    assert "The loss became" in message
    assert "in epoch 2" in message
    assert "--lr" in message
    # Fifteen photos make a batch of eight and one of seven.
    named = re.findall(r"\w+/\d+\.png", message)
    assert len(named) in (7, 8)
    assert set(named) <= {row.image for row in read_labels(tiny_data / "labels.csv").split("train")}
    for name, data in before.items():
        assert (run / name).read_bytes() == data
    assert load_checkpoint(run).model


@pytest.mark.parametrize("split", ["val", "train"])
def test_an_epoch_that_diverges_in_its_last_step_is_no_best_one(tiny_data, tmp_path, split):
    """Its losses were finite: only the scores tell, or the weights where nobody asks for scores."""
    run = tmp_path / "run"
    settings = {"batch_norm": False, "batch_size": 32, "lr": 1e15}
    settings["weight_decay"] = 1e30 if split == "train" else 0.0
    settings["data"] = without_column(
        tiny_data, tmp_path / "l.csv", lambda row: row if row[1] in (split, "train") else None
    )
    message = refusal(train_config(tiny_data, run, epochs=1, **settings))
    what = "val scores" if split == "val" else "weights"
    assert message == (
        f"Expected the {what} after epoch 1 to be finite, but they hold NaN or infinity. The last "
        "whole epoch is kept; try a lower --lr, or --batch-norm."
    )
    assert not (run / "model.safetensors").exists()
    assert not (run / "last.safetensors").exists()


@pytest.mark.parametrize(("field", "what"), [("image", "input"), ("heatmap", "heatmap")])
@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_input_that_is_not_finite_stops_the_run_and_is_named(
    tiny_data, tmp_path, monkeypatch, field, what, split, value
):
    spoiled = [row.image for row in read_labels(tiny_data / "labels.csv").split(split)][1:3]
    whole = PairDataset.__getitem__

    def spoil(dataset, index):
        pair = whole(dataset, index)
        if dataset.rows[index].image in spoiled:
            pair[field] = pair[field].index_fill(-1, torch.tensor([3]), value)
        return pair

    monkeypatch.setattr(PairDataset, "__getitem__", spoil)
    # Of the map the loss alone would not tell: one whose mass is NaN counts as none.
    message = refusal(train_config(tiny_data, tmp_path / "run", epochs=1, batch_size=30))
    assert f"Expected the {what} of " in message
    assert "NaN or infinity" in message
    assert set(re.findall(r"\w+/\d+\.png", message)) == set(spoiled)


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_photo_stops_the_run_and_is_named(tmp_path, split, workers):
    data = write_tiny_data(tmp_path / "data", count=12)
    with (data / "labels.csv").open(newline="") as file:
        broken = next(row["image"] for row in csv.DictReader(file) if row["split"] == split)
    (data / "photos" / broken).write_bytes(b"no photo")
    message = refusal(train_config(data, tmp_path / "run", epochs=1, num_workers=workers))
    assert broken in message
    assert "--data" in message


@pytest.mark.parametrize(
    "model",
    [{}, {"attention": "none", "pose_weight": 0.0}, {"backbone": "resnet18", "width": 1.0}],
)
@pytest.mark.parametrize("photos", [1, 15])
def test_batch_normalisation_of_a_single_value_is_refused(tiny_data, tmp_path, model, photos):
    settings = {"batch_size": 1 if photos > 1 else 8, "batch_norm": "backbone" not in model}
    if photos == 1:
        row = ("tee/00.png", "train", "tee", "left")
        settings["data"] = write_table(tmp_path / "l.csv", [row])
    config = train_config(tiny_data, tmp_path / "run", **settings | model)
    what = "`--batch-size` to be 2 or more"
    if photos == 1:
        what = f"{tmp_path / 'l.csv'} to have 2 photos or more of the split train"
    remedy = "Give a larger one" if photos > 1 else "Add some"
    assert refusal(config) == (
        f"Expected {what}, but got 1: of one photo at --image-size {config.image_size}, batch "
        f"normalisation sees a single value of a channel. {remedy}, or a larger --image-size."
    )
    assert not (tmp_path / "run").exists()


def test_refusals_before_the_start_leave_no_run(tiny_data, tmp_path):
    refused = {
        "image_size": {"image_size": 40},
        "width": {"width": 9.0},
        "dropout": {"dropout": 1.0},
        "backbone": {"backbone_weights": tmp_path / "none.pth"},
        "one of by-category": {"region": "left_arm"},
        "regions.csv": {"category_regions": tmp_path / "regions.csv"},
        "Use bf16 or fp32": {"precision": "fp16", "device": "cpu"},
    }
    if not torch.cuda.is_available():
        refused["cuda"] = {"device": "cuda"}
    for said, changed in refused.items():
        assert said in refusal(train_config(tiny_data, tmp_path / "run", **changed))
        assert not (tmp_path / "run").exists(), said
