"""From a decoded photo to the network's input: the one place that training and inference share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from vsam_heatmaps.errors import expected

INTERPOLATIONS = ("bilinear", "nearest")
COLOURS = ("rgb", "bgr")
PIXEL_MAXIMA = (1, 255)
_MAX_SIZE = 2048


@dataclass(frozen=True)
class Preprocessing:
    """How a photo becomes the network's input. It belongs to a checkpoint and is saved with it.

    The photo is squashed to a square, as its heatmap is. The defaults are torchvision's for VGG.

    Attributes:
        image_size: Height and width of the input in pixels.
        interpolation: `bilinear` (with antialiasing) or `nearest` (pixel centres, as Pillow does).
        colour: Order of the channels, `rgb` or `bgr`.
        mean: Subtracted from each channel, in the order of `colour` and in units of `pixel_max`.
        std: Each channel is divided by it afterwards; positive.
        pixel_max: What the brightest level becomes before: 1 brings levels to 0..1, 255 leaves them
            as they are.
    """

    image_size: int = 224
    interpolation: str = "bilinear"
    colour: str = "rgb"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    pixel_max: int = 1

    def __post_init__(self) -> None:
        # Of which number it must be a multiple depends on the model. Descriptions may come from
        # anywhere: the bound keeps a bad one from taking all memory.
        if not 32 <= self.image_size <= _MAX_SIZE:
            raise expected("image_size", f"from 32 to {_MAX_SIZE} pixels", self.image_size)
        if self.interpolation not in INTERPOLATIONS:
            raise expected("interpolation", f"one of {INTERPOLATIONS}", self.interpolation)
        if self.colour not in COLOURS:
            raise expected("colour", f"one of {COLOURS}", self.colour)
        if len(self.mean) != 3 or not all(math.isfinite(value) for value in self.mean):
            raise expected("mean", "three finite numbers", self.mean)
        if len(self.std) != 3 or not all(0 < value < math.inf for value in self.std):
            raise expected("std", "three positive numbers", self.std)
        if self.pixel_max not in PIXEL_MAXIMA:
            raise expected("pixel_max", f"one of {PIXEL_MAXIMA}", self.pixel_max)

    def resize(self, photo: NDArray[np.uint8], size: int | None = None) -> torch.Tensor:
        """Squash a photo to a square.

        Args:
            photo: (H, W, 3) uint8 RGB.
            size: Height and width in pixels; by default `image_size`.

        Returns:
            (3, size, size) uint8 RGB.
        """
        side = size or self.image_size
        if self.interpolation == "nearest":
            rows, columns = (_nearest(extent, side) for extent in photo.shape[:2])
            return torch.from_numpy(photo[rows[:, None], columns]).permute(2, 0, 1)
        # (H, W, 3) -> (3, H, W), without a copy: torchvision resizes this memory layout fastest.
        pixels = torch.from_numpy(np.require(photo, requirements=["C", "W"])).permute(2, 0, 1)
        return functional.resize(
            pixels,
            [side, side],
            interpolation=v2.InterpolationMode.BILINEAR,
            antialias=True,
        )

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """Scale pixels to the network's range.

        Args:
            pixels: (..., 3, S, S) uint8 RGB.

        Returns:
            (..., 3, S, S) float32.
        """
        if self.colour == "bgr":
            pixels = pixels.flip(-3)
        # Levels are not divided and multiplied again: each step would lose some 1e-5 of them.
        values = functional.to_dtype(pixels, torch.float32, scale=self.pixel_max == 1)
        return functional.normalize(values, list(self.mean), list(self.std))

    def denormalize(self, inputs: torch.Tensor) -> torch.Tensor:
        """Undo `normalize`: (..., 3, S, S) float32 to uint8 RGB."""
        mean = torch.tensor(self.mean).view(3, 1, 1)
        std = torch.tensor(self.std).view(3, 1, 1)
        levels = (inputs * std + mean).mul(255 / self.pixel_max)
        pixels = levels.round().clamp(0, 255).to(torch.uint8)
        return pixels.flip(-3) if self.colour == "bgr" else pixels

    def __call__(self, photo: NDArray[np.uint8]) -> torch.Tensor:
        """Turn an (H, W, 3) uint8 RGB photo into (3, image_size, image_size) float32."""
        return self.normalize(self.resize(photo))


def _nearest(extent: int, side: int) -> NDArray[np.int64]:
    """Pick the pixels of one axis as Pillow does, (side,).

    Where a centre falls between two pixels, which happens in every photo whose side is a multiple
    of 64, rounding decides: torch's `nearest-exact` goes another way. Pillow adds up the steps.
    """
    step = extent / side
    centres = np.add.accumulate([0.5 * step] + [step] * (side - 1))
    return np.minimum(centres.astype(np.int64), extent - 1)


class PairedAugmentation:
    """Crops, mirrors and recolours a photo, and moves its heatmap the same way.

    Args:
        size: Height and width of the results in pixels.
        scale: Range of the share of the area that a crop keeps.
        ratio: Range of a crop's width by its height.
        colour: Strength of changes in brightness, contrast and saturation.
    """

    def __init__(
        self,
        size: int,
        *,
        scale: tuple[float, float] = (0.7, 1.0),
        ratio: tuple[float, float] = (0.85, 1.18),
        colour: float = 0.25,
    ) -> None:
        # Both are tv_tensors of the same side, so that one draw of the crop serves both.
        self._geometric = v2.Compose(
            [
                v2.RandomResizedCrop([size, size], scale=scale, ratio=ratio, antialias=True),
                v2.RandomHorizontalFlip(),
            ]
        )
        self._photometric = v2.ColorJitter(colour, colour, colour)

    def __call__(
        self, photo: torch.Tensor, heatmap: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Augment a pair.

        Args:
            photo: (3, L, L) uint8 RGB.
            heatmap: (R, L, L) float, over the same square.

        Returns:
            The photo, (3, size, size) uint8, and the heatmap, (R, size, size) float.
        """
        from torchvision import tv_tensors

        moved, map_moved = self._geometric(tv_tensors.Image(photo), tv_tensors.Image(heatmap))
        return self._photometric(moved).as_subclass(torch.Tensor), map_moved.as_subclass(
            torch.Tensor
        )
