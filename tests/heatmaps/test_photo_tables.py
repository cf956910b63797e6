"""Parquet files full of photos: which column, which ids, their bytes, and what is refused."""

import hashlib
import os
import pickle
import random
import subprocess
import sys
import threading
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsam_heatmaps import VsamError, list_photos
from vsam_heatmaps.errors import UnreadablePhotoError

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def images(*paths: str | None) -> pa.Array:
    """Make a column as Hugging Face's datasets has it: the bytes are the row and the path."""
    rows = [{"bytes": b"%d %s" % (n, (p or "").encode()), "path": p} for n, p in enumerate(paths)]
    return pa.array(rows, IMAGE)


def write_table(path, *, rows_a_group=1 << 20, **columns):
    table = pa.table({name.replace("__dot__", "."): column for name, column in columns.items()})
    pq.write_table(table, path, row_group_size=rows_a_group)
    return path


def contents(*inputs, **options) -> dict[str, bytes]:
    return {photo.id: photo.read() for photo in list_photos(inputs, **options)}


def refusal(*inputs, **options) -> str:
    with pytest.raises(VsamError) as refused:
        list_photos(inputs, **options)
    [line] = str(refused.value).splitlines()
    return line


def test_a_table_of_hugging_face(tmp_path):
    path = write_table(
        tmp_path / "train-0.parquet", rows_a_group=2,
        image=images("b.jpg", "x/a.png", "c.jpg"), label=[1, 2, 3],
    )  # fmt: skip
    assert contents(path) == {"b.jpg": b"0 b.jpg", "c.jpg": b"2 c.jpg", "x/a.png": b"1 x/a.png"}
    photos = list_photos([path])
    assert [photo.id for photo in photos] == ["b.jpg", "c.jpg", "x/a.png"]
    assert [photo.id for photo in photos.reading_order] == ["b.jpg", "x/a.png", "c.jpg"]
    assert [str(photo) for photo in photos.reading_order] == [f"{path}: row {n}" for n in range(3)]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
@pytest.mark.parametrize("text", [pa.string(), pa.large_string(), pa.string_view()])
def test_columns_of_bytes_and_of_names(tmp_path, kind, text):
    path = write_table(
        tmp_path / "t.parquet",
        jpg=pa.array([b"one", b"two"], kind),
        __key__=pa.array(["k/1", "k/2"], text),
        caption=["a", "b"],
    )
    assert contents(path) == {"k/1": b"one", "k/2": b"two"}


def test_a_struct_of_bytes_alone_and_a_name_with_a_dot(tmp_path):
    rows = pa.array([{"bytes": b"one"}, {"bytes": b"two"}], pa.struct([("bytes", pa.binary())]))
    for name in ("photo", "photo__dot__bytes"):
        path = write_table(tmp_path / "t.parquet", **{name: rows})
        assert contents(path) == {"t/0": b"one", "t/1": b"two"}
    path = write_table(tmp_path / "t.parquet", photo__dot__bytes=[b"one", b"two"])
    assert contents(path) == {"t/0": b"one", "t/1": b"two"}


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        # In this order: the struct's path, id, image_id, file_name, __key__, the row's number.
        ({"image": images("p1", "p2"), "id": ["i1", "i2"]}, ["p1", "p2"]),
        ({"image": images("p", "p"), "id": ["i1", "i2"]}, ["i1", "i2"]),
        ({"image": images(None, "p"), "image_id": [7, 8], "__key__": ["a", "b"]}, ["7", "8"]),
        ({"image": images("", "p"), "id": ["", "x"], "file_name": ["f1", "f2"]}, ["f1", "f2"]),
        ({"image": images("/a", "/b"), "file_name": ["f1", None]}, ["t/0", "t/1"]),
        ({"image": images("../a", "b"), "__key__": ["k", "./k"]}, ["t/0", "t/1"]),
        ({"image": images("./a", "x//b"), "id": ["i1", "i2"]}, ["a", "x/b"]),
        ({"image": images("a\0", "b")}, ["t/0", "t/1"]),
        ({"image": [b"a", b"b"], "id": [0.5, 1.5]}, ["t/0", "t/1"]),
    ],
)
def test_ids_come_from_the_first_column_that_has_one_for_each_row(tmp_path, columns, wanted):
    path = write_table(tmp_path / "t.parquet", **columns)
    assert [photo.id for photo in list_photos([path]).reading_order] == wanted


def test_numbers_of_rows_sort_as_rows(tmp_path):
    path = write_table(tmp_path / "t.v1.parquet", image=[b"%d" % n for n in range(101)])
    photos = list_photos([path])
    assert photos.ids[:2] == ("t.v1/000", "t.v1/001")
    assert [photo.read() for photo in photos] == [b"%d" % n for n in range(101)]


def test_a_row_without_an_image_is_listed_and_reported(tmp_path):
    rows = pa.array([{"bytes": b"x", "path": "a"}, None, {"bytes": None, "path": "c"}], IMAGE)
    for column, unreadable in ((rows, [1, 2]), (pa.array([b"x", None, b""], pa.binary()), [1])):
        photos = list_photos([write_table(tmp_path / "t.parquet", image=column)])
        assert photos.ids == ("t/0", "t/1", "t/2")
        for number, photo in enumerate(photos):
            if number not in unreadable:
                assert photo.read() == (b"x" if number == 0 else b"")
                continue
            with pytest.raises(UnreadablePhotoError, match=r"^its row of the table holds no image"):
                photo.read()


def test_which_column_holds_the_photos(tmp_path):
    path = tmp_path / "t.parquet"
    write_table(path, Image=[b"i"], embedding=[b"e"], label=[1])
    assert contents(path) == {"t/0": b"i"}  # a usual name
    assert contents(path, image_column="embedding") == {"t/0": b"e"}
    write_table(path, front=[b"f"], label=[1])
    assert contents(path) == {"t/0": b"f"}  # the only one
    write_table(path, front=[b"f"], back=images("b"), label=[1])
    assert refusal(path) == (
        f"Expected `{path}` to have one column of images, but it has front, back. "
        "Name one with --image-column."
    )
    assert contents(path, image_column="back") == {"b": b"0 b"}
    write_table(path, image=[b"f"], jpg=[b"f"])
    assert "one column of images, but it has image, jpg. Name one" in refusal(path)
    assert refusal(path, image_column="jpeg") == (
        f"Expected `image_column` to be a column of images in {path} (image, jpg), but got 'jpeg'."
    )
    write_table(path, image=["a.jpg"], label=[1])
    assert refusal(path) == (
        f"Expected `{path}` to have a column of images (binary, or a struct with `bytes`), "
        "but it has: image (string), label (int64)."
    )


@settings(max_examples=40, deadline=None)
@given(
    names=st.lists(
        st.lists(
            st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)
            .filter(lambda part: part not in (".", "..")),
            min_size=1,
            max_size=3,
        ).map("/".join),
        min_size=1,
        max_size=30,
        unique=True,
    ),
    rows_a_group=st.integers(1, 12),
    in_struct=st.booleans(),
)  # fmt: skip
def test_any_name_comes_back_exactly(tmp_path_factory, names, rows_a_group, in_struct):
    path = tmp_path_factory.mktemp("table") / "t.parquet"
    columns = {"image": images(*names)} if in_struct else {"id": names, "image": [
        b"%d %s" % (number, name.encode()) for number, name in enumerate(names)
    ]}  # fmt: skip
    photos = list_photos([write_table(path, rows_a_group=rows_a_group, **columns)])
    assert list(photos.ids) == sorted(names)
    read = {photo.id: photo.read() for photo in photos}
    assert read == {name: b"%d %s" % (n, name.encode()) for n, name in enumerate(names)}
    assert [photo.id for photo in photos.reading_order] == names


def large_table(path, count=600, size=20_000, rows_a_group=250):
    photos = [random.Random(n).randbytes(size) for n in range(count)]
    return write_table(path, rows_a_group=rows_a_group, image=photos), photos


def test_rows_are_read_in_any_order_and_by_many_threads(tmp_path):
    path, wanted = large_table(tmp_path / "t.parquet")
    photos = list_photos([path])
    order = list(range(len(wanted)))
    assert [photo.read() for photo in photos] == wanted
    random.Random(0).shuffle(order)
    for number in order[:40]:
        assert photos[number].read() == wanted[number]
    wrong = []

    def read(start: int) -> None:
        wrong.extend(n for n in range(start, len(wanted), 4) if photos[n].read() != wanted[n])

    threads = [threading.Thread(target=read, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_process_decodes_a_row_group_once_if_it_reads_in_order(tmp_path, monkeypatch):
    path, wanted = large_table(tmp_path / "t.parquet", rows_a_group=100)
    photos = list_photos([path])
    begun = []
    iter_batches = pq.ParquetFile.iter_batches

    def counting(self, *arguments, **options):
        begun.append(options["row_groups"])
        return iter_batches(self, *arguments, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counting)
    assert [photo.read() for photo in photos[::3]] == wanted[::3]
    assert begun == [[number] for number in range(6)]
    for one, other in ((99, 100), (101, 99), (98, 102)):  # threads at the border of two groups
        assert photos[one].read() == wanted[one]
        assert photos[other].read() == wanted[other]
    assert len(begun) <= 6 + 2


def test_memory_is_that_of_some_pages_not_of_the_row_group(tmp_path):
    block = random.Random(0).randbytes(200_000)
    rows = [block[number:] + block[:number] for number in range(500)]
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": rows}), path, write_batch_size=16, use_dictionary=False)
    assert pq.ParquetFile(path).num_row_groups == 1
    script = """
import resource, sys
from pathlib import Path
from vsam_heatmaps import list_photos
photos = list_photos([Path(sys.argv[1])])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(sum(len(photo.read()) for photo in photos))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=True
    )
    size, grown = map(int, done.stdout.split())
    assert size == 100_000_000
    assert grown < 70  # MB


def test_photos_travel_to_other_processes(tmp_path):
    path, wanted = large_table(tmp_path / "t.parquet", count=50)
    photos = list_photos([path])
    one = pickle.dumps(photos[3])
    assert len(one) < 400
    assert len(pickle.dumps(photos[:8])) < len(one) + 7 * 120
    assert pickle.loads(one) == photos[3]
    script = (
        "import sys, pickle, hashlib; photos = pickle.load(sys.stdin.buffer)\n"
        "print(hashlib.sha256(b''.join(photo.read() for photo in photos)).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=pickle.dumps(list(photos)),
        capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout.decode().strip() == hashlib.sha256(b"".join(wanted)).hexdigest()
    # A fork has a copy of what the parent had open.
    photos[10].read()
    child = os.fork()
    if child == 0:
        os._exit(0 if [photo.read() for photo in photos[11:]] == wanted[11:] else 1)
    assert [photo.read() for photo in photos[11:]] == wanted[11:]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path):
    path = write_table(tmp_path / "whole.parquet", rows_a_group=3, image=images(*"abcdefghij"))
    whole = path.read_bytes()
    cut = tmp_path / "cut.parquet"
    for length in [*range(0, len(whole), 37), *range(len(whole) - 12, len(whole))]:
        cut.write_bytes(whole[:length])
        said = refusal(cut)
        assert said.startswith(f"Could not read {cut}: it is no Parquet file, truncated or da")
        assert said.endswith("Make or fetch it again.")
    cut.write_bytes(whole)
    assert len(contents(cut)) == 10


def test_damage_never_gives_fewer_photos_or_other_bytes(tmp_path):
    """With page checksums; without them Parquet itself can't tell."""
    rng = random.Random(0)
    table = pa.table({"image": [rng.randbytes(300) for _ in range(40)]})
    path = tmp_path / "t.parquet"
    pq.write_table(table, path, row_group_size=10, write_page_checksum=True)
    whole, wanted = path.read_bytes(), contents(path)
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    reasons = []
    for number in range(150):
        damaged = bytearray(whole)
        damaged[rng.randrange(4, footer)] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        os.utime(path, ns=(number, number))
        try:
            photos = list_photos([path])
        except VsamError:
            continue
        assert photos.ids == tuple(wanted)
        for photo in photos:
            try:
                assert photo.read() == wanted[photo.id]
            except UnreadablePhotoError as error:
                reasons.append(str(error))
    assert len(reasons) > 100
    assert all(reason.startswith("the Parquet file is damaged here (") for reason in reasons)
    assert not any("\n" in reason for reason in reasons)


def test_what_is_no_table_or_is_empty_is_refused(tmp_path):
    path = tmp_path / "t.parquet"
    for data in (b"", b"PAR1", b"PAR1PAR1", b"\xff\xd8\xff" * 100):
        path.write_bytes(data)
        assert refusal(path).startswith(f"Could not read {path}: it is no Parquet file, ")
    write_table(path, image=pa.array([], pa.binary()))
    assert refusal(path).startswith(f"Expected `{path}` to hold photos, but it holds none.")


def test_a_file_that_changed_gives_no_bytes_of_another_photo(tmp_path):
    path = write_table(tmp_path / "t.parquet", image=[b"old a", b"old b"])
    photos = list_photos([path])
    write_table(path, image=[b"new", b"other", b"rows"])
    for photo in photos:
        with pytest.raises(UnreadablePhotoError, match=r"^the Parquet file has changed since"):
            photo.read()
    path.unlink()
    with pytest.raises(UnreadablePhotoError, match=r"^No such file"):
        photos[0].read()


def test_without_pyarrow_the_command_can_tell_what_is_missing(tmp_path):
    path = write_table(tmp_path / "t.parquet", image=[b"x"])
    script = f"""
import sys
from pathlib import Path
sys.modules["pyarrow"] = None
from vsam_heatmaps import list_photos
try:
    list_photos([Path({str(path)!r})])
except ModuleNotFoundError as error:
    print(error.name)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("pyarrow")


def test_a_photo_takes_its_id_and_little_more(tmp_path):
    count = 3000
    ids = [f"{number:08d}.jpg" for number in range(count)]
    path = write_table(tmp_path / "t.parquet", image=[b"x"] * count, id=ids)
    list_photos([path])  # whatever is imported or cached once
    tracemalloc.start()
    try:
        photos = list_photos([path])
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(photos) == count
    # 12 bytes of id, 8 of where it ends, 4 of its number; arrays grow by an eighth.
    assert taken / count < 40
