"""The page with the latest pictures: over HTTP, from memory, for whom the service's rules admit."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import re
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import resources
from typing import Any

from vsam_heatmaps.errors import VsamError, expected

from .logs import tell
from .options import ServiceOptions, check_port, is_loopback
from .pictures import Pictures
from .security import tls_context
from .tokens import Tokens

DEFAULT_PAGE_PORT = 8062

_THREADS = 16  # that answer; who comes while all are busy is hung up on, and browsers come again
_SECONDS = 10.0  # in which a browser must send its whole request and take the answer

_HTML = resources.files(__package__).joinpath("page.html").read_bytes()


def _policy() -> str:
    """Allow the page's own style, script and pictures, by hash or place, and nothing else."""

    def hashes(tag: str) -> str:
        inside = re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), _HTML, re.DOTALL)
        digests = (base64.b64encode(hashlib.sha256(part).digest()).decode() for part in inside)
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    return "; ".join(
        (
            "default-src 'none'",
            f"style-src {hashes('style')}",
            f"script-src {hashes('script')}",
            "img-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


_HEADERS = {
    "Content-Security-Policy": _policy(),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """What a page is told beside the options of its service, whose host and protection it has.

    Attributes:
        port: 0 takes any that is free.
        pictures: How many of the latest pictures it shows.

    Raises:
        VsamError: If a value is out of its range.
    """

    port: int = DEFAULT_PAGE_PORT
    pictures: int = 24

    def __post_init__(self) -> None:
        check_port("page_port", self.port)
        if not 1 <= self.pictures <= sys.maxsize:
            raise expected("pictures", f"from 1 to {sys.maxsize}", self.pictures)


class Page:
    """Shows pictures until it is closed. With TLS if the service has it, and for its tokens alone.

    Args:
        pictures: What it shows.
        page: Its port.
        options: Host, TLS and tokens.

    Attributes:
        address: As browsers take it; empty until it is open.
    """

    def __init__(self, pictures: Pictures, page: PageOptions, options: ServiceOptions) -> None:
        self._pictures, self._page, self._options = pictures, page, options
        self._server: _Server | None = None
        self.address = ""

    def open(self) -> None:
        """Begin to answer, in threads.

        Raises:
            VsamError: If the port is taken, or a file of TLS or tokens can't be used.
        """
        options = self._options
        context = tls_context(options)
        tokens = Tokens(options.token_file) if options.token_file else None
        try:
            self._server = _Server(
                (options.host, self._page.port),
                pictures=self._pictures,
                tls=context,
                tokens=tokens,
                is_local=options.is_local,
            )
        except OSError as error:
            raise VsamError(
                f"Could not listen on port {self._page.port} of {options.host} for the page: "
                f"{error.strerror}. Name another --page-port."
            ) from error
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()
        scheme = "https" if context else "http"
        self.address = f"{scheme}://{options.address(self._server.server_port)}"

    def close(self) -> None:
        """Free the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Server(HTTPServer):
    """Answers in a few threads; TLS begins there, so who does not shake hands holds up nobody."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        pictures: Pictures,
        tls: Any,
        tokens: Tokens | None,
        is_local: bool,
    ) -> None:
        self.pictures, self.tokens, self.is_local = pictures, tokens, is_local
        self._tls = tls
        self._free = threading.BoundedSemaphore(_THREADS)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="page")
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family = found[0][0]
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind; the name of the host is not looked up, which may take long."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand a connection to a thread."""
        if self._free.acquire(blocking=False):
            self._pool.submit(self._answer, request, client_address)
        else:
            self.shutdown_request(request)

    def _answer(self, request: Any, client_address: Any) -> None:
        try:
            with contextlib.suppress(OSError):  # ssl's errors too: whoever it was has gone
                request.settimeout(_SECONDS)
                if self._tls is not None:
                    request = self._tls.wrap_socket(request, server_side=True)
                with _hung_up_on_in_time(request):
                    self.finish_request(request, client_address)
        except Exception:
            tell("failed", logging.ERROR, trace=True, method="page")
        finally:
            self.shutdown_request(request)
            self._free.release()

    def server_close(self) -> None:
        """Free the port; answers that are being given are not waited for."""
        super().server_close()
        self._pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def _hung_up_on_in_time(connection: socket.socket) -> Iterator[None]:
    """Hang up after some seconds: a socket's own timeout begins anew with each byte that comes."""

    def hang_up() -> None:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # not that of ssl: it is in use

    timer = threading.Timer(_SECONDS, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        """Give the page, the list of pictures, or a picture."""
        # Else a page elsewhere whose name is made to lead here could read what only we may.
        if self.server.is_local and not self._is_asked_for_here():
            self._give(HTTPStatus.MISDIRECTED_REQUEST, "text/plain", b"This host is not here.\n")
        elif self.server.tokens and not self.server.tokens.admits(
            self.headers.get("Authorization", "")
        ):
            self._give(
                HTTPStatus.UNAUTHORIZED,
                "text/plain",
                b"A token of this server is needed, as password; the name does not matter.\n",
                {"WWW-Authenticate": 'Basic realm="vsam", charset="UTF-8"'},
            )
        elif self.path == "/":
            self._give(HTTPStatus.OK, "text/html; charset=utf-8", _HTML)
        elif self.path == "/favicon.ico":  # browsers ask for one, and complain
            self._give(HTTPStatus.NO_CONTENT, "image/png", b"")
        elif self.path == "/pictures.json":
            listed = [picture.describe() for picture in self.server.pictures.newest_first()]
            self._give(HTTPStatus.OK, "application/json", json.dumps({"pictures": listed}).encode())
        elif (wanted := re.fullmatch(r"/pictures/([0-9a-f]+-[0-9]+)\.jpg", self.path)) and (
            picture := self.server.pictures.find(wanted[1])
        ):
            self._give(HTTPStatus.OK, "image/jpeg", picture.jpeg)
        else:
            self._give(HTTPStatus.NOT_FOUND, "text/plain", b"There is no such page.\n")

    do_HEAD = do_GET

    def _is_asked_for_here(self) -> bool:
        name = re.sub(r":\d+$", "", self.headers.get("Host", "")).strip("[]")
        if name == "localhost":
            return True
        try:
            return bool(re.fullmatch(r"[0-9a-fA-F.:]+", name)) and is_loopback(name)
        except VsamError:
            return False

    def _give(
        self, status: HTTPStatus, kind: str, body: bytes, more: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (_HEADERS | (more or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        """Tell no versions."""
        return "vsam"

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: a page asks each second."""
