"""`vsam demo` on few mannequins: the whole path, the page and the picture that it leaves."""

import os
import re
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import cv2
import pytest
from processes import started, wait_until

from vsam_cli.demo import pipeline
from vsam_heatmaps.atomic import prepare_output_folder


class Page(HTMLParser):
    """Collects what a page shows; complains about tags that are not closed."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self):
        super().__init__()
        self.open, self.pictures, self.cells, self.tags = [], [], [], []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag == "img":
            self.pictures.append(given)
        if "tag" in (given.get("class") or "").split():
            self.tags.append(given["class"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "td":
            self.cells.append(data)


@pytest.fixture(scope="module")
def demo(call_command, tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "out"
    done = call_command("vsam", "demo", "--out", out, "--count", 50, "--epochs", 1)
    assert done.returncode == 0, done.stderr
    return out, done


def test_last_line_tells_accuracy_and_report(demo):
    out, done = demo
    last = done.stdout.splitlines()[-1]
    found = re.search(r"accuracy on (\d+) unseen mannequins: (\d\.\d{3})", last)
    assert found
    assert int(found[1]) == 10  # a fifth of 50
    assert 0 <= float(found[2]) <= 1
    assert str(out / "report.html") in last


def test_page_is_whole_and_needs_no_other_file(demo):
    out, _ = demo
    page = Page()
    page.feed((out / "report.html").read_text(encoding="utf-8"))
    assert not page.open
    # 10 unseen photos, each as photo, pose, heatmap and two attention maps
    assert len(page.pictures) == 10 * 5
    assert all(picture["src"].startswith("data:image/jpeg;base64,") for picture in page.pictures)
    assert all(picture["alt"] for picture in page.pictures)
    assert len(page.cells) == 2 * 6
    assert page.cells[0].startswith("with poses")
    # each example names a category by each model, marked right or wrong
    categories = [name for name in page.tags if "category" in name]
    assert len(categories) >= 10 * 2
    assert all(("right" in name) != ("wrong" in name) for name in page.tags)


def test_sheet_shows_six_rows(demo):
    out, _ = demo
    sheet = cv2.imread(str(out / "sheet.png"))
    assert sheet is not None
    assert sheet.shape[0] > 6 * 240
    assert sheet.std() > 20


def test_both_models_can_be_used_afterwards(demo, call_command):
    out, _ = demo
    for name in ("with-poses", "without"):
        done = call_command(
            *("vsam-predict", out / "mannequins" / "photos", "--out", "-"),
            *("--model", out / "runs" / name),
        )
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 50


def test_a_folder_that_holds_something_else_is_refused(call_command, tmp_path):
    (tmp_path / "letter.txt").write_text("keep me")
    done = call_command("vsam", "demo", "--out", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: Expected")
    assert "letter.txt" in done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["letter.txt"]


def test_mannequins_command_says_what_is_where(call_command, tmp_path):
    out = tmp_path / "drawn"
    done = call_command("vsam", "data", "mannequins", out, "--count", 3, "--seed", 5)
    assert done.returncode == 0, done.stderr
    assert str(out) in done.stdout
    assert len(list((out / "photos").iterdir())) == 3
    assert (out / "labels.csv").is_file()
    assert (out / "joints.csv").is_file()
    assert not (out / "masks").exists()


def test_mannequins_command_writes_masks_on_demand(call_command, tmp_path):
    out = tmp_path / "drawn"
    done = call_command("vsam", "data", "mannequins", out, "--count", 2, "--masks")
    assert done.returncode == 0, done.stderr
    assert "masks/" in done.stdout
    assert sorted(path.name for path in (out / "masks").iterdir()) == ["00000.png", "00001.png"]


def test_an_interrupted_demo_can_be_started_again(tmp_path):
    out = tmp_path / "out"
    command = [Path(sys.executable).parent / "vsam", "demo", "--out", out, "--count", "5000"]
    photos = out / "mannequins" / "photos"
    with started(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        wait_until(lambda: photos.is_dir() and any(photos.glob("*.jpg")), process)
        os.killpg(process.pid, signal.SIGINT)
        assert "Interrupted" in process.communicate(timeout=60)[1]
    assert process.returncode == 130
    # the folder is still taken for a demonstration's, not for somebody else's
    prepare_output_folder(out, ours=pipeline.MARKER, purpose="a demonstration")
