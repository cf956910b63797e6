"""All commands start in a moment: neither `--help` nor an import loads what is heavy."""

import subprocess
import sys

import pytest
import typer
from loading import loaded

from vsam_cli import heatmaps, main

HEAVY = set(
    """
    torch torchvision accelerate tensorboard safetensors huggingface_hub timm numpy cv2 h5py PIL
    mediapipe openvino onnx nncf grpc google.protobuf prometheus_client pyarrow ray
    """.split()
)


def commands(script: str, module: str, app: typer.Typer) -> list[tuple[str, str]]:
    """List an app's commands as a user writes them, each with the module that has its `run`."""
    known = typer.main.get_command(app).commands
    return [(module, f"{script} {name}") for name in sorted(known)]


COMMANDS = [
    ("train", "vsam-train"),
    ("predict", "vsam-predict"),
    ("heatmaps", "vsam-heatmaps"),
    ("main", "vsam"),
    ("main", "vsam data mannequins"),
    *commands("vsam-heatmaps", "heatmaps", heatmaps.app),
    *commands("vsam", "main", main.app),
]


def test_there_are_the_commands_that_are_told_of():
    known = {command for _, command in COMMANDS}
    assert known >= {
        *(f"vsam-heatmaps {name}" for name in "extract inspect view verify merge list".split()),
        *(f"vsam-heatmaps {name}" for name in "report export".split()),
        *(f"vsam {name}" for name in "demo evaluate calibrate card export".split()),
        *(f"vsam {name}" for name in "import-keras serve tag data".split()),
    }


@pytest.mark.parametrize(("module", "command"), COMMANDS)
def test_help_loads_nothing_heavy(module, command):
    stdout, modules = loaded(
        f"from vsam_cli.{module} import run; run()", *command.split(), "--help"
    )
    assert f"Usage: {command} " in stdout
    assert not HEAVY & modules


@pytest.mark.parametrize("module", ["train", "predict", "heatmaps", "main"])
def test_version_and_short_help_load_nothing_heavy(module):
    script = "vsam" if module == "main" else f"vsam-{module}"
    code = f"from vsam_cli.{module} import run; run()"
    stdout, modules = loaded(code, script, "--version")
    assert stdout.startswith("vsam 0.")
    assert not HEAVY & modules
    stdout, modules = loaded(code, script, "-h")
    assert f"Usage: {script} " in stdout
    assert "130 interrupted" in " ".join(stdout.split())
    assert not HEAVY & modules


def test_a_list_of_commands_tells_of_each():
    for script, app in (("heatmaps", heatmaps.app), ("main", main.app)):
        told, _ = loaded(f"from vsam_cli.{script} import run; run()", "vsam", "--help")
        for name in typer.main.get_command(app).commands:
            assert f"\n  {name} " in told


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import vsam, vsam_datasets, vsam_heatmaps, vsam_cli", HEAVY),
        ("import vsam_cli.heatmaps", HEAVY),
        ("from vsam_heatmaps import Shards, extract", {"torch", "mediapipe", "cv2"}),
        ("import vsam_heatmaps.extraction", {"torch", "mediapipe", "cv2"}),
        (
            "import vsam_heatmaps.engines, vsam_heatmaps.openvino_backend\n"
            "import vsam_heatmaps.mediapipe_backend",
            {"torch", "mediapipe", "openvino", "cv2"},
        ),
        ("import vsam_datasets.mannequins", {"torch", "mediapipe", "cv2"}),
        ("import vsam.predictions", {"torch", "mediapipe"}),
        (
            "from vsam.serving.client import TagClient",
            {"torch", "torchvision", "cv2", "prometheus_client", "mediapipe"},
        ),
        ("import vsam.training, vsam.predictor, vsam.prediction_files", {"mediapipe"}),
    ],
)
def test_packages_load_only_what_they_need(code, absent):
    _, modules = loaded(code)
    assert any(name.startswith("vsam") for name in modules)
    assert not absent & modules


def test_estimating_poses_never_loads_torch(mannequins):
    photo = mannequins / "photos" / "00000.jpg"
    stdout, modules = loaded(
        "from pathlib import Path\n"
        "from vsam_heatmaps import MediaPipePoseEstimator, read_photo\n"
        f"photo = read_photo(Path({str(photo)!r}))\n"
        "print(len(MediaPipePoseEstimator().estimate(photo)))"
    )
    assert stdout == "1\n"
    assert "mediapipe" in modules
    assert "torch" not in modules


@pytest.mark.parametrize("name", ["vsam-train", "vsam-predict"])
def test_without_arguments_the_help_is_shown(name, run_command):
    done = run_command(name)
    assert done.returncode == 2
    assert "Usage:" in done.stdout + done.stderr
    assert "--out" in done.stdout + done.stderr


# A finder that does not know a package stands for an environment without it.
WITHOUT = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Without())
from vsam_cli.{module} import run
run()
"""


@pytest.mark.parametrize(
    ("package", "extra", "module", "arguments"),
    [
        ("torch", "train", "train", "--data a --photos b --out c --lambda 0"),
        ("jinja2", "extract", "heatmaps", "report {shards} --out report.html"),
    ],
)
def test_a_stage_that_is_not_installed_is_told_in_one_line(
    shards, tmp_path, package, extra, module, arguments
):
    script = WITHOUT.format(package=package, module=module)
    given = [part.format(shards=shards) for part in arguments.split()]
    done = subprocess.run(
        [sys.executable, "-c", script, *given],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    *_, last = done.stderr.splitlines()
    assert last == f"error: This needs {package}. Install it with: pip install 'vsam[{extra}]'."
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
