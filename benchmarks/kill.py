"""Kill an extraction at random moments until it has survived enough, and compare what it made.

    python benchmarks/kill.py PHOTOS --kills 30

Each time the command is killed by SIGKILL (the main process alone, the whole process group, or one
worker, by turns) or ended by SIGTERM, then started again, until it ends by itself; then anew in an
empty folder. In the end each folder must hold each photo once, and every record must equal that of
an undisturbed run, byte for byte.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from vsam_heatmaps.photos import list_photos
from vsam_heatmaps.shards import PATTERN, Record, Shards

_RUN = "from vsam_cli.heatmaps import run; run()"
_WAYS = ("main", "group", "worker", "terminate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--shard-size", type=int, default=20)
    parser.add_argument("--longest", type=float, default=5.0, help="seconds until a kill, at most")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as work:
        undisturbed = Path(work) / "undisturbed"
        start = time.monotonic()
        assert _start(arguments, undisturbed).wait() == 0
        print(f"an undisturbed run takes {time.monotonic() - start:.1f} s", file=sys.stderr)
        done: Counter[str] = Counter()
        rounds = 0
        while done.total() < arguments.kills:
            out = Path(work) / f"round-{rounds}"
            _round(arguments, out, chance, done)
            _compare(out, undisturbed, len(list_photos([arguments.photos])))
            shutil.rmtree(out)
            rounds += 1
    print(json.dumps({"kills": dict(done), "folders": rounds, "lost": 0, "doubled": 0}))


def _start(arguments: argparse.Namespace, out: Path) -> subprocess.Popen[bytes]:
    options = ["--out", str(out), "--shard-size", str(arguments.shard_size)]
    return subprocess.Popen(
        [sys.executable, "-c", _RUN, "extract", str(arguments.photos), *options],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _round(
    arguments: argparse.Namespace, out: Path, chance: random.Random, done: Counter[str]
) -> None:
    """Start, kill and start again until a run ends by itself."""
    while True:
        process = _start(arguments, out)
        try:
            code = process.wait(timeout=chance.uniform(0.2, arguments.longest))
        except subprocess.TimeoutExpired:
            way = chance.choice(_WAYS)
            if way == "worker":
                victims = _workers(process.pid)
                if victims:
                    os.kill(chance.choice(victims), signal.SIGKILL)
                    done[way] += 1
                code = process.wait()  # it must finish all the same
            else:
                number = signal.SIGTERM if way == "terminate" else signal.SIGKILL
                (os.killpg if way == "group" else os.kill)(process.pid, number)
                done[way] += 1
                process.wait()
                _wait_for_workers(process.pid)
                print(f"{done.total()} kills, {_count(out)} shards", file=sys.stderr)
                continue
        assert code == 0, f"the extraction ended with exit code {code}"
        return


def _members(group: int) -> dict[int, bytes]:
    """List the living processes of a group with their command lines."""
    members = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                members[int(stat.parent.name)] = (stat.parent / "cmdline").read_bytes()
        except OSError:  # it ended meanwhile
            continue
    return members


def _workers(group: int) -> list[int]:
    return [pid for pid, line in _members(group).items() if b"spawn_main" in line]


def _wait_for_workers(group: int) -> None:
    end = time.monotonic() + 30
    while _members(group):
        assert time.monotonic() < end, "workers outlived the main process"
        time.sleep(0.02)


def _count(out: Path) -> int:
    return len(list(out.glob(PATTERN)))


def _contents(record: Record) -> tuple[object, ...]:
    arrays = (record.heatmaps.tobytes(), record.keypoints.tobytes())
    facts = (record.status, record.size, record.sha256, record.reason, record.people)
    return (record.id, *arrays, *facts)


def _compare(out: Path, undisturbed: Path, photos: int) -> None:
    found, wanted = Shards(out), Shards(undisturbed)
    rows = [id_ for number in range(len(found.files)) for id_, _ in found.rows_in(number)]
    assert len(rows) == len(set(rows)) == photos, "a photo is lost or there twice"
    assert list(found.ids) == list(wanted.ids)
    for id_ in wanted.ids:
        assert _contents(found[id_]) == _contents(wanted[id_]), id_
    assert not list(out.glob(".*.tmp"))


if __name__ == "__main__":
    main()
