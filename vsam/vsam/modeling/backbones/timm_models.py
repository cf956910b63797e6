"""Models of timm: vision transformers, and CNNs as timm's `features_only` cuts them.

Weights are never downloaded here: every model is built with `pretrained=False`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from vsam_datasets.preprocessing import Preprocessing
from vsam_heatmaps.errors import VsamError

from .interface import Attend, Backbone

_STAGES = 3


class TimmBackbone(Backbone):
    """What both kinds share."""

    network: Any

    def library_model(self) -> nn.Module:
        """Build timm's whole model."""
        return _create(self.name)

    def preprocessing(self) -> Preprocessing:
        """Say what timm says of its weights; its bicubic resizing becomes bilinear."""
        given = self.network.pretrained_cfg
        return Preprocessing(mean=given["mean"], std=given["std"])

    def published_weights(self) -> str:
        """Name the file with timm's weights."""
        hub = self.network.pretrained_cfg.get("hf_hub_id")
        return f"model.safetensors of https://huggingface.co/{hub}" if hub else "its state dict"


class ViTBackbone(TimmBackbone):
    """A vision transformer; its patch tokens, laid out as they lie in the photo, are the features.

    Stages are the tokens after a quarter, a half and three quarters of the blocks. Attention
    changes the patch tokens of the third. Class and register tokens are kept aside meanwhile, go
    through the remaining blocks with the others, and are dropped at the end.

    Args:
        name: timm's name of a `VisionTransformer` or `Eva`.
        image_size: Side of the input in pixels; position embeddings are made for it.
    """

    def __init__(self, name: str, *, image_size: int) -> None:
        super().__init__()
        self.name = name
        # Of fixed size: DINOv3's would compute its positions anew for each batch.
        network = _create(name, img_size=image_size, dynamic_img_size=False, num_classes=0)
        # What pools and classifies is the heads' task; its parameters would never be trained.
        network.attn_pool, network.fc_norm = None, nn.Identity()
        self.network = network
        channels, stride = network.embed_dim, network.patch_embed.feat_ratio(as_scalar=True)
        self.stage_channels, self.stage_strides = (channels,) * 3, (stride,) * 3
        self.out_channels, self.out_stride = channels, stride
        depth = len(network.blocks)
        self._ends = [depth * quarter // 4 for quarter in (1, 2, 3)]

    def forward(self, images: torch.Tensor, attend: Attend) -> torch.Tensor:
        """Compute the features; see `Backbone`. The steps are those of timm's forward_features."""
        net = self.network
        rotary = None
        tokens = net._pos_embed(net.patch_embed(images))  # (B, 3, S, S) -> (B, P + H·W, C)
        if isinstance(tokens, tuple):
            tokens, rotary = tokens
        else:
            tokens = net.patch_drop(tokens)
        tokens = net.norm_pre(tokens)
        stages = []
        for index, block in enumerate(net.blocks, 1):
            if rotary is None:
                tokens = block(tokens)
            else:  # one for all blocks, or one for each
                tokens = block(tokens, rope=rotary[index - 1] if net.rope_mixed else rotary)
            if index in self._ends:
                stages.append(self._grid(tokens))
            if index == self._ends[-1]:
                # (B, C, H, W) -> (B, H·W, C), behind the P tokens that are no patches
                patches = attend(stages).flatten(2).transpose(1, 2)
                tokens = torch.cat([tokens[:, : net.num_prefix_tokens], patches], dim=1)
        return self._grid(net.norm(tokens))

    def _grid(self, tokens: torch.Tensor) -> torch.Tensor:
        """Lay out patch tokens: (B, P + H·W, C) -> (B, C, H, W)."""
        patches = tokens[:, self.network.num_prefix_tokens :].transpose(1, 2)
        return patches.unflatten(2, self.network.patch_embed.grid_size)

    def library_names(self) -> dict[str, str]:
        """Map the names of the state dict to timm's."""
        return {name: name.removeprefix("network.") for name in self.state_dict()}

    def resample_positions(self, positions: torch.Tensor) -> torch.Tensor:
        """Bring position embeddings of another square grid to this one, as timm does.

        Args:
            positions: (1, N, C). What is not of this form is given back as it is.

        Returns:
            (1, P + H·W, C).
        """
        from timm.layers import resample_abs_pos_embed

        net = self.network
        kept = 0 if net.no_embed_class else net.num_prefix_tokens
        wanted = net.pos_embed
        if wanted is None or positions.ndim != 3 or positions.shape[::2] != wanted.shape[::2]:
            return positions
        patches = positions.shape[1] - kept
        if patches < 1 or math.isqrt(patches) ** 2 != patches:
            return positions
        return resample_abs_pos_embed(
            positions, new_size=list(net.patch_embed.grid_size), num_prefix_tokens=kept
        )


class TimmCnnBackbone(TimmBackbone):
    """A CNN of timm: the last four of its stages, of which attention looks at the first three.

    Args:
        name: timm's name of a model that `features_only` cuts into a sequence.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        from timm.models import FeatureListNet

        self.name = name
        try:
            network = _create(name, features_only=True, out_indices=range(-_STAGES - 1, 0))
        except Exception as error:  # each family fails in its own way
            raise _unsuited(name) from error
        if type(network) is not FeatureListNet or network.output_fmt != "NCHW":
            raise _unsuited(name)
        self.network = network
        *channels, self.out_channels = network.feature_info.channels()
        *strides, self.out_stride = network.feature_info.reduction()
        self.stage_channels, self.stage_strides = _three(channels), _three(strides)
        if any(stride % strides[0] for stride in strides):
            raise _unsuited(name)

    def forward(self, images: torch.Tensor, attend: Attend) -> torch.Tensor:
        """Compute the features; see `Backbone`."""
        stages: list[torch.Tensor] = []
        x = images
        for name, layer in self.network.items():
            x = layer(x)
            if name in self.network.return_layers and len(stages) < _STAGES:
                stages.append(x)
                if len(stages) == _STAGES:
                    x = attend(stages)
        return x

    def _drop_last_stage(self) -> None:
        names = list(self.network)
        third = list(self.network.return_layers)[_STAGES - 1]
        for name in names[names.index(third) + 1 :]:
            del self.network[name]

    def _anew(self) -> TimmCnnBackbone:
        return TimmCnnBackbone(self.name)

    def library_names(self) -> dict[str, str]:
        """Map the names of the state dict to timm's: `features_only` makes `a.0.b` to `a_0.b`."""
        whole = set(_on_meta(self.name).state_dict())
        names = {}
        for name in self.state_dict():
            given = name.removeprefix("network.")
            # Underscores were there before, too: the library knows which one was a point.
            points = [at for at, letter in enumerate(given) if letter == "_"]
            candidates = [given, *(f"{given[:at]}.{given[at + 1 :]}" for at in points)]
            names[name] = next((each for each in candidates if each in whole), given)
        return names


def build_timm_backbone(name: str, *, image_size: int) -> Backbone:
    """Build a model of timm.

    Raises:
        VsamError: If it can't be had through the three stages of a `Backbone`.
    """
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer

    # A subclass may go another way through its blocks.
    ways = (VisionTransformer.forward_features, Eva.forward_features)
    if getattr(type(_on_meta(name)), "forward_features", None) in ways:
        return ViTBackbone(name, image_size=image_size)
    with torch.device("meta"):
        _try(TimmCnnBackbone(name).eval(), image_size)
    return TimmCnnBackbone(name)


def _try(backbone: TimmCnnBackbone, image_size: int) -> None:
    """Check that a backbone has the stages that it says: some families round, or need one size."""
    if image_size % backbone.stage_strides[-1]:
        return  # it is the size that does not suit
    seen: list[tuple[int, ...]] = []

    def attend(stages: Sequence[torch.Tensor]) -> torch.Tensor:
        seen.extend(tuple(stage.shape[1:]) for stage in stages)
        return stages[-1]

    try:
        backbone(torch.empty(1, 3, image_size, image_size), attend)
    except Exception as error:  # each family fails in its own way
        raise _unsuited(backbone.name, image_size) from error
    sides = [image_size // stride for stride in backbone.stage_strides]
    wanted = zip(backbone.stage_channels, sides, sides, strict=True)
    if seen != list(wanted):
        raise _unsuited(backbone.name, image_size)


def _create(name: str, **options: Any) -> Any:
    import timm

    return timm.create_model(name, pretrained=False, **options)


def _on_meta(name: str) -> nn.Module:
    """Build a model's shapes without its numbers."""
    with torch.device("meta"):
        return _create(name)


def _three(numbers: Sequence[int]) -> tuple[int, int, int]:
    first, second, third = numbers
    return first, second, third


def _unsuited(name: str, image_size: int | None = None) -> VsamError:
    where = f" at {image_size} pixels" if image_size else ""
    return VsamError(
        f"Expected `backbone` to be a ViT, or a CNN that timm's features_only cuts into at least "
        f"four stages in a row, but {name} is neither{where}. Take another one."
    )
