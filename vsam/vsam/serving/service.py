"""`TagMyOutfitService`: photos to tags, in batches."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, Protocol

import grpc

from .batching import Batcher, FullError, Places
from .calls import Method, PhotoService
from .decoding import BadRequestError, Decoded
from .messages import (
    PHOTO,
    TAG_MY_OUTFIT,
    Prediction,
    PredictRequest,
    PredictResponse,
    StreamPredictResponse,
)
from .metrics import Metrics
from .options import MIB, ServerOptions

MAX_RESPONSE_BYTES = 64 * MIB
"""A stream's answer is one message: larger ones would fill the memory of both sides."""

_STREAMS = 0.25  # streams that may be open at once, as a share of the places
_SPARE = 0.5  # streams work on several photos at once while a smaller share of places is taken
_FIRST = asyncio.FIRST_COMPLETED

Scores = Sequence[Mapping[str, Any]]


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


class TagService(PhotoService):
    """Answers `TagMyOutfitService` out of batches.

    Args:
        options: The limits.
        metrics: Told of each call and batch.
        load: Makes the model; runs in the thread that will run it.
    """

    interface = TAG_MY_OUTFIT
    request = PredictRequest
    photo = PHOTO

    def __init__(self, options: ServerOptions, metrics: Metrics, load: Callable[[], Model]) -> None:
        super().__init__(options, metrics)
        self._limits, self._load = options, load
        self._model: Model
        self._batcher: Batcher[Any, Any]
        self._receiving_streams = asyncio.Semaphore(options.receiving)
        self._streams = 0

    def load(self) -> None:
        """Load the model."""
        self._model = self._load()

    def prepare(self, data: bytes) -> Any:
        """Make of a photo's file the model's input."""
        return self._model.prepare(data)

    def _make_places(self, thread: Executor) -> Places:
        self._batcher = Batcher(
            self._model.predict,
            thread,
            max_batch=self._limits.max_batch,
            max_wait=self._limits.max_wait_ms / 1000,
            capacity=self._limits.capacity,
            on_batch=self._metrics.batch,
        )
        self._metrics.watch(
            "vsam_queue_photos", "Photos that wait for the model.", lambda: self._batcher.waiting
        )
        return self._batcher

    @property
    def about(self) -> dict[str, object]:
        """How many photos it takes at once, and altogether."""
        return {"max_batch": self._limits.max_batch, **super().about}

    async def work(self) -> None:
        """Run batches."""
        await self._batcher.run()

    def methods(self) -> Mapping[str, Method]:
        """Give what answers each method."""
        return {"predict": self._predict, "stream_predict": self._stream_predict}

    async def _predict(self, context: grpc.aio.ServicerContext) -> Any:
        with self._batcher.enter():
            return await self._predicted(await self._photo(context), PredictResponse)

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

        async def receive() -> bytes | None:
            """Receive the next photo; what ends meanwhile is finished, or tells what is wrong."""
            receiving = asyncio.create_task(self._receive(context))
            try:
                while running and not receiving.done():
                    await asyncio.wait([receiving, running[0]], return_when=_FIRST)
                    if running[0].done():
                        await finish_oldest()
                return await receiving
            finally:
                receiving.cancel()

        if self._streams >= max(1, int(_STREAMS * self._batcher.capacity)):
            raise FullError
        # Its own place lets a stream go on, photo by photo, however full the server is.
        with self._batcher.enter():
            self._streams += 1
            try:
                index = 0
                while (message := await receive()) is not None:
                    if index == self._limits.max_stream:
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
        if running >= self._limits.max_batch:
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
                decoded = await self._decoder.decode(message, patient=True)
                del message
        except BadRequestError as error:
            raise BadRequestError(f"Photo {index} of the stream, from 0: {error}") from error
        return await self._predicted(decoded, Prediction)

    async def _predicted(self, decoded: Decoded[Any], kind: Callable[[], Any]) -> Any:
        """Run the model, and write what it says as a PredictResponse or a Prediction."""
        prediction = await self._batcher.predict(decoded.item)
        categories, attributes = self._model.describe(
            prediction,
            all_categories=decoded.request.all_categories,
            all_attributes=decoded.request.all_attributes,
        )
        answer = kind()
        for field, scores in ((answer.categories, categories), (answer.attributes, attributes)):
            for entry in scores:
                field.add(label=entry["label"], value=entry["score"])
        return answer
