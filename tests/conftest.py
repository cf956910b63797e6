"""Fixtures that several folders of tests share: drawn photos, their shards, runs, the commands."""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Read when numpy and torch start their threads, here and in the commands. The tests' sizes are too
# small for several; those that wait must sleep, not take a core from the rest.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Ray's workers give way to all other processes, so that beside other tests they hardly move.
os.environ.setdefault("RAY_worker_niceness", "0")

# Scripts that tests start, not modules with examples.
collect_ignore = ["dying_predictions.py"]

MANNEQUINS = 24

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = [
    *("--no-sandbox", "--headless", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
    # A camera that shows a moving circle, for everybody who asks.
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
]

RunCommand = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_configure() -> None:
    """Take Ctrl-C, so that commands do: a shell makes what it starts with `&` ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of `write_tiny_data`. Only read it."""
    from tiny import write_tiny_data

    return write_tiny_data(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_run(
    tiny_data: Path, tmp_path_factory: pytest.TempPathFactory, call_command: RunCommand
) -> Path:
    """Give a run folder that `vsam-train` left after two epochs on `tiny_data`. Only read it."""
    from tiny import train_arguments

    out = tmp_path_factory.mktemp("runs") / "tiny"
    done = call_command("vsam-train", *train_arguments(tiny_data, out, "--lr", 3e-3))
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="session")
def call_command() -> RunCommand:
    """Give a function that runs one of the commands in this process, in a fraction of the time.

    It is called as `run_command` is, but for `env` and `timeout`, and gives the same. For all that
    is not about processes: their ends, their signals, their pipes, what they load.
    """
    from tiny import call

    def run(
        name: str, *args: object, cwd: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        stdout, stderr = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
        ):
            if cwd is not None:
                patch.chdir(cwd)
            code = call(name, args, patch)
        return subprocess.CompletedProcess(args, code, stdout.getvalue(), stderr.getvalue())

    return run


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Give a Chromium without a window, the system's or playwright's own, or skip."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        paths = [*map(shutil.which, BROWSERS), started.chromium.executable_path]
        path = next((path for path in paths if path and Path(path).exists()), None)
        if path is None:
            pytest.skip("there is no Chromium: .venv/bin/playwright install chromium")
        chromium = started.chromium.launch(executable_path=path, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Give the folder of data that lies beside the repository on some machines, or skip."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not all((folder / name).is_dir() for name in ("ccp", "deepfashion")):
        pytest.skip(f"there is no {folder} with ccp/ and deepfashion/")
    return folder
