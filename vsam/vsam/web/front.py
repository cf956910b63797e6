"""Stand before the page's application: what no request gets past."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import HTTPException
from starlette.requests import ClientDisconnect

from ..serving.options import MIB

# What browsers may load, and from where: from here, whatever a script asks for. Gradio compiles
# templates in the browser ('unsafe-eval') and has scripts and styles in its page.
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_UPLOAD = "/gradio_api/upload"
_MAX_FILES = 20
"""An upload has so many files of the largest size, or more that are smaller: phones' are."""
_MAX_BODY = MIB
"""Bytes of any other request: what the page sends of its parts, and passwords, is far smaller."""


class Front:
    """Stands before an ASGI application.

    It adds headers, bounds what is received, and ends streams when the server ends.

    Args:
        app: The application.
        max_bytes: Largest file that can be uploaded.
    """

    def __init__(self, app: Any, *, max_bytes: int) -> None:
        self._app, self._max_upload = app, _MAX_FILES * max_bytes + _MAX_BODY
        self._answering: set[asyncio.Task[Any]] = set()
        self._ending = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._max_upload if scope["path"].rstrip("/") == _UPLOAD else _MAX_BODY
        answered = _Answered(send)
        task = asyncio.current_task()
        assert task is not None
        if scope["method"] == "GET":
            self._answering.add(task)
        try:
            await self._app(scope, _bounded(scope, receive, limit), answered.send)
        except ClientDisconnect:  # nobody waits for an answer, and the server has not failed
            pass
        except asyncio.CancelledError:
            if not self._ending:
                raise
            await answered.complete()
        finally:
            self._answering.discard(task)

    def end(self) -> None:
        """End what is being sent: each open page holds a stream that would never end by itself."""
        self._ending = True
        for task in self._answering:
            task.cancel()


class _Answered:
    """What was sent of an answer."""

    def __init__(self, send: Send) -> None:
        self._send, self._begun, self._done = send, False, False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            message["headers"] = [*message.get("headers", ()), *_HEADERS]
        self._done = message["type"] == "http.response.body" and not message.get("more_body")
        await self._send(message)

    async def complete(self) -> None:
        if self._begun and not self._done:
            await self._send({"type": "http.response.body", "body": b""})


def _bounded(scope: Message, receive: Receive, limit: int) -> Receive:
    """Refuse a request's body when it has, or says that it has, more bytes than a limit.

    Whoever reads it would keep it in memory, also that of a visitor without a password.
    """
    told = int(dict(scope["headers"]).get(b"content-length", 0))
    received = 0

    async def bounded() -> Message:
        nonlocal received
        if told <= limit:
            message = await receive()
            received += len(message.get("body", b""))
            if received <= limit:
                return message
        raise HTTPException(
            413, f"Expected a request of at most {limit} bytes. Send fewer or smaller photos."
        )

    return bounded
