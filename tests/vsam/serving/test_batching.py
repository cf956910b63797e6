"""The batcher with a model that the test opens and shuts: its batches, and what fails."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from vsam.serving.batching import Batcher, FullError

FOREVER = 1000.0  # seconds: whoever waits that long hangs


class Model:
    """Answers with the negated item; waits before each batch until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.started = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(list(items))
        self.started.release()
        assert self.go.acquire(timeout=20)
        if 13 in items:
            raise ValueError("unlucky")
        return [-item for item in items]


Test = Callable[[Batcher[int, int], Model], Awaitable[None]]


def run(test: Test, *, max_batch: int = 4, max_wait: float = 0.0, capacity: int = 100) -> None:
    async def main() -> None:
        model = Model()
        with ThreadPoolExecutor(1) as thread:
            batcher = Batcher(
                model, thread, max_batch=max_batch, max_wait=max_wait, capacity=capacity
            )
            task = asyncio.create_task(batcher.run())
            try:
                async with asyncio.timeout(20):
                    await test(batcher, model)
            finally:
                model.go.release(1000)
                task.cancel()

    asyncio.run(main())


async def started(model: Model) -> None:
    assert await asyncio.to_thread(model.started.acquire, timeout=20)


async def submit(batcher: Batcher[int, int], *items: int) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(batcher.predict(item)) for item in items]
    await asyncio.sleep(0)
    return tasks


def test_an_idle_model_starts_at_once_however_long_batches_may_wait():
    async def test(batcher, model):
        tasks = await submit(batcher, 1)
        await started(model)
        model.go.release()
        assert await tasks[0] == -1

    run(test, max_wait=FOREVER)


def test_what_comes_while_the_model_works_is_one_batch_up_to_its_limit():
    async def test(batcher, model):
        tasks = await submit(batcher, 0)
        await started(model)
        tasks += await submit(batcher, *range(1, 8))
        assert batcher.waiting == 7
        model.go.release(3)
        assert await asyncio.gather(*tasks) == [-item for item in range(8)]
        assert model.batches == [[0], [1, 2, 3, 4], [5, 6, 7]]

    run(test)


def test_a_batch_waits_for_those_whom_the_last_one_answered():
    async def test(batcher, model):
        first = await submit(batcher, 1)
        await started(model)
        first += await submit(batcher, 2, 3)
        model.go.release(2)
        assert await asyncio.gather(*first) == [-1, -2, -3]  # in batches of one and of two
        again = await submit(batcher, 4)
        await asyncio.sleep(0.05)
        assert len(model.batches) == 2  # two were answered: it waits for one more
        again += await submit(batcher, 5)
        model.go.release()
        assert await asyncio.gather(*again) == [-4, -5]
        assert model.batches == [[1], [2, 3], [4, 5]]

    # The first answer's batch of one had two behind it: all three are hoped for, but the wait ends
    # when the queue is as long as `max_batch`.
    run(test, max_batch=2, max_wait=FOREVER)


def test_a_batch_does_not_wait_longer_than_it_may():
    async def test(batcher, model):
        first = await submit(batcher, 1)
        await started(model)
        first += await submit(batcher, 2, 3)
        model.go.release(3)
        await asyncio.gather(*first)
        [alone] = await submit(batcher, 4)  # two are hoped for
        assert await alone == -4
        assert model.batches == [[1], [2, 3], [4]]

    run(test, max_wait=0.02)


def test_more_than_the_capacity_is_refused_at_once_and_a_place_comes_back():
    async def test(batcher, model):
        with batcher.enter(), batcher.enter():
            assert batcher.taken == 2
            with pytest.raises(FullError):
                batcher.enter()
            assert batcher.taken == 2
        assert batcher.taken == 0
        with pytest.raises(ZeroDivisionError), batcher.enter():
            raise ZeroDivisionError
        assert batcher.taken == 0
        with batcher.enter(share=0.5), pytest.raises(FullError):
            batcher.enter(share=0.5)

    run(test, capacity=2)


def test_who_is_cancelled_leaves_the_queue_and_the_others_get_their_answers():
    async def test(batcher, model):
        tasks = await submit(batcher, 0)
        await started(model)
        tasks += await submit(batcher, 1, 2, 3)
        tasks[0].cancel()  # in the model
        tasks[2].cancel()  # in the queue
        await asyncio.wait([tasks[0], tasks[2]])
        assert batcher.waiting == 2
        model.go.release(2)
        assert await tasks[1] == -1
        assert await tasks[3] == -3
        assert model.batches == [[0], [1, 3]]

    run(test)


def test_when_all_are_cancelled_while_a_batch_gathers_nothing_runs():
    async def test(batcher, model):
        first = await submit(batcher, 1)
        await started(model)
        first += await submit(batcher, 2, 3)
        model.go.release(2)
        await asyncio.gather(*first)
        [alone] = await submit(batcher, 4)
        alone.cancel()
        await asyncio.wait([alone])
        await asyncio.sleep(0.1)
        assert model.batches == [[1], [2, 3]]
        [later] = await submit(batcher, 5)
        model.go.release()
        assert await later == -5

    run(test, max_wait=0.05)


def test_an_item_that_the_model_fails_on_spoils_no_other_of_its_batch():
    async def test(batcher, model):
        tasks = await submit(batcher, 0)
        await started(model)
        tasks += await submit(batcher, 12, 13, 15)
        model.go.release(5)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [str(result) for result in results] == ["0", "-12", "unlucky", "-15"]
        assert model.batches == [[0], [12, 13, 15], [12], [13], [15]]
        [later] = await submit(batcher, 14)
        model.go.release()
        assert await later == -14

    run(test)


def test_a_model_that_loses_a_result_gives_nobody_the_wrong_one():
    async def main() -> None:
        with ThreadPoolExecutor(1) as thread:
            batcher = Batcher(lambda items: items[1:], thread, max_batch=4, max_wait=0, capacity=4)
            task = asyncio.create_task(batcher.run())
            with pytest.raises(ValueError, match="Expected 1 results of the model, not 0"):
                await batcher.predict(1)
            task.cancel()

    asyncio.run(main())
