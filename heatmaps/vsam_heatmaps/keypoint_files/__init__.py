"""Keypoints that people have already, instead of a pose estimator's.

`open_keypoints` reads COCO and COCO-WholeBody keypoint JSON, folders of OpenPose JSON, and
DeepFashion's garment landmarks.
"""

from .keypoint_file import KeypointFile
from .opening import open_keypoints

__all__ = ["KeypointFile", "open_keypoints"]
