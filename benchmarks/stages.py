"""Where the time of one worker of `extract` goes; `extract.py` prints it."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2

from vsam_heatmaps.engines import choose_engine
from vsam_heatmaps.extraction.workers import LEAST_SIDE
from vsam_heatmaps.images import decode, read_bytes
from vsam_heatmaps.pose_model import find_pose_model
from vsam_heatmaps.rendering import RenderOptions, render_heatmaps
from vsam_heatmaps.shards import Record, ShardInfo, Status, no_keypoints, write_shard

STAGES = ("decode", "pose", "render", "write")
WARM_UP = 8  # photos


def stage_shares(
    paths: Sequence[Path], out: Path, engine: str, *, crops: bool | None, precision: str
) -> dict[str, float]:
    """Measure the shares of the stages in one process, and milliseconds a photo.

    `decode` is reading, hashing and decoding. With OpenVINO `pose` is split: `detector` and
    `landmark_network` are the networks, each with the copy of its input; `pose_ours` is the rest
    (cutting regions, decoding outputs, judging).

    Args:
        paths: Photos.
        out: A shard to write.
        engine: `mediapipe` or `openvino`.
        crops: See `choose_engine`.
        precision: See `choose_engine`.
    """
    cv2.setNumThreads(1)  # as in a worker
    chosen = choose_engine(engine, find_pose_model(), crops=crops, precision=precision)
    options = RenderOptions()
    spent: Counter[str] = Counter()
    networks: Counter[str] = Counter()
    records: list[Record] = []
    with ExitStack() as stack:
        if engine == "openvino":
            stack.enter_context(
                patch("vsam_heatmaps.openvino_backend.OpenVinoNetworks", _timed(networks))
            )
        estimator = stack.enter_context(chosen.estimator())
        for path in paths[:WARM_UP]:
            estimator.estimate(decode(read_bytes(path), least_side=LEAST_SIDE).image)
        networks.clear()
        for number, path in enumerate(paths):
            marks = [time.perf_counter()]
            data = read_bytes(path)
            sha256 = hashlib.sha256(data).digest()
            decoded = decode(data, least_side=LEAST_SIDE)
            marks.append(time.perf_counter())
            poses = estimator.estimate(decoded.image)
            marks.append(time.perf_counter())
            found = len(poses) > 0
            keypoints = poses.keypoints[0] if found else no_keypoints()
            maps = render_heatmaps(keypoints, options)
            marks.append(time.perf_counter())
            for stage, start, end in zip(STAGES, marks, marks[1:], strict=False):
                spent[stage] += end - start
            records.append(
                Record(
                    id=str(number),
                    status=Status.OK if found else Status.NO_POSE,
                    heatmaps=maps,
                    channels=options.channel_names,
                    keypoints=keypoints,
                    size=decoded.size,
                    sha256=sha256,
                    people=len(poses),
                )
            )
    info = ShardInfo(
        side=options.side,
        sigma=options.sigma,
        channels=options.channel_names,
        min_visibility=options.min_visibility,
        backend=chosen.name,
        pose_model_sha256=chosen.model.sha256,
        min_confidence=chosen.min_confidence,
        max_pixels=1,
    )
    write_shard(out, info, records[:1])  # loads HDF5
    start = time.perf_counter()
    write_shard(out, info, records)
    spent["write"] = time.perf_counter() - start
    total = sum(spent.values())
    if networks:
        spent.update(networks)
        spent["pose_ours"] = spent["pose"] - sum(networks.values())
    spent["render_and_write"] = spent["render"] + spent["write"]
    shares = {name: round(seconds / total, 3) for name, seconds in spent.items()}
    return shares | {"milliseconds_a_photo": round(1000 * total / len(paths), 2)}


def _timed(spent: Counter[str]) -> type:
    """Make the networks' class with a stopwatch on each network."""
    from vsam_heatmaps.openvino_networks import OpenVinoNetworks

    class Timed(OpenVinoNetworks):
        def detect(self, image: Any) -> Any:
            start = time.perf_counter()
            output = super().detect(image)
            spent["detector"] += time.perf_counter() - start
            return output

        def find_landmarks(self, image: Any) -> Any:
            start = time.perf_counter()
            output = super().find_landmarks(image)
            spent["landmark_network"] += time.perf_counter() - start
            return output

    return Timed
