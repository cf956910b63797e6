"""Where stages end: rounds, limits, signals, tokens, and what they can't start with."""

import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest
from servers import WAIT
from stages import LIGHT, Reflected, page_of, pictures_on, stage
from tiny import call, the_error


@pytest.fixture
def album(mannequins: Path, tmp_path: Path) -> Path:
    """Give a folder with three mannequins."""
    folder = tmp_path / "album"
    folder.mkdir()
    for number in range(3):
        shutil.copy(mannequins / "photos" / f"{number:05d}.jpg", folder)
    return folder


def test_once_ends_with_out_of_range_and_a_mended_folder_goes_on(album, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(album / "00000.jpg", folder / "a.jpg")
    with stage("serve-source", folder, "--once", without=LIGHT) as server:
        source = Reflected(server.address)
        assert source.call("Get", source.request("Get")).data
        for _ in range(2):
            over = source.refusal("Get", source.request("Get"))
            assert over.code() is grpc.StatusCode.OUT_OF_RANGE
            assert over.details() == "All photos were given."
        assert len(list(source.stream("GetStream", source.request("GetStream")))) == 1
    with stage("serve-source", folder, without=LIGHT) as server:
        source = Reflected(server.address)

        def get() -> bytes:
            return source.call("Get", source.request("Get")).data

        first = get()
        shutil.copy(album / "00001.jpg", folder / "b.jpg")
        assert [get(), get(), get()] == [first, (folder / "b.jpg").read_bytes(), first]
        for file in folder.iterdir():
            file.write_bytes(b"no photo any more")
        for call in (source.call, lambda *given: list(source.stream(*given))):
            method = "Get" if call == source.call else "GetStream"
            with pytest.raises(grpc.RpcError) as caught:
                call(method, source.request(method))
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert "None of the photos can be read" in caught.value.details()
        shutil.rmtree(folder)
        gone = source.refusal("Get", source.request("Get"))
        assert gone.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "can't be listed any more" in gone.details()
        assert str(folder) not in gone.details()
        folder.mkdir()
        shutil.copy(album / "00002.jpg", folder)
        assert get() == (album / "00002.jpg").read_bytes()


def test_who_takes_no_photo_is_let_go(album, tmp_path):
    data = (album / "00000.jpg").read_bytes() + bytes(4 << 20)  # more than connections buffer
    (photos := tmp_path / "many").mkdir()
    for number in range(20):
        (photos / f"{number:02d}.jpg").write_bytes(data)
    metrics = ("--metrics-port", 0, "--idle-seconds", 0.3)
    with stage("serve-source", photos, *metrics, without=LIGHT) as server:
        source = Reflected(server.address)
        stream = source.stream("GetStream", source.request("GetStream"))
        next(stream)
        server.wait_until('vsam_requests_total{code="DEADLINE_EXCEEDED",method="GetStream"}', 1)
        with pytest.raises(grpc.RpcError) as caught:
            list(stream)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert caught.value.details() == "The client took no photo for 0.3 seconds."
        assert source.call("Get", source.request("Get")).data == data


def test_what_can_not_start_says_so_in_one_line(album, tiny_run, tmp_path, monkeypatch, capsys):
    empty, text = tmp_path / "empty", tmp_path / "text"
    empty.mkdir()
    text.mkdir()
    (text / "notes.md").write_text("no photo")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.jpg").write_bytes(b"no photo")
    tagging = ("--model", tiny_run, "--device", "cpu", "--page-port", 0)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        for arguments, told in (
            (("serve-source", empty), f"Expected `{empty}` to hold photos, but it holds none"),
            (("serve-source", text), f"Expected `{text}` to hold photos, but it holds none"),
            (("serve-source", tmp_path / "none"), "to be a folder or a photo, but it is not there"),
            (("serve-source", album, "--port", port), f"Could not listen on 127.0.0.1:{port}"),
            (("serve-source", album, "--host", "0.0.0.0"), "but others reach 0.0.0.0"),
            (("serve-view", "--port", 0, "--page-port", port), f"Could not listen on port {port}"),
            (("serve-view", "--port", 8099, "--page-port", 8099), "another port than"),
            (("serve-view", "--host", "::"), "but others reach ::"),
            (("serve-pose", "--pose-model", tmp_path / "x.task", "--port", 0), "is not there"),
            (("pipeline", empty, "--model", tmp_path), f"Expected `{empty}` to hold photos"),
            (("pipeline", broken, *tagging), "Expected photos that can be read, but there is none"),
            (("pipeline", album, "--model", empty, "--page-port", port), "for the page"),
            (("pipeline", album, "--seconds", "inf", *tagging), "Expected `seconds` to be from 0"),
            (("pipeline", album, "--seconds", 1e12, *tagging), "Expected `seconds` to be from 0"),
        ):
            assert call("vsam", arguments, monkeypatch) == 1, arguments
            assert told in the_error(capsys.readouterr().err), arguments


def test_a_stream_that_was_accepted_goes_on_when_the_source_is_told_to_end(album, tmp_path):
    data = (album / "00000.jpg").read_bytes() + bytes(4 << 20)  # more than connections buffer
    (photos := tmp_path / "many").mkdir()
    for number in range(10):
        (photos / f"{number:02d}.jpg").write_bytes(data)
    with stage("serve-source", photos, without=LIGHT) as server:
        source = Reflected(server.address)
        stream = source.stream("GetStream", source.request("GetStream"))
        next(stream)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("event=draining")
        late = source.refusal("Get", source.request("Get"))
        assert late.code() is grpc.StatusCode.UNAVAILABLE
        assert len(list(stream)) == 9
        # A second signal, which the end of the block would send, may come when nobody listens.
        assert server.process.wait(WAIT) == 0


def test_a_full_stage_refuses_at_once_and_recovers(album):
    image = {"data": (album / "00000.jpg").read_bytes()}
    options = ("--max-queue", 1, "--metrics-port", 0, "--page-port", 0)
    with stage("serve-view", *options, without=LIGHT) as server:
        view, silent = Reflected(server.address), threading.Event()

        def nothing():
            silent.wait(WAIT)
            yield from ()

        path = f"/{view.service}/Visualize"
        waiting = view.channel.stream_unary(path).future(nothing(), timeout=WAIT)
        server.wait_until("vsam_places_taken", 1)
        full = view.refusal("Visualize", view.request("Visualize", image=image))
        assert full.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        waiting.cancel()
        silent.set()
        server.wait_until("vsam_places_taken", 0)
        view.call("Visualize", view.request("Visualize", image=image))
        assert len(pictures_on(page_of(server))) == 1


def test_a_message_that_would_fill_the_memory_is_refused_unread(album):
    with stage("serve-view", "--page-port", 0, without=LIGHT) as server:
        view = Reflected(server.address)
        image = {"data": (album / "00000.jpg").read_bytes()}

        def request(entries: list[dict[str, object]]) -> Any:
            return view.request("Visualize", image=image, prediction={"attributes": entries})

        refused = view.refusal("Visualize", request([{}] * 200_000))
        assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.details() == (
            "Expected the message to have at most 262144 bytes beside its photo, but it has 400006."
        )
        many = [{"label": f"label {number}", "value": 0.5} for number in range(5000)]
        view.call("Visualize", request(many))
        [picture] = pictures_on(page_of(server))
        assert len(picture["attributes"]) == 30


def test_tokens_guard_a_stage_and_its_page(tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("of-the-test")
    options = ("--token-file", tokens, "--page-port", 0)
    with stage("serve-view", *options, without=LIGHT) as server:
        with grpc.insecure_channel(server.address) as channel:
            call = channel.unary_unary("/VisualizationService/Visualize")
            with pytest.raises(grpc.RpcError) as caught:
                call(b"", timeout=WAIT)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            with pytest.raises(grpc.RpcError) as caught:
                call(b"", timeout=WAIT, metadata=[("authorization", "Bearer of-the-test")])
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        page = page_of(server)
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(page, timeout=WAIT)
        asked = urllib.request.Request(page, headers={"Authorization": "Bearer of-the-test"})
        with urllib.request.urlopen(asked, timeout=WAIT) as answer:
            assert answer.status == 200
        assert "of-the-test" not in "\n".join(server.lines)


def test_the_commands_help_loads_nothing_heavy():
    heavy = ["torch", "grpc", "google.protobuf", "mediapipe", "prometheus_client", "numpy", "cv2"]
    for name in ("serve-pose", "serve-source", "serve-view", "pipeline"):
        program = (
            f"import sys; sys.argv = ['vsam', '{name}', '--help']\n"
            "from vsam_cli.main import run\n"
            "try: run()\n"
            f"finally: print('LOADED', [name for name in {heavy} if name in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=WAIT
        )
        assert done.returncode == 0, done.stderr
        assert f"Usage: vsam {name}" in done.stdout
        assert done.stdout.rstrip().endswith("LOADED []")
