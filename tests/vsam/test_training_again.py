"""A seed and a resumed run give the same weights again."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import started, wait_until
from safetensors.torch import load_file
from tiny import (
    command,
    environment,
    train_arguments,
    train_config,
    write_tiny_data,
)
from training_runs import finished_epochs, lines, refusal, without_column

from vsam import starting
from vsam.calibration import Calibration
from vsam.run_folder import load_checkpoint, save_calibration
from vsam.training import train
from vsam_datasets.pairs import Pair, PairDataset


def same_weights(a: Path, b: Path, name: str = "last.safetensors") -> bool:
    ours, theirs = load_file(a / name), load_file(b / name)
    assert len(ours) > 30
    return set(ours) == set(theirs) and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.fixture(scope="module")
def three_epochs(tiny_data, tmp_path_factory) -> Path:
    """Give a run of three epochs, trained without a pause. Only read it."""
    out = tmp_path_factory.mktemp("runs") / "three"
    train(train_config(tiny_data, out, epochs=3))
    return out


@pytest.mark.parametrize("changed", [{}, {"num_workers": 2}])
def test_the_same_seed_gives_the_same_weights_whatever_the_workers(
    tiny_data, three_epochs, tmp_path, changed
):
    torch.manual_seed(77)
    np.random.seed(77)
    train(train_config(tiny_data, tmp_path / "run", epochs=3, **changed))
    assert same_weights(tmp_path / "run", three_epochs)
    assert same_weights(tmp_path / "run", three_epochs, "model.safetensors")


def test_another_seed_gives_other_weights(tiny_data, three_epochs, tmp_path):
    train(train_config(tiny_data, tmp_path / "run", epochs=3, seed=1))
    assert not same_weights(tmp_path / "run", three_epochs)


def test_the_largest_seed_trains(tiny_data, tmp_path):
    train(train_config(tiny_data, tmp_path / "run", epochs=1, seed=2**32 - 1))
    assert finished_epochs(tmp_path / "run") == 1


def test_a_killed_run_resumes_to_the_same_weights(tmp_path, call_command):
    # Fifty steps an epoch: it lasts long enough to be killed in the middle.
    data = write_tiny_data(tmp_path / "data", count=80)
    # λ and τ change from step to step: they, too, must go on where they were.
    arguments = ("--epochs", 3, "--batch-size", 1, "--no-batch-norm", "--lr", 1e-3)
    arguments += ("--learn-temperature", "--lambda-warmup", 1.5, "--lambda-decay", "cosine")
    same = {"epochs": 3, "batch_size": 1, "batch_norm": False, "lr": 1e-3}
    same |= {"learn_temperature": True, "lambda_warmup": 1.5, "lambda_decay": "cosine"}

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    with started(
        [command("vsam-train"), *train_arguments(data, cut, *arguments)],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_until((cut / "last.safetensors").exists, process, pause=0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    done = finished_epochs(cut)
    assert done < 3, "it was over before it was killed"
    assert [line["epoch"] for line in lines(cut)][:1] == [1]
    for path in cut.glob(".*.tmp"):
        path.unlink()  # what was being written when it was killed

    ended = call_command("vsam-train", *train_arguments(data, cut, *arguments, "--resume"))
    assert ended.returncode == 0, ended.stderr
    train(train_config(data, whole, **same))
    assert same_weights(cut, whole)
    assert "loss.log_temperature" in load_file(whole / "last.safetensors")
    assert same_weights(cut, whole, "model.safetensors")

    def comparable(run: Path) -> list[dict]:
        return [{k: v for k, v in line.items() if k != "seconds"} for line in lines(run)]

    assert comparable(cut) == comparable(whole)
    assert [line["epoch"] for line in lines(cut) if "lr" in line] == [1, 2, 3]


def test_resuming_a_finished_run_changes_nothing(tiny_data, three_epochs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(three_epochs, run)
    report = train(train_config(tiny_data, run, epochs=3), resume=True)
    assert same_weights(run, three_epochs)
    assert lines(run) == lines(three_epochs)
    assert report.validation is not None


def test_a_line_without_its_epochs_state_is_taken_back(tiny_data, three_epochs, tmp_path):
    # Killed between the two files: metrics tell of epoch 3, the state is epoch 2's.
    run = tmp_path / "run"
    train(train_config(tiny_data, run, epochs=2))
    train(train_config(tiny_data, run, epochs=3), resume=True)
    text = (run / "metrics.jsonl").read_text()
    shutil.rmtree(run)
    train(train_config(tiny_data, run, epochs=2))
    (run / "metrics.jsonl").write_text(text)
    train(train_config(tiny_data, run, epochs=3), resume=True)
    assert [line["epoch"] for line in lines(run) if "lr" in line] == [1, 2, 3]


def test_resuming_refuses_another_model_and_damaged_files(tiny_data, three_epochs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(three_epochs, run)
    message = refusal(train_config(tiny_data, run, epochs=4, seed=5), resume=True)
    assert "Expected `seed` to be 0, as in the run to resume, but got 5" in message
    whole = (run / "last.safetensors").read_bytes()
    (run / "last.safetensors").write_bytes(whole[:1000])
    assert "last.safetensors" in refusal(train_config(tiny_data, run, epochs=4), resume=True)
    shutil.copy(run / "model.safetensors", run / "last.safetensors")
    assert "last.safetensors" in refusal(train_config(tiny_data, run, epochs=4), resume=True)
    (run / "last.safetensors").write_bytes(whole)
    (run / "config.json").write_text("{")
    assert "config.json" in refusal(train_config(tiny_data, run, epochs=4), resume=True)
    (run / "config.json").unlink()
    assert "config.json" in refusal(train_config(tiny_data, run, epochs=4), resume=True)


def contents(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("renamed", "said"),
    [
        (("dress", "zdress"), "number 1 of the categories in {data} is 'jeans', in {run} 'dress'"),
        (("tee", ""), "number 3 of the categories in {data} is nothing, in {run} 'tee'"),
        (("warm", "xarm"), "number 2 of the attributes in {data} is 'xarm', in {run} 'warm'"),
        (("warm", "warm;wool"), "number 3 of the attributes in {data} is 'wool', in {run} nothing"),
    ],
)
def test_resuming_refuses_other_labels_before_it_writes(
    tiny_data, three_epochs, tmp_path, renamed, said
):
    run = tmp_path / "run"
    shutil.copytree(three_epochs, run)
    before, after = renamed

    def change(row: tuple) -> tuple:
        image, split, category, attributes = row
        names = ";".join(after if name == before else name for name in attributes.split(";"))
        return image, split, after if category == before else category, names

    data = without_column(tiny_data, tmp_path / "labels.csv", change)
    kept = contents(run)
    message = refusal(train_config(tiny_data, run, epochs=4, data=data), resume=True)
    assert "Expected `--data` to name the labels of the run to resume" in message
    assert said.format(data=data, run=run) in message
    assert f"--init {run}" in message
    assert contents(run) == kept


def test_resuming_takes_other_photos_with_the_same_labels(tiny_data, three_epochs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(three_epochs, run)

    def less(row: tuple) -> tuple | None:
        return None if row[0] == "dress/23.png" else row

    data = without_column(tiny_data, tmp_path / "labels.csv", less)
    train(train_config(tiny_data, run, epochs=4, data=data), resume=True)
    assert finished_epochs(run) == 4
    assert (run / "labels.json").read_bytes() == (three_epochs / "labels.json").read_bytes()


def test_what_was_fitted_stays_until_other_weights_come(tiny_data, tmp_path):
    run, data = tmp_path / "run", shutil.copytree(tiny_data, tmp_path / "data")
    fitted = {"fit_threshold": True, "threshold": 0.96}  # none that is tried
    train(train_config(data, run, epochs=1, **fitted))
    before = load_checkpoint(run)
    assert before.threshold < 0.96
    assert before.calibration is not None
    (data / "photos" / "tee" / "00.png").write_bytes(b"no photo")
    assert "tee/00.png" in refusal(train_config(data, run, epochs=2, **fitted), resume=True)
    after = load_checkpoint(run)
    assert (after.threshold, after.calibration) == (before.threshold, before.calibration)


def test_what_was_fitted_goes_with_the_weights(tiny_data, tmp_path):
    run = tmp_path / "run"
    table = without_column(
        tiny_data, tmp_path / "l.csv", lambda row: row if row[1] == "train" else None
    )
    train(train_config(tiny_data, run, data=table, epochs=1))
    calibration = Calibration(temperature=2.0, thresholds=(0.25, 0.5))
    save_calibration(run, calibration)
    train(train_config(tiny_data, run, data=table, epochs=1), resume=True)
    assert load_checkpoint(run).calibration == calibration
    train(train_config(tiny_data, run, data=table, epochs=2), resume=True)
    assert load_checkpoint(run).calibration is None


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_takes_one_training_at_a_time(
    tiny_data, three_epochs, tmp_path, monkeypatch, resume
):
    run = tmp_path / "run"
    if resume:
        shutil.copytree(three_epochs, run)
    said = []
    load = PairDataset.__getitem__

    def second(dataset: PairDataset, index: int) -> Pair:
        if not said:  # the first has read no photo yet
            said.append(refusal(config, resume=resume))
        return load(dataset, index)

    monkeypatch.setattr(PairDataset, "__getitem__", second)
    monkeypatch.setattr(starting, "_PATIENCE", 0.1)
    config = train_config(tiny_data, run, epochs=4)
    train(config, resume=resume)
    assert said == [f"Another training is writing {run}. Wait until it ends."]
    assert finished_epochs(run) == 4
    assert {path.name for path in run.iterdir()} == {p.name for p in three_epochs.iterdir()}


def test_the_limit_of_pixels_may_change_from_run_to_run(tiny_data, three_epochs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(three_epochs, run)
    message = refusal(train_config(tiny_data, run, epochs=4, max_pixels=1919), resume=True)
    assert "it has 40 x 48 pixels, more than the limit of 1919 (--max-pixels)" in message
    train(train_config(tiny_data, run, epochs=4, max_pixels=1920), resume=True)
    assert finished_epochs(run) == 4


def test_a_run_that_died_in_its_first_epoch_can_be_started_again(tiny_data, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_data / "photos" / "tee", tmp_path / "kept")
    broken = write_tiny_data(tmp_path / "data", count=12)
    (broken / "photos" / "tee" / "00.png").write_bytes(b"no photo")
    refusal(train_config(broken, run, epochs=1))
    assert (run / "config.json").exists()
    train(train_config(tiny_data, run, epochs=1))
    assert finished_epochs(run) == 1
