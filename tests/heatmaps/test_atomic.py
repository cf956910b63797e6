"""Folders that appear at once, with all that they hold, or not at all."""

import pytest

from vsam_heatmaps import VsamError
from vsam_heatmaps.atomic import making_folder


def make(path, fill):
    with making_folder(path) as folder:
        fill(folder)


def names(folder) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_folder_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "out"

    def fill(folder):
        assert folder.parent == tmp_path
        assert folder.name.startswith(".")
        assert not path.exists()
        (folder / "some.txt").write_text("some")

    make(path, fill)
    assert (names(tmp_path), names(path)) == (["out"], ["some.txt"])


def test_what_fails_leaves_nothing(tmp_path):
    def fill(folder):
        (folder / "some.txt").write_text("some")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        make(tmp_path / "out", fill)
    assert names(tmp_path) == []


def test_what_the_system_refuses_is_one_line(tmp_path):
    with pytest.raises(VsamError) as refused:
        make(tmp_path / "out", lambda folder: (folder / "a" / "b").write_text("there is no a"))
    assert str(refused.value) == f"Could not write {tmp_path}/out: No such file or directory."
    (tmp_path / "file").touch()
    with pytest.raises(VsamError, match=r"^Could not write .*/file/out: "):
        make(tmp_path / "file" / "out", lambda folder: None)
    assert names(tmp_path) == ["file"]


def test_what_comes_meanwhile_is_not_overwritten(tmp_path):
    def fill(folder):
        (folder / "new.txt").write_text("new")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "other.txt").write_text("other")

    with pytest.raises(VsamError, match=r"/out: Directory not empty\.$"):
        make(tmp_path / "out", fill)
    assert (names(tmp_path), names(tmp_path / "out")) == (["out"], ["other.txt"])
