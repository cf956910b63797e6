"""Backbones by name: shapes, gradients, export, and the same features as their own libraries."""

import copy
import functools
import importlib.util
from collections.abc import Callable, Sequence

import pytest
import timm
import torch
import torchvision
from torchvision.models.feature_extraction import create_feature_extractor

from vsam.modeling.backbones.interface import Backbone
from vsam.modeling.build import ModelConfig, build_vsam
from vsam.modeling.vsam import VSAM
from vsam_heatmaps.errors import VsamError

# Channels and strides of the three stages and of the result, as the papers' tables have them.
KINDS = {
    "vgg16": ({"width": 0.05, "image_size": 64}, (8, 16, 24, 24), (4, 8, 16, 32)),
    "resnet18": ({"image_size": 64}, (64, 128, 256, 512), (4, 8, 16, 32)),
    "convnext_tiny": ({"image_size": 32}, (96, 192, 384, 768), (4, 8, 16, 32)),
    "vit_tiny_patch16_224": ({"image_size": 48}, (192,) * 4, (16,) * 4),
    "vit_small_patch14_dinov2": ({"image_size": 42}, (384,) * 4, (14,) * 4),
    "vit_small_patch16_dinov3": ({"image_size": 48}, (384,) * 4, (16,) * 4),
    "test_resnet": ({"image_size": 64}, (32, 48, 192, 96), (4, 8, 16, 32)),
}
TRANSFORMERS = [name for name in KINDS if name.startswith("vit")]
NOT_VGG = [name for name in KINDS if name != "vgg16"]
LIGHT = ["resnet18", "vit_tiny_patch16_224", "test_resnet"]


def config_of(name: str) -> ModelConfig:
    return ModelConfig(**{"categories": 5, "attributes": 7, "backbone": name, **KINDS[name][0]})


@functools.cache
def built(name: str, seed: int = 0) -> VSAM:
    """Build a model whose every weight matters: libraries start some layers at zero.

    It is shared: copy it before it is changed.
    """
    torch.manual_seed(seed)
    model = build_vsam(config_of(name))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return model.eval()


def photos(name: str, count: int = 2) -> torch.Tensor:
    size = KINDS[name][0]["image_size"]
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def seen_by(backbone: Backbone, images: torch.Tensor, change=lambda last: last):
    """Run a backbone; give the stages that attention saw, and the features."""
    seen: list[Sequence[torch.Tensor]] = []

    def attend(stages: Sequence[torch.Tensor]) -> torch.Tensor:
        seen.append([stage.clone() for stage in stages])
        return change(stages[-1])

    with torch.inference_mode():
        features = backbone(images, attend)
    assert len(seen) == 1
    return list(seen[0]), features


@pytest.mark.parametrize("name", KINDS)
def test_shapes_are_what_the_backbone_says(name):
    sizes, channels, strides = KINDS[name]
    model, size = built(name), sizes["image_size"]
    backbone = model.features
    assert (*backbone.stage_channels, backbone.out_channels) == channels
    assert (*backbone.stage_strides, backbone.out_stride) == strides
    stages, features = seen_by(backbone, photos(name))
    assert [tuple(x.shape) for x in (*stages, features)] == [
        (2, c, size // s, size // s) for c, s in zip(channels, strides, strict=True)
    ]
    side = size // strides[0]
    assert config_of(name).attention_side == side
    with torch.inference_mode():
        output = model(photos(name))
    assert [tuple(x.shape) for x in output] == [*((2, 5), (2, 7), (2, 1, side, side), (2, 0, 7))]
    assert 0 <= output.attention.min() < output.attention.max() <= 1


def _torchvision_reference(nodes: dict[str, str]) -> Callable:
    def reference(backbone, images, third, delta):
        whole = torchvision.models.get_model(backbone.name, weights=None).eval()
        whole.load_state_dict(backbone.network.state_dict(), strict=False)
        if delta is not None:
            layer = whole.get_submodule(list(nodes)[2])
            layer.register_forward_hook(lambda module, given, result: result + delta)
        found = create_feature_extractor(whole, nodes)(images)
        return [found[name] for name in nodes.values()]

    return reference


def _vit_reference(backbone, images, third, delta):
    whole = timm.create_model(
        backbone.name, pretrained=False, img_size=images.shape[-1], num_classes=0
    ).eval()
    whole.load_state_dict(backbone.network.state_dict())
    prefix, depth = whole.num_prefix_tokens, len(whole.blocks)
    indices = [depth // 4 - 1, depth // 2 - 1, 3 * depth // 4 - 1]
    if delta is not None:

        def hook(module, given, tokens):
            moved = tokens[:, prefix:] + delta.flatten(2).transpose(1, 2)
            return torch.cat([tokens[:, :prefix], moved], dim=1)

        whole.blocks[indices[-1]].register_forward_hook(hook)
    stages = whole.forward_intermediates(images, indices=indices, intermediates_only=True)
    tokens = whole.forward_features(images)[:, prefix:]
    side = images.shape[-1] // whole.patch_embed.patch_size[0]
    # (B, H·W, C) -> (B, C, H, W), the patches row by row
    return [*stages, tokens.reshape(len(images), side, side, -1).permute(0, 3, 1, 2)]


def _timm_cnn_reference(backbone, images, third, delta):
    whole = timm.create_model(backbone.name, pretrained=False).eval()
    whole.load_state_dict(backbone.network.state_dict(), strict=False)
    if delta is not None:
        whole.layer3.register_forward_hook(lambda module, given, result: result + delta)
    return whole.forward_intermediates(images, indices=[-4, -3, -2, -1], intermediates_only=True)


RESNET_NODES = {f"layer{n}": f"stage{n}" for n in (1, 2, 3, 4)}
CONVNEXT_NODES = {f"features.{n}": f"stage{n}" for n in (1, 3, 5, 7)}
REFERENCES = {
    "resnet18": _torchvision_reference(RESNET_NODES),
    "convnext_tiny": _torchvision_reference(CONVNEXT_NODES),
    "test_resnet": _timm_cnn_reference,
} | dict.fromkeys(TRANSFORMERS, _vit_reference)


@pytest.mark.parametrize("name", NOT_VGG)
@torch.inference_mode()
def test_stages_and_features_are_the_librarys_own(name):
    backbone = built(name).features
    images = photos(name)
    stages, features = seen_by(backbone, images)
    expected = REFERENCES[name](backbone, images, None, None)
    assert len(expected) == 4
    for ours, theirs in zip((*stages, features), expected, strict=True):
        # The same operations on the same numbers; position embeddings may be added in other order.
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        assert theirs.std() > 0.01


@pytest.mark.parametrize("name", NOT_VGG)
@torch.inference_mode()
def test_what_attention_gives_goes_on_in_the_third_stages_place(name):
    backbone = built(name).features
    images = photos(name)
    stages, plain = seen_by(backbone, images)
    delta = torch.randn(stages[-1].shape, generator=torch.Generator().manual_seed(2))
    _, features = seen_by(backbone, images, lambda last: last + delta)
    expected = REFERENCES[name](backbone, images, stages[-1], delta)[-1]
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)
    assert (features - plain).abs().max() > 0.01


@pytest.mark.parametrize("name", NOT_VGG)
def test_the_gradient_reaches_every_parameter(name):
    model = built(name)  # in evaluation: stochastic depth would leave blocks out
    output = model(photos(name))
    score = output.category_logits.square().sum() + output.attribute_logits.square().sum()
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = dict(zip(names, torch.autograd.grad(score, parameters), strict=True))
    assert len(gradients) > 30
    for parameter, gradient in gradients.items():
        assert gradient.isfinite().all(), parameter
        assert gradient.abs().max() > 0, parameter


@pytest.mark.parametrize("name", KINDS)
def test_a_frozen_backbone_stays_as_it_is(name):
    model = copy.deepcopy(built(name))
    model.freeze_backbone()
    model.train()
    before = {key: value.clone() for key, value in model.features.state_dict().items()}
    torch.manual_seed(0)
    output = model(photos(name))
    torch.manual_seed(1)
    _, first = seen_by(model.features, photos(name))
    _, second = seen_by(model.features, photos(name))
    assert torch.equal(first, second), "it drops something at random"
    (output.category_logits.sum() + output.attribute_logits.sum()).backward()
    for key, value in model.features.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert all(parameter.grad is None for parameter in model.features.parameters())
    rest = [p for key, p in model.named_parameters() if not key.startswith("features.")]
    assert len(rest) == 12
    assert all(parameter.grad is not None for parameter in rest)
    assert model.attention.training
    assert not any(module.training for module in model.features.modules())


def test_a_backbone_that_is_not_frozen_moves_its_statistics():
    model = copy.deepcopy(built("resnet18")).train()
    before = model.features.network.bn1.running_mean.clone()
    model(photos("resnet18"))
    assert not torch.equal(model.features.network.bn1.running_mean, before)


@pytest.mark.parametrize("name", [*LIGHT, "convnext_tiny", "vit_small_patch16_dinov3"])
@torch.inference_mode()
def test_a_state_dict_makes_the_same_model(name):
    model, other = built(name), build_vsam(config_of(name)).eval()
    images = photos(name)
    assert not torch.equal(other(images).category_logits, model(images).category_logits)
    other.load_state_dict(model.state_dict(), strict=True)
    for ours, theirs in zip(other(images), model(images), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", [*LIGHT, "convnext_tiny"])
def test_initial_weights_follow_from_the_seed(name):
    states = []
    for seed in (11, 11, 12):
        config = config_of(name)
        torch.manual_seed(seed)
        states.append(build_vsam(config).state_dict())
    drawn = [
        key for key, tensor in states[0].items() if tensor.ndim > 1 and tensor.min() < tensor.max()
    ]
    assert len(drawn) > 15
    for key in states[0]:
        assert torch.equal(states[0][key], states[1][key]), key
    assert not any(torch.equal(states[0][key], states[2][key]) for key in drawn)


@pytest.mark.parametrize("name", KINDS)
def test_torch_export_gives_the_same_outputs(name):
    model = built(name)
    program = torch.export.export(model, (photos(name),))
    others = photos(name).flip(0)
    with torch.inference_mode():
        found, expected = program.module()(others), model(others)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["vgg16", "vit_tiny_patch16_224"])
@torch.inference_mode()
def test_without_attention_the_backbone_alone_decides(name):
    config = ModelConfig(
        categories=5, attributes=7, backbone=name, attention="none", **KINDS[name][0]
    )
    model = build_vsam(config).eval()
    assert not any(key.startswith("attention") for key in model.state_dict())
    output = model(photos(name))
    side = KINDS[name][0]["image_size"] // KINDS[name][2][0]
    assert output.attention.shape == (2, 0, side, side)
    _, features = seen_by(model.features, photos(name))
    assert torch.equal(output.category_logits, model.category_head(features))


def test_stages_of_one_side_are_not_pooled():
    from vsam.modeling.attention import AttentionBlock, FuseBlocks, SpatialAttention

    torch.manual_seed(0)
    block = AttentionBlock(fuse=FuseBlocks([4, 4, 4], 4), attend=SpatialAttention())
    stages = [torch.randn(2, 4, 5, 5) for _ in range(3)]
    changed, attention = block(stages)
    fused = torch.relu(
        torch.nn.functional.conv2d(
            torch.cat(stages, dim=1), block.fuse.conv.weight, block.fuse.conv.bias
        )
    )
    torch.testing.assert_close(changed, stages[-1] + 20 * fused * attention)


def test_vgg16_bn_has_one_spelling():
    sizes = {"categories": 5, "attributes": 7, "width": 0.05, "image_size": 64}
    config = ModelConfig(**sizes, backbone="vgg16_bn")
    assert config == ModelConfig(**sizes, batch_norm=True)
    assert (config.backbone, config.batch_norm) == ("vgg16", True)
    model = build_vsam(config)
    assert model.features.name == "vgg16_bn"
    assert isinstance(model.category_head.norm, torch.nn.BatchNorm2d)


def refused(**values) -> str:
    with pytest.raises(VsamError) as error:
        ModelConfig(**{"categories": 5, "attributes": 7, **values})
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnet51", "resnet50"),
        ("vgg16bn", "vgg16_bn"),
        ("vit_tiny", "vit_tiny_patch16_224"),
        ("vit_tiny_patch16_224.none", "vit_tiny_patch16_224.augreg_in21k"),
    ],
)
def test_an_unknown_backbone_is_refused_with_names_near_it(name, near):
    message = refused(backbone=name)
    assert f"but got {name!r}. Near it are " in message
    assert near in message.partition("Near it are ")[2]
    assert "convnext_tiny" in message


@pytest.mark.parametrize("name", ["", "hf-hub:timm/resnet18.a1_in1k", "local-dir:/tmp", "x" * 99])
def test_names_that_are_no_architecture_are_refused(name):
    assert f"but got {name!r}." in refused(backbone=name)


@pytest.mark.parametrize(
    "name",
    [
        "swin_tiny_patch4_window7_224",  # its channels come last
        "beit_base_patch16_224",
        "pit_ti_224",  # three stages
        "selecsls42",  # its layers pass lists on
        "inception_v3",  # its sides are no halves
    ],
)
def test_a_model_without_stages_in_a_row_is_refused(name):
    assert f"but {name} is neither" in refused(backbone=name)


def test_without_timm_its_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'vsam[timm]'" in refused(backbone="vit_tiny_patch16_224")
    assert ModelConfig(categories=5, attributes=7, backbone="resnet18").attention_side == 56


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"backbone": "vgg16", "image_size": 40}, "a multiple of 16 pixels, 32 or more, for the"),
        ({"backbone": "resnet18", "image_size": 16}, "a multiple of 16 pixels, 32 or more"),
        ({"backbone": "vit_small_patch14_dinov2", "image_size": 64}, "a multiple of 14 pixels, 14"),
        ({"backbone": "vgg16", "image_size": 0}, "Expected `image_size` to be at least 1"),
        ({"backbone": "resnet18", "width": 0.5}, "`width` to be left out with the backbone resnet"),
        ({"backbone": "resnet18", "batch_norm": True}, "`batch_norm` to be left out"),
        ({"attention": "many"}, "`attention` to be one of single, regions, none, but got 'many'"),
    ],
)
def test_what_does_not_suit_the_backbone_is_refused(values, said):
    assert said in refused(**values)


def test_names_of_cut_models_are_the_librarys():
    config = ModelConfig(categories=2, attributes=2, image_size=32, backbone="dpn48b")
    with torch.device("meta"):
        backbone = build_vsam(config).features
    names = backbone.library_names().values()
    assert "features.conv1_1.conv.weight" in names
    assert set(names) <= set(backbone.library_model().state_dict())


def test_a_tag_of_timm_names_the_same_architecture():
    config = ModelConfig(
        categories=2, attributes=2, image_size=32, backbone="vit_tiny_patch16_224.augreg_in21k"
    )
    assert build_vsam(config).features.out_channels == 192
