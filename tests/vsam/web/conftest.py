"""A page as users start it, and windows of a browser that show it."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from processes import WAIT, logged


@dataclass
class Site:
    """A server of the page.

    `requests` are the addresses that the browser asked for.
    """

    url: str
    process: subprocess.Popen
    lines: list[str]
    temporary: Path
    run: Path
    predictions: Path
    requests: list[str] = field(default_factory=list)


@contextlib.contextmanager
def serving(
    command: list[str], temporary: Path
) -> Iterator[tuple[subprocess.Popen, list[str], str]]:
    """Start a page; give the process, what it logs, and its address."""
    environment = os.environ | {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "2"}
    with logged(command, env=environment) as log:
        line = log.wait_for("The page is at ")
        yield log.process, log.lines, re.search(r"The page is at (\S+);", line)[1]


@pytest.fixture(scope="session")
def serve() -> Any:
    """Give `serving`."""
    pytest.importorskip("gradio")
    return serving


@pytest.fixture(scope="session")
def predictions(tiny_data: Path, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give JSON lines of the tiny photos, and of three that aren't there, as tests need them."""
    from vsam.predictor import Predictor
    from vsam_heatmaps.photos import list_photos

    lines = [
        {"image": tagged.photo.id} | tagged.prediction.describe(threshold=0.4)
        for tagged in Predictor.from_run(tiny_run, device="cpu").predict_files(
            list_photos([tiny_data / "photos"])
        )
    ]
    lines.append({"image": "damaged.jpg", "error": "it is <b>truncated</b>"})
    outside = {"category": "tee", "score": 0.5, "categories": [], "attributes": []}
    lines.append({"image": "../labels.csv"} | outside)
    path = tmp_path_factory.mktemp("predictions") / "predictions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="session")
def predictor(tiny_run: Path) -> Any:
    """Give the model of `tiny_run`, as the page has it."""
    from vsam.predictor import Predictor

    return Predictor.from_run(tiny_run, device="cpu")


@pytest.fixture
def photo(tiny_data: Path) -> Path:
    """Give one of the tiny photos."""
    return tiny_data / "photos" / "tee" / "00.png"


@pytest.fixture(scope="module")
def site(
    tiny_run: Path, tiny_data: Path, predictions: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Give a page of `tiny_run`. SIGTERM ends it, and nothing is left."""
    pytest.importorskip("gradio")
    temporary = tmp_path_factory.mktemp("temporary")
    command = [
        *(str(Path(sys.executable).parent / "vsam"), "web", "--model", str(tiny_run)),
        *("--port", "0", "--device", "cpu", "--max-bytes", "2000000", "--max-pixels", "4000000"),
        *("--predictions", str(predictions), "--photos", str(tiny_data / "photos")),
    ]
    with serving(command, temporary) as (process, lines, url):
        yield Site(url, process, lines, temporary, tiny_run, predictions)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT) == 0
        assert not any("Traceback" in line for line in lines), "\n".join(lines)
        assert list(temporary.iterdir()) == []


@pytest.fixture
def open_page(browser: Any, site: Site) -> Iterator[Any]:
    """Give a function that opens the page in a window of its own, with the options of one."""
    contexts = []

    def open_(**options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        contexts.append(context)
        context.set_default_timeout(1000 * WAIT)
        page = context.new_page()
        page.on("request", lambda request: site.requests.append(request.url))
        page.goto(site.url)
        page.wait_for_selector("#v-photo input[type=file]", state="attached")
        return page

    yield open_
    for context in contexts:
        context.close()
