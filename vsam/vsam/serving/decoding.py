"""From a request to what its photo becomes, in threads that large photos can't take all of."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import DecodeError

from vsam_heatmaps.errors import UnreadablePhotoError
from vsam_heatmaps.images import check_size
from vsam_heatmaps.images.kinds import read_header

from .batching import FullError
from .messages import PHOTO, PredictRequest, knowing_one_field, no_photo

LARGE = 16_000_000
"""Photos with more pixels are decoded one at a time: the largest take seconds and 300 MB."""

MAX_REST = 1 << 18
"""Bytes of a request beside its photo; 1,000 labels with their values have some 25,000.

Two bytes can become an object of fifty: larger rests would fill the memory, and take seconds.
"""

Item = TypeVar("Item")
Done = TypeVar("Done")


class BadRequestError(Exception):
    """A request that can't be answered; the message says why, in one line."""


@dataclass(frozen=True)
class Decoded(Generic[Item]):
    """A request that is ready to be worked on.

    Attributes:
        item: What its photo was made into.
        request: The request without its photo: decoded, that need not be kept.
    """

    item: Item
    request: Any


class Decoder(Generic[Item]):
    """Decodes requests with a photo each.

    Args:
        prepare: From a photo's file to an item; raises UnreadablePhotoError.
        workers: Threads for photos of up to `LARGE` pixels; larger ones share one more.
        max_bytes: Larger files are refused.
        max_large: Most photos above `LARGE` that may be here, but for those that wait patiently.
        request: The class of the requests.
        photo: Their field with the photo's file, `image.data` if it is that of a field.
        large: See `LARGE`.
    """

    def __init__(
        self,
        prepare: Callable[[bytes], Item],
        *,
        workers: int,
        max_bytes: int,
        max_large: int,
        request: Any = PredictRequest,
        photo: str = PHOTO,
        large: int = LARGE,
    ) -> None:
        self._prepare, self._max_bytes, self._large = prepare, max_bytes, large
        self._request, self._photo = request, photo
        self._keeping = knowing_one_field(request, photo.partition(".")[0])
        self._turns = _Turns(max_large)
        self._quick, self._slow = Lane(workers, "decode"), Lane(1, "decode-large")

    async def decode(self, message: bytes, *, patient: bool = False) -> Decoded[Item]:
        """Decode a serialized request.

        Args:
            message: Its bytes.
            patient: However many large photos are here, wait for the turn.

        Raises:
            BadRequestError: If it is none, has more than `MAX_REST` bytes beside its photo, or
                its photo can't be read.
            FullError: If it is large and too many of them are here.
        """
        try:
            request, data, item = await self._quick.run(self._begin, message)
            if item is None:
                with contextlib.nullcontext() if patient else self._turns:
                    item = await self._slow.run(self._prepare, data)
        except UnreadablePhotoError as error:
            reason = " ".join(str(error).split())  # one line, whatever a decoder said
            raise BadRequestError(f"{no_photo(self._photo)}{reason.removesuffix('.')}.") from error
        return Decoded(item, request)

    def _begin(self, message: bytes) -> tuple[Any, bytes, Item | None]:
        """Parse a request, and prepare its photo if it isn't large."""
        request, data = self._take_photo(message)
        check_size(len(data), self._max_bytes)
        if is_large(data, self._large):
            return request, data, None
        return request, b"", self._prepare(data)

    def _take_photo(self, message: bytes) -> tuple[Any, bytes]:
        """Parse a request, its photo apart; give both."""
        kept = parsed(self._keeping, message)
        *above, field = self._photo.split(".")
        holder = functools.reduce(getattr, above, kept)
        data = getattr(holder, field)
        holder.ClearField(field)
        rest = kept.SerializeToString()
        if len(rest) > MAX_REST:
            raise BadRequestError(
                f"Expected the message to have at most {MAX_REST} bytes beside its photo, but it "
                f"has {len(rest)}."
            )
        return parsed(self._request, rest), data

    def close(self) -> None:
        """Wait for what the threads are doing, and end them."""
        self._quick.close()
        self._slow.close()


def is_large(data: bytes, large: int = LARGE) -> bool:
    """Say, by its header, whether a photo's file has more than so many pixels.

    Raises:
        UnreadablePhotoError: If it has no header; but empty ones are left to who decodes them.
    """
    if not data:
        return False
    width, height = read_header(data).size
    return width * height > large


def parsed(kind: Any, message: bytes) -> Any:
    """Parse a message.

    Raises:
        BadRequestError: If it is no such message.
    """
    try:
        return kind.FromString(message)
    except DecodeError as error:
        raise BadRequestError(
            f"Expected the message to be a {kind.DESCRIPTOR.name}, but it can't be parsed."
        ) from error


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


class Lane:
    """Some threads, and a queue before them that whoever is cancelled leaves at once."""

    def __init__(self, threads: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free = asyncio.Semaphore(threads)

    async def run(self, function: Callable[..., Done], *args: Any) -> Done:
        """Run a function in a thread."""
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
        """Wait for what the threads are doing, and end them."""
        self._pool.shutdown(wait=True, cancel_futures=True)
