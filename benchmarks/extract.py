"""Compare `extract` with the loop that one would write: decode, detect, render, append.

Usage: python benchmarks/extract.py PHOTOS [--photos 200] [--repeats 5]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import h5py
import mediapipe as mp
import numpy as np

from vsam_heatmaps.extraction import extract
from vsam_heatmaps.images import decode_photo
from vsam_heatmaps.landmarks import PARTS, landmark_indices
from vsam_heatmaps.mediapipe_backend import MediaPipePoseEstimator
from vsam_heatmaps.photos import list_photos
from vsam_heatmaps.pose_model import find_pose_model
from vsam_heatmaps.rendering import render_heatmaps
from vsam_heatmaps.shards import Record, ShardInfo, Status, write_shard

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


def stage_seconds(paths: list[Path], out: Path) -> dict[str, float]:
    """Measure the seconds of each stage in one process."""
    spent = dict.fromkeys(("decode", "pose", "render", "write"), 0.0)
    records = []
    with MediaPipePoseEstimator() as estimator:
        for index, path in enumerate(paths):
            marks = [time.perf_counter()]
            photo = decode_photo(path.read_bytes())
            marks.append(time.perf_counter())
            poses = estimator.estimate(photo)
            marks.append(time.perf_counter())
            if not len(poses):
                continue
            keypoints = poses.keypoints[0]
            maps = render_heatmaps(keypoints)
            marks.append(time.perf_counter())
            for stage, start, end in zip(spent, marks, marks[1:], strict=False):
                spent[stage] += end - start
            size = (photo.shape[1], photo.shape[0])
            records.append(
                Record(str(index), Status.OK, maps, tuple(PARTS), keypoints, size, bytes(32))
            )
    start = time.perf_counter()
    info = ShardInfo(SIDE, SIGMA, tuple(PARTS), 0.5, "mediapipe", "", 0.5, 1)
    write_shard(out, info, records)
    spent["write"] = time.perf_counter() - start
    return spent


def main() -> None:
    """Run both sides by turns and print medians as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    paths = [photo.path for photo in list_photos([arguments.folder])][: arguments.photos]
    naive, ours = [], []
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(arguments.repeats + 1):
            start = time.perf_counter()
            naive_loop(paths, Path(folder, "naive.h5"))
            middle = time.perf_counter()
            extract(paths, Path(folder, f"shards-{repeat}"), root=arguments.folder)
            end = time.perf_counter()
            if repeat:  # the first turn warms up
                naive.append(middle - start)
                ours.append(end - middle)
        spent = stage_seconds(paths, Path(folder, "stages.h5"))
    total = sum(spent.values())
    figures = {
        "photos": len(paths),
        "naive_photos_per_second": round(len(paths) / statistics.median(naive), 1),
        "extract_photos_per_second": round(len(paths) / statistics.median(ours), 1),
        "ratio": round(statistics.median(a / b for a, b in zip(naive, ours, strict=True)), 2),
        "share_of_time": {stage: round(seconds / total, 3) for stage, seconds in spent.items()},
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
