"""Whole folders: three formats that say the same, unfinished work that is gone on with."""

import csv
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet
from tiny import environment

from vsam import prediction_files
from vsam.folder_prediction import FolderOptions, predict_folder
from vsam.folder_prediction.journal import Journal
from vsam.folder_prediction.lines import Line
from vsam.folder_prediction.partial import partial_path
from vsam.folder_prediction.pictures import Picture, PictureFile, evenly
from vsam.prediction_files import format_of, read_predictions
from vsam_heatmaps.errors import VsamError
from vsam_heatmaps.photos import list_photos

needs_kill = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")


@pytest.fixture
def photos(tmp_path) -> Path:
    """Give a folder of 14 photos with odd names, two of them broken."""
    folder = tmp_path / "photos"
    rng = np.random.default_rng(0)
    names = [f"{number:02d}.png" for number in range(10)] + ['sub/ü "服", a.png', "-z\n;.png"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (30, 20, 3), dtype=np.uint8)).save(folder / name)
    (folder / "05b.jpg").write_bytes(b"no photo")
    (folder / "empty.png").write_bytes(b"")
    return folder


def options(run: Path, **changed: object) -> FolderOptions:
    values = {"model": run, "device": "cpu", "batch_size": 4, "workers": 2, **changed}
    return FolderOptions(**values)


def predict(photos: Path, out: Path, run: Path, **changed: object):
    changed.setdefault("format", format_of(str(out)))
    return predict_folder(list_photos([photos]), out, options(run, **changed))


@pytest.mark.parametrize("all_scores", [False, True])
def test_the_three_formats_say_the_same(photos, tiny_run, tmp_path, monkeypatch, all_scores):
    monkeypatch.setattr(prediction_files, "_CELLS_A_ROW_GROUP", 12)
    read = {}
    for name in ("p.jsonl", "p.csv", "p.parquet"):
        done = predict(photos, tmp_path / name, tiny_run, all_scores=all_scores)
        assert (done.photos, done.kept, done.unreadable) == (14, 0, 2)
        assert [image for image, _ in done.errors] == ["05b.jpg", "empty.png"]
        read[name] = list(read_predictions(tmp_path / name))
    # What our own reader says must be what others find.
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert read["p.jsonl"] == read["p.csv"] == read["p.parquet"] == lines
    ids = [photo.id for photo in list_photos([photos])]
    assert [line["image"] for line in lines] == ids
    assert sorted(ids) == ids
    assert sum("error" in line for line in lines) == 2

    table = parquet.read_table(tmp_path / "p.parquet")
    assert table.column_names == [
        *("image", "category", "score", "categories", "attributes", "error")
    ]
    assert parquet.ParquetFile(tmp_path / "p.parquet").num_row_groups > 2
    for row, line in zip(table.to_pylist(), lines, strict=True):
        assert {key: value for key, value in row.items() if value is not None} == line
    with (tmp_path / "p.csv").open(newline="") as file:
        for row, line in zip(csv.DictReader(file), lines, strict=True):
            assert row["image"] == line["image"]
            names = [attribute["label"] for attribute in line.get("attributes", [])]
            assert row["attributes"] == ";".join(names)
            assert row["score"] == (repr(line["score"]) if "score" in line else "")
            if all_scores and "score" in line:
                scores = {entry["label"]: entry["score"] for entry in line["attributes"]}
                assert float(row["attributes:warm"]) == scores["warm"]


def test_parquet_has_its_columns_whatever_the_photos_say(tiny_run, photos, tmp_path):
    predict(photos, tmp_path / "p.parquet", tiny_run)
    predict(photos, tmp_path / "none.parquet", tiny_run, threshold=1.0)
    schemas = [parquet.read_schema(tmp_path / name) for name in ("p.parquet", "none.parquet")]
    assert schemas[0] == schemas[1]
    for path in photos.rglob("*.png"):
        path.write_bytes(b"broken")
    predict(photos, tmp_path / "broken.parquet", tiny_run)
    assert parquet.read_schema(tmp_path / "broken.parquet") == schemas[0]


def test_files_that_are_no_predictions_are_refused(tmp_path):
    for name, text in {
        "p.jsonl": "[1]\n{",
        "p.csv": "a,b\n1,2\n",
        "p.parquet": "PAR1",
        "p.txt": "",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(VsamError, match=r"^Expected .* to "):
            list(read_predictions(tmp_path / name))
    with pytest.raises(VsamError, match="Could not read"):
        list(read_predictions(tmp_path / "none.csv"))


def test_lines_are_in_the_order_of_the_ids_also_from_tar_files(photos, tiny_run, tmp_path):
    packed, loose = tmp_path / "packed.tar", tmp_path / "loose"
    (loose / "nested").mkdir(parents=True)
    (photos / "03.png").rename(loose / "nested" / "a.png")
    (photos / "07.png").rename(loose / "05.5.png")
    with tarfile.open(packed, "w") as archive:
        for path in sorted(photos.rglob("*.png"), reverse=True):
            archive.add(path, str(path.relative_to(photos)))
    listed = list_photos([packed, loose])
    assert [photo.id for photo in listed.reading_order] != list(listed.ids)
    predict_folder(listed, tmp_path / "p.jsonl", options(tiny_run))
    found = [line["image"] for line in read_predictions(tmp_path / "p.jsonl")]
    assert found == list(listed.ids)
    assert len(found) == 13


# Unfinished work


@needs_kill
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(tiny_run, tiny_data, tmp_path):
    ended = subprocess.run(
        [
            *(sys.executable, Path(__file__).parents[1] / "dying_predictions.py"),
            *(tiny_run, tiny_data / "photos", tmp_path, "parquet"),
        ],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert len([name for name in found["files"] if name.endswith(".attention.jpg")]) == 24
    assert len(found["files"]) == 26
    assert len(found["moments"]) == 15
    for moment, result in found["moments"].items():
        assert result["ended"] == -9, moment
        assert result["resumed"] == 0, (moment, ended.stderr)
        assert result["same"], (moment, result["other"])
    early = [moment for moment, result in found["moments"].items() if result["early"]]
    assert early == [
        *("between output and report", "after the report", "while the journal is removed")
    ]


def interrupted(photos: Path, out: Path, run: Path, monkeypatch, blocks: int = 2, **changed):
    """Tag until so many blocks are in the journal."""
    with monkeypatch.context() as patch:
        whole = Journal.append

        def append(self, lines, form):
            if self.lines >= blocks * 4:
                raise KeyboardInterrupt
            return whole(self, lines, form)

        patch.setattr(Journal, "append", append)
        with pytest.raises(KeyboardInterrupt):
            predict(photos, out, run, **changed)


def test_unfinished_work_is_not_thrown_away_unasked(photos, tiny_run, tmp_path, monkeypatch):
    out = tmp_path / "p.jsonl"
    interrupted(photos, out, tiny_run, monkeypatch)
    assert not out.exists()
    assert partial_path(out).is_dir()
    with pytest.raises(VsamError, match=r"tagged 8 photos .* with --resume, or remove .*partial"):
        predict(photos, out, tiny_run)
    done = predict(photos, out, tiny_run, resume=True)
    assert (done.photos, done.kept, done.unreadable) == (14, 7, 2)  # one is tried again
    assert not partial_path(out).exists()
    predict(photos, tmp_path / "whole.jsonl", tiny_run)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_run_that_finished_nothing_leaves_nothing(photos, tiny_run, tmp_path, monkeypatch):
    out = tmp_path / "new" / "p.csv"
    interrupted(photos, out, tiny_run, monkeypatch, blocks=0)
    assert list(out.parent.iterdir()) == []
    assert predict(photos, out, tiny_run, resume=True).kept == 0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"all_scores": True}, "all scores off, now on"),
        ({"threshold": 0.25}, "threshold not given, now 0.25"),
        ({"batch_size": 5}, "batch size 4, now 5"),
        ({"precision": "bf16", "max_pixels": 10**7}, "max pixels 100000000, now 10000000; prec"),
        ({"attention": Path("pictures")}, "attention not given, now .*pictures"),
        ({"reduced": True}, "reduced decode off, now on"),
    ],
)
def test_other_settings_are_refused(photos, tiny_run, tmp_path, monkeypatch, changed, said):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "p.jsonl"
    interrupted(photos, out, tiny_run, monkeypatch)
    with pytest.raises(VsamError, match=f"{said}.* Give the same, or remove"):
        predict(photos, out, tiny_run, resume=True, **changed)
    # Where it runs may differ, and how the output is written.
    done = predict(photos, out, tiny_run, resume=True, workers=1, format="csv")
    assert done.kept == 7


def test_another_model_is_refused(photos, tiny_run, tmp_path, monkeypatch):
    import shutil

    from safetensors.torch import load_file, save_file

    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    out = tmp_path / "p.jsonl"
    interrupted(photos, out, run, monkeypatch)
    # The same model under another name is the same.
    run = run.rename(tmp_path / "renamed")
    state = load_file(run / "model.safetensors")
    weights = (run / "model.safetensors").read_bytes()
    state["features.0.bias"].add_(1e-3)
    save_file(state, run / "model.safetensors")
    with pytest.raises(VsamError, match=r"model [0-9a-f]{12}, now [0-9a-f]{12}"):
        predict(photos, out, run, resume=True)
    (run / "model.safetensors").write_bytes(weights)
    assert predict(photos, out, run, resume=True).kept == 7


def test_photos_that_changed_meanwhile_are_tagged_again(photos, tiny_run, tmp_path, monkeypatch):
    out, ids = tmp_path / "p.jsonl", [photo.id for photo in list_photos([photos])]
    interrupted(photos, out, tiny_run, monkeypatch)
    (photos / ids[1]).unlink()
    (photos / ids[2]).write_bytes((photos / ids[12]).read_bytes())
    (photos / "00b.png").write_bytes((photos / ids[13]).read_bytes())
    done = predict(photos, out, tiny_run, resume=True)
    assert (done.photos, done.kept) == (14, 5)
    found = list(read_predictions(out))
    assert [line["image"] for line in found] == sorted({*ids, "00b.png"} - {ids[1]})
    predict(photos, tmp_path / "anew.jsonl", tiny_run)
    for line, other in zip(found, read_predictions(tmp_path / "anew.jsonl"), strict=True):
        assert line.get("category") == other.get("category")
        assert line.get("score") == pytest.approx(other.get("score"), abs=1e-5)


def test_photos_that_could_not_be_read_are_tried_again(photos, tiny_run, tmp_path, monkeypatch):
    """As after their permissions were mended: neither size nor time of change tells of it."""
    out, broken = tmp_path / "p.jsonl", photos / "05b.jpg"
    data, whole = broken.read_bytes(), (photos / "00.png").read_bytes()
    broken.write_bytes(data.ljust(len(whole)))
    before = broken.stat()
    interrupted(photos, out, tiny_run, monkeypatch)
    broken.write_bytes(whole)
    os.utime(broken, ns=(before.st_atime_ns, before.st_mtime_ns))
    done = predict(photos, out, tiny_run, resume=True)
    assert (done.photos, done.kept, done.unreadable) == (14, 7, 1)
    lines = {line["image"]: line for line in read_predictions(out)}
    assert lines["05b.jpg"]["category"] == lines["00.png"]["category"]


def test_two_runs_never_write_the_same_output(photos, tiny_run, tmp_path, monkeypatch):
    out, said = tmp_path / "p.jsonl", []
    whole = Journal.append

    def append(self, lines, form):
        if not said:
            said.append("")
            with pytest.raises(VsamError, match=r"Another run is writing .*p\.jsonl") as error:
                predict(photos, out, tiny_run, resume=True)
            said[0] = str(error.value)
        return whole(self, lines, form)

    monkeypatch.setattr(Journal, "append", append)
    assert predict(photos, out, tiny_run).photos == 14
    assert said[0]
    assert len(list(read_predictions(out))) == 14


def test_work_of_another_version_is_told(photos, tiny_run, tmp_path, monkeypatch):
    out = tmp_path / "p.jsonl"
    interrupted(photos, out, tiny_run, monkeypatch)
    for text in ('{"format_version": 2, "settings": {}}', "{", "[]"):
        (partial_path(out) / "settings.json").write_text(text)
        with pytest.raises(VsamError, match=r"unfinished run of this version .* Remove .*partial"):
            predict(photos, out, tiny_run, resume=True)


# The journal


def journal_lines(number: int, count: int = 3) -> list[Line]:
    return [
        Line(f"{number}\t{each}=\n.png", (each, number), {"error": "=\t\n"}, ("a",))
        for each in range(count)
    ]


def test_wherever_a_journal_is_cut_whole_blocks_are_left(tmp_path):
    path = tmp_path / "journal"
    journal = Journal(path)
    ends, wanted = [0], []
    for number in range(2):
        journal.append(journal_lines(number), {"score": number})
        ends.append(path.stat().st_size)
        wanted += journal_lines(number)
    journal.close()
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        journal = Journal(path)
        found = []
        journal.recover(lambda image, stamp, offset, found=found: found.append(offset))
        blocks = max(number for number, end in enumerate(ends) if end <= cut)
        assert len(found) == journal.lines == 3 * blocks
        assert [journal.read(offset) for offset in found] == wanted[: 3 * blocks]
        assert path.stat().st_size == ends[blocks]
        if cut % 50 == 0:  # and it goes on from there
            journal.append(journal_lines(9), {})
            assert journal.recover() == 3 * blocks + 3
        journal.close()


@pytest.mark.parametrize("filling", [b"\0", b"=", b"{}\n", b"x"])
def test_what_a_power_cut_leaves_in_a_journal_counts_for_nothing(tmp_path, filling):
    path, ends = tmp_path / "journal", []
    journal = Journal(path)
    for number in range(3):
        journal.append(journal_lines(number), {})
        ends.append(path.stat().st_size)
    journal.close()
    whole = path.read_bytes()
    for start in range(ends[0], ends[2] - 8, 7):
        damaged = bytearray(whole)
        damaged[start : start + 8] = (filling * 8)[:8]
        path.write_bytes(damaged)
        journal = Journal(path)
        # The damaged block is left out, and all that follows it.
        intact = 1 if start < ends[1] else 2
        assert journal.recover() == 3 * intact
        journal.close()
        assert path.read_bytes() == whole[: ends[intact - 1]]


def test_torn_pictures_are_dropped(tmp_path):
    file = PictureFile(tmp_path / "pictures")

    def read() -> dict[str, Picture]:
        return file.read(lambda image: (1, 2))

    def line(image: str, photo: bytes, heat: bytes) -> Line:
        return Line(image, (1, 2), {}, picture=Picture(photo, heat))

    assert read() == {}
    file.append([line("a", b"1", b"2"), line("b", b"3", b""), Line("c", (1, 2), {})])
    file.append([line("a", b"4", b"5")])
    whole = (tmp_path / "pictures").read_bytes()
    assert read() == {"a": Picture(b"4", b"5"), "b": Picture(b"3", b"")}
    assert file.read({"a": (1, 2), "b": (1, 3)}.get) == {"a": Picture(b"4", b"5")}
    for cut in range(len(whole)):
        (tmp_path / "pictures").write_bytes(whole[:cut])
        kept = whole[:cut].count(b"\n")
        assert len(read()) == min(kept, 2)
        assert (tmp_path / "pictures").read_bytes().count(b"\n") == kept


@pytest.mark.parametrize(("length", "count"), [(0, 3), (1, 1), (7, 1), (7, 3), (100, 9), (5, 5)])
def test_what_is_evenly_chosen_reaches_from_end_to_end(length, count):
    chosen = list(evenly(range(length), count))
    assert len(chosen) == len(set(chosen)) == min(length, count)
    assert chosen == sorted(chosen)
    if min(length, count) > 1:
        assert (chosen[0], chosen[-1]) == (0, length - 1)
        gaps = np.diff(chosen)
        assert gaps.max() - gaps.min() <= 1
    assert list(evenly(range(length), 0)) == []
