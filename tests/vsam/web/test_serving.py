"""Who may see the page, and what it refuses to start with."""

import socket

import pytest
from tiny import call, the_error

from vsam.predictor import Predictor
from vsam.web.options import WebOptions, read_passwords
from vsam_heatmaps.errors import VsamError


def test_a_taken_port_is_one_line(capsys, monkeypatch, tiny_run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = ["web", "--model", tiny_run, "--port", port]
        assert call("vsam", arguments, monkeypatch) == 1
    assert f"127.0.0.1:{port}" in the_error(capsys.readouterr().err)


def test_others_need_a_password(capsys, monkeypatch, tiny_run, tmp_path):
    arguments = ["web", "--model", tiny_run, "--host", "0.0.0.0"]
    assert call("vsam", arguments, monkeypatch) == 1
    assert "--auth-file" in the_error(capsys.readouterr().err)
    WebOptions(host="0.0.0.0", insecure=True)
    WebOptions(host="0.0.0.0", auth_file=tmp_path / "passwords")
    with pytest.raises(VsamError, match="--predictions and --photos"):
        WebOptions(predictions=tmp_path / "p.jsonl")


def test_passwords(tmp_path):
    path = tmp_path / "passwords"
    path.write_text("ann:s3:cret\n\nbob:pä$$\n", encoding="utf-8")
    admits = read_passwords(path)
    assert admits("ann", "s3:cret")
    assert admits("bob", "pä$$")
    wrong = [("ann", "pä$$"), ("ann", ""), ("", ""), ("bob", "s3:cret"), ("Ann", "s3:cret")]
    assert not any(admits(*pair) for pair in wrong)
    for text, said in {
        "ann\n": "line 1",
        "": "empty",
        ":x": "line 1",
        "a:b\nann:": "line 2",
    }.items():
        path.write_text(text)
        with pytest.raises(VsamError, match=said):
            read_passwords(path)
    with pytest.raises(VsamError, match="none"):
        read_passwords(tmp_path / "none")


def test_the_page_is_closed_without_the_password(tiny_run, monkeypatch, tmp_path):
    pytest.importorskip("gradio")
    from fastapi.testclient import TestClient

    from vsam.web.server import make_app

    app = make_app(
        WebOptions(),
        lambda: Predictor.from_run(tiny_run, device="cpu"),
        lambda name, password: (name, password) == ("ann", "secret"),
    )
    with TestClient(app) as visitor:
        files = {"files": ("a.png", b"x")}
        assert visitor.post("/gradio_api/upload", files=files).status_code == 401
        assert visitor.get("/gradio_api/info").status_code == 401
        wrong = {"username": "ann", "password": "guess"}
        assert visitor.post("/login", data=wrong).status_code == 400
        right = {"username": "ann", "password": "secret"}
        assert visitor.post("/login", data=right).status_code == 200
        assert visitor.get("/gradio_api/info").status_code == 200
