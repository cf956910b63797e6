"""The model card: the hub's own reader understands it, and every figure is the run's."""

import json
import shutil
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard
from tiny import train_config

from vsam.labels import Labels
from vsam.model_card import card_of_run, describe_model
from vsam.run_folder import load_checkpoint, read_record
from vsam.training import train
from vsam_heatmaps.errors import VsamError


@pytest.fixture
def run(tiny_run, tmp_path):
    return shutil.copytree(tiny_run, tmp_path / "run")


def test_the_hubs_reader_understands_it(tiny_run, tmp_path):
    (tmp_path / "README.md").write_text(card_of_run(tiny_run, license="apache-2.0", name="a/b"))
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.to_dict() == {
        "library_name": "vsam",
        "pipeline_tag": "image-classification",
        "tags": ["vsam", "fashion", "image-classification", "multi-label", "attention"],
        "license": "apache-2.0",
    }
    assert card.text.startswith("\n# a/b\n")
    assert 'Predictor.from_pretrained("a/b")' in card.text


def test_the_licence_and_name_are_the_owners_to_give(tiny_run):
    card = ModelCard(card_of_run(tiny_run))
    assert card.data.license is None
    assert "license" not in card.data.to_dict()
    assert card.text.startswith("\n# VSAM\n")


def test_its_figures_are_those_of_the_epoch_whose_weights_it_is(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = lines[-1]["epoch"]
    chosen = next(line for line in lines if line["epoch"] == best and "lr" in line)
    text = card_of_run(run)
    wanted = (
        f"| category accuracy | {chosen['val_category_accuracy']:.3f} "
        f"| {lines[-1]['test_category_accuracy']:.3f} |"
    )
    assert wanted in text
    assert "| photos | 6 | 3 |" in text
    # A line of another epoch's test says nothing about these weights.
    lines[-1]["epoch"] = 99
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert "| photos | 6 |\n" in card_of_run(run)


def test_what_is_unknown_is_left_out(run):
    (run / "metrics.jsonl").unlink()
    description = json.loads((run / "config.json").read_text())
    del description["calibration"]
    description["training"] = {}
    (run / "config.json").write_text(json.dumps(description))
    text = card_of_run(run)
    assert "## Figures" not in text
    assert "## Training" not in text
    assert "temperature" not in text
    assert "pose" not in text.split("## How to use")[0].replace("Pose Guided", "")
    for word in ("None", "nan", "null", "TODO"):
        assert word not in text


SUPERVISED = "heatmaps of the wearer's pose supervised its attention"


@pytest.mark.parametrize("changed", [{"regulariser": "none"}, {"pose_weight": 0.0}])
def test_no_pose_is_claimed_that_supervised_nothing(tiny_run, changed):
    checkpoint, record = load_checkpoint(tiny_run), read_record(tiny_run)
    assert SUPERVISED in describe_model(checkpoint, record)
    without = replace(checkpoint, training=checkpoint.training | changed)
    assert SUPERVISED not in describe_model(without, record)


def test_a_model_without_attention_shows_none(tiny_data, tiny_run, tmp_path):
    train(train_config(tiny_data, tmp_path / "run", attention="none", pose_weight=0.0, epochs=1))
    text = card_of_run(tmp_path / "run")
    said = text.split("## Training")[0] + text.split("## Limits")[1]
    for claim in ("- attention", "looked", "picture()", "supervised", "The attention"):
        assert claim not in said
        assert claim in card_of_run(tiny_run)


def test_it_says_what_the_run_says_and_no_folders(tiny_run, tiny_data):
    text = card_of_run(tiny_run)
    for said in ("3 categories", "2 attributes", "32×32", "dress, jeans, tee", "left, warm"):
        assert said in text
    assert "| `lr` | 0.003 |" in text
    assert "| `data` | labels.csv |" in text
    assert str(tiny_data) not in text
    assert str(tiny_data.parent) not in text


def test_an_imported_model_names_its_source(tiny_run):
    training = {"imported_from": "weights.h5", "sha256": "ab"}
    checkpoint = replace(load_checkpoint(tiny_run), training=training)
    text = describe_model(checkpoint, read_record(tiny_run))
    assert "The weights were imported from `weights.h5`." in text
    assert "supervised" not in text


def test_odd_names_stay_text(tiny_run):
    names = ("a|b\n---\nlicense: mit", "<script>`x`</script>", "*é*")
    checkpoint = replace(load_checkpoint(tiny_run), labels=Labels(names, ("# one", "服")))
    card = ModelCard(
        describe_model(
            checkpoint, read_record(tiny_run), name="a/`b`\n# c", license="other: x\n- y"
        )
    )
    assert card.data.license == "other: x\n- y"
    assert "<script>" not in card.text
    assert r"a\|b --- license: mit, \<script\>\`x\`\</script\>, \*é\*" in card.text
    assert r"\# one, 服" in card.text


def test_odd_names_of_regions_stay_text(tiny_run):
    checkpoint = load_checkpoint(tiny_run)
    config = replace(checkpoint.config, attention="regions", regions=("head", "<b>*x*\n# y"))
    text = describe_model(replace(checkpoint, config=config), read_record(tiny_run))
    assert r"a map of its own (head, \<b\>\*x\* \# y), and names the one" in text


def test_a_damaged_record_is_refused(run):
    (run / "metrics.jsonl").write_text("{")
    with pytest.raises(VsamError, match=r"metrics\.jsonl to hold a JSON object on each line"):
        card_of_run(run)
