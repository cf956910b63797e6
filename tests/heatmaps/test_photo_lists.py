"""Lists of photos: which files they name, under which ids, and what is no list."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsam_heatmaps import VsamError, list_photos
from vsam_heatmaps.errors import UnreadablePhotoError


def put(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def written(path, *lines: str, end="\n", encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode(encoding))
    return path


def contents(*inputs, **options) -> dict[str, bytes]:
    return {photo.id: photo.read() for photo in list_photos(inputs, **options)}


def refusal(*inputs, **options) -> str:
    with pytest.raises(VsamError) as refused:
        list_photos(inputs, **options)
    [line] = str(refused.value).splitlines()
    return line


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_lines_are_paths_relative_to_the_list(tmp_path, end, encoding):
    names = ["b.jpg", "x/été 日本.png", " a space.jpg ", "x/scan.dat", ".hidden.jpg"]
    put(tmp_path, *names, "not listed.jpg")
    lines = ["b.jpg", "", "x/été 日本.png", "   ", " a space.jpg ", "x/scan.dat", ".hidden.jpg"]
    path = written(tmp_path / "list.TXT", *lines, end=end, encoding=encoding)
    assert contents(path) == {name: name.encode() for name in names}
    path.write_bytes(path.read_bytes().removesuffix(end.encode()))  # the last line's end may lack
    assert contents(path) == {name: name.encode() for name in names}


def test_a_line_twice_counts_once(tmp_path):
    put(tmp_path, "a.jpg", "x/b.jpg")
    lines = [
        "a.jpg",
        "x/b.jpg",
        "a.jpg",
        "./a.jpg",
        "x//b.jpg",
        "x/../a.jpg",
        str(tmp_path / "a.jpg"),
    ]
    first, second = written(tmp_path / "1.txt", *lines), written(tmp_path / "2.txt", "a.jpg")
    assert contents(first, second, tmp_path) == {"a.jpg": b"a.jpg", "x/b.jpg": b"x/b.jpg"}


def test_what_is_not_there_is_listed_and_reported(tmp_path):
    put(tmp_path, "a.jpg", "folder/x.jpg")
    long = "n" * 300 + ".jpg"
    lines = ["gone.jpg", "gone.jpg", "x/../gone.jpg", "a.jpg", "folder", long]
    photos = list_photos([written(tmp_path / "list.txt", *lines)])
    assert photos.ids == ("a.jpg", "folder", "gone.jpg", long)
    for photo, said in zip(photos[1:], ("directory", "No such file", "too long"), strict=True):
        with pytest.raises(UnreadablePhotoError, match=said):
            photo.read()


def test_a_root_is_what_lines_and_ids_are_relative_to(tmp_path):
    put(tmp_path / "photos", "x/a.jpg", "y/a.jpg")
    lists = tmp_path / "lists"
    path = written(lists / "list.txt", "x/a.jpg", str(tmp_path / "photos/y/a.jpg"))
    wanted = {"x/a.jpg": b"x/a.jpg", "y/a.jpg": b"y/a.jpg"}
    assert contents(path, root=tmp_path / "photos") == wanted
    assert contents(path, tmp_path / "photos/x", root=tmp_path / "photos") == wanted
    path = written(lists / "list.txt", "photos/x/a.jpg")
    assert contents(path, root=tmp_path) == {"photos/x/a.jpg": b"x/a.jpg"}


@pytest.mark.parametrize("line", ["../photos/a.jpg", "/etc/a.jpg", ".", "x/../.."])
def test_a_line_that_leads_elsewhere_is_refused(tmp_path, line):
    path = written(tmp_path / "lists" / "list.txt", "fine.jpg", "", line)
    assert refusal(path) == (
        f"Expected line 3 of {path} to name a photo below {path.parent}, but got {line!r}. "
        "Name a folder above all photos with --root, and write paths that are relative to it."
    )


def test_a_step_back_behind_a_link_is_taken_as_the_system_does(tmp_path):
    put(tmp_path, "elsewhere/in/b.jpg", "elsewhere/a.jpg", "list/a.jpg")
    (tmp_path / "list" / "link").symlink_to(tmp_path / "elsewhere" / "in")
    path = written(tmp_path / "list" / "list.txt", "link/../a.jpg")
    assert contents(path) == {"a.jpg": b"elsewhere/a.jpg"}
    written(path, "link/../a.jpg", "a.jpg")
    assert refusal(path).startswith("Two photos have the id 'a.jpg': ")


def test_what_is_no_list_of_paths_is_refused(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"a.jpg\ncaf\xe9.jpg\n")
    assert refusal(path) == (
        f"Expected `{path}` to be a list in UTF-8, but its line 2 is not. Save it as UTF-8."
    )
    for encoding in ("utf-16", "utf-16-le"):
        path.write_bytes("a.jpg\nb.jpg\n".encode(encoding))
        assert refusal(path).endswith("Save it as UTF-8.")
    for nothing in (b"", b"\n \r\n\n", b"\xef\xbb\xbf\r\n"):
        path.write_bytes(nothing)
        assert refusal(path) == (
            f"Expected `{path}` to name photos, one path a line, but it is empty."
        )
    assert refusal(tmp_path / "none.txt").endswith("but it is not there.")


NAMES = st.lists(
    st.text(
        st.characters(exclude_characters="/\0\n", exclude_categories=["Cs"]), min_size=1
    ).filter(lambda part: part not in (".", "..")),
    min_size=1,
    max_size=4,
).map("/".join)


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(NAMES, min_size=1, max_size=20, unique=True).map(
        # What looks blank is left out, and one carriage return belongs to the line's end.
        lambda names: [name for name in names if name.strip(" \t\n\r\x0b\f") and name[-1] != "\r"]
    )
)
def test_any_name_comes_back_exactly(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("list") / "list.txt"
    for end in ("\n", "\r\n"):
        written(path, "always.jpg", *names, end=end)
        photos = list_photos([path])
        assert list(photos.ids) == sorted({"always.jpg", *names})
        assert all(photo.path == path.parent / photo.id for photo in photos)
