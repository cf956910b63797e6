"""Gather what arrives one by one into batches; knows neither gRPC nor torch.

All but the model runs on one event loop, so nothing here needs a lock, and a request that waits
costs no thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class FullError(Exception):
    """All places are taken."""


class Place:
    """Room for one photo, from its arrival to its answer. Given back when the block ends."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave

    def __enter__(self) -> Place:
        """Take it; it was reserved before."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give it back."""
        self._leave()


class Places:
    """Room for so many photos.

    Args:
        capacity: How many.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._taken = 0

    @property
    def taken(self) -> int:
        """Places that are taken."""
        return self._taken

    def enter(self, *, share: float = 1.0) -> Place:
        """Take a place, or fail at once.

        Args:
            share: Share of the capacity that may be taken, this place included.

        Raises:
            FullError: If more would be.
        """
        if self._taken >= max(1, int(self.capacity * share)):
            raise FullError
        self._taken += 1
        return Place(self._leave)

    def _leave(self) -> None:
        self._taken -= 1


class Batcher(Places, Generic[Item, Result]):
    """Runs a model on batches of what is submitted to it.

    A batch is what waits when the model is free, so a model that idles starts at once. After a
    batch, those whom it answered may ask again: for up to `max_wait` from its end the next one
    waits to become as large as that batch and its queue were. Without this, clients that each wait
    for their answer would get batches of one and of all others by turns.

    Args:
        predict: From a batch to as many results in the same order. Runs in `thread`.
        thread: An executor of one thread.
        max_batch: Most items in a batch.
        max_wait: Seconds.
        capacity: Places.
        on_batch: Told each batch's size.
    """

    def __init__(
        self,
        predict: Callable[[Sequence[Item]], Sequence[Result]],
        thread: Executor,
        *,
        max_batch: int,
        max_wait: float,
        capacity: int,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._predict, self._thread = predict, thread
        super().__init__(capacity)
        self._max_batch, self._max_wait = max_batch, max_wait
        self._on_batch = on_batch
        self._queue: dict[asyncio.Future[Result], Item] = {}  # in order of arrival
        self._arrival = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Items that wait for the model."""
        return len(self._queue)

    async def predict(self, item: Item) -> Result:
        """Wait for an item's result; who calls has a place. Cancelled, it leaves the queue.

        Raises:
            Exception: What the model raised on the item alone.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue[future] = item
        self._arrival.set()
        try:
            return await future
        finally:
            self._queue.pop(future, None)

    async def run(self) -> None:
        """Run batches until cancelled."""
        loop = asyncio.get_running_loop()
        hoped, deadline = 1, 0.0
        while True:
            while len(self._queue) < hoped and (left := deadline - loop.time()) > 0:
                await self._arrive(left)
            if not self._queue:
                await self._arrive(None)
                continue
            size = min(len(self._queue), self._max_batch)
            batch = {future: self._queue.pop(future) for future in list(self._queue)[:size]}
            self._on_batch(size)
            outcomes = await self._outcomes(list(batch.values()))
            for future, outcome in zip(batch, outcomes, strict=True):
                if future.done():  # whoever was to get it has gone
                    continue
                if isinstance(outcome, Exception):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)
            hoped = min(self._max_batch, size + len(self._queue))
            deadline = loop.time() + self._max_wait

    async def _outcomes(self, items: list[Item]) -> list[Result | Exception]:
        """Give an item's result or error, in order.

        Where a batch fails each item is tried alone: one that the model fails on spoils no other.
        """
        loop = asyncio.get_running_loop()
        try:
            results = list(await loop.run_in_executor(self._thread, self._predict, items))
            if len(results) != len(items):
                raise ValueError(f"Expected {len(items)} results of the model, not {len(results)}.")
        except Exception as error:
            if len(items) == 1:
                return [error]
            return [outcome for item in items for outcome in await self._outcomes([item])]
        return [*results]

    async def _arrive(self, seconds: float | None) -> None:
        """Wait for the next arrival, for so many seconds at most."""
        self._arrival.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._arrival.wait()
        except TimeoutError:
            pass
