"""Where clients find a server, and whether a proxy stands between."""

from __future__ import annotations

import ipaddress
import os
import re

from vsam_heatmaps.errors import expected

_HOST_AND_PORT = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<host>[^:/\[\]\s]+)):(?P<port>\d{1,5})")
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")  # gRPC's, in its order


def is_this_machine(address: str) -> bool:
    """Say whether a server's address, by itself, is on this machine; no name is looked up.

    Args:
        address: `HOST:PORT`, or `unix:PATH`.

    Raises:
        VsamError: If it is neither.
    """
    if address.startswith("unix:"):
        return True
    found = _HOST_AND_PORT.fullmatch(address)
    if found is None or not 0 < int(found["port"]) < 1 << 16:
        raise expected("address", "HOST:PORT, as localhost:8061, or unix:PATH", repr(address))
    host = found["ipv6"] or found["host"]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def proxy_variable() -> str | None:
    """Name the environment's variable from which gRPC takes a proxy; None if there is none."""
    return next((name for name in _PROXIES if os.environ.get(name)), None)
