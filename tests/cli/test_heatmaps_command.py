"""`vsam-heatmaps` as a user runs it: extract, inspect, view, and how each of them fails."""

import json
import shutil
import tarfile

import numpy as np
import pytest
from made_shards import make_record, write
from PIL import Image

from vsam_heatmaps import Shards

NAME = "vsam-heatmaps"


@pytest.fixture
def photos(mannequins, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(2):
        shutil.copy(mannequins / "photos" / f"0000{number}.jpg", folder)
    return folder


def one_line(done) -> str:
    """Check that a command failed with one line and no results; give the line."""
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


class TestExtract:
    def test_records_what_it_cannot_read_and_says_so(self, call_command, photos, tmp_path):
        (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff")
        Image.new("RGB", (60, 50), "teal").save(photos / "wall.webp")
        for unchanged in (0, 4):
            done = call_command(NAME, "extract", photos, "--out", tmp_path / "out", "--workers", 1)
            assert done.returncode == 3
            assert done.stdout == (
                f"4 photos: 2 ok, 1 no_pose, 1 unreadable; {unchanged} were there already.\n"
            )
            lines = done.stderr.splitlines()
            assert lines[0].startswith("poses: 4 of 4 photos, ")
            reason = "it is truncated, or its JPEG header is damaged"
            assert lines[1:] == [f"unreadable: 'broken.jpg': {reason}"]
        assert Shards(tmp_path / "out")["broken.jpg"].reason == reason

    def test_tells_of_records_whose_photo_is_gone(self, call_command, photos, tmp_path):
        out = tmp_path / "out"
        command = (NAME, "extract", photos, "--out", out, "--channels", "joints", "--side", 20)
        assert call_command(*command).returncode == 0
        (photos / "00001.jpg").unlink()
        done = call_command(*command)
        assert done.returncode == 0
        assert done.stdout == (
            "1 photo: 1 ok, 0 no_pose, 0 unreadable; 1 was there already.\n"
            f"1 record in {out} belongs to a photo that was not given (--prune removes it).\n"
        )
        done = call_command(*command, "--prune")
        assert done.returncode == 0
        assert done.stdout.splitlines()[1] == (
            f"1 record of a photo that was not given was removed from {out}."
        )
        assert Shards(out)["00000.jpg"].heatmaps.shape == (33, 20, 20)

    def test_stops_at_the_first_unreadable_photo_if_asked(self, call_command, photos, tmp_path):
        (photos / "00000b.jpg").write_bytes(b"")
        out = tmp_path / "out"
        command = (NAME, "extract", photos, "--out", out, "--on-error", "stop", "--workers", 1)
        done = call_command(*command)
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.splitlines()[-1] == (
            f"error: Could not read {photos}/00000b.jpg: the file is empty."
        )
        assert Shards(out).ids == ("00000.jpg",)  # what came before is kept
        (photos / "00000b.jpg").unlink()
        done = call_command(*command)
        assert done.returncode == 0
        assert "; 1 was there already." in done.stdout

    def test_refusals_are_one_line(self, call_command, photos, shards, tmp_path):
        out = tmp_path / "out"
        said = one_line(call_command(NAME, "extract", photos, "--out", shards, "--sigma", 0.1))
        assert "were made with other options: sigma 0.05 and 0.1. Name another" in said
        said = one_line(call_command(NAME, "extract", tmp_path / "none", "--out", out))
        assert said.endswith("none` to be a folder or a photo, but it is not there.")
        endless = tmp_path / ("n" * 300)
        said = one_line(call_command(NAME, "extract", endless, "--out", out))
        assert said == f"Could not use {endless}: File name too long."
        said = one_line(call_command(NAME, "extract", photos, "--out", out, "--side", 2))
        assert said == "Expected `side` to be from 4 to 1024 pixels, but got 2."
        said = one_line(call_command(NAME, "extract", photos, "--out", photos))
        assert said.endswith("holds something else (00000.jpg). Name another folder.")
        model = tmp_path / "m.task"
        model.write_text("no zip")
        said = one_line(call_command(NAME, "extract", photos, "--out", out, "--pose-model", model))
        assert said.endswith("to be a MediaPipe .task bundle, but it is no zip file.")
        engine = ("--pose-engine", "mediapipe", "--crops", "on")
        said = one_line(call_command(NAME, "extract", photos, "--out", out, *engine))
        assert said.startswith("Expected `pose_engine` to be openvino for crops, but got mediapipe")
        assert not list(out.glob("*.h5"))

    def test_wrong_usage_is_exit_code_2(self, call_command, photos, tmp_path):
        for arguments in (
            ("extract", photos),
            ("extract", photos, "--out", tmp_path / "out", "--workers", 0),
            ("extract", photos, "--out", tmp_path / "out", "--channels", "limbs"),
            ("extract", photos, "--out", tmp_path / "out", "--colour", "red"),
            ("extract", photos, "--out", tmp_path / "out", "--pose-engine", "tensorrt"),
            ("extract", photos, "--out", tmp_path / "out", "--people", "none"),
            ("extrakt",),
        ):
            done = call_command(NAME, *arguments)
            assert done.returncode == 2
            assert "Traceback" not in done.stderr
        assert not (tmp_path / "out").exists()

    def test_an_empty_argument_is_not_the_current_folder(self, call_command, photos, tmp_path):
        out = tmp_path / "out"
        for told, arguments in {
            "the one after `extract`": ("", "--out", out),
            "the one after `--out`": (photos, "--out", ""),
            "`--out=`": (photos, "--out="),
        }.items():
            done = call_command(NAME, "extract", *arguments)
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr == (
                f"error: Expected no argument to be empty, but {told} is. "
                "Is a variable of the shell not set?\n"
            )
        assert not out.exists()


@pytest.mark.parametrize("engine", ["mediapipe", "openvino"])
def test_each_engine_makes_shards(call_command, photos, tmp_path, engine):
    out = tmp_path / "out"
    options = ("--workers", 1, "--pose-engine", engine)
    done = call_command(NAME, "extract", photos, "--out", out, *options)
    assert done.returncode == 0
    facts = json.loads(call_command(NAME, "inspect", out, "--json").stdout)
    assert facts["backend"] == engine
    assert facts["crops"] is (engine == "openvino")
    assert facts["ok"] >= 1


class TestInspect:
    def test_json(self, call_command, shards):
        done = call_command(NAME, "inspect", shards, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        facts = json.loads(done.stdout)
        opened = Shards(shards)
        assert facts["format_version"] == 1
        assert facts["photos"] == 24
        assert facts["ok"] + facts["no_pose"] + facts["unreadable"] == 24
        assert {name: facts[name] for name in opened.counts()} == opened.counts()
        assert facts["shards"] == 1
        assert (facts["side"], facts["sigma"]) == (56, 0.05)
        assert facts["channels"] == "head shoulders elbows hands hips knees feet".split()
        assert facts["pose_model_sha256"] == opened.info.pose_model_sha256
        assert len(bytes.fromhex(facts["pose_model_sha256"])) == 32

    def test_text_says_the_same(self, call_command, shards):
        facts = json.loads(call_command(NAME, "inspect", shards, "--json").stdout)
        done = call_command(NAME, "inspect", shards)
        assert (done.returncode, done.stderr) == (0, "")
        told = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
        assert told == {
            name: ", ".join(value) if isinstance(value, list) else str(value)
            for name, value in facts.items()
        }

    def test_refusals(self, call_command, shards, tmp_path):
        assert "but it is not there." in one_line(call_command(NAME, "inspect", tmp_path / "none"))
        assert "but it holds none." in one_line(call_command(NAME, "inspect", tmp_path))
        path = tmp_path / "shard-000000.h5"
        path.write_bytes((shards / path.name).read_bytes()[:3000])
        said = one_line(call_command(NAME, "inspect", tmp_path))
        assert said.startswith(f"The shard {path} is damaged or truncated (")


class TestView:
    def test_one_row_a_photo(self, call_command, mannequins, shards, tmp_path):
        sizes = []
        for ids in (["00000.jpg"], ["00000.jpg", "00003.jpg", "00001.jpg"]):
            out = tmp_path / f"{len(ids)}.png"
            done = call_command(
                NAME, "view", shards, *ids, "--photos", mannequins / "photos", "--out", out
            )
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout == f"Wrote {out}.\n"
            with Image.open(out) as picture:
                assert picture.format == "PNG"
                sizes.append(picture.size)
                rows = np.split(np.asarray(picture), len(ids))
        assert sizes[1] == (sizes[0][0], 3 * sizes[0][1])
        first = np.asarray(Image.open(tmp_path / "1.png"))
        np.testing.assert_array_equal(rows[0], first)
        assert not np.array_equal(rows[1], first)

    def test_photos_come_from_whatever_was_extracted(
        self, call_command, mannequins, shards, tmp_path
    ):
        photos, tar = mannequins / "photos", tmp_path / "photos.tar"
        with tarfile.open(tar, "w") as archive:
            archive.add(photos / "00003.jpg", "00003.jpg")
        sources = {"folder": [photos], "tar": [tar], "files": [photos / "00001.jpg", tar]}
        for name, given in sources.items():
            options = [word for path in given for word in ("--photos", path)]
            out = tmp_path / f"{name}.png"
            done = call_command(NAME, "view", shards, "00003.jpg", *options, "--out", out)
            assert (done.returncode, done.stderr) == (0, "")
        assert len({(tmp_path / f"{name}.png").read_bytes() for name in sources}) == 1
        done = call_command(
            *(NAME, "view", shards, "00003.jpg", "--photos", photos / "00003.jpg"),
            *("--root", mannequins, "--out", tmp_path / "other.png"),
        )
        assert "the first there is 'photos/00003.jpg'" in one_line(done)

    def test_refusals(self, call_command, mannequins, shards, tmp_path):
        right, out = mannequins / "photos", tmp_path / "out.png"

        def refusal(id_="00000.jpg", photos=right, out=out):
            done = call_command(NAME, "view", shards, id_, "--photos", photos, "--out", out)
            return one_line(done)

        said = refusal(id_="x.jpg")
        assert said.endswith("but it is not; the first there is '00000.jpg'.")
        said = refusal(out=right / "00000.jpg")
        assert "Expected `--out` to be another file than those of --photos" in said
        said = refusal(photos=right / "00001.jpg")
        assert said.endswith("the first there is '00001.jpg'. Check --photos and --root.")
        for other in ("00001.jpg", "new.png"):  # a picture there would be a photo, too
            said = refusal(out=right / other)
            assert "Expected `--out` to be another file than those of --photos" in said
        (tmp_path / "changed").mkdir()
        shutil.copy(right / "00001.jpg", tmp_path / "changed" / "00000.jpg")
        (tmp_path / "changed" / "list.txt").write_text("00000.jpg\n")
        listed = {"photos": tmp_path / "changed" / "list.txt"}
        said = refusal(**listed, out=tmp_path / "changed" / "00000.jpg")
        assert "Expected `--out` to be another file than the photos" in said
        said = refusal(photos=tmp_path / "changed")
        assert "is not the photo that was extracted under this id" in said
        said = refusal(out=tmp_path / "out.tga")
        assert said.endswith("out.tga` to end in .png, .jpg or .webp.")
        assert [path.name for path in tmp_path.iterdir()] == ["changed"]


class TestList:
    @pytest.fixture(scope="class")
    def mixed(self, mannequins, tmp_path_factory):
        folder = tmp_path_factory.mktemp("mixed")
        photos = folder / "photos"
        photos.mkdir()
        shutil.copy(mannequins / "photos" / "00000.jpg", photos / "a\tb\n.jpg")
        Image.new("RGB", (30, 40), "teal").save(photos / "wall.png")
        for number in range(12):
            (photos / f"x{number:02d}.jpg").write_bytes(b"no photo")
        return photos, folder / "out"

    def test_all_that_could_not_be_read_can_be_listed(self, call_command, mixed):
        photos, out = mixed
        done = call_command(NAME, "extract", photos, "--out", out, "--workers", 1)
        assert done.returncode == 3
        told = done.stderr.splitlines()
        assert sum(line.startswith("unreadable: 'x") for line in told) == 10
        command = f"vsam-heatmaps list {out} --status unreadable"
        assert f"… and 2 more: {command}." in told
        listed = call_command(*command.split())
        assert listed.returncode == 0
        lines = [line.split("\t") for line in listed.stdout.splitlines()]
        reason = "it is not an image, or its header is damaged"
        assert [line[:2] for line in lines] == [[f"x{n:02d}.jpg", "unreadable"] for n in range(12)]
        assert all(line[2] for line in lines), reason
        everything = call_command(NAME, "list", out).stdout.splitlines()
        assert everything[0] == "a\\tb\\n.jpg\tok\t"
        assert everything[1] == "wall.png\tno_pose\t"
        assert len(everything) == 14
        found = call_command(NAME, "list", out, "--status", "ok", "--json").stdout
        assert json.loads(found) == {"image": "a\tb\n.jpg", "status": "ok", "reason": ""}

    def test_no_name_speaks_to_the_terminal(self, call_command, tmp_path):
        ids = ["\t\\.jpg", "\v.jpg", "\x1b[2J服\u3000é.jpg", "\x7f.jpg", "\x85.jpg"]
        write(tmp_path, 0, [make_record(id_) for id_ in ids])
        listed = call_command(NAME, "list", tmp_path).stdout
        shown = [r"\t\\.jpg", r"\x0b.jpg", "\\x1b[2J服\u3000é.jpg", r"\x7f.jpg", r"\x85.jpg"]
        assert listed == "".join(f"{name}\tok\t\n" for name in shown)

    def test_refusals(self, call_command, tmp_path):
        done = call_command(NAME, "list", tmp_path)
        assert done.returncode == 1
        assert "to be a folder of shards" in one_line(done)
        assert call_command(NAME, "list", tmp_path, "--status", "broken").returncode == 2
