"""From a request's bytes to the model's input, in threads that a large photo can't take all of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import DecodeError

from vsam_heatmaps.errors import UnreadablePhotoError
from vsam_heatmaps.images import check_size
from vsam_heatmaps.images.kinds import read_header

from .batching import FullError
from .messages import PredictRequest

LARGE = 16_000_000
"""Photos with more pixels are decoded one at a time: the largest take seconds and 300 MB."""

Item = TypeVar("Item")
Done = TypeVar("Done")


class BadRequestError(Exception):
    """A request that can't be answered; the message says why, in one line."""


@dataclass(frozen=True)
class Decoded(Generic[Item]):
    """A request that is ready for the model.

    Attributes:
        item: The photo as the model takes it.
        all_categories: Whether all are to be listed.
        all_attributes: Whether all are to be listed.
    """

    item: Item
    all_categories: bool
    all_attributes: bool


class Decoder(Generic[Item]):
    """Decodes requests.

    Args:
        prepare: From a photo's file to what the model takes; raises UnreadablePhotoError.
        workers: Threads for photos of up to `LARGE` pixels; larger ones share one more.
        max_bytes: Larger files are refused.
        max_large: Most photos above `LARGE` that may be here, but for those that wait patiently.
        large: See `LARGE`.
    """

    def __init__(
        self,
        prepare: Callable[[bytes], Item],
        *,
        workers: int,
        max_bytes: int,
        max_large: int,
        large: int = LARGE,
    ) -> None:
        self._prepare, self._max_bytes, self._large = prepare, max_bytes, large
        self._turns = _Turns(max_large)
        self._quick, self._slow = _Lane(workers, "decode"), _Lane(1, "decode-large")

    async def decode(self, message: bytes, *, patient: bool = False) -> Decoded[Item]:
        """Decode a serialized PredictRequest.

        Args:
            message: Its bytes.
            patient: However many large photos are here, wait for the turn.

        Raises:
            BadRequestError: If it is none, or its photo can't be read.
            FullError: If it is large and too many of them are here.
        """
        try:
            request, item = await self._quick.run(self._begin, message)
            if item is None:
                with contextlib.nullcontext() if patient else self._turns:
                    item = await self._slow.run(self._prepare, request.image_data)
        except UnreadablePhotoError as error:
            reason = " ".join(str(error).split())  # one line, whatever a decoder said
            raise BadRequestError(
                f"Expected image_data to be a photo, but {reason.removesuffix('.')}."
            ) from error
        return Decoded(item, request.all_categories, request.all_attributes)

    def _begin(self, message: bytes) -> tuple[Any, Item | None]:
        """Parse a request, and prepare its photo if it isn't large."""
        try:
            request = PredictRequest.FromString(message)
        except DecodeError as error:
            raise BadRequestError(
                "Expected the message to be a PredictRequest, but it can't be parsed."
            ) from error
        data = request.image_data
        check_size(len(data), self._max_bytes)
        if data:  # the decoder has the words for what is empty
            width, height = read_header(data).size
            if width * height > self._large:
                return request, None
        return request, self._prepare(data)

    def close(self) -> None:
        """Wait for what the threads are doing, and end them."""
        self._quick.close()
        self._slow.close()


class _Turns:
    """Counts who is inside, and refuses more than a limit."""

    def __init__(self, limit: int) -> None:
        self._free = limit

    def __enter__(self) -> None:
        if not self._free:
            raise FullError
        self._free -= 1

    def __exit__(self, *_: object) -> None:
        self._free += 1


class _Lane:
    """Some threads, and a queue before them that whoever is cancelled leaves at once."""

    def __init__(self, threads: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free = asyncio.Semaphore(threads)

    async def run(self, function: Callable[..., Done], *args: Any) -> Done:
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        future = self._pool.submit(function, *args)

        def release(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(self._free.release)

        # When the thread is free, not when the caller stops waiting: work can't be interrupted.
        future.add_done_callback(release)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
