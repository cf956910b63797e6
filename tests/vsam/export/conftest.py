"""A run, and an export of it in each format."""

from pathlib import Path

import pytest
import torch
from drawn_run import SIDE, draw_run
from exports import FORMATS

from vsam.export.folder import FILES
from vsam.export.making import export_run


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """Give a run with batch normalisation. Only read it."""
    return draw_run(tmp_path_factory.mktemp("runs") / "drawn", batch_norm=True)


@pytest.fixture(scope="session")
def exports(run, tmp_path_factory) -> dict[str, Path]:
    """Give an export in each format. Only read them."""
    folder = tmp_path_factory.mktemp("exports")
    for format in FORMATS:
        report = export_run(run, folder / format, format=format)
        assert report.files == tuple(folder / format / name for name in FILES[format])
        assert report.bytes == sum(file.stat().st_size for file in report.files)
    return {format: folder / format for format in FORMATS}


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    """Give eight inputs that differ."""
    generator = torch.Generator().manual_seed(1)
    colours = torch.randn(8, 3, 1, 1, generator=generator)
    grain = torch.rand(8, 1, 1, 1, generator=generator)
    return colours + torch.randn(8, 3, SIDE, SIDE, generator=generator) * grain
