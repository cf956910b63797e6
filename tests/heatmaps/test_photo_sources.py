"""Folders, lists, tar files and Parquet files together: ids, order of reading, and extraction."""

import pickle
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vsam_heatmaps import Shards, VsamError, extract, list_photos
from vsam_heatmaps.extraction import ExtractOptions


def put(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"file {name}".encode())
    return folder


def tar(path: Path, *names: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name in names:
            source = path.parent / "member"
            source.write_bytes(f"tar {name}".encode())
            archive.add(source, name)
            source.unlink()
    return path


def table(path: Path, *ids: str, **more: list) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"image": [f"row {id_}".encode() for id_ in ids], "id": list(ids), **more}
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path


def refusal(*inputs: Path, **options) -> str:
    with pytest.raises(VsamError) as refused:
        list_photos(inputs, **options)
    [line] = str(refused.value).splitlines()
    return line


@pytest.fixture
def mixed(tmp_path) -> list[Path]:
    """Give inputs of each kind, ids interleaved."""
    put(tmp_path / "folder", "b.jpg", "sub/a.jpg", "a.jpg")
    put(tmp_path / "listed", "l.jpg", "0.jpg")
    (tmp_path / "listed" / "list.txt").write_text("l.jpg\n0.jpg\n")
    put(tmp_path, "one.jpg")
    return [
        table(tmp_path / "t.parquet", "z.jpg", "c.jpg", "y.jpg", "d.jpg", "x.jpg"),
        tmp_path / "folder",
        tar(tmp_path / "q.tar", "q2.jpg", "q1.jpg"),
        tmp_path / "listed" / "list.txt",
        tmp_path / "one.jpg",
        tar(tmp_path / "p.tar", "p9.jpg", "k.jpg", "p1.jpg"),
    ]


def test_all_kinds_mix(mixed):
    photos = list_photos(mixed)
    files = ["0.jpg", "a.jpg", "b.jpg", "l.jpg", "one.jpg", "sub/a.jpg"]
    stored = ["p9.jpg", "k.jpg", "p1.jpg", "q2.jpg", "q1.jpg"]
    rows = ["z.jpg", "c.jpg", "y.jpg", "d.jpg", "x.jpg"]
    assert [photo.id for photo in photos] == sorted(files + stored + rows)
    for photo in photos:
        kind = "tar" if photo.id in stored else "row" if photo.id in rows else "file"
        assert photo.read().decode().split()[0] == kind
    assert [photo.id for photo in photos.reading_order] == files + stored + rows
    # Not by the order of the arguments.
    assert list(list_photos(mixed[::-1]).reading_order) == list(photos.reading_order)


def test_the_order_of_reading_is_a_sequence(mixed):
    photos = list_photos(mixed)
    ordered = photos.reading_order
    everything = [ordered[number] for number in range(len(ordered))]
    assert len(everything) == len(photos) == 16
    assert ordered[3:9] == everything[3:9]
    assert ordered[-1] == everything[-1]
    assert ordered[12:99] == everything[12:]
    assert sorted(photo.id for photo in everything) == list(photos.ids)
    with pytest.raises(IndexError):
        ordered[16]
    assert list(pickle.loads(pickle.dumps(photos)).reading_order) == everything


def test_files_are_read_by_id(tmp_path):
    put(tmp_path, "a/z.jpg", "a-b.jpg", "a.jpg")
    photos = list_photos([tmp_path / "a", tmp_path], root=tmp_path)
    assert [photo.id for photo in photos.reading_order] == ["a-b.jpg", "a.jpg", "a/z.jpg"]
    assert len(list_photos([]).reading_order) == 0


def test_a_root_puts_the_path_of_the_file_before_its_photos(tmp_path):
    inputs = [
        tar(tmp_path / "a" / "b.v1.tar", "1.jpg", "x/2.jpg"),
        table(tmp_path / "a" / "c.parquet", "1.jpg"),
        table(tmp_path / "a" / "d.parquet", "same", "same"),
        tar(tmp_path / "é.tar", "1.jpg"),
    ]
    wanted = "a/b.v1/1.jpg a/b.v1/x/2.jpg a/c/1.jpg a/d/0 a/d/1 é/1.jpg".split()
    photos = list_photos(inputs, root=tmp_path)
    assert list(photos.ids) == wanted
    assert [photo.read() for photo in photos] == [
        b"tar 1.jpg", b"tar x/2.jpg", b"row 1.jpg", b"row same", b"row same", b"tar 1.jpg",
    ]  # fmt: skip
    assert str(photos[1]) == f"{inputs[0]}: x/2.jpg"
    assert list_photos(inputs[:1], root=tmp_path / "a").ids == ("b.v1/1.jpg", "b.v1/x/2.jpg")
    for given in inputs[0], inputs[2]:
        said = refusal(given, root=tmp_path / "a" / "b")
        assert said.startswith(f"Expected `{given}` to lie below the root ")


def test_two_photos_with_one_id_are_refused(tmp_path):
    first, second = tar(tmp_path / "x.tar", "0.jpg", "1.jpg"), tar(tmp_path / "y.tar", "1.jpg")
    rows, folder = table(tmp_path / "z.parquet", "a", "1.jpg"), put(tmp_path / "f", "1.jpg")
    remedy = "Name a folder above both with --root."
    said = "Two photos have the id '1.jpg': "
    assert refusal(first, second) == f"{said}{first}: 1.jpg and {second}: 1.jpg. {remedy}"
    assert refusal(rows, first) == f"{said}{first}: 1.jpg and {rows}: row 1. {remedy}"
    assert refusal(first, folder) == f"{said}{folder}/1.jpg and {first}: 1.jpg. {remedy}"
    photos = list_photos([first, second, rows, folder], root=tmp_path)
    assert list(photos.ids) == ["f/1.jpg", "x/0.jpg", "x/1.jpg", "y/1.jpg", "z/1.jpg", "z/a"]


def test_the_same_file_given_twice_counts_once(tmp_path):
    inputs = [tar(tmp_path / "x.tar", "0.jpg", "1.jpg"), table(tmp_path / "y.parquet", "a", "b")]
    wanted = ("0.jpg", "1.jpg", "a", "b")
    assert list_photos(inputs * 2).ids == wanted
    for path in inputs:
        (tmp_path / f"link{path.suffix}").symlink_to(path)
    links = [tmp_path / "link.tar", tmp_path / "link.parquet"]
    assert list_photos([*links, *inputs]).ids == wanted


def test_files_inside_a_folder_are_not_opened(tmp_path):
    folder = put(tmp_path / "f", "a.jpg", "sub/list.txt")
    tar(folder / "sub" / "x.tar", "b.jpg")
    assert list_photos([folder]).ids == ("a.jpg",)
    (folder / "a.jpg").unlink()
    assert refusal(folder) == (
        f"Expected `{folder}` to hold photos, but it holds files with photos in them. "
        f"Name these files: {folder}/sub/x.tar"
    )
    for number in range(4):
        table(folder / f"{number}.parquet", "a")
    assert refusal(folder).endswith(
        f"Name these files: {folder}/0.parquet {folder}/1.parquet {folder}/2.parquet …"
    )


def test_extraction_reads_them_in_its_worker_processes(mannequins, tmp_path):
    paths = sorted((mannequins / "photos").glob("*.jpg"))[:9]
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    packed = tmp_path / "p.tar"
    with tarfile.open(packed, "w") as archive:
        for path in paths[:4]:
            archive.add(path, path.name)
        archive.add(broken, "broken.jpg")
    rows = [{"bytes": path.read_bytes(), "path": path.name} for path in paths[4:7]]
    pq.write_table(
        pa.table({"image": [*rows, {"bytes": None, "path": "null.jpg"}]}), tmp_path / "t.parquet"
    )
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{path.name}\n" for path in paths[7:]) + "gone.jpg\n")
    inputs, alone = [packed, tmp_path / "t.parquet"], ExtractOptions(workers=1)
    report = extract(inputs, tmp_path / "stored")
    assert report.counts["unreadable"] == 2
    assert dict(report.unreadable) == {
        "broken.jpg": "it is not an image, or its header is damaged",
        "null.jpg": "its row of the table holds no image",
    }
    report = extract([listed], tmp_path / "stored", root=mannequins / "photos", options=alone)
    assert dict(report.unreadable) == {"gone.jpg": "No such file or directory"}
    extract(paths, tmp_path / "files", options=alone)
    ours, theirs = Shards(tmp_path / "stored"), Shards(tmp_path / "files")
    assert len(theirs) == 9
    assert set(ours.ids) == {*theirs.ids, "broken.jpg", "null.jpg", "gone.jpg"}
    for id_ in theirs.ids:
        assert ours.sha256(id_) == theirs.sha256(id_)
        assert np.array_equal(ours[id_].heatmaps, theirs[id_].heatmaps)
    assert extract(inputs, tmp_path / "stored", options=alone).unchanged == 9
