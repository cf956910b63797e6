"""The files of `deploy/` against each other and the interfaces.

`test_stages.py` runs what they say.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import descriptor_pb2
from grpc_tools import protoc
from stages import DEPLOY, PROTO, compose_services

import vsam.serving
from vsam.serving.messages import IMAGE_SOURCE, OPEN_POSE, TAG_MY_OUTFIT, VISUALIZATION
from vsam_heatmaps import __version__

SERVING = Path(vsam.serving.__file__).parent
STAGES = {
    "source": ("image_source", IMAGE_SOURCE),
    "pose": ("open_pose", OPEN_POSE),
    "tag": ("tag_my_outfit", TAG_MY_OUTFIT),
    "view": ("visualization", VISUALIZATION),
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return compose_services()


def targets() -> dict[str, list[str]]:
    """Read the Dockerfile: each stage's instructions, those of the stages it is from before."""
    text = (DEPLOY / "Dockerfile").read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    found: dict[str, list[str]] = {}
    name = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        if begins := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            name = begins[2]
            found[name] = [*found.get(begins[1], [f"BASE {begins[1]}"])]
        else:
            found[name].append(line)
    return found


def last(instructions: list[str], kind: str) -> str:
    return [line for line in instructions if line.startswith(f"{kind} ")][-1][len(kind) + 1 :]


def test_each_image_is_pinned_runs_as_nobody_special_and_says_its_health(compose):
    found = targets()
    assert {service["build"]["target"] for service in compose.values()} == STAGES.keys()
    for name in STAGES:
        instructions = found[name]
        base = re.fullmatch(r"BASE python:(\d+\.\d+\.\d+)-slim-\w+", instructions[0])
        assert base, instructions[0]
        assert last(instructions, "USER") == "10001:10001"
        assert "python" in last(instructions, "HEALTHCHECK")
        assert "vsam.serving.health" in last(instructions, "HEALTHCHECK")
        assert "EXPOSE 8061" in instructions
        assert ("EXPOSE 8062" in instructions) == (name == "view")
        assert json.loads(last(instructions, "ENTRYPOINT")) == ["vsam"]
        command = json.loads(last(instructions, "CMD"))
        assert compose[name]["command"][: len(command)] == command
    text = (DEPLOY / "Dockerfile").read_text()
    assert not re.search(r"secret|password|token|^ADD ", text, re.IGNORECASE | re.MULTILINE)


def test_what_the_dockerfile_copies_is_there_and_is_not_ignored():
    [*ignored] = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    copied = [
        source
        for line in targets()["sources"]
        if line.startswith("COPY ")
        for source in line.split()[1:-1]
    ]
    assert len(copied) == 8
    for source in copied:
        assert (DEPLOY.parent / source).exists()
        assert f"!{source}" in ignored
    assert ignored[0] == "*"


def test_each_container_is_closed_and_reads_what_is_mounted(compose):
    for service in compose.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "privileged" not in service
        assert all(volume.endswith(":ro") for volume in service.get("volumes", ()))
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    published = [port for name in STAGES for port in compose[name]["ports"]]
    assert len({port.rsplit(":", 1)[0] for port in published}) == len(published)


def test_kubernetes_starts_the_same_commands_with_probes_and_without_rights(compose):
    objects = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    kinds = [each["kind"] for each in objects]
    assert kinds == ["Deployment", "Service"] * len(STAGES) + ["NetworkPolicy"]
    for name in STAGES:
        [deployment] = [o for o in objects if o["metadata"]["name"] == f"vsam-{name}"]
        [service] = [o for o in objects if o["metadata"]["name"] == name]
        pod = deployment["spec"]["template"]
        [container] = pod["spec"]["containers"]
        assert container["image"] == f"{compose[name]['image']}:{__version__}"
        assert container["args"] == compose[name]["command"]
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        assert service["spec"]["ports"][0]["port"] == 8061
        named = {port["name"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= named
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["grpc"] == {"port": 8061}
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"]["cpu"]
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["terminationGracePeriodSeconds"] > 35
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounted == {"/tmp"} | {
            volume.split(":")[-2] for volume in compose[name].get("volumes", ())
        }


def test_each_stage_is_described_as_platforms_ask(compose):
    described = yaml.safe_load((DEPLOY / "acumos" / "services.yaml").read_text())
    assert described.keys() == STAGES.keys()
    licence = json.loads((DEPLOY / "acumos" / "license.json").read_text())
    assert licence["keyword"] == "Apache-2.0"
    for name, (proto, interface) in STAGES.items():
        stage = described[name]
        assert stage["image"] == compose[name]["image"]
        model = DEPLOY / "acumos" / stage["proto"]
        assert model.read_text() == (SERVING / f"{proto}.proto").read_text(), "make protos"
        assert "import" not in model.read_text()  # which such platforms can't follow
        assert (stage["port"], stage["service"]) == (8061, interface.service)
        assert stage["methods"] == {
            method.name: {
                "takes": "stream " * method.client_streaming + method.input_type.name,
                "gives": "stream " * method.server_streaming + method.output_type.name,
            }
            for method in interface.methods
        }


def compiled(folder: Path, name: str, out: Path) -> descriptor_pb2.FileDescriptorProto:
    assert protoc.main(["", f"-I{folder}", f"--descriptor_set_out={out}", f"{name}.proto"]) == 0
    [file] = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    return file


def test_the_stages_interfaces_are_the_published_ones_and_compiled(tmp_path):
    (tmp_path / "published.proto").write_text(PROTO)
    published = compiled(tmp_path, "published", tmp_path / "out")
    messages = {message.name: message for message in published.message_type}
    services = {service.name: service for service in published.service}
    seen = set()
    for proto, interface in STAGES.values():
        [committed] = descriptor_pb2.FileDescriptorSet.FromString(
            (SERVING / f"{proto}.binpb").read_bytes()
        ).file
        assert committed == compiled(SERVING, proto, tmp_path / "ours"), "make protos"
        assert committed.package == ""
        for message in committed.message_type:
            if interface is not TAG_MY_OUTFIT or message.name in messages:
                assert message == messages[message.name]
                seen.add(message.name)
        if interface is not TAG_MY_OUTFIT:
            [service] = committed.service
            assert service == services[interface.service]
    assert seen == messages.keys()
