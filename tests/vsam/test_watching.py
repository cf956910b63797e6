"""Watched folders: what comes is tagged, what is being written is waited for."""

import base64
import io
import os
import re
import threading
import time
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from PIL import Image
from pyarrow.parquet import read_schema

from vsam.folder_prediction import FolderOptions, FolderReport, watch_folders
from vsam.folder_prediction.partial import partial_path
from vsam.prediction_files import read_predictions
from vsam_heatmaps.errors import VsamError
from vsam_heatmaps.photos import Photo


class Watch:
    """A watch in a thread of its own, which ends with the block."""

    def __init__(
        self, folder: Path, out: Path, run: Path, *, seconds: float = 0.1, **changed: object
    ) -> None:
        self.folder, self.out = folder, out
        self._stop = threading.Event()
        self._ended: list[FolderReport | VsamError] = []
        values = {"model": run, "device": "cpu", "batch_size": 4, "format": out.suffix[1:]}
        options = FolderOptions(**values | changed)

        def work() -> None:
            try:
                self._ended.append(
                    watch_folders([folder], out, options, self._stop, seconds=seconds)
                )
            except VsamError as error:
                self._ended.append(error)

        self._thread = threading.Thread(target=work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def lines(self) -> dict[str, dict]:
        return {line["image"]: line for line in read_predictions(self.out)}

    def wait_for(self, condition) -> None:
        end = time.monotonic() + 60
        while not (self.out.exists() and condition(self.lines())):
            assert self._thread.is_alive(), self._ended
            assert time.monotonic() < end, self.out.exists() and self.lines()
            time.sleep(0.05)

    def end(self) -> FolderReport | VsamError:
        self._stop.set()
        return self.ended()

    def ended(self) -> FolderReport | VsamError:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self._ended[0]


def write(path: Path, seed: int) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (64, 48, 3), dtype=np.uint8)).save(path)
    return path.read_bytes()


def test_a_table_has_its_columns_though_no_photo_came(tiny_run, tmp_path):
    columns = []
    for number, name in enumerate(("empty", "inbox")):
        folder, out = tmp_path / name, tmp_path / f"{name}.parquet"
        folder.mkdir()
        with Watch(folder, out, tiny_run) as watch:
            if number:
                write(folder / "a.png", 0)
                watch.wait_for(lambda lines: set(lines) == {"a.png"})
            done = watch.end()
        assert isinstance(done, FolderReport), done
        assert done.photos == number
        columns.append(read_schema(out))
    assert columns[0].names[:2] == ["image", "category"]
    assert columns[0] == columns[1]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_photos_are_tagged_as_they_come(tiny_run, tmp_path, suffix):
    folder = tmp_path / "inbox"
    folder.mkdir()
    with Watch(folder, tmp_path / f"p.{suffix}", tiny_run, report=tmp_path / "r.html") as watch:
        data = write(folder / "b.png", 0)
        watch.wait_for(lambda lines: set(lines) == {"b.png"})
        write(folder / "sub" / "c.png", 1)
        (folder / "a.png").write_bytes(b"no photo")
        watch.wait_for(lambda lines: set(lines) == {"a.png", "b.png", "sub/c.png"})
        assert list(watch.lines()) == ["a.png", "b.png", "sub/c.png"]
        first = watch.lines()
        assert "error" in first["a.png"]
        # Mended, and changed: the line is replaced. Removed: it stays.
        (folder / "a.png").write_bytes(data)
        write(folder / "sub" / "c.png", 2)
        (folder / "b.png").unlink()
        watch.wait_for(
            lambda lines: "error" not in lines["a.png"] and lines["sub/c.png"] != first["sub/c.png"]
        )
        last = watch.lines()
        assert last["b.png"] == first["b.png"]
        for key in ("category", "score"):
            assert last["a.png"][key] == pytest.approx(first["b.png"][key], abs=1e-5)
        done = watch.end()
    assert isinstance(done, FolderReport), done
    assert (done.photos, done.unreadable) == (3, 0)
    assert "sub/c.png" in (tmp_path / "r.html").read_text()

    # Later it goes on where it was.
    write(folder / "d.png", 3)
    assert partial_path(watch.out).is_dir()
    with Watch(folder, watch.out, tiny_run, resume=True) as again:
        again.wait_for(lambda lines: set(lines) == {"a.png", "b.png", "sub/c.png", "d.png"})
        done = again.end()
    assert (done.photos, done.kept) == (4, 3)
    assert {id_: line for id_, line in again.lines().items() if id_ != "d.png"} == last


def test_a_later_watch_tries_again_what_could_not_be_read(tiny_run, tmp_path):
    """As after its permissions were mended: neither size nor time of change tells of it."""
    (folder := tmp_path / "inbox").mkdir()
    data, broken = write(folder / "a.png", 0), folder / "b.png"
    broken.write_bytes(bytes(len(data)))
    before = broken.stat()
    with Watch(folder, tmp_path / "p.jsonl", tiny_run) as watch:
        watch.wait_for(lambda lines: len(lines) == 2 and "error" in lines["b.png"])
        watch.end()
    broken.write_bytes(data)
    os.utime(broken, ns=(before.st_atime_ns, before.st_mtime_ns))
    with Watch(folder, watch.out, tiny_run, resume=True) as watch:
        watch.wait_for(lambda lines: "category" in lines["b.png"])
        done = watch.end()
    assert (done.photos, done.unreadable) == (2, 0)


def test_a_file_that_is_still_being_written_is_waited_for(tiny_run, tmp_path):
    folder = tmp_path / "inbox"
    data = write(tmp_path / "photo.png", 0)
    folder.mkdir()
    with Watch(folder, tmp_path / "p.jsonl", tiny_run, seconds=0.5) as watch:
        with (folder / "slow.png").open("wb") as file:
            for start in range(0, len(data), len(data) // 40 + 1):
                file.write(data[start : start + len(data) // 40 + 1])
                file.flush()
                time.sleep(0.05)
                assert not watch.out.exists()
        watch.wait_for(lambda lines: set(lines) == {"slow.png"})
        watch.end()
    assert "error" not in watch.lines()["slow.png"]
    # It never was an error in between either.
    assert b"error" not in (partial_path(watch.out) / "journal").read_bytes()


def test_what_changes_while_it_is_read_is_looked_at_again(tiny_run, tmp_path, monkeypatch):
    folder = tmp_path / "inbox"
    write(folder / "a.png", 0)
    new = write(tmp_path / "new.png", 1)
    read, changed = Photo.read, []

    def changing(self, **named):
        data = read(self, **named)
        if not changed:
            changed.append(True)
            self.path.write_bytes(new)
        return data

    monkeypatch.setattr(Photo, "read", changing)
    with Watch(folder, tmp_path / "p.jsonl", tiny_run) as watch:
        watch.wait_for(lambda lines: "a.png" in lines)
        watch.end()
    journal = (partial_path(watch.out) / "journal").read_bytes()
    assert journal.count(b'"image": "a.png"') == 1
    assert f'"stamp": [{len(new)},'.encode() in journal


def test_a_photo_that_is_gone_before_its_turn_has_no_line(tiny_run, tmp_path, monkeypatch):
    folder = tmp_path / "inbox"
    for number in range(6):
        write(folder / f"{number}.png", number)
    read = Photo.read

    def removing(self, **named):
        (folder / "5.png").unlink(missing_ok=True)
        return read(self, **named)

    monkeypatch.setattr(Photo, "read", removing)
    with Watch(folder, tmp_path / "p.jsonl", tiny_run, batch_size=1) as watch:
        watch.wait_for(lambda lines: len(lines) >= 5)
        done = watch.end()
    assert set(watch.lines()) == {f"{number}.png" for number in range(5)}
    assert (done.photos, done.unreadable) == (5, 0)


def mean_colour(report: Path, image: str) -> np.ndarray:
    """Look at a photo's picture in a report."""
    found = re.search(
        rf'"id":"{image}".*?"photo":"data:image/webp;base64,([^"]+)"', report.read_text()
    )
    picture = Image.open(io.BytesIO(base64.b64decode(found[1])))
    return np.asarray(picture.convert("RGB")).mean((0, 1))


def test_a_photo_that_changes_is_drawn_anew_where_the_report_shows_it(tiny_run, tmp_path):
    """Also where no picture of the next photo is wanted, and in a later watch."""
    folder, report = tmp_path / "inbox", tmp_path / "r.html"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (40, 48), (250, 0, 0)).save(folder / f"{number}.png")
    shown = {"report": report, "report_photos": 1}
    with Watch(folder, tmp_path / "p.jsonl", tiny_run, **shown) as watch:
        watch.wait_for(lambda lines: len(lines) == 3)
        before = watch.lines()["0.png"]
        Image.new("RGB", (40, 48), (0, 0, 250)).save(folder / "0.png")
        watch.wait_for(lambda lines: lines["0.png"] != before)
        watch.end()
    assert mean_colour(report, "0.png")[2] > 200
    before = watch.lines()["0.png"]
    # It is not drawn, so what is there is of another state: the report leaves it out.
    Image.new("RGB", (40, 48), (0, 250, 0)).save(folder / "0.png")
    with Watch(folder, tmp_path / "p.jsonl", tiny_run, resume=True) as watch:
        watch.wait_for(lambda lines: lines["0.png"] != before)
        watch.end()
    with Watch(folder, tmp_path / "p.jsonl", tiny_run, resume=True, **shown) as watch:
        watch.end()
    assert '"id":"0.png"' not in report.read_text()


def test_a_folder_that_vanishes_ends_the_watch_and_keeps_what_is_tagged(tiny_run, tmp_path):
    folder = tmp_path / "inbox"
    write(folder / "a.png", 0)
    with Watch(folder, tmp_path / "p.jsonl", tiny_run) as watch:
        watch.wait_for(lambda lines: "a.png" in lines)
        folder.rename(tmp_path / "elsewhere")
        ended = watch.ended()
    assert isinstance(ended, VsamError)
    assert "is not there" in str(ended)
    assert set(watch.lines()) == {"a.png"}
    assert partial_path(watch.out).is_dir()


def test_what_can_not_be_watched_is_refused(tiny_run, tmp_path):
    write(tmp_path / "a.png", 0)
    stop = threading.Event()
    values = {"model": tiny_run, "device": "cpu"}
    with pytest.raises(VsamError, match=r"a\.png` to be a folder with --watch"):
        watch_folders([tmp_path / "a.png"], tmp_path / "p.jsonl", FolderOptions(**values), stop)
    ray = FolderOptions(**values, engine="ray")
    with pytest.raises(VsamError, match="local with --watch"):
        watch_folders([tmp_path], tmp_path / "p.jsonl", ray, stop)
    here = FolderOptions(**values)
    for seconds in (0, float("nan"), 1e12, float("inf")):  # more than a thread can wait
        with pytest.raises(VsamError, match=r"^Expected `seconds` to be positive, at most"):
            watch_folders([tmp_path], tmp_path / "p.jsonl", here, stop, seconds=seconds)
