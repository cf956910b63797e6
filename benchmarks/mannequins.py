"""Measure MediaPipe on drawn mannequins against their true joints.

Usage: python benchmarks/mannequins.py [--count 500] [--seed 0]
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from scoring import JOINTS, RIGHT, torso_length

from vsam_datasets.mannequins import draw_mannequin
from vsam_heatmaps.landmarks import landmark_indices
from vsam_heatmaps.mediapipe_backend import MediaPipePoseEstimator


def main() -> None:
    """Print the share found and the error as shares of the torso's length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    joints = list(landmark_indices(JOINTS))
    errors, found = [], 0
    with MediaPipePoseEstimator() as estimator:
        for index in range(arguments.count):
            drawn = draw_mannequin(index, arguments.seed)
            poses = estimator.estimate(drawn.photo)
            if not len(poses):
                continue
            found += 1
            height, width = drawn.photo.shape[:2]
            pixels = poses.keypoints[0, :, :2] * (width, height) - 0.5
            true = drawn.joints[:, :2]
            known = [joint for joint in joints if drawn.joints[joint, 2] > 0]
            errors += list(np.linalg.norm(pixels[known] - true[known], axis=1) / torso_length(true))
    print(
        json.dumps(
            {
                "count": arguments.count,
                "found": found / arguments.count,
                "median_error": round(float(np.median(errors)), 4),
                "p90_error": round(float(np.quantile(errors, 0.9)), 4),
                "pck_0.2": round(float(np.mean(np.array(errors) < RIGHT)), 4),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
