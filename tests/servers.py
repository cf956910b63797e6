"""Servers that tests talk to: processes, with the real model or one that the test steers.

`python tests/servers.py GATE OPTION=VALUE…` serves a model that names the colour of a photo's first
pixel. It waits while the file GATE is there, its loading while GATE.load is there, and the decoding
of large photos while GATE.large is there.
"""

import contextlib
import io
import os
import re
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from processes import WAIT, Logged, logged


class Server(Logged):
    """A process that serves, once it listens."""

    @property
    def address(self) -> str:
        return self._listening_at("address")

    @property
    def metrics_address(self) -> str:
        return self._listening_at("metrics")

    def _listening_at(self, name: str) -> str:
        listening = next(line for line in self.lines if "event=listening" in line)
        return re.search(rf"{name}=(\S+)", listening)[1]

    def metrics(self) -> dict[str, float]:
        """Ask for its metrics, as Prometheus does."""
        with urllib.request.urlopen(f"http://{self.metrics_address}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
        return {name: float(value) for name, value in pairs}

    def wait_until(self, name: str, value: float) -> None:
        """Wait until a metric has a value."""
        until = time.monotonic() + WAIT
        while (found := self.metrics().get(name)) != value:
            assert time.monotonic() < until, f"{name} is {found}, not {value}"
            time.sleep(0.01)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Tell it to end, and wait."""
        self.process.send_signal(number)
        return self.wait()


@contextlib.contextmanager
def running(command: Sequence[object], *, ready: bool = True) -> Iterator[Server]:
    """Run a server until the block ends; it is ready, or only listens."""
    with logged(command, Server) as server:
        server.wait_for("event=listening")
        if ready:
            server.wait_for("event=ready")
        yield server


def command_line(run: Path, *options: object) -> list[object]:
    """Write the command that serves a run, on ports that are free."""
    vsam = Path(sys.executable).parent / "vsam"
    ports = ("--port", 0, "--metrics-port", 0)
    return [vsam, "serve", "--model", run, "--device", "cpu", *ports, *options]


def steered(
    gate: Path, *, ready: bool = True, **options: Any
) -> contextlib.AbstractContextManager[Server]:
    """Run a server whose model waits while `gate` is there."""
    given = {"port": 0, "metrics_port": 0} | options
    values = [f"{name}={value}" for name, value in given.items()]
    return running([sys.executable, __file__, gate, *values], ready=ready)


def photo(colour: Sequence[int], side: int = 8) -> bytes:
    """Draw a PNG of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), tuple(colour)).save(buffer, "PNG")
    return buffer.getvalue()


def colour(number: int) -> tuple[int, int, int]:
    """Give each number below 4,096 a colour of its own."""
    return number % 16 * 16, number // 16 % 16 * 16, number // 256 * 16


def name(colour: Sequence[int]) -> str:
    return "-".join(map(str, colour))


class SteeredModel:
    """Names the colour of a photo's first pixel."""

    def __init__(self, gate: Path) -> None:
        self._gate = gate
        while gate.with_suffix(".load").exists():
            time.sleep(0.002)
        if gate.with_suffix(".fail").exists():
            from vsam_heatmaps.errors import VsamError

            raise VsamError("The model can't be loaded.")

    def prepare(self, data: bytes) -> np.ndarray:
        from vsam_heatmaps.images import decode_photo

        pixels = decode_photo(data)
        while len(pixels) > 4000 and self._gate.with_suffix(".large").exists():
            time.sleep(0.002)
        return pixels[0, 0]

    def predict(self, items: Sequence[np.ndarray]) -> list[np.ndarray]:
        if any(item.tolist() == [255, 0, 255] for item in items):
            raise RuntimeError("the model fails on magenta")
        while self._gate.exists():
            time.sleep(0.002)
        return list(items)

    def describe(
        self, prediction: np.ndarray, *, all_categories: bool, all_attributes: bool
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        said = [{"label": name(prediction.tolist()), "score": 1.0}]
        return said * (2 if all_categories else 1), [
            {"label": "a" * 100_000, "score": 1.0}
        ] if all_attributes else []


if __name__ == "__main__":
    import logging

    from vsam.serving.options import ServerOptions
    from vsam.serving.server import serve
    from vsam_heatmaps.errors import VsamError

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    values: dict[str, Any] = {}
    for given in sys.argv[2:]:
        key, _, text = given.partition("=")
        kind: Any = float if key.endswith(("_seconds", "_ms")) else int
        values[key] = (Path if key.startswith(("tls_", "token_")) else kind)(text)
    try:
        serve(ServerOptions(**values), lambda: SteeredModel(Path(sys.argv[1])))
    except VsamError as error:
        print(f"error: {error}", file=sys.stderr)
        os._exit(1)
