"""The exported folder: a run's `config.json` and `labels.json` beside a network's files.

`config.json` has one more section, `export`, which this module writes and reads.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from vsam_heatmaps import __version__
from vsam_heatmaps.atomic import write_text
from vsam_heatmaps.errors import VsamError, expected, explain_os_error

from .. import run_folder
from ..modeling.model import VsamOutput
from ..run_folder import Description, Labels

FORMAT_VERSION = 1
FILES = {
    "openvino": ("model.xml", "model.bin"),
    "onnx": ("model.onnx",),
    "torch-export": ("model.pt2",),
}
"""The files of each format; the first is the one to open."""

INPUT = "images"
OUTPUTS = VsamOutput._fields
"""Names of a network's input and outputs, in order."""

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A network that was exported, and what it must look like.

    Attributes:
        network: Its file.
        format: One of `FILES`.
        image_size: Height and width of the input in pixels.
        outputs: Shapes of the outputs by name, less the batch. One of no numbers (the map of a
            model without attention) is not in the file.
    """

    network: Path
    format: str
    image_size: int
    outputs: dict[str, Shape]

    @property
    def input_shape(self) -> Shape:
        """Shape of the input, less the batch: (3, S, S)."""
        return (3, self.image_size, self.image_size)

    @property
    def kept(self) -> dict[str, Shape]:
        """Shapes of the outputs that are in the file, in its order."""
        return {name: shape for name, shape in self.outputs.items() if 0 not in shape}

    def require_fit(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Check the network's inputs and outputs.

        Args:
            inputs: Shapes by name, less the batch.
            outputs: The same of the outputs.

        Raises:
            VsamError: If names or shapes are other ones than configuration and labels need.
        """
        for kind, given, wanted in (
            ("inputs", inputs, {INPUT: self.input_shape}),
            ("outputs", outputs, self.kept),
        ):
            found = {name: tuple(shape) for name, shape in given.items()}
            if found != wanted:
                raise VsamError(
                    f"Expected {self.network} to have the {kind} {_shapes(wanted)}, which its "
                    f"{run_folder.CONFIG} and {run_folder.LABELS} need, but it has "
                    f"{_shapes(found)}. Export the run again."
                )

    def damaged(self, reason: object) -> VsamError:
        """Make the error that says why the runtime can't read the file."""
        lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
        why = lines[-1].rstrip(".") if lines else type(reason).__name__
        return VsamError(
            f"Expected {self.network} to be a network of the format {self.format}, but {why}. "
            "Export the run again."
        )

    def output(self, tensors: Mapping[str, torch.Tensor]) -> VsamOutput:
        """Bring the outputs in the file into the model's form."""
        count = len(next(iter(tensors.values())))
        return VsamOutput(
            *(
                tensors[name] if name in tensors else torch.empty(count, *shape)
                for name, shape in self.outputs.items()
            )
        )


def _shapes(shapes: Mapping[str, Shape]) -> str:
    named = (f"{name} ({', '.join(map(str, ['N', *shape]))})" for name, shape in shapes.items())
    return ", ".join(named) or "none"


def write_export_description(
    folder: Path,
    run: Path,
    *,
    format: str,
    precision: str,
    attention: Shape,
    calibration_photos: int,
    packages: tuple[str, ...],
) -> None:
    """Write `labels.json` and `config.json` beside a network's files, and sync all of them.

    Args:
        folder: Where the network is.
        run: The run folder that it was made from.
        format: One of `FILES`.
        precision: How its numbers are stored.
        attention: (R, S, S) of the map.
        calibration_photos: How many photos it was quantised with, or 0.
        packages: Distributions that made it; their versions are recorded.
    """
    section = {
        "format_version": FORMAT_VERSION,
        "format": format,
        "precision": precision,
        "attention": list(attention),
        "calibration_photos": calibration_photos,
        "sha256": {name: sync_and_hash(folder / name) for name in FILES[format]},
        "made_from": {run_folder.WEIGHTS: sync_and_hash(run / run_folder.WEIGHTS)},
        "made_by": {"vsam": __version__} | {package: version(package) for package in packages},
    }
    try:
        # All that the run says of itself is kept, whatever vsam wrote it.
        values = json.loads((run / run_folder.CONFIG).read_text(encoding="utf-8"))
        shutil.copyfile(run / run_folder.LABELS, folder / run_folder.LABELS)
    except OSError as error:
        raise explain_os_error(error, f"read {run}") from error
    sync_and_hash(folder / run_folder.LABELS)
    values["export"] = section
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    write_text(folder / run_folder.CONFIG, text)


def read_export(folder: Path, description: Description, labels: Labels) -> Exported:
    """Read the section `export`, and check that the network's files are those that were written.

    Args:
        folder: The exported folder.
        description: What its `config.json` says.
        labels: What its `labels.json` says; as many as the configuration wants.

    Raises:
        VsamError: If the section is of another version or makes no sense, or a file is missing or
            another one than was written.
    """
    section, path = description.export or {}, folder / run_folder.CONFIG
    made = section.get("format_version")
    if type(made) is not int or made != FORMAT_VERSION:
        raise expected(f"export.format_version of {path}", str(FORMAT_VERSION), repr(made))
    format = section.get("format")
    if not isinstance(format, str) or format not in FILES:
        raise expected(f"export.format in {path}", f"one of {', '.join(FILES)}", repr(format))
    attention = section.get("attention")
    if (
        not isinstance(attention, list)
        or len(attention) != 3
        or not all(type(size) is int and size >= 0 for size in attention)
    ):
        raise expected(f"export.attention in {path}", "three sizes", repr(attention))
    hashes = section.get("sha256")
    if not isinstance(hashes, dict):
        raise expected(f"export.sha256 in {path}", "a JSON object", repr(hashes))
    for name in FILES[format]:
        if not (folder / name).is_file():
            raise VsamError(
                f"Expected {folder / name} to be there, but it is not. Export the run again."
            )
        if sync_and_hash(folder / name, sync=False) != hashes.get(name):
            raise VsamError(
                f"Expected {folder / name} to be the file that was exported, but its SHA-256 is "
                f"not the one in {path}: one of them is damaged. Export the run again."
            )
    attributes = len(labels.attributes)
    sizes = (
        (len(labels.categories),),
        (attributes,),
        tuple(attention),
        (len(description.config.regions), attributes),
    )
    return Exported(
        network=folder / FILES[format][0],
        format=format,
        image_size=description.config.image_size,
        outputs=dict(zip(OUTPUTS, sizes, strict=True)),
    )


def sync_and_hash(path: Path, *, sync: bool = True) -> str:
    """Give a file's SHA-256, and make sure first that it is on the disk.

    Raises:
        VsamError: If the operating system refuses.
    """
    try:
        with path.open("rb") as file:
            if sync:
                os.fsync(file.fileno())
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise explain_os_error(error, f"read {path}") from error
