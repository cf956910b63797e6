"""Extraction with the real MediaPipe: same results always, only what is new, never half done."""

import contextlib
import csv
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import filelock
import numpy as np
import pytest
from extracting import contents, copy_photos, plain
from PIL import Image
from processes import is_spawned_worker, session_members, started, wait_until

from vsam_heatmaps import (
    LANDMARKS,
    RenderOptions,
    Shards,
    Status,
    VsamError,
    extract,
    render_heatmaps,
)
from vsam_heatmaps.extraction import ExtractOptions

NO_PERSON = (120, 90)


def test_joints_are_found_where_they_were_drawn(mannequins, shards):
    """The photos' true joints are known: an independent reference for the whole stage."""
    records = Shards(shards)
    distances = []
    with (mannequins / "joints.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            record = records[row["image"]]
            if record.status is Status.OK and re.search("shoulder|hip|knee|ankle", row["joint"]):
                x, y, visibility, _ = record.keypoints[LANDMARKS.index(row["joint"])]
                width, height = record.size
                if visibility >= 0.5:
                    off = (x * width - 0.5 - float(row["x"]), y * height - 0.5 - float(row["y"]))
                    distances.append(np.hypot(*off) / height)
    assert len(distances) > 100
    # Errors of left for right, or of half a photo, would lie far above.
    assert np.median(distances) < 0.02
    assert np.mean(np.array(distances) < 0.1) > 0.9


def test_records_agree_with_their_photos(mannequins, shards):
    records = Shards(shards)
    assert len(records) == 24
    assert records.counts()["ok"] >= 22
    for record in records:
        path = mannequins / "photos" / record.id
        assert record.size == Image.open(path).size
        assert record.sha256 == hashlib.sha256(path.read_bytes()).digest()
        np.testing.assert_array_equal(record.heatmaps, render_heatmaps(record.keypoints))


def test_a_large_photo_has_its_own_size_and_the_same_pose(mannequins, tmp_path, shards):
    """It is decoded at a reduced scale; nothing in the record may tell."""
    small = Image.open(mannequins / "photos" / "00000.jpg")
    size = (4 * small.width, 4 * small.height)
    (tmp_path / "photos").mkdir()
    small.resize(size, Image.Resampling.LANCZOS).save(tmp_path / "photos" / "00000.jpg")
    extract([tmp_path / "photos"], tmp_path / "out")
    large, wanted = Shards(tmp_path / "out")["00000.jpg"], Shards(shards)["00000.jpg"]
    assert large.status is wanted.status is Status.OK
    assert large.size == size
    shown = wanted.keypoints[:, 2] >= 0.5
    assert shown.sum() > 10
    off = np.hypot(*(large.keypoints - wanted.keypoints)[shown, :2].T)
    assert np.median(off) < 0.005


def test_all_people_or_the_main_one(mannequins, tmp_path):
    """Two mannequins in one photo: the larger is the main one, both are counted."""
    large, small = (
        np.asarray(Image.open(path)) for path in sorted((mannequins / "photos").iterdir())[4:6]
    )
    small = np.asarray(Image.fromarray(small).resize((288, 384)))
    height = len(large)
    beside = np.full((height, small.shape[1], 3), 235, np.uint8)
    beside[height - len(small) :] = small
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.hstack([large, beside])).save(tmp_path / "photos" / "two.png")
    border = large.shape[1] / (large.shape[1] + beside.shape[1])
    found = {}
    for people in ("main", "all"):
        out = tmp_path / people
        extract([tmp_path / "photos"], out, options=ExtractOptions(people=people))
        found[people] = Shards(out)["two.png"]
        assert found[people].people == 2
        assert Shards(out).info.people == people
    main, both = found["main"], found["all"]
    np.testing.assert_array_equal(main.keypoints, both.keypoints)
    assert main.keypoints[LANDMARKS.index("left_hip"), 0] < border
    right = int(border * 56) + 5  # beyond the reach of the large one's joints
    assert main.heatmaps[:, :, right:].max() < 64 < both.heatmaps[:, :, right:].max()
    assert (both.heatmaps >= main.heatmaps).all()


def test_the_number_of_workers_changes_no_byte(mannequins, tmp_path, shards):
    written = {}
    for workers in (1, 2):
        out = tmp_path / str(workers)
        options = ExtractOptions(workers=workers, shard_size=10)
        report = extract([mannequins / "photos"], out, options=options)
        assert (report.photos, report.unchanged) == (24, 0)
        written[workers] = contents(out)
    assert sorted(written[1]) == [f"shard-{number:06d}.h5" for number in range(3)]
    assert written[1] == written[2]
    # Other shards, the same records.
    whole = {record.id: plain(record) for record in Shards(shards)}
    assert {record.id: plain(record) for record in Shards(tmp_path / "1")} == whole


def test_again_only_what_is_new(mannequins, tmp_path):
    """One folder of photos over its life: nothing new, changed, added, unreadable, gone."""
    photos, out = copy_photos(mannequins, tmp_path / "photos", 4), tmp_path / "out"
    options = ExtractOptions(workers=1)
    Image.new("RGB", NO_PERSON, "teal").save(photos / "wall.png")
    (photos / "broken.jpg").write_bytes((photos / "00000.jpg").read_bytes()[:5000])
    (photos / "link.jpg").symlink_to(photos / "gone.jpg")
    first = extract([photos], out, options=options)
    assert (first.photos, first.unchanged, first.gone) == (7, 0, 0)
    assert first.counts == {"ok": 4, "no_pose": 1, "unreadable": 2}
    assert first.unreadable == [
        ("broken.jpg", "it is truncated, damaged or of an unsupported kind"),
        ("link.jpg", "No such file or directory"),
    ]
    old = Shards(out)
    assert old["broken.jpg"].status is Status.UNREADABLE
    assert old["broken.jpg"].reason == first.unreadable[0][1]
    assert old["wall.png"].status is Status.NO_POSE
    assert old["wall.png"].size == NO_PERSON
    assert not old["wall.png"].heatmaps.any()
    assert np.isnan(old["wall.png"].keypoints).all()

    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*.h5")}
    (out / ".shard-000001.h5.123.tmp").write_bytes(b"half a shard of a run that was killed")
    again = extract([photos], out, options=options)
    assert not list(out.glob(".*.tmp"))
    assert again.unchanged == again.photos == 7
    assert (again.counts, again.unreadable) == (first.counts, first.unreadable)
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.h5")} == stamps

    drawn = sorted((mannequins / "photos").iterdir())
    shutil.copy(drawn[5], photos / "00001.jpg")  # changed
    shutil.copy(drawn[6], photos / "added.jpg")
    shutil.copy(drawn[7], photos / "link.jpg")  # now there: the copy makes the link's target
    assert (photos / "gone.jpg").exists()
    (photos / "00002.jpg").unlink()
    third = extract([photos], out, options=options)
    assert (third.photos, third.gone) == (8, 1)
    assert third.unchanged == 4  # 00000, 00003, wall, broken
    new = Shards(out)
    assert [path.name for path in new.files] == ["shard-000000.h5", "shard-000001.h5"]
    assert new["00001.jpg"].sha256 == hashlib.sha256(drawn[5].read_bytes()).digest()
    assert plain(new["00001.jpg"]) != plain(old["00001.jpg"])
    assert new["link.jpg"].status is Status.OK
    for id_ in ("00000.jpg", "00002.jpg", "00003.jpg", "wall.png", "broken.jpg"):
        assert plain(new[id_]) == plain(old[id_])


def test_a_broken_photo_never_gets_its_neighbours_result(mannequins, tmp_path, shards):
    photos = copy_photos(mannequins, tmp_path / "photos", 6)
    (photos / "00002.jpg").write_bytes(b"")
    (photos / "00004.jpg").write_bytes(b"not a photo")
    extract([photos], tmp_path / "out", options=ExtractOptions(workers=1))
    found, whole = Shards(tmp_path / "out"), Shards(shards)
    assert found.counts() == {"ok": 4, "no_pose": 0, "unreadable": 2}
    for id_ in ("00000.jpg", "00001.jpg", "00003.jpg", "00005.jpg"):
        assert plain(found[id_]) == plain(whole[id_])
    for id_ in ("00002.jpg", "00004.jpg"):
        assert not found[id_].heatmaps.any()
        assert found[id_].size == (0, 0)


class TestRefusals:
    @pytest.fixture
    def photos(self, mannequins, tmp_path):
        return copy_photos(mannequins, tmp_path / "photos", 1)

    def test_other_options(self, mannequins, shards):
        before = contents(shards)
        options = ExtractOptions(render=RenderOptions(side=28), min_confidence=0.25)
        with pytest.raises(VsamError) as refused:
            extract([mannequins / "photos"], shards, options=options)
        assert str(refused.value) == (
            f"The shards in {shards} were made with other options: side 56 and 28, min_confidence "
            "0.5 and 0.25. Name another folder, or give the same options."
        )
        assert contents(shards) == before

    def test_another_engine(self, mannequins, shards):
        pytest.importorskip("openvino")
        assert Shards(shards).info.backend == "openvino"  # what `auto` takes
        options = ExtractOptions(pose_engine="mediapipe", people="all")
        with pytest.raises(VsamError) as refused:
            extract([mannequins / "photos"], shards, options=options)
        for difference in (
            "backend 'openvino' and 'mediapipe'",
            "crops True and False",
            "people 'main' and 'all'",
        ):
            assert difference in str(refused.value)

    def test_a_folder_of_something_else(self, photos, tmp_path):
        out = tmp_path / "out"
        out.mkdir()
        (out / "thesis.txt").write_text("years of work")
        with pytest.raises(VsamError, match=r"holds something else \(thesis\.txt\)\. Name another"):
            extract([photos], out)
        assert [path.name for path in out.iterdir()] == ["thesis.txt"]
        with pytest.raises(VsamError, match=r"to be a folder for shards, but it is a file\.$"):
            extract([photos], out / "thesis.txt")

    def test_a_second_extraction_at_the_same_time(self, photos, tmp_path):
        out = tmp_path / "out"
        out.mkdir()
        with (
            filelock.FileLock(out / ".lock"),
            pytest.raises(VsamError, match=r"^Another extraction is writing into .* until it ends"),
        ):
            extract([photos], out)
        assert not list(out.glob("*.h5"))

    def test_a_last_shard_without_a_number(self, photos, tmp_path, shards):
        out = tmp_path / "out"
        out.mkdir()
        shutil.copy(shards / "shard-000000.h5", out / "shard-merged.h5")
        with pytest.raises(VsamError, match=r"to have a number .* but it is shard-merged\.h5, so"):
            extract([photos], out)

    @pytest.mark.parametrize(
        ("name", "value", "rule"),
        [
            ("workers", 0, "from 1 to 2147483647"),
            ("shard_size", 0, "from 1 to 2147483647"),
            ("max_pixels", 0, "from 1 to 2147483647"),
            ("max_pixels", 10**20, "from 1 to 2147483647"),
            ("max_seconds", 0.0, "positive"),
            ("min_confidence", 1.5, "from 0 to 1"),
            ("people", "some", "one of main, all"),
        ],
    )
    def test_options_out_of_range(self, name, value, rule):
        with pytest.raises(VsamError, match=rf"^Expected `{name}` to be {rule}, but got {value!r}"):
            ExtractOptions(**{name: value})


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
def small_disk(tmp_path):
    """Mount a disk of 48 KiB; give its folder."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root may mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_ends_it_in_one_line_and_more_space_lets_it_go_on(
    mannequins, shards, small_disk, run_command
):
    out = small_disk / "out"
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
    subprocess.run(["mount", "-o", "remount,size=10m", str(small_disk)], check=True)
    done = run_command(*command)
    assert done.returncode == 0, done.stderr
    assert f"; {kept} were there already." in done.stdout
    found, whole = Shards(out), Shards(shards)
    assert found.ids == whole.ids
    for record in found:
        assert plain(record) == plain(whole[record.id])


def test_a_script_can_use_it(tmp_path, mannequins):
    """Used as a library from a script: workers start, and end with it."""
    photos = copy_photos(mannequins, tmp_path / "photos", 1)
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from vsam_heatmaps import Shards, extract\n"
        "if __name__ == '__main__':\n"
        f"    report = extract([Path({str(photos)!r})], Path({str(tmp_path / 'out')!r}))\n"
        "    print(report.photos, report.counts['ok'])\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "1 1\n"), done.stderr
