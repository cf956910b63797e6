"""What VSAM asks of a backbone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from vsam_datasets.preprocessing import Preprocessing

Attend = Callable[[Sequence[torch.Tensor]], torch.Tensor]
"""Takes the three stages, (B, C_k, H_k, W_k) each; gives what goes on in the place of the third."""


class Backbone(nn.Module):
    """Photos to features, by way of three stages that attention looks at.

    Attributes:
        name: What its library calls it.
        stage_channels: Channels C_k of the three stages.
        stage_strides: Pixels of the input for one of theirs; each divides those that follow.
        out_channels: Channels of the result.
        out_stride: Pixels of the input for one of the result's.
        has_initial_weights: Its library drew fresh weights as its authors do; else the builder
            draws them.
    """

    name: str
    stage_channels: tuple[int, int, int]
    stage_strides: tuple[int, int, int]
    out_channels: int
    out_stride: int
    has_initial_weights: bool = True
    _is_cut: bool = False

    def forward(self, images: torch.Tensor, attend: Attend) -> torch.Tensor:
        """Compute the features.

        Args:
            images: (B, 3, S, S).
            attend: Called once, when the three stages are there.

        Returns:
            (B, out_channels, S / out_stride, S / out_stride).
        """
        raise NotImplementedError

    def cut(self) -> None:
        """End at the third stage, if the last one is coarser than that."""
        if self.out_stride > self.stage_strides[-1]:
            self._drop_last_stage()
            self._is_cut = True
            self.out_channels, self.out_stride = self.stage_channels[-1], self.stage_strides[-1]

    def _drop_last_stage(self) -> None:
        """Remove the layers behind the third stage; the names of the others stay."""
        raise NotImplementedError

    def whole(self) -> Backbone:
        """Give this backbone if it is not cut, else one like it with fresh weights that isn't."""
        return self._anew() if self._is_cut else self

    def _anew(self) -> Backbone:
        """Build one like it with fresh weights, not cut."""
        raise NotImplementedError

    def library_names(self) -> dict[str, str]:
        """Map the names of the state dict to those in the library's files."""
        raise NotImplementedError

    def library_model(self) -> nn.Module:
        """Build the library's whole model, with its classifier."""
        raise NotImplementedError

    def preprocessing(self) -> Preprocessing:
        """Say what input the library's weights were trained on, whatever its size."""
        return Preprocessing()  # torchvision's is one for all models
