"""A Ray cluster (https://docs.ray.io) for the engines that run on one: connected to, or started."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .errors import VsamError


@contextmanager
def cluster(workers: int | None) -> Iterator[None]:
    """Connect to the cluster that `RAY_ADDRESS` names, or start one on this machine.

    What the caller has connected to already is used, and left as it is.

    Args:
        workers: CPUs of one that is started here; None: all.

    Raises:
        VsamError: If there is no such cluster.
    """
    import ray
    import ray.data

    if ray.is_initialized():
        yield
        return
    # Nothing is sent anywhere, and what no user can change is not told.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    logging.getLogger("ray").setLevel(logging.ERROR)
    address = os.environ.get("RAY_ADDRESS")
    here: dict[str, Any] = {"address": "local", "num_cpus": workers, "include_dashboard": False}
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        if address:
            _check_that_somebody_listens(address)
        with _stderr_closed():  # its C++ side says how much it will say
            ray.init(
                **({"address": address} if address else here),
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (OSError, RuntimeError, ValueError) as error:
        said = (str(error) or repr(error)).splitlines()[0].rstrip(".")
        raise VsamError(
            f"Could not connect to the Ray cluster {address or 'on this machine'}: {said}. "
            "Check RAY_ADDRESS, or unset it to use this machine alone."
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, terminate)  # Ray puts its own there
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def _check_that_somebody_listens(address: str) -> None:
    """Fail at once where Ray itself would try for five minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "//" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=20).close()


@contextmanager
def _stderr_closed() -> Iterator[None]:
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
