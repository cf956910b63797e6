"""Worker processes: order, and what happens to photos that kill them."""

import hashlib
import os
import signal
import time
from dataclasses import replace

import pytest
from killers import (
    BUG,
    CRASHED,
    FAILING,
    HANGING,
    HARMLESS,
    KILLED,
    KILLED_ONCE,
    TOO_LARGE,
    TOO_LARGE_FOR_OPENCV,
    KillerEngine,
    write_photo,
)

from vsam_heatmaps.errors import VsamError
from vsam_heatmaps.extraction.worker_pool import WorkerPool
from vsam_heatmaps.extraction.workers import Task, Work
from vsam_heatmaps.photos import Photo
from vsam_heatmaps.rendering import RenderOptions
from vsam_heatmaps.shards import Record, Status

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends signals")


class Bench:
    """Runs photos of given colours through a pool."""

    def __init__(self, folder):
        self.folder = folder
        self.work = Work(KillerEngine(folder), RenderOptions(side=8), "main", 10**6)

    def tasks(self, colours):
        for number, colour in enumerate(colours):
            id_ = f"{number:03d}.png"
            yield Task(Photo(id_, write_photo(self.folder / "photos" / id_, colour)))

    def run(self, colours, *, count=2, max_seconds=60.0) -> list[Record]:
        with WorkerPool(count, self.work, max_seconds=max_seconds) as pool:
            given = list(pool.outcomes(self.tasks(colours)))
        for number, (task, record) in enumerate(given):
            # Each its own record, in the order of the tasks.
            assert task.photo.id == record.id == f"{number:03d}.png"
            assert record.sha256 == hashlib.sha256(task.photo.read()).digest()
        assert len(given) == len(colours)
        return [record for _, record in given]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.mark.parametrize("count", [1, 3])
def test_outcomes_come_in_order_though_some_take_long(bench, count):
    colours = [(77, 0, 0) if number % 7 == 0 else HARMLESS for number in range(40)]
    records = bench.run(colours, count=count)
    assert {record.status for record in records} == {Status.NO_POSE}


@pytest.mark.parametrize(
    ("count", "colour", "reason"),
    [
        (1, KILLED, "a worker process died on it (SIGKILL, as when memory runs out), twice"),
        (2, CRASHED, "a worker process died on it (SIGSEGV), twice"),
    ],
)
def test_a_photo_that_kills_twice_is_left_out(bench, caplog, count, colour, reason):
    colours = [HARMLESS] * 20
    colours[5] = colours[6] = colours[13] = colour
    records = bench.run(colours, count=count)
    for number, record in enumerate(records):
        killer = number in (5, 6, 13)
        assert record.status is (Status.UNREADABLE if killer else Status.NO_POSE)
        assert record.reason == (reason if killer else "")
        assert not record.heatmaps.any()
    told = [line for line in caplog.messages if "005.png" in line]
    assert len(told) == 2
    assert told[0].endswith("it is tried once more, alone.")
    assert told[1].endswith("again; it is left out.")


def test_the_first_and_the_last_photo_may_kill(bench):
    records = bench.run([KILLED, HARMLESS, KILLED])
    assert [record.status.name for record in records] == ["UNREADABLE", "NO_POSE", "UNREADABLE"]


def test_all_may_kill(bench):
    records = bench.run([KILLED] * 4)  # more than there are workers, and than may die at the start
    assert {record.status for record in records} == {Status.UNREADABLE}


def test_a_death_by_chance_costs_nothing(bench):
    records = bench.run([HARMLESS] * 4 + [KILLED_ONCE] + [HARMLESS] * 4)
    assert {record.status for record in records} == {Status.NO_POSE}


def test_a_photo_that_takes_too_long_is_left_out(bench):
    start = time.monotonic()
    records = bench.run([HARMLESS] * 3 + [HANGING] + [HARMLESS] * 3, max_seconds=1.0)
    assert time.monotonic() - start < 60  # not the 600 s for which it would hang
    assert [record.status.name for record in records].count("UNREADABLE") == 1
    assert records[3].reason == "it took more than 1 s (--max-seconds), twice"


def test_what_an_estimator_refuses_is_unreadable(bench):
    records = bench.run([HARMLESS, FAILING, HARMLESS])
    assert records[1].reason == "the pose estimator failed: this network can't"
    assert [record.status.name for record in records] == ["NO_POSE", "UNREADABLE", "NO_POSE"]


def test_a_photo_that_is_too_large_for_the_memory_is_unreadable(bench):
    records = bench.run([HARMLESS, TOO_LARGE, TOO_LARGE_FOR_OPENCV, HARMLESS])
    assert [record.status.name for record in records][1:3] == ["UNREADABLE"] * 2
    assert records[1].reason == "there is not enough memory"
    assert records[2].reason.startswith("the pose estimator failed: ")
    assert "Failed to allocate" in records[2].reason


@pytest.mark.timeout(60)
def test_pipes_that_stay_small_do_not_stop_it(bench, monkeypatch):
    """As where the user's other pipes take up all pages that the system allows."""
    fcntl = pytest.importorskip("fcntl")
    if not hasattr(fcntl, "F_SETPIPE_SZ"):
        pytest.skip("this system has no such pipes")
    real, asked = fcntl.fcntl, []

    def small(descriptor, command, *arguments):
        if command != fcntl.F_SETPIPE_SZ:
            return real(descriptor, command, *arguments)
        asked.append(arguments)
        real(descriptor, command, 4096)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(fcntl, "fcntl", small)
    bench.folder = bench.folder / ("n" * 200)  # so that the pipe can't hold what a worker may
    bench.folder.mkdir()
    bench.work = replace(bench.work, render=RenderOptions(), engine=KillerEngine(bench.folder))
    records = bench.run([HARMLESS] * 80)
    assert asked
    assert {record.status for record in records} == {Status.NO_POSE}


def test_after_an_error_the_pool_works_on(bench):
    with WorkerPool(2, bench.work, max_seconds=60) as pool:
        with pytest.raises(ZeroDivisionError):
            list(pool.outcomes(bench.tasks([HARMLESS] * 5 + [BUG] + [HARMLESS] * 30)))
        given = list(pool.outcomes(bench.tasks([HARMLESS, FAILING, HARMLESS])))
    assert [task.photo.id for task, _ in given] == [record.id for _, record in given]
    assert [record.status.name for _, record in given] == ["NO_POSE", "UNREADABLE", "NO_POSE"]


def test_a_bug_is_not_hidden(bench):
    with pytest.raises(ZeroDivisionError) as raised:
        bench.run([HARMLESS, BUG])
    assert "001.png" in raised.value.__notes__[0]
    assert "killers.py" in raised.value.__notes__[0]  # the worker's own traceback


def test_networks_that_kill_are_no_photos_fault(bench):
    bench.work = replace(bench.work, engine=KillerEngine(bench.folder, dies=True))
    with pytest.raises(VsamError) as refused:
        bench.run([HARMLESS] * 5)
    assert str(refused.value).startswith(
        "3 worker processes died while they loaded the pose networks (SIGKILL, as when memory"
    )


def test_workers_killed_from_outside_change_nothing(bench):
    """Any worker, at any moment: every photo still gets its own record."""
    colours = [(77, number, 0) for number in range(60)]
    killed, due = 0, 5
    with WorkerPool(2, bench.work, max_seconds=60) as pool:
        records = []
        for task, record in pool.outcomes(bench.tasks(colours)):
            records.append((task.photo.id, record.id, record.status))
            # A photo that was in work twice when its worker was killed would rightly be left out.
            if len(records) >= due and not pool._accused:
                due += 8
                victim = pool._workers[killed % len(pool._workers)].process
                os.kill(victim.pid, signal.SIGKILL)
                killed += 1
    assert killed >= 5
    assert records == [(f"{n:03d}.png", f"{n:03d}.png", Status.NO_POSE) for n in range(60)]


def test_a_photo_that_a_dead_worker_never_saw_is_not_blamed(bench, monkeypatch):
    """Handed a suspect, a worker may be dead already, and the pool not know it yet."""
    killed = []
    with WorkerPool(2, bench.work, max_seconds=60) as pool:
        hand_out = pool._hand_out

        def kill_first(position: int) -> None:
            if position in pool._accused and not killed:
                killed.extend(worker.process for worker in pool._workers)
                for process in killed:
                    process.kill()
                    process.join()
            hand_out(position)

        monkeypatch.setattr(pool, "_hand_out", kill_first)
        tasks = bench.tasks([(77, 0, 0)] * 4 + [KILLED_ONCE] + [(77, 0, 0)] * 4)
        records = [(task.photo.id, record.status) for task, record in pool.outcomes(tasks)]
    assert killed
    assert records == [(f"{number:03d}.png", Status.NO_POSE) for number in range(9)]


def test_leaving_early_ends_the_workers_at_once(bench):
    start = time.monotonic()
    processes = []

    def stop_in_the_middle():
        with WorkerPool(2, bench.work, max_seconds=600) as pool:
            tasks = bench.tasks([HARMLESS, HARMLESS, HANGING, HANGING, HARMLESS])
            outcomes = pool.outcomes(tasks)
            next(outcomes)
            processes.extend(worker.process for worker in pool._workers)
            raise KeyError

    with pytest.raises(KeyError):
        stop_in_the_middle()
    assert time.monotonic() - start < 60  # they would hang for 600 s
    assert len(processes) == 2
    assert not any(process.is_alive() for process in processes)
