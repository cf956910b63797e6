"""`OpenPoseEstimator`: photos to poses, by any estimator of `vsam_heatmaps`."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
import numpy as np

from vsam_heatmaps.images import decode_photo
from vsam_heatmaps.openpose import Joint, openpose_joints
from vsam_heatmaps.poses import PoseEstimator

from .calls import Method, PhotoService
from .hosting import host
from .messages import OPEN_POSE
from .metrics import Metrics
from .options import ServiceOptions

_DetectedPoses = OPEN_POSE.message("DetectedPoses")


class PoseService(PhotoService):
    """Answers `OpenPoseEstimator`; photos are decoded and looked at in the same thread.

    Args:
        options: The limits. `workers` is also how many photos are looked at at a time.
        metrics: Told of each call.
        load: Makes an estimator; called once for each worker.
        min_visibility: Joints that are less visible, 0..1, are left out.
    """

    interface = OPEN_POSE
    request = OPEN_POSE.message("Image")
    photo = "data"

    def __init__(
        self,
        options: ServiceOptions,
        metrics: Metrics,
        load: Callable[[], PoseEstimator],
        *,
        min_visibility: float,
    ) -> None:
        super().__init__(options, metrics)
        self._load, self._min_visibility = load, min_visibility
        self._estimators: queue.SimpleQueue[PoseEstimator] = queue.SimpleQueue()

    def load(self) -> None:
        """Load the estimators, and let each look at a photo, which loads more."""
        for _ in range(self._options.workers):
            estimator = self._load()
            estimator.estimate(np.zeros((64, 64, 3), np.uint8))
            self._estimators.put(estimator)

    def prepare(self, data: bytes) -> list[list[Joint]]:
        """Find the joints of the people in a photo's file."""
        image = decode_photo(data, max_pixels=self._options.max_pixels)
        with self._estimator() as estimator:
            poses = estimator.estimate(image)
        return openpose_joints(poses, min_visibility=self._min_visibility)

    @contextlib.contextmanager
    def _estimator(self) -> Iterator[PoseEstimator]:
        estimator = self._estimators.get()  # one more thread than estimators decodes
        try:
            yield estimator
        finally:
            self._estimators.put(estimator)

    def shut(self) -> None:
        """Wait for the threads, and free the networks."""
        super().shut()
        while not self._estimators.empty():
            self._estimators.get().close()

    def methods(self) -> Mapping[str, Method]:
        """Give what answers each method."""
        return {"estimate": self._estimate}

    async def _estimate(self, context: grpc.aio.ServicerContext) -> Any:
        with self._places.enter():
            people = (await self._photo(context)).item
        answer = _DetectedPoses()
        for joints in people:
            pose = answer.poses.add()
            for joint in joints:
                pose.key_points.add(**dataclasses.asdict(joint))
        return answer


def serve_pose(
    options: ServiceOptions,
    load: Callable[[], PoseEstimator],
    *,
    min_visibility: float = 0.5,
) -> None:
    """Serve `OpenPoseEstimator` until a signal comes; see `host`.

    Args:
        options: Where and how.
        load: Makes an estimator; called once for each worker.
        min_visibility: Joints that are less visible, 0..1, are left out.

    Raises:
        VsamError: As `host` and `load`.
    """
    host(
        options,
        lambda metrics: PoseService(options, metrics, load, min_visibility=min_visibility),
    )
