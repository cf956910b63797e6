"""Compare OpenVINO's poses with those of MediaPipe's own runtime, and the speed of both.

Both run the same networks with the same options (`--crops off`), so they should find the same
people at the same places. Of each photo the main person is compared. Distances are pixels as a
share of the photo's longer side, so that they do not depend on its size; a joint is visible if
MediaPipe gives it a visibility of 0.5 or more. Mannequins are drawn people, the package's own.

Speed: decoding left out, the process bound to one core (Linux; elsewhere MediaPipe may use more),
all by turns, one turn to warm up, then the median. `ratio` is made in each turn.

Usage: python benchmarks/engines.py PHOTOS [--photos 400] [--mannequins 200]
       [--precision f32 auto] [--speed-photos 50] [--repeats 5]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vsam_datasets.mannequins import draw_mannequin
from vsam_heatmaps.engines import PRECISIONS
from vsam_heatmaps.extraction.workers import LEAST_SIDE
from vsam_heatmaps.images import read_photo
from vsam_heatmaps.mediapipe_backend import MediaPipePoseEstimator
from vsam_heatmaps.openvino_backend import OpenVinoPoseEstimator
from vsam_heatmaps.photos import list_photos
from vsam_heatmaps.poses import PoseEstimator

Image = NDArray[np.uint8]
Estimators = Mapping[str, PoseEstimator]

REFERENCE = "mediapipe"
QUANTILES = (0.5, 0.95, 0.99)


def agreement(photos: Iterable[Image], estimators: Estimators) -> dict[str, object]:
    """Compare every estimator with the reference."""
    others = [name for name in estimators if name != REFERENCE]
    # Of each other estimator, for each photo: people found by the reference and by it.
    people: dict[str, list[tuple[int, int]]] = {name: [] for name in others}
    # Distance, difference of visibility and whether the joint is visible, for each joint.
    joints: dict[str, list[NDArray[np.float64]]] = {name: [] for name in others}
    for number, photo in enumerate(photos):
        height, width = photo.shape[:2]
        wanted = estimators[REFERENCE].estimate(photo)
        for name in others:
            found = estimators[name].estimate(photo)
            people[name].append((len(wanted), len(found)))
            if len(wanted) and len(found):
                away = (found.keypoints[0] - wanted.keypoints[0]).astype(np.float64)  # (33, 4)
                pixels = np.hypot(away[:, 0] * width, away[:, 1] * height)
                visible = wanted.keypoints[0, :, 2] >= 0.5
                joints[name].append(
                    np.column_stack([pixels / max(width, height), np.abs(away[:, 2]), visible])
                )
        if number % 100 == 99:
            print(f"{number + 1} photos compared", file=sys.stderr, flush=True)
    return {name: _compared(people[name], joints[name]) for name in others}


def _compared(
    people: list[tuple[int, int]], joints: list[NDArray[np.float64]]
) -> dict[str, object]:
    wanted, found = np.array(people).T  # (N,) each
    both = (wanted > 0) & (found > 0)
    told: dict[str, object] = {
        "photos": len(people),
        "both_found": int(both.sum()),
        "neither_found": int(((wanted == 0) & (found == 0)).sum()),
        "only_reference_found": int(((wanted > 0) & (found == 0)).sum()),
        "only_this_found": int(((wanted == 0) & (found > 0)).sum()),
        "found_or_not_agrees": round(float(((wanted > 0) == (found > 0)).mean()), 4),
        "number_of_people_agrees": round(float((wanted == found).mean()), 4),
    }
    if not joints:
        return told
    distance, visibility, visible = np.concatenate(joints).T  # (33 · photos,) each
    per_photo = np.array([rows[:, 0].mean() for rows in joints])
    return told | {
        "distance_percent_of_longer_side": {
            "all_landmarks": quantiles(100 * distance),
            "visible_landmarks": quantiles(100 * distance[visible > 0]),
        },
        "visibility_difference": quantiles(visibility),
        # Another person, or the other side of the body: not a matter of rounding.
        "photos_with_mean_distance_above_5_percent": int((per_photo > 0.05).sum()),
    }


def quantiles(values: NDArray[np.float64]) -> dict[str, float]:
    """Give the quantiles by name."""
    found = np.quantile(values, QUANTILES) if len(values) else [float("nan")] * len(QUANTILES)
    return {
        f"{100 * share:.0f}%": round(float(value), 4)
        for share, value in zip(QUANTILES, found, strict=True)
    }


def speed(photos: list[Image], estimators: Estimators, repeats: int) -> dict[str, object]:
    """Measure photos a second of each estimator, by turns."""

    def seconds(estimate: Callable[[Image], object]) -> float:
        start = time.perf_counter()
        for photo in photos:
            estimate(photo)
        return time.perf_counter() - start

    spent: dict[str, list[float]] = {name: [] for name in estimators}
    for repeat in range(repeats + 1):
        for name, estimator in estimators.items():
            took = seconds(estimator.estimate)
            if repeat:  # the first turn warms up
                spent[name].append(took)
    return {
        name: {
            "photos_per_second": round(len(photos) / statistics.median(values), 1),
            "ratio": round(
                statistics.median(
                    a / b for a, b in zip(spent[REFERENCE], values, strict=True)
                ),
                2,
            ),
        }
        for name, values in spent.items()
    }  # fmt: skip


def keep_to_one_core() -> bool:
    """Bind this process to one of its cores, before it starts threads; tell whether that is so."""
    if not hasattr(os, "sched_setaffinity"):
        return False
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    return True


def main() -> None:
    """Print agreement on photos and mannequins, and speed, as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=400)
    parser.add_argument("--mannequins", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the mannequins")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["f32", "auto"])
    parser.add_argument("--speed-photos", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    one_core = keep_to_one_core()
    cv2.setNumThreads(1)  # as in the workers of `extract`
    paths = [photo.path for photo in list_photos([arguments.folder])]
    paths = paths[:: max(1, len(paths) // arguments.photos)][: arguments.photos]
    with ExitStack() as stack:
        estimators: dict[str, PoseEstimator] = {
            REFERENCE: stack.enter_context(MediaPipePoseEstimator())
        }
        for precision in arguments.precision:
            estimator = OpenVinoPoseEstimator(precision=precision, crops=False)
            estimators[f"openvino {estimator.precision}"] = stack.enter_context(estimator)
        photos = (read_photo(path, least_side=LEAST_SIDE) for path in paths)
        drawn = (draw_mannequin(n, arguments.seed).photo for n in range(arguments.mannequins))
        figures: dict[str, object] = {"photos": agreement(photos, estimators)}
        if arguments.mannequins:
            figures["mannequins"] = agreement(drawn, estimators)
        some = [read_photo(path, least_side=LEAST_SIDE) for path in paths[: arguments.speed_photos]]
        figures["speed"] = {
            "bound_to_one_core": one_core,
            **speed(some, estimators, arguments.repeats),
        }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
