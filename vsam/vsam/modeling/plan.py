"""VGG-16's layer plan as data: channels, strides and sides are derived from it, never repeated."""

from __future__ import annotations

from dataclasses import dataclass

from torchvision.models.vgg import cfgs

from vsam_heatmaps.errors import expected

# Of the published model; VGG-16 itself doesn't fix it.
_HEAD_CHANNELS = 1024


@dataclass(frozen=True)
class VggPlan:
    """Channels of each convolution, block by block; each block ends by halving the side.

    Attributes:
        blocks: Output channels of the convolutions of each block.
        head_channels: Channels of each head's convolution.
    """

    blocks: tuple[tuple[int, ...], ...]
    head_channels: int

    def stride(self, block: int) -> int:
        """Pixels of the input for one of a block's output (1 is the first).

        >>> vgg16_plan(1.0).stride(2)
        4
        """
        return 2**block

    def channels(self, block: int) -> int:
        """Output channels of a block (1 is the first)."""
        return self.blocks[block - 1][-1]


def vgg16_plan(width: float) -> VggPlan:
    """Make the plan of VGG-16 (configuration D of Simonyan and Zisserman, 2015).

    Args:
        width: Factor on all numbers of channels, above 0 and up to 4; they stay multiples of 8, at
            least 8.

    Raises:
        VsamError: If the width is out of its range.
    """
    if not 0 < width <= 4:
        raise expected("width", "above 0 and up to 4", width)

    def scaled(channels: int) -> int:
        return max(8, round(channels * width / 8) * 8)

    blocks: list[tuple[int, ...]] = [()]
    for layer in cfgs["D"]:
        if layer == "M":
            blocks.append(())
        else:
            blocks[-1] = (*blocks[-1], scaled(int(layer)))
    return VggPlan(tuple(filter(None, blocks)), scaled(_HEAD_CHANNELS))
