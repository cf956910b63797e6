"""Decoding in threads: large photos do not hold up small ones, and who gives up is not decoded."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest
from servers import photo

from vsam.serving.batching import FullError
from vsam.serving.decoding import BadRequestError, Decoder
from vsam.serving.messages import PredictRequest
from vsam_heatmaps.errors import UnreadablePhotoError

UNKNOWN = b"\x2a\x00"  # field 5, empty
SMALL, LARGE = photo((1, 2, 3), 8), photo((1, 2, 3), 20)


class Prepare:
    """Gives a photo's size in bytes; waits before each until it is let go."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.go = {SMALL: threading.Semaphore(0), LARGE: threading.Semaphore(0)}
        self.begun = threading.Semaphore(0)

    def __call__(self, data: bytes) -> int:
        self.seen.append(data)
        self.begun.release()
        assert self.go[data].acquire(timeout=20)
        return len(data)


def run(test: Callable[[Decoder[int], Prepare], Awaitable[None]], workers: int = 1) -> None:
    async def main() -> None:
        prepare = Prepare()
        decoder = Decoder(prepare, workers=workers, max_bytes=10_000, max_large=5, large=100)
        try:
            async with asyncio.timeout(20):
                await test(decoder, prepare)
        finally:
            for gate in prepare.go.values():
                gate.release(100)
            await asyncio.to_thread(decoder.close)

    asyncio.run(main())


def begin(
    decoder: Decoder[int], data: bytes, *, patient: bool = False, **flags: bool
) -> asyncio.Task:
    message = PredictRequest(image_data=data, **flags).SerializeToString()
    return asyncio.create_task(decoder.decode(message, patient=patient))


async def begun(prepare: Prepare) -> None:
    assert await asyncio.to_thread(prepare.begun.acquire, timeout=20)


def test_large_photos_do_not_hold_up_small_ones():
    async def test(decoder, prepare):
        large = [begin(decoder, LARGE) for _ in range(5)]
        await begun(prepare)
        prepare.go[SMALL].release(3)
        for _ in range(3):
            assert (await begin(decoder, SMALL)).item == len(SMALL)
        assert prepare.seen.count(LARGE) == 1  # one at a time
        assert not any(task.done() for task in large)
        with pytest.raises(FullError):
            await begin(decoder, LARGE)
        patient = begin(decoder, LARGE, patient=True)
        await asyncio.sleep(0.05)
        assert not patient.done()
        prepare.go[LARGE].release(7)
        assert (await patient).item == len(LARGE)
        assert [decoded.item for decoded in await asyncio.gather(*large)] == [len(LARGE)] * 5
        assert (await begin(decoder, LARGE)).item == len(LARGE)  # there is room again

    run(test)


def test_flags_come_along():
    async def test(decoder, prepare):
        prepare.go[SMALL].release(1)
        decoded = await begin(decoder, SMALL, all_attributes=True)
        asked = decoded.request
        assert (asked.all_categories, asked.all_attributes) == (False, True)

    run(test)


def test_who_gives_up_is_not_decoded_and_keeps_no_thread_busy():
    async def test(decoder, prepare):
        first = begin(decoder, SMALL)
        await begun(prepare)
        waiting = [begin(decoder, SMALL) for _ in range(5)]
        await asyncio.sleep(0)
        for task in (first, *waiting):
            task.cancel()
        await asyncio.wait([first, *waiting])
        last = begin(decoder, SMALL)
        await asyncio.sleep(0.05)
        assert len(prepare.seen) == 1  # its thread can't be interrupted: the last one waits for it
        prepare.go[SMALL].release(2)
        assert (await last).item == len(SMALL)
        assert len(prepare.seen) == 2

    run(test)


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (b"\x0a\x05abc", "Expected the message to be a PredictRequest"),
        (PredictRequest(image_data=bytes(10_001)).SerializeToString(), "it has 10001 bytes, more"),
        (PredictRequest(image_data=b"text").SerializeToString(), "it is not an image"),
        (PredictRequest(image_data=SMALL[:20]).SerializeToString(), "truncated"),
        (
            PredictRequest(image_data=SMALL).SerializeToString() + 150_000 * UNKNOWN,
            "at most 262144 bytes beside its photo, but it has 300000",
        ),
    ],
)
def test_what_is_wrong_is_told_without_decoding(message, told):
    async def test(decoder, prepare):
        with pytest.raises(BadRequestError, match=told) as caught:
            await decoder.decode(message)
        assert len(str(caught.value).splitlines()) == 1
        assert prepare.seen == []

    run(test)


def test_what_a_decoder_says_becomes_one_line():
    def prepare(data: bytes) -> int:
        raise UnreadablePhotoError("it is\nodd.")

    async def main() -> None:
        decoder = Decoder(prepare, workers=1, max_bytes=1000, max_large=1)
        with pytest.raises(BadRequestError) as caught:
            await decoder.decode(PredictRequest(image_data=SMALL).SerializeToString())
        assert str(caught.value) == "Expected image_data to be a photo, but it is odd."
        decoder.close()

    asyncio.run(main())
