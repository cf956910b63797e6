"""`vsam export`, and `vsam-predict` with what it makes: the same lines as with the run.

What an export computes, and what is refused, is tested in `tests/vsam`.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest
from drawn_run import draw_run
from processes import started, wait_until
from tiny import call, command, environment, the_error


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Give a run without batch normalisation. Only read it."""
    return draw_run(tmp_path_factory.mktemp("runs") / "drawn", batch_norm=False)


@pytest.fixture
def export(run, monkeypatch, capsys):
    """Give a function that runs the command: exit code, stdout, stderr."""

    def go(*arguments: object) -> tuple[int, str, str]:
        code = call("vsam", ["export", run, *arguments], monkeypatch)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return go


def predictions(model: Path, photos: Path, out: Path, monkeypatch) -> list[dict]:
    given = [photos, "--model", model, "--out", out, "--all-scores", "--device", "cpu"]
    assert call("vsam-predict", given, monkeypatch) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


def labelled(entry: dict) -> dict[str, float]:
    return {each["label"]: each["score"] for each in (*entry["categories"], *entry["attributes"])}


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        (["openvino"], 1e-4),
        (["onnx"], 1e-4),
        (["torch-export"], 1e-4),
        (["openvino", "--precision", "fp16"], 0.02),
    ],
    ids=["openvino", "onnx", "torch-export", "fp16"],
)
def test_predictions_are_those_of_the_run(export, run, tiny_data, tmp_path, options, tolerance,
                                          monkeypatch):  # fmt: skip
    out = tmp_path / "new" / "export"
    code, stdout, stderr = export("--out", out, "--format", *options)
    assert code == 0, stderr
    assert re.fullmatch(r"\S+ holds model\.\w+( and model\.bin)?: \d+\.\d MB\.\n", stdout)
    assert stderr == ""
    photos = tiny_data / "photos"
    wanted = predictions(run, photos, tmp_path / "run.jsonl", monkeypatch)
    found = predictions(out, photos, tmp_path / "export.jsonl", monkeypatch)
    assert len(found) == 24
    assert len({entry["category"] for entry in wanted}) > 1, "all photos look the same"
    for one, other in zip(found, wanted, strict=True):
        assert one.keys() == other.keys()
        assert one["image"] == other["image"]
        assert labelled(one) == pytest.approx(labelled(other), abs=tolerance)


def test_int8_with_photos_of_several_sources(export, tiny_data, tmp_path, monkeypatch):
    """A tar and a list; a broken photo is told, and the exit code says so."""
    tar, listed, out = tmp_path / "a.tar", tmp_path / "b.txt", tmp_path / "out"
    with tarfile.open(tar, "w") as archive:
        archive.add(tiny_data / "photos" / "tee", "tee")
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    jeans = sorted((tiny_data / "photos" / "jeans").iterdir())[:3]
    for photo in jeans:
        shutil.copy(photo, tmp_path)
    listed.write_text("\n".join(["broken.jpg", *(photo.name for photo in jeans)]))
    code, stdout, stderr = export(
        "--out", out, "--format", "openvino", "--int8", "--calibrate", tar, "--calibrate", listed
    )
    assert code == 3, stderr
    assert stdout.endswith(" MB, calibrated with 11 photos.\n")
    assert "unreadable: 'broken.jpg'" in stderr
    section = json.loads((out / "config.json").read_text())["export"]
    assert (section["precision"], section["calibration_photos"]) == ("int8", 11)
    assert len(predictions(out, tiny_data / "photos", tmp_path / "p", monkeypatch)) == 24


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "openvino", "--int8"], "`--calibrate PHOTOS` to be given together"),
        (["--format", "onnx", "--calibrate", "{photos}"], "to be given together"),
        (["--format", "onnx", "--int8", "--calibrate", "{photos}"], "to be openvino for int8"),
        (["--format", "onnx", "--precision", "fp16"], "to be openvino for fp16"),
        (
            ["--format", "openvino", "--int8", "--precision", "fp16", "--calibrate", "{photos}"],
            "without `--precision fp16`",
        ),
        (["--format", "openvino", "--int8", "--calibrate", "{empty}"], "to hold photos"),
        (["--format", "openvino", "--int8", "--calibrate", "{broken}"], "none of 1 could be read"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(export, tiny_data, tmp_path, arguments, said):
    empty, broken = tmp_path / "empty", tmp_path / "broken"
    empty.mkdir()
    broken.mkdir()
    (broken / "a.jpg").write_bytes(b"no photo")
    names = {"photos": tiny_data / "photos", "empty": empty, "broken": broken}
    given = [argument.format(**names) for argument in arguments]
    code, stdout, stderr = export("--out", tmp_path / "out", *given)
    assert (code, stdout) == (1, "")
    assert said in the_error(stderr)
    assert sorted(tmp_path.iterdir()) == [broken, empty]


def test_an_unknown_format_is_wrong_usage(export, tmp_path):
    code, _, stderr = export("--out", tmp_path / "out", "--format", "tflite")
    assert code == 2
    assert "Traceback" not in stderr


def test_a_terminated_export_leaves_nothing(run, tmp_path):
    with started(
        [command("vsam"), "export", run, "--out", tmp_path / "out", "--format", "openvino"],
        env=environment() | {"PYTHONUNBUFFERED": "1"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_until(lambda: list(tmp_path.iterdir()), process, seconds=120)
        assert [path.suffix for path in tmp_path.iterdir()] == [".tmp"]
        os.kill(process.pid, signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    assert "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []
