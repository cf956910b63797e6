"""What a server is told: where it listens, how much it takes, whom it answers."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

from vsam_heatmaps.errors import VsamError, expected
from vsam_heatmaps.images import MAX_PIXELS

DEFAULT_PORT = 8061
MIB = 1 << 20

_MAX_MESSAGE = 2**31 - 1  # bytes; gRPC knows no larger limit
_SLACK = 4 * MIB
"""A message may be larger than a photo by so much, so that it is ours to say what is wrong."""


@dataclass(frozen=True, kw_only=True)
class ServiceOptions:
    """How a service listens, how much it takes, and how it protects itself.

    Attributes:
        host: Address or name to listen on.
        port: 0 takes any that is free.
        max_queue: Most photos that are received, decoded, waiting or worked on; 0 is four for each
            that can be worked on at a time.
        max_bytes: Largest file of a photo.
        max_pixels: Photos with more pixels are refused.
        buffer_bytes: Photos are received and decoded side by side as far as this holds the largest;
            half of it is for streams.
        workers: Threads that decode.
        idle_seconds: A call that brings no whole photo, or takes none, for so long is ended.
        drain_seconds: Time for the answers that are due when the server is told to end.
        tls_cert, tls_key: PEM files of the server's certificate chain and key.
        tls_client_ca: PEM file of who signs the certificates that clients must have.
        token_file: Tokens, one a line, one of which each call must bring.
        insecure: Allow a host that others reach without TLS and tokens.
        metrics_port: Where Prometheus asks; 0 takes any that is free, None is off.

    Raises:
        VsamError: If a value is out of its range, or the server would be open to others.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    max_queue: int = 0
    max_bytes: int = 20 * MIB
    max_pixels: int = MAX_PIXELS
    buffer_bytes: int = 512 * MIB
    workers: int = 4
    idle_seconds: float = 60.0
    drain_seconds: float = 30.0
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    token_file: Path | None = None
    insecure: bool = False
    metrics_port: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_pixels", "workers"):
            check_least(self, name, 1)
        for name in ("drain_seconds", "max_queue"):
            check_least(self, name, 0)
        if not self.idle_seconds > 0:
            raise expected("idle_seconds", "positive", self.idle_seconds)
        for name in ("port", "metrics_port"):
            check_port(name, getattr(self, name) or 0)
        if self.max_message > _MAX_MESSAGE:
            raise expected("max_bytes", f"at most {_MAX_MESSAGE - _SLACK}", self.max_bytes)
        if self.receiving < 2:
            raise expected(
                "buffer_bytes",
                f"at least {4 * self.max_message} for photos of {self.max_bytes} bytes",
                self.buffer_bytes,
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise VsamError("Expected --tls-cert and --tls-key to come together, but got one.")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise VsamError("Expected --tls-client-ca to come with --tls-cert and --tls-key.")
        if not (self.tls_cert or self.token_file or self.insecure or self.is_local):
            raise VsamError(
                f"Expected `--host` to be this machine's own, but others reach {self.host}. Give "
                "--tls-cert and --tls-key, or --token-file, or --insecure if a firewall guards it."
            )

    @property
    def is_local(self) -> bool:
        """Whether this machine alone reaches the server."""
        return is_loopback(self.host)

    @property
    def at_a_time(self) -> int:
        """Photos that are worked on at a time."""
        return self.workers

    @property
    def capacity(self) -> int:
        """Places for photos."""
        return self.max_queue or 4 * self.at_a_time

    @property
    def max_message(self) -> int:
        """Bytes of the largest message that is received at all."""
        return self.max_bytes + _SLACK

    @property
    def receiving(self) -> int:
        """Photos that are received and decoded at a time, and as many of streams."""
        return self.buffer_bytes // (2 * self.max_message)

    @property
    def max_large(self) -> int:
        """Of those that are no stream's, most that take long: room for others is left."""
        return self.receiving // 2

    def address(self, port: int) -> str:
        """Write host and port as gRPC takes them."""
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"


@dataclass(frozen=True, kw_only=True)
class ServerOptions(ServiceOptions):
    """Options of `TagMyOutfitService`, which batches.

    Attributes:
        max_batch: Most photos in one forward pass; `max_queue` 0 is four batches.
        max_wait_ms: For how long a batch waits for those whom the last one answered.
        max_stream: Most photos in a `stream_predict`.

    Raises:
        VsamError: As `ServiceOptions`.
    """

    max_batch: int = 16
    max_wait_ms: float = 10.0
    max_stream: int = 10_000

    def __post_init__(self) -> None:
        for name in ("max_batch", "max_stream"):
            check_least(self, name, 1)
        check_least(self, "max_wait_ms", 0)
        super().__post_init__()

    @property
    def at_a_time(self) -> int:
        """Photos in a forward pass."""
        return self.max_batch


def check_least(options: object, name: str, least: int) -> None:
    """Refuse a value that is below the least, or not a number.

    Raises:
        VsamError: If it is.
    """
    value = getattr(options, name)
    if not value >= least:
        raise expected(name, f"at least {least}" if least else "0 or more", value)


def check_port(name: str, port: int) -> None:
    """Refuse what is no port.

    Raises:
        VsamError: If it is none.
    """
    if not 0 <= port <= 65535:
        raise expected(name, "from 0 to 65535", port)


def is_loopback(host: str) -> bool:
    """Say whether a host, name or address, is reached from this machine alone.

    Raises:
        VsamError: If there is no such host.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None)
    except OSError as error:
        raise VsamError(
            f"Expected `--host` to be an address of this machine, but {host!r} has none: "
            f"{error.strerror}."
        ) from error
    return all(ipaddress.ip_address(str(entry[4][0])).is_loopback for entry in found)
