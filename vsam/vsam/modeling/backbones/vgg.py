"""VGG-16, the published model's backbone, of any width."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torchvision.models import get_model
from torchvision.models.vgg import make_layers

from ..plan import VggPlan
from .interface import Attend, Backbone

VGG, VGG_BN = "vgg16", "vgg16_bn"
_ATTENDED_BLOCKS = (2, 3, 4)


class VggBackbone(nn.Sequential, Backbone):
    """VGG's convolution blocks as torchvision builds them: one sequence, each block ends in a pool.

    The stages are the outputs of blocks 2 to 4, after pooling.

    Args:
        plan: Channels of each block.
        batch_norm: Normalise after each convolution.
    """

    has_initial_weights = False

    def __init__(self, plan: VggPlan, *, batch_norm: bool) -> None:
        layers: list[str | int] = []
        for block in plan.blocks:
            layers += [*block, "M"]
        super().__init__(*make_layers(layers, batch_norm=batch_norm))
        self.name = VGG_BN if batch_norm else VGG
        self._plan = plan
        first, second, third = _ATTENDED_BLOCKS
        self.stage_channels = (plan.channels(first), plan.channels(second), plan.channels(third))
        self.stage_strides = (plan.stride(first), plan.stride(second), plan.stride(third))
        self.out_channels = plan.channels(len(plan.blocks))
        self.out_stride = plan.stride(len(plan.blocks))
        pools = [i for i, layer in enumerate(self) if isinstance(layer, nn.MaxPool2d)]
        self._attended = [pools[block - 1] for block in _ATTENDED_BLOCKS]

    def __getitem__(self, index: Any) -> Any:
        """Give a layer or a run of them, which is no backbone any more."""
        return nn.Sequential(*self.children())[index]

    def forward(self, images: torch.Tensor, attend: Attend) -> torch.Tensor:  # type: ignore[override]
        """Compute the features; see `Backbone`."""
        stages = []
        x = images
        for index, layer in enumerate(self):
            x = layer(x)
            if index in self._attended:
                stages.append(x)
            if index == self._attended[-1]:
                x = attend(stages)
        return x

    def _drop_last_stage(self) -> None:
        del self[self._attended[-1] + 1 :]

    def _anew(self) -> VggBackbone:
        return VggBackbone(self._plan, batch_norm=self.name == VGG_BN)

    def library_names(self) -> dict[str, str]:
        """Map the names of the state dict to torchvision's."""
        return {name: f"features.{name}" for name in self.state_dict()}

    def library_model(self) -> nn.Module:
        """Build torchvision's VGG-16, which has width 1."""
        return get_model(self.name, weights=None)
