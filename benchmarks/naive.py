"""The loop that one would write instead of `vsam-heatmaps extract`; `extract.py` times it.

Usage: python benchmarks/naive.py FOLDER OUT.h5
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import h5py
import mediapipe as mp
import numpy as np

from vsam_heatmaps.landmarks import PARTS, landmark_indices
from vsam_heatmaps.pose_model import find_pose_model

SIDE, SIGMA = 56, 0.05


def naive_loop(paths: list[Path], out: Path) -> None:
    """Do what a script would: one process, one photo after the other, one append each."""
    options = mp.tasks.vision.PoseLandmarkerOptions(
        base_options=mp.tasks.BaseOptions(model_asset_path=str(find_pose_model().path))
    )
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    with (
        mp.tasks.vision.PoseLandmarker.create_from_options(options) as landmarker,
        h5py.File(out, "w") as file,
    ):
        shape = (0, len(PARTS), SIDE, SIDE)
        maps = file.create_dataset("maps", shape, "u1", maxshape=(None, *shape[1:]))
        for path in paths:
            photo = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
            found = landmarker.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=photo))
            heat = np.zeros(shape[1:])
            for person in found.pose_landmarks[:1]:
                for channel, joints in enumerate(PARTS.values()):
                    for joint in landmark_indices(joints):
                        point = person[joint]
                        distance = (x - point.x * SIDE) ** 2 + (y - point.y * SIDE) ** 2
                        blob = np.exp(-distance / (2 * (SIGMA * SIDE) ** 2)) * point.visibility
                        heat[channel] = np.maximum(heat[channel], blob)
            maps.resize(len(maps) + 1, axis=0)
            maps[-1] = (heat * 255).astype(np.uint8)


if __name__ == "__main__":
    naive_loop(sorted(Path(sys.argv[1]).iterdir()), Path(sys.argv[2]))
