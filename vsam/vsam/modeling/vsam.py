"""VSAM: VGG-16 with a pose-supervised spatial attention map, a category and an attribute head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from .attention import AttentionBlock


class VsamOutput(NamedTuple):
    """What the network says about a batch of B photos.

    Attributes:
        category_logits: (B, K) before the softmax.
        attribute_logits: (B, A) before the sigmoid.
        attention: (B, 1, S, S), 0..1, over the squashed photo.
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
        features: VGG's convolution blocks as torchvision builds them: one sequence in which each
            block ends with a max-pooling layer.
        attention: Fuses the outputs of the attended blocks and gates them by its map.
        category_head: From the last block to K logits.
        attribute_head: From the last block to A logits.
        attended_blocks: Which blocks those are, from 1, in order.
    """

    def __init__(
        self,
        *,
        features: nn.Sequential,
        attention: AttentionBlock,
        category_head: Head,
        attribute_head: Head,
        attended_blocks: Sequence[int],
    ) -> None:
        super().__init__()
        self.features = features
        self.attention = attention
        self.category_head = category_head
        self.attribute_head = attribute_head
        pools = [i for i, layer in enumerate(features) if isinstance(layer, nn.MaxPool2d)]
        self._attended = [pools[block - 1] for block in attended_blocks]

    def forward(self, images: torch.Tensor) -> VsamOutput:
        """Tag a batch.

        Args:
            images: (B, 3, S, S) float32, normalised as the checkpoint's preprocessing says.
        """
        blocks = []
        attention = None
        x = images
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self._attended:
                blocks.append(x)
            if index == self._attended[-1]:
                x, attention = self.attention(blocks)
        assert attention is not None
        return VsamOutput(self.category_head(x), self.attribute_head(x), attention)
