"""Serve the page from its first byte to its last: bind, load, answer, clean up."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from vsam_heatmaps import interrupts
from vsam_heatmaps.errors import VsamError

from .front import Front
from .options import WebOptions, read_passwords

if TYPE_CHECKING:
    from ..predictor import Predictor

_log = logging.getLogger("vsam.web")

_DRAIN = 3  # seconds for answers that are due when the server is told to end
_LEFT_FOR = 150  # seconds after which what an upload that broke off has left is removed
_LOCAL_NAMES = ["localhost", "127.0.0.1", "[::1]"]


def serve(options: WebOptions, load: Callable[[], Predictor]) -> None:
    """Serve the page until SIGTERM, SIGINT or SIGHUP, then return.

    While it loads, they end the process, with exit code 0 as well.

    Args:
        options: Where and how.
        load: Makes the model.

    Raises:
        VsamError: If the port or a file can't be used, or as `load`.
    """
    admits = None if options.auth_file is None else read_passwords(options.auth_file)
    with _signals_go_to(_end_loading), _bound(options) as listener, _private_cache() as cache:
        _before_gradio(cache)
        app = make_app(options, load, admits)
        interrupts.raise_lost()
        port = listener.getsockname()[1]
        host = f"[{options.host}]" if ":" in options.host else options.host
        _log.info("The page is at http://%s:%d; Ctrl-C ends it.", host, port)
        with _swept(cache):
            _run(app, listener)


@contextlib.contextmanager
def _signals_go_to(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let a function handle the signals that ask to end."""
    before = {number: signal.signal(number, handle) for number in interrupts.signals_to_end()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_loading(number: int, frame: FrameType | None) -> None:
    raise interrupts.noted(SystemExit(0))


@contextlib.contextmanager
def _bound(options: WebOptions) -> Iterator[socket.socket]:
    """Listen. Whoever comes before the model is loaded waits."""
    try:
        found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(found[4][:2], family=found[0])
    except OSError as error:
        unknown = isinstance(error, socket.gaierror)  # the host; its numbers are no errno's
        reason = error.strerror if unknown else os.strerror(error.errno or 0)
        raise VsamError(
            f"Could not listen on {options.host}:{options.port}: {reason}. "
            "Name another --port or --host."
        ) from error
    with listener:
        yield listener


@contextlib.contextmanager
def _private_cache() -> Iterator[Path]:
    """Make a folder that nobody else can read; remove it with all that is in it."""
    folder = Path(tempfile.mkdtemp(prefix="vsam-web-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _before_gradio(cache: Path) -> None:
    """Tell Gradio, which reads the environment when it is imported, to keep to this machine."""
    os.environ |= {"GRADIO_TEMP_DIR": str(cache), "GRADIO_ANALYTICS_ENABLED": "False"}
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    for noisy in ("httpx", "gradio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def make_app(
    options: WebOptions,
    load: Callable[[], Predictor],
    admits: Callable[[str, str], bool] | None,
) -> Front:
    """Load the model, and make the page around it: an ASGI application.

    Args:
        options: What it shows and whom it answers; host and port aren't used.
        load: Makes the model.
        admits: Says whether a name and a password may see the page; None lets everybody.

    Raises:
        VsamError: If examples, predictions or the pose model can't be used, or as `load`.
    """
    import gradio
    from fastapi import FastAPI
    from fastapi.middleware.trustedhost import TrustedHostMiddleware

    from .examples import draw_examples, find_examples
    from .gallery import Gallery, read_predictions
    from .look import script, style, theme
    from .page import Page
    from .poses import PoseFinder
    from .tagging import Tagger
    from .uploads import take_uploads_alone

    entries = [] if options.predictions is None else read_predictions(options.predictions)
    poses = PoseFinder(options.pose_model)
    tagger = Tagger(load(), max_bytes=options.max_bytes, max_pixels=options.max_pixels)
    examples = (
        draw_examples() if options.examples is None else find_examples(options.examples, tagger)
    )
    page = Page(tagger, poses, Gallery(entries, options.photos, tagger), examples)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    blocks = page.build()
    take_uploads_alone()
    app = gradio.mount_gradio_app(
        app,
        blocks,
        "/",
        auth=admits,
        auth_message="This page asks for a name and a password.",
        favicon_path=str(files(__package__) / "templates" / "icon.svg"),
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=options.max_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css=style(len(page.maps)),
        js=script(),
    )
    # As `launch` sets it. Before, Gradio would take SVGs that visitors upload for the page's own.
    blocks.is_running = True
    if options.is_local and admits is None:
        # Another site's name that leads to this machine must not open the page: its scripts would
        # count as ours.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*_LOCAL_NAMES, options.host])
    return Front(app, max_bytes=options.max_bytes)


@contextlib.contextmanager
def _swept(cache: Path) -> Iterator[None]:
    """Remove now and then what broken uploads left; Gradio's `delete_cache` knows whole ones."""
    ended = threading.Event()

    def sweep() -> None:
        while not ended.wait(_LEFT_FOR / 10):
            for path in cache.rglob("*"):
                with contextlib.suppress(OSError):
                    if path.is_file() and time.time() - path.stat().st_mtime > _LEFT_FOR:
                        path.unlink()

    sweeper = threading.Thread(target=sweep, name="sweep", daemon=True)
    sweeper.start()
    try:
        yield
    finally:
        ended.set()
        sweeper.join()


def _run(app: Front, listener: socket.socket) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """End with a signal, and don't raise it again: that is what it was for."""
            with _signals_go_to(self.handle_exit):
                yield

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.end()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=_DRAIN,
    )
    Server(config).run(sockets=[listener])
