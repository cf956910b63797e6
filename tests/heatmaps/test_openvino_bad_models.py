"""Bundles and weights that are none are told in one line, by both engines."""

import io
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from estimators import as_bytes

from vsam_heatmaps import MediaPipePoseEstimator, VsamError
from vsam_heatmaps.openvino_backend import OpenVinoPoseEstimator

pytest.importorskip("openvino")
pytest.importorskip("mediapipe")

MEMBERS = ("pose_detector.tflite", "pose_landmarks_detector.tflite")
NOISE = bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8))


def packed(*networks: bytes, names: Sequence[str] = MEMBERS) -> bytes:
    """Zip networks as MediaPipe wants them: stored, each at a multiple of four bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as bundle:
        for name, data in zip(names, networks, strict=True):
            entry = zipfile.ZipInfo(name)
            padding = -(buffer.tell() + 30 + len(name) + 4) % 4
            entry.extra = (0xD935).to_bytes(2, "little") + padding.to_bytes(2, "little")
            entry.extra += bytes(padding)
            bundle.writestr(entry, data)
    return buffer.getvalue()


# Makes a bundle that is none out of the official detector and landmark network.
BAD_BUNDLES: dict[str, Callable[[bytes, bytes], bytes]] = {
    "truncated": lambda a, b: packed(a, b)[:1_000_000],
    "without its end": lambda a, b: packed(a, b)[:-40],
    "lacking a network": lambda a, b: packed(a, names=MEMBERS[:1]),
    "of another task": lambda a, b: packed(a, b, names=("hand_detector.tflite", "x.tflite")),
    "noise for a detector": lambda a, b: packed(NOISE, b),
    "noise for landmarks": lambda a, b: packed(a, NOISE),
    "half a detector": lambda a, b: packed(a[: len(a) // 2], b),
    "empty networks": lambda a, b: packed(b"", b""),
}
FOREIGN_NETWORKS: dict[str, Callable[[bytes, bytes], bytes]] = {
    "exchanged": lambda a, b: packed(b, a),
    "the detector twice": lambda a, b: packed(a, a),
    "the landmarks twice": lambda a, b: packed(b, b),
}


class TestBadModels:
    @pytest.fixture
    def networks(self, model):
        with zipfile.ZipFile(model.path) as bundle:
            return [bundle.read(name) for name in MEMBERS]

    @pytest.fixture(params=["mediapipe", "openvino", "openvino with crops"])
    def load(self, request):
        """Give a function that loads a bundle."""
        return {
            "mediapipe": MediaPipePoseEstimator,
            "openvino": lambda path: OpenVinoPoseEstimator(path, crops=False),
            "openvino with crops": OpenVinoPoseEstimator,
        }[request.param]

    @pytest.fixture(autouse=True)
    def cache(self, model, monkeypatch, tmp_path):
        """MediaPipe's engine keeps a leaner copy of a bundle: not in the user's cache."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def check(self, refused, path):
        said = str(refused.value)
        assert len(said.splitlines()) == 1
        assert str(path) in said

    @pytest.mark.parametrize("kind", BAD_BUNDLES)
    def test_are_told_in_one_line(self, networks, load, kind, tmp_path):
        path = tmp_path / "own.task"
        path.write_bytes(BAD_BUNDLES[kind](*networks))
        with pytest.raises(VsamError) as refused:
            load(path)
        self.check(refused, path)

    @pytest.mark.parametrize("crops", [False, True])
    @pytest.mark.parametrize("kind", FOREIGN_NETWORKS)
    def test_openvino_tells_of_foreign_networks(self, networks, kind, crops, tmp_path):
        path = tmp_path / "own.task"
        path.write_bytes(FOREIGN_NETWORKS[kind](*networks))
        with pytest.raises(VsamError) as refused:
            OpenVinoPoseEstimator(path, crops=crops)
        self.check(refused, path)

    @pytest.mark.parametrize("kind", FOREIGN_NETWORKS)
    def test_mediapipe_tells_of_foreign_networks(self, networks, kind, tmp_path):
        """At the latest with the first person. In a process: a failed graph can hang when freed."""
        path = tmp_path / "own.task"
        path.write_bytes(FOREIGN_NETWORKS[kind](*networks))
        code = (
            "import sys\n"
            "from pathlib import Path\n"
            "from vsam_datasets.mannequins import draw_mannequin\n"
            "from vsam_heatmaps import MediaPipePoseEstimator, VsamError\n"
            "try:\n"
            "    with MediaPipePoseEstimator(Path(sys.argv[1])) as estimator:\n"
            "        estimator.estimate(draw_mannequin(0, 0).photo)\n"
            "except VsamError as error:\n"
            "    print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-1000:]
        [line] = done.stdout.splitlines()
        assert str(path) in line

    def test_a_bundle_packed_anew_works(self, model, networks, load, tmp_path, drawn):
        """So that the tests above refuse what is in the bundles, not how they were made."""
        path = tmp_path / "own.task"
        path.write_bytes(packed(*networks))
        with load(path) as own, load(model.path) as default:
            assert len(own.estimate(drawn[0])) == 1
            assert as_bytes(own.estimate(drawn[0])) == as_bytes(default.estimate(drawn[0]))
            assert own.model.path == path

    def test_weights_of_something_else(self, model, tmp_path):
        path = tmp_path / "own.npz"
        np.savez(path, a=np.zeros(3))
        with pytest.raises(VsamError) as refused:
            OpenVinoPoseEstimator(model.path, region_weights=path)
        assert len(str(refused.value).splitlines()) == 1
        assert str(path) in str(refused.value)

    def test_an_unknown_precision(self, model):
        with pytest.raises(VsamError) as refused:
            OpenVinoPoseEstimator(model.path, precision="f16", crops=False)
        assert str(refused.value) == (
            "Expected `precision` to be one of auto, f32, mixed, bf16, but got 'f16'."
        )


def test_a_signal_after_many_estimators_ends_nothing(tmp_path):
    """A core of OpenVINO brings a stack for signals: none that is gone may be left behind."""
    code = (
        "import os, signal\n"
        "from vsam_heatmaps.openvino_backend import OpenVinoPoseEstimator\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('heard'))\n"
        "one = OpenVinoPoseEstimator(crops=False)\n"
        "two = OpenVinoPoseEstimator(crops=True)\n"
        "del one\n"
        "del two\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stdout) == (0, "heard\n")
