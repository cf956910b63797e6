"""MediaPipe's PoseLandmarker behind our protocol. The only module that knows MediaPipe's types."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import VsamError
from .pose_model import find_pose_model, leave_out_segmentation
from .poses import MAX_PEOPLE, PoseEstimator, Poses, main_person_first, no_poses

_LONGEST_SIDE = 32_766  # pixels; OpenCV, inside MediaPipe, asks for fewer than 32,767


class MediaPipePoseEstimator(PoseEstimator):
    """Finds poses with MediaPipe's Tasks API on the CPU.

    Args:
        model: A `.task` bundle; the default is the official full model (see `find_pose_model`).
        max_people: How many people to look for at most.
        min_confidence: Least confidence, 0..1, of the detector and of the landmarks' presence.

    Raises:
        VsamError: If MediaPipe isn't installed, or can't load the model.
    """

    name = "mediapipe"
    precision = "f32"

    def __init__(
        self,
        model: Path | None = None,
        *,
        max_people: int = MAX_PEOPLE,
        min_confidence: float = 0.5,
    ) -> None:
        # MediaPipe's C++ side logs to stderr from the start; only its errors concern a user.
        os.environ.setdefault("GLOG_minloglevel", "2")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        try:
            import mediapipe as mp
        except ImportError as error:
            raise VsamError(
                f"Could not import MediaPipe ({error}). "
                "Install it with: pip install 'vsam[extract]'."
            ) from error
        self.model = find_pose_model(model)
        tasks = mp.tasks
        options = tasks.vision.PoseLandmarkerOptions(
            base_options=tasks.BaseOptions(
                model_asset_path=str(leave_out_segmentation(self.model))
            ),
            running_mode=tasks.vision.RunningMode.IMAGE,
            num_poses=max_people,
            min_pose_detection_confidence=min_confidence,
            min_pose_presence_confidence=min_confidence,
        )
        try:
            self._landmarker = tasks.vision.PoseLandmarker.create_from_options(options)
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise VsamError(f"MediaPipe could not load {self.model.path}: {reason}.") from error
        self._image = mp.Image
        self._format = mp.ImageFormat.SRGB

    def estimate(self, image: NDArray[np.uint8]) -> Poses:
        """Find people in an upright (H, W, 3) uint8 RGB photo; see `PoseEstimator`."""
        contiguous = np.ascontiguousarray(_within_limits(image))
        found = self._landmarker.detect(self._image(image_format=self._format, data=contiguous))
        if not found.pose_landmarks:
            return no_poses()
        keypoints = np.stack([_keypoints_from(person) for person in found.pose_landmarks])
        return main_person_first(Poses(keypoints), image.shape[1], image.shape[0])

    def close(self) -> None:
        """Free the networks."""
        self._landmarker.close()


def _within_limits(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale down what is too long for MediaPipe: it ends the process on a longer side."""
    import cv2

    scale = _LONGEST_SIDE / max(image.shape[:2])
    if scale >= 1:
        return image
    size = tuple(max(1, int(side * scale)) for side in image.shape[1::-1])
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _keypoints_from(landmarks: Any) -> NDArray[np.float32]:
    """Convert one person's landmarks, MediaPipe objects, to (33, 4)."""
    return np.array(
        [[p.x, p.y, p.visibility or 0.0, p.presence or 0.0] for p in landmarks], np.float32
    )
