"""Who may ask: TLS with or without certificates of clients, and bearer tokens."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc

from vsam_heatmaps.errors import VsamError, explain_os_error

from .options import ServiceOptions
from .tokens import Tokens

HEALTH = "/grpc.health.v1.Health/"
"""Open to everybody: load balancers have no token, and it tells nothing but its state."""


def read_file(path: Path) -> bytes:
    """Read a small file.

    Raises:
        VsamError: If it can't be.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise explain_os_error(error, f"read {path}") from error


def tls_context(options: ServiceOptions) -> ssl.SSLContext | None:
    """Make what Python's own servers need for TLS; None without it.

    Raises:
        VsamError: If a file is missing, holds something else, or key and certificate don't fit.
    """
    if options.tls_cert is None or options.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, options.tls_client_ca, options.tls_cert, options.tls_key)
    if options.tls_client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _load(
    context: ssl.SSLContext, authority: Path | None, cert: Path | None, key: Path | None
) -> None:
    """Load the files that are given; says what is wrong with them, which gRPC doesn't."""
    for path in (authority, cert, key):
        if path is not None:
            read_file(path)  # ssl would not name the file
    if cert is not None:
        try:
            # A password that is asked for on a terminal would stop a server.
            context.load_cert_chain(cert, key, password=lambda: "")
        except (ssl.SSLError, ValueError) as error:
            raise VsamError(
                f"Expected {cert} and {key} to be a certificate and its key, "
                f"PEM without a password, but {_reason(error)}."
            ) from error
    if authority is not None:
        try:
            context.load_verify_locations(authority)
        except ssl.SSLError as error:
            raise VsamError(
                f"Expected {authority} to hold PEM certificates, but {_reason(error)}."
            ) from error


def server_credentials(options: ServiceOptions) -> grpc.ServerCredentials | None:
    """Read certificates and key for gRPC; None without TLS.

    Raises:
        VsamError: As `tls_context`.
    """
    if tls_context(options) is None or options.tls_cert is None or options.tls_key is None:
        return None
    authority = read_file(options.tls_client_ca) if options.tls_client_ca else None
    return grpc.ssl_server_credentials(
        [(read_file(options.tls_key), read_file(options.tls_cert))],
        root_certificates=authority,
        require_client_auth=authority is not None,
    )


def channel_credentials(
    authority: Path | None, cert: Path | None, key: Path | None
) -> grpc.ChannelCredentials:
    """Read what a client needs for TLS.

    Args:
        authority: PEM file of who signed the server's certificate; None trusts whom gRPC trusts.
        cert: PEM file of a certificate of its own, or None.
        key: PEM file of its key, or None.

    Raises:
        VsamError: As `tls_context`.
    """
    _load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), authority, cert, key)
    return grpc.ssl_channel_credentials(
        *(path and read_file(path) for path in (authority, key, cert))
    )


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or str(error)


class TokenGuard(grpc.aio.ServerInterceptor):
    """Refuses calls without a token, before their photos are received. Health is open.

    Args:
        tokens: Those that are known.
        on_refusal: Told each refused method.
    """

    def __init__(self, tokens: Tokens, on_refusal: Callable[[str], None]) -> None:
        self._tokens, self._on_refusal = tokens, on_refusal

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        """Pass a call on, or give the handler that refuses it."""
        if details.method.startswith(HEALTH) or self._admits(details.invocation_metadata):
            return await continuation(details)
        self._on_refusal(details.method)
        return grpc.stream_stream_rpc_method_handler(_refuse)

    def _admits(self, metadata: Any) -> bool:
        given = [value for name, value in metadata or () if name == "authorization"]
        return len(given) == 1 and isinstance(given[0], str) and self._tokens.admits(given[0])


async def _refuse(requests: object, context: grpc.aio.ServicerContext) -> None:
    await context.abort(
        grpc.StatusCode.UNAUTHENTICATED,
        "Expected the metadata `authorization: Bearer TOKEN` with a token of this server.",
    )
