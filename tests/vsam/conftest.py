"""Fixtures of the model's tests: tiny data, and a run that the real command trained on it."""

import subprocess
from pathlib import Path

import pytest
import torch
from tiny import command, environment, train_arguments, write_tiny_data

torch.set_num_threads(2)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of `write_tiny_data`. Only read it."""
    return write_tiny_data(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a run folder that `vsam-train` left after two epochs. Only read it."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    ended = subprocess.run(
        [command("vsam-train"), *train_arguments(tiny_data, out, "--lr", 3e-3)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return out
