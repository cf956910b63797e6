"""VSAM: a backbone with a pose-supervised attention map, a category and an attribute head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from .attention import AttentionBlock
from .backbones.interface import Backbone
from .model import TaggingModel, VsamOutput


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


class VSAM(TaggingModel):
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
        super().__init__(features)
        self.attention = attention
        self.category_head = category_head
        self.attribute_head = attribute_head

    def forward(self, images: torch.Tensor) -> VsamOutput:
        """Tag a batch; see `TaggingModel`."""
        maps = []

        def attend(stages: Sequence[torch.Tensor]) -> torch.Tensor:
            first, last = stages[0], stages[-1]
            if self.attention is None:
                maps.append(first.new_zeros(first.shape[0], 0, *first.shape[-2:]))
                return last
            attended, attention = self.attention(stages)
            maps.append(attention)
            return attended

        x = self.features(images, attend)
        attribute_logits = self.attribute_head(x)
        contributions = attribute_logits.new_zeros(maps[0].shape[0], 0, attribute_logits.shape[1])
        return VsamOutput(self.category_head(x), attribute_logits, maps[0], contributions)
