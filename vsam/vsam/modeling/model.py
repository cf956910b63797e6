"""What every model shares: its output, and a backbone that can be frozen."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import nn

from .backbones.interface import Backbone


class VsamOutput(NamedTuple):
    """What the network says about a batch of B photos.

    Attributes:
        category_logits: (B, K) before the softmax.
        attribute_logits: (B, A) before the sigmoid.
        attention: (B, R, S, S), at least 0, over the squashed photo. The published model has R = 1
            map of pixels in 0..1; region attention one for each region, which sums to 1; no
            attention R = 0. S is the side of the backbone's first stage, with regions that of the
            features.
        contributions: (B, R, A), what each region adds to each attribute's logit, beyond what it
            adds in an average photo of the training. R = 0 without region attention.
    """

    category_logits: torch.Tensor
    attribute_logits: torch.Tensor
    attention: torch.Tensor
    contributions: torch.Tensor


class TaggingModel(nn.Module):
    """A backbone and what reads categories and attributes from its features.

    Args:
        features: The backbone.
    """

    def __init__(self, features: Backbone) -> None:
        super().__init__()
        self.features = features
        self._frozen = False

    def forward(self, images: torch.Tensor) -> VsamOutput:
        """Tag a batch.

        Args:
            images: (B, 3, S, S) float32, normalised as the checkpoint's preprocessing says.
        """
        raise NotImplementedError

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
