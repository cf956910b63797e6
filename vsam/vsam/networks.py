"""What runs the model: torch for a run folder, another runtime for an export. One interface."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Protocol

import torch

from vsam_heatmaps.errors import VsamError, expected

from .modeling.model import TaggingModel, VsamOutput
from .run_folder import load_checkpoint, read_run

_AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Network(Protocol):
    """A model that is loaded and ready, on whatever runs it.

    Attributes:
        device: Where its input is best made.
    """

    device: torch.device

    def __call__(self, images: torch.Tensor) -> VsamOutput:
        """Tag a batch of any size; how it is split is the network's to choose.

        Args:
            images: (B, 3, S, S) float32, normalised as the checkpoint's preprocessing says.

        Returns:
            float32, on the network's device.
        """
        ...


class TorchNetwork:
    """The model in torch.

    Args:
        model: Changed in place: moved, and put into evaluation mode.
        device: `auto`, `cpu`, `cuda` or `mps`.
        precision: `fp32`, or `bf16` or `fp16` autocast.

    Raises:
        VsamError: If the device isn't there, or the precision is unknown.
    """

    def __init__(
        self, model: TaggingModel, *, device: str = "auto", precision: str = "fp32"
    ) -> None:
        self.device = find_device(device)
        self._dtype = _AUTOCAST[check_precision(precision)]
        # Channels last is the faster layout for convolutions on CPUs and GPUs alike.
        self._model = model.eval().to(self.device).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> VsamOutput:
        """Tag a batch; see `Network`."""
        autocast: Any = contextlib.nullcontext()
        if self._dtype is not None:
            autocast = torch.autocast(self.device.type, self._dtype)
        with autocast:
            output = self._model(images.contiguous(memory_format=torch.channels_last))
        return VsamOutput(*(tensor.float() for tensor in output))


def load_network(folder: Path, *, device: str = "auto", precision: str = "fp32") -> Network:
    """Load what a run folder or an export holds.

    Args:
        folder: The folder.
        device: `auto`, `cpu`, `cuda` or `mps`; an export runs on the CPU.
        precision: `fp32`, `bf16` or `fp16`: autocast in torch, the inference precision in
            OpenVINO, where the processor has it; the other exports are computed as they are.

    Raises:
        VsamError: As `load_checkpoint`; if device or precision is none that this can have; or as
            `read_export`, or if the runtime can't read the file.
    """
    check_precision(precision)
    description, labels = read_run(folder)
    if description.export is None:
        checkpoint = load_checkpoint(folder)
        return TorchNetwork(checkpoint.model, device=device, precision=precision)

    from .export.folder import read_export

    find_device(device)  # an unknown name is told as such
    if device not in ("auto", "cpu"):
        raise VsamError(
            f"Expected `--device` to be cpu with {folder}, but got {device}: an export runs on "
            "the CPU. Give the run that it was made from, or --device cpu."
        )
    exported = read_export(folder, description, labels)
    if exported.format == "openvino":
        from .export.openvino_format import OpenVinoNetwork

        return OpenVinoNetwork(exported, precision=precision)
    if precision != "fp32":
        raise VsamError(
            f"Expected `--precision` to be fp32 with {folder}, but got {precision}: the arithmetic "
            f"of an {exported.format} export can't be changed. Export to OpenVINO, or give the run."
        )
    if exported.format == "onnx":
        from .export.onnx_format import OnnxNetwork

        return OnnxNetwork(exported)
    from .export.torch_format import TorchExportNetwork

    return TorchExportNetwork(exported)


def check_precision(precision: str) -> str:
    """Give the name back if it is one of `fp32`, `bf16` and `fp16`, else raise a `VsamError`."""
    if precision not in _AUTOCAST:
        raise expected("precision", f"one of {', '.join(_AUTOCAST)}", precision)
    return precision


def find_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda` or `mps` into a device.

    Raises:
        VsamError: If this machine hasn't got it, or the name is unknown.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    if name not in available:
        raise expected("device", f"one of auto, {', '.join(available)}", name)
    if not available[name]:
        raise VsamError(f"Expected `--device` to be there, but this machine has no {name}.")
    return torch.device(name)
