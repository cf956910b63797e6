"""Shards: what is written is read, from files of any age and size, and by workers."""

import json
import multiprocessing
import operator
import pickle
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from made_shards import INFO, SIDE, make_record, records, same

from vsam_heatmaps import (
    PARTS,
    RenderOptions,
    Shards,
    Status,
)
from vsam_heatmaps.shards import write_shard

REGION_CHANNELS = {"torso": [1, 4], "upper": [1, 2, 3, 4], "lower": [4, 5, 6], "knees": [5]}


@pytest.fixture
def folder(tmp_path):
    write_shard(tmp_path / "s" / "shard-000000.h5", INFO, records())
    return tmp_path / "s"


def test_what_is_written_is_read(folder):
    shards = Shards(folder)
    assert shards.info == INFO
    assert list(shards.ids) == sorted(record.id for record in records())
    assert len(shards) == 4
    assert shards.counts() == {"ok": 2, "no_pose": 1, "unreadable": 1}
    for record in records():
        assert record.id in shards
        assert same(shards[record.id], record)
        assert shards.status(record.id) is record.status
        assert shards.sha256(record.id) == record.sha256
    assert [record.id for record in shards] == list(shards.ids)
    assert "d.jpg" not in shards
    with pytest.raises(KeyError, match=r"'d\.jpg' is in no shard"):
        shards["d.jpg"]
    shards.close()
    assert same(shards["a.jpg"], records()[0])  # opens again


def test_regions_are_composed_when_read(folder):
    record = Shards(folder)["a.jpg"]
    stack = record.regions(list(REGION_CHANNELS))
    assert stack.shape == (4, SIDE, SIDE)
    for composed, (name, channels) in zip(stack, REGION_CHANNELS.items(), strict=True):
        assert composed.any()
        wanted = np.maximum.reduce([record.heatmaps[channel] for channel in channels])
        np.testing.assert_array_equal(composed, wanted)
        np.testing.assert_array_equal(record.region(name), wanted)
    alone = Shards(folder)  # nothing was read before
    np.testing.assert_array_equal(alone.regions("a.jpg", list(REGION_CHANNELS)), stack)
    with pytest.raises(KeyError, match=r"'d\.jpg' is in no shard"):
        alone.regions("d.jpg", ["torso"])


def test_the_options_that_rendered_are_known(folder):
    assert Shards(folder).info.render_options == RenderOptions(SIDE, 0.08, "parts", 0.25)


def test_how_poses_were_found_is_kept(tmp_path):
    info = replace(
        INFO,
        backend="openvino",
        precision="mixed",
        crops=True,
        region_network_sha256="cd" * 32,
        people="all",
    )
    write_shard(tmp_path / "shard-000000.h5", info, records())
    assert Shards(tmp_path).info == info
    with h5py.File(tmp_path / "shard-000000.h5") as file:
        assert file.attrs["crops"] == 1
        assert file["people"][:].tolist() == [3, 1, 0, 0]


def test_files_of_version_0_1_0_are_read(folder):
    """They know one engine, one person, and no crops."""
    with h5py.File(folder / "shard-000000.h5", "r+") as file:
        del file["people"]
        for name in ("precision", "crops", "region_network_sha256", "people", "landmarks"):
            del file.attrs[name]
    shards = Shards(folder)
    assert shards.info == INFO
    assert (INFO.precision, INFO.crops, INFO.people) == ("f32", False, "main")
    people = {record.id: record.people for record in shards}
    assert people == {record.id: int(record.status is Status.OK) for record in records()}


def test_of_two_records_of_a_photo_the_later_shard_counts(folder):
    changed = make_record("a.jpg", 9)
    write_shard(folder / "shard-000001.h5", INFO, [changed, make_record("new.jpg", 10)])
    shards = Shards(folder)
    assert len(shards) == 5
    assert same(shards["a.jpg"], changed)
    assert same(shards["b.jpg"], records()[2])


def test_a_folder_may_hold_more_shards_than_stay_open(folder):
    for number in range(1, 80):
        write_shard(
            folder / f"shard-{number:06d}.h5", INFO, [make_record(f"p{number}.jpg", number)]
        )
    shards = Shards(folder)
    for _ in range(2):
        for number in range(1, 80):
            id_ = f"p{number}.jpg"
            assert same(shards[id_], make_record(id_, number))
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("this system does not list open files in /proc")
    opened = [link.resolve().parent for link in descriptors.iterdir()]
    assert 0 < opened.count(folder.resolve()) <= 64


def test_very_large_shards_are_closed_sooner(folder, monkeypatch):
    """What an open shard keeps in memory grows with its rows."""
    monkeypatch.setattr("vsam_heatmaps.shards.files._MAX_OPEN_ROWS", 9)
    for number in range(1, 4):
        added = [make_record(f"p{number}{row}.jpg", 10 * number + row) for row in range(4)]
        write_shard(folder / f"shard-{number:06d}.h5", INFO, added)
    write_shard(folder / "shard-000004.h5", INFO, [make_record(f"q{n}", n) for n in range(12)])
    shards = Shards(folder)
    for _ in range(2):
        for id_ in shards.ids:
            assert shards[id_].id == id_
        assert same(shards["p11.jpg"], make_record("p11.jpg", 11))
        assert same(shards["p22.jpg"], make_record("p22.jpg", 22))
        assert same(shards["q5"], make_record("q5", 5))  # larger than the limit, all alone


def test_a_caller_may_change_what_it_reads(folder):
    shards = Shards(folder)
    first = shards["a.jpg"]
    first.heatmaps[:] = 7
    first.keypoints[:] = 7
    assert same(shards["a.jpg"], records()[0])


def test_a_record_that_is_not_read_takes_little_memory(tmp_path):
    count = 2000
    info = replace(INFO, side=1)
    maps = np.zeros((7, 1, 1), np.uint8)
    one = make_record("", 1, heatmaps=maps)
    for number in range(2):
        ids = (f"folder/{number}{row:06d}.jpg" for row in range(count // 2))
        added = [replace(one, id=id_) for id_ in ids]
        write_shard(tmp_path / f"shard-{number:06d}.h5", info, added)
    Shards(tmp_path)  # whatever is imported or cached once
    tracemalloc.start()
    try:
        shards = Shards(tmp_path)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(shards) == count
    # 18 bytes of id, 8 of where it ends, 8 of its place, 33 of status and hash.
    assert taken / count < 85


def test_the_same_records_give_the_same_bytes(folder, tmp_path):
    write_shard(tmp_path / "again.h5", INFO, records())
    assert (tmp_path / "again.h5").read_bytes() == (folder / "shard-000000.h5").read_bytes()


def test_no_pickles_and_plain_hdf5(folder):
    """Another program can read a shard with HDF5 alone, as the format's description says."""
    with h5py.File(folder / "shard-000000.h5") as file:
        attrs = file.attrs
        assert attrs["format"].decode() == "vsam-heatmaps"
        assert attrs["format_version"] == 1
        assert json.loads(attrs["channels"]) == list(PARTS)
        assert (attrs["side"], attrs["sigma"]) == (SIDE, 0.08)
        ids = [value.decode() for value in file["id"][:]]
        assert ids == [record.id for record in records()]
        assert file["heatmaps"].chunks == (1, 7, SIDE, SIDE)
        assert all(file[name].fletcher32 for name in file)
        assert file["status"][:].tolist() == [0, 0, 1, 2]


def fork_and_read(shards: Shards, ids: list[str], queue) -> None:
    queue.put([shards[id_] for id_ in ids])


def test_an_opened_reader_can_be_pickled(folder):
    shards = Shards(folder)
    before = [shards[id_] for id_ in shards.ids]
    again = pickle.loads(pickle.dumps(shards))
    assert again.info == shards.info
    assert all(map(same, again, before))


def test_forked_workers_read_what_the_parent_reads(folder):
    shards = Shards(folder)
    before = [shards[id_] for id_ in shards.ids]  # the file is open when the fork happens
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [
        context.Process(target=fork_and_read, args=(shards, list(shards.ids), queue))
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    results = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    for result in results:
        assert all(map(same, result, before))
    assert all(map(same, shards, before))  # the children closed nothing of ours


def test_spawned_workers_read_what_the_parent_reads(shards):
    opened = Shards(shards)
    wanted = [opened[id_] for id_ in opened.ids]
    assert len(wanted) == 24
    assert all(record.heatmaps.any() for record in wanted)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        # The reader travels to the worker with each id.
        futures = [pool.submit(operator.getitem, opened, record.id) for record in wanted]
        results = [future.result(timeout=100) for future in futures]
    assert all(map(same, results, wanted))
