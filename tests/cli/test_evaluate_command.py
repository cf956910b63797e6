"""`vsam evaluate`, `calibrate` and `card`: what they print, write and refuse."""

import csv
import json
import shutil

import pytest
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from tiny import call, the_error, write_table


@pytest.fixture
def vsam(monkeypatch, capsys):
    """Give a function that runs a sub-command: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = call("vsam", arguments, monkeypatch)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def labelled(tiny_data):
    """Give the options that name the labelled photos."""
    return ("--data", tiny_data / "labels.csv", "--photos", tiny_data / "photos")


@pytest.fixture
def run(tiny_run, tmp_path):
    """Give a run that may be changed."""
    return shutil.copytree(tiny_run, tmp_path / "run")


def test_evaluate_prints_what_the_training_recorded(vsam, tiny_run, labelled, tmp_path):
    table = tmp_path / "each.csv"
    code, stdout, stderr = vsam(
        "evaluate", tiny_run, *labelled, "--json", "--per-label", table, "--device", "cpu"
    )
    assert code == 0, stderr
    found = json.loads(stdout)
    recorded = json.loads((tiny_run / "metrics.jsonl").read_text().splitlines()[-1])
    assert found["split"] == "test"
    for name, value in recorded.items():
        if name.startswith("test_"):
            assert found[name.removeprefix("test_")] == pytest.approx(value, abs=1e-5), name
    assert {"attribute_recall_top3", "attribute_f1_macro", "category_ece"} < set(found)
    with table.open(newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == [
            *("dress", "jeans", "tee", "left", "warm")
        ]


def test_evaluate_prints_a_line_for_each_figure(vsam, tiny_run, labelled):
    code, stdout, stderr = vsam("evaluate", tiny_run, *labelled, "--split", "val")
    assert code == 0, stderr
    lines = [line.rsplit("  ", 1) for line in stdout.splitlines()]
    figures = {name.strip(): value for name, value in lines}
    assert figures["split"] == "val"
    assert figures["photos"] == "6"
    assert 0 <= float(figures["category accuracy"]) <= 1


def test_calibrate_keeps_what_it_fitted_and_evaluate_uses_it(vsam, run, labelled):
    description = json.loads((run / "config.json").read_text())
    del description["calibration"]
    (run / "config.json").write_text(json.dumps(description))
    fitted = ("--calibrated", "--thresholds", "attribute", "--split", "train", "--json")
    code, stdout, stderr = vsam("evaluate", run, *labelled, *fitted)
    assert code == 1
    assert "Fit one with vsam calibrate" in the_error(stderr)

    code, stdout, stderr = vsam("calibrate", run, *labelled, "--split", "train", "--json")
    assert code == 0, stderr
    report = json.loads(stdout)
    kept = json.loads((run / "config.json").read_text())
    assert kept.pop("calibration")["temperature"] == report["temperature"]
    assert kept == description

    code, stdout, stderr = vsam("evaluate", run, *labelled, *fitted)
    assert code == 0, stderr
    found = json.loads(stdout)
    for name in ("category_nll", "category_ece", "attribute_f1_micro", "attribute_f1_macro"):
        assert found[name] == pytest.approx(report[f"{name}_after"], abs=1e-5), name


def test_calibrate_prints_the_figures_before_and_after(vsam, run, labelled):
    code, stdout, stderr = vsam("calibrate", run, *labelled)
    assert code == 0, stderr
    names = [line.rsplit("  ", 1)[0].strip() for line in stdout.splitlines()]
    assert names == [
        *("split", "photos", "temperature", "category nll before", "category nll after"),
        *("category ece before", "category ece after", "attribute f1 micro before"),
        *("attribute f1 micro after", "attribute f1 macro before", "attribute f1 macro after"),
    ]


def test_card_prints_or_writes_a_card(vsam, run):
    given = ("card", run, "--license", "mit", "--name", "someone/tiny")
    code, stdout, stderr = vsam(*given)
    assert code == 0, stderr
    assert ModelCard(stdout).data.license == "mit"
    assert vsam(*given, "--out", run / "README.md") == (0, "", "")
    assert (run / "README.md").read_text() == stdout


def test_what_is_wrong_is_told_in_one_line(vsam, run, tiny_data, labelled, tmp_path):
    other = write_table(tmp_path / "other.csv", [("tee/00.png", "test", "hat", "")])
    photos = ("--photos", tiny_data / "photos")
    unlabelled = write_table(tmp_path / "unlabelled.csv", [("tee/00.png", "val", "", "")])
    before = (run / "config.json").read_bytes()
    for arguments, said in [
        (("evaluate", tmp_path / "none", *labelled), "is not there"),
        (("evaluate", run, "--data", other, *photos), "it knows none of them"),
        (
            ("evaluate", run, "--data", other, *photos, "--split", "val"),
            "rows with the split val, but none of its 1 has",
        ),
        (("evaluate", run, *labelled[:2], "--photos", tmp_path), "Could not read"),
        (("calibrate", tmp_path, *labelled), "it has no config.json"),
        (("calibrate", run, "--data", other, *photos), "rows with the split val"),
        (
            ("calibrate", run, "--data", unlabelled, *photos),
            "to have labels, but none has one that it knows. Check --data and --split.",
        ),
        (("card", tmp_path), "it has no config.json"),
        (("card", run, "--out", tmp_path), "Expected `--out` to be a file"),
        (
            ("card", run, "--out", run / "config.json"),
            "Expected `--out` to be another file than those of RUN",
        ),
        (
            ("card", run, "--out", run / "metrics.jsonl"),
            "Expected `--out` to be another file than those of RUN",
        ),
        (
            ("evaluate", run, *labelled, "--per-label", run / "config.json"),
            "Expected `--per-label` to be another file than those of MODEL",
        ),
        (
            ("evaluate", run, "--data", other, *photos, "--per-label", other),
            "Expected `--per-label` to be another file than those of --data",
        ),
    ]:
        code, stdout, stderr = vsam(*arguments)
        assert code == 1, arguments
        assert stdout == ""
        assert said in the_error(stderr), arguments
    assert (run / "config.json").read_bytes() == before
    assert other.read_text().startswith("image,split")


def test_a_model_that_overflows_has_no_figures(vsam, run, labelled):
    state = load_file(run / "model.safetensors")
    large = {name: 1e30 * state[name] for name in state if name.startswith("category_head.")}
    save_file(state | large, run / "model.safetensors")
    for command in ("evaluate", "calibrate"):
        code, stdout, stderr = vsam(command, run, *labelled)
        assert (code, stdout) == (1, "")
        assert "to be finite, but they hold NaN or infinity" in the_error(stderr)


def test_photos_of_the_split_alone_must_be_there(vsam, run, tiny_data, tmp_path):
    rows = [("tee/00.png", "test", "tee", "warm"), ("gone.png", "train", "tee", "")]
    table = write_table(tmp_path / "some.csv", rows)
    code, stdout, stderr = vsam(
        "evaluate", run, "--data", table, "--photos", tiny_data / "photos", "--json"
    )
    assert code == 0, stderr
    assert json.loads(stdout)["photos"] == 1
