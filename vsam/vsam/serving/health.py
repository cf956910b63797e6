"""Ask a server whether it is ready; for the health checks of containers.

python -m vsam.serving.health [ADDRESS]

The exit code is 0 if it is, else 1. Loads little, for it runs every few seconds.
"""

from __future__ import annotations

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_SECONDS = 5.0

NO_PROXY = ("grpc.enable_http_proxy", 0)
"""A channel's option: gRPC would ask this machine's servers, too, through http_proxy."""


def is_serving(channel: grpc.Channel, *, timeout: float | None = _SECONDS) -> bool:
    """Say whether a server has what it needs and takes calls; False also if nobody answers.

    Args:
        channel: A connection to it.
        timeout: Seconds; None waits for ever.
    """
    stub = health_pb2_grpc.HealthStub(channel)
    try:
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout)
    except grpc.RpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def main() -> None:
    """Ask the server at the address that the command line names."""
    address = sys.argv[1] if len(sys.argv) > 1 else "localhost:8061"
    with grpc.insecure_channel(address, [NO_PROXY]) as channel:
        sys.exit(0 if is_serving(channel) else 1)


if __name__ == "__main__":
    main()
