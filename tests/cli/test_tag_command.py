"""`vsam tag`: what one photo's fault is, and what ends the command."""

import json
import threading

from pyarrow import table
from pyarrow.parquet import write_table
from servers import WAIT, colour, name, photo, steered
from tiny import call, the_error

from vsam.serving.client import TagClient


def album(tmp_path, **files: bytes):
    (folder := tmp_path / "album").mkdir()
    for stem, data in files.items():
        (folder / f"{stem}.png").write_bytes(data)
    return folder


def test_a_photo_that_is_far_too_large_is_told_and_the_others_are_tagged(
    tmp_path, monkeypatch, capsys
):
    large = photo(colour(2)) + bytes(25 << 20)
    photos = album(tmp_path, a=photo(colour(1)), b=large, c=photo(colour(3)))
    with steered(tmp_path / "gate") as server:
        assert call("vsam", ("tag", photos, "--server", server.address), monkeypatch) == 3
    said = capsys.readouterr()
    assert "unreadable: 'b.png': it is larger than the server takes" in said.err
    a, b, c = map(json.loads, said.out.splitlines())
    assert (a["category"], c["category"]) == (name(colour(1)), name(colour(3)))
    assert b.keys() == {"image", "error"}


def test_what_ends_it_names_the_photo(tmp_path, monkeypatch, capsys):
    photos, gate = album(tmp_path, a=photo(colour(1))), tmp_path / "gate"
    gate.touch()
    with steered(gate, max_queue=1) as server, TagClient(server.address, timeout=WAIT) as client:
        other = threading.Thread(target=client.predict, args=(photo(colour(0)),))
        other.start()
        server.wait_until("vsam_places_taken", 1)
        full = call("vsam", ("tag", photos, "--server", server.address), monkeypatch)
        told = the_error(capsys.readouterr().err)
        gate.unlink()
        other.join()
    assert full == 1
    assert told.startswith("error: Could not tag 'a.png'. The server at ")
    assert "(RESOURCE_EXHAUSTED)" in told
    assert call("vsam", ("tag", photos, "--server", "127.0.0.1:1"), monkeypatch) == 1
    told = the_error(capsys.readouterr().err)
    assert told.startswith("error: Could not tag 'a.png'. The server at 127.0.0.1:1 ")
    assert call("vsam", ("tag", photos, "--server", "localhost"), monkeypatch) == 1
    assert "to be HOST:PORT, as localhost:8061" in the_error(capsys.readouterr().err)


def test_a_column_of_photos_is_named_as_for_the_other_commands(tmp_path, monkeypatch, capsys):
    photos = tmp_path / "shop.parquet"
    front, back = photo(colour(1)), photo(colour(2))
    write_table(table({"id": ["a"], "front": [front], "back": [back]}), photos)
    with steered(tmp_path / "gate") as server:
        given = ("tag", photos, "--server", server.address)
        assert call("vsam", given, monkeypatch) == 1
        assert "Name one with --image-column." in the_error(capsys.readouterr().err)
        assert call("vsam", (*given, "--image-column", "back"), monkeypatch) == 0
    line = json.loads(capsys.readouterr().out)
    assert (line["image"], line["category"]) == ("a", name(colour(2)))
