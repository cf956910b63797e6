"""Region attention: one map for each body region, and heads that read all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from .backbones.interface import Backbone
from .model import TaggingModel, VsamOutput

# How fast the vectors of an average photo follow the photos of a step, as batch normalisation's.
_MOMENTUM = 0.1


class RegionAttention(nn.Module):
    """A map for each region: 1×1 convolution, ReLU, 3×3 convolution, softmax over the pixels.

    Args:
        in_channels: Channels of the features.
        channels: Channels between the convolutions.
        regions: Number of regions R.
    """

    def __init__(self, in_channels: int, channels: int, regions: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, channels, kernel_size=1)
        self.locate = nn.Conv2d(channels, regions, kernel_size=3, padding=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Compute the maps.

        Args:
            features: (B, C, H, W).

        Returns:
            (B, R, H, W), at least 0; each map sums to 1. At least float32.
        """
        scores = self.locate(F.relu(self.squeeze(features)))
        wide = torch.promote_types(scores.dtype, torch.float32)
        # (B, R, H, W) -> (B, R, H·W) -> (B, R, H, W)
        return scores.flatten(2).to(wide).softmax(dim=2).view(scores.shape)


class RegionHead(nn.Module):
    """A linear layer over the vectors of all regions, with weights of its own for each.

    Args:
        regions: Number of regions R.
        channels: Length C of a vector.
        outputs: Number of logits.
        dropout: Probability that a number of a vector is dropped in training.
    """

    def __init__(self, regions: int, channels: int, outputs: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(regions * channels, outputs)
        self._regions = regions

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Map (B, R, C) vectors to (B, outputs) logits."""
        return self.linear(self.dropout(vectors.flatten(1)))  # (B, R, C) -> (B, R·C)

    def contributions(self, vectors: torch.Tensor, usual: torch.Tensor) -> torch.Tensor:
        """Say what each region adds to each logit beyond what usual vectors add.

        Summed over the regions it is the difference between the two photos' logits.

        Args:
            vectors: (B, R, C).
            usual: (R, C).

        Returns:
            (B, R, outputs).
        """
        # (outputs, R·C) -> (outputs, R, C) -> (R, C, outputs)
        weights = self.linear.weight.unflatten(1, (self._regions, -1)).permute(1, 2, 0)
        # (R, B, C) @ (R, C, outputs) -> (R, B, outputs) -> (B, R, outputs)
        return ((vectors - usual).transpose(0, 1) @ weights).transpose(0, 1)


class RegionVSAM(TaggingModel):
    """VSAM with region attention.

    The features are normalised, R maps are computed from them, and they are pooled once with each
    map. The heads read the R vectors: sleeves at the elbows, shoes at the feet.

    Args:
        features: The backbone; it is cut where its features would become coarser than its third
            stage, since maps of 7×7 pixels can't tell body parts apart.
        regions: Number of regions R.
        categories: Number of classes K.
        attributes: Number of attributes A.
        dropout: In the heads.
    """

    def __init__(
        self,
        features: Backbone,
        *,
        regions: int,
        categories: int,
        attributes: int,
        dropout: float,
    ) -> None:
        features.cut()
        super().__init__(features)
        channels = features.out_channels
        self.norm = nn.BatchNorm2d(channels)
        self.attention = RegionAttention(channels, channels // 4, regions)
        self.category_head = RegionHead(regions, channels, categories, dropout=dropout)
        self.attribute_head = RegionHead(regions, channels, attributes, dropout=dropout)
        self.usual_vectors: torch.Tensor
        self.register_buffer("usual_vectors", torch.zeros(regions, channels))

    def forward(self, images: torch.Tensor) -> VsamOutput:
        """Tag a batch; see `TaggingModel`."""
        return self.read(self.features(images, _last_stage))

    def read(self, features: torch.Tensor, maps: torch.Tensor | None = None) -> VsamOutput:
        """Tag a batch from the backbone's features.

        Args:
            features: (B, C, H, W), as the backbone gives them.
            maps: (B, R, H, W), at least 0, each summing to 1, or to 0 where the region is not to be
                seen; pools with these maps instead of the model's own. So a model can be trained
                and measured with the true pose, which bounds what supervised maps can reach.
        """
        features = self.norm(features)
        if maps is None:
            maps = self.attention(features)
        vectors = _pool(features, maps)
        if self.training:
            self._follow(vectors.detach())
        return VsamOutput(
            self.category_head(vectors),
            self.attribute_head(vectors),
            maps,
            self.attribute_head.contributions(vectors, self.usual_vectors),
        )

    def _follow(self, vectors: torch.Tensor) -> None:
        """Move the usual vectors towards those of a step's photos, (B, R, C); the first sets them.

        Else what zeros leave would be in the contributions of a run of few steps.
        """
        usual = self.usual_vectors
        # A tensor, so that a GPU need not be waited for.
        momentum = torch.where((usual == 0).all(), 1.0, _MOMENTUM).to(usual)
        usual.lerp_(vectors.mean(dim=0).to(usual), momentum)


def _pool(features: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Weigh the pixels with each map: (B, C, H, W) and (B, R, H, W) to (B, R, C)."""
    pixels = features.flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, H·W, C)
    return maps.to(pixels.dtype).flatten(2) @ pixels  # (B, R, H·W) @ (B, H·W, C)


def _last_stage(stages: Sequence[torch.Tensor]) -> torch.Tensor:
    """Let the backbone go on as it is."""
    return stages[-1]
