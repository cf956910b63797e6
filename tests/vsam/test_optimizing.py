"""How fast the backbone learns beside the rest, and which weights decay."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import train_config

from vsam.config import TrainConfig
from vsam.modeling.build import ModelConfig, build_vsam
from vsam.optimizing import make_optimizer, set_learning_rate
from vsam.training import train
from vsam_heatmaps.errors import VsamError

NEEDED = {"data": Path("l.csv"), "photos": Path("p"), "heatmaps": Path("h"), "out": Path("o")}
MODEL = ModelConfig(categories=3, attributes=2, image_size=32, width=0.05, batch_norm=True)


def step(gradient: float, *, rate: float, **options) -> dict[str, tuple[torch.Tensor, ...]]:
    """Take one step with the same gradient everywhere; give (before, after) by name."""
    torch.manual_seed(0)
    model = build_vsam(MODEL)
    temperature = torch.nn.Parameter(torch.tensor(2.0))
    named = {**dict(model.named_parameters()), "temperature": temperature}
    before = {name: each.detach().clone() for name, each in named.items()}
    optimizer = make_optimizer(model, TrainConfig(**NEEDED, **options), also=[temperature])
    for each in named.values():
        each.grad = torch.full_like(each, gradient)
    set_learning_rate(optimizer, rate)
    optimizer.step()
    return {name: (before[name], each.detach()) for name, each in named.items()}


def test_the_backbone_learns_at_its_share_of_the_rate():
    # The first step of Adam has the length of the rate, whatever the gradient.
    changes = step(0.5, rate=0.01, backbone_lr_factor=0.1, weight_decay=0.0)
    assert any(name.startswith("features.") for name in changes)
    for name, (before, after) in changes.items():
        rate = 0.001 if name.startswith("features.") else 0.01
        torch.testing.assert_close(before - after, torch.full_like(before, rate), msg=name)


def test_weights_of_two_dimensions_decay_at_their_own_rate():
    changes = step(0.0, rate=0.1, backbone_lr_factor=0.5, weight_decay=0.2)
    for name, (before, after) in changes.items():
        rate = 0.05 if name.startswith("features.") else 0.1
        share = 1 - rate * 0.2 if before.ndim > 1 else 1.0
        torch.testing.assert_close(after, before * share, msg=name)


def test_each_parameter_is_in_the_optimizer_once_in_the_models_order_of_each_kind():
    model = build_vsam(MODEL)
    optimizer = make_optimizer(model, TrainConfig(**NEEDED, backbone_lr_factor=0.1))
    found = [id(each) for group in optimizer.param_groups for each in group["params"]]
    every = list(model.parameters())
    # The moments in the file of a run are numbered by this order.
    assert found == [id(p) for p in every if p.ndim > 1] + [id(p) for p in every if p.ndim <= 1]


def test_a_run_with_a_slow_backbone_trains_the_rest_and_resumes(tiny_data, tmp_path):
    options = {"epochs": 2, "backbone_lr_factor": 1e-6, "num_workers": 0}
    train(train_config(tiny_data, tmp_path / "parts", **{**options, "epochs": 1}))
    first = load_file(tmp_path / "parts" / "last.safetensors")
    with pytest.raises(VsamError, match="`backbone_lr_factor` to be 1e-06, as in the run"):
        train(
            train_config(tiny_data, tmp_path / "parts", **{**options, "backbone_lr_factor": 1.0}),
            resume=True,
        )
    train(train_config(tiny_data, tmp_path / "parts", **options), resume=True)
    second = load_file(tmp_path / "parts" / "last.safetensors")
    moved = {
        name: float((second[name] - first[name]).abs().max())
        for name in first
        if name.startswith("model.") and name.endswith(".weight") and first[name].ndim == 4
    }
    slow = {name: far for name, far in moved.items() if name.startswith("model.features.")}
    assert slow
    assert max(slow.values()) < 1e-6
    assert min(far for name, far in moved.items() if name not in slow) > 1e-5


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_a_factor_that_is_not_positive_and_finite_is_refused(factor):
    with pytest.raises(VsamError, match="backbone_lr_factor"):
        TrainConfig(**NEEDED, backbone_lr_factor=factor)


def test_a_frozen_backbone_has_no_rate():
    with pytest.raises(VsamError, match=r"--backbone-lr-factor.*--freeze-backbone.*0.1"):
        TrainConfig(**NEEDED, backbone_lr_factor=0.1, freeze_backbone=True)
