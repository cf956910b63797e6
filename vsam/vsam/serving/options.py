"""What a server is told: where it listens, how much it takes, whom it answers."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

from vsam_heatmaps.errors import VsamError, expected

DEFAULT_PORT = 8061
MIB = 1 << 20

_SLACK = 4 * MIB
"""A message may be larger than a photo by so much, so that it is ours to say what is wrong."""


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How a server listens, batches and protects itself.

    Attributes:
        host: Address or name to listen on.
        port: 0 takes any that is free.
        max_batch: Most photos in one forward pass.
        max_wait_ms: For how long a batch waits for those whom the last one answered.
        max_queue: Most photos that are received, decoded, waiting or in the model; 0 is four
            batches.
        max_bytes: Largest file of a photo.
        max_pixels: Photos with more pixels are refused.
        max_stream: Most photos in a `stream_predict`.
        buffer_bytes: Photos are received and decoded side by side as far as this holds the largest;
            half of it is for streams.
        workers: Threads that decode.
        idle_seconds: A call that brings no whole photo for so long is ended.
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
    max_batch: int = 16
    max_wait_ms: float = 10.0
    max_queue: int = 0
    max_bytes: int = 20 * MIB
    max_pixels: int = 100_000_000
    max_stream: int = 10_000
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
        for name in ("max_batch", "max_bytes", "max_pixels", "max_stream", "workers"):
            if getattr(self, name) < 1:
                raise expected(name, "at least 1", getattr(self, name))
        for name in ("max_wait_ms", "drain_seconds", "max_queue"):
            if not getattr(self, name) >= 0:
                raise expected(name, "0 or more", getattr(self, name))
        if not self.idle_seconds > 0:
            raise expected("idle_seconds", "positive", self.idle_seconds)
        for name in ("port", "metrics_port"):
            if not 0 <= (getattr(self, name) or 0) <= 65535:
                raise expected(name, "from 0 to 65535", getattr(self, name))
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
    def capacity(self) -> int:
        """Places for photos."""
        return self.max_queue or 4 * self.max_batch

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
