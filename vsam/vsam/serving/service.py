"""`TagMyOutfitService`: what happens to a call from its first byte to its answer.

Both methods are registered as streams of requests, which on the wire is the same: so a call is
refused, or waits for room, before its photo is received.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import grpc

from .batching import Batcher, FullError
from .decoding import BadRequestError, Decoded, Decoder
from .logs import tell
from .messages import SERVICE, Prediction, PredictResponse, StreamPredictResponse
from .metrics import Metrics
from .options import MIB, ServerOptions

MAX_RESPONSE_BYTES = 64 * MIB
"""A stream's answer is one message: larger ones would fill the memory of both sides."""

_STREAMS = 0.25  # streams that may be open at once, as a share of the places
_SPARE = 0.5  # streams work on several photos at once while a smaller share of places is taken

Scores = Sequence[Mapping[str, Any]]
Answer = TypeVar("Answer")


class Model(Protocol):
    """What the service needs of a model."""

    def prepare(self, data: bytes) -> Any:
        """Decode a photo's file to the model's input; raises UnreadablePhotoError. In threads."""
        ...

    def predict(self, items: Sequence[Any]) -> Sequence[Any]:
        """Run the model on a batch. In one thread."""
        ...

    def describe(
        self, prediction: Any, *, all_categories: bool, all_attributes: bool
    ) -> tuple[Scores, Scores]:
        """List categories and attributes, each with its `label` and `score`."""
        ...


class _RefusedError(Exception):
    """A call ends with this status."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class TagService:
    """Answers calls. Until `open`, and from `close` on, it refuses them.

    Args:
        options: The limits.
        metrics: Told of each call.

    Attributes:
        calls: How many are being answered.
    """

    def __init__(self, options: ServerOptions, metrics: Metrics) -> None:
        self._options, self._metrics = options, metrics
        self._model: Model
        self._batcher: Batcher[Any, Any]
        self._decoder: Decoder[Any]
        self._receiving = asyncio.Semaphore(options.receiving)
        self._receiving_streams = asyncio.Semaphore(options.receiving)
        self._closed = "the model is being loaded"
        self._streams = 0
        self.calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def open(self, model: Model, batcher: Batcher[Any, Any], decoder: Decoder[Any]) -> None:
        """Begin to answer."""
        self._model, self._batcher, self._decoder = model, batcher, decoder
        self._closed = ""

    def close(self) -> None:
        """Refuse new calls; those that were accepted go on."""
        self._closed = "the server is ending"

    async def drained(self) -> None:
        """Wait for the end of the last call."""
        await self._idle.wait()

    def handler(self) -> grpc.GenericRpcHandler:
        """Give what a server registers."""
        methods = {
            "predict": (self._predict, PredictResponse),
            "stream_predict": (self._stream_predict, StreamPredictResponse),
        }
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                name: grpc.stream_unary_rpc_method_handler(
                    self._answering(name, work), response_serializer=kind.SerializeToString
                )
                for name, (work, kind) in methods.items()
            },
        )

    def _answering(
        self, method: str, work: Callable[[grpc.aio.ServicerContext], Awaitable[Answer]]
    ) -> Callable[..., Awaitable[Answer]]:
        async def answer(_: object, context: grpc.aio.ServicerContext) -> Answer:
            start, code, message = time.perf_counter(), grpc.StatusCode.OK, ""
            self.calls += 1
            self._idle.clear()
            try:
                self._require_open()
                return await work(context)
            except asyncio.CancelledError:  # by the client, its deadline, or the server's end
                code = grpc.StatusCode.CANCELLED
                raise
            except FullError:
                code = grpc.StatusCode.RESOURCE_EXHAUSTED
                message = "The server has as many photos as it takes. Try again later."
            except BadRequestError as error:
                code, message = grpc.StatusCode.INVALID_ARGUMENT, str(error)
            except _RefusedError as refused:
                code, message = refused.code, refused.message
            except Exception:
                code, message = grpc.StatusCode.INTERNAL, "The server failed; its log tells why."
                tell("failed", logging.ERROR, trace=True, method=method)
            finally:
                self.calls -= 1
                if not self.calls:
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
            raise _RefusedError(
                grpc.StatusCode.UNAVAILABLE, f"Not ready: {self._closed}. Try again later."
            )

    async def _predict(self, context: grpc.aio.ServicerContext) -> Any:
        with self._batcher.enter():
            async with self._receiving:
                message = await self._receive(context)
                if message is None:
                    raise BadRequestError("Expected one PredictRequest, but none came.")
                request = await self._decoder.decode(message)
                del message
            return await self._predicted(request, PredictResponse)

    async def _stream_predict(self, context: grpc.aio.ServicerContext) -> Any:
        response, size = StreamPredictResponse(), 0
        running: deque[asyncio.Task[Any]] = deque()

        async def finish_oldest() -> None:
            nonlocal size
            prediction = await running.popleft()
            size += prediction.ByteSize()
            if size > MAX_RESPONSE_BYTES:
                raise BadRequestError(
                    f"Expected a stream whose answer has at most {MAX_RESPONSE_BYTES} bytes, but "
                    f"photo {len(response.predictions)} exceeds them. Send shorter streams."
                )
            response.predictions.append(prediction)

        if self._streams >= max(1, int(_STREAMS * self._batcher.capacity)):
            raise FullError
        # Its own place lets a stream go on, photo by photo, however full the server is.
        with self._batcher.enter():
            self._streams += 1
            try:
                index = 0
                while (message := await self._receive(context)) is not None:
                    if index == self._options.max_stream:
                        raise BadRequestError(
                            f"Expected a stream of at most {index} photos, but it has more. "
                            "Send the others in another stream."
                        )
                    with contextlib.ExitStack() as room:
                        while running and not self._take_spare_place(len(running), room):
                            await finish_oldest()
                        await self._receiving_streams.acquire()
                        running.append(self._start(index, message, room.pop_all()))
                    del message  # else it stays until the next one is there
                    index += 1
                while running:
                    await finish_oldest()
            finally:
                self._streams -= 1
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)
        return response

    def _take_spare_place(self, running: int, room: contextlib.ExitStack) -> bool:
        if running >= self._options.max_batch:
            return False
        try:
            room.enter_context(self._batcher.enter(share=_SPARE))
        except FullError:
            return False
        return True

    def _start(self, index: int, message: bytes, room: contextlib.ExitStack) -> asyncio.Task[Any]:
        """Tag a photo of a stream beside others.

        `room`, and what was acquired to receive the photo, is given back when that ends, also if it
        is cancelled before its first step.
        """
        received = contextlib.ExitStack()
        received.callback(self._receiving_streams.release)
        task = asyncio.create_task(self._tag(index, message, received))

        def leave(_: object) -> None:
            received.close()
            room.close()

        task.add_done_callback(leave)
        return task

    async def _tag(self, index: int, message: bytes, received: contextlib.ExitStack) -> Any:
        try:
            with received:
                request = await self._decoder.decode(message, patient=True)
                del message
        except BadRequestError as error:
            raise BadRequestError(f"Photo {index} of the stream, from 0: {error}") from error
        return await self._predicted(request, Prediction)

    async def _receive(self, context: grpc.aio.ServicerContext) -> bytes | None:
        """Receive the next message; None at the end."""
        seconds = self._options.idle_seconds
        try:
            async with asyncio.timeout(seconds):
                message = await context.read()
        except TimeoutError as error:
            raise _RefusedError(
                grpc.StatusCode.DEADLINE_EXCEEDED, f"No whole request came for {seconds:g} seconds."
            ) from error
        return None if message is grpc.aio.EOF else message

    async def _predicted(self, request: Decoded[Any], kind: Callable[[], Any]) -> Any:
        """Run the model, and write what it says as a PredictResponse or a Prediction."""
        prediction = await self._batcher.predict(request.item)
        categories, attributes = self._model.describe(
            prediction,
            all_categories=request.all_categories,
            all_attributes=request.all_attributes,
        )
        answer = kind()
        for field, scores in ((answer.categories, categories), (answer.attributes, attributes)):
            for entry in scores:
                field.add(label=entry["label"], value=entry["score"])
        return answer
