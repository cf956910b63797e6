"""The network against plain torch and torchvision: same numbers, shapes, gradients, weights."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.models import vgg16

from vsam import keras_weights
from vsam.losses import VsamLoss
from vsam.modeling import build
from vsam.modeling.attention import AttentionBlock, FuseBlocks, SpatialAttention
from vsam.modeling.build import ModelConfig, build_vsam
from vsam.modeling.plan import VggPlan, vgg16_plan
from vsam.modeling.vsam import VSAM
from vsam_heatmaps.errors import VsamError


def small(**changed) -> ModelConfig:
    values = {"categories": 5, "attributes": 7, "image_size": 64, "width": 0.05, **changed}
    return ModelConfig(**values)


def randomized(model: VSAM) -> VSAM:
    """Give every parameter and every statistic a value that can't be taken for its default."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0, generator=generator)
            elif tensor.is_floating_point() and tensor.ndim == 1:
                tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.1)
    return model.eval()


def published_fusion(
    blocks: list[torch.Tensor], weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """Resize, concatenate, convolve, ReLU: the order of the paper and of its published code."""
    size = blocks[0].shape[-2:]
    resized = [
        F.interpolate(block, size=size, mode="bilinear", align_corners=True) for block in blocks
    ]
    return F.relu(F.conv2d(torch.cat(resized, dim=1), weight, bias))


def published_forward(
    state: dict[str, torch.Tensor], layers: torch.nn.Sequential, images: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """VSAM as the paper tells it, on torchvision's VGG-16 and a state dict."""
    ends = [i + 1 for i, layer in enumerate(layers) if isinstance(layer, torch.nn.MaxPool2d)]
    b2 = layers[: ends[1]](images)
    b3 = layers[ends[1] : ends[2]](b2)
    b4 = layers[ends[2] : ends[3]](b3)
    fused = published_fusion(
        [b2, b3, b4], state["attention.fuse.conv.weight"], state["attention.fuse.conv.bias"]
    )
    summary = torch.stack([fused.sum(dim=1) / fused.shape[1], fused.max(dim=1).values], dim=1)
    logits = F.conv2d(
        summary,
        state["attention.attend.conv.weight"],
        state["attention.attend.conv.bias"],
        padding=3,
    )
    attention = 1 / (1 + torch.exp(-logits))
    gated = fused * attention
    # Average pooling with kernel 2 and stride 4: the upper left 2x2 of each 4x4.
    rows, columns = gated[..., 0::4, :] + gated[..., 1::4, :], slice(0, None, 4)
    pooled = (rows[..., columns] + rows[..., 1::4]) / 4
    b5 = layers[ends[3] :](b4 + 20 * pooled)

    def head(name: str) -> torch.Tensor:
        hidden = F.relu(
            F.conv2d(b5, state[f"{name}.conv.weight"], state[f"{name}.conv.bias"], padding=1)
        )
        return hidden.mean((2, 3)) @ state[f"{name}.linear.weight"].T + state[f"{name}.linear.bias"]

    return head("category_head"), head("attribute_head"), attention


def test_commuted_fusion_equals_the_published_order():
    torch.manual_seed(0)
    fuse = FuseBlocks([8, 12, 16], 24).double()
    blocks = [torch.randn(2, c, s, s).double() for c, s in ((8, 28), (12, 14), (16, 7))]
    expected = published_fusion(blocks, fuse.conv.weight, fuse.conv.bias)
    # In double precision nothing but rounding may differ: 36 products of values near 1.
    torch.testing.assert_close(fuse(blocks), expected, rtol=0, atol=1e-12)
    assert (expected > 0).any()
    assert (expected == 0).any()


def test_fusion_normalises_before_the_relu():
    torch.manual_seed(0)
    fuse = FuseBlocks([8, 12], 24, batch_norm=True).double().eval()
    with torch.no_grad():
        fuse.norm.running_mean.normal_()
        fuse.norm.running_var.uniform_(0.5, 2)
        fuse.norm.bias.normal_()
    blocks = [torch.randn(2, c, s, s).double() for c, s in ((8, 12), (12, 6))]
    large = F.interpolate(blocks[1], size=(12, 12), mode="bilinear", align_corners=True)
    linear = F.conv2d(torch.cat([blocks[0], large], 1), fuse.conv.weight, fuse.conv.bias)
    scale = fuse.norm.weight / (fuse.norm.running_var + fuse.norm.eps).sqrt()
    shifted = (linear - fuse.norm.running_mean[:, None, None]) * scale[:, None, None]
    expected = (shifted + fuse.norm.bias[:, None, None]).clamp(min=0)
    torch.testing.assert_close(fuse(blocks), expected, rtol=0, atol=1e-12)


def test_attention_block_changes_nothing_but_the_last_block():
    torch.manual_seed(0)
    block = AttentionBlock(fuse=FuseBlocks([8, 12, 16], 16), attend=SpatialAttention())
    blocks = [torch.randn(2, c, s, s) for c, s in ((8, 16), (12, 8), (16, 4))]
    before = [tensor.clone() for tensor in blocks]
    changed, attention = block(blocks)
    assert changed.shape == blocks[-1].shape
    assert attention.shape == (2, 1, 16, 16)
    for tensor, original in zip(blocks, before, strict=True):
        assert torch.equal(tensor, original)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_has_a_float32_map_and_no_float32_copy_of_the_features(dtype):
    torch.manual_seed(0)
    block = AttentionBlock(fuse=FuseBlocks([8, 12, 16], 16), attend=SpatialAttention())
    block.eval()  # in training it keeps nothing
    blocks = [torch.randn(2, c, s, s).to(dtype) for c, s in ((8, 16), (12, 8), (16, 4))]
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with (
        torch.autocast("cpu", dtype=dtype),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        changed, attention = block(blocks)
    assert changed.dtype == dtype
    assert attention.dtype == torch.float32
    # Not rounded from half precision: its own digits are there.
    assert not torch.equal(attention, attention.to(dtype).float())
    # The features and the windows of them that are pooled: a quarter or more of their numbers.
    large = [tensor.dtype for tensor in kept if tensor.numel() >= 2 * 16 * 16 * 16 // 4]
    assert len(large) >= 2
    assert set(large) == {dtype}
    exact, exact_attention = block([tensor.float() for tensor in blocks])
    torch.testing.assert_close(attention, exact_attention, rtol=0, atol=0.02)
    torch.testing.assert_close(changed.float(), exact, rtol=0.03, atol=0.1)
    (changed.float().sum() + attention.sum()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in block.parameters())


@pytest.mark.parametrize("photos", [1, 2, 5])
def test_training_in_parts_changes_nothing(photos):
    """Two photos at a time in training, whole batches in evaluation: the same gradients."""
    torch.manual_seed(0)
    block = AttentionBlock(fuse=FuseBlocks([8, 12, 16], 16), attend=SpatialAttention()).double()
    blocks = [
        torch.randn(photos, c, s, s, dtype=torch.float64, requires_grad=True)
        for c, s in ((8, 16), (12, 8), (16, 4))
    ]
    wanted = [*blocks, *block.parameters()]
    found = []
    for training in (True, False):
        changed, attention = block.train(training)(blocks)
        gradients = torch.autograd.grad(changed.square().sum() + attention.sin().sum(), wanted)
        found.append([changed, attention, *gradients])
    for in_parts, whole in zip(*found, strict=True):
        torch.testing.assert_close(in_parts, whole, rtol=1e-12, atol=1e-12)


@torch.inference_mode()
def test_small_model_equals_the_restated_one_in_double_precision():
    torch.manual_seed(1)
    model = randomized(build_vsam(small(image_size=96))).double()
    images = torch.randn(2, 3, 96, 96).double()
    output = model(images)
    expected = published_forward(model.state_dict(), model.features, images)
    # Thirteen layers of a few hundred products each leave errors of some 1e-14 of the largest.
    for ours, theirs in zip(output[:3], expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@torch.inference_mode()
def test_published_size_equals_the_restated_one_on_torchvisions_vgg16():
    torch.manual_seed(2)
    model = randomized(build_vsam(ModelConfig(categories=46, attributes=1000)))
    layers = vgg16(weights=None).features
    # In place, ReLU would change the block outputs that are kept.
    layers = torch.nn.Sequential(
        *(torch.nn.ReLU() if isinstance(layer, torch.nn.ReLU) else layer for layer in layers)
    ).eval()
    layers.load_state_dict(model.features.state_dict())
    images = torch.randn(1, 3, 224, 224)
    output = model(images)
    expected = published_forward(model.state_dict(), layers, images)
    assert [tuple(tensor.shape) for tensor in output] == [
        *((1, 46), (1, 1000), (1, 1, 56, 56), (1, 0, 1000))
    ]
    for ours, theirs in zip(output[:3], expected, strict=True):
        # float32 has 7 digits, and sums of up to 4608 products lose two or three of them.
        scale = float(theirs.abs().max())
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize(("size", "side"), [(224, 56), (112, 28), (64, 16), (32, 8)])
def test_sides_follow_from_the_image_size(size, side):
    config = small(image_size=size)
    assert config.attention_side == side
    with torch.inference_mode():
        output = build_vsam(config).eval()(torch.randn(2, 3, size, size))
    assert output.category_logits.shape == (2, 5)
    assert output.attribute_logits.shape == (2, 7)
    assert output.attention.shape == (2, 1, side, side)
    assert output.attention.min() >= 0
    assert output.attention.max() <= 1


@pytest.mark.parametrize(
    ("width", "channels"),
    [
        (1.0, [64, 128, 256, 512, 512, 1024]),
        (0.25, [16, 32, 64, 128, 128, 256]),
        (0.01, [8, 8, 8, 8, 8, 8]),
    ],
)
def test_channels_follow_from_the_width(width, channels):
    plan = vgg16_plan(width)
    assert [len(block) for block in plan.blocks] == [2, 2, 3, 3, 3]
    found = [plan.channels(block) for block in range(1, 6)]
    assert [*found, plan.head_channels] == channels


@pytest.mark.parametrize("width", [0, -1, 4.1, float("nan")])
def test_impossible_widths_are_refused(width):
    with pytest.raises(VsamError, match="Expected `width` to be above 0 and up to 4"):
        build_vsam(small(width=width))


@pytest.mark.parametrize("field", [{"categories": 0}, {"attributes": 0}, {"dropout": 1.0}])
def test_impossible_configurations_are_refused(field):
    with pytest.raises(VsamError, match=f"Expected `{next(iter(field))}` to be"):
        small(**field)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_gradient_reaches_every_parameter(batch_norm):
    torch.manual_seed(4)
    model = build_vsam(small(batch_norm=batch_norm, dropout=0.0)).train()
    criterion = VsamLoss(class_weights=torch.ones(5), pose_weight=10.0)
    terms = criterion(
        model(torch.randn(4, 3, 64, 64)),
        category=torch.tensor([0, 1, 2, -100]),
        attributes=(torch.rand(4, 7) > 0.5).float(),
        heatmap=torch.rand(4, 1, 16, 16),
        has_pose=torch.tensor([True, True, False, True]),
    )
    terms.total.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert len(gradients) > 30
    # Normalisation takes away a constant that was added just before it: no gradient can be there.
    without = set()
    if batch_norm:
        without = {
            f"{name}.bias"
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Conv2d) and name != "attention.attend.conv"
        }
    for name, gradient in gradients.items():
        assert gradient is not None, name
        assert gradient.isfinite().all(), name
        if name not in without:
            assert gradient.abs().max() > 0, name


OTHER_PLAN = VggPlan(blocks=((8,), (16, 8, 24), (16,), (40, 32), (24,), (16, 48)), head_channels=56)


def test_every_size_follows_from_the_plan(monkeypatch):
    # Other numbers of blocks, of convolutions and of channels; no two in a row are the same.
    monkeypatch.setattr(build, "vgg16_plan", lambda width: OTHER_PLAN)
    torch.manual_seed(9)
    model = build_vsam(small(image_size=128)).eval()
    assert [layer.out_channels for layer in model.features if hasattr(layer, "out_channels")] == [
        *(8, 16, 8, 24, 16, 40, 32, 24, 16, 48)
    ]
    assert model.attention.fuse.conv.weight.shape == (32, 24 + 16 + 32, 1, 1)
    assert model.category_head.conv.weight.shape == (56, 48, 3, 3)
    assert small(image_size=128).attention_side == 32
    output = model(torch.randn(2, 3, 128, 128))
    assert [tuple(tensor.shape) for tensor in output] == [
        *((2, 5), (2, 7), (2, 1, 32, 32), (2, 0, 7))
    ]
    output.category_logits.sum().backward(retain_graph=True)
    output.attribute_logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert keras_weights.block_layers(model.features).keys() >= {"block2_conv3", "block6_conv2"}


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_state_dict_makes_the_same_model(batch_norm):
    torch.manual_seed(10)
    model = randomized(build_vsam(small(batch_norm=batch_norm)))
    copy = build_vsam(small(batch_norm=batch_norm)).eval()
    copy.load_state_dict(model.state_dict(), strict=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        for ours, theirs in zip(copy(images), model(images), strict=True):
            assert torch.equal(ours, theirs)


def test_initial_weights_follow_from_the_seed():
    states = []
    for seed in (11, 11, 12):
        torch.manual_seed(seed)
        states.append(build_vsam(small()).state_dict())
    drawn = [name for name, tensor in states[0].items() if tensor.ndim > 1]
    assert len(drawn) > 15
    for name in drawn:
        assert torch.equal(states[0][name], states[1][name]), name
        assert not torch.equal(states[0][name], states[2][name]), name


def test_attention_is_trained_through_features_too():
    # Without the pose's term the map still gets its gradient from the classes.
    torch.manual_seed(4)
    model = build_vsam(small(dropout=0.0))
    model(torch.randn(2, 3, 64, 64)).category_logits.square().sum().backward()
    assert model.attention.attend.conv.weight.grad.abs().max() > 0
