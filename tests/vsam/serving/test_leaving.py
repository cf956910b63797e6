"""Clients that leave at the moment in which they are answered.

gRPC then fails to write, or to end the call, with an error that these services raise themselves:
when it comes is chance.
"""

import asyncio
import logging
from collections.abc import Mapping

import grpc
import pytest
from grpc._cython import cygrpc

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


async def call(handler: grpc.GenericRpcHandler) -> None:
    """Call a method once, and leave when it had its moment to fail."""
    with grpc_logged():
        server = grpc.aio.server()
        server.add_generic_rpc_handlers([handler])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.RpcError):
                await channel.unary_unary("/TagMyOutfitService/predict")(b"", timeout=1)
        await server.stop(None)


def ours(error: Exception) -> grpc.GenericRpcHandler:
    (service := Raising(error)).open()
    return service.handler()


@pytest.mark.parametrize("make", [ours, Unknown])
def test_who_left_is_no_failure_of_the_server(caplog, make):
    caplog.set_level(logging.DEBUG, "vsam.serving")
    asyncio.run(call(make(LEFT)))
    assert [r.name for r in caplog.records if r.levelno > logging.INFO] == []
    assert "event=left" in caplog.text
    assert "Traceback" not in caplog.text
    assert ("code=CANCELLED" in caplog.text) == (make is ours)


@pytest.mark.parametrize(("make", "logger"), [(ours, "vsam"), (Unknown, "grpc")])
def test_other_failures_are_logged_with_their_traces(caplog, make, logger):
    asyncio.run(call(make(RuntimeError("no colour"))))
    errors = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert [r.name.split(".")[0] for r in errors] == [logger]
    assert "RuntimeError: no colour" in caplog.text
