"""Damaged shards are told, records against the rules are refused, and no half shard is left."""

import os
import random
import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
from disks import small_disk
from made_shards import INFO, SIDE, make_record, records, same

from vsam_heatmaps import (
    Record,
    Shards,
    VsamError,
)
from vsam_heatmaps.shards import write_shard


@pytest.fixture
def folder(tmp_path):
    write_shard(tmp_path / "s" / "shard-000000.h5", INFO, records())
    return tmp_path / "s"


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
        with small_disk(tmp_path / "disk", "16k") as disk:
            with pytest.raises(VsamError) as refused:
                write_shard(disk / "shard-000000.h5", INFO, [*records(), *map(noisy, range(30))])
            assert str(refused.value) == (
                f"Could not write {disk}/shard-000000.h5: No space left on device. Free some "
                "space or name another folder, then run the command again."
            )
            assert not list(disk.iterdir())


def noisy(number: int) -> Record:
    maps = np.random.default_rng(number).integers(0, 256, (7, SIDE, SIDE), np.uint8)
    return make_record(f"n{number}.jpg", number, heatmaps=maps)
