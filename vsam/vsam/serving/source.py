"""`ImageSourceService`: a folder's photos, one a call or all in a stream."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import grpc

from vsam_heatmaps.errors import VsamError

from .batching import Places
from .calls import Method, RefusedError, Service
from .decoding import Lane
from .hosting import host
from .logs import tell
from .messages import IMAGE_SOURCE
from .metrics import Metrics
from .options import ServiceOptions
from .photo_rounds import Given, PhotoRounds, RoundOverError

_Empty = IMAGE_SOURCE.message("Empty")
_Image = IMAGE_SOURCE.message("Image")


class SourceService(Service):
    """Answers `ImageSourceService`.

    Args:
        options: The limits. A call, also a stream, takes a place.
        metrics: Told of each call.
        rounds: The photos.
        once: Whether `Get` ends with OUT_OF_RANGE after the last photo. Otherwise the next call
            begins anew: orchestrators call it again and again, and end at an error.
    """

    interface = IMAGE_SOURCE
    needs = "the folder"

    def __init__(
        self, options: ServiceOptions, metrics: Metrics, rounds: PhotoRounds, *, once: bool
    ) -> None:
        super().__init__(options, metrics)
        self._rounds, self._once, self._over = rounds, once, False
        self._places = Places(options.capacity)
        self._lane: Lane

    def load(self) -> None:
        """Do nothing: the folder was listed."""

    def start(self, thread: Executor) -> None:
        """Start the threads that read."""
        self._lane = Lane(self._options.workers, "read")
        self._watch(self._places)

    @property
    def about(self) -> dict[str, object]:
        """How many files there are."""
        return {"photos": self._rounds.count, "places": self._options.capacity}

    def shut(self) -> None:
        """Wait for photos that are being read."""
        self._lane.close()

    def methods(self) -> Mapping[str, Method]:
        """Give what answers each method."""
        return {"Get": self._get, "GetStream": self._get_stream}

    async def _get(self, context: grpc.aio.ServicerContext) -> Any:
        with self._places.enter():
            await self._receive_parsed(context, _Empty)
            return _Image(data=await self._lane.run(self._next))

    def _next(self) -> bytes:
        if self._over:
            raise _round_over()
        try:
            return self._rounds.next().data
        except RoundOverError:
            pass
        except VsamError as error:
            raise _gone(error) from error
        if self._once:
            self._over = True
            raise _round_over()
        try:
            return self._rounds.next().data
        except RoundOverError as error:
            raise _unreadable() from error
        except VsamError as error:
            raise _gone(error) from error

    async def _get_stream(self, context: grpc.aio.ServicerContext) -> None:
        with self._places.enter():
            await self._receive_parsed(context, _Empty)
            photos, count = self._rounds.one(), 0
            while (data := await self._lane.run(_following, photos)) is not None:
                async with self._in_time("The client took no photo"):
                    await context.write(_Image(data=data))
                count += 1
        if not count:
            raise _unreadable()


def _following(photos: Iterator[Given]) -> bytes | None:
    """Give the next file alone: decoded, a photo would stay in memory until the client takes it."""
    try:
        given = next(photos, None)
        return None if given is None else given.data
    except VsamError as error:
        raise _gone(error) from error


def _round_over() -> RefusedError:
    return RefusedError(grpc.StatusCode.OUT_OF_RANGE, "All photos were given.")


def _unreadable() -> RefusedError:
    return RefusedError(
        grpc.StatusCode.FAILED_PRECONDITION,
        "None of the photos can be read; the server's log tells why.",
    )


def _gone(error: VsamError) -> RefusedError:
    tell("gone", logging.WARNING, about=str(error))
    return RefusedError(
        grpc.StatusCode.FAILED_PRECONDITION,
        "The photos can't be listed any more; the server's log tells why.",
    )


def serve_source(options: ServiceOptions, folder: Path, *, once: bool = False) -> None:
    """Serve `ImageSourceService` until a signal comes; see `host`.

    Args:
        options: Where and how; photos above `max_bytes` or `max_pixels` are passed over.
        folder: The photos.
        once: Whether `Get` ends after the last photo; else it begins anew.

    Raises:
        VsamError: As `host`, or if there is no photo.
    """
    rounds = PhotoRounds(folder, max_bytes=options.max_bytes, max_pixels=options.max_pixels)
    host(options, lambda metrics: SourceService(options, metrics, rounds, once=once))
