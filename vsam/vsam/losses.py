"""VSAM's loss: category, attributes, and the pose that supervises the attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import sigmoid_focal_loss

from vsam_datasets.pairs import UNKNOWN_CATEGORY

from .attention_losses import attention_loss
from .modeling.model import VsamOutput


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


class VsamLoss(nn.Module):
    """The sum of the three terms.

    Its state dict holds what it learns: log τ, if τ is learned, else nothing.

    Args:
        class_weights: (K,), see `inverse_frequency_weights`.
        pose_weight: λ of the attention term; 0 leaves it out.
        attribute_weight: Of the attribute term.
        gamma: Of the focal loss.
        regulariser: How the attention term is measured; see `attention_loss`.
        temperature: τ of its soft maximum, above 0.
        learn_temperature: τ is only where it starts; log τ is a parameter, so that τ stays
            positive.
        distributions: The maps are those of region attention, which sum to 1.
    """

    def __init__(
        self,
        *,
        class_weights: torch.Tensor,
        pose_weight: float = 10.0,
        attribute_weight: float = 1.0,
        gamma: float = 2.0,
        regulariser: str = "l2",
        temperature: float = 1.0,
        learn_temperature: bool = False,
        distributions: bool = False,
    ) -> None:
        super().__init__()
        self.class_weights: torch.Tensor
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.pose_weight, self.attribute_weight, self.gamma = pose_weight, attribute_weight, gamma
        self.regulariser, self.learns_temperature = regulariser, learn_temperature
        self.distributions = distributions
        self.log_temperature: torch.Tensor
        log_temperature = torch.tensor(math.log(temperature))
        if learn_temperature:
            self.log_temperature = nn.Parameter(log_temperature)
        else:
            self.register_buffer("log_temperature", log_temperature, persistent=False)

    @property
    def temperature(self) -> torch.Tensor:
        """τ, ()."""
        return self.log_temperature.exp()

    def forward(
        self,
        output: VsamOutput,
        *,
        category: torch.Tensor,
        attributes: torch.Tensor,
        heatmap: torch.Tensor,
        has_pose: torch.Tensor,
        pose_weight: float | None = None,
    ) -> LossTerms:
        """Compute the loss of a batch.

        It is computed in float32 whatever the network's precision: the soft maximum over thousands
        of pixels needs it.

        Args:
            output: The network's.
            category: As in `Pair`, like all that follow.
            attributes: (B, A).
            heatmap: (B, R, h, w), one for each of the output's R maps.
            has_pose: (B,).
            pose_weight: λ of this step, where a schedule changes it.
        """
        if pose_weight is None:
            pose_weight = self.pose_weight
        with torch.autocast(output.category_logits.device.type, enabled=False):
            of_category = category_loss(
                output.category_logits.float(), category, self.class_weights
            )
            of_attributes = attribute_loss(
                output.attribute_logits.float(), attributes, gamma=self.gamma
            )
            of_attention = attention_loss(
                output.attention.float(),
                heatmap,
                has_pose,
                regulariser=self.regulariser,
                temperature=self.temperature,
                distributions=self.distributions,
            )
            total = of_category + self.attribute_weight * of_attributes
            # DistributedDataParallel wants to see every parameter in every step.
            if pose_weight or self.learns_temperature:
                total = total + pose_weight * of_attention
        return LossTerms(total, of_category, of_attributes, of_attention)
