"""Compare the decoding of large JPEGs at a reduced scale with OpenCV's plain decoding in full.

Large photos are made of small ones: upscaled with a Lanczos filter, given the noise of a camera,
and saved with quality 90 and 4:2:0, so that they have about one bit a pixel or more.

Usage: python benchmarks/decode.py PHOTOS [--sizes 2000 3000 4500 6000] [--noise 3]
       [--landmark-photos 40] [--landmark-sizes 2000 4000]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from vsam_heatmaps.extraction.workers import LEAST_SIDE
from vsam_heatmaps.images import decode, read_bytes, read_photo
from vsam_heatmaps.mediapipe_backend import MediaPipePoseEstimator
from vsam_heatmaps.photos import list_photos


def enlarged(path: Path, side: int, noise: float) -> bytes:
    """Make a JPEG of a photo, its longer side `side` pixels."""
    small = cv2.imread(str(path))
    scale = side / max(small.shape[:2])
    large = cv2.resize(small, None, fx=scale, fy=scale, interpolation=cv2.INTER_LANCZOS4)
    grain = np.empty(large.shape, np.int16)
    cv2.setRNGSeed(0)
    cv2.randn(grain, (0, 0, 0), (noise, noise, noise))
    noisy = cv2.add(large, grain, dtype=cv2.CV_8U)
    options = [cv2.IMWRITE_JPEG_QUALITY, 90]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
    return cv2.imencode(".jpg", noisy, options)[1].tobytes()


def naive(path: Path) -> None:
    """Do what a script would."""
    cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def milliseconds(
    ways: dict[str, Callable[[Path], object]], paths: Sequence[Path], repeats: int
) -> dict[str, float]:
    """Measure each way's median milliseconds a photo, by turns; the first turn warms up."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for path in paths:
            for name, way in ways.items():
                start = time.perf_counter()
                way(path)
                if repeat:
                    spent[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in spent.items()}


def speed(
    paths: Sequence[Path], sizes: Sequence[int], sides: Sequence[int], repeats: int, noise: float
) -> list[dict[str, object]]:
    """Measure how much faster each `least_side` is, for each size of photo and as they are."""
    figures: list[dict[str, object]] = []
    ways: dict[str, Callable[[Path], object]] = {"naive": naive, "in_full": read_photo}
    for side in sides:
        ways[str(side)] = lambda path, side=side: read_photo(path, least_side=side)
    with tempfile.TemporaryDirectory() as folder:
        for size in (None, *sizes):
            large = list(paths)
            if size is not None:
                large = [Path(folder, f"{size}-{path.stem}.jpg") for path in paths]
                for source, path in zip(paths, large, strict=True):
                    path.write_bytes(enlarged(source, size, noise))
            data = [read_bytes(path) for path in large]
            pixels = [width * height for width, height in (decode(each).size for each in data)]
            spent = milliseconds(ways, large, repeats)
            ratios = {name: round(spent["naive"] / ms, 2) for name, ms in spent.items()}
            figures.append(
                {
                    "long_side": size or "as they are",
                    "bits_per_pixel": round(8 * sum(map(len, data)) / sum(pixels), 2),
                    "naive_ms": round(spent["naive"], 2),
                    "in_full_ratio": ratios["in_full"],
                    "ratio_by_least_side": {str(side): ratios[str(side)] for side in sides},
                }
            )
            for path in large if size is not None else []:
                path.unlink()
    return figures


def landmark_deviation(
    paths: Sequence[Path], sizes: Sequence[int], sides: Sequence[int], noise: float
) -> list[dict[str, object]]:
    """Measure how far landmarks lie from those in the photo decoded in full.

    In percent of the image's side, over the joints of visibility 0.5 and more.
    """
    figures: list[dict[str, object]] = []
    with MediaPipePoseEstimator() as estimator:
        for size in sizes:
            apart: dict[int, list[float]] = {side: [] for side in sides}
            lost = dict.fromkeys(sides, 0)
            for path in paths:
                data = enlarged(path, size, noise)
                wanted = estimator.estimate(decode(data).image)
                if not len(wanted):
                    continue
                shown = wanted.keypoints[0][:, 2] >= 0.5
                for side in sides:
                    found = estimator.estimate(decode(data, least_side=side).image)
                    if len(found):
                        off = (found.keypoints[0] - wanted.keypoints[0])[shown, :2]  # (J, 2)
                        apart[side] += np.hypot(*off.T).tolist()
                    else:
                        lost[side] += 1
            for side in sides:
                figures.append(
                    {
                        "long_side": size,
                        "least_side": side,
                        "median_percent": round(100 * statistics.median(apart[side]), 3),
                        "95th_percent": round(100 * float(np.quantile(apart[side], 0.95)), 3),
                        "poses_lost": lost[side],
                    }
                )
    return figures


def main() -> None:
    """Print speed ratios and landmark deviations as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=4, help="photos to time, of each size")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2000, 3000, 4500, 6000])
    parser.add_argument("--least-sides", type=int, nargs="+", default=[250, LEAST_SIDE, 1000])
    parser.add_argument("--noise", type=float, default=3.0, help="standard deviation, in levels")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--landmark-photos", type=int, default=40)
    parser.add_argument("--landmark-sizes", type=int, nargs="*", default=[2000, 4000])
    arguments = parser.parse_args()
    paths = [photo.path for photo in list_photos([arguments.folder])]

    def some(count: int) -> list[Path]:
        return paths[:: max(1, len(paths) // count)][:count]

    sides, noise = arguments.least_sides, arguments.noise
    figures = {
        "speed": speed(some(arguments.photos), arguments.sizes, sides, arguments.repeats, noise),
        "landmarks": landmark_deviation(
            some(arguments.landmark_photos), arguments.landmark_sizes, sides, noise
        ),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
