"""`vsam-heatmaps` verify, merge and report as a user runs them, and how each of them fails."""

import hashlib
import json
import shutil

import h5py
import pytest
from image_files import encode, noise
from made_shards import make_record, same, write

from vsam_heatmaps import Shards, Status

NAME = "vsam-heatmaps"


def one_line(done) -> str:
    """Check that a command failed with one line and no results; give the line."""
    assert done.returncode == 1
    assert done.stdout == ""
    *_, line = done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


class TestVerify:
    def test_whole_shards(self, call_command, shards, mannequins):
        done = call_command(NAME, "verify", shards)
        assert done.returncode == 0
        rendered = json.loads(call_command(NAME, "inspect", shards, "--json").stdout)["ok"]
        rest = f"Maps rendered again: {rendered}; records that later ones supersede: 0.\n"
        assert done.stdout == f"1 shard, 24 records: whole. {rest}"
        assert done.stderr.startswith("shards: 1 of 1 shard, ")
        for photos, root in ((mannequins / "photos", None), (mannequins / "photos",) * 2):
            more = ("--photos", photos, *(("--root", root) if root else ()))
            done = call_command(NAME, "verify", shards, *more)
            assert done.returncode == 0
            assert done.stdout == f"1 shard, 24 records, 24 photos: whole. {rest}"

    def test_a_finding_and_an_error_are_a_line_whatever_the_name(
        self, call_command, mannequins, tmp_path
    ):
        name, photos = "n\nl\x1b[2J.jpg", tmp_path / "photos"
        photos.mkdir()
        shutil.copy(mannequins / "photos" / "00000.jpg", photos / name)
        write(tmp_path, 0, [make_record(name)])  # of another photo
        shown = rf"{photos}/n\nl\x1b[2J.jpg"
        done = call_command(NAME, "verify", tmp_path, "--photos", photos)
        told, _ = done.stdout.splitlines()
        assert done.returncode == 4
        assert told.endswith(f": the contents of {shown} are not those that were extracted")
        given = (tmp_path, "--photos", photos, "--out", tmp_path / "out")
        assert f": {shown} is another photo than" in one_line(call_command(NAME, "export", *given))
        shutil.copy(photos / name, photos / "x.jpg")
        same_photo = hashlib.sha256((photos / name).read_bytes()).digest()
        write(tmp_path, 0, [make_record(name), make_record("x.jpg", sha256=same_photo)])
        skipping = ("--out", tmp_path / "new", "--on-error", "skip")
        done = call_command(NAME, "export", tmp_path, "--photos", photos, *skipping)
        assert f"left out: {name!r}: {shown} is another photo than" in done.stderr

    def test_findings_are_lines_and_exit_code_4(self, call_command, mannequins, shards, tmp_path):
        copied = shutil.copytree(shards, tmp_path / "shards")
        with h5py.File(copied / "shard-000000.h5", "r+") as file:
            file["status"][3] = 7
        (copied / "shard-000001.h5").write_bytes(b"hello")
        (copied / ".shard-000002.h5.99.tmp").touch()
        first = mannequins / "photos" / "00003.jpg"
        done = call_command(NAME, "verify", copied, "--photos", first)
        assert done.returncode == 4
        *findings, stale, summary = done.stdout.splitlines()
        assert findings[0].startswith("shard-000001.h5: it can't be read: ")
        assert findings[1] == ("shard-000000.h5: '00003.jpg': the status is 7, none of 0 to 2")
        assert findings[2:] == [
            f"shard-000000.h5: '{number:05d}.jpg': its photo is not among those given"
            for number in range(24)
            if number != 3
        ]
        assert stale.startswith(".shard-000002.h5.99.tmp is no finding: ")
        assert summary.startswith("2 shards, 24 records, 1 photo: 25 findings. ")

        done = call_command(NAME, "verify", copied, "--photos", first, "--json")
        assert done.returncode == 4
        facts = json.loads(done.stdout)
        assert facts["whole"] is False
        assert (facts["shards"], facts["records"], facts["photos"]) == (2, 24, 1)
        assert (facts["found"], len(facts["findings"])) == (25, 25)
        assert facts["findings"][1] == {
            "shard": "shard-000000.h5",
            "id": "00003.jpg",
            "what": "the status is 7, none of 0 to 2",
        }
        assert facts["stale"] == [".shard-000002.h5.99.tmp"]

    def test_the_first_fifty_or_all(self, call_command, tmp_path):
        lying = [make_record(f"{n}.jpg", n, Status.NO_POSE, people=1) for n in range(60)]
        write(tmp_path, 0, lying)
        done = call_command(NAME, "verify", tmp_path)
        assert done.returncode == 4
        assert done.stdout.count("people is not 0") == 50
        assert "\n… and 10 more, which --all shows.\n" in done.stdout
        done = call_command(NAME, "verify", tmp_path, "--all")
        assert done.returncode == 4
        assert done.stdout.count("people is not 0") == 60
        assert "more" not in done.stdout

    def test_refusals(self, call_command, shards, tmp_path):
        assert "but it holds none. Make them" in one_line(call_command(NAME, "verify", tmp_path))
        said = one_line(call_command(NAME, "verify", tmp_path / "none"))
        assert "but it is not there." in said
        said = one_line(call_command(NAME, "verify", shards, "--photos", tmp_path))
        assert "to hold photos, but it holds none." in said


class TestPhotosOfAParquetFile:
    """With two columns of images: the extraction took one of them."""

    @pytest.fixture
    def table(self, tmp_path):
        """Give the file, and beside it `shards` of its column `front`."""
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        columns = {
            name: [encode(noise(width + row), "PNG") for row in range(3)]
            for name, width in (("front", 40), ("back", 60))
        }
        ids = [f"{row}.png" for row in range(3)]
        path = tmp_path / "photos.parquet"
        pq.write_table(pa.table({"id": ids} | columns), path)
        hashes = [hashlib.sha256(data).digest() for data in columns["front"]]
        made = zip(ids, hashes, strict=True)
        write(tmp_path / "shards", 0, [make_record(id_, sha256=sha256) for id_, sha256 in made])
        return path

    def test_verify(self, call_command, table):
        command = (NAME, "verify", table.parent / "shards", "--photos", table)
        assert call_command(*command, "--image-column", "front").returncode == 0
        other = call_command(*command, "--image-column", "back")
        assert other.returncode == 4
        assert other.stdout.count("are not those that were extracted") == 3
        assert "Name one with --image-column." in one_line(call_command(*command))

    def test_report(self, call_command, table):
        out = table.parent / "report.html"
        command = (NAME, "report", table.parent / "shards", "--photos", table, "--out", out)
        assert call_command(*command, "--image-column", "front").returncode == 0
        page = out.read_text(encoding="utf-8")
        assert page.count('<img src="data:image/jpeg;base64,') == 12  # random and worst ones
        assert "Name one with --image-column." in one_line(call_command(*command))


class TestMerge:
    @pytest.fixture
    def folders(self, tmp_path):
        for name in ("one", "two"):
            made = [make_record(f"{name}{number}.jpg", number) for number in range(5)]
            write(tmp_path / name, 0, [*made, make_record("both.jpg", 9)])
        write(tmp_path / "two", 1, [make_record("two3.jpg", 33)])
        return tmp_path / "one", tmp_path / "two"

    def test_folders_become_one(self, call_command, folders, tmp_path):
        out = tmp_path / "out"
        done = call_command(NAME, "merge", *folders, "--out", out, "--shard-size", 4)
        assert done.returncode == 0
        assert done.stdout == (
            f"11 records are in {out}, in 3 shards.\n"
            "1 that a later one supersedes was left out.\n"
            "1 photo had the same record in several folders.\n"
        )
        assert done.stderr.startswith("merging: 11 of 11 records, ")
        merged = Shards(out)
        assert len(merged) == 11
        assert same(merged["two3.jpg"], make_record("two3.jpg", 33))
        assert call_command(NAME, "verify", out).returncode == 0

    def test_records_that_differ(self, call_command, folders, tmp_path):
        write(folders[1], 2, [make_record("both.jpg", 10)])
        command = (NAME, "merge", *folders, "--out", tmp_path / "out")
        said = one_line(call_command(*command))
        assert said == (
            f"The records of 'both.jpg' in {folders[0]} and {folders[1]} differ (heatmaps, "
            "keypoints, size, sha256). Take one with --on-conflict first or last, or leave a "
            "folder out."
        )
        assert sorted(tmp_path.iterdir()) == sorted(folders)
        for choice, seed in (("first", 9), ("last", 10)):
            out = tmp_path / choice
            done = call_command(NAME, "merge", *folders, "--out", out, "--on-conflict", choice)
            assert done.returncode == 0
            assert f"1 had different ones: the {choice} was taken." in done.stdout
            assert same(Shards(out)["both.jpg"], make_record("both.jpg", seed))

    def test_refusals(self, call_command, folders, tmp_path):
        said = one_line(call_command(NAME, "merge", *folders, "--out", folders[0]))
        assert said.endswith("but it holds shard-000000.h5. Name another folder.")
        said = one_line(call_command(NAME, "merge", tmp_path, "--out", tmp_path / "out"))
        assert "but it holds none. Make them with" in said
        for wrong in ((), ("--out", tmp_path / "out", "--on-conflict", "newest")):
            assert call_command(NAME, "merge", *folders, *wrong).returncode == 2


class TestReport:
    def test_with_and_without_photos(self, call_command, shards, mannequins, tmp_path):
        sizes = []
        for more in ((), ("--photos", mannequins / "photos", "--samples", 3, "--seed", 5)):
            out = tmp_path / "new" / "report.html"
            done = call_command(NAME, "report", shards, "--out", out, *more)
            assert done.returncode == 0
            assert done.stdout == f"Wrote {out}.\n"
            assert done.stderr.splitlines()[0].startswith("records: 24 of 24 records, ")
            page = out.read_text(encoding="utf-8")
            sizes.append(page.count('<img src="data:image/jpeg;base64,'))
        assert sizes[0] == 0
        assert sizes[1] >= 12

    def test_ids_below_a_root(self, call_command, mannequins, tmp_path):
        photos = ("--root", mannequins)
        command = (NAME, "extract", mannequins / "photos" / "00000.jpg", *photos)
        assert call_command(*command, "--out", tmp_path / "s").returncode == 0
        command = (NAME, "report", tmp_path / "s", "--out", tmp_path / "report.html")
        command += ("--photos", mannequins / "photos" / "00000.jpg", *photos)
        assert call_command(*command).returncode == 0
        assert "1 person" in (tmp_path / "report.html").read_text(encoding="utf-8")
        assert "<img" in (tmp_path / "report.html").read_text(encoding="utf-8")

    def test_refusals(self, call_command, shards, tmp_path):
        out = tmp_path / "report.html"
        said = one_line(call_command(NAME, "report", tmp_path, "--out", out))
        assert "but it holds none. Make them with" in said
        shard = shards / "shard-000000.h5"
        said = one_line(call_command(NAME, "report", shards, "--out", shard))
        assert "Expected `--out` to be another file than those of SHARDS" in said
        listed = tmp_path / "photos.txt"
        listed.touch()
        more = ("--photos", listed, "--out", listed)
        said = one_line(call_command(NAME, "report", shards, *more))
        assert "Expected `--out` to be another file than those of --photos" in said
        said = one_line(call_command(NAME, "report", shards, "--out", tmp_path))
        assert said == f"Could not write {tmp_path}: Is a directory."
        for wrong in ((), ("--out", out, "--samples", -1)):
            assert call_command(NAME, "report", shards, *wrong).returncode == 2
        assert not out.exists()
