"""The same tagging on a real Ray, started on this machine: the same lines, none lost."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from vsam.folder_prediction import FolderOptions, predict_folder, ray_engine
from vsam.folder_prediction.journal import Journal
from vsam_heatmaps.errors import VsamError
from vsam_heatmaps.photos import list_photos

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends signals")


@pytest.fixture(scope="module")
def cluster():
    """Start Ray once for several tests: a run uses what its caller has started."""
    source = os.pathsep.join(sys.path)  # what the tests import, actors must find
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": source}},
    )
    yield
    ray.shutdown()


def options(run: Path, folder: Path, **changed: object) -> FolderOptions:
    values = {
        "model": run,
        "device": "cpu",
        "batch_size": 2,
        "engine": "ray",
        "workers": 2,
        "attention": folder / "attention",
        "report": folder / "report.html",
        **changed,
    }
    return FolderOptions(**values)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def actors() -> list[int]:
    """List the processes of Ray's actors that tag."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"_BlockTagger" in line.read_bytes() or b"MapWorker" in line.read_bytes():
                found.append(int(line.parent.name))
        except OSError:
            continue
    return found


def test_lines_pictures_and_report_equal_those_of_this_machine(
    cluster, tiny_run, tiny_data, tmp_path
):
    photos = tiny_data / "photos"
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    listed = list_photos([photos, broken])
    for name, engine in {"local": "local", "ray": "ray"}.items():
        folder = tmp_path / name
        chosen = options(tiny_run, folder, engine=engine)
        done = predict_folder(listed, folder / "p.jsonl", chosen)
        assert (done.photos, done.unreadable) == (25, 1)
    found = contents(tmp_path / "ray")
    assert found == contents(tmp_path / "local")
    assert len(found) == 26


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks at processes in /proc")
def test_an_actor_that_dies_loses_nothing(cluster, tiny_run, tiny_data, tmp_path, monkeypatch):
    # In one wave many blocks wait while the first ones come back.
    monkeypatch.setattr(ray_engine, "_BATCHES_A_BLOCK", 1)
    listed = list_photos([tiny_data / "photos"])
    local = options(tiny_run, tmp_path / "local", engine="local")
    predict_folder(listed, tmp_path / "local" / "p.jsonl", local)
    whole, killed = Journal.append, []
    half_written = tmp_path / "ray" / "attention" / ".03.png.attention.jpg.0edad3bf.tmp"

    def append(self, lines, form):
        if not killed:
            killed.extend(actors()[:1])
            for process in killed:
                os.kill(process, signal.SIGKILL)
            time.sleep(0.2)
            half_written.write_bytes(b"what an actor leaves that dies while it writes")
        return whole(self, lines, form)

    monkeypatch.setattr(Journal, "append", append)
    predict_folder(listed, tmp_path / "ray" / "p.jsonl", options(tiny_run, tmp_path / "ray"))
    assert len(killed) == 1
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


def test_what_an_actor_refuses_comes_back_as_one_line(cluster, tiny_run, tiny_data, tmp_path):
    import shutil

    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    (run / "model.safetensors").write_bytes(b"no weights")
    chosen = options(run, tmp_path / "out")
    with pytest.raises(VsamError, match="to be a safetensors file"):
        predict_folder(list_photos([tiny_data / "photos"]), tmp_path / "out" / "p.jsonl", chosen)
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_standard_output_can_not_be_in_order(tiny_run, tiny_data, tmp_path):
    with pytest.raises(VsamError, match="to be a file with --engine ray"):
        predict_folder(list_photos([tiny_data / "photos"]), "-", options(tiny_run, tmp_path))
