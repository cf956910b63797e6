"""Verify: shards that are whole are clean, and each kind of damage is told, each for itself."""

import hashlib
import json
import random
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from made_shards import INFO, SIDE, make_record, rewrite, same, write

from vsam_heatmaps import Shards, Status, VsamError, list_photos
from vsam_heatmaps.verification import Finding, verify

AWKWARD = "été/日本 👗\n..2.jpg"


def rows():
    """Rows 0 to 3 of the shard that most tests damage."""
    return [
        make_record("a.jpg", 1),
        make_record(AWKWARD, 2),
        make_record("b.jpg", 3, Status.NO_POSE),
        make_record("c.jpg", 4, Status.UNREADABLE, sha256=bytes(32)),
    ]


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "s", 0, rows())
    write(tmp_path / "s", 1, [make_record("d.jpg", 5), make_record("e\\..\\x.jpg", 6)])
    return tmp_path / "s"


def told(folder: Path, **options) -> list[tuple[str, str, str]]:
    report = verify(folder, **options)
    assert report.found == len(report.findings)
    return [(finding.shard, finding.id, finding.what) for finding in report.findings]


def damage(path: Path, position: int, bit: int = 0x10) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= bit
    path.write_bytes(data)


class TestWhole:
    def test_extracted_shards_with_their_photos(self, shards, mannequins):
        report = verify(shards, list_photos([mannequins / "photos"]))
        assert report.findings == []
        assert (report.found, report.shards, report.records, report.photos) == (0, 1, 24, 24)
        assert report.rendered == Shards(shards).counts()["ok"] > 20
        assert (report.superseded, report.stale) == (0, [])

    def test_records_of_each_status_and_awkward_ids(self, folder):
        report = verify(folder)
        assert report.findings == []
        assert (report.shards, report.records, report.rendered) == (2, 6, 4)

    def test_of_two_records_of_a_photo_the_later_counts(self, folder):
        write(folder, 2, [make_record("a.jpg", 9), make_record("d.jpg", 10)])
        write(folder, 3, [make_record("a.jpg", 11)])
        report = verify(folder)
        assert report.findings == []
        assert (report.records, report.superseded) == (6, 3)

    def test_files_of_version_0_1_0(self, folder):
        for path in folder.iterdir():
            with h5py.File(path, "r+") as file:
                del file["people"]
                for name in ("precision", "crops", "region_network_sha256", "people"):
                    del file.attrs[name]
        assert told(folder) == []

    def test_the_program_that_wrote_a_shard_may_differ(self, folder):
        with h5py.File(folder / "shard-000001.h5", "r+") as file:
            file.attrs["tool_version"] = "9.9.9"
        assert told(folder) == []

    def test_single_joints_and_all_people(self, tmp_path):
        info = replace(INFO, people="all")
        brighter = make_record("two.jpg", 1, people=2)
        # The second person's maps lie over those of the first, whose keypoints are stored.
        brighter = replace(brighter, heatmaps=np.maximum(brighter.heatmaps, 200))
        write(tmp_path, 0, [brighter, make_record("one.jpg", 2)], info)
        report = verify(tmp_path)
        assert (report.findings, report.rendered) == ([], 1)

    def test_a_level_of_difference_may_come_from_another_machine(self, folder):
        rewrite(folder / "shard-000000.h5", "heatmaps", lambda maps: maps + (maps == 100))
        assert told(folder) == []

    def test_what_a_killed_extraction_left_is_told_but_no_finding(self, folder):
        name = ".shard-000002.h5.4711.tmp"
        (folder / name).write_bytes(b"half")
        report = verify(folder)
        assert (report.findings, report.stale) == ([], [name])


def set_row(row, value):
    def change(array):
        array[row] = value

    return change


CONTRADICTIONS = [
    ("status", set_row(2, 3), "b.jpg", "the status is 3, none of 0 to 2"),
    ("keypoints", set_row((0, 5, 1), np.nan), "a.jpg", "keypoints are neither finite nor marked"),
    ("keypoints", set_row((0, 5, 0), -np.inf), "a.jpg", "keypoints are neither finite nor marked"),
    (
        "keypoints",
        set_row((0, 5), (np.nan, np.nan, 0.5, 0)),
        "a.jpg",
        "keypoints are neither finite",
    ),
    (
        "keypoints",
        set_row((0,), (np.nan, np.nan, 0, 0)),
        "a.jpg",
        "no landmark is known, but the st",
    ),
    ("keypoints", set_row((0, 5, 3), np.nan), "a.jpg", "keypoints are neither finite nor marked"),
    ("keypoints", set_row((2, 7, 0), 0.5), "b.jpg", "there are keypoints, but the status is not"),
    ("keypoints", set_row((3, 7), 0), "c.jpg", "there are keypoints, but the status is not ok"),
    ("keypoints", set_row((0, 0, 3), 1.001), "a.jpg", "a visibility or presence is not from 0"),
    ("keypoints", set_row((0, 0, 3), -0.001), "a.jpg", "a visibility or presence is not from 0"),
    ("keypoints", set_row((0, 0, 0), 384), "a.jpg", "a joint lies more than 100 photos away"),
    ("keypoints", set_row((0, 0, 1), -1e30), "a.jpg", "a joint lies more than 100 photos away"),
    ("people", set_row(0, 0), "a.jpg", "nobody is counted in people, but the status is ok"),
    ("people", set_row(2, 1), "b.jpg", "people is not 0, but the status is not ok"),
    ("people", set_row(3, -1), "c.jpg", "people is not 0, but the status is not ok"),
    ("size", set_row((0, 1), 0), "a.jpg", "the size is not positive"),
    ("size", set_row((2, 0), -5), "b.jpg", "the size is not positive"),
    ("size", set_row((3, 0), -5), "c.jpg", "the size is negative"),
    ("sha256", set_row(0, 0), "a.jpg", "the hash is zero, but the photo was read"),
    ("sha256", set_row(2, 0), "b.jpg", "the hash is zero, but the photo was read"),
    ("reason", set_row(0, b"why"), "a.jpg", "there is a reason, but the photo was read"),
    ("reason", set_row(2, b"why"), "b.jpg", "there is a reason, but the photo was read"),
    ("reason", set_row(3, b""), "c.jpg", "there is no reason, but the photo was unreadable"),
    ("reason", set_row(3, b"\xff\xfe"), "c.jpg", "the reason is no UTF-8"),
    ("heatmaps", set_row((2, 0, 0, 0), 1), "b.jpg", "the maps are not empty, but the status is"),
    ("heatmaps", set_row((3, 6, 3, 3), 1), "c.jpg", "the maps are not empty, but the status is"),
    ("id", set_row(2, b"/b.jpg"), "/b.jpg", "the id is an absolute path"),
    ("id", set_row(2, b"../b.jpg"), "../b.jpg", "the id leads out of the photos' root (..)"),
    ("id", set_row(2, b"x/.."), "x/..", "the id leads out of the photos' root (..)"),
    ("id", set_row(2, b"b\0.jpg"), "b\0.jpg", "the id has a zero byte in it"),
    ("id", set_row(2, b"b\xe9.jpg"), "b\\xe9.jpg", "the id is not UTF-8"),
    ("id", set_row(2, b"a.jpg"), "a.jpg", "the id stands 2 times in this shard"),
    ("id", set_row(2, b""), "", "row 2: the id is empty"),
]


@pytest.mark.parametrize(("name", "change", "id_", "what"), CONTRADICTIONS)
def test_each_contradiction_is_told_once(folder, name, change, id_, what):
    rewrite(folder / "shard-000000.h5", name, change)
    findings = told(folder)
    if name == "keypoints":  # a joint that is elsewhere is another map
        findings = [each for each in findings if "the maps are not those" not in each[2]]
    [(shard, found_id, found)] = findings
    assert (shard, found_id) == ("shard-000000.h5", id_)
    assert found.startswith(what)


def test_maps_that_are_not_those_of_the_keypoints(folder):
    rewrite(folder / "shard-000000.h5", "heatmaps", set_row((1, 3, 8, 8), 255))
    [(shard, id_, what)] = told(folder)
    assert (shard, id_) == ("shard-000000.h5", AWKWARD)
    assert what.startswith("the maps are not those of the keypoints: up to ")
    rewrite(folder / "shard-000000.h5", "heatmaps", lambda maps: np.roll(maps, 1, axis=0))
    assert [id_ for _, id_, _ in told(folder)] == ["a.jpg", AWKWARD, "b.jpg"]
    # Two people were found, and the maps show both: there is nothing to compare them with.
    for path in folder.iterdir():
        with h5py.File(path, "r+") as file:
            file.attrs["people"] = "all"
            file["people"][:2] = 2
    assert [id_ for _, id_, _ in told(folder)] == ["b.jpg"]


class TestDataSets:
    @pytest.mark.parametrize(
        ("name", "change", "options", "what"),
        [
            ("size", lambda old: old[:-1], {}, "`size` has the shape (3, 2), not (4, 2)"),
            ("id", lambda old: old[:-1], {}, "`id` has the shape (3,), not (4,)"),
            (
                "heatmaps",
                lambda old: old[..., 1:],
                {},
                f"`heatmaps` has the shape (4, 7, 16, 15), not (4, 7, {SIDE}, {SIDE})",
            ),
            (
                "keypoints",
                lambda old: old[..., :3],
                {},
                "`keypoints` has the shape (4, 33, 3), not (4, 33, 4)",
            ),
            ("keypoints", np.float64, {}, "`keypoints` has the type float64, not float32"),
            ("status", np.int64, {}, "`status` has the type int64, not uint8"),
            ("heatmaps", np.int8, {}, "`heatmaps` has the type int8, not uint8"),
            ("reason", lambda old: np.arange(4), {}, "`reason` is no UTF-8 text of a fixed length"),
            ("people", lambda old: old, {"fletcher32": False}, "`people` has no checksums"),
            ("sha256", lambda old: old, {"fletcher32": False}, "`sha256` has no checksums"),
        ],
    )
    def test_of_another_form(self, folder, name, change, options, what):
        rewrite(folder / "shard-000000.h5", name, change, **options)
        assert told(folder) == [("shard-000000.h5", "", what)]

    @pytest.mark.parametrize(
        "name", "id heatmaps keypoints people size status sha256 reason".split()
    )
    def test_missing(self, folder, name):
        with h5py.File(folder / "shard-000000.h5", "r+") as file:
            del file[name]
        [(shard, id_, what)] = told(folder)
        assert (shard, id_) == ("shard-000000.h5", "")
        assert what.startswith(f"`{name}` can't be read: ")
        assert "doesn't exist" in what

    def test_no_data_set_and_text_outside_the_checksums(self, folder):
        with h5py.File(folder / "shard-000000.h5", "r+") as file:
            del file["size"], file["reason"]
            file.create_group("size")
            file.create_dataset("reason", data=["", "", "", "why"])  # of any length each
        assert told(folder) == [
            ("shard-000000.h5", "", "`size` is no data set"),
            ("shard-000000.h5", "", "`reason` is no UTF-8 text of a fixed length"),
        ]

    def test_a_chunk_that_was_never_written(self, folder):
        """HDF5 reads zeros there, and no checksum tells."""
        with h5py.File(folder / "shard-000000.h5", "r+") as file:
            del file["heatmaps"]
            shape = (4, 7, SIDE, SIDE)
            maps = file.create_dataset(
                "heatmaps", shape, np.uint8, chunks=(1, *shape[1:]), fletcher32=True
            )
            maps[2:] = 0
            assert not maps[:].any()
        assert told(folder) == [("shard-000000.h5", "", "`heatmaps` has 2 of its 4 chunks")]


class TestOptions:
    def test_the_shard_that_differs_from_most_is_told(self, folder):
        write(folder, 2, [make_record("f.jpg", 7)])
        for number, change in ((0, {"min_confidence": 0.3}), (2, {"backend": "openvino"})):
            with h5py.File(folder / f"shard-{number:06d}.h5", "r+") as file:
                for name, value in change.items():
                    file.attrs[name] = value
        write(folder, 3, [make_record("g.jpg", 8)])
        told_of = "its options differ from those of shard-000001.h5: "
        assert told(folder) == [
            ("shard-000000.h5", "", told_of + "min_confidence 0.5 and 0.3"),
            ("shard-000002.h5", "", told_of + "backend 'mediapipe' and 'openvino'"),
        ]

    @pytest.mark.parametrize(
        ("attribute", "value", "what"),
        [
            ("format", "keypoints", "to be 'vsam-heatmaps', but got 'keypoints'"),
            ("format_version", 7, "which this version of vsam reads, but got 7"),
            ("side", "wide", "it can't be read: invalid literal for int()"),
            ("side", np.inf, "it can't be read: cannot convert float infinity to integer"),
            ("channels", "[", "it can't be read: Expecting value"),
            ("sigma", np.nan, "Expected `sigma` to be a share of the side above 0"),
            ("people", "some", "its attribute people is 'some', none of main, all"),
        ],
    )
    def test_options_that_cannot_be(self, folder, attribute, value, what):
        for path in folder.iterdir():
            with h5py.File(path, "r+") as file:
                file.attrs[attribute] = value
        findings = told(folder)
        assert [(shard, id_) for shard, id_, _ in findings] == [
            ("shard-000000.h5", ""),
            ("shard-000001.h5", ""),
        ]
        assert all(what in each for _, _, each in findings)

    @pytest.mark.parametrize(
        ("channels", "names"),
        [(list("abcdefg"), "a, b, c, d, e, f, g"), ([[]] * 7, ", ".join(["[]"] * 7))],
    )
    def test_channels_that_nobody_draws(self, folder, channels, names):
        for path in folder.iterdir():
            with h5py.File(path, "r+") as file:
                file.attrs["channels"] = json.dumps(channels)
        report = verify(folder)
        assert report.rendered == 0
        assert [finding.what for finding in report.findings] == [
            f"its channels are none that this version draws: {names}"
        ] * 2


class TestDamagedFiles:
    def test_each_damaged_shard_and_record_is_told(self, folder):
        whole = write(folder, 2, [make_record("f.jpg", 7), make_record("d.jpg", 8)])
        (folder / "shard-000003.h5").write_text("hello")
        (folder / "shard-000004.h5").write_bytes(whole.read_bytes()[:5000])
        first = folder / "shard-000000.h5"
        with h5py.File(first) as file:
            chunks = [file["heatmaps"].id.get_chunk_info(row) for row in (1, 3)]
            column = file["size"].id.get_chunk_info(0)
        for chunk in (*chunks, column):
            damage(first, chunk.byte_offset + chunk.size // 2)
        with h5py.File(folder / "shard-000001.h5") as file:
            ids = file["id"].id.get_chunk_info(0)
        damage(folder / "shard-000001.h5", ids.byte_offset)
        report = verify(folder)
        assert [(finding.shard[6:-3], finding.id) for finding in report.findings] == [
            ("000003", ""),
            ("000004", ""),
            ("000000", ""),
            ("000000", AWKWARD),
            ("000000", "c.jpg"),
            ("000001", ""),
        ]
        said = [finding.what.partition(" can't be read: ")[0] for finding in report.findings]
        assert said == ["it", "it", "`size`", "the maps", "the maps", "`id`"]
        assert report.records == 6  # those of shards 0 and 2
        assert all(len(str(finding).splitlines()) == 1 for finding in report.findings)

    def test_a_damaged_record_is_named_by_its_row_if_ids_are_damaged_too(self, folder):
        path = folder / "shard-000000.h5"
        with h5py.File(path) as file:
            chunks = [
                file["heatmaps"].id.get_chunk_info(2),
                file["id"].id.get_chunk_info(0),
            ]
        for chunk in chunks:
            damage(path, chunk.byte_offset)
        findings = told(folder)
        assert [id_ for _, id_, _ in findings] == ["", ""]
        assert findings[1][2].startswith("row 2: the maps can't be read: ")

    def test_a_flipped_byte_anywhere_is_found_or_changes_nothing(self, folder):
        """HDF5 leaves some bytes of a file unused; a reader can't see those."""
        path = folder / "shard-000000.h5"
        data, before = path.read_bytes(), list(Shards(folder))
        positions = random.Random(3).sample(range(len(data)), 300)
        found = 0
        for position in positions:
            damaged = bytearray(data)
            damaged[position] ^= 1 << position % 8
            path.write_bytes(damaged)
            report = verify(folder)
            if report.found:
                assert {finding.shard for finding in report.findings} == {path.name}
                found += 1
            else:
                after = list(Shards(folder))
                assert len(after) == len(before)
                assert all(map(same, after, before))
        assert found > len(positions) // 3

    def test_a_truncated_file(self, folder):
        path = folder / "shard-000001.h5"
        data = path.read_bytes()
        for length in (0, 7, 100, len(data) // 2, len(data) - 1):
            path.write_bytes(data[:length])
            [(shard, id_, what)] = told(folder)
            assert (shard, id_) == (path.name, "")
            assert what.startswith("it can't be read: ")

    def test_no_folder_of_shards(self, tmp_path):
        with pytest.raises(VsamError, match="but it is not there"):
            verify(tmp_path / "none")
        with pytest.raises(VsamError, match="but it holds none"):
            verify(tmp_path)


class TestPhotos:
    @pytest.fixture
    def photos(self, tmp_path):
        """Photos (files that need not be decoded) of a folder of shards beside them."""
        names = ["a.jpg", "b/c.jpg", "b/d.jpg", "z é.jpg"]
        made = []
        for seed, name in enumerate(names):
            path = tmp_path / "photos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"contents of {name}".encode())
            made.append(make_record(name, seed, sha256=hashlib.sha256(path.read_bytes()).digest()))
        gone = make_record("q.jpg", 9, Status.UNREADABLE, sha256=bytes(32))
        write(tmp_path / "s", 0, [*made[2:], gone])
        write(tmp_path / "s", 1, made[:2])
        (tmp_path / "photos" / "q.jpg").symlink_to(tmp_path / "nowhere.jpg")
        return tmp_path / "photos"

    def test_that_fit(self, photos, tmp_path):
        report = verify(tmp_path / "s", list_photos([photos]))
        assert (report.findings, report.records, report.photos) == ([], 5, 5)
        # A photo that could not be opened then says nothing about the shards if it can be now.
        (tmp_path / "nowhere.jpg").write_bytes(b"now here")
        assert told(tmp_path / "s", photos=list_photos([photos])) == []

    def test_with_another_root(self, photos, tmp_path):
        findings = told(tmp_path / "s", photos=list_photos([photos], root=tmp_path))
        assert len(findings) == 10
        half = told(tmp_path / "s", photos=list_photos([photos / "b"], root=photos))
        assert [id_ for _, id_, _ in half] == ["a.jpg", "q.jpg", "z é.jpg"]

    def test_missing_added_changed_and_unreadable(self, photos, tmp_path):
        (photos / "a.jpg").write_bytes(b"contents of A.jpg")
        (photos / "b" / "c.jpg").rename(photos / "b" / "x.jpg")
        (photos / "b" / "d.jpg").unlink()
        (photos / "b" / "d.jpg").symlink_to(tmp_path / "nowhere.jpg")
        (photos / "zz.jpg").write_bytes(b"new")
        assert told(tmp_path / "s", photos=list_photos([photos])) == [
            (
                "shard-000001.h5",
                "a.jpg",
                f"the contents of {photos}/a.jpg are not those that were extracted",
            ),
            ("shard-000001.h5", "b/c.jpg", "its photo is not among those given"),
            (
                "shard-000000.h5",
                "b/d.jpg",
                f"could not read {photos}/b/d.jpg: No such file or directory",
            ),
            ("", "b/x.jpg", "the photo has no record"),
            ("", "zz.jpg", "the photo has no record"),
        ]

    def test_files_are_as_large_as_in_the_extraction(self, tmp_path):
        """`--max-pixels` bounds files, too: 8 bytes a pixel and 64 MiB."""
        photo = tmp_path / "photos" / "large.jpg"
        photo.parent.mkdir()
        with photo.open("wb") as file:
            file.truncate((64 << 20) + 80)
        sha256 = hashlib.sha256(photo.read_bytes()).digest()
        record = make_record("large.jpg", 1, Status.NO_POSE, sha256=sha256)
        for pixels, findings in ((9, 1), (10, 0)):
            folder = tmp_path / str(pixels)
            write(folder, 0, [record], replace(INFO, max_pixels=pixels))
            said = told(folder, photos=list_photos([photo.parent]))
            assert len(said) == findings
        assert "could not read" in told(tmp_path / "9", photos=list_photos([photo.parent]))[0][2]

    def test_the_record_that_counts_is_compared(self, photos, tmp_path):
        (photos / "a.jpg").write_bytes(b"newer")
        newer = make_record("a.jpg", 20, sha256=hashlib.sha256(b"newer").digest())
        write(tmp_path / "s", 2, [newer])
        report = verify(tmp_path / "s", list_photos([photos]))
        assert (report.findings, report.superseded) == ([], 1)
        (photos / "a.jpg").write_bytes(b"contents of a.jpg")  # as in the superseded record
        [finding] = verify(tmp_path / "s", list_photos([photos])).findings
        assert (finding.shard, finding.id) == ("shard-000002.h5", "a.jpg")

    def test_findings_are_counted_beyond_the_limit(self, photos, tmp_path):
        for path in (photos / "b").iterdir():
            path.write_bytes(b"changed")
        (photos / "new.jpg").write_bytes(b"new")
        everything = verify(tmp_path / "s", list_photos([photos]))
        assert everything.found == len(everything.findings) == 3
        for limit in (0, 1, 2):
            report = verify(tmp_path / "s", list_photos([photos]), limit=limit)
            assert report.found == 3
            assert report.findings == everything.findings[:limit]


def test_a_finding_is_one_line():
    assert str(Finding("shard-000000.h5", "a\nb.jpg", "gone")) == (
        r"shard-000000.h5: 'a\nb.jpg': gone"
    )
    assert str(Finding("shard-000000.h5", "", "no shard")) == "shard-000000.h5: no shard"
    assert str(Finding("", "new.jpg", "unknown")) == "photos: 'new.jpg': unknown"
