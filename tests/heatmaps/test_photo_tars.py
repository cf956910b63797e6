"""Tar files full of photos: which are listed, their bytes, and what is refused."""

import gzip
import io
import os
import shutil
import subprocess
import tarfile
import tracemalloc
from pathlib import Path

import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from vsam_heatmaps import VsamError, list_photos
from vsam_heatmaps.errors import UnreadablePhotoError

GNU_TAR = shutil.which("tar")


def member(name: str, data: bytes | None = None, **changed) -> tuple[tarfile.TarInfo, io.BytesIO]:
    info = tarfile.TarInfo(name)
    data = name.encode("utf-8", "surrogateescape") if data is None else data
    info.size = len(data)
    for field, value in changed.items():
        setattr(info, field, value)
    return info, io.BytesIO(data)


def write_tar(path: Path, *members, form: int = tarfile.PAX_FORMAT) -> Path:
    """Write a tar file; a member is a name, whose bytes are the data, or what `member` gives."""
    with tarfile.open(
        path, "w", format=form, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for one in members:
            archive.addfile(*(member(one) if isinstance(one, str) else one))
    return path


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE):
    return member(name, b"", type=kind, linkname=target)


def contents(*inputs: Path, **options) -> dict[str, bytes]:
    return {photo.id: photo.read() for photo in list_photos(inputs, **options)}


def refusal(*inputs: Path, **options) -> str:
    with pytest.raises(VsamError) as refused:
        list_photos(inputs, **options)
    [line] = str(refused.value).splitlines()
    return line


def test_photos_of_a_webdataset(tmp_path):
    path = tmp_path / "shop-000000.tar"
    with webdataset.TarWriter(str(path)) as sink:
        for number in range(5):
            sink.write(
                {
                    "__key__": f"dress/{number:03d}",
                    "jpg": b"photo %d" % number,
                    "json": {"label": number},
                    "mask.png": b"mask %d" % number,
                }
            )
    wanted = {f"dress/{number:03d}.jpg": b"photo %d" % number for number in range(5)}
    wanted |= {f"dress/{number:03d}.mask.png": b"mask %d" % number for number in range(5)}
    assert contents(path) == wanted
    [first, *_] = list_photos([path])
    assert str(first) == f"{path}: dress/000.jpg"
    assert first.path == path


@pytest.mark.skipif(GNU_TAR is None, reason="there is no tar command")
@pytest.mark.parametrize("form", ["gnu", "pax", "ustar", "v7"])
def test_what_tar_packs_comes_back(tmp_path, form):
    folder = tmp_path / "photos"
    names = ["a.jpg", "sub/b.PNG", "sub/deep/c d.webp", "-dash.jpg", "new\nline.gif"]
    if form in ("gnu", "pax"):
        names += ["x" * 90 + "/" + "y" * 140 + ".jpg", "été 日本 👗.jpg"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() * 300)
    for name in (".hidden.jpg", "._a.jpg", ".thumbs/a.jpg", "__MACOSX/a.jpg", "notes.txt", "jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"no photo")
    path = tmp_path / "p.tar"
    subprocess.run([GNU_TAR, f"--format={form}", "-C", folder, "-cf", path, "."], check=True)
    assert contents(path) == {name: name.encode() * 300 for name in names}
    subprocess.run([GNU_TAR, f"--format={form}", "-C", tmp_path, "-cf", path, "photos"], check=True)
    assert contents(path) == {f"photos/{name}": name.encode() * 300 for name in names}


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(
        st.lists(
            st.text(
                st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1
            ).filter(lambda part: not part.startswith(".") and part != "__MACOSX"),
            min_size=1,
            max_size=4,
        ).map(lambda parts: "/".join(parts) + ".jpg"),
        min_size=1,
        max_size=12,
        unique=True,
    ),
    form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_any_name_comes_back_exactly(tmp_path_factory, names, form):
    path = tmp_path_factory.mktemp("tar") / "p.tar"
    write_tar(path, *names, form=form)
    photos = list_photos([path])
    assert [photo.id for photo in photos] == sorted(names)
    assert all(photo.read() == photo.id.encode() for photo in photos)
    assert [photo.id for photo in photos.reading_order] == names


def test_names_are_normalised(tmp_path):
    path = write_tar(tmp_path / "p.tar", "./a.jpg", "x//y/./b.jpg")
    assert contents(path) == {"a.jpg": b"./a.jpg", "x/y/b.jpg": b"x//y/./b.jpg"}


@pytest.mark.parametrize("name", ["/a.jpg", "../a.jpg", "x/../../a.jpg", "x/.."])
def test_names_that_lead_out_of_a_folder_are_refused(tmp_path, name):
    path = write_tar(tmp_path / "p.tar", "fine.jpg", name, "/etc/passwd", "../notes.txt")
    if not name.endswith(".jpg"):  # nothing is unpacked: what is no photo is let be
        assert contents(path) == {"fine.jpg": b"fine.jpg"}
        return
    assert refusal(path) == (
        f"Expected the photos in {path} to have relative names without `..`, but got {name!r}. "
        "Make the tar file from the photos' folder: tar -C FOLDER -cf NAME.tar ."
    )


def test_of_a_member_stored_twice_the_last_counts(tmp_path):
    path = write_tar(
        tmp_path / "p.tar",
        member("a.jpg", b"old"), "b.jpg", member("./a.jpg", b"new"), "c.jpg",
    )  # fmt: skip
    assert contents(path) == {"a.jpg": b"new", "b.jpg": b"b.jpg", "c.jpg": b"c.jpg"}
    order = [photo.id for photo in list_photos([path]).reading_order]
    assert order == ["b.jpg", "a.jpg", "c.jpg"]
    # As when it is unpacked.
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    assert contents(tmp_path / "unpacked") == contents(path)


def test_links_inside_are_what_they_point_at(tmp_path):
    path = write_tar(
        tmp_path / "p.tar",
        "x/a.jpg",
        link("hard.jpg", "x/a.jpg", tarfile.LNKTYPE),
        link("again.jpg", "./hard.jpg", tarfile.LNKTYPE),
        link("y/soft.jpg", "../x/a.jpg"),
        link("y/later.jpg", "z.jpg"),
        link("y/third.jpg", "second.jpg"),  # a link to a link to a link
        link("y/second.jpg", "later.jpg"),
        link("circle.jpg", "back.jpg"),
        link("back.jpg", "circle.jpg"),
        "y/z.jpg",
        member("x/a.jpg", b"second"),
        link("folder", "x"),
    )
    circle = [photo for photo in list_photos([path]) if photo.id in ("circle.jpg", "back.jpg")]
    for photo in circle:
        with pytest.raises(UnreadablePhotoError, match="no such photo is in the tar file"):
            photo.read()
    found = {photo.id: photo.read() for photo in list_photos([path]) if photo not in circle}
    assert found == {
        "x/a.jpg": b"second",
        "hard.jpg": b"x/a.jpg",  # what had the name before the link
        "again.jpg": b"x/a.jpg",
        "y/soft.jpg": b"second",
        "y/later.jpg": b"y/z.jpg",
        "y/second.jpg": b"y/z.jpg",
        "y/third.jpg": b"y/z.jpg",
        "y/z.jpg": b"y/z.jpg",
    }
    if GNU_TAR is not None:
        (tmp_path / "unpacked").mkdir()
        subprocess.run([GNU_TAR, "-C", tmp_path / "unpacked", "-xf", path], check=True)
        for id_, data in found.items():
            assert (tmp_path / "unpacked" / id_).read_bytes() == data


@pytest.mark.parametrize("target", ["/etc/motd.jpg", "../../a.jpg", "gone.jpg", "self.jpg"])
def test_a_link_to_elsewhere_is_listed_and_reported(tmp_path, target):
    path = write_tar(tmp_path / "p.tar", link("self.jpg", target), "b.jpg")
    fine, broken = list_photos([path])
    assert (fine.read(), broken.id) == (b"b.jpg", "self.jpg")
    with pytest.raises(UnreadablePhotoError, match=r"^it is a link to .*, and no such photo is in"):
        broken.read()


@pytest.mark.skipif(GNU_TAR is None, reason="there is no tar command")
@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_sparse_photos_are_refused(tmp_path, form):
    with (tmp_path / "a.jpg").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"end")
    path = tmp_path / "p.tar"
    command = [GNU_TAR, f"--format={form}", "--sparse", "-C", tmp_path, "-cf", path, "a.jpg"]
    subprocess.run(command, check=True)
    if path.stat().st_size > 1 << 20:
        pytest.skip("this file system stores no holes")
    said = refusal(path)
    assert "'a.jpg' is stored as a sparse file. Make the tar file without --sparse." in said


def test_a_name_that_is_no_utf8_gets_an_id_that_is(tmp_path):
    path = write_tar(tmp_path / "p.tar", "caf\udce9.jpg", form=tarfile.GNU_FORMAT)
    assert contents(path) == {"caf\\xe9.jpg": b"caf\xe9.jpg"}
    write_tar(path, "caf\udce9.jpg", "caf\\xe9.jpg", form=tarfile.GNU_FORMAT)
    assert "would have the id 'caf\\\\xe9.jpg': the bytes of one name are no UTF-8" in refusal(path)


def test_a_truncated_tar_is_refused_wherever_it_ends(tmp_path):
    path = write_tar(
        tmp_path / "whole.tar",
        member("a.jpg", b"a" * 700),
        "x" * 120 + "/é.jpg",
        member("b.jpg", b"b" * 512),
        member("empty.jpg", b""),
    )
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        end = archive.getmembers()[-1].offset_data
    assert len(contents(path)) == 4
    cut = tmp_path / "cut.tar"
    for length in [*range(0, end + 512, 64), end - 1, end + 511]:
        cut.write_bytes(whole[:length])
        said = refusal(cut)
        assert said.startswith(
            (f"The tar file {cut} is truncated", f"Expected `{cut}` to be a tar file, but")
        ), length
    # From the first whole block of zeros on nothing is lost.
    for length in (end + 512, end + 700, end + 1024, len(whole)):
        cut.write_bytes(whole[:length])
        assert contents(cut) == contents(path)


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path):
    path = write_tar(tmp_path / "p.tar", *(f"{number}.jpg" for number in range(6)))
    whole = path.read_bytes()
    for header in range(0, 6 * 1024, 1024):
        for place in (0, 100, 124, 150, 345):
            damaged = bytearray(whole)
            damaged[header + place] ^= 0x15
            path.write_bytes(damaged)
            assert refusal(path).startswith(("The tar file", "Expected `"))


def test_a_negative_size_does_not_loop(tmp_path):
    info = tarfile.TarInfo("a.jpg")
    raw = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    raw[124:136] = b"\xff" * 11 + b"\x00"  # -256, base 256
    raw[148:156] = b"%06o\0 " % (sum(raw[:148]) + 8 * 32 + sum(raw[156:]))
    path = tmp_path / "p.tar"
    path.write_bytes(bytes(raw) + bytes(2048))
    assert "the size of 'a.jpg' is negative" in refusal(path)


def test_two_tars_in_one_file_are_refused(tmp_path):
    a, b = write_tar(tmp_path / "a.tar", "a.jpg"), write_tar(tmp_path / "b.tar", "b.jpg")
    both = tmp_path / "both.tar"
    both.write_bytes(a.read_bytes() + b.read_bytes())
    assert refusal(both) == (
        f"Expected `{both}` to be one tar file, but something follows its end. Join tar files with "
        "`tar --concatenate`, not with cat, or give each by itself."
    )


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        ("p.tar.gz", "gunzip"),
        ("p.TGZ", "gunzip"),
        ("p.tar.zst", "unzstd"),
        ("p.tar.bz2", "bunzip2"),
        ("p.txz", "unxz"),
        ("p.zip", "unzip"),
    ],
)
def test_compressed_files_are_refused_with_the_remedy(tmp_path, name, tool):
    (tmp_path / name).write_bytes(b"whatever")
    said = refusal(tmp_path / name)
    assert said == (
        f"Expected `{tmp_path / name}` not to be compressed, for photos to be read one by one, "
        f"but it is. Unpack it first: {tool} {tmp_path / name}."
    )


def test_a_compressed_file_is_known_by_its_contents(tmp_path):
    path = write_tar(tmp_path / "p.tar", "a.jpg")
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert refusal(path).endswith(f"Unpack it first: gunzip < {path} > PLAIN.tar.")


def test_what_is_no_tar_or_holds_no_photo_is_refused(tmp_path):
    path = tmp_path / "p.tar"
    for data in (b"", b"no tar", b"\xff\xd8\xff" * 1000, os.urandom(3000)):
        path.write_bytes(data)
        assert refusal(path).startswith(f"Expected `{path}` to be a tar file, but it is not: ")
    for members in ((), ("notes.txt", ".a.jpg", "__MACOSX/a.jpg", "x/.y/a.jpg")):
        write_tar(path, *members)
        assert refusal(path).startswith(f"Expected `{path}` to hold photos, but it holds none.")


def test_a_folder_named_like_a_tar_is_a_folder(tmp_path):
    (tmp_path / "p.tar").mkdir()
    (tmp_path / "p.tar" / "a.jpg").write_bytes(b"x")
    assert contents(tmp_path / "p.tar") == {"a.jpg": b"x"}


def test_a_tar_that_changed_gives_no_bytes_of_another_photo(tmp_path):
    path = write_tar(tmp_path / "p.tar", member("a.jpg", b"old"), "b.jpg")
    photos = list_photos([path])
    write_tar(path, member("0.jpg", b"0" * 600), "a.jpg", "b.jpg")
    for photo in photos:
        with pytest.raises(UnreadablePhotoError, match=r"^the tar file has changed since"):
            photo.read()
    path.unlink()
    with pytest.raises(UnreadablePhotoError, match=r"^No such file"):
        photos[0].read()


def test_a_photo_takes_its_id_and_little_more(tmp_path):
    count = 3000
    path = write_tar(tmp_path / "p.tar", *(f"{number:08d}.jpg" for number in range(count)))
    list_photos([path])  # whatever is imported or cached once
    tracemalloc.start()
    try:
        photos = list_photos([path])
        taken, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(photos) == count
    # 12 bytes of id, 8 of where it ends, 4 of its number, 16 of its place; arrays grow by 1/8.
    assert taken / count < 56
    assert peak / count < 200  # `tarfile` itself keeps a kilobyte a member
