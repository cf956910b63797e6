"""What a shard holds: records of photos, and what all of them share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from ..landmarks import landmark_set
from ..rendering import RenderOptions, compose_regions

FORMAT = "vsam-heatmaps"
FORMAT_VERSION = 1

NO_HASH = bytes(32)
"""The hash of a photo whose file could not be opened."""


class Status(IntEnum):
    """What became of a photo."""

    OK = 0
    NO_POSE = 1
    UNREADABLE = 2


@dataclass(frozen=True)
class ShardInfo:
    """What all shards of a folder share. Two extractions fit together if this is equal.

    Attributes:
        side: Height and width of the maps in pixels.
        sigma: Standard deviation of the Gaussians as a share of the side.
        channels: Name of each channel.
        min_visibility: Joints below were left out.
        backend: Name of the pose estimator, or of the keypoint file's format.
        pose_model_sha256: SHA-256 of the pose model's file, or of the keypoint file.
        min_confidence: Least confidence at which the estimator reported a person.
        max_pixels: Photos with more pixels count as unreadable.
        precision: Arithmetic of the estimator's networks.
        crops: Whether people of whom only a part shows were looked for.
        region_network_sha256: SHA-256 of the weights that found them, empty without.
        people: Whom the maps show: `main` or `all`.
        landmarks: Which landmarks the keypoints are, a name in `LANDMARK_SETS`.
    """

    side: int
    sigma: float
    channels: tuple[str, ...]
    min_visibility: float
    backend: str
    pose_model_sha256: str
    min_confidence: float
    max_pixels: int
    precision: str = "f32"
    crops: bool = False
    region_network_sha256: str = ""
    people: str = "main"
    landmarks: str = "body"

    @property
    def render_options(self) -> RenderOptions:
        """The options that rendered these maps."""
        parts = RenderOptions(self.side, self.sigma, "parts", self.min_visibility, self.landmarks)
        kinds = (parts, replace(parts, channels="joints"))
        return {options.channel_names: options for options in kinds}[self.channels]


@dataclass(frozen=True)
class Record:
    """One photo's entry.

    Attributes:
        id: The photo's path relative to the root of the photos.
        status: `OK`, `NO_POSE` or `UNREADABLE`.
        heatmaps: (C, H, W) uint8, 255 = 1.0; zeros without a pose.
        channels: Names of the C channels.
        keypoints: (K, 4) float32: x, y as shares of the upright photo's width and height,
            visibility, presence of K landmarks, see `Poses`; NaN without a pose.
        size: Width and height of the upright photo in pixels; (0, 0) if unreadable.
        sha256: SHA-256 of the photo's file; `NO_HASH` if it could not be opened.
        reason: Why the photo is unreadable, else empty.
        people: How many people were found.
    """

    id: str
    status: Status
    heatmaps: NDArray[np.uint8]
    channels: tuple[str, ...]
    keypoints: NDArray[np.float32]
    size: tuple[int, int]
    sha256: bytes
    reason: str = ""
    people: int = 0

    def region(self, name: str) -> NDArray[np.uint8]:
        """Compose one region's map, (H, W) uint8; see `compose_regions`."""
        return self.regions([name])[0]

    def regions(self, names: Sequence[str]) -> NDArray[np.uint8]:
        """Compose named regions, (R, H, W) uint8; see `compose_regions`."""
        return compose_regions(self.heatmaps, self.channels, names)


def differences(a: ShardInfo, b: ShardInfo) -> str:
    """Name what differs between two sets of options."""
    return ", ".join(
        f"{field.name} {getattr(a, field.name)!r} and {getattr(b, field.name)!r}"
        for field in fields(ShardInfo)
        if getattr(a, field.name) != getattr(b, field.name)
    )


def no_keypoints(landmarks: str = "body") -> NDArray[np.float32]:
    """Make the keypoints of a photo without a pose: (K, 4) NaN, of a set in `LANDMARK_SETS`."""
    return np.full((len(landmark_set(landmarks)), 4), np.nan, np.float32)
