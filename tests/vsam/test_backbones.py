"""Weights of others in the convolution blocks: torchvision's and Keras', and what is refused."""

import functools
import hashlib
import http.server
import pickle
import socket
import threading
import time
import types
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import vgg16, vgg16_bn

from vsam import backbones
from vsam.backbones import load_backbone
from vsam.modeling.build import ModelConfig, build_vsam
from vsam_datasets.preprocessing import Preprocessing
from vsam_heatmaps.errors import VsamError


def small(**changed) -> ModelConfig:
    values = {"categories": 5, "attributes": 7, "image_size": 64, "width": 0.05, **changed}
    return ModelConfig(**values)


def outputs_of_blocks(layers: torch.nn.Sequential, images: torch.Tensor) -> list[torch.Tensor]:
    blocks, x = [], images
    for layer in layers:
        x = layer(x)
        if isinstance(layer, torch.nn.MaxPool2d):
            blocks.append(x)
    return blocks


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("batch_norm", [False, True])
@torch.inference_mode()
def test_load_backbone_gives_torchvisions_blocks(tmp_path, suffix, batch_norm):
    torch.manual_seed(5)
    theirs = (vgg16_bn if batch_norm else vgg16)(weights=None, init_weights=False)
    theirs.classifier = torch.nn.Linear(1, 1)  # half a gigabyte that plays no part
    for name, tensor in theirs.features.state_dict().items():
        if name.endswith("running_mean"):
            tensor.normal_(std=0.1)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(theirs.state_dict(), path)
    else:
        save_file(theirs.state_dict(), path)
    model = build_vsam(ModelConfig(categories=2, attributes=2, batch_norm=batch_norm))
    load_backbone(model, path)
    images = torch.randn(1, 3, 32, 32)
    expected = outputs_of_blocks(theirs.features.eval(), images)
    found = outputs_of_blocks(model.features.eval(), images)
    assert len(found) == 5
    for ours, block in zip(found, expected, strict=True):
        assert torch.equal(ours, block)
        assert block.abs().max() > 0


class Bomb:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def backbone_refused(path: Path, **config) -> str:
    model = build_vsam(small(**config))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(VsamError) as refused:
        load_backbone(model, path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    message = str(refused.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_load_backbone_refuses_a_missing_file(tmp_path):
    assert "is not there" in backbone_refused(tmp_path / "none.pth")


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_load_backbone_never_runs_code(tmp_path, kind):
    path, witness = tmp_path / "bomb.pth", tmp_path / "exploded"
    content = {"features.0.weight": Bomb(witness)}
    if kind == "zip":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    assert "Could not read weights" in backbone_refused(path)
    assert not witness.exists()
    pickle.loads(pickle.dumps(content))
    assert witness.exists(), "the bomb would not have gone off"


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04 truncated"])
def test_load_backbone_refuses_files_of_another_kind(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert "Could not read weights" in backbone_refused(path)


def test_load_backbone_refuses_what_is_no_state_dict(tmp_path):
    path = tmp_path / "other.pth"
    for content in ([torch.zeros(3)], torch.zeros(3), {0: torch.zeros(3)}):
        torch.save(content, path)
        assert f"Expected {path} to hold a state dict: tensors by name" in backbone_refused(path)
    torch.save({"epoch": 3, "state_dict": build_vsam(small()).features.state_dict()}, path)
    assert "a checkpoint with one under `state_dict`. Save that alone." in backbone_refused(path)


def test_load_backbone_refuses_a_state_dict_without_tensors(tmp_path):
    path = tmp_path / "numbers.pth"
    wanted = build_vsam(small()).features.state_dict()
    torch.save({f"features.{name}": 1.0 for name in wanted}, path)
    backbone_refused(path)


def test_load_backbone_refuses_other_names_and_names_the_option(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(
        {f"features.{n}": t for n, t in build_vsam(small()).features.state_dict().items()}, path
    )
    message = backbone_refused(path, batch_norm=True)
    assert "lacks features." in message
    assert "--batch-norm" in message


def test_load_backbone_refuses_other_shapes(tmp_path):
    path = tmp_path / "weights.safetensors"
    wide = build_vsam(small(width=0.25)).features.state_dict()
    save_file({f"features.{name}": tensor for name, tensor in wide.items()}, path)
    message = backbone_refused(path)
    assert "features.0.weight" in message
    assert "(8, 3, 3, 3)" in message
    assert "(16, 3, 3, 3)" in message
    assert "--width 1" in message


def torchvisions_state(batch_norm: bool = False) -> dict[str, torch.Tensor]:
    """Give a small stand-in for a state dict of torchvision's, with its names."""
    torch.manual_seed(6)
    model = build_vsam(small(batch_norm=batch_norm))
    return {f"features.{name}": tensor for name, tensor in model.features.state_dict().items()}


def renamed(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name.removeprefix("features."): tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "prefix", ["features.", "", "module.", "module.features.", "features.module."]
)
def test_names_of_wrapped_models_are_understood(tmp_path, prefix):
    state = torchvisions_state()
    path = tmp_path / "weights.safetensors"
    classifier = (
        "module.classifier.0.weight" if prefix.startswith("module") else "classifier.0.weight"
    )
    save_file(renamed(state, prefix) | {classifier: torch.zeros(4, 4)}, path)
    model = build_vsam(small())
    assert load_backbone(model, path) == Preprocessing()
    for name, tensor in model.features.state_dict().items():
        assert torch.equal(tensor, state[f"features.{name}"]), name


def test_names_that_could_mean_two_models_are_refused(tmp_path):
    state = torchvisions_state()
    path = tmp_path / "weights.safetensors"
    save_file(state | {n: t + 1 for n, t in renamed(state, "module.").items()}, path)
    message = backbone_refused(path)
    assert "it holds several: features.0.weight, module.0.weight" in message


def test_files_of_old_torchvisions_have_no_counts_of_batches(tmp_path):
    state = torchvisions_state(batch_norm=True)
    path = tmp_path / "vgg16_bn.safetensors"
    save_file({n: t for n, t in state.items() if not n.endswith("num_batches_tracked")}, path)
    model = build_vsam(small(batch_norm=True))
    load_backbone(model, path)
    assert torch.equal(model.features[1].weight, state["features.1.weight"])
    assert int(model.features[1].num_batches_tracked) == 0


def test_what_is_missing_extra_or_misshapen_is_named(tmp_path):
    state = torchvisions_state()
    del state["features.2.weight"]
    state["features.30.weight"] = torch.zeros(1)
    state["features.0.bias"] = torch.zeros(9)
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    message = backbone_refused(path)
    assert (
        "but it lacks features.2.weight; it holds the unknown features.30.weight; "
        "features.0.bias should be of shape (8,), but got (9,)." in message
    )


def test_another_architecture_is_refused_by_its_names(tmp_path):
    path = tmp_path / "resnet.safetensors"
    names = ["conv1.weight", "bn1.weight", *(f"layer1.{n}.conv1.weight" for n in range(20))]
    save_file({name: torch.zeros(1) for name in names}, path)
    message = backbone_refused(path)
    assert "to hold VGG-16's convolution blocks" in message
    assert "it holds bn1.weight, conv1.weight, layer1.0.conv1.weight" in message
    assert message.endswith("and 12 more.")


def test_a_deeper_vgg_is_refused(tmp_path):
    state = torchvisions_state()
    deeper = state | {f"features.{n}.weight": torch.zeros(1) for n in (30, 32, 34)}
    path = tmp_path / "vgg19.safetensors"
    save_file(deeper, path)
    assert "it holds the unknown features.30.weight, features.32.weight" in backbone_refused(path)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    state = torchvisions_state()
    state["features.5.weight"][0, 0, 0, 0] = float("nan")
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    assert "Expected features.5.weight" in backbone_refused(path)


def write_keras_vgg(path: Path, model, role: str = "{layer}/{layer}_{old}_1:0", extra=()) -> Path:
    """Write a model's blocks as Keras' VGG-16 file has them."""
    convolutions = [layer for layer in model.features if isinstance(layer, torch.nn.Conv2d)]
    names = [
        f"block{b}_conv{n}" for b, most in enumerate((2, 2, 3, 3, 3), 1) for n in range(1, most + 1)
    ]
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in ["input_1", *names, *extra]]
        file.create_group("input_1").attrs["weight_names"] = []
        for layer, convolution in zip(names, convolutions, strict=True):
            group = file.create_group(layer)
            kernel, bias = convolution.weight.detach(), convolution.bias.detach()
            arrays = {"W": kernel.permute(2, 3, 1, 0).numpy(), "b": bias.numpy()}
            listed = []
            for old, array in arrays.items():
                new = {"W": "kernel", "b": "bias"}[old]
                listed.append(role.format(layer=layer, old=old, new=new).removeprefix(f"{layer}/"))
                group[listed[-1]] = array
            group.attrs["weight_names"] = [name.encode() for name in listed]
        for layer in extra:
            group = file.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/kernel:0".encode()]
            group[f"{layer}/kernel:0"] = np.zeros((4, 4), np.float32)
    return path


@pytest.mark.parametrize("role", ["{layer}/{layer}_{old}_1:0", "{layer}/{layer}/{new}:0"])
@pytest.mark.parametrize("extra", [(), ("fc1", "fc2", "predictions")])
def test_keras_vgg_gives_its_weights_and_its_input(tmp_path, role, extra):
    torch.manual_seed(8)
    donor, model = build_vsam(small()), build_vsam(small())
    path = write_keras_vgg(tmp_path / "vgg16_notop.h5", donor, role, extra)
    expected = load_backbone(model, path)
    for name, tensor in model.features.state_dict().items():
        assert torch.equal(tensor, donor.features.state_dict()[name]), name
    assert (expected.colour, expected.pixel_max) == ("bgr", 255)
    assert expected.mean == (103.939, 116.779, 123.68)
    assert expected.std == (1, 1, 1)


def test_keras_vgg_that_does_not_fit_is_refused(tmp_path):
    path = write_keras_vgg(tmp_path / "vgg.h5", build_vsam(small()), extra=("block6_conv1",))
    assert "it holds the unknown block6_conv1/kernel" in backbone_refused(path)
    path = write_keras_vgg(tmp_path / "vgg.h5", build_vsam(small(width=0.25)))
    message = backbone_refused(path)
    assert "block1_conv1/kernel should be of shape (3, 3, 3, 8), but got (3, 3, 3, 16)" in message
    assert "--width 1" in message
    path = write_keras_vgg(tmp_path / "vgg.h5", build_vsam(small()))
    assert "it holds no batch normalisation" in backbone_refused(path, batch_norm=True)
    path.write_bytes(path.read_bytes()[:5000])
    assert "damaged or truncated" in backbone_refused(path)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """Give an empty folder for torch's downloads."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


def imagenet_refused(**config) -> str:
    with pytest.raises(VsamError) as refused:
        load_backbone(build_vsam(small(**config)), backbones.IMAGENET)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("batch_norm", "name"), [(False, "vgg16-397923af.pth"), (True, "vgg16_bn-6c64b313.pth")]
)
def test_imagenet_without_a_network_says_what_to_do(cache, monkeypatch, batch_norm, name):
    # A proxy that refuses: nothing leaves this machine.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    message = imagenet_refused(batch_norm=batch_norm)
    assert f"Could not download https://download.pytorch.org/models/{name}" in message
    assert f"--backbone-weights {name}" in message
    assert not list(cache.parent.rglob("*.p*"))


def test_imagenet_does_not_wait_long_for_a_network_that_is_silent(cache, monkeypatch):
    monkeypatch.setattr(backbones, "_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{silent.getsockname()[1]}")
        before = time.monotonic()
        message = imagenet_refused()
    assert time.monotonic() - before < 5
    assert "Could not download" in message
    assert socket.getdefaulttimeout() is None


def test_imagenet_takes_what_was_downloaded_before(cache, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    cache.mkdir(parents=True)
    torch.save(torchvisions_state(), cache / "vgg16-397923af.pth")
    model = build_vsam(small())
    load_backbone(model, backbones.IMAGENET)
    assert torch.equal(model.features[0].weight, torchvisions_state()["features.0.weight"])


@pytest.mark.parametrize("intact", [True, False])
def test_imagenet_is_downloaded_and_checked(cache, tmp_path, monkeypatch, intact):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    served = tmp_path / "served"
    served.mkdir()
    torch.save(torchvisions_state(), served / "w.pth")
    digest = hashlib.sha256((served / "w.pth").read_bytes()).hexdigest()
    name = f"vgg16-{digest[:8] if intact else '00000000'}.pth"
    (served / "w.pth").rename(served / name)
    handler = functools.partial(QuietHandler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{name}"
        published = types.SimpleNamespace(DEFAULT=types.SimpleNamespace(url=url))
        monkeypatch.setattr(backbones, "get_model_weights", {"vgg16": published}.__getitem__)
        if intact:
            model = build_vsam(small())
            load_backbone(model, backbones.IMAGENET)
            assert torch.equal(model.features[0].weight, torchvisions_state()["features.0.weight"])
            assert [path.name for path in cache.iterdir()] == [name]
        else:
            assert "invalid hash value" in imagenet_refused()
            assert list(cache.iterdir()) == []
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass
