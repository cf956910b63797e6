"""Examples in docstrings and in README.md run in a folder that has what they name."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def example_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with four drawn photos, `photos/00000.jpg` to `photos/00003.jpg`."""
    from vsam_datasets.mannequins import write_mannequins

    folder = tmp_path_factory.mktemp("examples")
    write_mannequins(folder, count=4, seed=0, progress=False)
    return folder


@pytest.fixture(autouse=True)
def in_example_folder(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run examples, and nothing else, in that folder."""
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    before = Path.cwd()
    os.chdir(request.getfixturevalue("example_folder"))
    try:
        yield
    finally:
        os.chdir(before)
