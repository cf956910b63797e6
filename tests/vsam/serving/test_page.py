"""The page with the latest pictures: what it gives to whom, and in a real browser."""

import base64
import contextlib
import http.client
import io
import itertools
import json
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from servers import WAIT

from vsam.serving import page as serving_page
from vsam.serving.options import ServiceOptions
from vsam.serving.page import Page, PageOptions
from vsam.serving.pictures import SIDE, Pictures, small_jpeg
from vsam_heatmaps.errors import VsamError

HOSTILE = "<img src=x onerror=\"document.title='hit'\"><script>document.title='hit'</script>"


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (40, 60)) -> bytes:
    return small_jpeg(np.full((size[1], size[0], 3), colour, np.uint8))


@pytest.fixture
def pictures() -> Pictures:
    return Pictures(4)


def opened(pictures: Pictures, **options) -> Iterator[Page]:
    page = Page(pictures, PageOptions(port=0), ServiceOptions(**options))
    page.open()
    try:
        yield page
    finally:
        page.close()


@pytest.fixture
def page(pictures) -> Iterator[Page]:
    yield from opened(pictures)


class Answer:
    def __init__(self, page: Page, path: str, method: str = "GET", **headers: str) -> None:
        scheme, _, rest = page.address.partition("://")
        context = ssl._create_unverified_context() if scheme == "https" else None
        make = http.client.HTTPSConnection if context else http.client.HTTPConnection
        connection = make(rest, timeout=WAIT, **({"context": context} if context else {}))
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        self.status, self.headers, self.body = response.status, response.headers, response.read()
        connection.close()


def test_it_shows_the_latest_and_forgets_the_others(page, pictures):
    for number in range(7):
        pictures.add(picture((30 * number, 0, 0)), [(f"c{number}", 0.5)], [])
    listed = json.loads(Answer(page, "/pictures.json").body)["pictures"]
    assert [each["categories"][0]["label"] for each in listed] == ["c6", "c5", "c4", "c3"]
    found = Answer(page, f"/pictures/{listed[0]['name']}.jpg")
    assert found.headers["Content-Type"] == "image/jpeg"
    assert abs(np.asarray(Image.open(io.BytesIO(found.body)))[0, 0, 0] - 180.0) < 4
    run = listed[0]["name"].split("-")[0]
    assert Answer(page, f"/pictures/{run}-1.jpg").status == 404  # it went
    assert Answer(page, f"/pictures/{run}-7.jpg").status == 200


def test_what_is_kept_of_a_picture_is_bounded():
    wide = np.zeros((10, 5000, 3), np.uint8)
    assert Image.open(io.BytesIO(small_jpeg(wide))).size == (SIDE, 1)
    small = np.zeros((30, 20, 3), np.uint8)
    assert Image.open(io.BytesIO(small_jpeg(small))).size == (20, 30)
    pictures = Pictures(2)
    pictures.add(b"jpeg", [("x" * 10_000, 0.1)] * 1000, [("y", 0.1)] * 1000)
    [kept] = pictures.newest_first()
    assert len(json.dumps(kept.describe())) < 10_000
    with pytest.raises(ValueError, match="'odd' is nan"):
        pictures.add(b"jpeg", [], [("fine", 0.5)] * 29 + [("odd", float("nan"))])
    assert len(pictures.newest_first()) == 1
    endless = itertools.chain([("fine", 0.5)] * 30, itertools.repeat(("unseen", float("nan"))))
    pictures.add(b"jpeg", [], endless)


def test_it_is_whole_and_allows_nothing_from_elsewhere(page):
    answer = Answer(page, "/")
    text = answer.body.decode()
    assert not re.search(r"https?://|src=|href=|@import|url\(", text)
    policy = dict(
        part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["img-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    for name in ("script-src", "style-src"):
        assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", policy[name])
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Server"] == "vsam"
    head = Answer(page, "/", "HEAD")
    assert head.body == b""
    assert head.headers["Content-Length"] == str(len(answer.body))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/none", 404),
        ("GET", "/pictures/../../etc/passwd", 404),
        ("GET", "/pictures/0-1.jpg", 404),
        ("GET", "/pictures/%00.jpg", 404),
        ("POST", "/", 501),
        ("DELETE", "/pictures.json", 501),
    ],
)
def test_it_gives_nothing_else(page, method, path, status):
    assert Answer(page, path, method).status == status
    assert Answer(page, "/").status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:1", 200),
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("192.0.2.1", 421),
        ("", 421),
    ],
)
def test_a_name_that_was_led_here_reads_nothing(page, host, status):
    assert Answer(page, "/pictures.json", Host=host).status == status


def test_tokens_are_asked_for(pictures, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("first\nsecond\n")

    def basic(text: str) -> str:
        return "Basic " + base64.b64encode(text.encode()).decode()

    for page in opened(pictures, token_file=tokens):
        for path in ("/", "/pictures.json", "/pictures/0-1.jpg"):
            refused = Answer(page, path)
            assert refused.status == 401
            assert refused.headers["WWW-Authenticate"].startswith("Basic ")
        for wrong in ("Bearer third", basic("first:third"), basic("first"), "Basic first", "first"):
            assert Answer(page, "/", Authorization=wrong).status == 401
        for right in ("Bearer first", "bearer second", basic("me:second"), basic(":first")):
            assert Answer(page, "/", Authorization=right).status == 200


@pytest.fixture
def certificate(tmp_path) -> tuple[Path, Path]:
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl command to make certificates with")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", key, "-out", cert),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


def test_it_has_tls_if_the_service_has(pictures, certificate):
    cert, key = certificate
    for page in opened(pictures, tls_cert=cert, tls_key=key):
        assert page.address.startswith("https://")
        assert Answer(page, "/").status == 200
        host, _, port = page.address.partition("://")[2].rpartition(":")
        with socket.create_connection((host, int(port)), WAIT) as plain:
            plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert b"HTTP" not in plain.recv(1000)
        assert Answer(page, "/").status == 200
    for page in opened(pictures, tls_cert=cert, tls_key=key, tls_client_ca=cert):
        with pytest.raises((OSError, http.client.HTTPException)):  # it has no certificate
            Answer(page, "/")


def test_who_says_nothing_holds_up_nobody(page):
    host, _, port = page.address.partition("://")[2].rpartition(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(12)]
    assert Answer(page, "/").status == 200
    for each in silent:
        each.close()


@pytest.mark.parametrize("tls", [False, True])
def test_who_sends_a_request_without_end_is_hung_up_on(pictures, certificate, monkeypatch, tls):
    monkeypatch.setattr(serving_page, "_SECONDS", 2.0)
    options = dict(zip(("tls_cert", "tls_key"), certificate, strict=True)) if tls else {}
    context = ssl._create_unverified_context()
    for page in opened(pictures, **options):
        host, _, port = page.address.partition("://")[2].rpartition(":")
        slow = []
        for _ in range(16):  # as many as there are threads
            connection = socket.create_connection((host, int(port)), WAIT)
            slow.append(context.wrap_socket(connection) if tls else connection)
        until, left = time.monotonic() + WAIT / 2, slow
        while left:  # a byte comes sooner than any timeout of a socket
            assert time.monotonic() < until
            time.sleep(0.1)
            left = [each for each in left if _is_heard(each)]
        assert Answer(page, "/").status == 200
        for each in slow:
            each.close()


def _is_heard(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"G")
    except OSError:  # it was hung up
        return False
    return True


def test_a_port_that_is_taken_is_named(page, pictures):
    port = int(page.address.rpartition(":")[2])
    second = Page(pictures, PageOptions(port=port), ServiceOptions())
    with pytest.raises(VsamError, match=rf"Could not listen on port {port} .* --page-port"):
        second.open()
    for values in ({"port": -1}, {"port": 65536}, {"pictures": 0}, {"pictures": 10**20}):
        with pytest.raises(VsamError, match=r"^Expected `p"):
            PageOptions(**values)


def test_in_a_browser_it_updates_itself_fits_a_phone_and_runs_no_label(
    page, pictures, browser, tmp_path
):
    tab = browser.new_page(viewport={"width": 375, "height": 700})
    wrong: list[str] = []
    tab.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    elsewhere = []
    tab.on(
        "request",
        lambda asked: None if asked.url.startswith(page.address) else elsewhere.append(asked.url),
    )
    tab.goto(page.address)
    tab.get_by_text("None came yet.").wait_for()
    pictures.add(
        picture((200, 120, 60), (400, 700)),
        [("Dress", 0.91), ("Skirt", 0.05)],
        [(f"attribute {number} of some length", 0.8) for number in range(9)],
    )
    tab.get_by_role("heading", name="Dress · 91 %").wait_for()  # nobody loaded it again
    pictures.add(picture((60, 120, 200)), [(HOSTILE, 0.5)], [("w" * 90, 0.7), (HOSTILE, 0.6)])
    tab.get_by_role("heading", name="<img src=x").wait_for()
    assert tab.title() == "Latest pictures"
    assert tab.locator("main script, main img[src=x]").count() == 0
    headings = tab.get_by_role("heading", level=2).all_inner_texts()
    assert headings[1] == "Dress · 91 %"  # the newest comes first
    assert tab.evaluate("document.documentElement.scrollWidth") == 375
    loaded = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
    tab.wait_for_function(loaded)
    for number in range(4):
        pictures.add(picture((0, 60 * number, 0)), [(f"Tee {number}", 0.5)], [])
    tab.get_by_role("heading", name="Tee 3").wait_for()
    assert tab.locator("#pictures > li").count() == 4
    tab.screenshot(path=tmp_path / "phone.png", full_page=True)
    assert wrong == []
    assert elsewhere == []
    page.close()
    tab.get_by_text("The server does not answer; asking again.").wait_for()
