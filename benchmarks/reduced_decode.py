"""What `vsam-predict --reduced-decode` does to scores, and how much time the decoding saves.

Large photos are made of small ones as `decode.py` does. Each is decoded in full and at the reduced
scale for several least shorter sides, given in pixels for each of the model's.

Usage: python benchmarks/reduced_decode.py RUN PHOTOS [--sizes 1000 2000 4000] [--count 40]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
from decode import enlarged

from vsam.predictor import Predictor
from vsam_heatmaps.images import decode_photo
from vsam_heatmaps.photos import list_photos

_SCALES = (1, 2, 3, 4)


def milliseconds(photos: list[bytes], least: int | None) -> float:
    """Give the median time of decoding a photo."""
    taken = []
    for data in photos:
        began = time.perf_counter()
        decode_photo(data, least_shorter_side=least)
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken)


def main() -> None:
    """Print the largest and the median change of any score of a photo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 2000, 4000])
    parser.add_argument("--count", type=int, default=40)
    arguments = parser.parse_args()
    predictor = Predictor.from_run(arguments.run, device="cpu")
    paths = [photo.path for photo in list_photos([arguments.photos])][: arguments.count]
    for size in arguments.sizes:
        photos = [enlarged(path, size, 3.0) for path in paths]
        whole = predictor.predict([decode_photo(data) for data in photos])
        in_full = milliseconds(photos, None)
        for scale in _SCALES:
            least = scale * predictor.preprocessing.image_size
            reduced = [decode_photo(data, least_shorter_side=least) for data in photos]
            changes = {"category": [], "attribute": []}
            for before, after in zip(whole, predictor.predict(reduced), strict=True):
                for kind, values in changes.items():
                    scores = (getattr(each, f"{kind}_scores") for each in (before, after))
                    values.append(float(np.abs(np.subtract(*scores)).max()))
            line = {
                "longer side": size,
                "pixels for each of the model's": scale,
                "decoded to": reduced[0].shape[:2],
                "times as fast": round(in_full / milliseconds(photos, least), 2),
            }
            for kind, values in changes.items():
                line[f"{kind} scores, most and median"] = [
                    round(max(values), 4),
                    round(statistics.median(values), 4),
                ]
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
