"""Run a server from its first byte to its last: bind, load, answer, drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from vsam_heatmaps.errors import VsamError

from .batching import Batcher
from .decoding import Decoder
from .logs import tell
from .messages import FILE, PREDICT, SERVICE, STREAM_PREDICT
from .metrics import Metrics
from .options import ServerOptions
from .security import TokenGuard, read_tokens, server_credentials
from .service import Model, TagService

_MAX_CALLS = 4096  # of all methods at once: health and reflection have no places of their own
# Calls that came but were not looked at yet. Beyond, by default a thousand, gRPC drops them as
# CANCELLED, which tells a client nothing; looking at one takes a fraction of a millisecond.
_MAX_UNSEEN = 10_000
_SECONDS_TO_SEND = 5.0  # the last answers need to reach their clients

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_NAMES = ("", SERVICE)  # health is told for the whole server and for its service


def serve(options: ServerOptions, load: Callable[[], Model]) -> None:
    """Answer until SIGTERM, SIGINT or SIGHUP, then answer what was accepted, and return.

    A second signal ends the calls that are left. The port is open from the start: calls are
    refused, and health says NOT_SERVING, until the model is loaded and warm.

    Args:
        options: Where and how.
        load: Makes the model; runs in the thread that will run it.

    Raises:
        VsamError: If the port or a file can't be used, as `load`, or if calls were cut off because
            they took longer than the time for draining.
    """
    asyncio.run(_serve(options, load))


async def _serve(options: ServerOptions, load: Callable[[], Model]) -> None:
    stop = _signals()
    metrics = Metrics()
    service = TagService(options, metrics)
    status = health.aio.HealthServicer()
    for name in _NAMES:
        await status.set(name, _NOT_SERVING)
    server = _build(options, service, status, metrics)
    address = options.address(_bind(server, options))
    with (
        _metrics_port(options, metrics) as metrics_address,
        ThreadPoolExecutor(1, thread_name_prefix="model") as thread,
    ):
        await server.start()
        tell(
            "listening",
            address=address,
            tls="mutual" if options.tls_client_ca else "on" if options.tls_cert else "off",
            tokens="on" if options.token_file else "off",
            metrics=metrics_address,
        )
        if options.token_file and not options.tls_cert and not options.is_local:
            tell("exposed", logging.WARNING, about="tokens travel in clear: there is no TLS")
        try:
            loading = asyncio.get_running_loop().run_in_executor(thread, load)
            if name := await _first(stop, loading):
                tell("ending", signal=name)
            else:
                await _answer(options, service, status, metrics, loading.result(), thread, stop)
        finally:
            await server.stop(0 if service.calls else _SECONDS_TO_SEND)
    tell("ended", address=address)


async def _answer(
    options: ServerOptions,
    service: TagService,
    status: Any,
    metrics: Metrics,
    model: Model,
    thread: ThreadPoolExecutor,
    stop: asyncio.Queue[str],
) -> None:
    """Answer until a signal comes, and drain."""
    batcher = Batcher(
        model.predict,
        thread,
        max_batch=options.max_batch,
        max_wait=options.max_wait_ms / 1000,
        capacity=options.capacity,
        on_batch=metrics.batch,
    )
    decoder = Decoder(
        model.prepare,
        workers=options.workers,
        max_bytes=options.max_bytes,
        max_large=options.max_large,
    )
    metrics.watch("vsam_places_taken", "Photos in the server.", lambda: batcher.taken)
    metrics.watch("vsam_queue_photos", "Photos that wait for the model.", lambda: batcher.waiting)
    batches = asyncio.create_task(batcher.run())
    service.open(model, batcher, decoder)
    for name in _NAMES:
        await status.set(name, _SERVING)
    tell("ready", max_batch=options.max_batch, places=options.capacity)
    try:
        signalled = await _first(stop, batches)
        tell("draining", signal=signalled, calls=service.calls)
        await status.enter_graceful_shutdown()
        service.close()
        drained = asyncio.create_task(service.drained())
        async with asyncio.timeout(options.drain_seconds):
            again = await _first(stop, drained)
    except TimeoutError:
        again = f"{options.drain_seconds:g} seconds"
    finally:
        batches.cancel()
        decoder.close()
    if again:
        raise VsamError(f"{service.calls} calls were cut off by {again} while answers were due.")


async def _first(stop: asyncio.Queue[str], work: asyncio.Future[Any]) -> str:
    """Wait for a signal, whose name is given, or for some work, whose error is raised."""
    signalled = asyncio.create_task(stop.get())
    try:
        await asyncio.wait([signalled, work], return_when=asyncio.FIRST_COMPLETED)
        if signalled.done():
            return signalled.result()
        work.result()
        return ""
    finally:
        signalled.cancel()


def _signals() -> asyncio.Queue[str]:
    """Give a queue of the names of the signals that ask to end."""
    names: asyncio.Queue[str] = asyncio.Queue()
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        number = getattr(signal, name, None)
        # Whoever runs us with `nohup` wants SIGHUP to be ignored.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends it at once
                asyncio.get_running_loop().add_signal_handler(number, names.put_nowait, name)
    return names


def _build(
    options: ServerOptions, service: TagService, status: Any, metrics: Metrics
) -> grpc.aio.Server:
    guards = []
    if options.token_file is not None:
        known = {PREDICT: "predict", STREAM_PREDICT: "stream_predict"}
        guards.append(
            TokenGuard(
                read_tokens(options.token_file),
                lambda method: metrics.refuse(known.get(method, "other"), "UNAUTHENTICATED"),
            )
        )
    server = grpc.aio.server(
        interceptors=guards,
        maximum_concurrent_rpcs=_MAX_CALLS,
        options=[
            ("grpc.max_receive_message_length", options.max_message),
            # Else two servers could share a port without a word.
            ("grpc.so_reuseport", 0),
            ("grpc.server.max_pending_requests", _MAX_UNSEEN),
            ("grpc.server.max_pending_requests_hard_limit", 2 * _MAX_UNSEEN),
        ],
    )
    server.add_generic_rpc_handlers([service.handler()])
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    reflection.enable_server_reflection(
        [SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME], server, pool=_described()
    )
    return server


def _described() -> descriptor_pool.DescriptorPool:
    """Give a pool with all services that the server has, for reflection."""
    pool = descriptor_pool.DescriptorPool()
    for file in (FILE, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        pool.AddSerializedFile(file.serialized_pb)
    return pool


def _bind(server: grpc.aio.Server, options: ServerOptions) -> int:
    credentials, address = server_credentials(options), options.address(options.port)
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:  # gRPC's text names neither the reason nor a remedy
        raise VsamError(
            f"Could not listen on {address}. Is the port taken? Name another --port or --host."
        ) from error


@contextlib.contextmanager
def _metrics_port(options: ServerOptions, metrics: Metrics) -> Iterator[str]:
    if options.metrics_port is None:
        yield "off"
        return
    port, close = metrics.listen(options.host, options.metrics_port)
    try:
        yield options.address(port)
    finally:
        close()
