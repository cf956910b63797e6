"""VSAM: a backbone with a pose-supervised attention map, a category and an attribute head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import nn

from .attention import AttentionBlock
from .backbones.interface import Backbone


class VsamOutput(NamedTuple):
    """What the network says about a batch of B photos.

    Attributes:
        category_logits: (B, K) before the softmax.
        attribute_logits: (B, A) before the sigmoid.
        attention: (B, R, S, S), 0..1, over the squashed photo; R = 1, or 0 without attention. S is
            the side of the backbone's first stage in both cases.
    """

    category_logits: torch.Tensor
    attribute_logits: torch.Tensor
    attention: torch.Tensor


class Head(nn.Module):
    """3×3 convolution, ReLU, global average, dropout and a linear layer.

    Args:
        in_channels: Channels of the features.
        channels: Channels of the convolution.
        outputs: Number of logits.
        dropout: Probability that a channel is dropped in training.
        batch_norm: Normalise before the ReLU.
    """

    def __init__(
        self, in_channels: int, channels: int, outputs: int, *, dropout: float, batch_norm: bool
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel_size=3, padding=1)
        self.norm = nn.BatchNorm2d(channels) if batch_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(channels, outputs)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) features to (B, outputs) logits."""
        pooled = F.relu(self.norm(self.conv(features))).mean(dim=(2, 3))  # (B, C, H, W) -> (B, C)
        return self.linear(self.dropout(pooled))


class VSAM(nn.Module):
    """The Visual Semantic Attention Model (Ferreira et al., ICCV Workshops 2019).

    Args:
        features: The backbone; the published one is VGG-16.
        attention: Fuses the backbone's stages and gates them by its map; None attends to nothing.
        category_head: From the backbone's features to K logits.
        attribute_head: From the backbone's features to A logits.
    """

    def __init__(
        self,
        *,
        features: Backbone,
        attention: AttentionBlock | None,
        category_head: Head,
        attribute_head: Head,
    ) -> None:
        super().__init__()
        self.features = features
        self.attention = attention
        self.category_head = category_head
        self.attribute_head = attribute_head
        self._frozen = False

    def forward(self, images: torch.Tensor) -> VsamOutput:
        """Tag a batch.

        Args:
            images: (B, 3, S, S) float32, normalised as the checkpoint's preprocessing says.
        """
        maps = []

        def attend(stages: Sequence[torch.Tensor]) -> torch.Tensor:
            first, last = stages[0], stages[-1]
            if self.attention is None:
                maps.append(first.new_zeros(len(first), 0, *first.shape[-2:]))
                return last
            attended, attention = self.attention(stages)
            maps.append(attention)
            return attended

        x = self.features(images, attend)
        return VsamOutput(self.category_head(x), self.attribute_head(x), *maps)

    def freeze_backbone(self) -> None:
        """Keep the backbone as it is: no gradients, and its layers behave as in evaluation.

        So its batch normalisation keeps its statistics, and it drops nothing at random.
        """
        self.features.requires_grad_(False)
        self._frozen = True
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Switch to training, except a frozen backbone, or to evaluation."""
        super().train(mode)
        if self._frozen:
            self.features.eval()
        return self
