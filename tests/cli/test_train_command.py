"""`vsam-train`: one line for whatever is wrong, nothing left behind, Ctrl-C."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import started, wait_until
from tiny import (
    call,
    command,
    environment,
    keypoints,
    record,
    shard_info,
    the_error,
    train_arguments,
    write_shards,
)


@pytest.fixture
def refused(tiny_data, tmp_path, monkeypatch, capsys):
    """Give a function that runs the command, sees it fail, and gives its one line."""

    def run(*more: object, out: Path | None = None, nothing_written: bool = True) -> str:
        target = out or tmp_path / "run"
        before = contents(target)
        code = call("vsam-train", train_arguments(tiny_data, target, *more), monkeypatch)
        captured = capsys.readouterr()
        line = the_error(captured.err)
        assert code == 1
        assert captured.out == ""
        if nothing_written:
            assert contents(target) == before
            assert target.exists() == (before is not None)
        return line

    return run


def contents(folder: Path) -> dict[str, bytes] | None:
    if not folder.exists():
        return None
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def rows_of(data: Path) -> list[list[str]]:
    with (data / "labels.csv").open(newline="") as file:
        return list(csv.reader(file))[1:]


def test_of_several_processes_the_first_alone_speaks(
    tiny_data, tmp_path, monkeypatch, call_command
):
    """torchrun numbers them in RANK; alone, the number changes nothing else."""
    spoken = []
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        arguments = train_arguments(tiny_data, tmp_path / str(rank), "--epochs", 1, "--lambda", 0)
        done = call_command("vsam-train", *arguments)
        assert done.returncode == 0, done.stderr
        spoken.append((done.stdout, done.stderr))
    assert "Best epoch 1" in spoken[0][0]
    assert "heatmaps are not used" in spoken[0][1]
    assert "epoch 1: " in spoken[0][1]
    assert spoken[1] == ("", "")


HEADER = "image,split,category,attributes\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"image,split,category\ntee/00.png,train,tee\n", "attributes is missing"),
        (HEADER.encode() + b"tee/00.png,trian,tee,\n", "line 2: expected `split`"),
        (
            HEADER.encode() + b"tee/00.png,train,tee,\ntee/00.png,val,tee,\n",
            "line 3: the image 'tee/00.png' is on line 2 already",
        ),
        (HEADER.encode() + b"tee/00.png,train,tee,\nno.png,train,tee,\n", "1 of 2 images"),
        (HEADER.encode() + b"tee/00.png,val,tee,\n", "rows with the split train"),
        (HEADER.encode() + b"\xfc.png,train,tee,\n", "to be UTF-8 text"),
        (b"", "to have the columns"),
    ],
)
def test_wrong_tables_are_told_in_one_line(refused, tmp_path, text, said):
    (tmp_path / "labels.csv").write_bytes(text)
    line = refused("--data", tmp_path / "labels.csv")
    assert said in line
    assert str(tmp_path / "labels.csv") in line


def test_missing_inputs_are_told_in_one_line(refused, tmp_path):
    none = tmp_path / "none"
    given = ("--data", "--photos", "--heatmaps", "--config", "--backbone-weights", "--init")
    for option in (*given, "--category-regions"):
        assert str(none) in refused(option, none), option


def test_a_pose_weight_without_heatmaps_is_refused(tiny_data, tmp_path, monkeypatch, capsys):
    arguments = train_arguments(tiny_data, tmp_path / "run")
    position = arguments.index("--heatmaps")
    del arguments[position : position + 2]
    assert call("vsam-train", arguments, monkeypatch) == 1
    line = the_error(capsys.readouterr().err)
    assert "Expected `--heatmaps` to be given, because λ is 10.0" in line
    assert not (tmp_path / "run").exists()


def test_shards_of_other_photos_are_refused(refused, tmp_path):
    records = [record(f"other/{number}.png", keypoints(0.5, 0.5)) for number in range(3)]
    line = refused("--heatmaps", write_shards(tmp_path / "other", records))
    assert "None of the 24 labelled images" in line
    assert "other/0.png" in line


def test_shards_without_a_pose_for_training_are_refused(refused, tiny_data, tmp_path):
    records = [
        record(image, None if split == "train" else keypoints(0.5, 0.5))
        for image, split, *_ in rows_of(tiny_data)
    ]
    line = refused("--heatmaps", write_shards(tmp_path / "poseless", records))
    assert "to hold a pose for photos of the training split" in line


def test_shards_that_cannot_compose_the_region_are_refused(refused, tiny_data, tmp_path):
    info = shard_info(channels=("head", "shoulders"))
    parts = [record(row[0], keypoints(0.5, 0.5)) for row in rows_of(tiny_data)]
    records = [
        type(one)(**{**vars(one), "heatmaps": one.heatmaps[:2], "channels": info.channels})
        for one in parts
    ]
    folder = write_shards(tmp_path / "two", records, info)
    for region in ("lower", "by-category"):
        assert "can't be made of these heatmaps' channels" in refused(
            "--heatmaps", folder, "--region", region
        )


def test_maps_smaller_than_the_attention_are_refused(refused):
    line = refused("--image-size", 128)  # attention of 32 pixels a side, maps of 16
    assert "at least the 32 pixels" in line
    assert "they have 16" in line
    assert "--side 32" in line


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_a_truncated_shard_is_refused(refused, tiny_data, tmp_path, kept):
    shutil.copytree(tiny_data / "shards", tmp_path / "shards")
    path = tmp_path / "shards" / "shard-00001.h5"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    line = refused("--heatmaps", tmp_path / "shards")
    assert str(path) in line
    assert "damaged or truncated" in line


def test_an_unknown_region_lists_the_known_ones(refused):
    line = refused("--region", "sleeves")
    assert "by-category" in line
    assert "'sleeves'" in line


def test_an_occupied_run_folder_is_left_alone(refused, tiny_run):
    line = refused(out=tiny_run)
    assert "it holds a run already" in line
    assert "--resume" in line


def test_a_folder_with_something_else_is_left_alone(refused, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("words")
    assert "chapter1.tex" in refused(out=tmp_path / "thesis")


def test_a_run_folder_that_cannot_be_made_is_refused(tiny_data, tmp_path, monkeypatch, capsys):
    file = tmp_path / "file"
    file.write_text("words")
    for out, said in ((file, "but it is a file"), (file / "run", "Could not write into")):
        assert call("vsam-train", train_arguments(tiny_data, out), monkeypatch) == 1
        line = the_error(capsys.readouterr().err)
        assert said in line
        assert str(out) in line
    assert file.read_text() == "words"


def test_resume_without_a_run_is_refused(refused, tmp_path):
    assert "to hold a run to resume" in refused("--resume")
    (tmp_path / "run").mkdir()
    assert "to hold a run to resume" in refused("--resume")


def test_resume_with_another_option_is_refused(refused, tiny_run):
    line = refused("--resume", "--batch-size", 4, "--lr", 3e-3, out=tiny_run)
    assert "Expected `batch_size` to be 8, as in the run to resume, but got 4" in line


def test_a_device_that_is_not_there_is_refused(refused):
    import torch

    device = "mps" if torch.cuda.is_available() else "cuda"
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("every device is there")
    assert f"this machine has no {device}" in refused("--device", device)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--epochs", 0], "Expected `epochs` to be at least 1, but got 0."),
        (["--image-size", 50], "Expected `image_size` to be a multiple of 16"),
        (["--width", 0], "Expected `width` to be above 0"),
        (["--lambda", -1], "Expected `lambda` to be 0 or more, but got -1.0."),
        (["--lr", "nan"], "Expected `lr` to be positive, but got nan."),
        (["--lambda", "inf"], "Expected `lambda` to be finite, but got inf."),
        (["--lambda-warmup", 3], "Expected `lambda_warmup` to be from 0 to the 2 epochs, but got"),
        (["--temperature", 0], "Expected `temperature` to be from 0.001 to 1000, but got 0.0."),
        (["--learn-temperature", "--regulariser", "bce"], "Expected a temperature to be given"),
        (["--seed", 2**40], "Expected `seed` to be from 0 to below 2^32"),
    ],
)
def test_impossible_values_are_told_in_one_line(refused, arguments, said):
    assert said in refused(*arguments)


def test_a_wrong_config_file_is_told_in_one_line(refused, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("ephocs: 3\n")
    assert "unknown option `ephocs`. Did you mean `epochs`?" in refused("--config", file)
    file.write_text("epochs: [1\n")
    assert "is no YAML" in refused("--config", file)


def test_an_unreadable_photo_is_told_in_one_line(refused, tiny_data, tmp_path):
    shutil.copytree(tiny_data / "photos", tmp_path / "photos")
    image = rows_of(tiny_data)[0][0]
    (tmp_path / "photos" / image).write_bytes(b"no photo")
    line = refused("--photos", tmp_path / "photos", nothing_written=False)
    assert f"Could not read {tmp_path / 'photos' / image}" in line
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(
    "arguments", [["--epochs", "many"], ["--unknown"], ["--device", "tpu"], ["--regulariser", "l3"]]
)
def test_wrong_usage_exits_with_2(tiny_data, tmp_path, monkeypatch, capsys, arguments):
    given = train_arguments(tiny_data, tmp_path / "run", *arguments)
    assert call("vsam-train", given, monkeypatch) == 2
    assert arguments[0] in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_real_command_tells_an_error_in_one_line(run_command, tiny_data, tmp_path):
    arguments = train_arguments(tiny_data, tmp_path / "run", "--epochs", 0)
    ended = run_command("vsam-train", *arguments)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "error: Expected `epochs` to be at least 1, but got 0.\n"
    assert not (tmp_path / "run").exists()


def test_a_config_file_and_the_command_line_make_the_run(
    run_command, tiny_data, tmp_path, monkeypatch
):
    """One real run: a file, relative paths, λ = 0, results on stdout, figures on stderr."""
    (tmp_path / "train.yaml").write_text(
        "data: labels.csv\nphotos: photos\nlambda: 0\nout: ignored\nwidth: 0.05\n"
        "image-size: 32\nbatch-size: 8\nepochs: 7\nnum-workers: 1\ndevice: cpu\nlr: 1e-3\n"
    )
    out = tmp_path / "a run"
    ended = run_command(
        "vsam-train", "--config", tmp_path / "train.yaml", "--epochs", 1, "--out", out,
        "--heatmaps", tiny_data / "shards", cwd=tiny_data,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "λ is 0: the heatmaps are not used." in ended.stderr
    assert "epoch 1: train_total" in ended.stderr
    said = ended.stdout.splitlines()
    assert said[0] == f"Best epoch 1; the model is in {out}."
    assert [line.split(":")[0] for line in said[1:]] == ["validation", "test"]
    training = json.loads((out / "config.json").read_text())["training"]
    assert (training["epochs"], training["lr"], training["pose_weight"]) == (1, 1e-3, 0.0)
    assert not (tiny_data / "ignored").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_leaves_a_whole_run(tiny_data, tmp_path, workers):
    out = tmp_path / "run"
    arguments = train_arguments(tiny_data, out, "--epochs", 5000, "--num-workers", workers)
    with started(
        [command("vsam-train"), *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_until((out / "last.safetensors").exists, process)
        # As a terminal does: to the command and to its loaders.
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1] == "Interrupted; what was finished is kept."
    assert stdout == ""
    from vsam.run_folder import load_checkpoint, load_tensors

    assert load_checkpoint(out).labels.categories == ("dress", "jeans", "tee")
    _, metadata = load_tensors(out / "last.safetensors")
    told = [json.loads(line)["epoch"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert told == list(range(1, len(told) + 1))
    assert len(told) - int(metadata["epoch"]) in (0, 1)
    assert not list(out.glob(".*"))


def test_the_first_missing_option_is_named(monkeypatch, capsys):
    assert call("vsam-train", ["--epochs", "3"], monkeypatch) == 1
    assert (
        the_error(capsys.readouterr().err) == "error: Expected `--data` to be given, but it is not."
    )


DROPS_THE_FIRST = """
import sys, time, weakref, signal
import typer
from vsam_cli.common import make_app, run_app

app = make_app("test")

class Thing: pass

def press(_):
    signal.raise_signal(signal.SIGINT)

@app.command()
def work():
    thing = Thing()
    keep = weakref.ref(thing, press)
    del thing
    print("still here", flush=True)
    time.sleep(60)
    print("never here", flush=True)

sys.argv = ["work"]
run_app(app, "work")
"""


def test_ctrl_c_is_kept_where_python_would_drop_it():
    ended = subprocess.run(
        [sys.executable, "-c", DROPS_THE_FIRST],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert ended.returncode == 130, ended.stderr
    assert ended.stdout == "still here\n"
    assert ended.stderr == "Interrupted; what was finished is kept.\n"


LOSES_IT = """
import os, signal, sys
import torch
from vsam import training  # once, for both
from vsam_cli import train
from vsam_datasets.pairs import PairDataset

whole, seen = PairDataset.__getitem__, []

def lose(dataset, index):
    seen.append(index)
    if len(seen) == 20:  # in the second epoch
        try:
            signal.raise_signal(number)
        except BaseException:  # as C code does that clears errors
            print("lost", flush=True)
    return whole(dataset, index)

PairDataset.__getitem__ = lose
for name, arguments in {runs!r}.items():
    number = getattr(signal, name)
    if os.fork() == 0:
        sys.argv = ["vsam-train", *arguments]
        train.run()
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_an_interrupt_that_was_lost_ends_the_training_at_its_next_step(tiny_data, tmp_path):
    runs = {name: tmp_path / name for name in ("SIGINT", "SIGTERM")}
    arguments = {
        name: train_arguments(tiny_data, run, "--epochs", 50) for name, run in runs.items()
    }
    ended = subprocess.run(
        [sys.executable, "-c", LOSES_IT.format(runs=arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["lost", "130", "lost", "143"], ended.stderr
    assert "Traceback" not in ended.stderr
    said = [line for line in ended.stderr.splitlines() if "what was finished is kept." in line]
    assert [line.split(";")[0] for line in said] == ["Interrupted", "Terminated"]
    for run in runs.values():
        assert len((run / "metrics.jsonl").read_text().splitlines()) == 1
