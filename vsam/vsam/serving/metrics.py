"""What the server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from vsam_heatmaps.errors import VsamError

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "vsam_requests",
            "Calls by the gRPC code of their answer.",
            ["method", "code"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "vsam_request_seconds",
            "Time from a call's start to its answer.",
            ["method"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._batches = Histogram(
            "vsam_batch_photos",
            "Photos in a forward pass.",
            buckets=_BATCHES,
            registry=self._registry,
        )

    def observe(self, method: str, code: str, seconds: float) -> None:
        """Count a call that ended."""
        self._requests.labels(method, code).inc()
        self._seconds.labels(method).observe(seconds)

    def refuse(self, method: str, code: str) -> None:
        """Count a call that was not looked at."""
        self._requests.labels(method, code).inc()

    def batch(self, size: int) -> None:
        """Count a forward pass."""
        self._batches.observe(size)

    def watch(self, name: str, about: str, value: Callable[[], float]) -> None:
        """Report a value whenever somebody asks."""
        Gauge(name, about, registry=self._registry).set_function(value)

    def listen(self, host: str, port: int) -> tuple[int, Callable[[], None]]:
        """Answer Prometheus over HTTP: the port, and what ends it.

        Raises:
            VsamError: If the port is taken or not allowed.
        """
        try:
            server, thread = start_http_server(port, addr=host, registry=self._registry)
        except OSError as error:
            raise VsamError(
                f"Could not listen on port {port} of {host} for metrics: {error.strerror}. Name "
                "another --metrics-port."
            ) from error

        def close() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return server.server_port, close
