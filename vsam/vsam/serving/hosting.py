"""Run any service from its first byte to its last: bind, load, answer, drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_NAME
from grpc_reflection.v1alpha import reflection, reflection_pb2

from vsam_heatmaps import interrupts
from vsam_heatmaps.counting import counted
from vsam_heatmaps.errors import VsamError

from .calls import Service
from .logs import grpc_logged, tell
from .messages import Interface
from .metrics import Metrics
from .options import ServiceOptions
from .security import TokenGuard, server_credentials
from .tokens import Tokens

_MAX_CALLS = 4096  # of all methods at once: health and reflection have no places of their own
# Calls that came but were not looked at yet. Beyond, by default a thousand, gRPC drops them as
# CANCELLED, which tells a client nothing; looking at one takes a fraction of a millisecond.
_MAX_UNSEEN = 10_000
_SECONDS_TO_SEND = 5.0  # the last answers need to reach their clients
# gRPC cancels what is left when it has stopped, and the tasks need a moment to see it. What the end
# of the loop finds is logged with tracebacks, as an open stream of reflection was.
_SECONDS_TO_CANCEL = 5.0


def host(options: ServiceOptions, make: Callable[[Metrics], Service]) -> None:
    """Answer until SIGTERM, SIGINT or SIGHUP, then answer what was accepted, and return.

    A second signal ends the calls that are left. The port is open from the start: calls are
    refused, and health says NOT_SERVING, until the service has loaded what it needs.

    Args:
        options: Where and how.
        make: Makes the service, on the event loop.

    Raises:
        VsamError: If the port or a file can't be used, as `Service.load`, or if calls were cut off
            because they took longer than the time for draining.
    """
    with grpc_logged():
        asyncio.run(_host(options, make))


async def _host(options: ServiceOptions, make: Callable[[Metrics], Service]) -> None:
    stop = _signals()
    metrics = Metrics()
    service = make(metrics)
    health = _Health(service.interface.service)
    server = _build(options, service, health, metrics)
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
            loading = asyncio.get_running_loop().run_in_executor(thread, service.load)
            if name := await _first(stop, loading):
                tell("ending", signal=name)
            else:
                service.start(thread)
                await _answer(options, service, health, stop)
        finally:
            health.end()
            await server.stop(_SECONDS_TO_SEND)
            if left := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(left, timeout=_SECONDS_TO_CANCEL)
    tell("ended", address=address)


async def _answer(
    options: ServiceOptions, service: Service, health: _Health, stop: asyncio.Queue[str]
) -> None:
    """Answer until a signal comes, and drain."""
    work = asyncio.create_task(service.work())
    service.open()
    health.start()
    tell("ready", logging.INFO, trace=False, **service.about)
    try:
        signalled = await _first(stop, work)
        tell("draining", signal=signalled, calls=service.calls)
        health.end()
        service.close()
        drained = asyncio.create_task(service.drained())
        async with asyncio.timeout(options.drain_seconds):
            again = await _first(stop, drained)
    except TimeoutError:
        again = f"{options.drain_seconds:g} seconds"
    finally:
        if left := service.calls:
            tell("cutting", logging.WARNING, calls=left)
        service.cut()
        work.cancel()
        # Not here: while a thread finishes a large photo, calls that are cut off must be told.
        await asyncio.to_thread(service.shut)
    if again:
        cut = counted(left, "call was", "calls were")
        raise VsamError(f"{cut} cut off by {again} while answers were due.")


class _Health(health_pb2_grpc.HealthServicer):
    """Tells the health of the whole server and of its service: not serving but from start to end.

    Then it ends the streams of who watches. That of `grpc_health` doesn't, and the server would
    wait for them.
    """

    def __init__(self, service: str) -> None:
        self._known = {"", service}
        self._status, self._ended = health_pb2.HealthCheckResponse.NOT_SERVING, False
        self._changed = asyncio.Event()

    def start(self) -> None:
        self._set(health_pb2.HealthCheckResponse.SERVING)

    def end(self) -> None:
        self._ended = True
        self._set(health_pb2.HealthCheckResponse.NOT_SERVING)

    def _set(self, status: int) -> None:
        self._status, changed = status, self._changed
        self._changed = asyncio.Event()
        changed.set()

    async def Check(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        if request.service not in self._known:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return health_pb2.HealthCheckResponse(status=self._status)

    async def Watch(self, request: Any, context: grpc.aio.ServicerContext) -> None:
        unknown, told = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN, None
        while True:
            ended, changed = self._ended, self._changed
            status = self._status if request.service in self._known else unknown
            if status != told:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                told = status
            if ended:
                return
            await changed.wait()


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
    for number in interrupts.signals_to_end():
        name = signal.Signals(number).name
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends it at once
            asyncio.get_running_loop().add_signal_handler(number, names.put_nowait, name)
    return names


def _build(
    options: ServiceOptions, service: Service, health: _Health, metrics: Metrics
) -> grpc.aio.Server:
    guards = []
    if options.token_file is not None:
        known = {
            service.interface.path(method.name): method.name for method in service.interface.methods
        }
        guards.append(
            TokenGuard(
                Tokens(options.token_file),
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
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    reflection.enable_server_reflection(
        [service.interface.service, HEALTH_NAME, reflection.SERVICE_NAME],
        server,
        pool=_described(service.interface),
    )
    return server


def _described(interface: Interface) -> descriptor_pool.DescriptorPool:
    """Give a pool with all services that the server has, for reflection."""
    pool = descriptor_pool.DescriptorPool()
    for file in (interface.file, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        pool.AddSerializedFile(file.serialized_pb)
    return pool


def _bind(server: grpc.aio.Server, options: ServiceOptions) -> int:
    credentials, address = server_credentials(options), options.address(options.port)
    # gRPC would print lines of its own, and its error does not say why.
    if reason := _refusal(options):
        raise VsamError(f"Could not listen on {address}: {reason}. Name another --port or --host.")
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise VsamError(
            f"Could not listen on {address}. Is the port taken? Name another --port or --host."
        ) from error


def _refusal(options: ServiceOptions) -> str | None:
    """Say why nothing can listen where a server shall; one address of its host is enough."""
    reason: str | None = None
    try:
        for family, kind, _, _, address in socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM
        ):
            try:
                with socket.socket(family, kind) as tried:
                    tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    tried.bind(address)
                return None
            except OSError as error:
                reason = error.strerror
    except OSError as error:  # there is no such host
        reason = error.strerror
    return reason


@contextlib.contextmanager
def _metrics_port(options: ServiceOptions, metrics: Metrics) -> Iterator[str]:
    if options.metrics_port is None:
        yield "off"
        return
    port, close = metrics.listen(options.host, options.metrics_port)
    try:
        yield options.address(port)
    finally:
        close()
