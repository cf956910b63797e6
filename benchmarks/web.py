"""Measure `vsam web` in Chromium: the page's first load, and how soon tags are shown.

- First load: from asking a server that has just started, in a browser that has seen nothing, until
  the input takes a photo and the examples are drawn. Each turn starts both anew.
- Tags: from giving the input a photo until its tags are on the page, and until the pose is drawn
  beside them. The model's own time is that of `Predictor` with the same file, in this process,
  while the server idles. Photos take turns; the first of each side isn't counted.

Usage: python benchmarks/web.py PHOTOS --model RUN [--turns 5] [--photos 20] [--device auto]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from vsam.predictor import Predictor
from vsam_heatmaps.photos import list_photos

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = [
    *("--no-sandbox", "--headless", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
]
UPLOAD = "#v-photo input[type=file]"


@contextlib.contextmanager
def serving(arguments: argparse.Namespace) -> Iterator[tuple[str, float]]:
    """Run the command; give its address, and the seconds that it took to start."""
    command = [
        *(sys.executable, "-c", "from vsam_cli.main import run; run()", "web", "--port", "0"),
        *("--model", str(arguments.model), "--device", arguments.device),
    ]
    began = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if found := re.search(r"The page is at (\S+);", line):
                    yield found[1], time.perf_counter() - began
                    return
            raise SystemExit("the server ended")
        finally:
            process.terminate()


def open_page(browser: Browser, url: str) -> tuple[Page, float]:
    """Open the page in a context of its own; give the seconds until it can be used."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    began = time.perf_counter()
    page.goto(url)
    page.wait_for_selector(UPLOAD, state="attached")
    page.wait_for_selector(".v-examples img")
    return page, time.perf_counter() - began


def show_tags(page: Page, photo: Path) -> tuple[float, float]:
    """Give a photo; give the seconds until its tags and until its pose are shown."""
    page.evaluate("document.querySelector('.v-eyebrow')?.remove()")
    began = time.perf_counter()
    page.set_input_files(UPLOAD, photo)
    page.wait_for_selector(f".v-eyebrow:text-is({json.dumps(photo.name)})")
    tags = time.perf_counter() - began
    page.wait_for_selector(".v-figures")
    page.wait_for_selector(".v-pending", state="detached")
    return tags, time.perf_counter() - began


def time_model(predictor: Predictor, photo: Path) -> float:
    began = time.perf_counter()
    predictor(photo)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, metavar="PHOTOS")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--photos", type=int, default=20)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        raise SystemExit(f"Expected one of {', '.join(BROWSERS)} to be installed.")
    photos = [photo.path for photo in list_photos([arguments.folder])][: arguments.photos + 1]
    starts, loads, shown = [], [], []
    with sync_playwright() as playwright:
        for turn in range(arguments.turns):
            with serving(arguments) as (url, start):
                browser = playwright.chromium.launch(executable_path=path, args=QUIET)
                page, load = open_page(browser, url)
                starts.append(start)
                loads.append(load)
                if turn == arguments.turns - 1:
                    predictor = Predictor.from_run(arguments.model, device=arguments.device)
                    for photo in photos:
                        shown.append((*show_tags(page, photo), time_model(predictor, photo)))
                browser.close()
    counted = shown[1:]
    beyond = sorted(tags - model for tags, _, model in counted)
    report: dict[str, Any] = {
        "start of the server, s": round(statistics.median(starts), 2),
        "first load, s: median, worst": [round(statistics.median(loads), 2), round(max(loads), 2)],
        "tags shown, s": round(statistics.median(tags for tags, _, _ in counted), 3),
        "pose shown, s": round(statistics.median(pose for _, pose, _ in counted), 3),
        "model alone, s": round(statistics.median(model for _, _, model in counted), 3),
        "tags beyond the model, s: median, worst": [
            round(statistics.median(beyond), 3),
            round(beyond[-1], 3),
        ],
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
