"""BlazePose's networks in OpenVINO. The only module of the pose stage that knows its types."""

from __future__ import annotations

import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .blazepose import detection, landmarks
from .blazepose.region_network import FEATURES, VALUES, RegionWeights
from .engines import PRECISIONS
from .errors import VsamError, expected
from .openvino_core import import_openvino, openvino_core
from .pose_model import DETECTOR, LANDMARKER, PoseModel

# Of detector and landmark network.
_ARITHMETIC = {"f32": ("f32", "f32"), "mixed": ("f32", "bf16"), "bf16": ("bf16", "bf16")}
_ANCHORS = len(detection.anchor_centres())


@dataclass(frozen=True)
class DetectorOutput:
    """What the detector says of a letterboxed photo.

    Attributes:
        boxes: (2254, 12) float32, see `decode_detections`.
        logits: (2254,) float32.
        proposal: (30,) float32, see `decode_proposal`; None without a region network.
    """

    boxes: NDArray[np.float32]
    logits: NDArray[np.float32]
    proposal: NDArray[np.float32] | None


class OpenVinoNetworks:
    """The two networks of a `.task` bundle, compiled for one thread of this machine's processor.

    What nobody reads is cut off (segmentation, world coordinates), and the region network is
    joined to the detector's deepest layer, so that it costs no second look at the photo.

    Args:
        model: The bundle.
        region_weights: Weights of the region network; None leaves it out.
        precision: One of `engines.PRECISIONS`. Rounding the landmark network to bf16 moves
            landmarks by 0.08 % of the photo's side in the median, 0.8 % at the 95th percentile;
            rounding the detector, too, moves the regions, and so the landmarks by 0.2 % and 1.3 %,
            and finds somebody on a few more photos without a person. Each network then takes about
            half of its time.

    Raises:
        VsamError: If OpenVINO isn't installed, or the networks are not BlazePose's.
    """

    def __init__(
        self,
        model: PoseModel,
        *,
        region_weights: RegionWeights | None = None,
        precision: str = "auto",
    ) -> None:
        core = _core()
        self.precision = choose_precision(precision)
        detector_precision, landmark_precision = _ARITHMETIC[self.precision]
        detector, landmarker = _read_networks(core, model.path)
        outputs = [
            _output(detector, (1, _ANCHORS, detection.BOX_VALUES), model.path),
            _output(detector, (1, _ANCHORS, 1), model.path),
        ]
        if region_weights is not None:
            outputs.append(_region_network(outputs[1], region_weights, model.path))
        side = detection.INPUT_SIDE
        self._detector = _compile(
            core, detector, outputs, side, mean=127.5, scale=127.5, path=model.path,
            precision=detector_precision,
        )  # fmt: skip
        points = landmarks.POINTS
        maps = (1, landmarks.HEATMAP_SIDE, landmarks.HEATMAP_SIDE, points)
        outputs = [
            _output(landmarker, (1, points * landmarks.POINT_VALUES), model.path),
            _output(landmarker, (1, 1), model.path),
            _output(landmarker, maps, model.path),
        ]
        side = landmarks.INPUT_SIDE
        self._landmarker = _compile(
            core, landmarker, outputs, side, mean=0, scale=255, path=model.path,
            precision=landmark_precision,
        )  # fmt: skip
        self._has_regions = region_weights is not None

    def detect(self, image: NDArray[np.uint8]) -> DetectorOutput:
        """Run the detector on (224, 224, 3) uint8 RGB."""
        boxes, logits, *proposal = _infer(self._detector, image, 2 + self._has_regions)
        return DetectorOutput(boxes[0], logits[0, :, 0], proposal[0][0] if proposal else None)

    def find_landmarks(
        self, image: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], float, NDArray[np.float32]]:
        """Run the landmark network on (256, 256, 3) uint8 RGB.

        Returns:
            (195,) raw values, the presence score, (64, 64, 39) heatmap logits; see
            `decode_landmarks`. All are only valid until the next call.
        """
        values, score, heatmaps = _infer(self._landmarker, image, 3)
        return values[0], float(score[0, 0]), heatmaps[0]

    def close(self) -> None:
        """Free the networks."""
        self._detector = self._landmarker = None


class DetectorLayer:
    """Gives the detector's layer that the region network reads, to train that network.

    Args:
        model: The bundle.
        shape: (C, H, W) of the layer.

    Raises:
        VsamError: If the detector has no such layer.
    """

    def __init__(self, model: PoseModel, shape: tuple[int, int, int]) -> None:
        core = _core()
        detector, _ = _read_networks(core, model.path)
        layer = _find_layer(_output(detector, (1, _ANCHORS, 1), model.path), shape, model.path)
        side = detection.INPUT_SIDE
        self._request = _compile(
            core, detector, [layer], side, mean=127.5, scale=127.5, precision="f32",
            path=model.path,
        )  # fmt: skip

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the detector on (224, 224, 3) uint8 RGB, up to the layer: (C, H, W)."""
        return _infer(self._request, image, 1)[0][0]


def choose_precision(precision: str) -> str:
    """Turn `auto` into what this processor does fast.

    Raises:
        VsamError: If the name is unknown, OpenVINO can't be loaded, or the processor has no bf16
            arithmetic.
    """
    if precision not in PRECISIONS:
        raise expected("precision", f"one of {', '.join(PRECISIONS)}", repr(precision))
    if precision == "f32":
        return precision
    has_bf16 = "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "auto":
        return "mixed" if has_bf16 else "f32"
    if not has_bf16:
        raise expected("precision", "f32: this processor has no bf16 arithmetic", repr(precision))
    return precision


def _openvino() -> Any:
    try:
        return import_openvino()
    except ImportError as error:
        raise VsamError(
            f"Could not import OpenVINO ({error}). Install it with: pip install 'vsam[fast]', or "
            "choose --pose-engine mediapipe."
        ) from error


def _core() -> Any:
    _openvino()  # tells in one line if it can't be imported
    return openvino_core()


def _read_networks(core: Any, path: Path) -> tuple[Any, Any]:
    # OpenVINO knows TFLite files by their extension alone, so it can't read them from memory.
    with tempfile.TemporaryDirectory(prefix="vsam-networks-") as folder:
        with zipfile.ZipFile(path) as bundle:
            bundle.extractall(folder, [DETECTOR, LANDMARKER])
        try:
            detector, landmarker = (
                core.read_model(Path(folder, name)) for name in (DETECTOR, LANDMARKER)
            )
        except RuntimeError as error:
            raise VsamError(
                f"OpenVINO could not read a network of {path}: {_last_line(error)}. Give another "
                "bundle with --pose-model, or choose --pose-engine mediapipe."
            ) from error
    return detector, landmarker


def _output(network: Any, shape: tuple[int, ...], path: Path) -> Any:
    """Find an output by its shape: names differ between releases of the networks."""
    found = [output for output in network.outputs if _shape(output) == shape]
    if len(found) != 1:
        shapes = ", ".join(str(_shape(output)) for output in network.outputs)
        raise expected(
            f"outputs of a network in {path}",
            f"BlazePose's, with one of shape {shape}",
            shapes,
            "Give a MediaPipe pose landmarker bundle, or choose --pose-engine mediapipe.",
        )
    return found[0].get_node().input_value(0)


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(size.get_length() if size.is_static else -1 for size in value.partial_shape)


def _compile(
    core: Any,
    network: Any,
    outputs: list[Any],
    side: int,
    *,
    mean: float,
    scale: float,
    precision: str,
    path: Path,
) -> Any:
    ov = _openvino()
    inputs = [_shape(parameter.output(0)) for parameter in network.get_parameters()]
    if inputs != [(1, side, side, 3)]:
        raise expected(
            f"input of a network in {path}",
            f"BlazePose's, of shape {(1, side, side, 3)}",
            inputs,
            "Give a MediaPipe pose landmarker bundle, or choose --pose-engine mediapipe.",
        )
    steps = ov.preprocess.PrePostProcessor(ov.Model(outputs, network.get_parameters()))
    steps.input().tensor().set_element_type(ov.Type.u8)
    scaling = steps.input().preprocess().convert_element_type(ov.Type.f32)
    scaling.mean(mean)
    scaling.scale(scale)
    settings = {
        # One thread a process, left to the system: several processes share the cores, and threads
        # that OpenVINO pins would all sit on the first one.
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": precision,
    }
    return core.compile_model(steps.build(), "CPU", settings).create_infer_request()


def _region_network(of: Any, weights: RegionWeights, path: Path) -> Any:
    """Join the region network to the deepest layer that an output is computed from."""
    import openvino.opset13 as op

    x = _find_layer(of, FEATURES, path)
    for kernel, bias in weights.convolutions:
        pad = [kernel.shape[-1] // 2] * 2
        x = op.convolution(x, kernel.astype(np.float32), [1, 1], pad, pad, [1, 1])
        x = op.relu(op.add(x, bias.astype(np.float32).reshape(1, -1, 1, 1)))
    x = op.reshape(x, np.array([1, -1]), special_zero=False)
    for index, (matrix, bias) in enumerate(weights.dense):
        x = op.matmul(x, matrix.astype(np.float32), False, True)
        x = op.add(x, bias.astype(np.float32)[None])
        if index < len(weights.dense) - 1:
            x = op.relu(x)
    assert _shape(x.output(0)) == (1, VALUES)
    return x.output(0)


def _find_layer(of: Any, shape: tuple[int, int, int], path: Path) -> Any:
    """Walk from an output towards the input to the first activation of this shape."""
    waiting, seen = [of.get_node()], set()
    while waiting:
        node = waiting.pop()
        if node.get_friendly_name() in seen:
            continue
        seen.add(node.get_friendly_name())
        if node.get_type_name() in ("Clamp", "Relu") and _shape(node.output(0)) == (1, *shape):
            return node.output(0)
        waiting += [value.get_node() for value in node.input_values()]
    raise expected(
        f"detector in {path}",
        f"the official one, with the layer of shape {shape} that --crops on needs",
        "one without",
        "Choose --crops off.",
    )


def _infer(request: Any, image: NDArray[np.uint8], outputs: int) -> list[NDArray[np.float32]]:
    request.infer({0: image[None]})
    return [request.get_output_tensor(index).data for index in range(outputs)]


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip().rstrip(".") if lines else type(error).__name__
