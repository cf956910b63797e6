"""Models of the hub: the real client and a server on this machine."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard, constants
from huggingface_hub.repocard import metadata_load
from local_hub import serving, talk_to
from safetensors.torch import load_file

from vsam.hub import find_run
from vsam.predictor import Predictor
from vsam.pretrained import VsamModel
from vsam_heatmaps.errors import VsamError

NAME = "someone/tiny-vsam"
RUN = {"config.json", "labels.json", "model.safetensors"}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with serving() as hub:
        talk_to(hub, tmp_path / "cache", monkeypatch)
        monkeypatch.chdir(tmp_path)
        yield hub


def refusal(model: str | Path, **options) -> str:
    with pytest.raises(VsamError) as refused:
        Predictor.from_pretrained(model, device="cpu", **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def same(one: Predictor, other: Predictor) -> bool:
    a, b = one(photo()), other(photo())
    return np.array_equal(a.category_scores, b.category_scores)


def test_a_run_on_the_hub_predicts_as_it_does_here(hub, tiny_run):
    hub.add_folder(NAME, tiny_run)
    found = Predictor.from_pretrained(NAME, device="cpu")
    assert same(found, Predictor.from_pretrained(tiny_run, device="cpu"))
    assert found.labels.categories == ("dress", "jeans", "tee")


def test_nothing_but_the_files_of_a_run_is_downloaded(hub, tiny_run):
    files = {name: (tiny_run / name).read_bytes() for name in RUN}
    others = ("pytorch_model.bin", "modeling.py", "sub/config.json", "metrics.jsonl", "README.md")
    bomb = pickle.dumps(print)
    hub.add(NAME, files | dict.fromkeys(others, bomb))
    folder = find_run(NAME)
    assert hub.downloaded == RUN
    assert {path.name for path in folder.rglob("*")} == RUN


def test_a_folder_that_is_there_wins_and_the_hub_is_not_asked(hub, tiny_run, tmp_path):
    (tmp_path / "someone").mkdir()
    (tmp_path / NAME).symlink_to(tiny_run)
    hub.add(NAME, {"config.json": b"{}"})
    Predictor.from_pretrained(NAME, device="cpu")
    assert hub.requests == []
    # Also where it is no run: the hub's model would be another one than was meant.
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).mkdir()
    assert "it has no config.json" in refusal(NAME)
    assert hub.requests == []


def test_a_revision_is_the_one_asked_for(hub, tiny_run):
    first = hub.add_folder(NAME, tiny_run)
    files = {name: (tiny_run / name).read_bytes() for name in RUN}
    labels = {"categories": ["a", "b", "c"], "attributes": ["d", "e"]}
    hub.add(NAME, files | {"labels.json": json.dumps(labels).encode()})
    newest = Predictor.from_pretrained(NAME, device="cpu")
    assert newest.labels.categories == ("a", "b", "c")
    before = Predictor.from_pretrained(NAME, device="cpu", revision=first)
    assert before.labels.categories == ("dress", "jeans", "tee")
    assert "but got 'v9'" in refusal(NAME, revision="v9")
    assert "Expected `revision` to be left out" in refusal(tiny_run, revision="main")


def test_what_was_downloaded_is_found_without_a_connection(hub, tiny_run, tmp_path, monkeypatch):
    hub.add_folder(NAME, tiny_run)
    online = Predictor.from_pretrained(NAME, device="cpu")
    hub.refused = (503, "Down")
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    assert same(Predictor.from_pretrained(NAME, device="cpu"), online)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert same(Predictor.from_pretrained(NAME, device="cpu"), online)
    said = refusal("someone/other")
    assert "Expected the model someone/other to be a run folder or a model of the hub" in said
    assert "can't be reached" in said


def test_what_the_hub_has_not_is_told_in_one_line(hub):
    said = refusal(NAME)
    assert f"Expected the model {NAME} to be a run folder or a model of the hub" in said
    assert "hf auth login" in said
    hub.add(NAME, {"README.md": b"none"})
    assert f"Expected the hub's {NAME} to be a run of vsam, but it has no config.json" in refusal(
        NAME
    )
    hub.refused = (403, "GatedRepo")
    assert "is gated" in refusal(NAME)


@pytest.mark.parametrize("name", ["gone", "./a/b", "/none/such", "a/b/c", "../run", "a b/c", "~/r"])
def test_what_looks_like_a_path_is_never_asked_of_the_hub(hub, name):
    assert f"Expected the model {name} to be a run folder, but it is not there" in refusal(name)
    assert hub.requests == []


@pytest.mark.parametrize("name", ["a--b/c", "a/b.git"])
def test_a_name_that_the_hub_can_not_have_is_told(hub, name):
    assert "Check the name" in refusal(name)


def test_a_bad_description_is_told_before_the_weights_are_downloaded(hub, tiny_run):
    files = {name: (tiny_run / name).read_bytes() for name in RUN}
    description = json.loads(files["config.json"])
    description["model"]["categories"] = 10**9
    hub.add(NAME, files | {"config.json": json.dumps(description).encode()})
    assert "categories` to be from 1 to 100000, but got 1000000000" in refusal(NAME)
    assert "model.safetensors" not in hub.downloaded


def test_what_is_pushed_is_a_run_folder_that_predicts_the_same(hub, tiny_run):
    VsamModel(tiny_run).push_to_hub(NAME, license="cc-by-4.0")
    (files,) = hub.repositories[NAME].values()
    assert set(files) == RUN | {"README.md", "metrics.jsonl"}
    assert same(
        Predictor.from_pretrained(NAME, device="cpu"),
        Predictor.from_pretrained(tiny_run, device="cpu"),
    )
    card = ModelCard(files["README.md"].decode())
    assert (card.data.license, card.data.library_name) == ("cc-by-4.0", "vsam")
    assert f'Predictor.from_pretrained("{NAME}")' in card.text
    # Loaded from the hub, it can be saved again.
    assert VsamModel.from_pretrained(NAME).checkpoint.labels.attributes == ("left", "warm")


def test_a_saved_model_is_a_whole_run_and_tells_no_folders(tiny_run, tiny_data, tmp_path):
    saved = tmp_path / "new" / "saved"
    VsamModel(tiny_run).save_pretrained(saved)
    assert [path.name for path in saved.parent.iterdir()] == ["saved"]
    assert {path.name for path in saved.iterdir()} == RUN | {"README.md", "metrics.jsonl"}
    before, after = (load_file(run / "model.safetensors") for run in (tiny_run, saved))
    assert set(before) == set(after)
    assert all((before[name] == after[name]).all() for name in before)
    described, original = (
        json.loads((run / "config.json").read_text()) for run in (saved, tiny_run)
    )
    assert original["training"]["data"] == str(tiny_data / "labels.csv")
    assert described["training"]["data"] == "labels.csv"
    for section in ("model", "preprocessing", "threshold", "calibration"):
        assert described[section] == original[section]
    for path in saved.glob("*.*"):
        assert str(tiny_data).encode() not in path.read_bytes(), path.name
    assert metadata_load(saved / "README.md")["library_name"] == "vsam"
    with pytest.raises(VsamError, match="to be a new folder"):
        VsamModel(tiny_run).save_pretrained(saved)


def test_the_model_of_the_hub_is_a_module(tiny_run):
    import torch

    model = VsamModel.from_pretrained(tiny_run)
    assert not model.training
    output = model(torch.zeros(2, 3, 32, 32))
    assert output.category_logits.shape == (2, 3)
