"""Measure how far the imported model is from the published one in TensorFlow.

Another environment, with TensorFlow, makes what this compares with:
    python tests/vsam/parity/make_reference.py --seed 2 --photos PHOTOS --count 20
        --weights weights.h5 --out reference.npz

Usage: python benchmarks/keras_parity.py weights.h5 reference.npz PHOTOS
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np

from vsam.keras_import import import_keras
from vsam.predictor import Predictor
from vsam_heatmaps import read_photo


def main() -> None:
    """Print the largest differences over all photos, and how varied the outputs are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("photos", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        import_keras(arguments.weights, Path(folder) / "run")
        predictor = Predictor.from_run(Path(folder) / "run", device="cpu")
    reference = np.load(arguments.reference)
    photos = [read_photo(arguments.photos / name) for name in reference["names"]]
    inputs = [predictor.preprocessing(photo).permute(1, 2, 0).numpy() for photo in photos]
    hashes = [hashlib.sha256(np.ascontiguousarray(one)).hexdigest() for one in inputs]
    report: dict[str, object] = {
        "photos": len(photos),
        "inputs equal to the bit": int(np.sum(np.array(hashes) == reference["inputs"])),
    }
    predictions = predictor.predict(photos)
    for name, field in {
        "categories": "category_scores",
        "attributes": "attribute_scores",
        "attention": "attention",
    }.items():
        wanted = reference[name]
        found = np.stack([getattr(prediction, field) for prediction in predictions])
        found = found.reshape(wanted.shape)  # its one map: (N, 1, S, S) -> (N, S, S)
        report[name] = {
            "largest difference": float(np.abs(found - wanted).max()),
            "lowest and highest": [float(wanted.min()), float(wanted.max())],
            "mean deviation between photos": float(wanted.std(axis=0).mean()),
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
