"""Starting a training from another run or a backbone: what is taken over, told and refused."""

import csv
import json
import logging
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import train_config, write_table

from vsam.run_folder import load_checkpoint
from vsam.training import train
from vsam_heatmaps.errors import VsamError

# A rate this small changes no weight that is not zero.
STILL = {"epochs": 1, "lr": 1e-30, "weight_decay": 0.0}


@pytest.fixture
def base(tiny_run, tmp_path) -> Path:
    """Give a run to start from, to be changed at will."""
    return Path(shutil.copytree(tiny_run, tmp_path / "base"))


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def differing(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> set[str]:
    assert set(a) == set(b)
    names = {name for name in a if not torch.allclose(a[name], b[name], rtol=0, atol=1e-20)}
    # Statistics of batch normalisation move whatever the rate.
    return {name for name in names if not name.endswith(("running_mean", "running_var", "tracked"))}


def change_json(path: Path, change) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def relabelled(data: Path, target: Path, change) -> Path:
    with (data / "labels.csv").open(newline="") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    return write_table(target, map(change, rows))


def refusal(config, **options) -> str:
    with pytest.raises(VsamError) as refused:
        train(config, **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_run_gives_all_its_weights_where_the_labels_are_the_same(
    tiny_data, base, tmp_path, caplog
):
    caplog.set_level(logging.INFO, "vsam")
    train(train_config(tiny_data, tmp_path / "run", init=base, **STILL))
    assert differing(weights_of(tmp_path / "run"), weights_of(base)) == set()
    assert "is new" not in caplog.text
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())["training"]
    assert recorded["init"] == str(base)


def test_labels_in_another_order_take_their_weights_along(tiny_data, base, tmp_path):
    def reverse(labels):
        for names in labels.values():
            names.reverse()

    state = weights_of(base)
    for head in ("category_head", "attribute_head"):
        for kind in ("weight", "bias"):
            name = f"{head}.linear.{kind}"
            state[name] = state[name].flip(0).contiguous()
    save_file(state, base / "model.safetensors")
    change_json(base / "labels.json", reverse)
    train(train_config(tiny_data, tmp_path / "run", init=base, **STILL))
    ours, theirs = load_checkpoint(tmp_path / "run"), load_checkpoint(base)
    for head, kind in (("category_head", "categories"), ("attribute_head", "attributes")):
        before, now = getattr(theirs.labels, kind), getattr(ours.labels, kind)
        assert before == tuple(reversed(now))
        old, new = getattr(theirs.model, head).linear, getattr(ours.model, head).linear
        for row, label in enumerate(now):
            assert torch.equal(new.weight[row], old.weight[before.index(label)]), label
            assert torch.equal(new.bias[row], old.bias[before.index(label)]), label


@pytest.mark.parametrize(
    ("change", "new", "said"),
    [
        (
            lambda row: (*row[:2], row[2].replace("jeans", "tee"), row[3]),
            "category_head",
            "The labels have 2 categories, {base} has 3: the last layer of their head is new.",
        ),
        (
            lambda row: (*row[:2], row[2].replace("jeans", "skirt"), row[3]),
            "category_head",
            "The labels have 3 categories, {base} has others: the last layer of their head is new.",
        ),
        (
            lambda row: (*row[:3], row[3] + ";dotted" if row[3] else "dotted"),
            "attribute_head",
            "The labels have 3 attributes, {base} has 2: the last layer of their head is new.",
        ),
    ],
)
def test_other_labels_get_a_new_last_layer_and_that_is_told(
    tiny_data, base, tmp_path, caplog, change, new, said
):
    caplog.set_level(logging.INFO, "vsam")
    table = relabelled(tiny_data, tmp_path / "labels.csv", change)
    train(train_config(tiny_data, tmp_path / "run", data=table, init=base, **STILL))
    ours, theirs = weights_of(tmp_path / "run"), weights_of(base)
    last = {f"{new}.linear.weight", f"{new}.linear.bias"}
    kept = set(ours) - last
    assert differing(*({n: w[n] for n in kept} for w in (ours, theirs))) == set()
    assert all(
        ours[name].shape != theirs[name].shape or not torch.equal(ours[name], theirs[name])
        for name in last
    )
    told = [record.getMessage() for record in caplog.records if "is new" in record.getMessage()]
    assert told == [said.format(base=base)]


def test_the_input_stays_what_the_weights_were_trained_on(tiny_data, base, tmp_path):
    def make_published(config):
        config["preprocessing"] |= {
            "interpolation": "nearest",
            "colour": "bgr",
            "mean": [103.939, 116.779, 123.68],
            "std": [1, 1, 1],
            "pixel_max": 255,
        }

    change_json(base / "config.json", make_published)
    run = tmp_path / "run"
    train(train_config(tiny_data, run, init=base, **STILL))
    assert load_checkpoint(run).preprocessing == load_checkpoint(base).preprocessing
    # Going on needs the other run no more, and keeps the input.
    shutil.rmtree(base)
    train(train_config(tiny_data, run, init=base, **(STILL | {"epochs": 2})), resume=True)
    assert load_checkpoint(run).preprocessing.pixel_max == 255


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"width": 0.1},
            "Expected `width` to be 0.05, as in {base}, but got 0.1. Give --width 0.05.",
        ),
        ({"image_size": 64}, "Expected `image_size` to be 32, as in {base}, but got 64."),
        ({"batch_norm": False}, "but got False. Give --batch-norm."),
    ],
)
def test_another_model_is_refused(tiny_data, base, tmp_path, changed, said):
    given = {"heatmaps": None, "pose_weight": 0.0, **changed}
    message = refusal(train_config(tiny_data, tmp_path / "run", init=base, **given))
    assert said.format(base=base) in message
    assert not (tmp_path / "run").exists()


def test_a_dropout_of_its_own_is_no_other_model(tiny_data, base, tmp_path):
    train(train_config(tiny_data, tmp_path / "run", init=base, dropout=0.1, **STILL))
    assert load_checkpoint(tmp_path / "run").config.dropout == 0.1


def test_what_is_no_run_is_refused(tiny_data, base, tmp_path):
    config = train_config(tiny_data, tmp_path / "run", init=tmp_path / "none")
    assert f"Expected the model {tmp_path / 'none'} to be a run folder" in refusal(config)
    state = weights_of(base)
    state["features.0.weight"][0] = float("nan")
    save_file(state, base / "model.safetensors")
    message = refusal(train_config(tiny_data, tmp_path / "run", init=base))
    assert "features.0.weight" in message
    assert "NaN or infinity" in message
    assert not (tmp_path / "run").exists()


def test_a_run_and_a_backbone_are_not_both_taken(tiny_data, base, tmp_path):
    with pytest.raises(VsamError, match="`--init` or `--backbone-weights` to be given, but not"):
        train_config(tiny_data, tmp_path / "run", init=base, backbone_weights=tmp_path / "w.pth")


def test_imagenets_weights_are_not_downloaded_for_another_width(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    config = train_config(tiny_data, tmp_path / "run", backbone_weights=Path("imagenet"))
    assert "`--width` to be 1 with --backbone-weights imagenet, but got 0.05" in refusal(config)
    assert not (tmp_path / "torch").exists()


def test_a_model_that_was_saved_or_imported_is_not_trained_over(tiny_data, base, tmp_path):
    (base / "last.safetensors").unlink()
    before = (base / "model.safetensors").read_bytes()
    message = refusal(train_config(tiny_data, base))
    assert "it holds a model" in message
    assert "--init" in message
    assert (base / "model.safetensors").read_bytes() == before


def test_keras_backbone_brings_its_input_along(tiny_data, tmp_path):
    path = tmp_path / "vgg.h5"
    channels = [(8, 3), *[(8, 8)] * 3, (16, 8), *[(16, 16)] * 2, (24, 16), *[(24, 24)] * 5]
    names = [
        f"block{b}_conv{n}" for b, most in enumerate((2, 2, 3, 3, 3), 1) for n in range(1, most + 1)
    ]
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in names]
        for name, (outputs, inputs) in zip(names, channels, strict=True):
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/kernel:0".encode(), f"{name}/bias:0".encode()]
            group[f"{name}/kernel:0"] = np.full((3, 3, inputs, outputs), 0.01, np.float32)
            group[f"{name}/bias:0"] = np.zeros(outputs, np.float32)
    config = train_config(
        tiny_data, tmp_path / "run", batch_norm=False, backbone_weights=path, **STILL
    )
    train(config)
    found = load_checkpoint(tmp_path / "run")
    assert (found.preprocessing.colour, found.preprocessing.pixel_max) == ("bgr", 255)
    assert found.preprocessing.image_size == 32
    assert found.preprocessing.interpolation == "bilinear"
    assert torch.equal(found.model.features[0].weight, torch.full((8, 3, 3, 3), 0.01))
