"""A shard read by a C program, with HDF5's own library: the format's description is enough."""

import os
import shutil
import subprocess
from pathlib import Path

import hdf5plugin
import numpy as np
import pytest

from vsam_heatmaps import Shards

SOURCE = Path(__file__).parents[2] / "heatmaps" / "examples" / "read_shard.c"


@pytest.fixture(scope="module")
def read_shard(tmp_path_factory):
    """Compile the example; give a function that runs it."""
    if not shutil.which("h5cc"):
        pytest.skip("there is no h5cc, HDF5's compiler (Debian: libhdf5-dev)")
    folder = tmp_path_factory.mktemp("compiled")
    subprocess.run(
        ["h5cc", "-Wall", "-Werror", "-o", "read_shard", str(SOURCE)], cwd=folder, check=True
    )

    def run(*arguments):
        return subprocess.run(
            [str(folder / "read_shard"), *map(str, arguments)],
            env=os.environ | {"HDF5_PLUGIN_PATH": hdf5plugin.PLUGIN_PATH},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_it_reads_what_python_reads(read_shard, shards):
    records = Shards(shards)
    for record in list(records)[::5]:
        done = read_shard(records.files[0], record.id)
        assert done.returncode == 0, done.stderr
        first, *lines = done.stdout.splitlines()
        width, height = record.size
        assert first == f"status {int(record.status)} size {width} {height} people {record.people}"
        keypoints = [line.split()[1:] for line in lines if line.startswith("keypoint ")]
        np.testing.assert_array_equal(np.array(keypoints, np.float32), record.keypoints)
        channels = [line for line in lines if line.startswith("channel ")]
        assert channels == [
            f"channel {number} peak {channel.max()} sum {channel.sum(dtype=int)}"
            for number, channel in enumerate(record.heatmaps)
        ]


def test_an_id_that_is_not_there(read_shard, shards):
    done = read_shard(Shards(shards).files[0], "0000.jpg")
    assert (done.returncode, done.stderr) == (1, "Could not read 0000.jpg.\n")
