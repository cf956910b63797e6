"""`model.onnx`: for ONNX Runtime, and for all else that reads ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from vsam_heatmaps.errors import VsamError

from ..modeling.model import VsamOutput
from .folder import FILES, INPUT, Exported
from .program import Program

FORMAT = "onnx"
PACKAGES = ("torch", "onnx", "onnxscript")
# The newest that torch's exporter writes by itself; ONNX Runtime reads it since 1.17.
_OPSET = 20


def write_onnx(program: Program, folder: Path) -> None:
    """Write `model.onnx`, with its weights.

    Raises:
        VsamError: If it is too large for one file.
    """
    import onnx
    import onnxscript  # noqa: F401  # torch needs it, and says so in a way of its own

    made = torch.onnx.export(
        program.program,
        dynamo=True,
        input_names=[INPUT],
        output_names=program.names,
        dynamic_shapes={INPUT: {0: "batch"}},
        opset_version=_OPSET,
        verbose=False,
    )
    assert made is not None  # it is None only where a path is given
    proto = made.model_proto
    _remove_notes(proto)
    path = folder / FILES[FORMAT][0]
    try:
        onnx.save_model(proto, path)
    except ValueError as error:  # protobuf's limit
        raise VsamError(
            "Expected the model to take less than 2 GB, which ONNX files are limited to. Export it "
            "to OpenVINO."
        ) from error
    onnx.checker.check_model(path, full_check=True)


def _remove_notes(proto: Any) -> None:
    """Remove torch's notes on where each node came from: they are larger than the graph."""
    graph = proto.graph
    for item in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info,
                 *graph.initializer):  # fmt: skip
        del item.metadata_props[:]
        item.doc_string = ""


class OnnxNetwork:
    """An ONNX network in ONNX Runtime, on the CPU.

    Args:
        exported: Where it is, and what it must look like.

    Raises:
        VsamError: If it can't be read, or is none that fits.
    """

    device = torch.device("cpu")

    def __init__(self, exported: Exported) -> None:
        import onnxruntime

        self._exported = exported
        options = onnxruntime.SessionOptions()
        # Threads that wait must sleep: other threads decode photos meanwhile.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors alone
        try:
            self._session = onnxruntime.InferenceSession(
                exported.network, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors have no common base
            raise exported.damaged(error) from error
        exported.require_fit(
            *(
                {value.name: value.shape[1:] for value in values}
                for values in (self._session.get_inputs(), self._session.get_outputs())
            )
        )

    def __call__(self, images: torch.Tensor) -> VsamOutput:
        """Tag a batch; see `Network`."""
        names = list(self._exported.kept)
        arrays = self._session.run(names, {INPUT: np.ascontiguousarray(images.numpy())})
        return self._exported.output(
            {name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)}
        )
