"""The pipeline's stages as processes, and clients that know nothing of the package."""

import contextlib
import json
import os
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from servers import WAIT, Server, running

PROTO = """
syntax = "proto3";
message Empty {}
message Image { bytes data = 1; }
message PredictRequest { bytes image_data = 1; bool all_categories = 2; bool all_attributes = 3; }
message Correspondence { string label = 1; double value = 2; }
message PredictResponse {
  repeated Correspondence categories = 2;
  repeated Correspondence attributes = 3;
}
message KeyPoint { uint32 index = 1; float x = 2; float y = 3; float score = 4; }
message Pose { repeated KeyPoint key_points = 1; }
message DetectedPoses { repeated Pose poses = 1; }
message VisualizationRequest { Image image = 1; PredictResponse prediction = 2; }
service ImageSourceService {
  rpc Get(Empty) returns (Image);
  rpc GetStream(Empty) returns (stream Image);
}
service TagMyOutfitService { rpc predict(PredictRequest) returns (PredictResponse); }
service OpenPoseEstimator { rpc estimate(Image) returns (DetectedPoses); }
service VisualizationService { rpc Visualize(VisualizationRequest) returns (Empty); }
"""
"""The stages' interface, written from its description; what a stranger compiles."""

COCO_18 = (
    *("nose", "neck"),
    *("right_shoulder", "right_elbow", "right_wrist"),
    *("left_shoulder", "left_elbow", "left_wrist"),
    *("right_hip", "right_knee", "right_ankle"),
    *("left_hip", "left_knee", "left_ankle"),
    *("right_eye", "left_eye", "right_ear", "left_ear"),
)
"""OpenPose's order, from its documentation: POSE_COCO_BODY_PARTS."""

WITHOUT = """
import sys
for name in sys.argv.pop(1).split(","):
    sys.modules[name] = None
sys.argv[0] = "vsam"
from vsam_cli.main import run
run()
"""
"""Runs `vsam` where some packages are not installed."""


NO_MODEL = ("torch", "torchvision", "safetensors")
LIGHT = (*NO_MODEL, "mediapipe", "openvino", "ray")
"""What is not installed where stages run that need less."""

DEPLOY = Path(__file__).parents[1] / "deploy"

BLOCKING = """
import os, sys
for name in os.environ["WITHOUT"].split(","):
    sys.modules[name] = None
"""


def compose_services() -> dict[str, Any]:
    """Read the services of the compose file."""
    services: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return services


def compose_lines(
    photos: Path, model: Path, scratch: Path, without: dict[str, Sequence[str]]
) -> dict[str, list[str]]:
    """Write the command line of each service as the compose file has it, but for host and paths.

    Args:
        photos: What is mounted as photos.
        model: What is mounted as model.
        scratch: A folder for `tmp` and `work`, where the processes may write, and more.
        without: For each service packages that are not installed where it runs.
    """
    blocking = scratch / "blocking"
    blocking.mkdir()
    (blocking / "sitecustomize.py").write_text(BLOCKING)
    for name in ("tmp", "work"):
        (scratch / name).mkdir()
    here = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    path = os.pathsep.join([str(blocking), *map(os.path.abspath, here)])
    instead = {"/photos": str(photos), "/model": str(model), "0.0.0.0": "127.0.0.1", "9464": "0"}
    lines = {}
    for name, service in compose_services().items():
        given = [instead.get(part, part) for part in service["command"]]
        ports = [] if name == "pipeline" else ["--port", "0"]
        ports += ["--page-port", "0"] if name in ("view", "pipeline") else []
        lines[name] = [
            *("env", "--chdir", f"{scratch}/work", f"TMPDIR={scratch}/tmp", f"PYTHONPATH={path}"),
            f"WITHOUT={','.join(without.get(name, ['none']))}",
            *(_installed(), *given, *ports),
        ]
    return lines


def line_of(*arguments: object, without: Sequence[str] = ()) -> list[str]:
    """Write a command line."""
    start = [sys.executable, "-c", WITHOUT, ",".join(without)] if without else [_installed()]
    return [*start, *map(str, arguments)]


def _installed() -> str:
    return str(Path(sys.executable).parent / "vsam")


@contextlib.contextmanager
def stage(*arguments: object, without: Sequence[str] = ()) -> Iterator[Server]:
    """Run a stage, ready, on ports that are free; it ends in order."""
    with stages({"one": line_of(*arguments, "--port", 0, without=without)}) as started:
        yield started["one"]


@contextlib.contextmanager
def stages(commands: dict[str, Sequence[str]]) -> Iterator[dict[str, Server]]:
    """Run several at once, for each takes its time to start."""
    with contextlib.ExitStack() as stack:
        started = {
            name: stack.enter_context(running(command, ready=False))
            for name, command in commands.items()
        }
        for server in started.values():
            server.wait_for("event=ready")
        yield started
        for name, server in started.items():
            assert not any("Traceback" in line for line in server.lines), server.lines
            assert server.end() == 0, (name, server.lines)
            assert "event=ended" in server.lines[-1]


def page_of(server: Server) -> str:
    """Give the address of a stage's page, out of its log."""
    [line] = [line for line in server.lines if "event=ready" in line]
    return line.split("page=")[1].split()[0]


def pictures_on(page: str) -> list[dict[str, Any]]:
    """Give what a page shows, the newest first."""
    with urllib.request.urlopen(f"{page}/pictures.json", timeout=WAIT) as answer:
        found: list[dict[str, Any]] = json.load(answer)["pictures"]
    return found


class Reflected:
    """A server that is known by reflection alone."""

    def __init__(self, address: str) -> None:
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self.channel = grpc.insecure_channel(address, options)
        self._ask = reflection_pb2_grpc.ServerReflectionStub(self.channel).ServerReflectionInfo
        [listed] = self._ask_for(list_services="")
        names = {service.name for service in listed.list_services_response.service}
        [self.service] = names - {
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        [found] = self._ask_for(file_containing_symbol=self.service)
        self.pool = descriptor_pool.DescriptorPool()
        for serialized in found.file_descriptor_response.file_descriptor_proto:
            assert descriptor_pb2.FileDescriptorProto.FromString(serialized).package == ""
            self.pool.AddSerializedFile(serialized)

    def _ask_for(self, **what: str) -> list[Any]:
        request = reflection_pb2.ServerReflectionRequest(**what)
        return list(self._ask(iter([request]), timeout=WAIT))

    def method(self, name: str) -> Any:
        """Give a method's description."""
        return self.pool.FindServiceByName(self.service).FindMethodByName(name)

    def request(self, name: str, **values: Any) -> Any:
        """Make the request of a method."""
        return message_factory.GetMessageClass(self.method(name).input_type)(**values)

    def call(self, name: str, request: Any, **options: Any) -> Any:
        """Call a method that gives one message."""
        return self._caller("unary_unary", name)(request, **{"timeout": WAIT} | options)

    def stream(self, name: str, request: Any, **options: Any) -> Any:
        """Call a method that gives many."""
        return self._caller("unary_stream", name)(request, **{"timeout": WAIT} | options)

    def _caller(self, kind: str, name: str) -> Any:
        answer = message_factory.GetMessageClass(self.method(name).output_type)
        path = f"/{self.service}/{name}"
        return getattr(self.channel, kind)(
            path, lambda message: message.SerializeToString(), answer.FromString
        )

    def refusal(self, name: str, request: Any) -> grpc.RpcError:
        """Call a method, and give what it says is wrong: one line."""
        with pytest.raises(grpc.RpcError) as caught:
            self.call(name, request)
        assert len(caught.value.details().splitlines()) == 1
        return caught.value
