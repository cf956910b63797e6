"""Decode files in a process of its own, under hard limits, and measure each.

Run it as a script; `watched` does. Where a decoder crashes, hangs or fills the memory, this process
ends, and nothing else.
"""

import contextlib
import faulthandler
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

MEMORY = 2 << 30
"""Bytes of address space that decoding may take: a hard stop."""

SECONDS = 120
"""CPU time of all files together: a hard stop."""


def watched(*requests: dict) -> list[dict]:
    """Decode in another process.

    Each request has a `path` and `max_pixels`, or it has `mutations`, their number, of the file at
    `path`.

    Returns:
        For each request what `_decoded` or `_mutated` tell. A process that ends early gives fewer;
        the last one then has `error`.
    """
    done = subprocess.run(
        [sys.executable, __file__],
        input="\n".join(map(json.dumps, requests)),
        capture_output=True,
        text=True,
        errors="replace",
        timeout=240,
        check=False,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode:
        answers.append({"error": f"exit code {done.returncode}: {done.stderr[-2000:]}"})
    return answers


def _main() -> None:
    import resource

    from image_files import samples

    from vsam_heatmaps.images import decode

    for data in samples().values():  # whatever is loaded at the first use is loaded now
        decode(data)
    faulthandler.enable()
    virtual = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (virtual + MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    for line in sys.stdin:
        request = json.loads(line)
        path = Path(request["path"])
        if "mutations" in request:
            answer = _mutated(path, request["mutations"])
        else:
            answer = _decoded(path, request["max_pixels"])
        print(json.dumps(answer), flush=True)


def _decoded(path: Path, max_pixels: int) -> dict:
    """Decode a file in full and reduced; tell outcomes, CPU seconds and peak bytes of the first."""
    from vsam_heatmaps.images import read_bytes

    with _measured() as measured:
        answer = _outcome(read_bytes(path), max_pixels)
    reduced = _outcome(read_bytes(path), max_pixels, least_side=20)
    return answer | measured | {"reduced": reduced, "bytes": path.stat().st_size}


def _outcome(data: bytes, max_pixels: int, least_side: int | None = None) -> dict:
    from vsam_heatmaps.errors import UnreadablePhotoError
    from vsam_heatmaps.images import decode

    try:
        decoded = decode(data, max_pixels=max_pixels, least_side=least_side)
    except UnreadablePhotoError as error:
        return {"outcome": "unreadable", "reason": str(error)}
    except Exception as error:
        return {"outcome": "error", "reason": repr(error)}
    shape, kind = decoded.image.shape, str(decoded.image.dtype)
    return {"outcome": "readable", "size": decoded.size, "shape": shape, "dtype": kind}


def _mutated(path: Path, count: int) -> dict:
    """Decode a file with random changes; tell outcomes, what went wrong, and the peak in bytes."""
    from hostile import mutated

    data, wrong, outcomes = path.read_bytes(), [], {"readable": 0, "unreadable": 0}
    with _measured() as measured:
        for seed in range(count):
            rng = random.Random(seed)
            started = time.process_time()
            found = _outcome(mutated(data, rng), 1_000_000, rng.choice((None, 20)))
            took = time.process_time() - started
            whole = found.get("reason", "x").isprintable() and found["outcome"] in outcomes
            if not whole or took > 1:
                wrong.append([seed, took, found])
            else:
                outcomes[found["outcome"]] += 1
    return outcomes | measured | {"wrong": wrong}


@contextlib.contextmanager
def _measured() -> Iterator[dict]:
    """Give CPU seconds and the peak of memory in bytes, above what was in use."""
    # Not getrusage: its peak can't be set back, and a new process inherits its parent's.
    Path("/proc/self/clear_refs").write_text("5")
    before, started, measured = _peak(), time.process_time(), {}
    yield measured
    measured |= {"seconds": time.process_time() - started, "peak": _peak() - before}


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


if __name__ == "__main__":
    _main()
