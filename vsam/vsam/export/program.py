"""The model as a program of `torch.export`, which all formats are made from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ..modeling.model import TaggingModel
from .folder import INPUT, Shape


@dataclass(frozen=True)
class Program:
    """A traced model.

    Attributes:
        program: Takes (N, 3, S, S), N ≥ 1; gives outputs by name.
        outputs: Shapes of the model's outputs by name, less the batch, in order.
    """

    program: torch.export.ExportedProgram
    outputs: dict[str, Shape]

    @property
    def names(self) -> list[str]:
        """Names of the program's outputs: those that hold numbers."""
        return [name for name, shape in self.outputs.items() if 0 not in shape]


class _NamedOutputs(nn.Module):
    """Gives the model's outputs by name; those of no numbers are left out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs = self.model(images)._asdict()
        return {name: value for name, value in outputs.items() if 0 not in value.shape[1:]}


def trace(model: TaggingModel, image_size: int) -> Program:
    """Make a program of a model.

    Its steps are operators of PyTorch's Core ATen set. torch would note the path and line of the
    code behind each step; that is removed, so that nothing tells of the machine.

    Args:
        model: In evaluation mode, on the CPU. Its parameters need no gradient afterwards.
        image_size: Height and width of the input in pixels.
    """
    example = torch.zeros(2, 3, image_size, image_size)
    named = _NamedOutputs(model.requires_grad_(False)).eval()
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(named, (example,), dynamic_shapes={INPUT: {0: batch}})
    program = program.run_decompositions()
    _remove_checks(program.graph)
    for node in program.graph.nodes:
        node.meta = {name: value for name, value in node.meta.items() if name == "val"}
    program.example_inputs = None
    outputs = model(example)._asdict()
    return Program(program, {name: tuple(value.shape[1:]) for name, value in outputs.items()})


def _remove_checks(graph: torch.fx.Graph) -> None:
    """Remove what torch adds where a dtype is converted: a check that is no core operator."""
    for node in list(graph.nodes):
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            graph.erase_node(node)
