"""Start VGG-16's convolution blocks from weights that others trained on ImageNet."""

from __future__ import annotations

import http.client
import socket
import threading
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from torchvision.models import VGG16_BN_Weights, VGG16_Weights

from vsam_datasets.preprocessing import Preprocessing
from vsam_heatmaps.errors import VsamError

from .keras_weights import (
    VGG_PREPROCESSING,
    block_layers,
    is_hdf5,
    keras_shape,
    read_shapes,
    read_tensors,
)
from .misfits import describe_misfits, listed
from .modeling.vsam import VSAM

IMAGENET = Path("imagenet")
"""In the place of a file: torchvision's own weights, which it downloads."""

# What stands before a layer's number: torchvision's own names, the blocks alone, and both as
# DistributedDataParallel or DataParallel wraps them.
_PREFIXES = ("features.", "", "module.features.", "features.module.", "module.")
_KERAS_CLASSIFIER = ("fc1", "fc2", "predictions")
_SECONDS = 10.0
_REMEDY = "VGG-16's weights need --width 1, those of vgg16_bn --batch-norm, and no others have it."


def load_backbone(model: VSAM, path: Path) -> Preprocessing:
    """Load weights of VGG-16 into the convolution blocks; a classifier's are left out.

    Args:
        model: Of width 1; with batch normalisation for `vgg16_bn` weights, and for no others.
        path: A state dict of torchvision's VGG-16 (`.pth`, read without running code, or
            `.safetensors`), Keras' VGG-16 as HDF5, or `IMAGENET`.

    Returns:
        The input that the weights were trained on.

    Raises:
        VsamError: If the file is missing or damaged, names or shapes differ, a value is not finite,
            or torchvision's weights can't be downloaded. The model is as it was then.
    """
    if path == IMAGENET:
        path = _torchvision_weights(model)
    elif not path.is_file():
        raise VsamError(f"Expected `--backbone-weights` to be a file, but {path} is not there.")
    if is_hdf5(path):
        model.features.load_state_dict(_from_keras(model.features, path))
        return VGG_PREPROCESSING
    model.features.load_state_dict(_from_torchvision(model.features, path))
    return Preprocessing()


def _from_keras(features: nn.Sequential, path: Path) -> dict[str, torch.Tensor]:
    wanted = features.state_dict()
    names = {
        f"{layer}/{theirs}": f"{ours}.{parameter}"
        for layer, ours in block_layers(features).items()
        for theirs, parameter in {"kernel": "weight", "bias": "bias"}.items()
    }
    given = {
        name: shape
        for name, shape in read_shapes(path).items()
        if name.partition("/")[0] not in _KERAS_CLASSIFIER
    }
    misfits = describe_misfits(
        {name: keras_shape(wanted[ours].shape) for name, ours in names.items()}, given
    )
    if misfits or len(names) != len(wanted):  # Keras has no VGG-16 with batch normalisation
        misfits = misfits or "it holds no batch normalisation"
        raise VsamError(f"Expected {path} to hold Keras' VGG-16, but {misfits}. {_REMEDY}")
    tensors = read_tensors(path, names)
    return {ours: tensors[name] for name, ours in names.items()}


def _from_torchvision(features: nn.Sequential, path: Path) -> dict[str, torch.Tensor]:
    state = _read_state(path)
    prefixes = [prefix for prefix in _PREFIXES if f"{prefix}0.weight" in state]
    if len(prefixes) != 1:
        found = f"it holds {listed(sorted(state)) or 'no tensors'}"
        if prefixes:
            found = f"it holds several: {listed(f'{prefix}0.weight' for prefix in prefixes)}"
        raise VsamError(
            f"Expected {path} to hold VGG-16's convolution blocks (features.0.weight and so on), "
            f"but {found}."
        )
    prefix = prefixes[0]
    wanted = {f"{prefix}{name}": tensor for name, tensor in features.state_dict().items()}
    # Files from before 2018 have no such counts, torchvision's own among them; none is needed.
    wanted = {
        name: tensor
        for name, tensor in wanted.items()
        if name in state or not name.endswith("num_batches_tracked")
    }
    given = {
        name: tensor
        for name, tensor in state.items()
        if not name.removeprefix("module.").startswith("classifier.")
    }
    misfits = describe_misfits(_shapes(wanted), _shapes(given))
    if misfits:
        raise VsamError(f"Expected {path} to hold torchvision's VGG-16, but {misfits}. {_REMEDY}")
    for name, tensor in given.items():
        if not tensor.isfinite().all():
            raise VsamError(
                f"Expected {name} in {path} to be finite, but it holds NaN or infinity."
            )
    loaded = {name.removeprefix(prefix): tensor for name, tensor in given.items()}
    return features.state_dict() | loaded


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a state dict without running code."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        return {name: tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}
    except Exception as error:  # torch raises many types for a file that is not its own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise VsamError(f"Could not read weights from {path}: {reason}") from error


def _torchvision_weights(model: VSAM) -> Path:
    """Give torchvision's own weights for a model out of its cache, downloaded if need be."""
    normalised = any(isinstance(layer, nn.BatchNorm2d) for layer in model.features)
    url = (VGG16_BN_Weights if normalised else VGG16_Weights).IMAGENET1K_V1.url
    name = url.rpartition("/")[2]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    before = socket.getdefaulttimeout()
    try:
        _ask(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        socket.setdefaulttimeout(_SECONDS)  # of a read; torch's download has no limit of its own
        # The name holds the beginning of its hash: vgg16-397923af.pth.
        torch.hub.download_url_to_file(url, str(path), path.stem.rpartition("-")[2])
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise VsamError(
            f"Could not download {url} ({error}). Download it on a machine that can, and name the "
            f"file: --backbone-weights {name}."
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    return path


def _ask(url: str) -> None:
    """Ask for the head of a page; raise what went wrong, or that no answer comes in time.

    In a thread: a name server or several addresses that don't answer take much longer than the
    limit that can be given.
    """
    answers: list[Exception | None] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(request, timeout=_SECONDS).close()
            answers.append(None)
        except Exception as error:  # raised below, where it can be handled
            answers.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_SECONDS)
    if not answers:
        raise TimeoutError(f"no answer within {_SECONDS:.0f} seconds")
    if answers[0] is not None:
        raise answers[0]
