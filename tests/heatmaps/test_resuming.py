"""What a later extraction keeps, moves, makes anew and removes, by the photos' contents."""

import contextlib
import hashlib
import shutil

import numpy as np
import pytest
from coco_files import annotation, document, saved
from extracting import contents, copy_photos, plain
from killers import HARMLESS, KILLED, KillerEngine, write_photo
from made_shards import make_record, write
from PIL import Image

from vsam_heatmaps import Shards, Status, VsamError, extract
from vsam_heatmaps.extraction import ExtractOptions, run
from vsam_heatmaps.shards import Record, pruning

OPTIONS = ExtractOptions(workers=1, shard_size=2)


@pytest.fixture
def photos(mannequins, tmp_path):
    return copy_photos(mannequins, tmp_path / "photos", 5)


@pytest.fixture(scope="module")
def extracted(mannequins, tmp_path_factory):
    """Give the shards of `photos`. Only read them."""
    folder = tmp_path_factory.mktemp("extracted")
    extract([copy_photos(mannequins, folder / "photos", 5)], folder / "out", options=OPTIONS)
    return folder / "out"


@pytest.fixture
def out(extracted, tmp_path):
    """Give a folder into which `photos` have been extracted."""
    return shutil.copytree(extracted, tmp_path / "out")


@pytest.fixture
def counted(monkeypatch):
    """Count the records that are made, not kept."""
    made = []
    settle = run.Earlier.settle

    def counting(self, task, outcome):
        if isinstance(outcome, Record):
            made.append(task.photo.id)
        return settle(self, task, outcome)

    monkeypatch.setattr(run.Earlier, "settle", counting)
    return made


def all_rows(folder):
    """Read every row of every shard on its own: (shard, id)."""
    rows = []
    for file in sorted(folder.glob("*.h5")):
        alone = folder.parent / f"alone-{file.stem}"
        alone.mkdir(exist_ok=True)
        shutil.copy(file, alone / file.name)
        rows += [(file.name, id_) for id_ in Shards(alone).ids]
        shutil.rmtree(alone)
    return rows


class TestRenamed:
    def test_a_photo_keeps_its_record_under_its_new_name(self, photos, out, tmp_path, counted):
        before = {record.id: plain(record) for record in Shards(out)}
        counted.clear()
        (photos / "new").mkdir()
        (photos / "00001.jpg").rename(photos / "new" / "first.jpg")
        (photos / "00003.jpg").rename(photos / "0.jpg")
        report = extract([photos], out, options=OPTIONS)
        assert counted == []
        assert (report.photos, report.unchanged, report.renamed, report.gone) == (5, 3, 2, 2)
        assert report.counts == {"ok": 5, "no_pose": 0, "unreadable": 0}
        found = Shards(out)
        assert plain(found["new/first.jpg"])[1:] == before["00001.jpg"][1:]
        assert plain(found["0.jpg"])[1:] == before["00003.jpg"][1:]
        # As if they had always had these names.
        extract([photos], tmp_path / "anew", options=OPTIONS)
        for record in Shards(tmp_path / "anew"):
            assert plain(record) == plain(found[record.id])

    def test_whole_folders_may_move_and_names_may_be_exchanged(
        self, photos, out, tmp_path, counted
    ):
        moved = tmp_path / "elsewhere"
        (moved / "2026").mkdir(parents=True)
        names = sorted(path.name for path in photos.iterdir())
        for name, other in zip(names, reversed(names), strict=True):
            (photos / name).rename(moved / "2026" / f"{other}")
        counted.clear()
        report = extract([moved], out, options=OPTIONS)
        assert (counted, report.renamed, report.gone) == ([], 5, 5)
        for record in Shards(out):
            if record.id.startswith("2026/"):
                data = (moved / record.id).read_bytes()
                assert record.sha256 == hashlib.sha256(data).digest()

    def test_two_names_exchanged_in_place_are_made_anew(self, photos, out, counted):
        before = {record.id: plain(record) for record in Shards(out)}
        a, b, c = (photos / name for name in ("00001.jpg", "00002.jpg", "c.jpg"))
        a.rename(c)
        b.rename(a)
        c.rename(b)
        counted.clear()
        report = extract([photos], out, options=OPTIONS)
        assert (sorted(counted), report.renamed, report.gone) == (["00001.jpg", "00002.jpg"], 0, 0)
        found = Shards(out)
        assert plain(found["00001.jpg"])[1:] == before["00002.jpg"][1:]
        assert plain(found["00002.jpg"])[1:] == before["00001.jpg"][1:]

    def test_an_unreadable_photo_moves_too(self, photos, tmp_path, counted):
        out = tmp_path / "out"
        (photos / "broken.jpg").write_bytes(b"no photo")
        first = extract([photos], out, options=OPTIONS)
        (photos / "broken.jpg").rename(photos / "still.jpg")
        counted.clear()
        again = extract([photos], out, options=OPTIONS)
        assert counted == []
        assert again.unreadable == [("still.jpg", first.unreadable[0][1])]

    def test_keypoints_are_those_of_the_new_name(self, photos, tmp_path):
        for name in ("00001.jpg", "00004.jpg"):
            (photos / name).unlink()
        names = ["00000.jpg", "train/00002.jpg", "train/00003.jpg"]
        images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
        people = [annotation(id=number, image_id=number) for number in range(3)]
        keypoints = saved(tmp_path, document(*people, images=images))
        options = ExtractOptions(workers=1, keypoints=keypoints)
        first = extract([photos], tmp_path / "out", options=options)
        assert first.counts == {"ok": 1, "no_pose": 2, "unreadable": 0}
        (photos / "train").mkdir()
        for name in ("00002.jpg", "00003.jpg"):
            (photos / name).rename(photos / "train" / name)
        again = extract([photos], tmp_path / "out", options=options)
        assert again.counts == {"ok": 3, "no_pose": 0, "unreadable": 0}
        assert (again.unchanged, again.renamed, again.gone) == (1, 0, 2)
        found = Shards(tmp_path / "out")
        extract([photos], tmp_path / "anew", options=options)
        assert [plain(record) for record in Shards(tmp_path / "anew")] == [
            plain(found[name]) for name in names
        ]

    def test_a_photo_that_could_not_be_opened_has_no_contents(self, photos, tmp_path):
        out = tmp_path / "out"
        (photos / "a.jpg").symlink_to(photos / "nowhere")
        extract([photos], out, options=OPTIONS)
        (photos / "a.jpg").rename(photos / "b.jpg")
        report = extract([photos], out, options=OPTIONS)
        assert report.renamed == 0
        assert report.unreadable == [("b.jpg", "No such file or directory")]


class TestPrune:
    def test_records_of_gone_photos_and_replaced_ones_go(self, photos, mannequins, out, tmp_path):
        shutil.copy(mannequins / "photos" / "00009.jpg", photos / "00000.jpg")  # changed
        (photos / "00002.jpg").unlink()
        (photos / "00003.jpg").unlink()
        report = extract([photos], out, options=ExtractOptions(workers=1, shard_size=2, prune=True))
        assert (report.photos, report.unchanged, report.gone, report.pruned) == (3, 2, 2, True)
        assert all_rows(out) == [
            ("shard-000000.h5", "00001.jpg"),
            ("shard-000002.h5", "00004.jpg"),
            ("shard-000003.h5", "00000.jpg"),
        ]
        extract([photos], tmp_path / "anew", options=OPTIONS)
        anew, found = Shards(tmp_path / "anew"), Shards(out)
        assert found.ids == anew.ids
        for record in anew:
            assert plain(record) == plain(found[record.id])
        kept = contents(out)
        extract([photos], out, options=ExtractOptions(workers=1, shard_size=2, prune=True))
        assert contents(out) == kept

    def test_without_it_they_are_told_and_stay(self, photos, out):
        kept = contents(out)
        (photos / "00002.jpg").unlink()
        report = extract([photos], out, options=OPTIONS)
        assert (report.gone, report.pruned) == (1, False)
        assert contents(out) == kept

    def test_a_run_that_stops_removes_nothing(self, photos, out):
        kept = contents(out)
        (photos / "00002.jpg").unlink()
        (photos / "00004.jpg").write_bytes(b"no photo")
        options = ExtractOptions(workers=1, shard_size=2, prune=True, stop_on_error=True)
        with pytest.raises(VsamError, match="Could not read"):
            extract([photos], out, options=options)
        assert contents(out) == kept

    def test_interrupted_anywhere_no_replaced_record_comes_to_light(self, tmp_path, monkeypatch):
        """A photo that changed twice and then went: stop after each file that is touched."""
        out = tmp_path / "out"
        made = [make_record(f"0000{number}.jpg", number) for number in range(5)]
        for number, records in enumerate([made[:2], made[2:4], made[4:]]):
            write(out, number, records)
        for number, seed in ((3, 6), (4, 7)):
            write(out, number, [make_record("00000.jpg", seed)])
        newest = Shards(out)["00000.jpg"].sha256
        keep = Shards(out).ids

        class Stop(Exception):
            pass

        def limited(step, left):
            def take(*arguments):
                if not left[0]:
                    raise Stop
                left[0] -= 1
                step(*arguments)

            return take

        for wanted_gone in (False, True):
            names = [name for name in keep if name != "00000.jpg"] if wanted_gone else list(keep)
            ids = type(keep)(name.encode() for name in names)
            for steps in range(5):
                work = tmp_path / f"{wanted_gone}-{steps}"
                shutil.copytree(out, work)
                left = [steps]
                for name in ("write_shard", "remove"):
                    monkeypatch.setattr(pruning, name, limited(getattr(pruning, name), left))
                with contextlib.suppress(Stop):
                    pruning.prune(work, ids)
                monkeypatch.undo()
                found = Shards(work)
                if "00000.jpg" in found:
                    assert found["00000.jpg"].sha256 == newest
                assert set(names) <= set(found.ids)
        # The last of them had steps enough.
        assert "00000.jpg" not in found

    def test_all_may_go(self, photos, mannequins, out, tmp_path):
        others = tmp_path / "others"
        others.mkdir()
        shutil.copy(mannequins / "photos" / "00009.jpg", others / "x.jpg")
        extract([others], out, options=ExtractOptions(workers=1, prune=True))
        assert [id_ for _, id_ in all_rows(out)] == ["x.jpg"]


class TestUnreadable:
    def test_a_photo_that_kills_is_recorded_and_left_alone(self, tmp_path, monkeypatch):
        photos = tmp_path / "photos"
        for number, colour in enumerate([HARMLESS, KILLED, HARMLESS]):
            write_photo(photos / f"{number}.png", colour)
        monkeypatch.setattr(run, "Work", killing_work(tmp_path))
        out = tmp_path / "out"
        first = extract([photos], out, options=OPTIONS)
        reason = "a worker process died on it (SIGKILL, as when memory runs out), twice"
        assert first.unreadable == [("1.png", reason)]
        assert first.counts == {"ok": 0, "no_pose": 2, "unreadable": 1}
        record = Shards(out)["1.png"]
        assert (record.status, record.reason) == (Status.UNREADABLE, reason)
        assert record.sha256 == hashlib.sha256((photos / "1.png").read_bytes()).digest()
        monkeypatch.setattr(run, "Work", killing_work(tmp_path, dies=True))
        again = extract([photos], out, options=OPTIONS)  # nobody looks at it
        assert again.unchanged == 3
        assert again.unreadable == first.unreadable

    def test_it_can_be_tried_again(self, tmp_path, monkeypatch):
        photos, out = tmp_path / "photos", tmp_path / "out"
        for number, colour in enumerate([HARMLESS, KILLED, HARMLESS]):
            write_photo(photos / f"{number}.png", colour)
        monkeypatch.setattr(run, "Work", killing_work(tmp_path))
        extract([photos], out, options=OPTIONS)
        kept = contents(out)
        retry = ExtractOptions(workers=1, shard_size=2, retry_unreadable=True)
        assert extract([photos], out, options=retry).unchanged == 3  # it still kills
        assert contents(out) == kept
        monkeypatch.undo()
        mended = extract([photos], out, options=retry)
        assert mended.counts == {"ok": 0, "no_pose": 3, "unreadable": 0}
        assert mended.unchanged == 2
        assert Shards(out)["1.png"].status is Status.NO_POSE

    def test_it_can_be_tried_again_under_a_new_name(self, tmp_path, monkeypatch):
        photos, out = tmp_path / "photos", tmp_path / "out"
        for number, colour in enumerate([HARMLESS, KILLED]):
            write_photo(photos / f"{number}.png", colour)
        monkeypatch.setattr(run, "Work", killing_work(tmp_path))
        extract([photos], out, options=OPTIONS)
        monkeypatch.undo()
        for number in range(2):
            (photos / f"{number}.png").rename(photos / f"new{number}.png")
        retry = ExtractOptions(workers=1, shard_size=2, retry_unreadable=True)
        mended = extract([photos], out, options=retry)
        assert mended.counts == {"ok": 0, "no_pose": 2, "unreadable": 0}
        assert mended.renamed == 1


def killing_work(folder, *, dies=False):
    """Make `Work` with an engine that photos can kill in the place of the real one."""
    work = run.Work

    def make(engine, *more):
        return work(KillerEngine(folder, dies), *more)

    return make


def test_a_changed_photo_never_keeps_its_old_pose(photos, out):
    Image.new("RGB", (50, 40), "teal").save(photos / "00001.jpg")
    extract([photos], out, options=OPTIONS)
    record = Shards(out)["00001.jpg"]
    assert record.status is Status.NO_POSE
    assert record.size == (50, 40)
    assert np.isnan(record.keypoints).all()
