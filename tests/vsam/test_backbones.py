"""Weights of others in the convolution blocks: torchvision's and Keras', and what is refused."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import vgg16, vgg16_bn

from vsam.backbones import load_backbone
from vsam.modeling.build import ModelConfig, build_vsam
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
    path = tmp_path / "list.pth"
    torch.save([torch.zeros(3)], path)
    assert "Could not read weights" in backbone_refused(path)


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
