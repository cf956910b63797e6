"""Where the model should look: the wearer's pose, if what finds poses is on this machine."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vsam_heatmaps.engines import choose_engine
from vsam_heatmaps.errors import VsamError
from vsam_heatmaps.landmarks import PARTS, REGIONS
from vsam_heatmaps.pose_model import cached_pose_model, find_pose_model
from vsam_heatmaps.poses import PoseEstimator
from vsam_heatmaps.rendering import RenderOptions, compose_regions, render_heatmaps

_RENDERED = RenderOptions(side=112)
WHOLE = "full"
"""The region that a model with one map is trained on: all but the head."""


class NoPoseError(Exception):
    """There is no pose to show; the message is a sentence that says why."""


class PoseFinder:
    """Finds the main person in a photo. What it needs is loaded with the first photo.

    Nothing is fetched: the networks must be in the user's cache folder, or be named.

    Args:
        model: `.task` bundle of the pose networks.

    Raises:
        VsamError: If a model is named that is missing or damaged.
    """

    def __init__(self, model: Path | None = None) -> None:
        self._model = None if model is None else find_pose_model(model)
        self._estimator: PoseEstimator | None = None
        self._turn = threading.Lock()  # MediaPipe's landmarker takes one photo at a time

    def find(self, photo: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Find the main person's keypoints, (33, 4); see `vsam_heatmaps.poses.Poses`.

        Raises:
            NoPoseError: If nobody was found, or poses can't be found here.
        """
        with self._turn:
            if self._estimator is None:
                self._estimator = self._load()
            poses = self._estimator.estimate(photo)
        if not len(poses):
            raise NoPoseError(
                "Nobody was found in this photo, so there is no pose to compare with."
            )
        return np.asarray(poses.keypoints[0])

    def close(self) -> None:
        """Free the networks."""
        with self._turn:
            if self._estimator is not None:
                self._estimator.close()

    def _load(self) -> PoseEstimator:
        if not any(importlib.util.find_spec(name) for name in ("mediapipe", "openvino")):
            raise NoPoseError(
                "Poses need MediaPipe, which isn't installed: pip install 'vsam[extract]'."
            )
        model = self._model or cached_pose_model()
        if model is None:
            raise NoPoseError(
                "The pose networks are not on this machine yet, and this page fetches nothing: "
                "the first vsam-heatmaps extract brings them."
            )
        try:
            return choose_engine("auto", model).estimator()
        except VsamError as error:
            raise NoPoseError(f"Poses can't be found: {error}") from error


def pose_maps(keypoints: NDArray[np.float32], regions: Sequence[str]) -> list[NDArray[np.uint8]]:
    """Render the maps that attention maps should be like.

    Args:
        keypoints: (33, 4); see `vsam_heatmaps.poses.Poses`.
        regions: The attention maps' names; what is no region of the body gets the map of the whole.

    Returns:
        (112, 112) uint8 for each region, in order; 255 = 1.0.
    """
    parts, names = render_heatmaps(keypoints, _RENDERED), _RENDERED.channel_names
    known = [name if name in PARTS or name in REGIONS else WHOLE for name in regions]
    return list(compose_regions(parts, names, known))
