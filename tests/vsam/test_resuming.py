"""What a resumed training takes from the file of its last epoch."""

import pytest
import torch

from vsam.losses import VsamLoss
from vsam.modeling.build import ModelConfig, build_vsam
from vsam.resuming import Best, load_last, save_last


@pytest.fixture
def parts():
    """Give a model, its criterion and its optimizer."""
    model = build_vsam(ModelConfig(categories=2, attributes=2, width=0.05, image_size=32))
    criterion = VsamLoss(class_weights=torch.ones(2))
    return model, criterion, torch.optim.AdamW(model.parameters())


def used_scaler() -> torch.amp.GradScaler:
    """Let a scaler see an overflow, which halves its factor, and then a good step."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight])
    for slope in (float("inf"), 1.0):
        scaler.scale((weight * slope).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    return scaler


def test_the_gradient_scaler_goes_on_where_it_was(parts, tmp_path):
    before = used_scaler()
    assert (before.get_scale(), before.state_dict()["_growth_tracker"]) == (512, 1)
    save_last(tmp_path, *parts, before, 4, Best())
    after = torch.amp.GradScaler("cpu")
    assert load_last(tmp_path, *parts, after)[0] == 5
    assert after.state_dict() == before.state_dict()


def test_a_file_without_a_scaler_resumes_with_a_fresh_one(parts, tmp_path):
    save_last(tmp_path, *parts, None, 0, Best())
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    assert load_last(tmp_path, *parts, scaler)[0] == 1
    assert scaler.get_scale() == 64


def test_a_training_without_a_scaler_leaves_that_of_the_file_alone(parts, tmp_path):
    save_last(tmp_path, *parts, used_scaler(), 0, Best())
    assert load_last(tmp_path, *parts, None)[0] == 1
