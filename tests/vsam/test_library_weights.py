"""Weights of torchvision's and timm's own models in the backbone: what fits, what is refused."""

import functools
import logging
from pathlib import Path

import h5py
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.models.vision_transformer import checkpoint_filter_fn

from vsam.backbones import IMAGENET, load_backbone
from vsam.modeling.build import ModelConfig, build_vsam
from vsam.modeling.vsam import VSAM
from vsam_datasets.preprocessing import Preprocessing
from vsam_heatmaps.errors import VsamError

VIT, CNN = "vit_tiny_patch16_224", "test_convnext"


def small(backbone: str, image_size: int = 64) -> VSAM:
    torch.manual_seed(0)
    return build_vsam(
        ModelConfig(categories=2, attributes=3, backbone=backbone, image_size=image_size)
    ).eval()


@functools.cache
def library_state(name: str, **options) -> dict[str, torch.Tensor]:
    """Draw a library's whole model, its classifier included. Only read it."""
    torch.manual_seed(7)
    if name in ("resnet18", "convnext_tiny"):
        model = torchvision.models.get_model(name, weights=None)
    else:
        model = timm.create_model(name, pretrained=False, **options)
    return {
        key: tensor + 0.02 * torch.randn_like(tensor) if tensor.is_floating_point() else tensor
        for key, tensor in model.state_dict().items()
    }


def saved(path: Path, state: dict[str, torch.Tensor]) -> Path:
    if path.suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    return path


def refusal(model: VSAM, path: Path) -> str:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(VsamError) as refused:
        load_backbone(model, path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("name", ["resnet18", CNN])
@torch.inference_mode()
def test_a_librarys_weights_give_its_features(tmp_path, name, prefix):
    state = library_state(name)
    suffix = ".pth" if prefix else ".safetensors"
    path = saved(tmp_path / f"w{suffix}", {prefix + key: value for key, value in state.items()})
    model = small(name)
    load_backbone(model, path)
    images = torch.randn(2, 3, 64, 64)
    if name == "resnet18":
        whole = torchvision.models.get_model(name, weights=None).eval()
        whole.avgpool, whole.fc = torch.nn.Identity(), torch.nn.Identity()
        whole.load_state_dict(state, strict=False)
        expected = whole(images).unflatten(1, (512, 2, 2))
    else:
        whole = timm.create_model(name, pretrained=False).eval()
        whole.load_state_dict(state)
        expected = whole.forward_features(images)
    found = model.features(images, lambda stages: stages[-1])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    head = build_vsam(ModelConfig(categories=2, attributes=3, backbone=name)).category_head
    assert model.category_head.conv.weight.shape == head.conv.weight.shape


@pytest.mark.parametrize(
    ("name", "mean"), [("convnext_tiny", (0.485, 0.456, 0.406)), (VIT, (0.5, 0.5, 0.5))]
)
def test_the_input_is_what_the_weights_were_trained_on(tmp_path, name, mean):
    options = {} if name == "convnext_tiny" else {"img_size": 64}
    path = saved(tmp_path / "w.safetensors", library_state(name, **options))
    model = small(name)
    preprocessing = load_backbone(model, path)
    assert preprocessing.mean == mean
    assert preprocessing.colour == "rgb"
    if name == "convnext_tiny":
        assert preprocessing == Preprocessing()
    names = model.features.library_names()
    for ours, tensor in model.features.state_dict().items():
        assert torch.equal(tensor, library_state(name, **options)[names[ours]]), ours


@pytest.mark.parametrize("name", [VIT, "test_vit4"])
@torch.inference_mode()
def test_positions_of_another_grid_are_resampled_as_timm_does(tmp_path, caplog, name):
    caplog.set_level(logging.INFO, "vsam")
    state = library_state(name)
    model = small(name)
    whole = timm.create_model(name, pretrained=False, img_size=64, num_classes=0).eval()
    assert state["pos_embed"].shape != whole.pos_embed.shape
    load_backbone(model, saved(tmp_path / "w.safetensors", state))
    reference = checkpoint_filter_fn(dict(state), whole)
    assert torch.equal(model.features.network.pos_embed, reference["pos_embed"])
    before, after = state["pos_embed"].shape[1], reference["pos_embed"].shape[1]
    assert f"were resampled from {before} tokens to {after}." in caplog.text


def test_nothing_is_told_of_positions_that_fit(tmp_path, caplog):
    caplog.set_level(logging.INFO, "vsam")
    load_backbone(small(VIT), saved(tmp_path / "w.pth", library_state(VIT, img_size=64)))
    assert caplog.text == ""


def test_positions_that_are_no_square_are_refused(tmp_path):
    state = library_state(VIT) | {"pos_embed": torch.zeros(1, 1 + 15, 192)}
    message = refusal(small(VIT), saved(tmp_path / "w.pth", state))
    assert "pos_embed should be of shape (1, 17, 192), but got (1, 16, 192)" in message


def test_another_architecture_is_refused(tmp_path):
    path = saved(tmp_path / "w.safetensors", library_state("resnet18"))
    message = refusal(small("resnet34"), path)
    assert f"Expected {path} to hold weights of resnet34, but it lacks layer1.2." in message
    assert message.endswith("Name the --backbone that they are of.")
    assert "it holds the unknown bn1.bias" in refusal(small(VIT), path)


def test_what_is_missing_unknown_or_misshapen_is_named(tmp_path):
    state = dict(library_state("resnet18"))
    del state["layer1.0.conv1.weight"]
    state |= {"layer9.weight": torch.zeros(1), "bn1.weight": torch.zeros(3)}
    message = refusal(small("resnet18"), saved(tmp_path / "w.safetensors", state))
    assert (
        "it lacks layer1.0.conv1.weight; it holds the unknown layer9.weight; "
        "bn1.weight should be of shape (64,), but got (3,)." in message
    )


def test_weights_that_are_not_finite_are_refused(tmp_path):
    state = library_state("resnet18") | {"bn1.running_mean": torch.full((64,), torch.nan)}
    message = refusal(small("resnet18"), saved(tmp_path / "w.safetensors", state))
    assert "Expected bn1.running_mean" in message


def test_an_empty_file_is_refused(tmp_path):
    message = refusal(small("resnet18"), saved(tmp_path / "w.safetensors", {}))
    assert "it lacks bn1.bias" in message


def test_keras_files_are_vggs_alone(tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.attrs["layer_names"] = []
    assert "--backbone vgg16 alone" in refusal(small("resnet18"), tmp_path / "w.h5")


def test_old_files_without_counts_of_batches_fit(tmp_path):
    state = {
        key: tensor
        for key, tensor in library_state("resnet18").items()
        if not key.endswith("num_batches_tracked")
    }
    model = small("resnet18")
    load_backbone(model, saved(tmp_path / "w.safetensors", state))
    assert torch.equal(model.features.network.bn1.weight, state["bn1.weight"])


def test_imagenet_is_torchvisions_best_for_the_backbone(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # refuses: nothing leaves this machine
    message = refusal(small("resnet18"), IMAGENET)
    assert "Could not download https://download.pytorch.org/models/resnet18-f37072fd.pth" in message
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    saved(folder / "resnet18-f37072fd.pth", library_state("resnet18"))
    model = small("resnet18")
    load_backbone(model, IMAGENET)
    assert torch.equal(
        model.features.network.conv1.weight, library_state("resnet18")["conv1.weight"]
    )


def test_imagenet_names_the_file_of_a_timm_model():
    message = refusal(small(VIT), IMAGENET)
    assert (
        "Download model.safetensors of "
        "https://huggingface.co/timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k on a machine"
        in message
    )
