"""Extraction that is ended by a signal, a killed process or a full disk: never half done."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from disks import small_disk
from extracting import contents, copy_photos, plain
from processes import is_spawned_worker, session_members, started, wait_until

from vsam_heatmaps import Shards

SIGNAL_AT_START = """
import os, signal, sys, threading
from multiprocessing import util

number = getattr(signal, sys.argv.pop(1))
start = util.spawnv_passfds
threading.Thread(target=threading.Event().wait, daemon=True).start()  # it blocks no signal

def start_and_signal(program, arguments, descriptors):
    pid = start(program, arguments, descriptors)
    if any("spawn_main" in str(each) for each in arguments):
        os.kill(os.getpid(), number)
    return pid

util.spawnv_passfds = start_and_signal
from vsam_cli.heatmaps import run
run()
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
class TestInterrupted:
    @pytest.fixture
    def start(self, mannequins, tmp_path, call_command):
        """Give functions that start an extraction of 96 photos, and that run it to its end.

        The first does so in a session of its own.
        """
        photos = tmp_path / "photos"
        for number in range(4):
            copy_photos(mannequins, photos / str(number), 24)
        out = tmp_path / "out"
        arguments = ["extract", photos, "--out", out, "--shard-size", "10", "--workers"]
        command = [Path(sys.executable).parent / "vsam-heatmaps", *arguments, "2"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

        def finish() -> str:
            done = call_command("vsam-heatmaps", *arguments, "1")
            assert done.returncode == 0, done.stderr
            return done.stdout

        with contextlib.ExitStack() as stack:
            yield lambda: stack.enter_context(started(command, **pipes)), finish, out

    def middle(self, process, out):
        """Wait until some shards are there, and make sure that others are not."""
        wait_until(lambda: len(list(out.glob("shard-*.h5"))) >= 2 or process.poll() is not None)
        assert process.poll() is None, process.communicate()[1]

    def goes_on(self, finish, out, shards):
        """Run to the end; the result must be as if nothing had happened."""
        kept = contents(out)
        said = finish()
        assert kept.items() <= contents(out).items()
        assert f"; {10 * len(kept)} were there already." in said
        ids = []
        for file in out.glob("shard-*.h5"):
            alone = file.parent.parent / f"only-{file.stem}"
            alone.mkdir()
            shutil.copy(file, alone)
            ids += Shards(alone).ids
        assert len(ids) == 96
        assert len(set(ids)) == 96
        whole, found = Shards(shards), Shards(out)
        for record in found:
            assert plain(record)[1:] == plain(whole[Path(record.id).name])[1:]
        assert not list(out.glob("*.tmp"))
        assert not list(out.glob(".*.tmp"))

    @pytest.mark.parametrize("whole_group", [True, False], ids=["whole-group", "main-process"])
    def test_killed(self, start, shards, whole_group):
        run, finish, out = start
        process = run()
        self.middle(process, out)
        assert len(session_members(process.pid)) >= 3  # the command and its workers
        if whole_group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
        wait_until(lambda: not session_members(process.pid))  # nobody is left over
        assert 20 <= len(Shards(out)) < 96  # every shard there is whole
        self.goes_on(finish, out, shards)

    def test_ctrl_c(self, start, shards):
        run, finish, out = start
        process = run()
        self.middle(process, out)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to all of them
        said, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert said == ""
        assert errors.splitlines()[-1] == "Interrupted; what was finished is kept."
        assert "Traceback" not in errors
        wait_until(lambda: not session_members(process.pid))
        kept = Shards(out)
        assert 20 <= len(kept) < 96
        whole = Shards(shards)
        for record in kept:
            assert plain(record)[1:] == plain(whole[Path(record.id).name])[1:]
        assert not list(out.glob(".*.tmp"))
        # The rest goes on from there.
        said = finish()
        assert f"96 photos: 96 ok, 0 no_pose, 0 unreadable; {len(kept)} were there" in said

    def test_ctrl_c_while_the_workers_start(self, start):
        run, _, out = start
        process = run()
        wait_until(lambda: any(map(is_importing_worker, session_members(process.pid))))
        os.killpg(process.pid, signal.SIGINT)
        said, errors = process.communicate(timeout=60)
        assert (process.returncode, said) == (130, "")
        assert errors.splitlines()[-1] == "Interrupted; what was finished is kept."
        assert "Traceback" not in errors  # of a worker, either
        wait_until(lambda: not session_members(process.pid))
        assert not list(out.glob(".*.tmp"))

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_ended_when_a_worker_is_half_started(self, number, mannequins, tmp_path):
        command = [sys.executable, "-c", SIGNAL_AT_START, number.name, "extract", mannequins]
        arguments = ["--out", tmp_path / "out", "--workers", "2"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with started([*command, *arguments], **pipes) as process:
            said, errors = process.communicate(timeout=60)
            assert (process.returncode, said) == (128 + number, "")
            assert errors.splitlines()[-1].endswith("ed; what was finished is kept.")
            assert "Traceback" not in errors
            wait_until(lambda: not session_members(process.pid))

    @pytest.mark.parametrize(
        ("number", "whole_group"), [(signal.SIGTERM, False), (signal.SIGHUP, True)]
    )
    def test_terminated(self, start, shards, number, whole_group):
        run, finish, out = start
        process = run()
        self.middle(process, out)
        (os.killpg if whole_group else os.kill)(process.pid, number)
        said, errors = process.communicate(timeout=60)
        assert (process.returncode, said) == (128 + number, "")
        assert errors.splitlines()[-1] == "Terminated; what was finished is kept."
        assert "Traceback" not in errors
        wait_until(lambda: not session_members(process.pid))
        assert 20 <= len(Shards(out)) < 96
        assert not list(out.glob(".*.tmp"))
        finish()
        whole = Shards(shards)
        for record in Shards(out):
            assert plain(record)[1:] == plain(whole[Path(record.id).name])[1:]

    def test_a_worker_that_dies_costs_nothing(self, start, shards):
        run, _, out = start
        process = run()
        self.middle(process, out)
        workers = [pid for pid in session_members(process.pid) if is_spawned_worker(pid)]
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)  # as the system does when memory runs out
        said, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert "died on it (SIGKILL, as when memory runs out); it is tried once more" in errors
        assert "96 photos: 96 ok, 0 no_pose, 0 unreadable" in said
        found, whole = Shards(out), Shards(shards)
        assert len(found) == 96
        for record in found:
            assert plain(record)[1:] == plain(whole[Path(record.id).name])[1:]


def is_importing_worker(pid: int) -> bool:
    try:
        return is_spawned_worker(pid) and b"numpy" in Path(f"/proc/{pid}/maps").read_bytes()
    except OSError:
        return False


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", "48k") as folder:
        yield folder


def test_a_full_disk_ends_it_in_one_line_and_more_space_lets_it_go_on(
    mannequins, shards, disk, run_command
):
    out = disk / "out"
    command = ("vsam-heatmaps", "extract", mannequins / "photos", "--out", out)
    command += ("--shard-size", 4, "--workers", 1)
    full = run_command(*command)
    assert full.returncode == 1
    assert full.stdout == ""
    [line] = [line for line in full.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: Could not write {out}/shard-00000")
    assert line.endswith(
        "No space left on device. Free some space or name another folder, then "
        "run the command again."
    )
    kept = len(Shards(out))
    assert 4 <= kept < 24
    assert not list(out.glob(".*.tmp"))
    again = run_command(*command)  # still full
    assert again.returncode == 1
    assert len(Shards(out)) == kept
    subprocess.run(["mount", "-o", "remount,size=10m", str(disk)], check=True)
    done = run_command(*command)
    assert done.returncode == 0, done.stderr
    assert f"; {kept} were there already." in done.stdout
    found, whole = Shards(out), Shards(shards)
    assert found.ids == whole.ids
    for record in found:
        assert plain(record) == plain(whole[record.id])
