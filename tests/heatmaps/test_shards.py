"""Shards: what is written is read, damage is told, workers read, nothing is left half done."""

import json
import multiprocessing
import operator
import os
import pickle
import random
import shutil
import subprocess
import sys
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from vsam_heatmaps import (
    LANDMARKS,
    PARTS,
    Record,
    RenderOptions,
    Shards,
    Status,
    VsamError,
    render_heatmaps,
)
from vsam_heatmaps.shards import ShardInfo, no_keypoints, write_shard

SIDE = 16
INFO = ShardInfo(
    side=SIDE,
    sigma=0.08,
    channels=tuple(PARTS),
    min_visibility=0.25,
    backend="mediapipe",
    pose_model_sha256="ab" * 32,
    min_confidence=0.5,
    max_pixels=1_000_000,
)
REGION_CHANNELS = {"torso": [1, 4], "upper": [1, 2, 3, 4], "lower": [4, 5, 6], "knees": [5]}


def make_record(id_: str, seed: int = 0, **changes) -> Record:
    rng = np.random.default_rng(seed)
    keypoints = rng.random((33, 4), np.float32)
    maps = render_heatmaps(keypoints, RenderOptions(SIDE, 0.08, min_visibility=0.25))
    size = (int(rng.integers(1, 5000)), int(rng.integers(1, 5000)))
    record = Record(id_, Status.OK, maps, INFO.channels, keypoints, size, rng.bytes(32))
    return replace(record, **changes)


def records() -> list[Record]:
    nothing = np.zeros((7, SIDE, SIDE), np.uint8)
    nobody = np.full((33, 4), np.nan, np.float32)
    return [
        make_record("a.jpg", 1, people=3),
        make_record("été/日本 👗\n2.jpg", 2),
        make_record("b.jpg", 3, status=Status.NO_POSE, heatmaps=nothing, keypoints=nobody),
        make_record(
            "c.jpg",
            4,
            status=Status.UNREADABLE,
            heatmaps=nothing,
            keypoints=nobody,
            size=(0, 0),
            sha256=bytes(32),
            reason="it is truncated, dämaged",
        ),
    ]


def same(a: Record, b: Record) -> bool:
    plain = ("id", "status", "channels", "size", "sha256", "reason", "people")
    return (
        all(getattr(a, name) == getattr(b, name) for name in plain)
        and np.array_equal(a.heatmaps, b.heatmaps)
        and np.array_equal(a.keypoints, b.keypoints, equal_nan=True)
        and (a.heatmaps.dtype, a.keypoints.dtype) == (b.heatmaps.dtype, b.keypoints.dtype)
    )


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
        assert file["people"][:].tolist() == [3, 0, 0, 0]


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


GARMENT_INFO = replace(
    INFO,
    channels=("collar", "sleeves", "waistline", "hem"),
    backend="deepfashion-landmarks",
    landmarks="garment",
)


def garment_records() -> list[Record]:
    keypoints = np.random.default_rng(3).uniform(0.1, 1, (8, 4)).astype(np.float32)
    keypoints[:, 2:] = 1
    keypoints[4:6] = (np.nan, np.nan, 0, 0)  # an upper garment: its waistline is not known
    maps = render_heatmaps(keypoints, GARMENT_INFO.render_options)
    change = {"heatmaps": maps, "channels": GARMENT_INFO.channels, "keypoints": keypoints}
    nobody = change | {"heatmaps": 0 * maps, "keypoints": no_keypoints("garment")}
    return [
        make_record("a.jpg", 1, people=1, **change),
        make_record("b.jpg", 2, status=Status.NO_POSE, **nobody),
    ]


class TestGarments:
    def test_what_is_written_is_read(self, tmp_path):
        write_shard(tmp_path / "shard-000000.h5", GARMENT_INFO, garment_records())
        shards = Shards(tmp_path)
        assert shards.info == GARMENT_INFO
        assert shards.info.render_options == RenderOptions(
            SIDE, 0.08, "parts", 0.25, landmarks="garment"
        )
        for record in garment_records():
            assert record.keypoints.shape == (8, 4)
            assert same(shards[record.id], record)
        record = shards["a.jpg"]
        assert record.region("hem").any()
        np.testing.assert_array_equal(record.region("garment"), record.heatmaps.max(axis=0))
        np.testing.assert_array_equal(shards.regions("a.jpg", ["sleeves"])[0], record.heatmaps[1])
        shards.close()
        with h5py.File(tmp_path / "shard-000000.h5") as file:
            assert file.attrs["landmarks"].decode() == "garment"
            assert file.attrs["format_version"] == 1
            assert file["keypoints"].shape == (2, 8, 4)

    def test_channels_of_joints(self, tmp_path):
        info = replace(
            GARMENT_INFO,
            channels=tuple(
                f"{side}_{stem}"
                for stem in ("collar", "sleeve", "waistline", "hem")
                for side in ("left", "right")
            ),
        )
        assert info.render_options.channels == "joints"
        assert replace(INFO, channels=LANDMARKS).render_options.channels == "joints"

    def test_are_not_mixed_with_bodies(self, folder):
        write_shard(folder / "shard-000001.h5", GARMENT_INFO, garment_records())
        with pytest.raises(VsamError, match=r"different options: .*landmarks 'body' and 'garment'"):
            Shards(folder)

    def test_keypoints_of_the_other_set(self, tmp_path):
        (garment, _), path = garment_records(), tmp_path / "shard-000000.h5"
        wrong = replace(garment, keypoints=np.zeros((33, 4), np.float32))
        with pytest.raises(VsamError) as refused:
            write_shard(path, GARMENT_INFO, [garment, wrong])
        assert str(refused.value) == (
            "Expected `keypoints of a.jpg` to be of shape (8, 4), but got (33, 4)."
        )
        with pytest.raises(VsamError, match=r"keypoints of a\.jpg` to be of shape \(33, 4\), but"):
            write_shard(path, INFO, [replace(records()[0], keypoints=garment.keypoints)])
        assert not list(tmp_path.iterdir())

    def test_a_file_whose_keypoints_are_others_than_it_says(self, folder):
        path = folder / "shard-000000.h5"
        with h5py.File(path, "r+") as file:
            file.attrs["landmarks"] = "garment"
        with pytest.raises(VsamError) as refused:
            Shards(folder)
        assert str(refused.value) == (
            f"Expected `keypoints in {path}` to be of shape (4, 8, 4), of garment landmarks, but "
            "got (4, 33, 4)."
        )

    def test_a_set_of_later(self, folder):
        path = folder / "shard-000000.h5"
        with h5py.File(path, "r+") as file:
            file.attrs["landmarks"] = "face"
        with pytest.raises(VsamError) as refused:
            Shards(folder)
        assert str(refused.value) == (
            f"Expected `landmarks of {path}` to be one of body, garment, which this version of "
            "vsam reads, but got 'face'. Use the version of vsam that wrote it."
        )


def test_files_that_do_not_say_which_landmarks_are_of_bodies(folder):
    """Those of before there was a second set."""
    with h5py.File(folder / "shard-000000.h5", "r+") as file:
        assert file.attrs["landmarks"].decode() == "body"
        del file.attrs["landmarks"]
    shards = Shards(folder)
    assert shards.info == INFO
    assert INFO.landmarks == "body"
    assert all(same(shards[record.id], record) for record in records())


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


class TestRefusals:
    def refusal(self, folder):
        with pytest.raises(VsamError) as refused:
            list(Shards(folder))
        assert len(str(refused.value).splitlines()) == 1
        return str(refused.value)

    def test_no_folder_no_shards(self, tmp_path):
        assert "but it is not there. Make them with: vsam-heatmaps" in self.refusal(
            tmp_path / "none"
        )
        assert "but it holds none." in self.refusal(tmp_path)

    @pytest.mark.parametrize(
        ("attribute", "value", "message"),
        [
            ("format", "keypoints", "to be 'vsam-heatmaps', but got 'keypoints'."),
            ("format_version", 2, "to be 1, which this version of vsam reads, but got 2."),
        ],
    )
    def test_other_formats(self, folder, attribute, value, message):
        with h5py.File(folder / "shard-000000.h5", "r+") as file:
            file.attrs[attribute] = value
        said = self.refusal(folder)
        assert said.startswith(f"Expected `{attribute} of {folder}/shard-000000.h5` {message}")

    def test_hdf5_of_someone_else(self, folder):
        with h5py.File(folder / "shard-000001.h5", "w") as file:
            file["weights"] = np.zeros(3)
        assert "shard-000001.h5` to be 'vsam-heatmaps', but got None." in self.refusal(folder)

    def test_a_file_that_is_no_hdf5(self, folder):
        (folder / "shard-000001.h5").write_text("hello")
        assert f"The shard {folder}/shard-000001.h5 is damaged" in self.refusal(folder)

    def test_shards_of_different_options(self, folder):
        other = replace(INFO, sigma=0.05, min_confidence=0.3)
        write_shard(folder / "shard-000001.h5", other, [make_record("z.jpg")])
        assert self.refusal(folder) == (
            f"The shards shard-000000.h5 and shard-000001.h5 in {folder} were made with different "
            "options: sigma 0.08 and 0.05, min_confidence 0.5 and 0.3. Keep them in separate "
            "folders."
        )

    def test_truncated(self, folder):
        path = folder / "shard-000000.h5"
        data = path.read_bytes()
        for length in (0, 7, 100, *(len(data) * tenth // 10 for tenth in range(1, 10))):
            path.write_bytes(data[:length])
            assert f"The shard {path} is damaged or truncated (" in self.refusal(folder)
        path.write_bytes(data[:-1])
        assert str(path) in self.refusal(folder)

    def test_a_flipped_byte_in_a_map(self, folder):
        path = folder / "shard-000000.h5"
        with h5py.File(path) as file:
            chunk = file["heatmaps"].id.get_chunk_info(1)
        data = bytearray(path.read_bytes())
        data[chunk.byte_offset + chunk.size // 2] ^= 0x10
        path.write_bytes(data)
        shards = Shards(folder)
        assert same(shards["a.jpg"], records()[0])  # its neighbour is whole
        with pytest.raises(VsamError, match=rf"^The shard {path} is damaged .* Delete it and run"):
            shards[records()[1].id]
        with pytest.raises(VsamError, match=rf"^The shard {path} is damaged .* Delete it and run"):
            shards.regions(records()[1].id, ["torso"])

    @pytest.mark.parametrize(
        "name", ["id", "heatmaps", "keypoints", "size", "status", "sha256", "reason"]
    )
    def test_a_flipped_byte_in_any_data_set(self, folder, name):
        path = folder / "shard-000000.h5"
        with h5py.File(path) as file:
            chunk = file[name].id.get_chunk_info(0)
        data = bytearray(path.read_bytes())
        data[chunk.byte_offset + chunk.size // 2] ^= 0x10
        path.write_bytes(data)
        assert f"The shard {path} is damaged or truncated (" in self.refusal(folder)

    @pytest.mark.parametrize("name", ["keypoints", "size", "sha256", "reason"])
    def test_data_sets_of_different_lengths(self, folder, name):
        path = folder / "shard-000000.h5"
        with h5py.File(path, "r+") as file:
            shorter = file[name][:-1]
            del file[name]
            file.create_dataset(name, data=shorter, fletcher32=True)
        assert f"{path} is damaged or truncated (its data sets have diff" in self.refusal(folder)

    def test_no_damaged_byte_is_read_unnoticed(self, folder):
        path = folder / "shard-000000.h5"
        data = path.read_bytes()
        chosen = random.Random(7).sample(range(len(data)), 250)
        told = 0
        for position in chosen:
            damaged = bytearray(data)
            damaged[position] ^= 1 << position % 8
            path.write_bytes(damaged)
            said = ""
            try:
                shards = Shards(folder)
                read = list(shards)
                shards.close()
            except VsamError as error:
                said = str(error)
            if said:
                assert str(path) in said
                assert len(said.splitlines()) == 1
                told += 1
            else:  # the byte was one of those that HDF5 leaves unused
                assert shards.info == INFO
                wanted = sorted(records(), key=lambda record: record.id)
                assert len(read) == len(wanted)
                assert all(map(same, read, wanted))
        assert told > len(chosen) // 3

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_no_permission(self, folder):
        (folder / "shard-000000.h5").chmod(0)
        said = self.refusal(folder)
        assert said == f"Could not read {folder}/shard-000000.h5: check its permissions."

    def test_maps_of_another_shape(self, tmp_path):
        wrong = make_record("a.jpg", heatmaps=np.zeros((7, SIDE, SIDE + 1), np.uint8))
        with pytest.raises(VsamError, match=r"heatmaps of a\.jpg` to be of shape \(7, 16, 16\)"):
            write_shard(tmp_path / "shard-000000.h5", INFO, [wrong])
        assert not list(tmp_path.iterdir())


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


class TestFailedWrites:
    def test_a_limit_on_file_size(self, folder):
        """A stand-in for a full disk: the write fails in the middle."""
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        code = (
            "import resource, signal, sys\n"
            "import pickle\n"
            "from pathlib import Path\n"
            "from vsam_heatmaps.shards import Shards, write_shard\n"
            "from vsam_heatmaps.errors import VsamError\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "folder = Path(sys.argv[1])\n"
            "shards = Shards(folder)\n"
            "records = list(shards)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
            "for name in ('shard-000000.h5', 'shard-000001.h5'):\n"
            "    try:\n"
            "        write_shard(folder / name, shards.info, records)\n"
            "    except VsamError as error:\n"
            "        print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines() == [
            f"Could not write {folder}/{name}: File too large."
            for name in ("shard-000000.h5", "shard-000001.h5")
        ]
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before

    def test_a_full_disk(self, tmp_path):
        if os.geteuid() != 0 or not shutil.which("mount"):
            pytest.skip("only root may mount a small disk")
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
        if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            pytest.skip("mounting is not allowed here")
        try:
            with pytest.raises(VsamError) as refused:
                write_shard(disk / "shard-000000.h5", INFO, [*records(), *map(noisy, range(30))])
            assert str(refused.value) == (
                f"Could not write {disk}/shard-000000.h5: No space left on device. Free some "
                "space or name another folder, then run the command again."
            )
            assert not list(disk.iterdir())
        finally:
            subprocess.run(["umount", str(disk)], check=True)


def noisy(number: int) -> Record:
    maps = np.random.default_rng(number).integers(0, 256, (7, SIDE, SIDE), np.uint8)
    return make_record(f"n{number}.jpg", number, heatmaps=maps)
