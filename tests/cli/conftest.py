"""The commands' tests use the tiny data and a run trained on it, as the model's tests do."""

from pathlib import Path

import pytest
from tiny import train_config, write_tiny_data


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of `write_tiny_data`. Only read it."""
    return write_tiny_data(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a run folder after two epochs on `tiny_data`. Only read it."""
    import torch

    from vsam.training import train

    torch.set_num_threads(2)
    out = tmp_path_factory.mktemp("runs") / "tiny"
    train(train_config(tiny_data, out))
    return out
