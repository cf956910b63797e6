"""Which pose estimator a run uses: the engine, its precision, and whether it looks for crops."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from .errors import VsamError, expected
from .keypoint_files import KeypointFile
from .pose_model import PoseModel
from .poses import PoseEstimator

ENGINES = ("auto", "mediapipe", "openvino")
"""What can run the pose networks; `auto` is OpenVINO where it is installed."""

PRECISIONS = ("auto", "f32", "mixed", "bf16")
"""Arithmetic of the networks: `f32`; `mixed`, the landmark network in bf16; `bf16`, both.

`auto` is `mixed` where engine and processor have bf16, else `f32`."""

PEOPLE = ("main", "all")
"""Whom the maps show."""


@dataclass(frozen=True)
class Engine:
    """A choice that holds for a whole run; can be sent to worker processes.

    Attributes:
        name: `mediapipe` or `openvino`.
        model: The bundle with the networks.
        precision: `f32`, `mixed` or `bf16`.
        crops: Whether people of whom only a part shows are looked for.
        region_network_sha256: SHA-256 of the weights that do so, empty without.
        min_confidence: Least confidence, 0..1, at which a person is reported.
    """

    name: str
    model: PoseModel
    precision: str
    crops: bool
    region_network_sha256: str
    min_confidence: float

    def estimator(self) -> PoseEstimator:
        """Load the networks.

        Raises:
            VsamError: If the engine isn't installed, or can't load the model.
        """
        if self.name == "mediapipe":
            from .mediapipe_backend import MediaPipePoseEstimator

            return MediaPipePoseEstimator(self.model.path, min_confidence=self.min_confidence)
        from .openvino_backend import OpenVinoPoseEstimator

        return OpenVinoPoseEstimator(
            self.model.path,
            min_confidence=self.min_confidence,
            precision=self.precision,
            crops=self.crops,
        )


@dataclass(frozen=True)
class Lookup:
    """A keypoint file in the place of an engine: poses are looked up, no network runs.

    Attributes:
        file: The keypoints.
        min_confidence: People with a lower score are left out.
    """

    file: KeypointFile
    min_confidence: float


def choose_engine(
    name: str,
    model: PoseModel,
    *,
    precision: str = "auto",
    crops: bool | None = None,
    min_confidence: float = 0.5,
) -> Engine:
    """Choose once what all workers of a run use.

    Args:
        name: One of `ENGINES`.
        model: The bundle with the networks.
        precision: One of `PRECISIONS`. MediaPipe computes in f32.
        crops: Whether to look for people of whom only a part shows, which needs OpenVINO. The
            default is to do so where the engine can.
        min_confidence: Least confidence, 0..1, at which a person is reported.

    Raises:
        VsamError: If a name is unknown, the engine isn't installed, or can't do what is asked.
    """
    if name not in ENGINES:
        raise expected("pose_engine", f"one of {', '.join(ENGINES)}", repr(name))
    if precision not in PRECISIONS:
        raise expected("precision", f"one of {', '.join(PRECISIONS)}", repr(precision))
    installed = importlib.util.find_spec("openvino") is not None
    if name == "auto":
        name = "openvino" if installed else "mediapipe"
    if name == "mediapipe":
        if crops or precision in ("mixed", "bf16"):
            raise VsamError(
                f"Expected `pose_engine` to be openvino for {'crops' if crops else precision}, but "
                "got mediapipe. Install it with: pip install 'vsam[fast]', and choose "
                "--pose-engine openvino."
            )
        return Engine(name, model, "f32", False, "", min_confidence)
    if not installed:
        raise VsamError(
            "Could not find OpenVINO. Install it with: pip install 'vsam[fast]', or choose "
            "--pose-engine mediapipe."
        )
    from .blazepose.region_network import region_weights_sha256
    from .openvino_networks import choose_precision

    crops = crops is not False
    sha256 = region_weights_sha256() if crops else ""
    return Engine(name, model, choose_precision(precision), crops, sha256, min_confidence)
