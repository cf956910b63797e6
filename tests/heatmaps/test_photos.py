"""Folders full of photos: which are listed, in what order, under which ids, in what memory."""

import os
import pickle
import tracemalloc
from pathlib import Path

import pytest

from vsam_heatmaps import VsamError, list_photos, read_photo
from vsam_heatmaps.errors import UnreadablePhotoError
from vsam_heatmaps.photos import Photo


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


def put(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def ids(*inputs, **options):
    photos = list_photos(inputs, **options)
    assert all(photo.path.name for photo in photos)
    return [photo.id for photo in photos]


def test_recursive_sorted_by_id_and_by_extension(folder):
    kinds = "jpg jpeg jpe jfif png webp gif bmp tif tiff JPG Png".split()
    put(folder, *(f"k.{kind}" for kind in kinds), "b/z.jpg", "b/c/a.jpg", "a.jpg")
    put(folder, "notes.txt", "labels.csv", "jpg", "photo.jpg.part", "b/raw.heic")
    wanted = sorted([*(f"k.{kind}" for kind in kinds), "b/z.jpg", "b/c/a.jpg", "a.jpg"])
    assert ids(folder) == wanted
    assert [p.path for p in list_photos([folder])] == [folder / id_ for id_ in wanted]


def test_paths_may_be_text_and_one_needs_no_list(folder):
    put(folder, "a.jpg", "b.jpg")
    for inputs in (folder, str(folder), [str(folder)], os.fspath(folder)):
        assert [photo.id for photo in list_photos(inputs)] == ["a.jpg", "b.jpg"]
    [photo] = list_photos(str(folder / "a.jpg"), root=str(folder.parent))
    assert photo.id == "photos/a.jpg"
    with pytest.raises(UnreadablePhotoError, match="it is not an image"):
        read_photo(str(folder / "a.jpg"))


def test_hidden_files_and_folders_are_left_out(folder):
    put(folder, "a.jpg", ".b.jpg", ".thumbs/c.jpg", "d/.e.jpg")
    assert ids(folder) == ["a.jpg"]


def test_a_folder_named_like_a_photo_is_a_folder(folder):
    put(folder, "album.jpg/a.jpg")
    assert ids(folder) == ["album.jpg/a.jpg"]


def test_links_are_followed_once_and_loops_end(folder, tmp_path):
    put(folder, "a/one.jpg", "z/two.jpg")
    elsewhere = tmp_path / "elsewhere"
    put(elsewhere, "three.jpg")
    (folder / "a" / "up").symlink_to(folder)
    (folder / "b_again").symlink_to(folder / "z")
    (folder / "outside").symlink_to(elsewhere)
    (folder / "link.jpg").symlink_to(elsewhere / "three.jpg")
    assert ids(folder) == ["a/one.jpg", "link.jpg", "outside/three.jpg", "z/two.jpg"]


def test_a_folder_keeps_its_name_whatever_links_lead_to_it(folder, tmp_path):
    put(folder, "a/0.jpg", "z/deep/1.jpg")
    (folder / "a" / "deeper").symlink_to(folder / "z" / "deep")  # it comes before z
    (folder / "a" / "other").symlink_to(folder / "z")
    assert ids(folder) == ["a/0.jpg", "z/deep/1.jpg"]
    # What is reached in no other way has the link's name.
    put(tmp_path / "elsewhere", "b/2.jpg")
    (folder / "a" / "there").symlink_to(tmp_path / "elsewhere")
    assert ids(folder) == ["a/0.jpg", "a/there/b/2.jpg", "z/deep/1.jpg"]


def test_a_link_to_a_folder_may_be_given(folder, tmp_path):
    put(folder, "a.jpg")
    (tmp_path / "link").symlink_to(folder)
    assert ids(tmp_path / "link") == ["a.jpg"]


def test_a_broken_link_is_listed_and_reported(folder):
    put(folder, "a.jpg")
    (folder / "b.jpg").symlink_to(folder / "gone.jpg")
    assert ids(folder) == ["a.jpg", "b.jpg"]
    with pytest.raises(UnreadablePhotoError, match="No such file"):
        read_photo(list_photos([folder])[1].path)


def test_links_that_no_system_follows_are_listed_and_reported(folder):
    put(folder, "a.jpg")
    reasons = {"circle": "Too many levels of symbolic links", "long": "File name too long"}
    for name, target in (("circle", "circle.jpg"), ("long", "x" * 300)):
        (folder / f"{name}.jpg").symlink_to(target)
        (folder / name).symlink_to(target)  # neither a photo nor a folder
    assert ids(folder) == ["a.jpg", "circle.jpg", "long.jpg"]
    for photo in list_photos([folder])[1:]:
        with pytest.raises(UnreadablePhotoError, match=f"^{reasons[photo.path.stem]}$"):
            photo.read()


def test_any_name_that_the_system_allows(folder):
    names = ["a b.jpg", "été 日本 👗.jpg", "new\nline.jpg", "quote'\".jpg", "-rf.jpg", "%s.jpg"]
    put(folder, *names)
    assert ids(folder) == sorted(names)


def test_a_name_that_is_no_utf8_gets_an_id_that_is(folder):
    name = os.path.join(os.fsencode(folder), b"caf\xe9.jpg")  # noqa: PTH118
    try:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
    except OSError:
        pytest.skip("this file system allows UTF-8 names only")
    [photo] = list_photos([folder])
    assert photo.id == "caf\\xe9.jpg"
    assert os.fsencode(photo.path) == name
    photo.id.encode()


def test_files_have_their_name_for_an_id(folder):
    put(folder, "x/a.jpg", "x/scan.dat")
    # What is named explicitly is taken, whatever its extension.
    assert ids(folder / "x/a.jpg", folder / "x/scan.dat") == ["a.jpg", "scan.dat"]


def test_root_chooses_the_ids(folder, tmp_path):
    put(folder, "x/a.jpg", "y/a.jpg")
    assert ids(folder / "x", folder / "y/a.jpg", root=folder) == ["x/a.jpg", "y/a.jpg"]
    assert ids(folder, root=tmp_path) == ["photos/x/a.jpg", "photos/y/a.jpg"]


def test_the_same_photo_given_twice_counts_once(folder):
    put(folder, "a.jpg")
    assert ids(folder, folder / "a.jpg", folder) == ["a.jpg"]


def test_two_photos_with_one_id_are_refused(folder):
    put(folder, "x/a.jpg", "y/a.jpg")
    with pytest.raises(VsamError) as refused:
        list_photos([folder / "x", folder / "y"])
    assert str(refused.value) == (
        f"Two photos have the id 'a.jpg': {folder}/x/a.jpg and {folder}/y/a.jpg. "
        "Name a folder above both with --root."
    )


def test_what_does_not_lie_below_the_root_is_refused(folder, tmp_path):
    put(folder, "a.jpg")
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(VsamError, match=r"^Expected `.*a\.jpg` to lie below the root .*other"):
        list_photos([folder], root=other)


def test_missing_and_empty_inputs_are_refused(folder, tmp_path):
    with pytest.raises(VsamError, match=r"none` to be a folder or a photo, but it is not th"):
        list_photos([tmp_path / "none"])
    put(folder, "notes.txt")
    with pytest.raises(VsamError, match=r"^Expected `.*photos` to hold photos, but it holds "):
        list_photos([folder])


def test_it_is_a_sequence_of_photos(folder):
    put(folder, "b.jpg", "a.jpg", "c/d.jpg", "c/e.jpg")
    photos = list_photos([folder])
    wanted = [Photo(id_, folder / id_) for id_ in ("a.jpg", "b.jpg", "c/d.jpg", "c/e.jpg")]
    assert list(photos) == wanted
    assert [photos[number] for number in range(-4, 4)] == wanted * 2
    assert photos[1:3] == wanted[1:3]
    assert photos[3:] + photos[9:] == wanted[3:]
    assert (wanted[2] in photos, Photo("x.jpg", folder / "x.jpg") in photos) == (True, False)
    assert list(reversed(photos)) == wanted[::-1]
    assert list(pickle.loads(pickle.dumps(photos))) == wanted
    assert list(photos.ids) == [photo.id for photo in wanted]
    with pytest.raises(IndexError):
        photos[4]


def test_the_order_is_that_of_strings(folder):
    """Not of folders first, nor of the bytes of UTF-16."""
    names = ["a.jpg", "a/z.jpg", "a-b.jpg", "A.jpg", "é.jpg", "\uffee.jpg", "👗.jpg", "a/.x/n.jpg"]
    put(folder, *names)
    assert ids(folder) == sorted(names[:-1])


def test_paths_are_those_that_the_user_named(folder, tmp_path, monkeypatch):
    put(folder, "x/a.jpg", "x/y/b.jpg", "c.jpg")
    monkeypatch.chdir(folder / "x")
    for inputs, root, wanted in (
        (["."], None, {"a.jpg": "a.jpg", "y/b.jpg": "y/b.jpg"}),
        (["../x"], None, {"a.jpg": "../x/a.jpg", "y/b.jpg": "../x/y/b.jpg"}),
        (["."], "..", {"x/a.jpg": "a.jpg", "x/y/b.jpg": "y/b.jpg"}),
        (["y"], folder, {"x/y/b.jpg": "y/b.jpg"}),
        # A root below the folder, and a file and a folder from two places.
        (["y/..", "y/b.jpg"], ".", {"a.jpg": "y/../a.jpg", "y/b.jpg": "y/../y/b.jpg"}),
        (["y/b.jpg", "../c.jpg"], None, {"b.jpg": "y/b.jpg", "c.jpg": "../c.jpg"}),
        (["y/b.jpg", "../c.jpg"], folder, {"x/y/b.jpg": "y/b.jpg", "c.jpg": "../c.jpg"}),
    ):
        photos = list_photos(map(Path, inputs), root=root and Path(root))
        assert {photo.id: str(photo.path) for photo in photos} == wanted
        assert all(photo.path.read_bytes() == b"x" for photo in photos)
    (tmp_path / "link").symlink_to(folder / "x")
    [first, _] = list_photos([tmp_path / "link"], root=tmp_path)
    assert (first.id, first.path) == ("link/a.jpg", tmp_path / "link" / "a.jpg")


def test_names_that_are_no_utf8_keep_their_paths_below_such_folders(folder):
    odd = os.fsencode(folder) + b"/caf\xe9"
    try:
        os.mkdir(odd)  # noqa: PTH102
    except OSError:
        pytest.skip("this file system allows UTF-8 names only")
    for name in (b"/a.jpg", b"/\xff.jpg", b"/z\\xff.jpg"):
        Path(os.fsdecode(odd + name)).write_bytes(name)
    wanted = {
        "caf\\xe9/a.jpg": b"/a.jpg",
        "caf\\xe9/\\xff.jpg": b"/\xff.jpg",
        "caf\\xe9/z\\xff.jpg": b"/z\\xff.jpg",
    }
    for inputs in ([folder], [Path(os.fsdecode(odd))]):
        photos = list_photos(inputs, root=folder)
        assert {photo.id: photo.path.read_bytes() for photo in photos} == wanted
        assert [photo.id for photo in photos] == sorted(wanted)


def test_of_many_clashes_the_first_is_told(folder):
    put(folder, "x/a.jpg", "x/b.jpg", "y/b.jpg", "y/a.jpg", "z/a.jpg")
    with pytest.raises(VsamError, match=r"the id 'b\.jpg': .*x/b.jpg and .*y/b.jpg"):
        list_photos([folder / "x", folder / "y" / "b.jpg", folder / "y", folder / "z"])


def test_a_photo_takes_its_id_and_little_more(folder):
    count = 3000
    put(folder, *(f"{number % 3}/{number:06d}.jpg" for number in range(count)))
    list_photos([folder])  # whatever is imported or cached once
    tracemalloc.start()
    try:
        photos = list_photos([folder])
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(photos) == count
    # 12 bytes of id, 8 of where it ends, 4 of where it comes from; arrays grow by an eighth.
    assert taken / count < 40
