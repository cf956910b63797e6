"""Start a backbone from weights that others trained, mostly on ImageNet."""

from __future__ import annotations

import http.client
import logging
import socket
import threading
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import torch
from torchvision.models import get_model_weights

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
from .modeling.backbones.interface import Backbone
from .modeling.backbones.timm_models import TimmBackbone, ViTBackbone
from .modeling.backbones.vgg import VggBackbone
from .modeling.model import TaggingModel

IMAGENET = Path("imagenet")
"""In the place of a file: torchvision's own weights, which it downloads."""

_log = logging.getLogger("vsam")

# What DistributedDataParallel and DataParallel put before the names.
_WRAPPED = "module."
_POSITIONS = "pos_embed"
# What stands before the number of a layer of VGG: torchvision's own names, the blocks alone, and
# both as those wrap them.
_PREFIXES = ("features.", "", "module.features.", "features.module.", "module.")
_KERAS_CLASSIFIER = ("fc1", "fc2", "predictions")
_SECONDS = 10.0
_REMEDY = "VGG-16's weights need --width 1, those of vgg16_bn --batch-norm, and no others have it."


def load_backbone(model: TaggingModel, path: Path) -> Preprocessing:
    """Load weights of others into a model's backbone; a classifier's are left out.

    Args:
        model: Its backbone is of the architecture whose weights these are. VGG-16 is of width 1,
            with batch normalisation for `vgg16_bn` weights, and for no others.
        path: A state dict of torchvision or timm, whose the backbone is (`.pth`, read without
            running code, or `.safetensors`), Keras' VGG-16 as HDF5, or `IMAGENET`.

    Returns:
        The input that the weights were trained on.

    Raises:
        VsamError: If the file is missing or damaged, names or shapes differ, a value is not finite,
            or torchvision's weights can't be downloaded. The model is as it was then.
    """
    backbone = model.features.whole()
    if path == IMAGENET:
        path = _torchvision_weights(backbone)
    elif not path.is_file():
        raise VsamError(f"Expected `--backbone-weights` to be a file, but {path} is not there.")
    if is_hdf5(path):
        state, preprocessing = _from_keras(backbone, path), VGG_PREPROCESSING
    elif isinstance(backbone, VggBackbone):
        state, preprocessing = _from_torchvisions_vgg(backbone, path), backbone.preprocessing()
    else:
        state, preprocessing = _from_library(backbone, path), backbone.preprocessing()
    # What a backbone that is cut has not is left out.
    model.features.load_state_dict({name: state[name] for name in model.features.state_dict()})
    return preprocessing


def _from_keras(features: Backbone, path: Path) -> dict[str, torch.Tensor]:
    if not isinstance(features, VggBackbone):
        raise VsamError(
            f"Expected {path} to hold weights of {features.name}, but Keras' files are read for "
            "--backbone vgg16 alone."
        )
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


def _from_library(backbone: Backbone, path: Path) -> dict[str, torch.Tensor]:
    state = _read_state(path)
    if all(name.startswith(_WRAPPED) for name in state):
        state = {name.removeprefix(_WRAPPED): tensor for name, tensor in state.items()}
    names = backbone.library_names()
    with torch.device("meta"):
        classifier = set(backbone.library_model().state_dict()) - set(names.values())
    state = {name: tensor for name, tensor in state.items() if name not in classifier}
    if isinstance(backbone, ViTBackbone) and _POSITIONS in state:
        before = state[_POSITIONS]
        state[_POSITIONS] = after = backbone.resample_positions(before)
        if after.shape != before.shape:
            _log.info(
                "The position embeddings in %s were resampled from %d tokens to %d.",
                path,
                before.shape[1],
                after.shape[1],
            )
    wanted = {names[ours]: tensor for ours, tensor in backbone.state_dict().items()}
    wanted = _without_missing_counts(wanted, state)
    misfits = describe_misfits(_shapes(wanted), _shapes(state))
    if misfits:
        raise VsamError(
            f"Expected {path} to hold weights of {backbone.name}, but {misfits}. Name the "
            "--backbone that they are of."
        )
    _require_finite(state, path)
    loaded = {ours: state[theirs] for ours, theirs in names.items() if theirs in state}
    return backbone.state_dict() | loaded


def _from_torchvisions_vgg(features: VggBackbone, path: Path) -> dict[str, torch.Tensor]:
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
    wanted = _without_missing_counts(wanted, state)
    given = {
        name: tensor
        for name, tensor in state.items()
        if not name.removeprefix("module.").startswith("classifier.")
    }
    misfits = describe_misfits(_shapes(wanted), _shapes(given))
    if misfits:
        raise VsamError(f"Expected {path} to hold torchvision's VGG-16, but {misfits}. {_REMEDY}")
    _require_finite(given, path)
    loaded = {name.removeprefix(prefix): tensor for name, tensor in given.items()}
    return features.state_dict() | loaded


def _without_missing_counts(
    wanted: dict[str, torch.Tensor], given: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Leave out counts of batches that a file lacks.

    Files from before 2018 have none, torchvision's own among them; none is needed.
    """
    return {
        name: tensor
        for name, tensor in wanted.items()
        if name in given or not name.endswith("num_batches_tracked")
    }


def _require_finite(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise VsamError(
                f"Expected {name} in {path} to be finite, but it holds NaN or infinity."
            )


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
    except Exception as error:  # torch raises many types for a file that is not its own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise VsamError(f"Could not read weights from {path}: {reason}") from error
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise VsamError(f"Expected {path} to hold a state dict: tensors by name. Save one alone.")
    for name, inner in state.items():
        if isinstance(inner, Mapping) and any(map(torch.is_tensor, inner.values())):
            raise VsamError(
                f"Expected {path} to hold a state dict alone, but it is a checkpoint with one "
                f"under `{name}`. Save that alone."
            )
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}


def _torchvision_weights(backbone: Backbone) -> Path:
    """Give torchvision's own weights of a backbone out of its cache, downloaded if need be."""
    if isinstance(backbone, TimmBackbone):
        raise VsamError(
            f"Expected `--backbone-weights` to be a file for timm's {backbone.name}, but got "
            f"{IMAGENET}, which is torchvision's. Download {backbone.published_weights()} on a "
            "machine that can, and name it."
        )
    url = get_model_weights(backbone.name).DEFAULT.url
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
