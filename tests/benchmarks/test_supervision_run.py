"""`supervision.py` as a command, at its tiny size: it resumes, and keeps to its settings."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from supervision import parse

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "supervision.py"


def run(work, *options):
    return subprocess.run(
        [sys.executable, str(BENCHMARK), "--work", str(work), "--quick", *options],
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
    )


ONE = ("--parts", "a100", "--variants", "none", "regions", "--seeds", "0", "--jobs", "1")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark") / "work"
    done = run(folder, *ONE)
    assert done.returncode == 0, done.stderr
    return folder


def test_each_training_is_written_down(work):
    told = json.loads((work / "runs/a100/regions-0.json").read_text())
    assert told["train_photos"] == 12
    assert told["config"]["pose_weight"] == 10
    assert told["config"]["lambda_decay"] == "cosine"  # as in `vsam-train`
    assert 0 <= told["test"]["attribute_map"] <= 1
    with np.load(work / "runs/a100/regions-0.npz") as file:
        assert file["test_attribute_scores"].shape == (16, len(told["attributes"]))
        assert len(set(file["test_images"])) == 16
    assert {"report.md", "report.json", "figure.png"} <= {path.name for path in work.iterdir()}


def test_what_is_done_stays_and_what_is_missing_comes_out_the_same(work):
    runs = work / "runs/a100"
    lost, kept = runs / "regions-0.json", runs / "none-0.json"
    before, stamp = (runs / "regions-0.npz").read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()  # as if it had been stopped before its last step
    (runs / "regions-0.npz").unlink()
    done = run(work, *ONE, "--sweeps", "constant-a100", "--sweep-seeds", "0")
    assert done.returncode == 0, done.stderr
    assert lost.is_file()
    assert kept.stat().st_mtime_ns == stamp
    assert (runs / "regions-0.npz").read_bytes() == before
    (constant,) = (work / "runs/a100-constant").glob("*.json")
    assert constant.name == "regions-0.json"
    assert json.loads(constant.read_text())["config"]["lambda_decay"] == "none"


def test_other_settings_need_another_folder(work):
    done = run(work, *ONE, "--lambda-regions", "3")
    assert done.returncode == 1
    assert "were made with other options: lambda_regions 10.0" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    done = run(tmp_path, *ONE)
    assert done.returncode == 1
    assert "holds something else" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--parts", "b"], "street photos need --ccp"),
        (["--parts", "c-frozen", "--ccp", "x"], "a pretrained backbone needs --weights"),
        (["--parts", "a100", "--lambda-single", "0"], "λ must be above 0"),
        (["--parts", "a100", "--sweeps", "sigma"], "street photos need --ccp"),
    ],
)
def test_options_that_lack_something_are_refused(capsys, options, message):
    with pytest.raises(SystemExit):
        parse(["--work", "w", *options])
    assert message in capsys.readouterr().err
