"""Keypoints to heatmaps, and heatmaps to the regions made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .errors import VsamError, expected
from .landmarks import LANDMARK_SETS, LandmarkSet, landmark_set

CHANNELS = ("parts", "joints")
"""What the channels of a heatmap can be: the parts of the landmark set, or its every landmark."""


@dataclass(frozen=True)
class RenderOptions:
    """How keypoints become heatmaps.

    Attributes:
        side: Height and width of a map in pixels. 56 is the side of VSAM's attention map.
        sigma: Standard deviation of a joint's Gaussian as a share of the side. Tighter maps made
            better features: 0.05 beat 0.08 and 0.12.
        channels: `parts` or `joints`; see `CHANNELS`.
        min_visibility: Joints that are less visible, 0..1, are left out.
        landmarks: Which landmarks the keypoints are, a name in `LANDMARK_SETS`.
    """

    side: int = 56
    sigma: float = 0.05
    channels: str = "parts"
    min_visibility: float = 0.5
    landmarks: str = "body"

    def __post_init__(self) -> None:
        if not 4 <= self.side <= 1024:
            raise expected("side", "from 4 to 1024 pixels", self.side)
        if not 0 < self.sigma <= 1:
            raise expected("sigma", "a share of the side above 0 and up to 1", self.sigma)
        if self.channels not in CHANNELS:
            raise expected("channels", f"one of {', '.join(CHANNELS)}", self.channels)
        if not 0 <= self.min_visibility <= 1:
            raise expected("min_visibility", "from 0 to 1", self.min_visibility)
        landmark_set(self.landmarks)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the channels, in order."""
        landmarks = landmark_set(self.landmarks)
        return landmarks.landmarks if self.channels == "joints" else tuple(landmarks.parts)


def render_heatmaps(
    keypoints: NDArray[np.float32], options: RenderOptions | None = None
) -> NDArray[np.uint8]:
    """Render one person's keypoints as Gaussian heatmaps.

    A channel is max over its joints j of c_j · exp(−((u − x_j)² + (v − y_j)²) / 2σ²), where
    (u, v) = ((column + ½) / side, (row + ½) / side) is a pixel's centre, and c_j the joint's
    visibility. Frame: shares of the photo's width and height, so the photo is squashed to a square
    exactly as the network sees it. Nothing is rounded before the last step, so a peak keeps its
    sub-pixel position. (The form of Tompson et al., 2014, with a maximum instead of a sum.)

    Args:
        keypoints: (K, 4) x, y, visibility, presence of the K landmarks of the set; see `Poses`.
        options: See `RenderOptions`.

    Returns:
        (C, side, side) uint8, 255 = 1.0. Joints outside the photo, invisible or NaN add nothing.

    Raises:
        VsamError: If these are not the keypoints of the options' landmark set.

    >>> keypoints = np.full((33, 4), np.nan, np.float32)
    >>> keypoints[0] = 0.25, 0.5, 1, 1  # the nose: a quarter from the left, halfway down
    >>> maps = render_heatmaps(keypoints, RenderOptions(side=56))
    >>> maps.shape, maps.dtype
    ((7, 56, 56), dtype('uint8'))
    >>> [int(peak) for peak in maps.max(axis=(1, 2))]  # of head, shoulders, elbows …
    [247, 0, 0, 0, 0, 0, 0]
    >>> divmod(int(maps[0].argmax()), 56)  # row and column of the head's peak
    (27, 13)
    """
    options = options or RenderOptions()
    shape = (len(landmark_set(options.landmarks)), 4)
    if keypoints.shape != shape:
        raise expected(
            "keypoints",
            f"of shape {shape}, the {shape[0]} {options.landmarks} landmarks",
            keypoints.shape,
        )
    x, y, visibility = (keypoints[:, column].astype(np.float64) for column in range(3))
    with np.errstate(invalid="ignore"):  # NaN compares as False: a joint nobody knows is left out
        drawn = (visibility >= options.min_visibility) & (visibility > 0)
        drawn &= (x >= 0) & (x <= 1) & (y >= 0) & (y <= 1)
    centres = (np.arange(options.side) + 0.5) / options.side
    # A Gaussian over the plane is the outer product of two over the axes: (joints, side) each.
    # Joints that are not drawn have none.
    joints = np.flatnonzero(drawn)
    along_x, along_y = (
        np.exp(-((centres - axis[joints, None]) ** 2) / (2 * options.sigma**2)) for axis in (x, y)
    )
    along_y *= np.minimum(visibility[joints, None], 1)
    blobs = along_y[:, :, None] * along_x[:, None, :]  # (joints, side, side)
    maps = np.zeros((len(options.channel_names), options.side, options.side))
    for blob, joint in zip(blobs, joints, strict=True):
        channel = _channel_of(options.landmarks, options.channels)[joint]
        np.maximum(maps[channel], blob, out=maps[channel])
    return np.rint(maps * 255).astype(np.uint8)


@cache
def _channel_of(landmarks: str, channels: str) -> tuple[int, ...]:
    """Look up the channel that each landmark is drawn in: parts share none."""
    drawn = LANDMARK_SETS[landmarks]
    if channels == "joints":
        return tuple(range(len(drawn)))
    part_of = {
        joint: number for number, part in enumerate(drawn.parts) for joint in drawn.parts[part]
    }
    return tuple(part_of[joint] for joint in drawn.landmarks)


def compose_regions(
    heatmaps: NDArray[np.uint8], channels: Sequence[str], regions: Sequence[str]
) -> NDArray[np.uint8]:
    """Compose named regions from stored channels: the maximum over the channels they hold.

    Args:
        heatmaps: (C, H, W) maps.
        channels: Names of the C channels.
        regions: Names of parts, regions or single landmarks of the set that the channels show.

    Returns:
        (R, H, W) uint8, in the order of `regions`.

    Raises:
        VsamError: If a region is unknown or can't be made of these channels.
    """
    position = {name: index for index, name in enumerate(channels)}
    rows = [[position[name] for name in _members(region, position)] for region in regions]
    # (C, H, W) -> (R, H, W)
    composed = [heatmaps[members].max(axis=0) for members in rows]
    return np.stack(composed) if composed else heatmaps[:0]


def _members(region: str, position: Mapping[str, int]) -> tuple[str, ...]:
    if region in position:
        return (region,)
    for landmarks in LANDMARK_SETS.values():
        for members in (landmarks.regions.get(region), _joints_or_none(landmarks, region)):
            if members and all(name in position for name in members):
                return members
    raise _cannot_compose(region, tuple(position))


def _joints_or_none(landmarks: LandmarkSet, region: str) -> tuple[str, ...] | None:
    return landmarks.joints_of(region) if region in landmarks.groups else None


def _cannot_compose(region: str, channels: Sequence[str]) -> VsamError:
    """Say why: the region is of the other set, needs other channels, or does not exist."""
    made = (
        f"The region {region!r} can't be made of these heatmaps' channels ({', '.join(channels)})"
    )
    shown = [
        one for one in LANDMARK_SETS.values() if {*one.parts, *one.landmarks}.issuperset(channels)
    ]
    for one in LANDMARK_SETS.values():
        if region in one.groups or region in one.landmarks:
            if one in shown or not shown:
                return VsamError(f"{made}. Extract them again with other --channels.")
            return VsamError(
                f"{made}: they show {shown[0].name} landmarks. "
                f"Choose one of {', '.join(shown[0].groups)}."
            )
    known = [name for one in shown or LANDMARK_SETS.values() for name in one.groups]
    return expected("region", f"one of {', '.join(known)} or a landmark's name", repr(region))
