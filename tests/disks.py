"""Disks that tests mount, and unmount when a block ends."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def mounted(*arguments: object) -> Iterator[None]:
    """Mount something on a folder, the last of the arguments; skip the test where none may."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root may mount a disk")
    command = list(map(str, ("mount", *arguments)))
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", command[-1]], check=True)


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Make a folder with a disk of a size, as 16k, in memory."""
    folder.mkdir()
    with mounted("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder):
        yield folder
