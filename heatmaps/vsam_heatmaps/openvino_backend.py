"""MediaPipe's pose landmarker on OpenVINO: the same two networks, faster, and people cut off.

What MediaPipe does around the networks is in `blazepose/`; `openvino_networks` runs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .blazepose import detection, landmarks
from .blazepose.crops import best_pose, is_confirmed, trusted_visibility
from .blazepose.detection import Detections, decode_detections, letterbox
from .blazepose.landmarks import RegionPose, decode_landmarks
from .blazepose.region_network import Proposal, decode_proposal, load_region_weights
from .blazepose.regions import Region
from .errors import VsamError
from .openvino_networks import OpenVinoNetworks
from .pose_model import find_pose_model
from .poses import MAX_PEOPLE, PoseEstimator, Poses, main_person_first, no_poses


@dataclass(frozen=True)
class Found:
    """People in one photo, and the proposal that their joints can be judged by.

    Attributes:
        people: (33, 4) of each: x, y in pixels, visibility, presence; the most confident first.
        judged_by: The region network's proposal, where it speaks of the one person found.
    """

    people: list[NDArray[np.float32]]
    judged_by: Proposal | None


class OpenVinoPoseEstimator(PoseEstimator):
    """Finds poses with MediaPipe's networks in OpenVINO, on one core.

    Without `crops` it finds what MediaPipe finds. With them it also finds people whose head or legs
    are cut off, see `blazepose.crops`.

    Args:
        model: A `.task` bundle; the default is the official full model (see `find_pose_model`).
        max_people: How many people to look for at most.
        min_confidence: Least confidence, 0..1, of the detector and of the landmarks' presence.
        precision: One of `engines.PRECISIONS`.
        crops: Whether to look for people of whom only a part shows. It needs the official
            detector.
        region_weights: A file that `region_network/train.py` wrote, instead of the weights that
            ship with the package.

    Raises:
        VsamError: If OpenVINO isn't installed, or can't load the model.
    """

    name = "openvino"

    def __init__(
        self,
        model: Path | None = None,
        *,
        max_people: int = MAX_PEOPLE,
        min_confidence: float = 0.5,
        precision: str = "auto",
        crops: bool = True,
        region_weights: Path | None = None,
    ) -> None:
        self.model = find_pose_model(model)
        self._weights = load_region_weights(region_weights) if crops else None
        self._networks = OpenVinoNetworks(
            self.model, region_weights=self._weights, precision=precision
        )
        self.precision = self._networks.precision
        self._max_people = max_people
        self._min_confidence = min_confidence

    def estimate(self, image: NDArray[np.uint8]) -> Poses:
        """Find people in an upright (H, W, 3) uint8 RGB photo; see `PoseEstimator`."""
        height, width = image.shape[:2]
        found = self.find(image)
        if not found.people:
            return no_poses()
        people = np.stack(found.people)
        if found.judged_by is not None:
            assert self._weights is not None
            people[0, :, 2] = trusted_visibility(
                people[0], found.judged_by, (width, height), self._weights
            )
        people[:, :, :2] /= np.array([width, height], np.float32)
        poses = Poses(people)
        return main_person_first(poses, width, height)

    def find(self, image: NDArray[np.uint8]) -> Found:
        """Find people in an upright (H, W, 3) uint8 RGB photo, in pixels."""
        detections, proposal = self._detect(image)
        poses = self._landmarks_of(image, detections)
        people = [pose.keypoints for pose in poses]
        if proposal is None:
            return Found(people, None)
        there = proposal.person >= self._min_confidence
        size = (image.shape[1], image.shape[0])
        if there and not (poses and is_confirmed(poses, detections, proposal, size)):

            def look(region: Region, mirrored: bool) -> RegionPose:
                return self._look(image, region, mirrored=mirrored)

            return Found([best_pose(poses, look, proposal, size)], proposal)
        # With more people the proposal lies between them, and of one who is far away it knows
        # nothing: it can't judge these.
        return Found(people, proposal if there and len(detections) < 2 else None)

    def propose(self, image: NDArray[np.uint8]) -> Proposal:
        """Run the region network alone on an upright (H, W, 3) uint8 RGB photo.

        Raises:
            VsamError: If the estimator was made without it.
        """
        _, proposal = self._detect(image)
        if proposal is None:
            raise VsamError("Expected `crops` to be on, but the estimator was made without.")
        return proposal

    def _detect(self, photo: NDArray[np.uint8]) -> tuple[Detections, Proposal | None]:
        frame = letterbox(photo.shape[1], photo.shape[0])
        view = frame.cut(photo, detection.INPUT_SIDE, repeat_border=False)
        output = self._networks.detect(view)
        detections = decode_detections(
            output.boxes, output.logits, frame, min_confidence=self._min_confidence
        )
        if output.proposal is None:
            return detections, None
        assert self._weights is not None
        return detections, decode_proposal(output.proposal, frame, self._weights)

    def _look(
        self, photo: NDArray[np.uint8], region: Region, *, mirrored: bool = False
    ) -> RegionPose:
        view = region.cut(photo, landmarks.INPUT_SIDE, repeat_border=True)
        if mirrored:
            view = np.ascontiguousarray(view[:, ::-1])
        output = self._networks.find_landmarks(view)
        return decode_landmarks(*output, region, mirrored=mirrored)

    def _landmarks_of(self, photo: NDArray[np.uint8], detections: Detections) -> list[RegionPose]:
        """Look at each person that the detector found; give those that are there."""
        count = min(len(detections), self._max_people)
        poses = [self._look(photo, detections.region(person)) for person in range(count)]
        return [pose for pose in poses if pose.score >= self._min_confidence]

    def close(self) -> None:
        """Free the networks."""
        self._networks.close()
