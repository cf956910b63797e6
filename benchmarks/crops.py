"""Measure poses on cropped photos, false poses where nobody is, and calibration.

Where MediaPipe's own runtime, with its default options, finds a pose on a whole photo, that pose is
the truth for crops of that photo. Compared on the same crops: `mediapipe` as it is, `openvino` (our
default engine), `openvino, crops off`, and `oracle`: the landmark network given the region that the
detector finds on the whole photo, which no method can know from the crop alone.

All crops count; where no pose is found everything is wrong. A joint is right within 0.2 of the
true torso's length; twelve joints are scored (shoulders, elbows, wrists, hips, knees, ankles),
those that are visible (0.5 or more) in the truth and inside the crop. `pck` is the share of right
joints over all of them, with a 95 % bootstrap interval over photos; `pck_mean_of_crops` the mean of
each crop's share. `map_iou` compares rendered maps at half their height: the union of the channels,
and the mean over the channels that the truth has. `outside_drawn`: of the twelve joints that lie
outside the crop, the share that is drawn inside it all the same (who finds nobody draws none).

Calibration: of all 33 joints that an estimator puts into the crop, the visibility that it gives
them against the share that is right and visible in the truth; for our engine also before it is
calibrated, as the landmark network says it.

Usage: python benchmarks/crops.py CCP [--photos 300] [--split test] [--seed 0]
       [--without-person FOLDER] [--exclude NAME ...] [--held-out] [--precision auto]
       [--plot FILE.png] [--overlays FILE.png]
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from crop_estimators import Array, Image, Oracle, estimated, with_plain_visibility
from crop_kinds import KINDS, background_box, crop_box, random_of
from crop_report import Failure, as_json, tell, write_reliability, write_sheet
from numpy.typing import NDArray
from scoring import JOINTS, RIGHT, Reliability, overlap, reliability, share_interval, torso_length

from vsam_heatmaps.engines import PRECISIONS
from vsam_heatmaps.images import read_photo
from vsam_heatmaps.landmarks import landmark_indices
from vsam_heatmaps.mediapipe_backend import MediaPipePoseEstimator
from vsam_heatmaps.openvino_backend import OpenVinoPoseEstimator
from vsam_heatmaps.photos import list_photos
from vsam_heatmaps.poses import PoseEstimator
from vsam_heatmaps.rendering import render_heatmaps

Size = tuple[int, int]  # width and height in pixels

NAIVE, OURS, PLAIN, ORACLE = "mediapipe", "openvino", "openvino, crops off", "oracle"
CUT = "all that are cut"
_JOINTS = list(landmark_indices(JOINTS))
_DRAWN = 0.5  # visibility from which a joint is drawn, and from which it counts
_FAILURE, _SHOWN = 0.5, 50  # PCK below which a crop is a failure; how many of them are shown


@dataclass(frozen=True)
class Score:
    """How one estimator did on one crop; joints are counts.

    Attributes:
        right: Of the joints that count, those that are right.
        counted: Joints that count.
        found: Whether there is a pose.
        union_iou: See `overlap`.
        mean_iou: See `overlap`.
        drawn: Of the joints outside, those that are drawn inside.
        outside: Joints outside the crop.
    """

    right: int
    counted: int
    found: bool
    union_iou: float
    mean_iou: float
    drawn: int
    outside: int


def main() -> None:
    """Measure, tell a table on stderr, print JSON, draw the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ccp", type=Path, help="folder with labels.csv and images/")
    parser.add_argument("--photos", type=int, default=300, help="of each kind of crop")
    parser.add_argument("--split", default="test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without-person", type=Path, help="folder of photos without a person")
    parser.add_argument(
        "--exclude",
        nargs="+",
        default=[],
        help="names of photos there that do show one, and of photos with others in the background",
    )
    parser.add_argument(
        "--held-out",
        action="store_true",
        help="take every second photo there, those that train.py leaves out",
    )
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="of OpenVINO")
    parser.add_argument("--plot", type=Path, help="reliability diagram to write")
    parser.add_argument("--overlays", type=Path, help="sheet of failures to write")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        ours = stack.enter_context(OpenVinoPoseEstimator(precision=arguments.precision))
        estimators: dict[str, PoseEstimator] = {
            # One person, as MediaPipe's default has it.
            NAIVE: stack.enter_context(MediaPipePoseEstimator(max_people=1)),
            OURS: ours,
            PLAIN: stack.enter_context(
                OpenVinoPoseEstimator(crops=False, precision=arguments.precision)
            ),
        }
        bench = Bench(estimators, ours, arguments.seed)
        names = split_photos(arguments.ccp, arguments.split)
        np.random.default_rng(arguments.seed).shuffle(names)
        for name in names:
            if len(bench.photos) == arguments.photos:
                break
            bench.measure(name, read_photo(arguments.ccp / name))
            if len(bench.photos) % 50 == 0:
                print(f"{len(bench.photos)} photos", file=sys.stderr, flush=True)
        shown = set(arguments.exclude)
        patches = {key: each for key, each in bench.patches.items() if Path(key).name not in shown}
        empty = false_poses(patches, estimators)
        nobody = {}
        if arguments.without_person:
            paths = [photo.path for photo in list_photos([arguments.without_person])]
            paths = paths[1::2] if arguments.held_out else paths
            paths = [path for path in paths if path.name not in shown]
            nobody = false_poses({path.name: read_photo(path) for path in paths}, estimators)
    crops = bench.summary()
    curves = bench.curves()
    tell(crops, {"background patches": empty, "photos without a person": nobody}, curves)
    figures = {
        "photos": len(bench.photos),
        "photos_without_a_true_pose": bench.without_truth,
        "crops_without_a_joint_to_score": bench.unscored,
        "crops": crops,
        "false_poses": {"background_patches": empty, "photos_without_person": nobody},
        "calibration": {name: as_json(curve) for name, curve in curves.items()},
        "failures": len(bench.failures),
    }
    print(json.dumps(figures, indent=2))
    if arguments.plot:
        write_reliability(curves, arguments.plot)
    if arguments.overlays and bench.failures:
        chosen = np.random.default_rng(arguments.seed).permutation(len(bench.failures))[:_SHOWN]
        write_sheet([bench.failures[index] for index in sorted(chosen)], arguments.overlays)


def split_photos(ccp: Path, split: str) -> list[str]:
    """List the photos of a split, paths relative to the folder."""
    with (ccp / "labels.csv").open(newline="") as file:
        return [row["image"] for row in csv.DictReader(file) if row["split"] == split]


class Bench:
    """Measures photo after photo.

    Attributes:
        photos: Names of those with a true pose.
        without_truth: How many have none.
        unscored: Crops left out: too small, or no joint to score in them.
        patches: By name, a piece of background of each photo that has room for one.
        failures: Of our default engine.
    """

    def __init__(
        self, estimators: Mapping[str, PoseEstimator], ours: OpenVinoPoseEstimator, seed: int
    ) -> None:
        self._estimators, self._ours, self._seed = estimators, ours, seed
        self._oracle = Oracle()
        # By (kind, estimator), then by photo.
        self._scores: dict[tuple[str, str], dict[str, Score]] = defaultdict(dict)
        # By name of the curve: visibility and whether right, of each joint.
        self._sure: dict[str, list[tuple[Array, NDArray[np.bool_]]]] = defaultdict(list)
        self.photos: list[str] = []
        self.without_truth = 0
        self.unscored: dict[str, int] = dict.fromkeys(KINDS, 0)
        self.patches: dict[str, Image] = {}
        self.failures: list[Failure] = []

    def measure(self, name: str, photo: Image) -> None:
        """Make all crops of a photo and score all estimators on them."""
        truth = estimated(self._estimators[NAIVE], photo)
        if truth is None:
            self.without_truth += 1
            return
        self.photos.append(name)
        size = photo.shape[1], photo.shape[0]
        region = self._oracle.region(photo)
        patch = background_box(truth, *size, random_of(self._seed, name, "background"))
        if patch is not None:
            self.patches[name] = patch.cut(photo)
        for kind in KINDS:
            box = crop_box(kind, truth, *size, random_of(self._seed, name, kind))
            if box is None or not scored(box.from_photo(truth), box.size).any():
                self.unscored[kind] += 1
                continue
            crop, true = box.cut(photo), box.from_photo(truth)
            found = {key: estimated(each, crop) for key, each in self._estimators.items()}
            found[ORACLE] = None
            if region is not None:
                found[ORACLE] = self._oracle.pose(crop, region.moved(-box.left, -box.top))
            for estimator, pose in found.items():
                self._scores[kind, estimator][name] = score(pose, true, box.size)
            ours = found[OURS]
            plain = None if ours is None else with_plain_visibility(self._ours, crop, ours)
            self._note_visibility(
                {OURS: ours, f"{OURS}, not calibrated": plain, NAIVE: found[NAIVE]}, true, box.size
            )
            scores = self._scores[kind, OURS][name]
            if scores.right / scores.counted < _FAILURE:
                title = f"{Path(name).stem} {kind}: {scores.right} of {scores.counted}"
                drawn = None if ours is None else shares(ours, box.size)
                self.failures.append(Failure(crop, title, drawn, shares(true, box.size)))

    def _note_visibility(self, poses: Mapping[str, Array | None], true: Array, size: Size) -> None:
        for name, pose in poses.items():
            if pose is not None:
                inside = is_inside(pose, size)
                right = near(pose, true) & (true[:, 2] >= _DRAWN)
                self._sure[name].append((pose[inside, 2].clip(0, 1), right[inside]))

    def curves(self) -> dict[str, Reliability]:
        """Sum up the visibility over all crops."""
        return {
            name: reliability(*(np.concatenate(part) for part in zip(*joints, strict=True)))
            for name, joints in self._sure.items()
        }

    def summary(self) -> dict[str, dict[str, dict[str, object]]]:
        """Sum up each kind, and all that are cut, by estimator."""
        told: dict[str, dict[str, dict[str, object]]] = {}
        for kind, kinds in [*((kind, (kind,)) for kind in KINDS), (CUT, KINDS[1:])]:
            told[kind] = {name: self._sum(kinds, name) for name in (*self._estimators, ORACLE)}
            gain = (
                self._by_photo(kinds, OURS, lambda score: score.right)
                - self._by_photo(kinds, NAIVE, lambda score: score.right),
                self._by_photo(kinds, OURS, lambda score: score.counted),
            )
            low, high = share_interval(*gain, self._seed)
            told[kind][OURS]["pck_above_mediapipe"] = round(gain[0].sum() / gain[1].sum(), 4)
            told[kind][OURS]["pck_above_mediapipe_95%"] = [round(low, 4), round(high, 4)]
        return told

    def _by_photo(
        self, kinds: Sequence[str], estimator: str, value: Callable[[Score], float]
    ) -> Array:
        """Sum a value over the crops of each photo, (photos,)."""
        sums = dict.fromkeys(self.photos, 0.0)
        for kind in kinds:
            for photo, each in self._scores[kind, estimator].items():
                sums[photo] += value(each)
        return np.array(list(sums.values()))

    def _sum(self, kinds: Sequence[str], estimator: str) -> dict[str, object]:
        scores = [each for kind in kinds for each in self._scores[kind, estimator].values()]
        right, counted, drawn, outside = (
            np.array([getattr(each, name) for each in scores])
            for name in ("right", "counted", "drawn", "outside")
        )
        found = np.array([each.found for each in scores])
        low, high = share_interval(
            self._by_photo(kinds, estimator, lambda score: score.right),
            self._by_photo(kinds, estimator, lambda score: score.counted),
            self._seed,
        )
        return {
            "crops": len(scores),
            "pck": share(right.sum(), counted.sum()),
            "pck_95%": [round(low, 4), round(high, 4)],
            "pck_mean_of_crops": round(float((right / counted).mean()), 4),
            "found": share(found.sum(), len(found)),
            "pck_of_the_found": share(right[found].sum(), counted[found].sum()),
            "map_iou_union": round(float(np.nanmean([each.union_iou for each in scores])), 4),
            "map_iou_channels": round(float(np.nanmean([each.mean_iou for each in scores])), 4),
            "outside_drawn": share(drawn.sum(), outside.sum()),
            "outside_drawn_of_the_found": share(drawn.sum(), outside[found].sum()),
        }


def share(part: float, whole: float) -> float | None:
    """Divide; None if there is nothing to divide by."""
    return round(float(part / whole), 4) if whole else None


def is_inside(keypoints: Array, size: Size) -> NDArray[np.bool_]:
    """Tell which keypoints, (N, 2 or more) in pixels, lie in a crop of this width and height."""
    return ((keypoints[:, :2] >= 0) & (keypoints[:, :2] <= size)).all(axis=1)


def near(keypoints: Array, true: Array) -> NDArray[np.bool_]:
    """Tell which of 33 keypoints are where they should be, visible or not."""
    apart = np.linalg.norm(keypoints[:, :2] - true[:, :2], axis=1)
    return apart < RIGHT * torso_length(true)


def scored(true: Array, size: Size) -> NDArray[np.bool_]:
    """Tell which of the twelve joints count."""
    joints = true[_JOINTS]
    return is_inside(joints, size) & (joints[:, 2] >= _DRAWN)


def score(pose: Array | None, true: Array, size: Size) -> Score:
    """Compare a pose with the true one, (33, 4), both in pixels of the crop."""
    counts, outside = scored(true, size), ~is_inside(true[_JOINTS], size)
    expected = render_heatmaps(shares(true, size))
    if pose is None:
        union, mean = overlap(np.zeros_like(expected), expected)
        return Score(0, int(counts.sum()), False, union, mean, 0, int(outside.sum()))
    maps = render_heatmaps(shares(pose, size))
    union, mean = overlap(maps, expected)
    drawn = is_inside(pose, size) & (pose[:, 2] >= _DRAWN)
    return Score(
        right=int(near(pose, true)[_JOINTS][counts].sum()),
        counted=int(counts.sum()),
        found=True,
        union_iou=union,
        mean_iou=mean,
        drawn=int(drawn[_JOINTS][outside].sum()),
        outside=int(outside.sum()),
    )


def shares(keypoints: Array, size: Size) -> NDArray[np.float32]:
    """Turn pixels into shares of width and height."""
    return (keypoints / np.array([*size, 1, 1])).astype(np.float32)


def false_poses(
    photos: Mapping[str, Image], estimators: Mapping[str, PoseEstimator]
) -> dict[str, dict[str, object]]:
    """Measure the shares of photos without a person in which one is found, and one is drawn."""
    told: dict[str, dict[str, object]] = {}
    for estimator, each in estimators.items():
        poses = {name: estimated(each, photo) for name, photo in photos.items()}
        found = {name: pose for name, pose in poses.items() if pose is not None}
        drawn = 0
        for name, pose in found.items():
            keypoints = shares(pose, photos[name].shape[1::-1])
            drawn += bool(render_heatmaps(keypoints).any())
        told[estimator] = {
            "photos": len(photos),
            "found": share(len(found), len(photos)),
            "drawn": share(drawn, len(photos)),
            "which": sorted(found),
        }
    return told


if __name__ == "__main__":
    main()
