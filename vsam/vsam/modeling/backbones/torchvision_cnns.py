"""ResNets and ConvNeXts of torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torchvision.models import ConvNeXt, ResNet, get_model, get_model_builder, list_models

from .interface import Attend, Backbone

# The plan of both families: the stem quarters the side, each further stage halves it.
_STAGE_STRIDES = (4, 8, 16)
_OUT_STRIDE = 32


def torchvision_names() -> tuple[str, ...]:
    """Name the models that `TorchvisionBackbone` takes, in order."""
    families = {ResNet.__module__, ConvNeXt.__module__}
    return tuple(name for name in list_models() if get_model_builder(name).__module__ in families)


class TorchvisionBackbone(Backbone):
    """A ResNet or ConvNeXt without its classifier; attention looks at stages 1 to 3 of its four.

    Args:
        name: One of `torchvision_names()`.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        network: Any = get_model(name, weights=None)
        if isinstance(network, ResNet):
            self.out_channels = network.fc.in_features
            del network.fc, network.avgpool
        else:
            self.out_channels = network.classifier[-1].in_features
            del network.classifier, network.avgpool
        self.network: nn.Module = network
        _, *following = self._parts()
        first, second, third = (_first_convolution(*part).in_channels for part in following)
        self.stage_channels = (first, second, third)
        self.stage_strides, self.out_stride = _STAGE_STRIDES, _OUT_STRIDE

    def _parts(self) -> list[Sequence[nn.Module]]:
        """Give the layers of each stage, the stem with the first: four, or three of a cut one."""
        net: Any = self.network
        if isinstance(net, ResNet):
            stem = (net.conv1, net.bn1, net.relu, net.maxpool)
            last = [(net.layer4,)] if hasattr(net, "layer4") else []
            return [(*stem, net.layer1), (net.layer2,), (net.layer3,), *last]
        layers = list(net.features)  # each stage after what makes its input smaller
        return [layers[start : start + 2] for start in range(0, len(layers), 2)]

    def forward(self, images: torch.Tensor, attend: Attend) -> torch.Tensor:
        """Compute the features; see `Backbone`."""
        stages: list[torch.Tensor] = []
        x = images
        for part in self._parts():
            for layer in part:
                x = layer(x)
            stages.append(x)
            if len(stages) == len(self.stage_channels):
                x = attend(stages)
        return x

    def _drop_last_stage(self) -> None:
        net: Any = self.network
        if isinstance(net, ResNet):
            del net.layer4
        else:
            del net.features[-2:]

    def _anew(self) -> TorchvisionBackbone:
        return TorchvisionBackbone(self.name)

    def library_names(self) -> dict[str, str]:
        """Map the names of the state dict to torchvision's."""
        return {name: name.removeprefix("network.") for name in self.state_dict()}

    def library_model(self) -> nn.Module:
        """Build torchvision's whole model."""
        return get_model(self.name, weights=None)


def _first_convolution(*modules: nn.Module) -> nn.Conv2d:
    """Give the first convolution of modules; its inputs are what stands before them."""
    return next(
        layer for module in modules for layer in module.modules() if isinstance(layer, nn.Conv2d)
    )
