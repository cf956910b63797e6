"""Grad-CAM: which places of a photo speak for a category, for models with and without attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from vsam_heatmaps.errors import expected

from .modeling.model import TaggingModel


def grad_cam(
    model: TaggingModel, images: torch.Tensor, category: torch.Tensor | None = None
) -> torch.Tensor:
    """Weigh the backbone's last feature maps by how much they matter for a category's logit.

    ReLU(Σ_k α_k A_k), where α_k is the mean over all places of ∂logit/∂A_k (Selvaraju et al.,
    *Grad-CAM*, ICCV 2017, equations 1 and 2). A are the feature maps that the backbone ends with;
    where it ends with a pooling layer, as VGG-16 does, those before it: of its last convolution,
    after normalisation and ReLU. No gradient is left on the model.

    Args:
        model: In evaluation mode: with batch normalisation, photos would depend on each other.
        images: (B, 3, S, S) float32, normalised as the checkpoint's preprocessing says.
        category: (B,) int64, class indices; by default those that the model predicts.

    Returns:
        (B, h, w), 0 or more, over the squashed photo. All zero where nothing speaks for the
        category.

    Raises:
        VsamError: If the model is in training mode.
    """
    if model.training:
        raise expected("model", "in evaluation mode", "one in training mode")
    maps: list[torch.Tensor] = []

    def begin(features: torch.Tensor) -> torch.Tensor:
        """Let the graph begin here: what comes before is computed, but not differentiated."""
        torch.set_grad_enabled(True)
        maps.append(features.detach().requires_grad_())
        return maps[0]

    last = list(model.features.modules())[-1]
    if isinstance(last, nn.MaxPool2d | nn.AvgPool2d):
        hook = last.register_forward_pre_hook(lambda _, inputs: begin(inputs[0]))
    else:
        hook = model.features.register_forward_hook(lambda _, __, output: begin(output))
    with torch.inference_mode(False), torch.no_grad():  # both also end what `begin` switches on
        try:
            logits = model(images).category_logits  # (B, K)
        finally:
            hook.remove()
        if category is None:
            category = logits.argmax(dim=1)
        chosen = logits.gather(1, category[:, None])  # (B, K) -> (B, 1)
        (gradient,) = torch.autograd.grad(chosen.sum(), maps[0])
    weights = gradient.mean(dim=(2, 3), keepdim=True)  # (B, C, h, w) -> (B, C, 1, 1)
    return F.relu((weights * maps[0].detach()).sum(dim=1))  # (B, C, h, w) -> (B, h, w)
