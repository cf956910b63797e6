"""VSAM's spatial attention: one map from three stages, applied to the last of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

# The gated features are scaled up before they are added: the published model's constant.
_GAIN = 20.0
# Side of the windows in which they are averaged.
_KERNEL = 2
# In training on a CPU; see `AttentionBlock`.
_PHOTOS_AT_ONCE = 2


class FuseBlocks(nn.Module):
    """Fuses the outputs of several blocks at the side of the first: 1×1 convolution and ReLU.

    The published model resizes the deeper blocks (bilinear, aligned corners), concatenates all and
    convolves. A 1×1 convolution and bilinear resizing commute, since both are linear and act on
    different axes; so each block is convolved before it is resized, at a quarter of the work.

    Args:
        in_channels: Channels of each block, in order.
        out_channels: Channels of the result.
        batch_norm: Normalise before the ReLU.
    """

    def __init__(
        self, in_channels: Sequence[int], out_channels: int, *, batch_norm: bool = False
    ) -> None:
        super().__init__()
        self.in_channels = tuple(in_channels)
        self.conv = nn.Conv2d(sum(in_channels), out_channels, kernel_size=1)
        self.norm = nn.BatchNorm2d(out_channels) if batch_norm else nn.Identity()

    def forward(self, blocks: Sequence[torch.Tensor]) -> torch.Tensor:
        """Fuse.

        Args:
            blocks: (B, C_k, H_k, W_k) each; the first has the largest side.

        Returns:
            (B, out_channels, H_1, W_1).
        """
        size = blocks[0].shape[-2:]
        weights = self.conv.weight.split(self.in_channels, dim=1)
        fused = F.conv2d(blocks[0], weights[0], self.conv.bias)
        for block, weight in zip(blocks[1:], weights[1:], strict=True):
            # (B, C_k, H_k, W_k) -> (B, out, H_k, W_k) -> (B, out, H_1, W_1)
            fused += F.interpolate(
                F.conv2d(block, weight), size=size, mode="bilinear", align_corners=True
            )
        return F.relu(self.norm(fused), inplace=True)


class SpatialAttention(nn.Module):
    """A map out of the mean and the maximum over channels (the spatial half of CBAM, Woo 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size=7, padding=3)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Compute the map.

        Args:
            features: (B, C, H, W).

        Returns:
            (B, 1, H, W), 0..1, at least float32: in bf16 all above 0.998 would be 1, and the loss
            compares thousands of pixels.
        """
        summary = _summary_in_training(features) if self.training else _summary(features)
        wide = torch.promote_types(features.dtype, torch.float32)
        return torch.sigmoid(self.conv(summary).to(wide))


class AttentionBlock(nn.Module):
    """Fuses three stages, attends, and adds the attended features to the last of them.

    Args:
        fuse: Makes features F out of the blocks.
        attend: Makes the map Ŝ out of F.
    """

    def __init__(self, *, fuse: FuseBlocks, attend: SpatialAttention) -> None:
        super().__init__()
        self.fuse = fuse
        self.attend = attend

    def forward(self, blocks: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Attend.

        Args:
            blocks: (B, C_k, H_k, W_k) each; the last has as many channels as F. The first side is
                a multiple of the last.

        Returns:
            The last block with the attended features added, of its own shape, and the map,
            (B, 1, H_1, W_1), 0..1.
        """
        if not self._trains_in_parts(blocks[0]):
            return self._attend(*blocks)
        parts = [
            checkpoint(self._attend, *part, use_reentrant=False, preserve_rng_state=False)
            for part in zip(*(block.split(_PHOTOS_AT_ONCE) for block in blocks), strict=True)
        ]
        changed, attention = zip(*parts, strict=True)
        return torch.cat(changed), torch.cat(attention)

    def _trains_in_parts(self, block: torch.Tensor) -> bool:
        """Whether few photos at a time go through, and once more for the gradient.

        F and its gradients are a fifth of what a training of VGG-16 keeps in memory; of two photos
        they are nothing, and stay in the processor's cache, which pays for computing them twice. A
        GPU wants whole batches, and so does batch normalisation.
        """
        return (
            self.training
            and torch.is_grad_enabled()
            and block.device.type == "cpu"
            and isinstance(self.fuse.norm, nn.Identity)
        )

    def _attend(self, *blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.fuse(blocks)
        attention = self.attend(features)
        last = blocks[-1]
        # In the features' own precision: a float32 map would make a float32 copy of them.
        gate = attention.to(features.dtype)
        stride = features.shape[-1] // last.shape[-1]
        if stride == 1:  # the stages of a ViT have one side
            return last + _GAIN * features * gate, attention
        # Published: an average over kernel 2 with stride 4, so three of four pixels are skipped.
        pool = _pool_in_training if self.training else _pool
        return last + _GAIN * pool(features, gate, stride), attention


# What follows is there twice: in few steps that every runtime does well, for predictions and
# exports; and for training, in other steps whose gradients take fewer passes over the features. In
# OpenVINO the second ones would take half of the whole network's time.


def _summary(features: torch.Tensor) -> torch.Tensor:
    """Take mean and maximum over channels: (B, C, H, W) -> (B, 2, H, W)."""
    return torch.cat([features.mean(1, keepdim=True), features.amax(1, keepdim=True)], dim=1)


def _summary_in_training(features: torch.Tensor) -> torch.Tensor:
    """As `_summary`. The maximum's gradient goes to one channel, where `_summary` shares it."""
    # (B, C, H, W) -> (B, H, W, C): a view, where channels lie last in memory
    pixels = features.movedim(1, -1)
    wide = torch.promote_types(features.dtype, torch.float32)
    # A sum, because the gradient of a mean would be divided once for each channel.
    mean = (pixels.sum(dim=-1, dtype=wide) / pixels.shape[-1]).to(features.dtype)
    return torch.stack([mean, pixels.max(dim=-1).values], dim=1)


def _pool(features: torch.Tensor, gate: torch.Tensor, stride: int) -> torch.Tensor:
    """Gate and pool: (B, C, H_1, W_1) -> (B, C, H_last, W_last)."""
    return F.avg_pool2d(features * gate, _KERNEL, stride)


def _pool_in_training(features: torch.Tensor, gate: torch.Tensor, stride: int) -> torch.Tensor:
    """As `_pool`, but pixels are skipped before they are gated, which spares a copy of all."""
    windows = _windows(features, stride) * _windows(gate, stride)
    return windows.mean(dim=(2, 4)).movedim(-1, 1)  # (B, h, 2, w, 2, C) -> (B, C, h, w)


def _windows(maps: torch.Tensor, stride: int) -> torch.Tensor:
    """View the windows of the pooling: (B, C, h·s, w·s) -> (B, h, 2, w, 2, C)."""
    grid = maps.movedim(1, -1).unflatten(2, (-1, stride)).unflatten(1, (-1, stride))
    return grid[:, :, :_KERNEL, :, :_KERNEL]
