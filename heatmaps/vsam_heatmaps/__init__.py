"""Photos to poses to heatmap shards. Needs no torch; MediaPipe is loaded when a pose is sought."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

_HOME = {
    "LANDMARKS": "landmarks",
    "PARTS": "landmarks",
    "REGIONS": "landmarks",
    "KeypointFile": "keypoint_files",
    "MediaPipePoseEstimator": "mediapipe_backend",
    "OpenVinoPoseEstimator": "openvino_backend",
    "PoseEstimator": "poses",
    "Poses": "poses",
    "Record": "shards",
    "RenderOptions": "rendering",
    "Shards": "shards",
    "Status": "shards",
    "VsamError": "errors",
    "compose_regions": "rendering",
    "extract": "extraction",
    "list_photos": "photos",
    "open_keypoints": "keypoint_files",
    "read_photo": "images",
    "render_heatmaps": "rendering",
}

__all__ = [*_HOME, "__version__"]

if TYPE_CHECKING:
    from .errors import VsamError as VsamError
    from .extraction import extract as extract
    from .images import read_photo as read_photo
    from .keypoint_files import KeypointFile as KeypointFile
    from .keypoint_files import open_keypoints as open_keypoints
    from .landmarks import LANDMARKS as LANDMARKS
    from .landmarks import PARTS as PARTS
    from .landmarks import REGIONS as REGIONS
    from .mediapipe_backend import MediaPipePoseEstimator as MediaPipePoseEstimator
    from .openvino_backend import OpenVinoPoseEstimator as OpenVinoPoseEstimator
    from .photos import list_photos as list_photos
    from .poses import PoseEstimator as PoseEstimator
    from .poses import Poses as Poses
    from .rendering import RenderOptions as RenderOptions
    from .rendering import compose_regions as compose_regions
    from .rendering import render_heatmaps as render_heatmaps
    from .shards import Record as Record
    from .shards import Shards as Shards
    from .shards import Status as Status


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used, so that importing the package stays cheap."""
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
