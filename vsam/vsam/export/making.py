"""Export a run: the one function that the command calls."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vsam_datasets.preprocessing import Preprocessing
from vsam_heatmaps.errors import VsamError, expected
from vsam_heatmaps.photos import Photo

from .. import run_folder
from . import onnx_format, openvino_format, torch_format
from .calibration import CalibrationPhotos, read_calibration_photos
from .folder import FILES, write_export_description
from .program import Program, trace

PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What an export did.

    Attributes:
        files: The network's files.
        bytes: Their size.
        calibration_photos: Photos that it was quantised with.
        unreadable: Ids and reasons of those that were to be, but could not be read.
    """

    files: tuple[Path, ...]
    bytes: int
    calibration_photos: int
    unreadable: list[tuple[str, str]]


def export_run(
    run: Path,
    out: Path,
    *,
    format: str,
    precision: str = "fp32",
    calibrate: Sequence[Photo] | None = None,
    calibrate_count: int = 300,
) -> ExportReport:
    """Make an exported folder of a run; it appears whole or not at all.

    Args:
        run: The run folder.
        out: The folder to make; it must not exist, or be empty.
        format: `openvino`, `onnx` or `torch-export`.
        precision: How numbers are stored: `fp32`; for OpenVINO also `fp16` and `int8`.
        calibrate: Photos to choose from for int8.
        calibrate_count: How many of them to take.

    Raises:
        VsamError: If format and precision are none, or don't go together; photos are given
            without int8, or the other way round, or none can be read; `out` is there; or as
            `load_checkpoint`.
    """
    if format not in FILES:
        raise expected("format", f"one of {', '.join(FILES)}", format)
    if precision not in PRECISIONS:
        raise expected("precision", f"one of {', '.join(PRECISIONS)}", precision)
    if precision != "fp32" and format != openvino_format.FORMAT:
        raise expected(
            "--format", f"{openvino_format.FORMAT} for {precision}: it alone stores that", format
        )
    if (precision == "int8") != (calibrate is not None):
        raise VsamError(
            "Expected `--int8` and `--calibrate PHOTOS` to be given together: int8 needs photos "
            "like those that the model will see, and nothing else does."
        )
    run_folder.require_new(out)
    checkpoint = run_folder.load_checkpoint(run)
    photos = CalibrationPhotos([], [])
    if calibrate is not None:
        photos = read_calibration_photos(calibrate, checkpoint.preprocessing, count=calibrate_count)
    with _quiet(), run_folder.new_run(out) as folder:
        program = trace(checkpoint.model, checkpoint.config.image_size)
        packages = _write(program, folder, format, precision, photos, checkpoint.preprocessing)
        write_export_description(
            folder,
            run,
            format=format,
            precision=precision,
            attention=program.outputs["attention"],
            calibration_photos=len(photos.pixels),
            packages=packages,
        )
    files = tuple(out / name for name in FILES[format])
    return ExportReport(
        files=files,
        bytes=sum(file.stat().st_size for file in files),
        calibration_photos=len(photos.pixels),
        unreadable=photos.unreadable,
    )


def _write(
    program: Program,
    folder: Path,
    format: str,
    precision: str,
    photos: CalibrationPhotos,
    preprocessing: Preprocessing,
) -> tuple[str, ...]:
    """Write the network's files; name the packages that made them."""
    if format == onnx_format.FORMAT:
        onnx_format.write_onnx(program, folder)
        return onnx_format.PACKAGES
    if format == torch_format.FORMAT:
        torch_format.write_program(program, folder)
        return torch_format.PACKAGES
    network = openvino_format.convert(program, preprocessing.image_size)
    if precision == "int8":
        network = openvino_format.quantise(network, photos.pixels, preprocessing.normalize)
    openvino_format.write_openvino(network, folder, half=precision == "fp16")
    return (*openvino_format.PACKAGES, *(("nncf",) if precision == "int8" else ()))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tools' remarks on their own working from the user, to whom they mean nothing."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir", "nncf")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
