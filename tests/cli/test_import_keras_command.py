"""`vsam import-keras` as a command: one line for what is wrong.

What it makes is tested in `tests/vsam`.
"""

import h5py
import pytest
from tiny import the_error


def test_what_is_wrong_is_told_in_one_line_and_nothing_is_written(call_command, tmp_path):
    path, out = tmp_path / "w.h5", tmp_path / "run"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv_7x7x1"]
        file.create_group("conv_7x7x1").attrs["weight_names"] = []
    done = call_command("vsam", "import-keras", path, "--out", out)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "it lacks block1_conv1, " in the_error(done.stderr)
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("arguments", [[], ["w.h5"], ["--out", "run"], ["w.h5", "--categories"]])
def test_wrong_usage_exits_with_2(call_command, tmp_path, arguments):
    done = call_command("vsam", "import-keras", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
