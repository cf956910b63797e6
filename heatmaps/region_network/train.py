"""Train the region network on crops of street photos, and write its weights into the package.

Usage: python heatmaps/region_network/train.py CCP [--flat-lays FOLDER] [--out FILE.npz]

CCP is a folder with `images/`, `masks/` and `labels.csv` (Clothing Co-Parsing, Apache-2.0); the
photos of its train split are learned from, those of its val split measured on. FOLDER holds photos
of garments without people (clothing-dataset-small, CC0); every second one is used. Takes a quarter
of an hour on two cores. See README.md.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from samples import Image, Person, Sample, Sampler
from torch import Tensor, nn
from torch.nn import functional as F

from vsam_datasets.mannequins import draw_mannequin
from vsam_heatmaps.atomic import replacing
from vsam_heatmaps.blazepose import detection, landmarks, region_network
from vsam_heatmaps.blazepose.crops import visibility_features
from vsam_heatmaps.blazepose.detection import decode_detections, letterbox
from vsam_heatmaps.blazepose.landmarks import decode_landmarks
from vsam_heatmaps.blazepose.region_network import COARSE_JOINTS, FEATURES
from vsam_heatmaps.images import read_photo
from vsam_heatmaps.landmarks import landmark_indices
from vsam_heatmaps.openvino_backend import OpenVinoPoseEstimator
from vsam_heatmaps.openvino_networks import DetectorLayer, OpenVinoNetworks
from vsam_heatmaps.pose_model import find_pose_model

CHANNELS, HIDDEN, DROPOUT = 64, 128, 0.2
FALSE_POSE_COSTS = 2.5  # as much as a missed one: a wrong map teaches nonsense, a missing nothing
RIGHT = 0.2  # a joint is right within this share of the torso's length
JOINTS = list(landmark_indices(COARSE_JOINTS))
MANNEQUINS, MANNEQUIN_SEED = 500, 777
OUT = Path(region_network.__file__).parent / "data" / "region_network.npz"


def main() -> None:
    """Make samples, train, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ccp", type=Path)
    parser.add_argument("--flat-lays", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--samples", type=int, default=48_000)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only-calibrate", action="store_true", help="Keep the network's weights in --out."
    )
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    finder = PersonFinder()
    mannequins = list(drawn_people(finder, MANNEQUINS))
    held = len(mannequins) // 5
    validation = Sampler(
        list(street_people(finder, arguments.ccp, "val")),
        mannequins[:held],
        [],
        seed=arguments.seed + 1,
    )
    if arguments.only_calibrate:
        arrays = stored(arguments.out)
    else:
        layer = DetectorLayer(find_pose_model(), FEATURES)
        flat_lays = training_flat_lays(arguments.flat_lays)
        train = Sampler(
            list(street_people(finder, arguments.ccp, "train")),
            mannequins[held:],
            [shrink(read_photo(path), 512) for path in flat_lays],
            seed=arguments.seed,
        )
        network = fit(
            encode(train, layer, arguments.samples),
            encode(validation, layer, arguments.samples // 16),
            arguments.epochs,
        )
        arrays = folded(network)
    save(arguments.out, arrays | {"person": np.array([1, 0]), "visibility": np.zeros(5)})
    person, visibility = calibrate(validation, arguments.out, arguments.samples // 16)
    save(arguments.out, arrays | {"person": person, "visibility": visibility})


class PersonFinder:
    """Finds the one person of a whole photo as MediaPipe does."""

    def __init__(self) -> None:
        self._networks = OpenVinoNetworks(find_pose_model(), precision="f32")

    def find(self, photo: Image, mask: Image | None = None) -> Person | None:
        """Find the most confident person; None if there is none."""
        frame = letterbox(photo.shape[1], photo.shape[0])
        found = self._networks.detect(frame.cut(photo, detection.INPUT_SIDE, repeat_border=False))
        people = decode_detections(found.boxes, found.logits, frame, min_confidence=0.5)
        if not len(people):
            return None
        region = people.region(0)
        view = region.cut(photo, landmarks.INPUT_SIDE, repeat_border=True)
        pose = decode_landmarks(*self._networks.find_landmarks(view), region)
        if pose.score < 0.5:
            return None
        return Person(photo, pose.keypoints, pose.aligned, mask)


def street_people(finder: PersonFinder, ccp: Path, split: str) -> Iterator[Person]:
    """Give the people of a split of CCP, with garment masks where there are some."""
    with (ccp / "labels.csv").open(newline="") as file:
        names = [row["image"] for row in csv.DictReader(file) if row["split"] == split]
    for name in names:
        mask = ccp / "masks" / f"{Path(name).stem}.png"
        values = np.asarray(Pillow.open(mask)) if mask.is_file() else None
        person = finder.find(read_photo(ccp / name), values)
        if person is not None:
            yield person


def drawn_people(finder: PersonFinder, count: int) -> Iterator[Person]:
    """Draw mannequins and find them."""
    for index in range(count):
        person = finder.find(draw_mannequin(index, MANNEQUIN_SEED).photo)
        if person is not None:
            yield person


def training_flat_lays(folder: Path | None) -> list[Path]:
    """List every second photo of garments without a person; the others measure."""
    return sorted(folder.glob("*.jpg"))[::2] if folder else []


def shrink(photo: Image, side: int) -> Image:
    """Scale a photo down to a longer side."""
    scale = side / max(photo.shape[:2])
    if scale >= 1:
        return photo
    return np.asarray(
        cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
    )


def encode(
    sampler: Sampler, layer: DetectorLayer, count: int
) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """Run the detector on samples.

    Returns:
        (count, *FEATURES) float16, and (count, V + J) float32: what the network is to predict, then
        the weight of each coarse joint.
    """
    features = np.empty((count, *FEATURES), np.float16)
    targets = np.zeros((count, region_network.VALUES + len(JOINTS)), np.float32)
    for index, sample in enumerate(itertools.islice(sampler, count)):
        frame = letterbox(sample.photo.shape[1], sample.photo.shape[0])
        view = frame.cut(sample.photo, detection.INPUT_SIDE, repeat_border=False)
        features[index] = layer(view)
        targets[index] = target(sample)
    return features, targets


def target(sample: Sample) -> NDArray[np.float32]:
    """What the network is to predict of a sample, see `decode_proposal`; weights of the joints."""
    values = np.zeros(region_network.VALUES + len(JOINTS), np.float32)
    region, keypoints = sample.region, sample.keypoints
    if region is None or keypoints is None:
        return values
    height, width = sample.photo.shape[:2]
    frame = letterbox(width, height)
    joints = keypoints[JOINTS]
    inside = ((joints[:, :2] >= 0) & (joints[:, :2] < (width, height))).all(axis=1)
    values[:6] = (
        (region.x - frame.x) / frame.side + 0.5,
        (region.y - frame.y) / frame.side + 0.5,
        np.log(region.side / frame.side),
        np.sin(region.angle),
        np.cos(region.angle),
        1,
    )
    values[6 : region_network.VALUES] = (region.from_photo(joints[:, :2]) - 0.5).ravel()
    # Joints outside the crop are guesses, but they say which side is which.
    values[region_network.VALUES :] = (joints[:, 2] > 0.5) * np.where(inside, 1.0, 0.2)
    return values


class RegionNetwork(nn.Module):
    """Two convolutions and two dense layers over the detector's deepest layer."""

    def __init__(self) -> None:
        super().__init__()
        channels, height, width = FEATURES
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, CHANNELS, 1), nn.BatchNorm2d(CHANNELS), nn.ReLU(),
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS), nn.ReLU(),
        )  # fmt: skip
        self.dense = nn.Sequential(
            nn.Flatten(), nn.Dropout(DROPOUT),
            nn.Linear(CHANNELS * height * width, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT),
            nn.Linear(HIDDEN, region_network.VALUES),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        """Predict (B, VALUES) from (B, *FEATURES)."""
        return self.dense(self.convolutions(features))


def loss_of(predicted: Tensor, targets: Tensor) -> Tensor:
    """Errors of the region as shares of its side, of the joints likewise, and of the person."""
    person = targets[:, 5] > 0.5
    logits = F.binary_cross_entropy_with_logits(predicted[:, 5], targets[:, 5])
    predicted, targets = predicted[person], targets[person]
    joints = len(JOINTS)
    error = predicted - targets[:, : region_network.VALUES]
    side = torch.exp(targets[:, 2:3])
    region = torch.cat([2 * error[:, :2] / side, error[:, 2:3], 0.5 * error[:, 3:5]], dim=1)
    weights = targets[:, -joints:].repeat_interleave(2, dim=1)
    points = small(3 * error[:, 6:]) * weights
    return small(region).mean() + points.sum() / weights.sum() + 0.1 * logits


def small(error: Tensor) -> Tensor:
    """Squared where small, absolute where large (Huber)."""
    return F.smooth_l1_loss(error, torch.zeros_like(error), beta=0.05, reduction="none")


def fit(
    train: tuple[NDArray[np.float16], NDArray[np.float32]],
    validation: tuple[NDArray[np.float16], NDArray[np.float32]],
    epochs: int,
    batch_size: int = 128,
) -> RegionNetwork:
    """Train, and tell the errors on the validation samples as it goes."""
    features, targets = (torch.from_numpy(array) for array in train)
    network = RegionNetwork()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    steps = epochs * (len(targets) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps, pct_start=0.15)
    for epoch in range(epochs):
        start = time.monotonic()
        network.train()
        for rows in torch.randperm(len(targets)).split(batch_size):
            if len(rows) == batch_size:
                loss = loss_of(network(features[rows].float()), targets[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        told = " ".join(
            f"{name} {value:.3f}" for name, value in measure(network, validation).items()
        )
        print(f"epoch {epoch + 1}: {told} ({time.monotonic() - start:.0f} s)", flush=True)
    return network


def measure(
    network: RegionNetwork, samples: tuple[NDArray[np.float16], NDArray[np.float32]]
) -> dict[str, float]:
    """Measure medians of the errors, and how many people are told from the rest."""
    network.eval()
    features, targets = (torch.from_numpy(array) for array in samples)
    with torch.no_grad():
        predicted = torch.cat([network(rows.float()) for rows in features.split(256)])
    person = targets[:, 5] > 0.5
    limit = predicted[~person, 5].quantile(0.95)
    found = (predicted[person, 5] > limit).float().mean()
    predicted, targets = predicted[person], targets[person]
    centre = (predicted[:, :2] - targets[:, :2]).norm(dim=1) / torch.exp(targets[:, 2])
    scale = (predicted[:, 2] - targets[:, 2]).abs()
    return {
        "centre": float(centre.median()),
        "log-side": float(scale.median()),
        "found with 5 % false": float(found),
    }


def folded(network: RegionNetwork) -> dict[str, NDArray[np.float16]]:
    """Give the weights as float16, normalisation folded into the convolutions."""
    layers = list(network.convolutions)
    arrays: dict[str, NDArray[np.float16]] = {}
    for number, (convolution, norm) in enumerate(
        ((layers[0], layers[1]), (layers[3], layers[4])), 1
    ):
        fused = nn.utils.fuse_conv_bn_eval(convolution.eval(), norm.eval())
        arrays |= _layer(f"conv{number}", fused)
    linear = [layer for layer in network.dense if isinstance(layer, nn.Linear)]
    for number, layer in enumerate(linear, 1):
        arrays |= _layer(f"dense{number}", layer)
    return arrays


def _layer(name: str, layer: nn.Module) -> dict[str, NDArray[np.float16]]:
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    assert isinstance(bias, Tensor)
    return {
        name: weight.detach().numpy().astype(np.float16),
        f"{name}_bias": bias.detach().numpy().astype(np.float16),
    }


def save(path: Path, arrays: dict[str, NDArray[np.floating]]) -> None:
    """Write a file that `load_region_weights` reads."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **{name: array.astype(np.float16) for name, array in arrays.items()})
    print(f"Wrote {path}: {path.stat().st_size} bytes.", flush=True)


def stored(path: Path) -> dict[str, NDArray[np.float16]]:
    """Read the layers of a file that `save` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file if name.startswith(("conv", "dense"))}


def calibrate(
    sampler: Sampler, weights: Path, count: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fit the probabilities of a person and of each joint on samples that were not learned from.

    Returns:
        `person` and `visibility` of `RegionWeights`.
    """
    logits, people = [], []
    features, right = [], []
    estimator = OpenVinoPoseEstimator(precision="f32", region_weights=weights)
    for sample in itertools.islice(sampler, count):
        size = (sample.photo.shape[1], sample.photo.shape[0])
        sure = np.clip(estimator.propose(sample.photo).person, 1e-7, 1 - 1e-7)
        logits.append(np.log(sure) - np.log1p(-sure))
        people.append(sample.keypoints is not None)
        found = estimator.find(sample.photo)
        if sample.keypoints is None or found.judged_by is None or not found.people:
            continue
        keypoints, true = found.people[0], sample.keypoints
        shoulders, hips = (
            true[list(landmark_indices((f"left_{name}", f"right_{name}"))), :2].mean(axis=0)
            for name in ("shoulder", "hip")
        )
        near = np.linalg.norm(keypoints[:, :2] - true[:, :2], axis=1) < RIGHT * np.linalg.norm(
            shoulders - hips
        )
        inside = ((keypoints[:, :2] >= 0) & (keypoints[:, :2] <= size)).all(axis=1)
        features.append(visibility_features(keypoints, found.judged_by, size)[inside])
        right.append((near & (true[:, 2] >= 0.5))[inside])
    known = np.array(logits)[:, None]
    there = np.array(people)
    weights = np.where(there, 1 / there.mean(), FALSE_POSE_COSTS / (1 - there.mean()))
    person = regress(np.hstack([known, np.ones_like(known)]), there, weights)
    visibility = regress(np.concatenate(features), np.concatenate(right))
    print(f"person {person}, visibility {visibility}")
    return person, visibility


def regress(
    features: NDArray[np.floating],
    truth: NDArray[np.bool_],
    weights: NDArray[np.floating] | None = None,
) -> NDArray[np.float32]:
    """Fit a logistic regression, each row counting as much as its weight."""
    x, y = torch.tensor(features, dtype=torch.float64), torch.tensor(truth, dtype=torch.float64)
    weight = None if weights is None else torch.tensor(weights / weights.mean())
    w = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([w], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(x @ w, y, weight)
        loss.backward()
        return loss

    optimizer.step(closure)
    return w.detach().numpy().astype(np.float32)


if __name__ == "__main__":
    main()
