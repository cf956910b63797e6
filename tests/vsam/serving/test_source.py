"""The source in this process: what it keeps of a photo, and what it decodes side by side."""

import asyncio
import contextlib
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image
from servers import WAIT

from vsam.serving import photo_rounds
from vsam.serving.metrics import Metrics
from vsam.serving.options import ServiceOptions
from vsam.serving.photo_rounds import PhotoRounds
from vsam.serving.source import SourceService
from vsam_heatmaps.images import decode_photo

LIMITS = {"max_bytes": 20 << 20, "max_pixels": 100_000_000}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (folder := tmp_path / "photos").mkdir()
    return folder


def test_a_stream_that_waits_for_its_client_keeps_no_image(folder, monkeypatch):
    for number in range(4):
        with (folder / f"{number}.png").open("wb") as file:
            Image.new("RGB", (20, 10), (number, 0, 0)).save(file, "PNG")
            file.write(bytes(8 << 20))  # more than connections buffer
    images: list[weakref.ref[np.ndarray]] = []

    def decode(data: bytes, **limits: int) -> np.ndarray:
        image = decode_photo(data, **limits)
        images.append(weakref.ref(image))
        return image

    monkeypatch.setattr(photo_rounds, "decode_photo", decode)

    async def main() -> None:
        service = SourceService(
            ServiceOptions(), Metrics(), PhotoRounds(folder, **LIMITS), once=False
        )
        with ThreadPoolExecutor(1) as thread:
            service.start(thread)
            service.open()
            server = grpc.aio.server()
            server.add_generic_rpc_handlers([service.handler()])
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            options = [("grpc.max_receive_message_length", -1)]
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
                stream = channel.unary_stream("/ImageSourceService/GetStream")(b"")
                await stream.read()
                async with asyncio.timeout(10):
                    while len(images) < 2 or any(image() is not None for image in images):
                        await asyncio.sleep(0.01)
                assert len(images) < 4  # the client didn't take them all
                stream.cancel()
            await server.stop(None)
            await asyncio.to_thread(service.shut)

    asyncio.run(main())


@pytest.mark.parametrize(("side", "most"), [(4010, 1), (100, 2)])
def test_large_photos_are_decoded_one_at_a_time(folder, monkeypatch, side, most):
    Image.new("1", (side, side)).save(folder / "a.png")
    rounds, together = PhotoRounds(folder, **LIMITS), threading.Barrier(2)
    decoding = found = 0

    def decode(data: bytes, **limits: int) -> None:
        nonlocal decoding, found
        decoding += 1
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(WAIT if most == 2 else 0.2)
        found = max(found, decoding)
        decoding -= 1

    monkeypatch.setattr(photo_rounds, "decode_photo", decode)
    with ThreadPoolExecutor(2) as threads:
        given = list(threads.map(lambda _: len(list(rounds.one())), range(2)))
    assert (given, found) == ([1, 1], most)
