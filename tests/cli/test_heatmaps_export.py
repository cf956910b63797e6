"""`vsam-heatmaps export` as a user runs it, on shards that the real extraction made."""

import json
import shutil

import numpy as np
import pytest
import webdataset as wds

from vsam_heatmaps import Shards

NAME = "vsam-heatmaps"


@pytest.fixture
def photos(mannequins, tmp_path):
    return shutil.copytree(mannequins / "photos", tmp_path / "photos")


def one_line(done) -> str:
    """Check that a command failed with one line and no results; give the line."""
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = [line for line in done.stderr.splitlines() if not line.startswith("export: ")]
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def test_a_training_loop_can_stream_what_it_writes(call_command, photos, shards, tmp_path):
    out = tmp_path / "out"
    done = call_command(NAME, "export", shards, "--photos", photos, "--out", out, "--maxcount", 10)
    assert done.returncode == 0
    opened = Shards(shards)
    counts = opened.counts()
    assert counts["unreadable"] == 0
    assert done.stdout == (
        f"24 samples ({counts['ok']} ok, {counts['no_pose']} no_pose) are in 3 tar files in {out}; "
        "0 records were left out.\n"
    )
    dataset = wds.WebDataset(f"{out}/vsam-{{000000..000002}}.tar", shardshuffle=False)
    samples = list(dataset.decode("rgb8").to_tuple("json", "heatmaps.npy", "jpg"))
    assert [about["id"] for about, _, _ in samples] == list(opened.ids)
    for about, maps, photo in samples:
        kept = opened[about["id"]]
        assert np.array_equal(maps, kept.heatmaps)
        assert photo.shape == (kept.size[1], kept.size[0], 3)
    assert json.loads((out / "dataset.json").read_text())["samples"] == 24


def test_photos_may_be_given_in_parts(call_command, photos, shards, tmp_path):
    first, second = tmp_path / "first.txt", photos / "00001.jpg"
    first.write_text("".join(f"{id_}\n" for id_ in Shards(shards).ids if id_ != "00001.jpg"))
    done = call_command(
        NAME, "export", shards, "--photos", first, "--photos", second, "--root", photos,
        "--out", tmp_path / "out", "--maxsize", "1e5",
    )  # fmt: skip
    assert done.returncode == 0
    assert "24 samples (" in done.stdout
    tars = list((tmp_path / "out").glob("*.tar"))
    assert len(tars) > 2
    assert all(tar.stat().st_size <= 100_000 for tar in tars)


def test_what_is_left_out_is_told_and_gives_exit_code_3(call_command, photos, shards, tmp_path):
    (photos / "00000.jpg").unlink()
    shutil.copy(photos / "00001.jpg", photos / "00002.jpg")
    shutil.copy(photos / "00001.jpg", photos / "new.jpg")
    command = (NAME, "export", shards, "--photos", photos, "--out")
    said = one_line(call_command(*command, tmp_path / "stopped"))
    assert said.startswith("Could not export '00000.jpg': it is not among the photos. Give the ")
    done = call_command(*command, tmp_path / "out", "--on-error", "skip")
    assert done.returncode == 3
    assert done.stdout.startswith("22 samples (")
    assert done.stdout.endswith(
        f" are in 1 tar file in {tmp_path}/out; 2 records were left out.\n"
        f"1 photo has no record in {shards}.\n"
    )
    told = [line for line in done.stderr.splitlines() if line.startswith("left out: ")]
    assert told[0] == "left out: '00000.jpg': it is not among the photos"
    assert told[1].startswith(f"left out: '00002.jpg': {photos}/00002.jpg is another photo than ")
    assert len(told) == 2


def test_only_ok_leaves_the_rest_out_by_request(call_command, photos, tmp_path):
    for path in sorted(photos.iterdir())[3:]:
        path.unlink()
    (photos / "broken.jpg").write_bytes(b"no photo")
    made = call_command(NAME, "extract", photos, "--out", tmp_path / "shards", "--workers", 1)
    assert made.returncode == 3
    command = (NAME, "export", tmp_path / "shards", "--photos", photos, "--out")
    done = call_command(*command, tmp_path / "all")
    assert done.returncode == 3
    assert "left out: 'broken.jpg': it could not be read: it is not an image" in done.stderr
    done = call_command(*command, tmp_path / "ok", "--only-ok")
    assert done.returncode == 0
    assert "left out: " not in done.stderr


def test_refusals_are_one_line(call_command, photos, shards, tmp_path):
    out = tmp_path / "out"
    said = one_line(call_command(NAME, "export", shards, "--photos", photos, "--out", photos))
    assert said.startswith(f"Expected `{photos}` to be new or empty, but it holds 00000.jpg. Name ")
    said = one_line(call_command(NAME, "export", photos, "--photos", photos, "--out", out))
    assert said.startswith(f"Expected `{photos}` to be a folder of shards")
    said = one_line(call_command(NAME, "export", shards, "--photos", out / "none", "--out", out))
    assert said.endswith("but it is not there.")
    options = ("--photos", photos, "--root", tmp_path, "--out", out)
    said = one_line(call_command(NAME, "export", shards, *options))
    assert "the first record is '00000.jpg', the first photo is 'photos/00000.jpg'. Check" in said
    assert not out.exists()


def test_wrong_usage_is_exit_code_2(call_command, photos, shards, tmp_path):
    complete = ("export", shards, "--photos", photos, "--out", tmp_path / "out")
    for arguments in (
        complete[:2],
        complete[:4],
        (*complete, "--maxcount", 0),
        (*complete, "--maxsize", "inf"),
        (*complete, "--on-error", "ignore"),
    ):
        done = call_command(NAME, *arguments)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
