"""Progress: plain lines where nobody watches a bar, and a bar on a terminal."""

import logging
import os
import re
import subprocess
import sys

import pytest
from processes import started

from vsam_heatmaps.progress import track

CODE = """
import logging
logging.basicConfig(level=logging.INFO, format="%(message)s")
from vsam_heatmaps.progress import track
with track(3, "poses") as bar:
    for _ in range(3):
        bar.update(loss=0.5)
"""


def test_plain_lines_when_stderr_is_no_terminal():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert re.fullmatch(r"poses: 3 of 3 photos, \d+\.\d photos/s, 0 s left", line)
    assert "\r" not in done.stderr


def test_a_bar_on_a_terminal():
    pty = pytest.importorskip("pty")
    termios = pytest.importorskip("termios")
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (25, 100))
    with started([sys.executable, "-c", CODE], stderr=follower) as process:
        os.close(follower)
        seen = b""
        while True:
            try:
                piece = os.read(leader, 4096)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            seen += piece
        os.close(leader)
        assert process.wait() == 0
    text = seen.decode()
    assert "\r" in text
    assert "poses: 100%" in text
    assert "3/3" in text
    assert "loss=0.5" in text
    assert "photos/s, " not in text


def test_as_a_library_nothing_is_shown(caplog, capfd):
    caplog.set_level(logging.INFO)
    with track(2, "poses", shown=False) as bar:
        bar.update(2)
    assert caplog.records == []
    assert capfd.readouterr().err == ""


def test_the_last_line_also_comes_after_an_error(caplog):
    caplog.set_level(logging.INFO)

    def work():
        with track(5, "steps", "step") as bar:
            bar.update(2)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()
    [message] = caplog.messages
    assert message.startswith("steps: 2 of 5 steps, ")
