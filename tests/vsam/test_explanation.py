"""Grad-CAM against finite differences, and what it leaves alone."""

import pytest
import torch
from torch import nn

from vsam.explanation import grad_cam
from vsam.modeling.build import ModelConfig, build_vsam
from vsam.modeling.model import VsamOutput
from vsam.modeling.vsam import VSAM
from vsam_heatmaps.errors import VsamError

CATEGORIES, SIDE = 5, 64


def tiny_model(**changed) -> VSAM:
    torch.manual_seed(0)
    values = {"categories": CATEGORIES, "attributes": 3, "image_size": SIDE, "width": 0.05}
    model = build_vsam(ModelConfig(**values | changed)).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
            elif tensor.is_floating_point() and tensor.ndim == 1:
                tensor.add_(torch.randn(tensor.shape) * 0.1)
        model.category_head.linear.weight.mul_(50)
    return model.double()


def photos(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).double()


def slow_grad_cam(model: VSAM, images: torch.Tensor, category: torch.Tensor) -> torch.Tensor:
    """Push each channel up and down by a little; half the difference is the sum of its gradient."""
    kept: list[torch.Tensor] = []
    layers = list(model.features)
    assert isinstance(layers[-1], nn.MaxPool2d)
    assert isinstance(layers[-2], nn.ReLU)
    hook = layers[-2].register_forward_hook(lambda _, __, output: kept.append(output.clone()))
    with torch.no_grad():
        model(images)
        hook.remove()
        (maps,) = kept
        rows = torch.arange(len(images))
        result = torch.zeros(len(images), *maps.shape[2:]).double()
        step = 1e-6
        for channel in range(maps.shape[1]):
            scores = []
            for sign in (1, -1):
                moved = maps.clone()
                moved[:, channel] += sign * step
                scores.append(model.category_head(layers[-1](moved))[rows, category])
            weight = (scores[0] - scores[1]) / (2 * step) / maps[0, 0].numel()
            result += weight[:, None, None] * maps[:, channel]
    return result.clamp(min=0)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_it_equals_finite_differences(batch_norm: bool) -> None:
    model, images = tiny_model(batch_norm=batch_norm), photos()
    category = torch.tensor([0, 4, 2])
    maps = grad_cam(model, images, category)
    assert maps.shape == (3, SIDE // 16, SIDE // 16)  # before the last of five poolings
    assert maps.amax() > 0
    assert torch.allclose(maps, slow_grad_cam(model, images, category), rtol=1e-5, atol=1e-9)


def test_the_predicted_category_is_the_default() -> None:
    model, images = tiny_model(), photos(8)
    with torch.no_grad():
        predicted = model(images).category_logits.argmax(dim=1)
    assert torch.equal(grad_cam(model, images), grad_cam(model, images, predicted))
    others = grad_cam(model, images, (predicted + 1) % CATEGORIES)
    assert not torch.allclose(grad_cam(model, images), others)


def test_photos_of_a_batch_do_not_touch_each_other() -> None:
    model, images = tiny_model(batch_norm=True), photos()
    category = torch.tensor([3, 1, 0])
    alone = [grad_cam(model, images[i : i + 1], category[i : i + 1]) for i in range(3)]
    assert torch.allclose(torch.cat(alone), grad_cam(model, images, category), atol=1e-12)


def test_the_model_stays_as_it_was() -> None:
    model, images = tiny_model(), photos()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    maps = grad_cam(model, images)
    assert not maps.requires_grad
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    after = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    assert after == hooks


def test_frozen_weights_and_inference_mode_are_no_obstacle() -> None:
    model, images = tiny_model(), photos()
    expected = grad_cam(model, images)
    model.requires_grad_(False)
    with torch.inference_mode():
        maps = grad_cam(model, images * 1.0)
        assert torch.is_inference_mode_enabled()
    assert torch.allclose(maps, expected)


def test_without_a_last_pooling_the_backbones_result_is_explained() -> None:
    """Everything behind is linear here, so that the gradient is known by hand."""
    model = tiny_model()

    class Flat(nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return features.mean(dim=(2, 3)) @ weight.T

    channels = model.category_head.conv.in_channels
    weight = torch.randn(CATEGORIES, channels).double()
    backbone = nn.Sequential(nn.Conv2d(3, channels, 3, stride=8), nn.ReLU()).double()

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features, self.head = backbone, Flat()

        def forward(self, images: torch.Tensor) -> VsamOutput:
            logits = self.head(self.features(images))
            return VsamOutput(logits, logits, logits, logits)

    images, category = photos(), torch.tensor([1, 0, 4])
    with torch.no_grad():
        features = backbone(images)  # the mean's gradient is 1 / (h w), so is its mean
        pixels = features[0, 0].numel()
        wanted = torch.einsum("bc,bchw->bhw", weight[category] / pixels, features).clamp(min=0)
    maps = grad_cam(Model().eval(), images, category)  # type: ignore[arg-type]
    assert torch.allclose(maps, wanted)


def test_a_model_in_training_is_refused() -> None:
    with pytest.raises(VsamError, match="`model` to be in evaluation mode"):
        grad_cam(tiny_model().train(), photos())
