"""`model.xml` and `model.bin`: for OpenVINO, in float32, float16 or int8."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vsam_heatmaps.errors import expected
from vsam_heatmaps.openvino_core import openvino_core

from ..modeling.model import VsamOutput
from .folder import FILES, INPUT, Exported
from .program import Program

FORMAT = "openvino"
PACKAGES = ("torch", "openvino")

# OpenVINO's names of arithmetic, and of what a processor must have for it.
_ARITHMETIC = {"fp32": ("f32", None), "bf16": ("bf16", "BF16"), "fp16": ("f16", "FP16")}


def convert(program: Program, image_size: int) -> Any:
    """Make an `openvino.Model` of a program that takes images of this height and width."""
    openvino_core()  # before the cores that the tools make for themselves
    import openvino

    network = openvino.convert_model(program.program)
    network.reshape({INPUT: [-1, 3, image_size, image_size]})
    for output, name in zip(network.outputs, program.names, strict=True):
        output.get_tensor().set_names({name})
    return network


def quantise(
    network: Any, photos: Sequence[torch.Tensor], normalize: Callable[[torch.Tensor], torch.Tensor]
) -> Any:
    """Make a network compute in int8 where that is precise enough.

    Ranges of activations are taken from photos (NNCF's post-training quantisation, with bias
    correction). What the outputs are computed from in the last step stays in float32: the last
    convolution of the attention and what makes maps of it, and the heads' linear layers. They are
    less than a thousandth of the work, and their errors are nobody's to correct. So does the
    pooling with maps that sum to 1: all share one range, whose steps may be as large as all that a
    broad map has, if another is sharp.

    Args:
        network: An `openvino.Model`.
        photos: (3, S, S) uint8 each, as `Preprocessing.resize` makes them.
        normalize: Makes the network's input of such photos.
    """
    # NNCF prints its progress, and standard output is the command's own.
    with contextlib.redirect_stdout(sys.stderr):
        import nncf

        nncf.set_log_level(logging.WARNING)
        return nncf.quantize(
            network,
            nncf.Dataset(photos, lambda photo: {INPUT: normalize(photo[None]).numpy()}),
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            subset_size=len(photos),
            ignored_scope=nncf.IgnoredScope(names=_last_layers(network) + _poolings(network)),
        )


def _last_layers(network: Any) -> list[str]:
    """Name the nodes between each output and the last weights that it is computed with."""
    waiting = [result.input_value(0).get_node() for result in network.get_results()]
    names = set()
    while waiting:
        node = waiting.pop()
        if node.get_type_name() == "Constant":
            continue
        names.add(node.get_friendly_name())
        if not _has_weights(node):
            waiting += [value.get_node() for value in node.input_values()]
    return sorted(names)


def _poolings(network: Any) -> list[str]:
    """Name the matrix products of region attention's maps and the features."""
    waiting = [
        output.get_node().input_value(0).get_node()
        for output in network.outputs
        if "attention" in output.get_names()
    ]
    names = []
    while waiting:
        for target in waiting.pop().output(0).get_target_inputs():
            node = target.get_node()
            if node.get_type_name() == "MatMul":
                names.append(node.get_friendly_name())
            elif node.get_type_name() in ("Reshape", "Broadcast"):
                waiting.append(node)
    return names


def _has_weights(node: Any) -> bool:
    """Say whether a node multiplies with weights, not with what was computed from the photo."""
    if node.get_type_name() not in ("Convolution", "MatMul"):
        return False
    second = node.input_value(1).get_node()
    while second.get_input_size() == 1:  # weights may be converted, or turned
        second = second.input_value(0).get_node()
    return bool(second.get_type_name() == "Constant")


def write_openvino(network: Any, folder: Path, *, half: bool) -> None:
    """Write `model.xml` and `model.bin`.

    Args:
        network: An `openvino.Model`.
        folder: Where to write.
        half: Round weights to float16, which halves the file; they are computed with in float32.
    """
    import openvino

    openvino.save_model(network, folder / FILES[FORMAT][0], compress_to_fp16=half)


class OpenVinoNetwork:
    """An OpenVINO network on the CPU.

    A batch is split into requests that run side by side, one on each core: so a photo's activations
    stay in that core's cache, and no core waits for another inside a layer.

    Args:
        exported: Where it is, and what it must look like.
        precision: `fp32`; or `bf16` or `fp16`, where the processor has that arithmetic.
        photos_a_request: Photos that a request takes at once.
        hint: `THROUGHPUT` (one thread a request) for batches; `LATENCY` (all threads in one
            request) for single photos.

    Raises:
        VsamError: If it can't be read, is none that fits, or the processor lacks the arithmetic.
    """

    device = torch.device("cpu")

    def __init__(
        self,
        exported: Exported,
        *,
        precision: str = "fp32",
        photos_a_request: int = 1,
        hint: str = "THROUGHPUT",
    ) -> None:
        core = openvino_core()
        import openvino

        arithmetic, needed = _ARITHMETIC[precision]
        there = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if needed is not None and needed not in there:
            raise expected(
                "--precision", f"fp32: this processor has no {precision} arithmetic", precision
            )
        self._exported = exported
        self._size = photos_a_request
        try:
            network = core.read_model(exported.network)
        except RuntimeError as error:
            raise exported.damaged(error) from error
        exported.require_fit(_shapes(network.inputs), _shapes(network.outputs))
        # With a fixed batch OpenVINO plans memory and kernels once, when it compiles.
        network.reshape({INPUT: [photos_a_request, *exported.input_shape]})
        settings = {
            "PERFORMANCE_HINT": hint,
            # Other threads decode photos meanwhile; the system moves threads better than pins do.
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": arithmetic,
        }
        try:
            compiled = core.compile_model(network, "CPU", settings)
        except RuntimeError as error:
            raise exported.damaged(error) from error
        # As many requests as OpenVINO finds best for the hint.
        self._requests = openvino.AsyncInferQueue(compiled)
        self._requests.set_callback(_keep_outputs)
        self._lock = threading.Lock()

    def __call__(self, images: torch.Tensor) -> VsamOutput:
        """Tag a batch; see `Network`."""
        count, size = len(images), self._size
        pixels = np.ascontiguousarray(images.numpy())
        outputs = {
            name: np.empty((count, *shape), np.float32)
            for name, shape in self._exported.kept.items()
        }
        with self._lock:  # the requests are one batch's at a time
            for start in range(0, count, size):
                part = pixels[start : start + size]
                if len(part) < size:  # (n, 3, S, S) -> (size, 3, S, S); the rest is not kept
                    part = np.resize(part, (size, *part.shape[1:]))
                self._requests.start_async({INPUT: part}, (outputs, start))
            self._requests.wait_all()
        return self._exported.output(
            {name: torch.from_numpy(array) for name, array in outputs.items()}
        )


def _keep_outputs(request: Any, target: tuple[dict[str, NDArray[np.float32]], int]) -> None:
    outputs, start = target
    for name, array in outputs.items():
        found = request.get_tensor(name).data
        array[start : start + len(found)] = found[: len(array) - start]


def _shapes(values: Any) -> dict[str, tuple[int, ...]]:
    """Give the shapes of inputs or outputs by name, less the batch; -1 is an unknown size."""
    return {
        " ".join(sorted(value.get_names())): tuple(
            size.get_length() if size.is_static else -1 for size in list(value.partial_shape)[1:]
        )
        for value in values
    }
