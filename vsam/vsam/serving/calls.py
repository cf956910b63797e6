"""What happens to a call of any service, from its first byte to its answer.

All methods are registered as streams of requests, which on the wire is the same: so a call is
refused, or waits for room, before its photo is received.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Executor
from typing import Any, ClassVar

import grpc

from .batching import FullError, Places
from .decoding import BadRequestError, Decoded, Decoder, parsed
from .logs import tell
from .messages import Interface
from .metrics import Metrics
from .options import ServiceOptions

Method = Callable[[grpc.aio.ServicerContext], Awaitable[Any]]
"""Answers a call: gives its response, or writes the responses of a stream and gives nothing."""


class RefusedError(Exception):
    """A call ends with this status.

    Attributes:
        code: gRPC's status code.
        message: One line for the client.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Service(ABC):
    """Answers calls. Until `open`, and from `close` on, it refuses them.

    A server calls `load`, `start`, `open`, `close`, `cut` and `shut` in this order, and runs `work`
    from `start` to `shut`.

    Args:
        options: The limits.
        metrics: Told of each call.

    Attributes:
        interface: What it is on the wire.
        needs: What `load` loads, for whom asks too early.
    """

    interface: ClassVar[Interface]
    needs: ClassVar[str] = "the model"

    def __init__(self, options: ServiceOptions, metrics: Metrics) -> None:
        self._options, self._metrics = options, metrics
        self._closed = f"{self.needs} is being loaded"
        self._running: set[asyncio.Task[Any]] = set()
        self._cut = False
        self._idle = asyncio.Event()
        self._idle.set()

    @abstractmethod
    def load(self) -> None:
        """Load what answers need, in a thread.

        Raises:
            VsamError: If something is wrong with it; the server ends.
        """

    @abstractmethod
    def start(self, thread: Executor) -> None:
        """Prepare for calls; on the event loop.

        Args:
            thread: The one in which `load` ran.
        """

    @abstractmethod
    def methods(self) -> Mapping[str, Method]:
        """Give what answers each method of the interface."""

    @property
    def about(self) -> dict[str, object]:
        """What the log says when it is ready."""
        return {}

    async def work(self) -> None:
        """Do what is no call's own, until cancelled."""
        await asyncio.Event().wait()

    @abstractmethod
    def shut(self) -> None:
        """Wait for threads, and end them; not on the event loop."""

    def open(self) -> None:
        """Begin to answer."""
        self._closed = ""

    def close(self) -> None:
        """Refuse new calls; those that were accepted go on."""
        self._closed = "the server is ending"

    @property
    def calls(self) -> int:
        """How many are being answered."""
        return len(self._running)

    def cut(self) -> None:
        """End the calls that are left: they are told that the server ended."""
        self._cut = True
        for task in self._running:
            task.cancel()

    async def drained(self) -> None:
        """Wait for the end of the last call."""
        await self._idle.wait()

    def handler(self) -> grpc.GenericRpcHandler:
        """Give what a server registers."""
        works, handlers = self.methods(), {}
        for method in self.interface.methods:
            kind = self.interface.message(method.output_type.name)
            register = (
                grpc.stream_stream_rpc_method_handler
                if method.server_streaming
                else grpc.stream_unary_rpc_method_handler
            )
            handlers[method.name] = register(
                self._answering(method.name, works[method.name]),
                response_serializer=kind.SerializeToString,
            )
        return grpc.method_handlers_generic_handler(self.interface.service, handlers)

    def _answering(self, method: str, work: Method) -> Callable[..., Awaitable[Any]]:
        async def answer(_: object, context: grpc.aio.ServicerContext) -> Any:
            start, code, message = time.perf_counter(), grpc.StatusCode.OK, ""
            task = asyncio.current_task()
            assert task is not None
            self._running.add(task)
            self._idle.clear()
            try:
                self._require_open()
                return await work(context)
            except asyncio.CancelledError:  # by `cut`, the client, or its deadline
                if not self._cut:
                    code = grpc.StatusCode.CANCELLED
                    raise
                code, message = grpc.StatusCode.UNAVAILABLE, "The server ended. Try again later."
            except FullError:
                code = grpc.StatusCode.RESOURCE_EXHAUSTED
                message = "The server has as many photos as it takes. Try again later."
            except BadRequestError as error:
                code, message = grpc.StatusCode.INVALID_ARGUMENT, str(error)
            except RefusedError as refused:
                code, message = refused.code, refused.message
            except grpc.aio.InternalError:  # a write failed: the client left, and was not seen to
                code = grpc.StatusCode.CANCELLED
                raise
            except Exception:
                code, message = grpc.StatusCode.INTERNAL, "The server failed; its log tells why."
                tell("failed", logging.ERROR, trace=True, method=method)
            finally:
                self._running.discard(task)
                if not self._running:
                    self._idle.set()
                seconds = time.perf_counter() - start
                self._metrics.observe(method, code.name, seconds)
                tell(
                    "call",
                    logging.DEBUG,
                    method=method,
                    code=code.name,
                    ms=f"{1000 * seconds:.1f}",
                    peer=context.peer(),
                )
            await context.abort(code, message)
            raise AssertionError("abort raises")

        return answer

    def _require_open(self) -> None:
        if self._closed:
            raise RefusedError(
                grpc.StatusCode.UNAVAILABLE, f"Not ready: {self._closed}. Try again later."
            )

    def _watch(self, places: Places) -> None:
        """Report how many places are taken."""
        self._metrics.watch("vsam_places_taken", "Photos in the server.", lambda: places.taken)

    @contextlib.asynccontextmanager
    async def _in_time(self, late: str) -> AsyncIterator[None]:
        """End a call whose client does nothing for too long; `late` says what it should have."""
        seconds = self._options.idle_seconds
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise RefusedError(
                grpc.StatusCode.DEADLINE_EXCEEDED, f"{late} for {seconds:g} seconds."
            ) from error

    async def _receive(self, context: grpc.aio.ServicerContext) -> bytes | None:
        """Receive the next message; None at the end."""
        async with self._in_time("No whole request came"):
            message = await context.read()
        return None if message is grpc.aio.EOF else message

    async def _receive_one(self, context: grpc.aio.ServicerContext, kind: Any) -> bytes:
        """Receive the only message."""
        message = await self._receive(context)
        if message is None:
            name = kind.DESCRIPTOR.name
            raise BadRequestError(f"Expected one {name}, but none came.")
        return message

    async def _receive_parsed(self, context: grpc.aio.ServicerContext, kind: Any) -> Any:
        """Receive the only message, a small one, and parse it."""
        return parsed(kind, await self._receive_one(context, kind))


class PhotoService(Service):
    """A service that is sent photos.

    Args:
        options: The limits.
        metrics: Told of each call, and of places that are taken.

    Attributes:
        request: The message with a photo, and `photo` its field: `image.data` is a field's field.
    """

    request: ClassVar[Any]
    photo: ClassVar[str]

    def __init__(self, options: ServiceOptions, metrics: Metrics) -> None:
        super().__init__(options, metrics)
        self._receiving = asyncio.Semaphore(options.receiving)
        self._decoder: Decoder[Any]
        self._places: Places

    @abstractmethod
    def prepare(self, data: bytes) -> Any:
        """Make of a photo's file what an answer needs of it; in threads.

        Raises:
            UnreadablePhotoError: If it can't be decoded.
        """

    def start(self, thread: Executor) -> None:
        """Start the threads that decode; see `Service.start`."""
        self._decoder = Decoder(
            self.prepare,
            workers=self._options.workers,
            max_bytes=self._options.max_bytes,
            max_large=self._options.max_large,
            request=self.request,
            photo=self.photo,
        )
        self._places = self._make_places(thread)
        self._watch(self._places)

    def _make_places(self, thread: Executor) -> Places:
        return Places(self._options.capacity)

    @property
    def about(self) -> dict[str, object]:
        """How many photos it takes."""
        return {"places": self._options.capacity}

    def shut(self) -> None:
        """Wait for photos that are being decoded."""
        self._decoder.close()

    async def _photo(self, context: grpc.aio.ServicerContext) -> Decoded[Any]:
        """Receive the only photo of a call, which has a place, and prepare it."""
        async with self._receiving:
            message = await self._receive_one(context, self.request)
            return await self._decoder.decode(message)
