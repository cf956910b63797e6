"""How a folder is tagged, and which of these settings a resumed run must share."""

from __future__ import annotations

import hashlib
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsam_heatmaps.errors import VsamError, expected, explain_os_error
from vsam_heatmaps.images import MAX_PIXELS
from vsam_heatmaps.outputs import refuse_overwriting

from ..prediction_files import FORMATS, output_path

ENGINES = ("local", "ray")
"""Where photos are tagged: on this machine, or on a Ray cluster."""


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """How a folder is tagged.

    Attributes:
        model: Run folder, export, or `user/name` on the Hugging Face hub.
        revision: Branch, tag or commit on the hub.
        device: See `Predictor.from_pretrained`, as for the next three.
        precision: See there.
        calibrated: See there.
        thresholds: See there.
        threshold: Attributes above it are listed; None: those above the model's.
        all_scores: List every category and attribute.
        format: One of `FORMATS`.
        attention: Folder for pictures of the attention.
        report: HTML file about all photos.
        report_photos: How many of them it shows, evenly chosen by id.
        batch_size: Photos in one forward pass.
        workers: Threads that decode (None: 4), or actors on Ray (None: one for each CPU, or GPU).
        max_pixels: Photos with more pixels count as unreadable.
        reduced: Decode large JPEGs at a reduced scale; see `Predictor.predict_files`.
        engine: One of `ENGINES`.
        resume: Go on with the unfinished work that lies beside the output.
    """

    model: str | Path
    revision: str | None = None
    device: str = "auto"
    precision: str = "fp32"
    calibrated: bool = False
    thresholds: str = "run"
    threshold: float | None = None
    all_scores: bool = False
    format: str = "jsonl"
    attention: Path | None = None
    report: Path | None = None
    report_photos: int = 500
    batch_size: int = 32
    workers: int | None = None
    max_pixels: int = MAX_PIXELS
    reduced: bool = False
    engine: str = "local"
    resume: bool = False

    def __post_init__(self) -> None:
        for name, choices in {"format": FORMATS, "engine": ENGINES}.items():
            if getattr(self, name) not in choices:
                raise expected(name, f"one of {', '.join(choices)}", repr(getattr(self, name)))
        for name in ("batch_size", "workers", "max_pixels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise expected(name, "at least 1", value)
        if self.report_photos < 0:
            raise expected("report_photos", "0 or more", self.report_photos)
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise expected("threshold", "from 0 to 1", self.threshold)

    def check(self, out: str) -> None:
        """Find out before hours of work whether the output can be written at all.

        Raises:
            VsamError: If the output can't be one of this kind.
            ModuleNotFoundError: If a package that will be needed is not installed.
        """
        needed = {"parquet": "pyarrow"}.get(self.format), "ray" if self.engine == "ray" else None
        for package in (*needed, "jinja2" if self.report is not None else None):
            if package is not None:
                importlib.import_module(package)
        if output_path(out) is None:
            if self.resume:
                raise VsamError("Expected `--out` to be a file with --resume, but got -.")
            if self.format == "parquet":
                raise VsamError("Expected `--out` to be a file for Parquet, but got -.")
            if self.engine == "ray":  # what comes first need not be what is first
                raise VsamError("Expected `--out` to be a file with --engine ray, but got -.")
        if self.report is not None and self.report.is_dir():
            raise VsamError(f"Expected `--report` to be a file, but {self.report} is a folder.")

    def check_apart(self, out: str, run: Path) -> None:
        """Check that the output and the report are two files, and none of the model's.

        Raises:
            VsamError: If they are not.
        """
        outputs = {"--out": output_path(out), "--report": self.report}
        refuse_overwriting(outputs, {"--model": model_files(run)})

    def settings(self, run: Path) -> dict[str, Any]:
        """List what the contents of the output depend on, as JSON's values.

        Device, workers and engine are not among them: on another machine scores may differ in the
        last of their six digits.

        Args:
            run: The model's folder.

        Raises:
            VsamError: If a file of the model can't be read.
        """
        attention = self.attention and str(self.attention.resolve())
        return {
            "model": hash_model(run),
            "calibrated": self.calibrated,
            "thresholds": self.thresholds,
            "threshold": self.threshold,
            "all scores": self.all_scores,
            "attention": attention,
            "batch size": self.batch_size,  # sums depend on it in their last digits
            "max pixels": self.max_pixels,
            "reduced decode": self.reduced,
            "precision": self.precision,
        }


def hash_model(run: Path) -> str:
    """Give the SHA-256 of all files of a run folder or export that predictions depend on.

    Raises:
        VsamError: If it is none, or a file can't be read.
    """
    whole = hashlib.sha256()
    for path in model_files(run):
        if not path.is_file():
            raise VsamError(f"Expected {path} to be there, but it is not.")
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise explain_os_error(error, f"read {path}") from error
        whole.update(f"{path.name} {digest}\n".encode())
    return whole.hexdigest()


def model_files(run: Path) -> list[Path]:
    """List the files of a run folder or export that predictions depend on.

    Raises:
        VsamError: If it is none.
    """
    from ..export.folder import FILES
    from ..run_folder import CONFIG, LABELS, WEIGHTS, read_run

    description, _ = read_run(run)
    network: tuple[str, ...] = (WEIGHTS,)
    if description.export is not None:
        network = FILES.get(str(description.export.get("format")), ())
    return [run / name for name in (CONFIG, LABELS, *network)]
