"""The same extraction on a real Ray, started on this machine: the same records, none lost."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from extracting import contents, copy_photos, plain
from processes import is_spawned_worker, session_members, started, wait_until

from vsam_heatmaps import Shards, VsamError, extract
from vsam_heatmaps.extraction import ExtractOptions

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends signals")


@pytest.fixture(scope="module")
def cluster():
    """Start Ray once for several tests: an extraction uses what its caller has started."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


OPTIONS = ExtractOptions(engine="ray", workers=2, shard_size=5)


def rows(folder: Path) -> list[str]:
    shards = Shards(folder)
    return sorted(id_ for number in range(len(shards.files)) for id_, _ in shards.rows_in(number))


def test_the_same_photos_give_the_same_records(cluster, mannequins, shards, tmp_path):
    """From the first run over changed, renamed and broken photos to one that changes nothing."""
    photos, out = copy_photos(mannequins, tmp_path / "photos", 24), tmp_path / "out"
    (photos / "broken.jpg").write_bytes(b"no photo")
    (photos / "link.jpg").symlink_to(photos / "nowhere")
    first = extract([photos], out, options=OPTIONS)
    assert first.photos == 26
    assert first.counts == {"ok": 24, "no_pose": 0, "unreadable": 2}
    assert [id_ for id_, _ in first.unreadable] == ["broken.jpg", "link.jpg"]
    found, whole = Shards(out), Shards(shards)
    for id_ in whole.ids:
        assert plain(found[id_]) == plain(whole[id_])
    assert rows(out) == sorted(path.name for path in photos.iterdir())
    assert len(found.files) == 6
    assert found.info == whole.info

    kept = contents(out)
    again = extract([photos], out, options=OPTIONS)
    assert (again.unchanged, again.unreadable) == (26, first.unreadable)
    assert contents(out) == kept

    (photos / "00001.jpg").rename(photos / "renamed.jpg")
    (photos / "00002.jpg").write_bytes((photos / "00003.jpg").read_bytes())
    third = extract([photos], out, options=OPTIONS)
    assert (third.unchanged, third.renamed, third.gone) == (24, 1, 1)
    local = tmp_path / "local"
    extract([photos], local, options=ExtractOptions(workers=1))
    found = Shards(out)
    for record in Shards(local):
        assert plain(found[record.id]) == plain(record)


def test_an_unreadable_photo_stops_it_if_asked(cluster, mannequins, tmp_path):
    photos = copy_photos(mannequins, tmp_path / "photos", 3)
    (photos / "broken.jpg").write_bytes(b"no photo")
    options = ExtractOptions(engine="ray", workers=1, stop_on_error=True)
    with pytest.raises(VsamError, match=r"^Could not read .*broken\.jpg: it is not an image"):
        extract([photos], tmp_path / "out", options=options)


def test_what_a_worker_refuses_comes_back_as_one_line(cluster, mannequins, tmp_path):
    photos = copy_photos(mannequins, tmp_path / "photos", 12)
    model = tmp_path / "model.task"
    model.write_bytes(b"no bundle")
    options = ExtractOptions(engine="ray", workers=1, pose_model=model, crops=False)
    with pytest.raises(VsamError, match=r"model\.task"):
        extract([photos], tmp_path / "out", options=options)


def workers_of(session: int) -> list[int]:
    """List the workers of a session; Ray's own daemons take a minute to see that it is over."""
    return [pid for pid in session_members(session) if is_spawned_worker(pid)]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_stopped_in_the_middle(mannequins, shards, tmp_path, number, code):
    photos = tmp_path / "photos"
    for copy in range(2):
        copy_photos(mannequins, photos / str(copy), 24)
    out = tmp_path / "out"
    command = [Path(sys.executable).parent / "vsam-heatmaps", "extract", photos, "--out", out]
    command += ["--engine", "ray", "--workers", "2", "--shard-size", "6"]
    with started(command, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: len(list(out.glob("shard-*.h5"))) >= 2, process)
        assert len(workers_of(process.pid)) == 2
        os.kill(process.pid, number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == code
        assert "Traceback" not in errors
        wait_until(lambda: not workers_of(process.pid))  # nobody is left over
    assert 12 <= len(Shards(out)) < 48
    report = extract([photos], out, options=ExtractOptions(workers=1, shard_size=6))
    assert report.counts["ok"] == 48
    assert report.unchanged >= 12
    assert len(rows(out)) == len(set(rows(out))) == 48
    whole = Shards(shards)
    for record in Shards(out):
        assert plain(record)[1:] == plain(whole[Path(record.id).name])[1:]


def test_an_address_where_nobody_is(mannequins, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    if ray.is_initialized():
        ray.shutdown()
    photos = copy_photos(mannequins, tmp_path / "photos", 1)
    with pytest.raises(VsamError, match=r"^Could not connect to the Ray cluster 127\.0\.0\.1:1: "):
        extract([photos], tmp_path / "out", options=OPTIONS)
