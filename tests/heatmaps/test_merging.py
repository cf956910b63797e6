"""Merge: each photo's record once, to the byte, whatever the split; all of it or nothing."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import filelock
import h5py
import numpy as np
import pytest
from disks import mounted
from hypothesis import given, settings
from hypothesis import strategies as st
from made_shards import INFO, make_record, same, write
from processes import started, wait_until

from vsam_heatmaps import Shards, Status, VsamError
from vsam_heatmaps.shards.merging import merge
from vsam_heatmaps.verification import verify

NAMES = ("a.jpg", "a/b.jpg", "B.jpg", "z é 👗.jpg", "ﬀ.jpg", "\U0001f457.jpg")


def version(name: str, number: int):
    """One of several records of a photo, of all kinds of status."""
    position = NAMES.index(name)
    return make_record(name, 10 * position + number, Status((position + number) % 3))


def contents(folder: Path) -> list[list[str]]:
    """Ids of each shard, as another program would read them."""
    found = []
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path, locking=False) as file:  # a reader may have it open
            found.append([id_.decode() for id_ in file["id"][:]])
    return found


a_shard = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 1), min_size=1)
a_folder = st.lists(a_shard, min_size=1, max_size=3)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    folders=st.lists(a_folder, min_size=1, max_size=4),
    shard_size=st.integers(1, 5),
    on_conflict=st.sampled_from(["stop", "first", "last"]),
)
def test_any_split_of_records_is_joined(folders, shard_size, on_conflict):
    known: list[dict[str, int]] = []  # of each folder: the version that counts
    for shards in folders:
        known.append({})
        for shard in shards:
            known[-1] |= shard
    versions = {
        name: [folder[name] for folder in known if name in folder]
        for name in sorted({name for folder in known for name in folder})
    }
    conflicts = {name for name, found in versions.items() if len(set(found)) > 1}
    with TemporaryDirectory() as temporary:
        inputs, out = [], Path(temporary) / "out"
        for number, shards in enumerate(folders):
            inputs.append(Path(temporary) / f"in{number}")
            for position, shard in enumerate(shards):
                write(inputs[-1], position, [version(*each) for each in shard.items()])
        if conflicts and on_conflict == "stop":
            with pytest.raises(VsamError, match="Take one with --on-conflict") as refused:
                merge(inputs, out, shard_size=shard_size)
            assert repr(min(conflicts)) in str(refused.value)
            assert sorted(Path(temporary).iterdir()) == sorted(inputs)
            return
        report = merge(inputs, out, shard_size=shard_size, on_conflict=on_conflict)
        merged = Shards(out)
        assert merged.info == INFO
        assert merged.superseded == 0
        assert len(merged) == len(versions)
        for name, found in versions.items():
            assert same(merged[name], version(name, found[0 if on_conflict == "first" else -1]))
        ids = contents(out)
        assert [id_ for shard in ids for id_ in shard] == list(versions)
        assert [len(shard) for shard in ids[:-1]] == [shard_size] * (len(ids) - 1)
        assert 1 <= len(ids[-1]) <= shard_size
        assert verify(out).findings == []
        assert (report.records, report.shards) == (len(versions), len(ids))
        assert report.superseded == sum(
            sum(map(len, shards)) - len(folder)
            for shards, folder in zip(folders, known, strict=True)
        )
        assert report.chosen == len(conflicts)
        shared = sum(len(found) > 1 for found in versions.values())
        assert report.repeated == shared - len(conflicts)
        assert {path.name for path in Path(temporary).iterdir()} == {
            "out",
            *(path.name for path in inputs),
        }


@pytest.fixture
def inputs(tmp_path):
    """Two folders that share nothing."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for number, folder in enumerate(folders):
        for position in range(3):
            names = [f"{number}/{position}{row}.jpg" for row in range(20)]
            write(folder, position, [make_record(name, int(name[2:4])) for name in names])
    return folders


def test_the_same_inputs_give_the_same_bytes(inputs, tmp_path):
    for name, order in (("x", inputs), ("y", inputs[::-1])):
        merge(order, tmp_path / name, shard_size=50)
    for path in sorted((tmp_path / "x").iterdir()):
        assert path.read_bytes() == (tmp_path / "y" / path.name).read_bytes()


def test_a_folder_is_written_anew(inputs, tmp_path):
    write(inputs[0], 3, [make_record("0/00.jpg", 77)])
    report = merge(inputs[:1], tmp_path / "out", shard_size=7)
    assert (report.records, report.superseded) == (60, 1)
    assert list(map(len, contents(tmp_path / "out"))) == [7] * 8 + [4]
    assert same(Shards(tmp_path / "out")["0/00.jpg"], make_record("0/00.jpg", 77))


def test_many_folders_stay_below_the_limit_of_open_files(tmp_path):
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("this system does not list open files in /proc")
    folders = [tmp_path / f"in{number}" for number in range(9)]
    for number, folder in enumerate(folders):
        for position in range(10):
            write(folder, position, [make_record(f"{position}{number}.jpg", number)])
    opened: list[Shards] = []
    for folder in folders:
        opened.append(Shards(folder, beside=opened[0] if opened else None))
    for source in opened:
        assert len(list(source)) == 10
    links = [link.resolve() for link in descriptors.iterdir()]
    # Other tests' may wait for the garbage collector.
    assert 0 < sum(link.is_relative_to(tmp_path) for link in links) <= 64
    assert merge(folders, tmp_path / "out").records == 90


def test_an_empty_folder_and_a_link_are_filled(inputs, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    merge(inputs, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert len(Shards(tmp_path / "empty")) == 120
    merge(inputs, tmp_path / "deep" / "er" / "out")
    assert len(Shards(tmp_path / "deep" / "er" / "out")) == 120


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Let this process, which is root's, have no rights of its own."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


class TestFoldersOfOthers:
    """An ended extraction left its lock in them, which may be read, but not written."""

    def check(self, folder, seen, out, reader=contextlib.nullcontext):
        """Merge what a reader sees of a folder, while somebody writes into it and after that."""
        with filelock.FileLock(folder / ".lock", mode=0o644), reader():
            with pytest.raises(VsamError) as refused:
                merge([seen], out)
            assert str(refused.value) == (
                f"An extraction is writing into {seen}. Wait until it ends."
            )
        with reader():
            assert merge([seen], out).records == 60

    def test_on_a_disk_that_is_only_read(self, inputs, tmp_path):
        seen = tmp_path / "seen"
        seen.mkdir()
        with mounted("--bind", inputs[0], seen):
            subprocess.run(["mount", "-o", "remount,bind,ro", seen], check=True)
            self.check(inputs[0], seen, tmp_path / "out")

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root has others")
    def test_of_another_user(self, inputs, tmp_path):
        merge(inputs, tmp_path / "out")  # imports what nobody might not read
        with TemporaryDirectory() as temporary:  # nobody may not enter `tmp_path`
            folder = shutil.copytree(inputs[0], Path(temporary) / "theirs")
            own = Path(temporary) / "own"
            own.mkdir()
            own.chmod(0o777)
            Path(temporary).chmod(0o755)
            self.check(folder, folder, own / "out", as_nobody)
            (folder / ".lock").chmod(0)
            with as_nobody():
                assert merge([folder], own / "again").records == 60


class TestRefusals:
    def refusal(self, inputs, out, **options):
        before = {path: path.stat().st_mtime_ns for path in out.parent.rglob("*")}
        with pytest.raises(VsamError) as refused:
            merge(inputs, out, **options)
        assert {path: path.stat().st_mtime_ns for path in out.parent.rglob("*")} == before
        assert len(str(refused.value).splitlines()) == 1
        return str(refused.value)

    def test_conflicts(self, inputs, tmp_path):
        one = make_record("0/00.jpg", 5)
        moved = one.keypoints.copy()
        moved[0, 0] = np.nextafter(moved[0, 0], np.float32(2))
        for folder, record in zip(inputs, (one, replace(one, keypoints=moved)), strict=True):
            write(folder, 9, [record])
        assert self.refusal(inputs, tmp_path / "out") == (
            f"The records of '0/00.jpg' in {inputs[0]} and {inputs[1]} differ (keypoints). "
            "Take one with --on-conflict first or last, or leave a folder out."
        )

    def test_other_options(self, inputs, tmp_path):
        info = replace(INFO, min_confidence=0.3, backend="openvino")
        write(tmp_path / "other", 0, [make_record("x.jpg")], info)
        assert self.refusal([*inputs, tmp_path / "other"], tmp_path / "out") == (
            f"The shards in {inputs[0]} and {tmp_path}/other were made with different options: "
            "backend 'mediapipe' and 'openvino', min_confidence 0.5 and 0.3. Extract one of them "
            "again, or keep them apart."
        )

    def test_an_output_that_holds_something(self, inputs, tmp_path):
        said = self.refusal(inputs, inputs[0])
        assert said.endswith("but it holds shard-000000.h5. Name another folder.")
        (tmp_path / "hidden").mkdir()
        (tmp_path / "hidden" / ".lock").touch()
        assert "but it holds .lock." in self.refusal(inputs, tmp_path / "hidden")
        (tmp_path / "file").touch()
        assert "but it is a file." in self.refusal(inputs, tmp_path / "file")

    def test_a_disk_of_its_own(self, inputs, tmp_path):
        disk = tmp_path / "disk"
        disk.mkdir()
        with mounted("-t", "tmpfs", "tmpfs", disk):
            said = self.refusal(inputs, disk)
            assert said == f"{disk} is a disk's own folder and can't be replaced. Name one in it."

    def test_inputs_that_are_not_whole(self, inputs, tmp_path):
        assert "but it is not there." in self.refusal([tmp_path / "none"], tmp_path / "out")
        path = inputs[1] / "shard-000001.h5"
        with h5py.File(path) as file:
            chunk = file["heatmaps"].id.get_chunk_info(3)
        data = bytearray(path.read_bytes())
        data[chunk.byte_offset + chunk.size // 2] ^= 0x10
        path.write_bytes(data)
        assert f"The shard {path} is damaged" in self.refusal(inputs, tmp_path / "out")

    def test_values(self, inputs, tmp_path):
        out = tmp_path / "out"
        assert "`shard_size` to be at least 1" in self.refusal(inputs, out, shard_size=0)
        assert "one of stop, first, last" in self.refusal(inputs, out, on_conflict="newest")
        assert "`folders` to be at least one" in self.refusal([], out)

    def test_an_input_that_is_being_written(self, inputs, tmp_path):
        held = filelock.FileLock(inputs[1] / ".lock")
        with held:
            assert self.refusal(inputs, tmp_path / "out") == (
                f"An extraction is writing into {inputs[1]}. Wait until it ends."
            )
        merge(inputs, tmp_path / "out")  # the file stays, but nobody holds it
        assert held.acquire(timeout=0)
        held.release()


@pytest.fixture
def slow_merge(inputs, tmp_path):
    """Start a merge in a process of its own; give it once some of its shards are written."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom vsam_heatmaps.shards.merging import merge\n"
        "*inputs, out = map(Path, sys.argv[1:])\nmerge(inputs, out, shard_size=1)"
    )
    unfinished = tmp_path / ".out.vsam-unfinished"
    with started([sys.executable, "-c", code, *inputs, tmp_path / "out"]) as process:
        wait_until(lambda: len(list(unfinished.glob("shard-*.h5"))) >= 3, process, pause=0.001)
        process.send_signal(signal.SIGSTOP)
        yield process


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system has no such signals")
class TestKilled:
    def test_nothing_is_left_under_the_name_and_the_next_merge_cleans_up(
        self, slow_merge, inputs, tmp_path
    ):
        slow_merge.kill()
        slow_merge.wait()
        assert slow_merge.returncode == -signal.SIGKILL
        left = sorted(path.name for path in tmp_path.iterdir())
        assert left == [".out.vsam-lock", ".out.vsam-unfinished", "one", "two"]
        assert 3 <= len(list((tmp_path / left[1]).iterdir())) < 120
        merge(inputs, tmp_path / "out", shard_size=50)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "out", "two"]
        assert list(map(len, contents(tmp_path / "out"))) == [50, 50, 20]

    def test_a_living_merge_is_left_alone(self, slow_merge, inputs, tmp_path):
        unfinished = tmp_path / ".out.vsam-unfinished"
        before = sorted(unfinished.iterdir())
        with pytest.raises(VsamError) as refused:
            merge(inputs, tmp_path / "out")
        assert str(refused.value) == (
            f"Another process is making {tmp_path}/out. Wait until it ends."
        )
        assert sorted(unfinished.iterdir()) == before
        slow_merge.send_signal(signal.SIGCONT)
        assert slow_merge.wait(60) == 0
        assert len(contents(tmp_path / "out")) == 120
        assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "out", "two"]
