"""`vsam-predict` on whole folders: killed and resumed, watching, formats by the file's ending."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from processes import started, wait_until
from pyarrow import table
from pyarrow.parquet import write_table
from tiny import call, command, environment, the_error

from vsam.folder_prediction.partial import partial_path
from vsam.prediction_files import read_predictions

unix = pytest.mark.skipif(sys.platform == "win32", reason="sends signals")


@pytest.fixture
def predict(tiny_run, monkeypatch, capsys):
    """Give a function that runs the command: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        given = ["--model", tiny_run, "--device", "cpu", *arguments]
        code = call("vsam-predict", given, monkeypatch)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def start(
    run: Path, *arguments: object
) -> "contextlib.AbstractContextManager[subprocess.Popen[str]]":
    return started(
        [command("vsam-predict"), "--model", run, "--device", "cpu", *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def many_photos(folder: Path, count: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    first = folder / "0000.jpg"
    Image.fromarray(rng.integers(0, 256, (900, 700, 3), dtype=np.uint8)).save(first)
    for number in range(1, count):
        (folder / f"{number:04d}.jpg").hardlink_to(first)
    (folder / "0007b.jpg").write_bytes(b"no photo")
    return folder


@unix
def test_killed_at_several_moments_it_ends_as_if_undisturbed(tiny_run, predict, tmp_path):
    photos = many_photos(tmp_path / "photos", 160)
    results = tmp_path / "results"
    out, journal = results / "p.jsonl", partial_path(results / "p.jsonl") / "journal"
    given = [photos, "--out", out, "--batch-size", 8, "--attention", results / "attention"]
    given += ["--report", results / "r.html", "--report-photos", 20, "--resume"]
    sizes = [0]
    for _ in range(2):
        with start(tiny_run, *given) as process:
            wait_until(
                lambda: journal.exists() and journal.stat().st_size > sizes[-1] + 9000, process
            )
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        assert not out.exists()
        sizes.append(journal.stat().st_size)
    assert predict(*given)[0] == 3

    other = tmp_path / "undisturbed"
    given = [photos, "--out", other / "p.jsonl", "--batch-size", 8]
    given += ["--attention", other / "attention"]
    assert predict(*given, "--report", other / "r.html", "--report-photos", 20)[0] == 3
    found, wanted = (
        {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")
         if path.is_file()}
        for folder in (results, other)
    )  # fmt: skip
    assert len(wanted) == 162
    assert found == wanted


def test_unfinished_work_and_other_settings_are_told_in_one_line(predict, tmp_path, monkeypatch):
    from vsam.folder_prediction.journal import Journal

    photos, out = many_photos(tmp_path / "photos", 9), tmp_path / "p.csv"
    with monkeypatch.context() as patch:
        whole = Journal.append

        def append(self, lines, form):
            if self.lines:
                raise KeyboardInterrupt
            return whole(self, lines, form)

        patch.setattr(Journal, "append", append)
        code, _, stderr = predict(photos, "--out", out, "--batch-size", 4)
    assert code == 130
    assert "4 photos are tagged; --resume goes on with them." in stderr.splitlines()
    assert stderr.splitlines()[-1] == "Interrupted; what was finished is kept."
    code, _, stderr = predict(photos, "--out", out, "--batch-size", 4)
    assert code == 1
    assert "tagged 4 photos for this output already. Go on with --resume" in the_error(stderr)
    code, _, stderr = predict(photos, "--out", out, "--resume")
    assert code == 1
    assert "batch size 4, now 32" in the_error(stderr)
    assert predict(photos, "--out", out, "--batch-size", 4, "--resume")[0] == 3
    assert len(list(read_predictions(out))) == 10


def archive_of(photo: Path, kind: str, path: Path) -> Path:
    """Put a photo into an archive, or its path into a list."""
    if kind == ".txt":
        path.write_text(f"{photo.name}\n")
    elif kind == ".tar":
        with tarfile.open(path, "w") as tar:
            tar.add(photo, photo.name)
    else:
        write_table(table({"image": [photo.read_bytes()], "id": ["1"]}), path)
    return path


@pytest.mark.parametrize("kind", [".txt", ".tar", ".parquet"])
@pytest.mark.parametrize("option", ["--out", "--report"])
def test_no_output_replaces_the_photos(predict, tmp_path, kind, option):
    photo = many_photos(tmp_path / "photos", 1) / "0000.jpg"
    given = archive_of(photo, kind, photo.parent / f"all{kind}")
    before = given.read_bytes()
    other = {"--out": "--report", "--report": "--out"}[option]
    said = f"Expected `{option}` to be another file than those of PHOTOS, but got {given}"
    code, stdout, stderr = predict(
        given, option, given, other, tmp_path / "other", "--format", "jsonl"
    )
    assert (code, stdout) == (1, "")
    assert said in the_error(stderr)
    assert given.read_bytes() == before
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("option", ["--out", "--report"])
def test_no_output_replaces_a_photo_that_a_list_names(predict, tmp_path, option):
    photo = many_photos(tmp_path / "photos", 1) / "0000.jpg"
    (tmp_path / "list.txt").write_text("photos/0000.jpg\n")
    before = photo.read_bytes()
    outputs = {"--out": tmp_path / "p", "--report": tmp_path / "r"} | {option: photo}
    words = [word for pair in outputs.items() for word in pair]
    code, _, stderr = predict(tmp_path / "list.txt", *words, "--format", "jsonl")
    assert code == 1
    assert f"Expected `{option}` to be another file than the photos" in the_error(stderr)
    assert photo.read_bytes() == before


@pytest.mark.parametrize("more", [(), ("--watch",)])
def test_no_output_replaces_another_or_the_model(predict, tiny_run, tmp_path, more):
    photos = many_photos(tmp_path / "photos", 1)
    out = tmp_path / "z.jsonl"
    code, _, stderr = predict(photos, "--out", out, "--report", out, *more)
    assert code == 1
    assert "Expected `--report` to be another file than those of --out" in the_error(stderr)
    before = (tiny_run / "labels.json").read_bytes()
    code, _, stderr = predict(photos, "--out", tiny_run / "labels.json", *more)
    assert code == 1
    assert "Expected `--out` to be another file than those of --model" in the_error(stderr)
    assert (tiny_run / "labels.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_the_ending_tells_the_format(predict, tiny_data, tmp_path):
    photos = tiny_data / "photos"
    for name in ("p.jsonl", "p.CSV", "p.parquet", "p", "p.json"):
        assert predict(photos, "--out", tmp_path / name)[0] == 0
    assert predict(photos, "--out", tmp_path / "p.txt", "--format", "csv")[0] == 0
    heads = {path.name: path.read_bytes()[:6] for path in tmp_path.glob("p*")}
    assert heads["p.parquet"][:4] == b"PAR1"
    assert heads["p.CSV"] == heads["p.txt"] == b"image,"
    assert {heads[name] for name in ("p.jsonl", "p", "p.json")} == {b'{"imag'}
    code, _, stderr = predict(photos, "--out", tmp_path / "p.xlsx")
    assert code == 1
    assert "to end in .jsonl, .csv or .parquet" in the_error(stderr)
    for given in (["--format", "parquet"], ["--resume"], ["--engine", "ray"]):
        code, stdout, stderr = predict(photos, "--out", "-", *given)
        assert (code, stdout) == (1, "")
        assert "Expected `--out` to be a file" in the_error(stderr)


@pytest.mark.parametrize(
    ("package", "given", "remedy"),
    [
        ("pyarrow", ["--format", "parquet"], "pip install 'vsam[arrow]'"),
        ("ray", ["--engine", "ray"], "pip install 'vsam[ray]'"),
        ("jinja2", ["--report", "r.html"], "pip install 'vsam[extract]'"),
    ],
)
def test_a_missing_package_is_told_before_anything_is_done(
    predict, tiny_data, tmp_path, monkeypatch, package, given, remedy
):
    monkeypatch.setitem(sys.modules, package, None)
    code, _, stderr = predict(tiny_data / "photos", "--out", tmp_path / "p", *given)
    assert code == 1
    assert the_error(stderr) == f"error: This needs {package}. Install it with: {remedy}."
    assert list(tmp_path.iterdir()) == []


@unix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_watch_ends_by_signals_with_all_that_is_tagged(tiny_run, tmp_path, number):
    photos, out = many_photos(tmp_path / "photos", 3), tmp_path / "p.jsonl"
    with start(tiny_run, photos, "--out", out, "--watch", "--watch-seconds", 0.1) as process:
        wait_until(out.exists, process)
        (photos / "new.jpg").hardlink_to(photos / "0000.jpg")
        wait_until(lambda: b"new.jpg" in out.read_bytes(), process)
        os.killpg(process.pid, number)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 3, stderr
    assert stdout == ""
    assert stderr.splitlines() == [
        "unreadable: '0007b.jpg': it is not an image, or its header is damaged"
    ]
    found = [line["image"] for line in read_predictions(out)]
    assert found == ["0000.jpg", "0001.jpg", "0002.jpg", "0007b.jpg", "new.jpg"]


@unix
def test_a_watch_tells_its_lines_at_once(tiny_run, tmp_path):
    photos = many_photos(tmp_path / "photos", 1)
    with start(tiny_run, photos, "--out", "-", "--watch", "--watch-seconds", 0.1) as process:
        first = [json.loads(process.stdout.readline())["image"] for _ in range(2)]
        assert first == ["0000.jpg", "0007b.jpg"]
        (photos / "new.jpg").hardlink_to(photos / "0000.jpg")
        assert json.loads(process.stdout.readline())["image"] == "new.jpg"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[0] == ""
    assert process.returncode == 3
