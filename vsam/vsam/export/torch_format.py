"""`model.pt2`: the program of `torch.export` itself, for AOTInductor, ExecuTorch and others."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from vsam_heatmaps.errors import VsamError, explain_os_error

from ..modeling.model import VsamOutput
from .folder import FILES, INPUT, Exported
from .program import Program
from .pt2_check import UnsafeArchiveError, require_harmless

FORMAT = "torch-export"
PACKAGES = ("torch",)


def write_program(program: Program, folder: Path) -> None:
    """Write `model.pt2`.

    Raises:
        VsamError: If the program has steps that `TorchExportNetwork` would not load.
    """
    path = folder / FILES[FORMAT][0]
    torch.export.save(program.program, path)
    try:
        _check(path.read_bytes())
    except UnsafeArchiveError as error:
        raise VsamError(f"This model can't be exported to {FORMAT}: {error}.") from error


class TorchExportNetwork:
    """A program of `torch.export` on the CPU.

    Nothing in the file is run but arithmetic: `pt2_check` looks at it first.

    Args:
        exported: Where it is, and what it must look like.

    Raises:
        VsamError: If the file is damaged, holds what might be code, or is none that fits.
    """

    device = torch.device("cpu")

    def __init__(self, exported: Exported) -> None:
        from torch.export.pt2_archive._package import load_pt2

        self._exported = exported
        try:
            data = exported.network.read_bytes()
        except OSError as error:
            raise explain_os_error(error, f"read {exported.network}") from error
        try:
            _check(data)
        except UnsafeArchiveError as error:
            raise exported.damaged(
                f"{error}: it is not loaded, because it might run code"
            ) from error
        try:
            # Not torch.export.load: what load_pt2 refuses it tries again as an older format.
            program = load_pt2(io.BytesIO(data)).exported_programs["model"]
            inputs, outputs = _shapes(program)
            exported.require_fit(inputs, outputs)
            self._run = program.module()
        except VsamError:
            raise
        except Exception as error:  # what torch raises for a damaged graph has no common base
            raise exported.damaged(error) from error

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> VsamOutput:
        """Tag a batch; see `Network`."""
        return self._exported.output(self._run(images))


def _check(data: bytes) -> None:
    from torch.export.pt2_archive import PT2ArchiveReader

    try:
        archive = PT2ArchiveReader(io.BytesIO(data))
        names = archive.get_file_names()
    except (RuntimeError, AssertionError, UnicodeDecodeError) as error:
        raise UnsafeArchiveError("it is no archive of torch.export") from error
    require_harmless(names, archive.read_bytes)


def _shapes(program: torch.export.ExportedProgram) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the shapes of a program's inputs and outputs by name, less the batch."""
    values = {node.name: node.meta["val"] for node in program.graph.nodes if "val" in node.meta}
    signature = program.graph_signature
    inputs = {name: values[name].shape[1:] for name in map(str, signature.user_inputs)}
    tree = program.call_spec.out_spec
    names = tree.context if tree is not None and tree.type is dict else []
    shapes = [values[str(name)].shape[1:] for name in signature.user_outputs]
    outputs = dict(zip(names, shapes, strict=True))
    if len(inputs) == 1:  # a program's inputs have a place, no name
        inputs = {INPUT: next(iter(inputs.values()))}
    return inputs, outputs
