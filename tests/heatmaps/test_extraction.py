"""Extraction with the real MediaPipe: same results always, and only what is new."""

import csv
import hashlib
import re
import shutil
import subprocess
import sys

import filelock
import numpy as np
import pytest
from extracting import contents, copy_photos, plain
from PIL import Image

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
