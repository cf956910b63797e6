"""`vsam evaluate` and `calibrate` with photos that can't be read: stop, or leave them out."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from tiny import call, the_error


@pytest.fixture
def vsam(monkeypatch, capsys):
    """Give a function that runs a sub-command: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = call("vsam", [*arguments, "--device", "cpu"], monkeypatch)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def damaged(tiny_data, tmp_path) -> tuple[Path, Path, list[str]]:
    """Give labels and photos of which one of each split is broken, and the broken ones' ids."""
    folder = Path(shutil.copytree(tiny_data, tmp_path / "data"))
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    broken = [
        next(row["image"] for row in rows if row["split"] == split) for split in ("test", "val")
    ]
    for image in broken:
        (folder / "photos" / image).write_bytes(b"no photo")
    return folder / "labels.csv", folder / "photos", broken


def test_figures_of_what_is_left_equal_those_of_a_table_without_it(
    vsam, tiny_run, damaged, tmp_path
):
    table, photos, broken = damaged
    code, stdout, stderr = vsam("evaluate", tiny_run, "--data", table, "--photos", photos)
    assert (code, stdout) == (1, "")
    assert "or leave out all such photos with --on-error skip" in the_error(stderr)

    given = ("evaluate", tiny_run, "--photos", photos, "--json", "--data")
    code, stdout, stderr = vsam(*given, table, "--on-error", "skip")
    assert code == 3
    assert f"left out: {broken[0]!r}: it is not an image, or its header is damaged" in stderr
    kept = tmp_path / "kept.csv"
    lines = table.read_text().splitlines(keepends=True)
    kept.write_text("".join(line for line in lines if not line.startswith(broken[0])))
    code, wanted, _ = vsam(*given, kept)
    assert code == 0
    found, wanted = json.loads(stdout), json.loads(wanted)
    assert found["photos"] == wanted["photos"] > 1
    assert found == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("command", ["evaluate", "calibrate"])
def test_the_limit_of_pixels_is_the_users(vsam, tiny_data, tiny_run, tmp_path, command):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    given = (run, "--data", tiny_data / "labels.csv", "--photos", tiny_data / "photos")
    code, _, stderr = vsam(command, *given, "--max-pixels", 1919)
    assert code == 1
    assert "40 x 48 pixels, more than the limit of 1919 (--max-pixels)" in the_error(stderr)
    assert vsam(command, *given, "--max-pixels", 1920)[0] == 0


def test_a_calibration_leaves_them_out_only_if_told_to(vsam, tiny_run, damaged, tmp_path):
    table, photos, _ = damaged
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    description = json.loads((run / "config.json").read_text())
    del description["calibration"]
    (run / "config.json").write_text(json.dumps(description))
    before = (run / "config.json").read_bytes()
    given = ("calibrate", run, "--data", table, "--photos", photos, "--json")
    assert vsam(*given)[0] == 1
    assert (run / "config.json").read_bytes() == before
    code, stdout, _ = vsam(*given, "--on-error", "skip")
    assert code == 3
    assert json.loads(stdout)["photos"] == 5
    assert "calibration" in json.loads((run / "config.json").read_text())


def test_without_any_readable_photo_there_are_no_figures(vsam, tiny_run, damaged, tmp_path):
    table, _, _ = damaged
    given = ("--data", table, "--photos", tmp_path, "--on-error", "skip")
    code, stdout, stderr = vsam("evaluate", tiny_run, *given)
    assert (code, stdout) == (1, "")
    assert "to be readable, but none is" in the_error(stderr)
