"""Who may see the page, and what it refuses to start with."""

import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from processes import logged, wait_until
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


def test_an_unknown_host_is_one_line(capsys, monkeypatch, tiny_run):
    arguments = ["web", "--model", tiny_run, "--host", "nobody.invalid", "--insecure"]
    assert call("vsam", arguments, monkeypatch) == 1
    told = the_error(capsys.readouterr().err)
    with pytest.raises(socket.gaierror) as caught:
        socket.getaddrinfo("nobody.invalid", 8062)
    assert f"Could not listen on nobody.invalid:8062: {caught.value.strerror}. " in told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_can_be_ended_while_it_loads(tiny_run, tmp_path, number):
    pytest.importorskip("gradio")
    vsam = Path(sys.executable).parent / "vsam"
    command = (vsam, "web", "--model", tiny_run, "--port", 0, "--device", "cpu")
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with logged(command, env=environment) as log:
        wait_until(lambda: list(tmp_path.iterdir()), log.process)  # its folder for uploads
        log.process.send_signal(number)
        assert log.wait() == 0
        assert log.lines == []
    assert list(tmp_path.iterdir()) == []


LOST_WHILE_IT_LOADS = """
import signal, weakref
from vsam.web import server

class Loaded:
    pass

def make_app(*arguments, whole=server.make_app):
    loaded = Loaded()
    callback = weakref.ref(loaded, lambda _: signal.raise_signal(signal.SIGINT))
    del loaded  # Python drops what the callback raises
    return whole(*arguments)

server.make_app = make_app
from vsam_cli.main import run
run()
"""


def test_an_interrupt_that_was_lost_ends_it_all_the_same(tiny_run, tmp_path):
    pytest.importorskip("gradio")
    options = ("web", "--model", tiny_run, "--port", 0, "--device", "cpu")
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = (sys.executable, "-c", LOST_WHILE_IT_LOADS, *options)
    with logged(command, env=environment) as log:
        assert log.wait() == 0
        assert log.lines == []
    assert list(tmp_path.iterdir()) == []


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
    path.write_text("ann:pä$$\r\nbob:x\r\n", encoding="utf-8-sig")  # as Windows' editors write it
    admits = read_passwords(path)
    assert admits("ann", "pä$$")
    assert admits("bob", "x")
    path.write_bytes("ann:s3cret\nbob:pä$$\n".encode("latin-1"))
    with pytest.raises(VsamError, match=r"passwords to be UTF-8, but byte 16 is not"):
        read_passwords(path)
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


@pytest.fixture(scope="module")
def app(tiny_run):
    """Give a page with a password."""
    pytest.importorskip("gradio")
    from vsam.web.server import make_app

    return make_app(
        WebOptions(max_bytes=200_000),
        lambda: Predictor.from_run(tiny_run, device="cpu"),
        lambda name, password: (name, password) == ("ann", "secret"),
    )


@pytest.fixture
def visitor(app):
    """Give a program that asks the page and has not given the password."""
    from fastapi.testclient import TestClient

    with TestClient(app) as client:
        yield client


def test_what_a_visitor_sends_is_bounded(visitor):
    def chunks():
        for _ in range(20):
            yield bytes(100_000)

    form = {"Content-Type": "application/x-www-form-urlencoded"}
    json = {"Content-Type": "application/json"}
    multipart = {"Content-Type": "multipart/form-data; boundary=x"}
    for path, headers in (
        ("/login", form),
        ("/gradio_api/queue/join", json),
        ("/gradio_api/run/predict", json),
        ("/gradio_api/call/predict", json),
        ("/gradio_api/call/v2/predict", json),
        ("/login", multipart),
    ):
        for content in (bytes(1_100_000), chunks()):  # the second doesn't say how many
            answer = visitor.post(path, headers=headers, content=content)
            assert answer.status_code == 413, (path, answer.text)
            assert "at most 1048576 bytes" in answer.text
    assert visitor.post("/gradio_api/upload", content=chunks()).status_code == 401


def test_an_upload_is_bounded_by_the_largest_files(visitor):
    right = {"username": "ann", "password": "secret"}
    assert visitor.post("/login", data=right).status_code == 200

    def upload(count):
        files = [("files", (f"{number}.png", bytes(190_000))) for number in range(count)]
        return visitor.post("/gradio_api/upload", files=files)

    assert len(upload(20).json()) == 20
    assert upload(30).status_code == 413
    assert "fewer or smaller photos" in upload(30).text
    large = {"files": ("a.png", bytes(210_000))}
    assert visitor.post("/gradio_api/upload", files=large).status_code == 413


def test_the_page_is_closed_without_the_password(visitor):
    files = {"files": ("a.png", b"x")}
    assert visitor.post("/gradio_api/upload", files=files).status_code == 401
    assert visitor.get("/gradio_api/info").status_code == 401
    wrong = {"username": "ann", "password": "guess"}
    assert visitor.post("/login", data=wrong).status_code == 400
    right = {"username": "ann", "password": "secret"}
    assert visitor.post("/login", data=right).status_code == 200
    assert visitor.get("/gradio_api/info").status_code == 200
