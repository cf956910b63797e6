"""Clients that leave at the moment in which they are answered.

gRPC then fails to write, or to end the call, with an error that these services raise themselves:
when it comes is chance.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping

import grpc
import pytest
from grpc._cython import cygrpc
from servers import WAIT

from vsam.serving.calls import Method, Service
from vsam.serving.logs import grpc_logged
from vsam.serving.messages import TAG_MY_OUTFIT
from vsam.serving.metrics import Metrics
from vsam.serving.options import ServiceOptions

LEFT = cygrpc.ExecuteBatchError('Failed "execute_batch"')


class Raising(Service):
    """Fails to answer."""

    interface = TAG_MY_OUTFIT

    def __init__(self, error: Exception) -> None:
        super().__init__(ServiceOptions(), Metrics())
        self._error = error

    def load(self) -> None: ...

    def start(self, _: object) -> None: ...

    def shut(self) -> None: ...

    def methods(self) -> Mapping[str, Method]:
        return {"predict": self._fail, "stream_predict": self._fail}

    async def _fail(self, _: object) -> None:
        raise self._error


class Unknown(grpc.GenericRpcHandler):
    """Fails as a service that is not ours, such as that of reflection."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def service(self, _: object) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(self._fail)

    async def _fail(self, *_: object) -> None:
        raise self._error


async def call(handler: grpc.GenericRpcHandler, logged: Callable[[], bool]) -> None:
    """Call a method once, and leave when its failure has been logged."""
    with grpc_logged():
        server = grpc.aio.server()
        server.add_generic_rpc_handlers([handler])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            waiting = channel.unary_unary("/TagMyOutfitService/predict")(b"", timeout=WAIT)
            async with asyncio.timeout(WAIT):
                while not logged():
                    await asyncio.sleep(0.01)
            waiting.cancel()
        await server.stop(None)


def ours(error: Exception) -> grpc.GenericRpcHandler:
    (service := Raising(error)).open()
    return service.handler()


@pytest.mark.parametrize("make", [ours, Unknown])
def test_who_left_is_no_failure_of_the_server(caplog, make):
    caplog.set_level(logging.DEBUG, "vsam.serving")
    asyncio.run(call(make(LEFT), lambda: "event=left" in caplog.text))
    assert [r.name for r in caplog.records if r.levelno > logging.INFO] == []
    assert "Traceback" not in caplog.text
    assert ("code=CANCELLED" in caplog.text) == (make is ours)


@pytest.mark.parametrize(("make", "logger"), [(ours, "vsam"), (Unknown, "grpc")])
def test_other_failures_are_logged_with_their_traces(caplog, make, logger):
    error = RuntimeError("no colour")
    asyncio.run(call(make(error), lambda: str(error) in caplog.text))
    errors = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert [r.name.split(".")[0] for r in errors] == [logger]
    assert "RuntimeError: no colour" in caplog.text
