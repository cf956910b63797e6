"""What does not fit an export, or is damaged, is told in one line."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from exports import FORMATS, scores
from tiny import train_config

from vsam import run_folder
from vsam.export import making, openvino_format
from vsam.export.folder import FILES, sync_and_hash
from vsam.export.making import export_run
from vsam.networks import load_network
from vsam.training import train
from vsam_heatmaps.errors import VsamError
from vsam_heatmaps.openvino_core import openvino_core
from vsam_heatmaps.photos import Photo


@pytest.fixture
def copy(exports, tmp_path):
    """Give a function that copies an export, and changes what its `config.json` says of it."""

    def make(name: str = "openvino", **section: object) -> Path:
        folder = tmp_path / name
        shutil.copytree(exports[name], folder)
        path = folder / "config.json"
        values = json.loads(path.read_text())
        values["export"] |= section
        path.write_text(json.dumps(values))
        return folder

    return make


def refusal(folder: Path, **options: str) -> str:
    with pytest.raises(VsamError) as refused:
        load_network(folder, **options)
    message = str(refused.value)
    assert "\n" not in message
    return message


def sign(folder: Path, name: str) -> Path:
    """Record a file's new hash, as somebody would who made the file on purpose."""
    path = folder / "config.json"
    values = json.loads(path.read_text())
    values["export"]["sha256"][name] = sync_and_hash(folder / name)
    path.write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize("format", FORMATS)
def test_a_damaged_or_missing_file(copy, format):
    folder = copy(format)
    for name in FILES[format]:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)
        message = refusal(folder)
        assert str(folder / name) in message
        assert "is not the one" in message
        (folder / name).unlink()
        assert f"Expected {folder / name} to be there" in refusal(folder)
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)
    load_network(folder)


@pytest.mark.parametrize(
    ("format", "name"), [(format, name) for format in FORMATS for name in FILES[format]]
)
def test_a_file_that_is_no_network_though_its_hash_is_right(copy, format, name):
    folder = copy(format)
    whole = (folder / name).read_bytes()
    for data in (b"no network", whole[: len(whole) // 2]):
        (folder / name).write_bytes(data)
        message = refusal(sign(folder, name))
        assert str(folder / FILES[format][0]) in message
        assert "Export the run again" in message


@pytest.mark.parametrize("format", FORMATS)
def test_labels_that_do_not_fit_the_network(copy, format):
    folder = copy(format)
    path = folder / "labels.json"
    labels = json.loads(path.read_text())
    path.write_text(json.dumps(labels | {"categories": labels["categories"][:4]}))
    assert "to name 5 categories" in refusal(folder)
    config = json.loads((folder / "config.json").read_text())
    config["model"]["categories"] = 4
    (folder / "config.json").write_text(json.dumps(config))
    message = refusal(folder)
    assert "category_logits (N, 4)" in message
    assert "category_logits (N, 5)" in message


@pytest.mark.parametrize("format", FORMATS)
def test_an_input_of_another_size(copy, format):
    folder = copy(format)
    config = json.loads((folder / "config.json").read_text())
    config["model"]["image_size"] = config["preprocessing"]["image_size"] = 96
    (folder / "config.json").write_text(json.dumps(config))
    assert "images (N, 3, 96, 96)" in refusal(folder)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"format_version": 2}, "Expected `export.format_version of"),
        ({"format_version": True}, "but got True"),
        ({"format": "tflite"}, "to be one of openvino, onnx, torch-export, but got 'tflite'"),
        ({"format": ["onnx"]}, "but got ['onnx']"),
        ({"attention": [1, 16]}, "to be three sizes"),
        ({"attention": [1, 16, -1]}, "to be three sizes"),
        ({"attention": [2, 16, 16]}, "attention (N, 2, 16, 16)"),
        ({"sha256": []}, "to be a JSON object"),
        ({"sha256": {}}, "its SHA-256 is not"),
    ],
)
def test_a_section_that_makes_no_sense(copy, changed, said):
    assert said in refusal(copy("openvino", **changed))


def test_a_section_that_is_no_object(copy):
    folder = copy()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"export": 3}))
    assert "to be a JSON object, but got 3" in refusal(folder)


def test_another_device(exports, monkeypatch):
    assert "Expected `device` to be one of" in refusal(exports["onnx"], device="tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert "an export runs on the CPU" in refusal(exports["onnx"], device="cuda")
    load_network(exports["onnx"], device="auto")


def test_another_precision(exports):
    for format in ("onnx", "torch-export"):
        assert "can't be changed" in refusal(exports[format], precision="bf16")
    assert "Expected `precision` to be one of" in refusal(exports["onnx"], precision="fp8")


def test_a_precision_that_the_processor_lacks(exports, images, monkeypatch):
    there = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" in there:
        given = load_network(exports["openvino"], precision="bf16")(images)
        whole = load_network(exports["openvino"])(images)
        for a, b in zip(scores(given), scores(whole), strict=True):
            # bfloat16 has 8 bits, over some 15 layers.
            np.testing.assert_allclose(a, b, rtol=0, atol=0.2)
    core = openvino_core()

    class Old:
        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32"]

        def __getattr__(self, name: str):
            return getattr(core, name)

    monkeypatch.setattr(openvino_format, "openvino_core", Old)
    message = refusal(exports["openvino"], precision="bf16")
    assert "this processor has no bf16 arithmetic" in message


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"format": "tflite"}, "Expected `format` to be one of openvino, onnx, torch-export"),
        ({"format": "onnx", "precision": "fp8"}, "Expected `precision` to be one of"),
        ({"format": "onnx", "precision": "int8"}, "to be openvino for int8"),
        ({"format": "torch-export", "precision": "fp16"}, "to be openvino for fp16"),
        ({"format": "openvino", "precision": "int8"}, "`--calibrate PHOTOS`"),
        ({"format": "openvino", "calibrate": []}, "`--calibrate PHOTOS`"),
        ({"format": "openvino", "precision": "int8", "calibrate": []}, "none of 0 could"),
        (
            {"format": "openvino", "precision": "int8", "calibrate": [Photo("a", Path("a"))]},
            "none of 1 could be read; 'a': ",
        ),
        (
            {
                "format": "openvino",
                "precision": "int8",
                "calibrate": [Photo("a", Path("a"))],
                "calibrate_count": 0,
            },
            "Expected `--calibrate-count` to be at least 1",
        ),
    ],
)
def test_options_that_do_not_go_together(run, tmp_path, options, said):
    with pytest.raises(VsamError, match=re.escape(said)) as refused:
        export_run(run, tmp_path / "out", **options)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_not_exported_nor_trained(exports, tiny_data, tmp_path):
    with pytest.raises(VsamError, match=r"it is an export: .* not trained or exported again"):
        export_run(exports["onnx"], tmp_path / "out", format="openvino")
    with pytest.raises(VsamError, match=r"it is an export: .* not trained or exported again"):
        train(train_config(tiny_data, tmp_path / "run", init=exports["onnx"]))
    before = (exports["onnx"] / "config.json").read_bytes()
    with pytest.raises(VsamError, match="it holds an export"):
        train(train_config(tiny_data, exports["onnx"]))
    assert (exports["onnx"] / "config.json").read_bytes() == before


def test_a_folder_that_is_there(run, exports):
    with pytest.raises(VsamError, match="it is there already"):
        export_run(run, exports["onnx"], format="onnx")


def test_a_run_that_is_none(run, tmp_path):
    with pytest.raises(VsamError, match="it is not there"):
        export_run(tmp_path / "none", tmp_path / "out", format="onnx")
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / run_folder.WEIGHTS).write_bytes(b"")
    with pytest.raises(VsamError, match="to be a safetensors file"):
        export_run(tmp_path / "run", tmp_path / "out", format="onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_failure_leaves_nothing(run, tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        assert [path.suffix for path in tmp_path.iterdir()] == [".tmp"]
        raise RuntimeError("the disk of a tool")

    monkeypatch.setattr(making, "trace", fail)
    with pytest.raises(RuntimeError):
        export_run(run, tmp_path / "out", format="openvino")
    assert list(tmp_path.iterdir()) == []
