"""The estimators that `crops.py` compares.

A pose is (33, 4) x, y in pixels of the photo or crop, visibility, presence.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vsam_heatmaps.blazepose import detection, landmarks
from vsam_heatmaps.blazepose.detection import decode_detections, letterbox
from vsam_heatmaps.blazepose.landmarks import decode_landmarks
from vsam_heatmaps.blazepose.regions import Region
from vsam_heatmaps.openvino_backend import OpenVinoPoseEstimator
from vsam_heatmaps.openvino_networks import OpenVinoNetworks
from vsam_heatmaps.pose_model import find_pose_model
from vsam_heatmaps.poses import PoseEstimator

Image = NDArray[np.uint8]
Array = NDArray[np.floating]

_LEAST_CONFIDENCE = 0.4  # below MediaPipe's 0.5: rounding must not lose a person whom it found


class Oracle:
    """The landmark network, told by the detector on the whole photo where to look."""

    def __init__(self) -> None:
        self._networks = OpenVinoNetworks(find_pose_model(), precision="f32")

    def region(self, photo: Image) -> Region | None:
        """Find the region on a whole photo; None if the detector sees nobody."""
        frame = letterbox(photo.shape[1], photo.shape[0])
        seen = self._networks.detect(frame.cut(photo, detection.INPUT_SIDE, repeat_border=False))
        people = decode_detections(seen.boxes, seen.logits, frame, min_confidence=_LEAST_CONFIDENCE)
        return people.region(0) if len(people) else None

    def pose(self, crop: Image, region: Region) -> Array:
        """Look at a region of a crop."""
        view = region.cut(crop, landmarks.INPUT_SIDE, repeat_border=True)
        return decode_landmarks(*self._networks.find_landmarks(view), region).keypoints


def estimated(estimator: PoseEstimator, photo: Image) -> Array | None:
    """Find the main person in a photo or a crop."""
    poses = estimator.estimate(photo)
    if not len(poses):
        return None
    pixels = np.array([photo.shape[1], photo.shape[0], 1, 1], np.float32)
    return poses.keypoints[0] * pixels


def with_plain_visibility(estimator: OpenVinoPoseEstimator, photo: Image, pose: Array) -> Array:
    """Give a pose of this estimator with the visibility that the landmark network said."""
    people = estimator.find(photo).people
    return min(people, key=lambda each: float(np.abs(each[:, :2] - pose[:, :2]).sum()))
