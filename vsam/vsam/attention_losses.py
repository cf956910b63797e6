"""The attention term of the loss: how far maps are from the pose, by one of several measures.

Symbols: Ŝ is a map, 0..1; T its heatmap at the map's side, 0..1; S = T / ΣT, the distribution that
is wanted; P the distribution that the map stands for: softmax₂d(Ŝ/τ) of the published map, and Ŝ
itself of region attention, whose maps sum to 1. Sums run over the H·W pixels.
`vsam.config.REGULARISERS` names the measures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F

# A map with less is empty: neither the photo nor its crop shows the region; see `PairDataset`.
_MIN_MASS = 1e-3
# Keeps logarithms and their slopes finite in float32, also times a gradient scaler's factor.
_TINY = 1e-12
# The same for a probability, which falls below that where a map is sharp; its slope is 1/P times
# the softmax's own, which is P.
_LEAST_PROBABILITY = 1e-30


def log_soft_maximum(attention: torch.Tensor, temperature: torch.Tensor | float) -> torch.Tensor:
    """Turn maps into distributions over their pixels: log softmax₂d(Ŝ/τ).

    A logarithm, because a sharp distribution has pixels whose probability float32 does not tell
    from 0.

    Args:
        attention: Ŝ, (B, R, H, W).
        temperature: τ, above 0; a smaller one makes sharper distributions. Published: 1.

    Returns:
        log P, (B, R, H·W).
    """
    return (attention / temperature).flatten(2).log_softmax(dim=2)  # (B, R, H, W) -> (B, R, H·W)


def l2(log_predicted: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """‖S − P‖₂, the published measure (Ferreira et al., 2019). Where S = P its gradient is 0.

    Args:
        log_predicted: log P, (B, R, H·W).
        wanted: S, (B, R, H·W).

    Returns:
        (B, R), 0 to √2.
    """
    return torch.linalg.vector_norm(wanted - log_predicted.exp(), dim=2)


def l2_squared(log_predicted: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """‖S − P‖₂² = Σ (S − P)², the quadratic score of a distribution (Brier, 1950).

    Args:
        log_predicted: log P, (B, R, H·W).
        wanted: S, (B, R, H·W).

    Returns:
        (B, R), 0 to 2.
    """
    return (wanted - log_predicted.exp()).square().sum(dim=2)


def kl(log_predicted: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """KL(S ‖ P) = Σ S · log(S / P) in nats, with 0 · log 0 = 0 (Kullback and Leibler, 1951).

    Args:
        log_predicted: log P, (B, R, H·W).
        wanted: S, (B, R, H·W).

    Returns:
        (B, R), at least 0.
    """
    return F.kl_div(log_predicted, wanted, reduction="none").sum(dim=2)


def bce(attention: torch.Tensor, heatmap: torch.Tensor) -> torch.Tensor:
    """−1/(H·W) · Σ (T · log Ŝ + (1 − T) · log(1 − Ŝ)): binary cross-entropy of each pixel.

    It compares the map itself, without a soft maximum, as segmentation does (Long et al., 2015).
    Written out, because torch's own fails at NaN, which the training tells about with the photos'
    names, and under autocast. Arguments of the logarithms are at least 1e-12.

    Args:
        attention: Ŝ, (B, R, H·W), 0..1.
        heatmap: T, (B, R, H·W), 0..1.

    Returns:
        (B, R), at least 0.
    """
    on, off = attention.clamp(min=_TINY).log(), (1 - attention).clamp(min=_TINY).log()
    return -(heatmap * on + (1 - heatmap) * off).mean(dim=2)


_OF_DISTRIBUTIONS: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = (
    MappingProxyType({"l2": l2, "l2-squared": l2_squared, "kl": kl})
)


def attention_loss(
    attention: torch.Tensor,
    heatmap: torch.Tensor,
    has_pose: torch.Tensor,
    *,
    regulariser: str = "l2",
    temperature: torch.Tensor | float = 1.0,
    distributions: bool = False,
) -> torch.Tensor:
    """Measure how far the maps are from the pose, averaged over the B·R maps.

    The published code sums over the batch; the average keeps λ independent of the batch size. Maps
    that don't count add 0 and stay in the average.

    Args:
        attention: Ŝ, (B, R, H, W), 0..1. Without maps, R = 0, the loss is 0.
        heatmap: (B, R, h, w), 0..1; brought to the maps' side.
        has_pose: (B,) bool; the maps of a photo without a pose don't count. Neither does a map
            whose heatmap has no mass: see `Pair`.
        regulariser: `l2`, `l2-squared`, `kl` or `bce`, the functions above, or `none`, which is 0.
        temperature: τ of the soft maximum; `bce` has none.
        distributions: The maps sum to 1 and are P themselves, so there is no soft maximum. `bce`
            does not compare distributions.

    Returns:
        (), at least 0.
    """
    if regulariser == "none" or attention.shape[1] == 0:
        return attention.new_zeros(())
    assert heatmap.shape[:2] == attention.shape[:2], "one heatmap for each map"
    if heatmap.shape[-2:] != attention.shape[-2:]:
        heatmap = F.interpolate(heatmap, size=attention.shape[-2:], mode="bilinear", antialias=True)
    mass = heatmap.flatten(2)  # (B, R, H, W) -> (B, R, H·W)
    total = mass.sum(dim=2, keepdim=True)
    counted = has_pose[:, None] & (total[..., 0] > _MIN_MASS)  # (B, R)
    if regulariser == "bce":
        each = bce(attention.flatten(2), mass)
    else:
        if distributions:
            predicted = attention.flatten(2).clamp(min=_LEAST_PROBABILITY).log()
        else:
            predicted = log_soft_maximum(attention, temperature)
        each = _OF_DISTRIBUTIONS[regulariser](predicted, mass / total.clamp(min=1e-8))
    return torch.where(counted, each, 0.0).mean()
