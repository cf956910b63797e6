"""Outputs that would replace inputs, one another or devices are refused."""

import os
import sys

import pytest

from vsam_heatmaps.atomic import remove_leftovers, write_text
from vsam_heatmaps.errors import VsamError
from vsam_heatmaps.outputs import refuse_overwriting, refuse_photos
from vsam_heatmaps.photos import list_photos


def refusal(*given) -> str:
    with pytest.raises(VsamError) as refused:
        refuse_overwriting(*given)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_an_output_that_is_an_input_is_refused_whatever_its_path(tmp_path, monkeypatch):
    data = tmp_path / "data.csv"
    data.touch()
    (tmp_path / "link.csv").symlink_to(data)
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    for output in (data, data.relative_to(tmp_path), tmp_path / "link.csv", "sub/../data.csv"):
        message = refusal({"--out": output}, {"--photos": [tmp_path / "sub"], "--data": [data]})
        assert message == (
            f"Expected `--out` to be another file than those of --data, but got {output}. "
            "Name another."
        )
    refuse_overwriting({"--out": tmp_path / "other.csv", "--report": None}, {"--data": [data]})


def test_two_outputs_are_two_files(tmp_path):
    message = refusal({"--out": tmp_path / "z", "--report": tmp_path / "sub" / ".." / "z"})
    assert "Expected `--report` to be another file than those of --out" in message
    refuse_overwriting({"--out": tmp_path / "z", "--report": tmp_path / "y"})


def test_in_a_folder_that_is_read_only_photos_are_in_the_way(tmp_path):
    for name in ("1.jpg", "sub/2.PNG"):
        assert "--photos" in refusal({"--out": tmp_path / name}, {"--photos": [tmp_path]})
    refuse_overwriting({"--out": tmp_path / "predictions.csv"}, {"--photos": [tmp_path]})


@pytest.mark.skipif(sys.platform == "win32", reason="makes a pipe")
def test_a_pipe_or_device_is_refused_and_stays(tmp_path):
    pipe, link = tmp_path / "pipe", tmp_path / "stdout"
    os.mkfifo(pipe)
    link.symlink_to(pipe)  # as /dev/stdout is one
    for output in (pipe, link):
        assert refusal({"--report": output}) == (
            f"Expected `--report` to be a file, but got {output}, which is a pipe, a socket or a "
            "device. Name a file."
        )
        with pytest.raises(VsamError, match=r"^Expected `.*` to be a file, but it is a pipe, "):
            write_text(output, "new")
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert len(list(tmp_path.iterdir())) == 2


def test_what_a_link_leads_to_is_written_and_the_link_stays(tmp_path):
    (tmp_path / "far").mkdir()
    there, absent = tmp_path / "far" / "there.csv", tmp_path / "far" / "absent.csv"
    there.write_text("old")
    for target in (there, absent):
        link = tmp_path / target.name
        link.symlink_to(target)
        write_text(link, "new")
        assert link.is_symlink()
        assert target.read_text() == "new"
    assert len(list(tmp_path.rglob("*.*"))) == 4


def test_what_killed_processes_left_is_removed_where_a_link_leads(tmp_path):
    for folder in ("here", "far"):
        (tmp_path / folder).mkdir()
        for name in (".real[1].csv.0123abcd.tmp", ".real[1].csv.tmp", ".real1.csv.0123abcd.tmp"):
            (tmp_path / folder / name).touch()
    link = tmp_path / "here" / "link.csv"
    link.symlink_to(tmp_path / "far" / "real[1].csv")
    remove_leftovers(link)
    assert len(list((tmp_path / "here").iterdir())) == 4
    left = sorted(path.name for path in (tmp_path / "far").iterdir())
    assert left == [".real1.csv.0123abcd.tmp", ".real[1].csv.tmp"]


def test_photos_that_a_list_or_a_link_leads_to_are_in_the_way(tmp_path):
    (tmp_path / "far").mkdir()
    photo = tmp_path / "far" / "1.jpg"
    photo.touch()
    (tmp_path / "list.txt").write_text("far/1.jpg\nfar/absent.jpg\n")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "far")
    for given, output in (("list.txt", photo), ("in", photo), ("in", tmp_path / "in/link/1.jpg")):
        photos = list_photos(tmp_path / given)
        with pytest.raises(VsamError) as refused:
            refuse_photos({"--report": None, "--out": output}, photos)
        assert str(refused.value) == (
            f"Expected `--out` to be another file than the photos, but got {output}, which is the "
            f"photo {photos.ids[0]!r}. Name another."
        )
        refuse_photos({"--out": tmp_path / "list.txt", "--report": tmp_path / "new"}, photos)
