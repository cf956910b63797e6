"""The pose model: given, cached, damaged, fetched, and not to be had."""

import contextlib
import hashlib
import io
import os
import random
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from connection import skip_without_connection
from PIL import Image
from processes import started

from vsam_heatmaps import MediaPipePoseEstimator, VsamError
from vsam_heatmaps.pose_model import find_pose_model, leave_out_segmentation

MEMBERS = ("pose_detector.tflite", "pose_landmarks_detector.tflite")
FIND = "from vsam_heatmaps.pose_model import find_pose_model as f; m = f(); print(m.path, m.sha256)"


@pytest.fixture(scope="module")
def bundle(model):
    """Give the default bundle's path."""
    return model.path


def zipped(members, compression=zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name in members:
            file.writestr(name, bytes(range(256)) * 2)
    return buffer.getvalue()


class TestGiven:
    def refusal(self, path, data=None):
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(VsamError) as refused:
            find_pose_model(path)
        assert len(str(refused.value).splitlines()) == 1
        return str(refused.value)

    def test_its_hash_is_that_of_the_file(self, tmp_path):
        path = tmp_path / "own.task"
        path.write_bytes(zipped(MEMBERS))
        model = find_pose_model(path)
        assert model.path == path
        assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()

    def test_not_there(self, tmp_path):
        said = self.refusal(tmp_path / "none.task")
        assert said == (
            f"Expected `--pose-model` to be a .task file, but {tmp_path}/none.task is not there."
        )
        assert "is not there" in self.refusal(tmp_path)

    def test_no_zip(self, tmp_path):
        for data in (b"", b"hello", zipped(MEMBERS)[:-30]):
            said = self.refusal(tmp_path / "m.task", data)
            assert said.endswith("m.task to be a MediaPipe .task bundle, but it is no zip file.")

    def test_lacking_a_network(self, tmp_path):
        said = self.refusal(tmp_path / "m.task", zipped(MEMBERS[:1]))
        assert said.endswith("bundle, but it lacks pose_landmarks_detector.tflite.")
        said = self.refusal(tmp_path / "m.task", zipped(["hand_detector.tflite"]))
        assert said.endswith("it lacks pose_detector.tflite, pose_landmarks_detector.tflite.")

    def test_damaged_inside(self, tmp_path):
        data = bytearray(zipped(MEMBERS))
        data[30 + len(MEMBERS[0]) + 100] ^= 1  # in the first network, behind its header
        said = self.refusal(tmp_path / "m.task", bytes(data))
        assert said.endswith("bundle, but pose_detector.tflite is damaged.")

    @pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
    def test_no_damage_ends_in_a_traceback(self, tmp_path, compression):
        path, data = tmp_path / "m.task", zipped(MEMBERS, compression)
        rng, told = random.Random(3), 0
        for _ in range(400):
            damaged = bytearray(data)
            damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            path.write_bytes(damaged)
            try:
                find_pose_model(path)  # in a date, say: harmless
            except VsamError:
                told += 1
        assert told > 200

    def test_a_file_that_the_system_will_not_read(self):
        memory = Path("/proc/self/mem")  # there, a file, and nothing can be read at its start
        if not memory.is_file():
            pytest.skip("this system has no such file")
        assert self.refusal(memory).startswith("Could not read /proc/self/mem: ")

    def test_networks_that_are_none(self, tmp_path):
        path = tmp_path / "m.task"
        path.write_bytes(zipped(MEMBERS))
        with pytest.raises(
            VsamError, match=rf"^Expected pose_detector.tflite in {path} to be [^\n]+\.$"
        ):
            MediaPipePoseEstimator(path)


def find_in_process(
    cache: Path, **environment: str
) -> "contextlib.AbstractContextManager[subprocess.Popen[str]]":
    return started(
        [sys.executable, "-c", FIND],
        env=os.environ | {"XDG_CACHE_HOME": str(cache)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="moves the cache folder as Linux does")
class TestCached:
    def test_the_bundle_is_stored_and_aligned(self, bundle):
        """MediaPipe maps the networks where they lie: uncompressed, at a multiple of four bytes."""
        data = bundle.read_bytes()
        with zipfile.ZipFile(bundle) as file:
            assert tuple(file.namelist()) == MEMBERS
            for entry in file.infolist():
                assert entry.compress_type == zipfile.ZIP_STORED
                name, extra = struct.unpack_from("<HH", data, entry.header_offset + 26)
                start = entry.header_offset + 30 + name + extra
                assert start % 4 == 0
                assert data[start + 4 : start + 8] == b"TFL3"

    def test_a_whole_one_is_used_as_it_is(self, bundle, tmp_path):
        cached = tmp_path / "vsam" / bundle.name
        cached.parent.mkdir()
        cached.write_bytes(bundle.read_bytes())
        before = cached.stat()
        with find_in_process(tmp_path, PIP_NO_INDEX="1") as process:
            out, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors
        assert out.split() == [str(cached), find_pose_model().sha256]
        assert cached.stat().st_mtime_ns == before.st_mtime_ns

    def test_a_damaged_one_is_made_again_by_two_processes_at_once(self, bundle, tmp_path):
        cached = tmp_path / "vsam" / bundle.name
        cached.parent.mkdir()
        data = bundle.read_bytes()
        cached.write_bytes(data[: len(data) // 2])
        with find_in_process(tmp_path) as one, find_in_process(tmp_path) as other:
            processes = (one, other)
            results = [process.communicate(timeout=200) for process in processes]
        for _, errors in results:
            skip_without_connection(errors)
        for process, (out, errors) in zip(processes, results, strict=True):
            assert process.returncode == 0, errors
            assert out.split() == [str(cached), hashlib.sha256(data).hexdigest()]
        assert cached.read_bytes() == data
        assert [path.name for path in cached.parent.iterdir()] == [cached.name]

    def test_no_connection_is_told_in_one_line(self, run_command, tmp_path):
        photo = tmp_path / "a.jpg"
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(photo)
        empty = tmp_path / "wheels"
        empty.mkdir()
        done = run_command(
            *("vsam-heatmaps", "extract", photo, "--out", tmp_path / "out"),
            env={
                "XDG_CACHE_HOME": str(tmp_path / "cache"),
                "PIP_NO_INDEX": "1",
                "PIP_FIND_LINKS": str(empty),
            },
        )
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert line.startswith("error: Could not get the pose model out of mediapipe==0.10.21: pip")
        assert "No matching distribution" in line
        assert line.endswith("or give a bundle with --pose-model FILE.task.")
        assert not list((tmp_path / "out").glob("*.h5"))
        assert not (tmp_path / "cache").exists()

    def test_without_mediapipe_the_remedy_is_told(self, tmp_path):
        """Both where the bundle is there and where it has to be assembled first."""
        code = (
            "import sys\n"
            "sys.modules['mediapipe'] = None\n"  # as if it were not installed
            "from vsam_heatmaps import MediaPipePoseEstimator, VsamError\n"
            "from vsam_heatmaps.pose_model import find_pose_model\n"
            "for find in MediaPipePoseEstimator, find_pose_model:\n"
            "    try:\n"
            "        find()\n"
            "    except VsamError as error:\n"
            "        print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        used, assembled = done.stdout.splitlines()
        assert used.startswith("Could not import MediaPipe (")
        assert used.endswith("Install it with: pip install 'vsam[extract]'.")
        skip_without_connection(assembled)
        assert assembled.startswith("Could not assemble the pose model (")
        assert assembled.endswith("Install what it needs with: pip install 'vsam[extract]'.")


class TestWithoutSegmentation:
    @pytest.fixture
    def lean(self, bundle, tmp_path, monkeypatch):
        monkeypatch.setattr("platformdirs.user_cache_path", lambda _: tmp_path / "cache")
        return leave_out_segmentation(find_pose_model(bundle))

    def test_every_landmark_is_the_same_to_the_bit(self, bundle, lean, mannequins):
        import mediapipe as mp

        def landmarks(path):
            options = mp.tasks.vision.PoseLandmarkerOptions(
                base_options=mp.tasks.BaseOptions(model_asset_path=str(path))
            )
            with mp.tasks.vision.PoseLandmarker.create_from_options(options) as landmarker:
                for photo in sorted((mannequins / "photos").iterdir())[:6]:
                    found = landmarker.detect(mp.Image.create_from_file(str(photo)))
                    for person in (*found.pose_landmarks, *found.pose_world_landmarks):
                        yield [(p.x, p.y, p.z, p.visibility, p.presence) for p in person]

        whole = list(landmarks(bundle))
        assert len(whole) >= 10
        assert list(landmarks(lean)) == whole

    def test_layers_are_left_out(self, bundle, lean):
        from mediapipe.tasks.metadata import schema_py_generated as tflite

        layers = []
        for path in (bundle, lean):
            with zipfile.ZipFile(path) as file:
                graph = tflite.Model.GetRootAs(file.read(MEMBERS[1]), 0).Subgraphs(0)
            layers.append((graph.OperatorsLength(), graph.OutputsLength()))
        assert layers[0][0] > layers[1][0] + 40
        assert layers[0][1] == layers[1][1] == 5

    def test_it_is_made_once_and_again_when_damaged(self, bundle, lean):
        first = lean.read_bytes()
        times = lean.stat().st_mtime_ns
        assert leave_out_segmentation(find_pose_model(bundle)) == lean
        assert lean.stat().st_mtime_ns == times
        lean.write_bytes(first[: len(first) // 2])
        assert leave_out_segmentation(find_pose_model(bundle)).read_bytes() == first

    def test_foreign_networks_are_told_in_one_line(self, tmp_path):
        """MediaPipe would load some of them, and fail with the first photo."""
        path = tmp_path / "own.task"
        path.write_bytes(zipped(MEMBERS))
        with pytest.raises(VsamError, match=r"own\.task to be a TFLite network, but it is damaged"):
            leave_out_segmentation(find_pose_model(path))

    def test_where_no_copy_can_be_kept_the_bundle_itself_serves(
        self, bundle, tmp_path, monkeypatch
    ):
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setattr("platformdirs.user_cache_path", lambda _: tmp_path / "file" / "cache")
        assert leave_out_segmentation(find_pose_model(bundle)) == bundle
