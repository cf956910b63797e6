"""The choice of an engine: what there is, what is missing, and what can't be had together."""

import hashlib
import importlib.util
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vsam_datasets.mannequins import draw_mannequin
from vsam_heatmaps import MediaPipePoseEstimator, VsamError, openvino_networks
from vsam_heatmaps.blazepose import region_network
from vsam_heatmaps.engines import ENGINES, PRECISIONS, Engine, choose_engine
from vsam_heatmaps.openvino_backend import OpenVinoPoseEstimator
from vsam_heatmaps.openvino_core import openvino_core
from vsam_heatmaps.pose_model import PoseModel

# Nothing of a model is read before an engine is loaded.
MODEL = PoseModel(Path("own.task"), "ab" * 32)
HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
needs_openvino = pytest.mark.skipif(not HAS_OPENVINO, reason="OpenVINO is not installed")


def forget_the_core(monkeypatch) -> None:
    """Let OpenVINO be asked for again, for one test; the one core of this process lives on."""
    monkeypatch.setattr(openvino_networks, "openvino_core", openvino_core.__wrapped__)


@pytest.fixture
def no_openvino(monkeypatch):
    """Let Python believe that OpenVINO is not installed."""
    forget_the_core(monkeypatch)
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert importlib.util.find_spec("openvino") is None


def refusal(*args, **options) -> str:
    with pytest.raises(VsamError) as refused:
        choose_engine(*args, **options)
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


def has_bf16() -> bool:
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class TestNames:
    def test_what_can_be_asked_for(self):
        assert ENGINES == ("auto", "mediapipe", "openvino")
        assert PRECISIONS == ("auto", "f32", "mixed", "bf16")

    def test_an_unknown_engine(self):
        for name in ("tensorrt", "", "OpenVINO"):
            assert refusal(name, MODEL) == (
                f"Expected `pose_engine` to be one of auto, mediapipe, openvino, but got {name!r}."
            )

    @pytest.mark.parametrize("name", ENGINES)
    def test_an_unknown_precision(self, name):
        assert refusal(name, MODEL, precision="f16") == (
            "Expected `precision` to be one of auto, f32, mixed, bf16, but got 'f16'."
        )


@needs_openvino
class TestOpenVino:
    @pytest.mark.parametrize("name", ["auto", "openvino"])
    def test_is_taken_where_it_is_installed(self, name):
        shipped = Path(region_network.__file__).parent / "data" / "region_network.npz"
        engine = choose_engine(name, MODEL, min_confidence=0.3)
        assert engine == Engine(
            name="openvino",
            model=MODEL,
            precision="mixed" if has_bf16() else "f32",
            crops=True,
            region_network_sha256=hashlib.sha256(shipped.read_bytes()).hexdigest(),
            min_confidence=0.3,
        )

    def test_looks_for_crops_unless_told_not_to(self):
        assert choose_engine("openvino", MODEL, crops=True).crops
        engine = choose_engine("openvino", MODEL, crops=False)
        assert (engine.crops, engine.region_network_sha256) == (False, "")

    def test_f32_can_always_be_had(self):
        assert choose_engine("openvino", MODEL, precision="f32").precision == "f32"

    @pytest.mark.parametrize("precision", ["mixed", "bf16"])
    def test_bf16_where_the_processor_has_it(self, precision):
        if has_bf16():
            assert choose_engine("openvino", MODEL, precision=precision).precision == precision
        else:
            assert "this processor has no bf16" in refusal("openvino", MODEL, precision=precision)

    def test_a_processor_without_bf16(self, monkeypatch):
        """Simulated: OpenVINO is asked what the processor can do."""
        import openvino

        class Core:
            def get_property(self, *_: str) -> list[str]:
                return ["FP32", "INT8", "BIN"]

            def set_property(self, _: dict[str, object]) -> None:
                pass

        forget_the_core(monkeypatch)
        monkeypatch.setattr(openvino, "Core", Core)
        assert choose_engine("auto", MODEL).precision == "f32"
        assert refusal("openvino", MODEL, precision="bf16") == (
            "Expected `precision` to be f32: this processor has no bf16 arithmetic, but got 'bf16'."
        )

    def test_one_that_does_not_load_is_told_in_one_line(self, monkeypatch, tmp_path):
        """It is installed, but a library that it needs is not, say."""
        package = tmp_path / "openvino"
        package.mkdir()
        (package / "__init__.py").write_text("raise ImportError('libtbb.so.12: not found')\n")
        for name in [name for name in sys.modules if name.split(".")[0] == "openvino"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.syspath_prepend(tmp_path)
        forget_the_core(monkeypatch)
        said = refusal("openvino", MODEL)
        assert said.startswith("Could not import OpenVINO (libtbb.so.12: not found). ")
        assert "pip install 'vsam[fast]'" in said


class TestMediaPipe:
    @pytest.mark.parametrize("precision", ["auto", "f32"])
    @pytest.mark.parametrize("crops", [None, False])
    def test_computes_in_f32_and_without_crops(self, precision, crops):
        engine = choose_engine("mediapipe", MODEL, precision=precision, crops=crops)
        assert engine == Engine("mediapipe", MODEL, "f32", False, "", 0.5)

    def test_can_not_look_for_crops(self):
        assert refusal("mediapipe", MODEL, crops=True) == (
            "Expected `pose_engine` to be openvino for crops, but got mediapipe. Install it with: "
            "pip install 'vsam[fast]', and choose --pose-engine openvino."
        )

    @pytest.mark.parametrize("precision", ["mixed", "bf16"])
    def test_can_not_compute_in_bf16(self, precision):
        assert refusal("mediapipe", MODEL, precision=precision).startswith(
            f"Expected `pose_engine` to be openvino for {precision}, but got mediapipe. Install it "
        )


@pytest.mark.usefixtures("no_openvino")
class TestWithoutOpenVino:
    def test_auto_takes_mediapipe(self):
        assert choose_engine("auto", MODEL) == Engine("mediapipe", MODEL, "f32", False, "", 0.5)
        assert choose_engine("auto", MODEL, crops=False).name == "mediapipe"

    def test_asking_for_it_tells_the_remedy(self):
        said = refusal("openvino", MODEL)
        assert said == (
            "Could not find OpenVINO. Install it with: pip install 'vsam[fast]', or choose "
            "--pose-engine mediapipe."
        )

    @pytest.mark.parametrize(
        "wanted", [{"crops": True}, {"precision": "bf16"}, {"precision": "mixed"}]
    )
    def test_what_only_it_can_do_tells_the_remedy(self, wanted):
        """Not taken back in silence."""
        assert "pip install 'vsam[fast]'" in refusal("auto", MODEL, **wanted)

    def test_an_estimator_tells_the_remedy(self, tmp_path):
        model = tmp_path / "own.task"
        model.write_bytes(_bundle_of_nothing())
        with pytest.raises(VsamError) as refused:
            OpenVinoPoseEstimator(model, crops=False)
        said = str(refused.value)
        assert len(said.splitlines()) == 1
        assert said.startswith("Could not import OpenVINO (")
        assert "pip install 'vsam[fast]'" in said

    def test_without_mediapipe_either(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "mediapipe", None)
        engine = choose_engine("auto", MODEL)
        with pytest.raises(VsamError) as refused:
            engine.estimator()
        assert len(str(refused.value).splitlines()) == 1
        assert str(refused.value).endswith("Install it with: pip install 'vsam[extract]'.")


def _bundle_of_nothing() -> bytes:
    import io
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name in ("pose_detector.tflite", "pose_landmarks_detector.tflite"):
            bundle.writestr(name, b"nothing")
    return buffer.getvalue()


class TestEngine:
    @pytest.mark.parametrize("name", ["auto", "mediapipe"])
    def test_can_be_sent_to_another_process(self, name):
        engine = choose_engine(name, MODEL, crops=False, min_confidence=0.25)
        assert pickle.loads(pickle.dumps(engine)) == engine

    def test_loads_mediapipe(self, model):
        with choose_engine("mediapipe", model).estimator() as estimator:
            assert isinstance(estimator, MediaPipePoseEstimator)
            assert (estimator.name, estimator.precision) == ("mediapipe", "f32")
            assert estimator.model == model

    def test_mediapipe_answers_however_long_a_photo_is(self, model):
        """In a process: a side that is too long for OpenCV ends it."""
        code = (
            "import sys\n"
            "from pathlib import Path\n"
            "import numpy as np\n"
            "from vsam_heatmaps import MediaPipePoseEstimator\n"
            "with MediaPipePoseEstimator(Path(sys.argv[1])) as estimator:\n"
            "    for side in 32_766, 32_767, 60_000:\n"
            "        photo = np.full((side, 40, 3), 128, np.uint8)\n"
            "        for each in photo, photo.transpose(1, 0, 2):\n"
            "            print(side, len(estimator.estimate(each)))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(model.path)],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-1000:]
        sides = [int(line.split()[0]) for line in done.stdout.splitlines()]
        assert sides == [32_766, 32_766, 32_767, 32_767, 60_000, 60_000]

    @needs_openvino
    @pytest.mark.parametrize("crops", [False, True])
    @pytest.mark.parametrize("precision", ["auto", "f32"])
    def test_loads_openvino_as_chosen(self, model, crops, precision):
        engine = choose_engine("openvino", model, precision=precision, crops=crops)
        with engine.estimator() as estimator:
            assert isinstance(estimator, OpenVinoPoseEstimator)
            assert (estimator.name, estimator.precision) == ("openvino", engine.precision)
            assert estimator.model == model
            photo = draw_mannequin(0, 0).photo
            if crops:
                assert estimator.propose(photo).person > 0.5
            else:
                with pytest.raises(VsamError):
                    estimator.propose(photo)

    @pytest.mark.parametrize("name", ["mediapipe", pytest.param("openvino", marks=needs_openvino)])
    def test_hands_its_confidence_on(self, model, name):
        photo = draw_mannequin(0, 0).photo
        found = []
        for least in (0.5, 1.0):
            with choose_engine(name, model, min_confidence=least).estimator() as estimator:
                found.append(len(estimator.estimate(photo)))
        assert found == [1, 0]

    @needs_openvino
    def test_an_unpickled_one_gives_the_same(self, model):
        engine = choose_engine("openvino", model)
        photo = draw_mannequin(1, 0).photo
        results = []
        for one in (engine, pickle.loads(pickle.dumps(engine))):
            with one.estimator() as estimator:
                results.append(estimator.estimate(photo))
        np.testing.assert_array_equal(results[0].keypoints, results[1].keypoints)
