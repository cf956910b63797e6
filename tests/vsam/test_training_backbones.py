"""Training with other backbones, frozen ones, and without attention; runs from before they were."""

import dataclasses
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import call, the_error, train_arguments, train_config

from vsam.config import TrainConfig, resolve_config
from vsam.modeling.build import ModelConfig
from vsam.predictor import Predictor
from vsam.run_folder import load_checkpoint
from vsam.training import train
from vsam_heatmaps.errors import VsamError

RESNET = {"backbone": "resnet18", "width": 1.0, "batch_norm": False, "epochs": 1}


def resnet_weights(path: Path) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    state = torchvision.models.resnet18(weights=None).state_dict()
    save_file(state, path)
    return state


def refusal(config: TrainConfig, **options) -> str:
    with pytest.raises(VsamError) as refused:
        train(config, **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.fixture(scope="module")
def resnet_run(tiny_data, tmp_path_factory) -> Path:
    """Give a run that a command line trained with another backbone. Only read it."""
    out = tmp_path_factory.mktemp("runs") / "resnet"
    arguments = [
        *("--width", 1, "--no-batch-norm", "--epochs", 1),
        *("--backbone", "resnet18", "--attention", "single"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        code = call("vsam-train", train_arguments(tiny_data, out, *arguments), patch)
    assert code == 0
    return out


def test_a_resnet_trains_saves_loads_and_predicts(resnet_run, tiny_data):
    described = json.loads((resnet_run / "config.json").read_text())
    assert described["model"]["backbone"] == "resnet18"
    assert described["training"]["attention"] == "single"
    checkpoint = load_checkpoint(resnet_run)
    assert checkpoint.model.features.name == "resnet18"
    photo = np.asarray(Image.open(next((tiny_data / "photos").rglob("*.png"))))
    predictor = Predictor.from_run(resnet_run, device="cpu")
    prediction = predictor.predict([photo])[0]
    with torch.inference_mode():
        expected = checkpoint.model(predictor.preprocessing(photo)[None])
    np.testing.assert_allclose(
        prediction.category_scores, expected.category_logits[0].softmax(0), rtol=1e-4, atol=1e-5
    )
    assert prediction.attention.shape[-2:] == (8, 8)


def test_another_backbone_or_attention_is_no_start(resnet_run, tiny_data, tmp_path):
    config = train_config(tiny_data, tmp_path / "run", init=resnet_run)
    assert (
        f"Expected `backbone` to be resnet18, as in {resnet_run}, but got vgg16. "
        "Give --backbone resnet18." in refusal(config)
    )
    changed = {**RESNET, "attention": "none", "pose_weight": 0.0, "heatmaps": None}
    message = refusal(train_config(tiny_data, tmp_path / "run", init=resnet_run, **changed))
    assert "Give --attention single." in message
    assert not (tmp_path / "run").exists()


def test_a_frozen_backbone_keeps_its_weights_and_statistics(tiny_data, tmp_path):
    state = resnet_weights(tmp_path / "w.safetensors")
    config = train_config(
        tiny_data,
        tmp_path / "run",
        **RESNET,
        freeze_backbone=True,
        backbone_weights=tmp_path / "w.safetensors",
    )
    train(config)
    trained = load_file(tmp_path / "run" / "model.safetensors")
    kept = {name: tensor for name, tensor in trained.items() if name.startswith("features.")}
    assert len(kept) == len(state) - 2  # all but the classifier
    for name, tensor in kept.items():
        assert torch.equal(tensor, state[name.removeprefix("features.network.")]), name
    # What is not frozen is trained, and training goes on as it was.
    train(dataclasses.replace(config, epochs=2), resume=True)
    longer = load_file(tmp_path / "run" / "last.safetensors")
    assert not torch.equal(
        longer["model.category_head.conv.weight"], trained["category_head.conv.weight"]
    )
    assert torch.equal(longer["model.features.network.conv1.weight"], state["conv1.weight"])


def test_freezing_fresh_weights_is_told(tiny_data, tmp_path, caplog):
    caplog.set_level(logging.INFO, "vsam")
    train(train_config(tiny_data, tmp_path / "run", freeze_backbone=True, epochs=1))
    assert "The frozen backbone keeps its fresh weights." in caplog.text


def test_without_attention_a_run_trains_and_loads(tiny_data, tmp_path):
    without = {"attention": "none", "pose_weight": 0.0, "heatmaps": None}
    train(train_config(tiny_data, tmp_path / "run", **without))
    model = load_checkpoint(tmp_path / "run").model
    assert model.attention is None
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 32, 32)).attention.shape == (1, 0, 8, 8)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert lines[0]["train_attention"] == 0
    assert lines[0]["train_total"] > 0


def test_without_attention_poses_supervise_nothing(tiny_data, tmp_path, monkeypatch, capfd):
    out = tmp_path / "run"
    arguments = train_arguments(tiny_data, out, "--attention", "none")
    assert call("vsam-train", arguments, monkeypatch) == 1
    message = the_error(capfd.readouterr().err)
    assert "Expected `--lambda` to be 0 with --attention none, but got 10.0" in message
    assert not out.exists()


def test_none_is_a_word_where_nothing_else_can_be_meant(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("data: a\nphotos: b\nout: c\nlambda: 0\nattention: none\ninit: none\n")
    config = resolve_config(file, {})
    assert (config.attention, config.init) == ("none", None)
    assert resolve_config(file, {"attention": "single"}).attention == "single"
    given = {"attention": "none", "backbone_weights": "none"}
    config = resolve_config(file, given)
    assert (config.attention, config.backbone_weights) == ("none", None)


def test_runs_from_before_there_were_backbones_load_and_go_on(tiny_run, tiny_data, tmp_path):
    old = Path(shutil.copytree(tiny_run, tmp_path / "old"))
    described = json.loads((old / "config.json").read_text())
    for section, names in {
        "model": ("backbone", "attention"),
        "training": ("backbone", "attention", "freeze_backbone"),
    }.items():
        for name in names:
            del described[section][name]
    (old / "config.json").write_text(json.dumps(described))
    ours, theirs = load_checkpoint(tiny_run), load_checkpoint(old)
    assert ours.config == theirs.config
    assert ours.config == ModelConfig(
        categories=3, attributes=2, image_size=32, width=0.05, backbone="vgg16_bn"
    )
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        for one, other in zip(ours.model(images), theirs.model(images), strict=True):
            assert torch.equal(one, other)
    message = refusal(train_config(tiny_data, old, freeze_backbone=True), resume=True)
    assert (
        "Expected `freeze_backbone` to be False, as in the run to resume, but got True" in message
    )
    train(train_config(tiny_data, old, epochs=3), resume=True)
    assert load_checkpoint(old).config == ours.config


def test_an_unknown_backbone_is_refused_before_anything_is_written(
    tiny_data, tmp_path, monkeypatch, capfd
):
    out = tmp_path / "run"
    arguments = train_arguments(tiny_data, out, "--backbone", "resnet81")
    assert call("vsam-train", arguments, monkeypatch) == 1
    assert "but got 'resnet81'. Near it are resnet" in the_error(capfd.readouterr().err)
    assert not out.exists()
