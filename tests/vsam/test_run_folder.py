"""The run folder: what is saved comes back, and whatever does not fit is refused by name."""

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vsam import run_folder
from vsam.calibration import Calibration
from vsam.modeling.build import ModelConfig, build_vsam
from vsam.run_folder import (
    Labels,
    load_checkpoint,
    read_record,
    save_calibration,
    save_description,
    save_tensors,
)
from vsam_datasets.preprocessing import Preprocessing
from vsam_heatmaps.errors import VsamError

CONFIG = ModelConfig(categories=2, attributes=3, image_size=32, width=0.05, batch_norm=True)
PREPROCESSING = Preprocessing(image_size=32, interpolation="nearest", colour="bgr")
LABELS = Labels(("Kleid", "юбка"), ("a-line", "\n", "é"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    folder = tmp_path / "run"
    save_description(
        folder,
        config=CONFIG,
        preprocessing=PREPROCESSING,
        labels=LABELS,
        threshold=0.3,
        training={"lr": 0.1},
    )
    save_tensors(folder / "model.safetensors", build_vsam(CONFIG).state_dict(), {"epoch": "1"})
    return folder


def refusal(run: Path) -> str:
    with pytest.raises(VsamError) as refused:
        load_checkpoint(run)
    message = str(refused.value)
    assert "\n" not in message
    assert str(run) in message
    return message


def change_json(path: Path, **changed) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def test_what_is_saved_comes_back(run):
    state = load_file(run / "model.safetensors")
    found = load_checkpoint(run)
    assert (found.config, found.preprocessing, found.labels) == (CONFIG, PREPROCESSING, LABELS)
    assert (found.threshold, found.training) == (0.3, {"lr": 0.1})
    assert not found.model.training
    assert len(state) > 30
    assert set(found.model.state_dict()) == set(state)
    for name, tensor in found.model.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert sorted(path.name for path in run.iterdir()) == [
        "config.json",
        "labels.json",
        "model.safetensors",
    ]


def test_tensors_keep_their_values_whatever_their_layout(tmp_path):
    tensors = {
        "last": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "turned": torch.arange(6).view(2, 3).T,
        "single": torch.tensor(3),
        "with gradient": torch.randn(2, requires_grad=True),
    }
    save_tensors(tmp_path / "t.safetensors", tensors, {"é": "ü"})
    found, metadata = run_folder.load_tensors(tmp_path / "t.safetensors")
    assert metadata == {"é": "ü"}
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor), name


def test_a_missing_folder_is_refused(tmp_path):
    assert "is not there" in refusal(tmp_path / "none")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "labels.json"])
def test_a_missing_file_is_refused(run, name):
    (run / name).unlink()
    assert name in refusal(run)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    (tmp_path / "photo.jpg").touch()
    assert "to be a run folder of vsam-train" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "labels.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_broken_json_is_refused(run, name, content):
    (run / name).write_bytes(content)
    assert name in refusal(run)


@pytest.mark.parametrize("version", [0, 2, "1", None, True, 1.0])
def test_another_format_version_is_refused(run, version):
    change_json(run / "config.json", format_version=version)
    assert f"to be 1, but got {version}" in refusal(run)


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("model", {"unknown": 1}),
        ("model", {"categories": "many"}),
        ("model", {"categories": 2.5}),
        ("model", {"categories": True}),
        ("model", {"categories": 0}),
        ("model", {"categories": 100_001}),
        ("model", {"attributes": 10**12}),
        ("model", {"image_size": "32"}),
        ("model", {"width": None}),
        ("model", {"width": 9.0}),
        ("model", {"width": float("nan")}),
        ("model", {"batch_norm": 1}),
        ("model", {"dropout": 1.0}),
        ("preprocessing", {"unknown": 1}),
        ("preprocessing", {"mean": 0.5}),
        ("preprocessing", {"mean": [0.5, 0.5]}),
        ("preprocessing", {"mean": [0.5, 0.5, "0.5"]}),
        ("preprocessing", {"mean": [0.5, 0.5, float("nan")]}),
        ("preprocessing", {"std": [1.0, 1.0, 0.0]}),
        ("preprocessing", {"colour": "grey"}),
        ("preprocessing", {"interpolation": ["nearest"]}),
        ("preprocessing", {"image_size": 33}),
        ("preprocessing", {"image_size": 2064}),
        ("preprocessing", {"pixel_max": 100}),
    ],
)
def test_a_description_that_does_not_fit_is_refused(run, section, change):
    given = json.loads((run / "config.json").read_text())[section]
    change_json(run / "config.json", **{section: given | change})
    message = refusal(run)
    assert "config.json" in message
    assert section in message
    assert next(iter(change)) in message


def test_a_model_and_an_input_of_two_sizes_are_refused(run):
    given = json.loads((run / "config.json").read_text())["model"]
    change_json(run / "config.json", model=given | {"image_size": 64})
    assert "one `image_size`, but it gives 64 and 32" in refusal(run)


@pytest.mark.parametrize("threshold", ["0.5", None, -0.1, 1.1, float("nan"), True, [0.5]])
def test_an_impossible_threshold_is_refused(run, threshold):
    change_json(run / "config.json", threshold=threshold)
    assert "threshold in" in refusal(run)


def test_a_calibration_comes_back_and_the_rest_stays(run):
    before = json.loads((run / "config.json").read_text())
    assert load_checkpoint(run).calibration is None
    change_json(run / "config.json", noted="by hand")
    save_calibration(run, Calibration(1.5, (0.1, 0.0, 1.0)))
    assert load_checkpoint(run).calibration == Calibration(1.5, (0.1, 0.0, 1.0))
    after = json.loads((run / "config.json").read_text())
    assert after.pop("calibration") == {"temperature": 1.5, "thresholds": [0.1, 0.0, 1.0]}
    assert after == before | {"noted": "by hand"}
    save_calibration(run, Calibration(2.0, (0.5, 0.5, 0.5)))
    assert load_checkpoint(run).calibration == Calibration(2.0, (0.5, 0.5, 0.5))
    assert not list(run.glob(".*"))


@pytest.mark.parametrize(
    "calibration",
    [
        None,
        [],
        {},
        {"temperature": 1.0},
        {"temperature": "1", "thresholds": [0.5, 0.5, 0.5]},
        {"temperature": 0.0, "thresholds": [0.5, 0.5, 0.5]},
        {"temperature": float("nan"), "thresholds": [0.5, 0.5, 0.5]},
        {"temperature": 1.0, "thresholds": [0.5, 0.5]},
        {"temperature": 1.0, "thresholds": [0.5, 0.5, 2.0]},
        {"temperature": 1.0, "thresholds": [0.5, 0.5, "0.5"]},
        {"temperature": 1.0, "thresholds": 0.5},
        {"temperature": 1.0, "thresholds": [0.5, 0.5, 0.5], "bias": 1},
    ],
)
def test_a_calibration_that_does_not_fit_is_refused(run, calibration):
    change_json(run / "config.json", calibration=calibration)
    assert "calibration" in refusal(run)


def test_a_description_of_endless_length_is_refused(run, monkeypatch):
    monkeypatch.setattr(run_folder, "_MAX_JSON", 1000)
    change_json(run / "config.json", filler="x" * 1000)
    assert "to have at most 1000 bytes, but it has " in refusal(run)


def test_a_record_is_what_the_run_wrote(run):
    assert read_record(run).metadata == {"epoch": "1"}
    assert read_record(run).lines == []
    (run / "metrics.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n')
    assert read_record(run).lines == [{"epoch": 1}, {"epoch": 2}]
    for content in (b"{", b"[]", b"\xff\xfe", b'{"a": 1}\n7'):
        (run / "metrics.jsonl").write_bytes(content)
        with pytest.raises(VsamError, match=r"metrics\.jsonl to hold a JSON object on each line"):
            read_record(run)


def test_a_training_that_is_no_object_is_refused(run):
    change_json(run / "config.json", training="long ago")
    assert "training in" in refusal(run)


def test_a_description_of_before_there_was_a_pixel_max_is_read(run):
    given = json.loads((run / "config.json").read_text())["preprocessing"]
    del given["pixel_max"]
    change_json(run / "config.json", preprocessing=given)
    assert load_checkpoint(run).preprocessing == PREPROCESSING


@pytest.mark.parametrize("field", ["categories", "attributes"])
def test_a_description_without_a_number_of_outputs_is_refused(run, field):
    given = json.loads((run / "config.json").read_text())["model"]
    del given[field]
    change_json(run / "config.json", model=given)
    assert field in refusal(run)


@pytest.mark.parametrize("section", ["model", "preprocessing"])
def test_a_description_without_a_section_is_refused(run, section):
    given = json.loads((run / "config.json").read_text())
    del given[section]
    (run / "config.json").write_text(json.dumps(given))
    assert section in refusal(run)


def test_labels_that_do_not_fit_are_refused(run):
    change_json(run / "labels.json", categories=["Kleid"])
    message = refusal(run)
    assert "to name 2 categories and 3 attributes, but it names 1 and 3" in message
    for wrong in (7, "ab", [1, 2], {"a": 1, "b": 2}, None):
        change_json(run / "labels.json", categories=wrong)
        assert "to hold categories and attributes" in refusal(run), wrong


def change_weights(run: Path, change) -> None:
    state = load_file(run / "model.safetensors")
    change(state)
    save_file(state, run / "model.safetensors")


def test_a_missing_tensor_is_named(run):
    change_weights(run, lambda state: state.pop("category_head.linear.bias"))
    assert "it lacks category_head.linear.bias." in refusal(run)


def test_all_that_differs_is_told_and_of_much_the_first_ten(run):
    def spoil(state):
        for name in list(state):
            if name.startswith("features."):
                del state[name]
        state["attribute_head.linear.bias"] = torch.zeros(9)
        state["other"] = torch.zeros(1)

    change_weights(run, spoil)
    message = refusal(run)
    assert "it lacks features.0.bias, features.0.weight, features.1.bias, " in message
    assert "and 81 more; it holds the unknown other; attribute_head.linear.bias should" in message


def test_an_extra_tensor_is_named(run):
    change_weights(run, lambda state: state.update(third_head=torch.zeros(2)))
    assert "it holds the unknown third_head." in refusal(run)


def test_another_shape_is_named(run):
    change_weights(
        run, lambda state: state.update({"attribute_head.linear.weight": torch.zeros(3, 5)})
    )
    message = refusal(run)
    assert "attribute_head.linear.weight" in message
    assert "(3, 48), but got (3, 5)" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(run, value):
    def spoil(state):
        state["features.0.weight"][1, 2, 0, 1] = value

    change_weights(run, spoil)
    message = refusal(run)
    assert "features.0.weight" in message
    assert "NaN or infinity" in message


@pytest.mark.parametrize("kept", [0, 5, 8, 300, -1])
def test_a_truncated_file_is_refused(run, kept):
    data = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").write_bytes(data[:kept])
    assert "to be a safetensors file" in refusal(run)


class Bomb:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "labels.json"])
def test_no_pickle_is_ever_loaded(run, tmp_path, name):
    witness = tmp_path / "exploded"
    (run / name).write_bytes(pickle.dumps(Bomb(witness)))
    (run / "model.pth").write_bytes(pickle.dumps(Bomb(witness)))
    assert name in refusal(run)
    torch.save(Bomb(witness), run / name)
    assert name in refusal(run)
    assert not witness.exists()
    pickle.loads(pickle.dumps(Bomb(witness)))
    assert witness.exists(), "the bomb would not have gone off"


def test_a_failed_save_leaves_the_old_file(run, monkeypatch):
    before = (run / "model.safetensors").read_bytes()

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(VsamError, match="No space left on device"):
        save_tensors(run / "model.safetensors", {"a": torch.zeros(1)}, {})
    monkeypatch.undo()
    assert (run / "model.safetensors").read_bytes() == before
    assert not list(run.glob(".*"))


def test_a_copied_run_is_a_run(run, tmp_path):
    shutil.copytree(run, tmp_path / "moved")
    shutil.rmtree(run)
    found = load_checkpoint(tmp_path / "moved")
    assert found.config == replace(CONFIG)


def write_run(run: Path, *, fail: bool = False) -> None:
    with run_folder.new_run(run) as folder:
        (folder / "model.safetensors").write_bytes(b"weights")
        assert not run.exists()
        if fail:
            raise ZeroDivisionError


def test_a_new_run_appears_whole_or_not_at_all(tmp_path):
    run = tmp_path / "runs" / "run"
    with pytest.raises(ZeroDivisionError):
        write_run(run, fail=True)
    assert list(run.parent.iterdir()) == []
    write_run(run)
    assert list(run.parent.iterdir()) == [run]
    assert (run / "model.safetensors").read_bytes() == b"weights"
    with pytest.raises(VsamError, match="to be a new folder, but it is there already"):
        write_run(run)
