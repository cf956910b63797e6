"""The region network: where the landmark network should look on a photo of part of a person.

MediaPipe's detector finds whole people by their faces; without a face it finds nothing, or
something else. Yet the landmark network reads cropped people well once it is given the region that
the whole photo would have. This small network predicts that region from the detector's deepest
layer. `heatmaps/region_network/train.py` made its weights out of crops of whole photos, whose
regions are known.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import VsamError
from .detection import sigmoid
from .regions import Region

FEATURES = (1152, 7, 7)
"""Channels, height and width of the detector's layer that the network reads."""

COARSE_JOINTS: tuple[str, ...] = tuple(
    f"{side}_{joint}"
    for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    for side in ("left", "right")
)
"""Joints that it predicts roughly, to judge the landmark network's results by."""

VALUES = 6 + 2 * len(COARSE_JOINTS)
"""Values it predicts: see `decode_proposal`."""

_FILE = "region_network.npz"
_LAYERS = ("conv1", "conv2", "dense1", "dense2")
_NAMES = (*_LAYERS, *(f"{layer}_bias" for layer in _LAYERS), "person", "visibility")

Layer = tuple[NDArray[np.floating], NDArray[np.floating]]


@dataclass(frozen=True)
class RegionWeights:
    """Weights of the region network.

    Attributes:
        convolutions: Kernels (out, in, k, k) and biases (out), each followed by a ReLU.
        dense: Matrices (out, in) and biases (out) after flattening (channel, row, column); a ReLU
            between them.
        person: (2,) scale and offset that turn its logit of a person into a calibrated one.
        visibility: (5,) weights of `crops.trusted_visibility`.
    """

    convolutions: Sequence[Layer]
    dense: Sequence[Layer]
    person: NDArray[np.floating]
    visibility: NDArray[np.floating]


@dataclass(frozen=True)
class Proposal:
    """Where a person seems to be.

    Attributes:
        region: The region that the whole photo would have.
        person: Probability that there is a person at all, 0..1.
        joints: (12, 2) (x, y) of `COARSE_JOINTS` in pixels of the photo.
    """

    region: Region
    person: float
    joints: NDArray[np.float32]


def load_region_weights(path: Path | None = None) -> RegionWeights:
    """Load the weights that ship with the package, or those of a file that `train.py` wrote.

    Raises:
        VsamError: If the file is missing or damaged.
    """
    if path is None:
        with as_file(_shipped()) as shipped:
            return load_region_weights(shipped)
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in _NAMES}
        _check_shapes(arrays)
    except Exception as error:  # zipfile and numpy raise whatever damage leads them to
        raise _unreadable(path, error) from error
    convolutions, dense = (
        [(arrays[f"{kind}{number}"], arrays[f"{kind}{number}_bias"]) for number in (1, 2)]
        for kind in ("conv", "dense")
    )
    return RegionWeights(convolutions, dense, arrays["person"], arrays["visibility"])


def region_weights_sha256() -> str:
    """Hash the weights that ship with the package, hexadecimal: shards record it.

    Raises:
        VsamError: If they are missing.
    """
    try:
        return hashlib.sha256(_shipped().read_bytes()).hexdigest()
    except OSError as error:
        raise _unreadable(_shipped(), error) from error


def _shipped() -> Traversable:
    return files(__package__) / "data" / _FILE


def _unreadable(path: Path | Traversable, error: Exception) -> VsamError:
    reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    return VsamError(
        f"Could not read the region network's weights in {path}: {reason}. "
        "Install vsam again, or choose --crops off."
    )


def _check_shapes(arrays: Mapping[str, NDArray[np.floating]]) -> None:
    """Check that each layer takes what the one before it gives.

    Raises:
        ValueError: If one doesn't.
    """
    inputs, height, width = FEATURES
    for number in (1, 2):
        outputs = len(np.atleast_1d(arrays[f"conv{number}_bias"]))
        kernel = arrays[f"conv{number}"].shape[-1:] * 2
        _check(arrays, f"conv{number}", (outputs, inputs, *kernel))
        _check(arrays, f"conv{number}_bias", (outputs,))
        inputs = outputs
    inputs *= height * width
    for number in (1, 2):
        outputs = VALUES if number == 2 else len(np.atleast_1d(arrays["dense1_bias"]))
        _check(arrays, f"dense{number}", (outputs, inputs))
        _check(arrays, f"dense{number}_bias", (outputs,))
        inputs = outputs
    _check(arrays, "person", (2,))
    _check(arrays, "visibility", (5,))


def _check(arrays: Mapping[str, NDArray[np.floating]], name: str, shape: tuple[int, ...]) -> None:
    if arrays[name].shape != shape:
        raise ValueError(f"{name} is of shape {arrays[name].shape} instead of {shape}")


def decode_proposal(values: NDArray[np.float32], frame: Region, weights: RegionWeights) -> Proposal:
    """Turn the network's output into a region on the photo.

    Args:
        values: (30,) centre x, y as shares of the frame, 0..1 inside it; natural logarithm of the
            side over the frame's; sine and cosine of the angle; logit of a person; x, y of the
            coarse joints as shares of the region's side, from its centre.
        frame: What the detector looked at, see `letterbox`.
        weights: Those of the network.
    """
    x, y, log_side, sine, cosine, person = (float(value) for value in values[:6])
    region = Region(
        x=frame.x + (x - 0.5) * frame.side,
        y=frame.y + (y - 0.5) * frame.side,
        side=frame.side * math.exp(min(max(log_side, -5.0), 5.0)),
        angle=math.atan2(sine, cosine),
    )
    joints = region.to_photo(values[6:].reshape(-1, 2).astype(np.float32) + np.float32(0.5))
    scale, offset = (float(value) for value in weights.person)
    probability = float(sigmoid(np.array(scale * person + offset, np.float32)))
    return Proposal(region, probability, joints)
