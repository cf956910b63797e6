"""VSAM's loss: category, attributes, and the pose that supervises the attention map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import sigmoid_focal_loss

from vsam_datasets.pairs import UNKNOWN_CATEGORY

from .modeling.vsam import VsamOutput


class LossTerms(NamedTuple):
    """The loss and its parts, each a scalar tensor; `total` is what is minimised."""

    total: torch.Tensor
    category: torch.Tensor
    attributes: torch.Tensor
    attention: torch.Tensor


def inverse_frequency_weights(counts: Sequence[int]) -> torch.Tensor:
    """Weigh classes by the inverse of their frequency.

    w_c = N / (K · n_c), so that the mean weight over the N samples is 1 (King and Zeng, 2001;
    scikit-learn's "balanced"). A class that does not occur weighs 0.

    Args:
        counts: n_c, the number of training samples of each of the K classes.

    Returns:
        (K,) float32.
    """
    n = torch.tensor(counts, dtype=torch.float32)
    return torch.where(n > 0, n.sum() / (len(counts) * n.clamp(min=1)), 0.0)


def category_loss(
    logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy weighted by class: Σ w_t · (−log p_t) / Σ w_t over samples with a category.

    Args:
        logits: (B, K).
        target: (B,) int64; `UNKNOWN_CATEGORY` samples are left out. Without any left it is 0.
        weights: (K,).
    """
    summed = F.cross_entropy(
        logits, target, weight=weights, ignore_index=UNKNOWN_CATEGORY, reduction="sum"
    )
    known = target != UNKNOWN_CATEGORY
    weight = weights[target.clamp(min=0)][known].sum()
    return summed / weight.clamp(min=1e-8)


def attribute_loss(
    logits: torch.Tensor, target: torch.Tensor, *, gamma: float = 2.0
) -> torch.Tensor:
    """Focal loss (Lin et al., 2017) without class balance, summed over attributes.

    −(1 − p_t)^γ · log p_t for each attribute, summed over the attributes and averaged over the
    batch, so that each attribute weighs the same however many there are.

    Args:
        logits: (B, A).
        target: (B, A), 0 or 1.
        gamma: γ; 0 is binary cross-entropy.
    """
    loss = sigmoid_focal_loss(logits, target, alpha=-1, gamma=gamma, reduction="none")
    return loss.sum(dim=1).mean()


def attention_loss(
    attention: torch.Tensor, heatmap: torch.Tensor, has_pose: torch.Tensor
) -> torch.Tensor:
    """Distance of the attention map from the pose: ‖S − softmax₂d(Ŝ)‖₂, averaged over the batch.

    S is the heatmap scaled to the map's side and to the sum 1. The published code sums over the
    batch; the average keeps λ independent of the batch size. Samples without a pose add nothing.

    Args:
        attention: Ŝ, (B, 1, H, W), 0..1; (B, 0, H, W) gives 0.
        heatmap: (B, 1, h, w), at least 0.
        has_pose: (B,) bool. A map without any mass (the person was cropped away) counts as none.
    """
    if attention.shape[1] == 0:
        return attention.new_zeros(())
    if heatmap.shape[-2:] != attention.shape[-2:]:
        heatmap = F.interpolate(heatmap, size=attention.shape[-2:], mode="bilinear", antialias=True)
    predicted = attention.flatten(1).softmax(dim=1)  # (B, 1, H, W) -> (B, H·W)
    mass = heatmap.flatten(1)
    total = mass.sum(dim=1, keepdim=True)
    wanted = mass / total.clamp(min=1e-8)
    counted = has_pose & (total[:, 0] > 1e-3)
    distance = torch.linalg.vector_norm(wanted - predicted, dim=1)  # (B,)
    return torch.where(counted, distance, 0.0).mean()


class VsamLoss(nn.Module):
    """The sum of the three terms.

    Args:
        class_weights: (K,), see `inverse_frequency_weights`.
        pose_weight: λ of the attention term; 0 leaves it out.
        attribute_weight: Of the attribute term.
        gamma: Of the focal loss.
    """

    def __init__(
        self,
        *,
        class_weights: torch.Tensor,
        pose_weight: float = 10.0,
        attribute_weight: float = 1.0,
        gamma: float = 2.0,
    ) -> None:
        super().__init__()
        self.class_weights: torch.Tensor
        self.register_buffer("class_weights", class_weights)
        self.pose_weight, self.attribute_weight, self.gamma = pose_weight, attribute_weight, gamma

    def forward(
        self,
        output: VsamOutput,
        *,
        category: torch.Tensor,
        attributes: torch.Tensor,
        heatmap: torch.Tensor,
        has_pose: torch.Tensor,
    ) -> LossTerms:
        """Compute the loss of a batch; shapes as in `Pair` and `VsamOutput`.

        It is computed in float32 whatever the network's precision: the soft maximum over thousands
        of pixels needs it.
        """
        of_category = category_loss(output.category_logits.float(), category, self.class_weights)
        of_attributes = attribute_loss(
            output.attribute_logits.float(), attributes, gamma=self.gamma
        )
        total = of_category + self.attribute_weight * of_attributes
        of_attention = attention_loss(output.attention.float(), heatmap, has_pose)
        if self.pose_weight:
            total = total + self.pose_weight * of_attention
        return LossTerms(total, of_category, of_attributes, of_attention)
