"""Measure `vsam serve` against the model alone: throughput, latency, overload, memory.

The server is a process of its own; the clients share this one, on an event loop, and the machine
with the server. The model alone gets photos that are decoded already, in batches of the server's
size, while the server idles. What is compared is measured by turns, and medians are given.

- Clients: each asks again as soon as it has its answer.
- At capacity: calls come at the rate that the server managed at best, whatever becomes of them.
- Overload: they come at ten times that rate.
- Stream: one `stream_predict` with as many photos as one may hold.
- Messages: `tests/message_fuzzer.py`, after a fifth as many that warm the server up.

Usage: python benchmarks/serve.py PHOTOS --model RUN [--clients 1 4 16 64] [--seconds 20]
       [--turns 3] [--max-batch 16] [--device auto] [--stream 10000] [--messages 10000]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil

from vsam.predictor import Predictor
from vsam.serving.messages import (
    PREDICT,
    STREAM_PREDICT,
    PredictRequest,
    PredictResponse,
    StreamPredictResponse,
)
from vsam_heatmaps.images import decode_photo
from vsam_heatmaps.photos import list_photos

OVERLOAD = 10
FUZZER = Path(__file__).parents[1] / "tests" / "message_fuzzer.py"


@contextlib.contextmanager
def serving(arguments: argparse.Namespace) -> Iterator[tuple[str, psutil.Process]]:
    """Run the command; give its address and process."""
    command = [
        *(sys.executable, "-c", "from vsam_cli.main import run; run()", "serve", "--port", "0"),
        *("--model", str(arguments.model), "--device", arguments.device),
        *("--max-batch", str(arguments.max_batch)),
        *("--max-stream", str(max(arguments.stream, 1))),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address = ""
        for line in process.stderr:
            if found := re.search(r"event=listening address=(\S+)", line):
                address = found[1]
            if "event=ready" in line:
                break
        else:
            raise SystemExit("The server did not start.")
        # Decoders complain there of broken photos, and wait when nobody reads.
        last: deque[str] = deque(maxlen=20)
        reader = threading.Thread(target=last.extend, args=(process.stderr,))
        reader.start()
        try:
            yield address, psutil.Process(process.pid)
        finally:
            process.terminate()
            reader.join()
    if process.returncode:
        raise SystemExit(f"The server ended with code {process.returncode}: {''.join(last)}")


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Give p50, p95 and p99 in milliseconds."""
    if not seconds:
        return {}
    values = np.percentile(seconds, [50, 95, 99]) * 1000
    return {f"p{p}_ms": round(float(v), 2) for p, v in zip((50, 95, 99), values, strict=True)}


def model_alone(
    predictor: Predictor, photos: Sequence[bytes], size: int, seconds: float
) -> dict[str, float]:
    """Measure photos a second in batches, and one photo's time without and with its decoding."""
    pixels = [predictor.preprocessing.resize(decode_photo(photo)) for photo in photos[:size]]
    batch = [pixels[i % len(pixels)] for i in range(size)]
    predictor.predict_prepared(batch)
    predictor.predict_prepared(batch[:1])
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        predictor.predict_prepared(batch)
        count += size
    rate = count / (time.perf_counter() - start)
    times: dict[str, list[float]] = {"single": [], "decoded": []}
    start, number = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        before = time.perf_counter()
        photo = predictor.preprocessing.resize(decode_photo(photos[number % len(photos)]))
        between = time.perf_counter()
        predictor.predict_prepared([photo])
        now = time.perf_counter()
        times["single"].append(now - between)
        times["decoded"].append(now - before)
        number += 1
    return {
        "photos_a_second": round(rate, 2),
        "single_ms": round(1000 * statistics.median(times["single"]), 2),
        "single_with_decoding_ms": round(1000 * statistics.median(times["decoded"]), 2),
    }


Ask = Callable[[bytes], Awaitable[str]]


@contextlib.asynccontextmanager
async def asking(address: str, connections: int = 4) -> Any:
    """Give a function that asks for a photo's tags: the gRPC code of the answer."""
    channels = [
        # Each a connection of its own, else gRPC shares one among equal channels.
        grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        for _ in range(connections)
    ]
    calls = [
        channel.unary_unary(PREDICT, PredictRequest.SerializeToString, PredictResponse.FromString)
        for channel in channels
    ]
    turn = 0

    async def ask(photo: bytes) -> str:
        nonlocal turn
        turn += 1
        try:
            await calls[turn % connections](PredictRequest(image_data=photo), timeout=600)
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
        return "OK"

    try:
        yield ask
    finally:
        for channel in channels:
            await channel.close()


async def closed_loop(
    ask: Ask, photos: Sequence[bytes], clients: int, seconds: float
) -> dict[str, Any]:
    """Let clients ask again and again; what is answered before each had an answer warms up.

    Answers come a batch at a time, so that the rate is taken from the end of one answer to that of
    the last one while all clients were asking.
    """
    answers: list[tuple[float, float, str]] = []  # when, after how long, the code
    cold, started = clients, math.inf

    async def client(number: int) -> None:
        nonlocal cold, started
        warm = False
        while time.perf_counter() < started + seconds:
            before = time.perf_counter()
            code = await ask(photos[number % len(photos)])
            answers.append((time.perf_counter(), time.perf_counter() - before, code))
            number += clients
            if not warm:
                warm, cold = True, cold - 1
                started = started if cold else time.perf_counter()

    await asyncio.gather(*(client(number) for number in range(clients)))
    counted = [answer for answer in answers if started < answer[0] <= started + seconds]
    rate = len(counted) / (counted[-1][0] - started)
    return {
        "photos_a_second": round(rate, 2),
        **percentiles([took for _, took, _ in counted]),
        "codes": dict(Counter(code for _, _, code in counted)),
    }


async def steady(ask: Ask, photos: Sequence[bytes], rate: float, seconds: float) -> dict[str, Any]:
    """Send calls at a rate, and tell the served from the refused."""
    times: dict[str, list[float]] = {}

    async def one(number: int) -> None:
        before = time.perf_counter()
        code = await ask(photos[number % len(photos)])
        times.setdefault(code, []).append(time.perf_counter() - before)

    start, tasks = time.perf_counter(), []
    while (passed := time.perf_counter() - start) < seconds:
        while len(tasks) < passed * rate:
            tasks.append(asyncio.create_task(one(len(tasks))))
        await asyncio.sleep(0.002)
    await asyncio.gather(*tasks)
    return {
        "calls_a_second": round(rate, 1),
        **{code: {"calls": len(each), **percentiles(each)} for code, each in times.items()},
    }


async def stream(address: str, photos: Sequence[bytes], count: int) -> float:
    """Tag many photos in one call; give photos a second."""
    options = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(address, options) as channel:
        call = channel.stream_unary(
            STREAM_PREDICT, PredictRequest.SerializeToString, StreamPredictResponse.FromString
        )
        start = time.perf_counter()
        answer = await call(
            PredictRequest(image_data=photos[number % len(photos)]) for number in range(count)
        )
        assert len(answer.predictions) == count
        return count / (time.perf_counter() - start)


class Memory:
    """The largest memory that a process had since it was asked last, and what it has, in MB."""

    def __init__(self, process: psutil.Process) -> None:
        self._process, self._peak = process, 0

    async def watch(self) -> None:
        """Look twenty times a second."""
        while True:
            self._peak = max(self._peak, self._process.memory_info().rss)
            await asyncio.sleep(0.05)

    def now(self) -> float:
        """Give what it has."""
        return round(self._process.memory_info().rss / 1e6, 1)

    def peak(self) -> float:
        """Give the largest, and forget it."""
        peak, self._peak = self._peak, 0
        return round(peak / 1e6, 1)


async def measure(
    arguments: argparse.Namespace, address: str, process: psutil.Process, photos: list[bytes]
) -> dict[str, Any]:
    """Measure all."""
    predictor = Predictor.from_run(arguments.model, device=arguments.device)
    memory = Memory(process)
    watching = asyncio.create_task(memory.watch())
    seconds = arguments.seconds
    alone: list[dict[str, Any]] = []
    served: dict[int, list[dict[str, Any]]] = {clients: [] for clients in arguments.clients}
    async with asking(address) as ask:
        for _ in range(arguments.turns):
            alone.append(
                await asyncio.to_thread(
                    model_alone, predictor, photos, arguments.max_batch, seconds / 2
                )
            )
            for clients, turns in served.items():
                turns.append(await closed_loop(ask, photos, clients, seconds))
        figures: dict[str, Any] = {
            "alone": medians(alone),
            "clients": {clients: medians(turns) for clients, turns in served.items()},
            "memory_mb": {"clients": memory.peak()},
        }
        capacity = max(each["photos_a_second"] for each in figures["clients"].values())
        figures["at_capacity"] = await steady(ask, photos, capacity, seconds)
        figures["overload"] = await steady(ask, photos, OVERLOAD * capacity, seconds)
        figures["memory_mb"]["overload"] = memory.peak()
        busiest = max(arguments.clients)
        figures["after_overload"] = await closed_loop(ask, photos, busiest, seconds)
    memory.peak()
    if arguments.stream:
        rate = await stream(address, photos, arguments.stream)
        figures["stream"] = {"photos": arguments.stream, "photos_a_second": round(rate, 2)}
        figures["memory_mb"]["stream"] = memory.peak()
    if arguments.messages:
        before = 0.0
        for count in (arguments.messages // 5, arguments.messages):
            before = memory.now()
            fuzzer = await asyncio.create_subprocess_exec(
                *(sys.executable, FUZZER, address, "--count", str(count), "--seed", str(count))
            )
            if await fuzzer.wait():
                raise SystemExit("A message got an answer that it should not get.")
        figures["memory_mb"] |= {"before_messages": before, "after_messages": memory.now()}
    watching.cancel()
    figures["ratios"] = ratios(figures)
    return figures


def medians(turns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Give the median of each figure; codes are added up."""
    codes: Counter[str] = sum((Counter(turn.get("codes", {})) for turn in turns), Counter())
    found = {
        name: statistics.median(t[name] for t in turns) for name in turns[0] if name != "codes"
    }
    return found | ({"codes": dict(codes)} if codes else {})


def ratios(figures: dict[str, Any]) -> dict[str, float]:
    """Compare what belongs together."""
    alone, clients = figures["alone"], figures["clients"]
    found = {}
    for number, each in clients.items():
        rate = each["photos_a_second"] / alone["photos_a_second"]
        found[f"throughput_of_{number}_clients_to_model_alone"] = rate
    if 1 in clients:
        found["one_client_p50_to_model_alone"] = clients[1]["p50_ms"] / alone["single_ms"]
        found["one_client_p50_to_model_and_decoding"] = (
            clients[1]["p50_ms"] / alone["single_with_decoding_ms"]
        )
    others = {f"{number}_clients": each for number, each in clients.items()}
    others["at_capacity"] = figures["at_capacity"].get("OK", {})
    for name, each in others.items():
        if "OK" in figures["overload"] and each:
            slower = figures["overload"]["OK"]["p99_ms"] / each["p99_ms"]
            found[f"p99_overloaded_to_{name}"] = slower
    return {name: round(value, 3) for name, value in found.items()}


def main() -> None:
    """Start a server, measure, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--max-batch", type=int, default=16)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--stream", type=int, default=10_000, help="0 leaves it out")
    parser.add_argument("--messages", type=int, default=10_000, help="0 leaves them out")
    arguments = parser.parse_args()
    listed = list_photos([arguments.photos]).reading_order
    photos = [photo.read() for photo, _ in zip(listed, range(200), strict=False)]
    with serving(arguments) as (address, process):
        figures = asyncio.run(measure(arguments, address, process, photos))
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
