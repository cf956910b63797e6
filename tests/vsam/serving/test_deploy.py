"""What `deploy/` says is what the commands do: each entry point is started as it stands there."""

import json
import re
import shutil
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import descriptor_pb2
from grpc_tools import protoc
from servers import WAIT
from stages import PROTO, Reflected, line_of, page_of, stages

import vsam.serving
from vsam.serving.messages import IMAGE_SOURCE, OPEN_POSE, TAG_MY_OUTFIT, VISUALIZATION

DEPLOY = Path(__file__).parents[3] / "deploy"
SERVING = Path(vsam.serving.__file__).parent
STAGES = {
    "source": ("image_source", IMAGE_SOURCE),
    "pose": ("open_pose", OPEN_POSE),
    "tag": ("tag_my_outfit", TAG_MY_OUTFIT),
    "view": ("visualization", VISUALIZATION),
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]


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


def test_every_entry_point_starts_as_the_compose_file_says(
    compose, tiny_data, tiny_run, tmp_path, monkeypatch
):
    photos, scratch, home = (tmp_path / name for name in ("photos", "tmp", "work"))
    for folder in (photos, scratch, home):
        folder.mkdir()
    for file in sorted((tiny_data / "photos").rglob("*.png"))[:4]:
        shutil.copy(file, photos)
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.chdir(home)
    instead = {"/photos": str(photos), "/model": str(tiny_run), "0.0.0.0": "127.0.0.1", "9464": "0"}

    def command(name: str) -> list[str]:
        given = [instead.get(part, part) for part in compose[name]["command"]]
        ports = [] if name == "pipeline" else ["--port", "0"]
        if name in ("view", "pipeline"):
            ports += ["--page-port", "0"]
        return line_of(*given, *ports)

    with stages({name: command(name) for name in compose}) as started:
        for name, (_, interface) in STAGES.items():
            assert Reflected(started[name].address).service == interface.service
        source, tag, view = (Reflected(started[name].address) for name in ("source", "tag", "view"))
        image = source.call("Get", source.request("Get"))
        tags = tag.call("predict", tag.request("predict", image_data=image.data))
        request = view.request("Visualize")
        request.image.data = image.data
        request.prediction.MergeFromString(tags.SerializeToString())
        view.call("Visualize", request)
        [shown] = pictures_on(page_of(started["view"]))
        assert shown["categories"][0]["label"] == tags.categories[0].label
        page = started["pipeline"].address
        until = time.monotonic() + WAIT
        while len(found := pictures_on(page)) < 4:
            assert time.monotonic() < until
            time.sleep(0.05)
        labels = {entry["label"] for each in found for entry in each["categories"]}
        assert tags.categories[0].label in labels
    assert list(home.iterdir()) == []  # photos are not written anywhere
    assert [path for path in scratch.rglob("*") if path.is_file()] == []


def pictures_on(page: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{page}/pictures.json", timeout=WAIT) as answer:
        return json.load(answer)["pictures"]


def test_kubernetes_starts_the_same_commands_with_probes_and_without_rights(compose):
    objects = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    kinds = [each["kind"] for each in objects]
    assert kinds == ["Deployment", "Service"] * len(STAGES) + ["NetworkPolicy"]
    for name in STAGES:
        [deployment] = [o for o in objects if o["metadata"]["name"] == f"vsam-{name}"]
        [service] = [o for o in objects if o["metadata"]["name"] == name]
        pod = deployment["spec"]["template"]
        [container] = pod["spec"]["containers"]
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
