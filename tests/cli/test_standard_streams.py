"""Standard output and error that can't be written, or that whoever calls a command has closed."""

import os
import subprocess
import sys

import pytest
from tiny import command, environment

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="closes streams in a shell")


def in_shell(line: str, *, unbuffered: bool = False) -> tuple[int, str]:
    """Run a line of the shell in which `$vsam` is the command; its exit code and what it wrote."""
    env = environment() | {"vsam": str(command("vsam")), "PYTHONUNBUFFERED": "1" * unbuffered}
    done = subprocess.run(
        ["sh", "-c", line], env=env, capture_output=True, text=True, timeout=100, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="has no /dev/full")  # noqa: PTH110
def test_a_full_disk_behind_standard_output_is_told_in_one_line(tmp_path, unbuffered):
    line = f"$vsam data mannequins {tmp_path}/out --count 1 >/dev/full"
    code, said = in_shell(line, unbuffered=unbuffered)
    assert (code, said) == (
        1,
        "error: Could not write: No space left on device. Free some space or name another folder, "
        "then run the command again.\n",
    )
    assert (tmp_path / "out" / "photos" / "00000.jpg").exists()


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing_that_is_done(tmp_path, closed):
    code, said = in_shell(f"$vsam data mannequins {tmp_path}/out --count 1 {closed}")
    assert code == 0
    assert "Traceback" not in said
    assert (tmp_path / "out" / "labels.csv").exists()
