"""Fixtures that several folders of tests share: drawn photos, their shards, and the commands."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# Read when torch starts its threads: waiting ones must sleep, not take a core from the rest.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

MANNEQUINS = 24

RunCommand = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def mannequins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder of 24 mannequins: `photos/*.jpg`, `labels.csv`, `joints.csv`. Only read it."""
    from vsam_datasets.mannequins import write_mannequins

    folder = tmp_path_factory.mktemp("drawn") / "mannequins"
    write_mannequins(folder, count=MANNEQUINS, seed=0, progress=False)
    return folder


@pytest.fixture(scope="session")
def shards(mannequins: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of shards that the real extraction makes of `mannequins`. Only read it."""
    from vsam_heatmaps import extract

    folder = tmp_path_factory.mktemp("extracted") / "shards"
    report = extract([mannequins / "photos"], folder)
    assert report.photos == MANNEQUINS
    return folder


@pytest.fixture(scope="session")
def run_command() -> RunCommand:
    """Give a function that runs one of the installed commands and waits for its end.

    `run_command("vsam-heatmaps", "inspect", folder)` gives a CompletedProcess with the text of
    stdout and stderr. `env` is added to the environment.
    """

    def run(
        name: str,
        *args: object,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).parent / name), *map(str, args)],
            cwd=cwd,
            env=os.environ | (env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Give the folder of data that lies beside the repository on some machines, or skip."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    return folder
