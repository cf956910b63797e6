"""`vsam serve-pose`: poses as a gRPC service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .heatmaps.extract import PoseEngine
from .serving import protection, service, service_options, with_options

if TYPE_CHECKING:
    from vsam_heatmaps import PoseEstimator


@with_options(protection, service)
def serve_pose(
    protected: dict[str, Any],
    served: dict[str, Any],
    pose_engine: Annotated[
        PoseEngine, typer.Option(help="What runs the pose networks.")
    ] = PoseEngine.mediapipe,
    pose_model: Annotated[
        Path | None, typer.Option(help="A .task bundle instead of the official one.")
    ] = None,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="People below it are left out.")
    ] = 0.5,
    min_visibility: Annotated[
        float, typer.Option(min=0, max=1, help="Joints below it are left out.")
    ] = 0.5,
) -> None:
    """Serve poses as OpenPoseEstimator over gRPC: all people, in the 18 joints of OpenPose's COCO.

    SIGTERM and Ctrl-C end it as `vsam serve`.
    """
    from vsam.serving.options import ServiceOptions

    options = ServiceOptions(**service_options(protected, served))
    from vsam.serving.pose import serve_pose as run_server

    def load() -> PoseEstimator:
        from vsam_heatmaps.engines import choose_engine
        from vsam_heatmaps.pose_model import find_pose_model

        bundle = find_pose_model(pose_model)
        engine = choose_engine(pose_engine.value, bundle, min_confidence=min_confidence)
        return engine.estimator()

    run_server(options, load, min_visibility=min_visibility)
