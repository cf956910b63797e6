"""The stages as an orchestrator meets them: linked by stubs, by reflection, and each misused."""

import csv
import io
import json
import random
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hostile import mutated
from image_files import jpeg
from PIL import Image
from servers import WAIT
from stages import (
    COCO_18,
    DEPLOY,
    LIGHT,
    NO_MODEL,
    PROTO,
    Reflected,
    compose_lines,
    page_of,
    pictures_on,
    stages,
)
from tiny import COLOURS

MAESTRO = DEPLOY / "maestro" / "pipeline.yaml"
COUNT = 3


@pytest.fixture(scope="module")
def album(mannequins: Path, tmp_path_factory) -> Path:
    """Give a folder of mannequins, with what is no photo between."""
    folder = tmp_path_factory.mktemp("album")
    for number in range(COUNT):
        shutil.copy(mannequins / "photos" / f"{number:05d}.jpg", folder)
    (folder / "00000-broken.jpg").write_bytes(b"no photo")
    (folder / "00001-cut.jpg").write_bytes((folder / "00001.jpg").read_bytes()[:5000])
    return folder


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    """Give the folder where the stages may write."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def running(album, tiny_run, scratch):
    """Give all stages and the pipeline, each a process that starts as the compose file says."""
    without = {"source": LIGHT, "view": LIGHT, "pose": NO_MODEL}
    with stages(compose_lines(album, tiny_run, scratch, without)) as started:
        yield started


@pytest.fixture(scope="module")
def known(running):
    """Give all stages, known by reflection."""
    return {
        name: Reflected(server.address) for name, server in running.items() if name != "pipeline"
    }


def shown(server) -> list[dict[str, Any]]:
    """Give what the stage's page shows, the newest first."""
    return pictures_on(page_of(server))


def photo_in(page: str, picture: dict[str, Any]) -> np.ndarray:
    with urllib.request.urlopen(f"{page}/pictures/{picture['name']}.jpg", timeout=WAIT) as answer:
        return np.asarray(Image.open(answer).convert("RGB"), float)


def is_of(found: np.ndarray, path: Path) -> bool:
    """Say whether a picture is a small copy of a photo."""
    photo = Image.open(path).convert("RGB").resize(found.shape[1::-1], Image.Resampling.BOX)
    return np.abs(found - np.asarray(photo, float)).mean() < 4


ORCHESTRATOR = """
import json, sys
import grpc
import pipeline_pb2 as messages, pipeline_pb2_grpc as stubs

addresses, count = json.loads(sys.argv[1]), int(sys.argv[2])
channel = {name: grpc.insecure_channel(address) for name, address in addresses.items()}
source = stubs.ImageSourceServiceStub(channel["source"])
tag = stubs.TagMyOutfitServiceStub(channel["tag"])
pose = stubs.OpenPoseEstimatorStub(channel["pose"])
view = stubs.VisualizationServiceStub(channel["view"])

told = {"photos": [], "tags": [], "poses": []}
streamed = [image.data.hex()[-64:] for image in source.GetStream(messages.Empty(), timeout=60)]
for _ in range(count):
    image = source.Get(messages.Empty(), timeout=60)
    tags = tag.predict(messages.PredictRequest(image_data=image.data), timeout=60)
    poses = pose.estimate(image, timeout=60)
    view.Visualize(messages.VisualizationRequest(image=image, prediction=tags), timeout=60)
    told["photos"].append(image.data.hex()[-64:])
    told["tags"].append(
        [[[e.label, e.value] for e in field] for field in (tags.categories, tags.attributes)]
    )
    told["poses"].append(
        [[[k.index, k.x, k.y, k.score] for k in each.key_points] for each in poses.poses]
    )
print(json.dumps(told | {"streamed": streamed}))
"""


def test_an_orchestrator_with_stubs_of_the_description_links_the_stages(
    running, album, mannequins, tmp_path
):
    (tmp_path / "pipeline.proto").write_text(PROTO)
    (tmp_path / "orchestrator.py").write_text(ORCHESTRATOR)
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", "-I."),
            *("--python_out=.", "--grpc_python_out=.", "pipeline.proto"),
        ],
        cwd=tmp_path,
        check=True,
    )
    addresses = json.dumps({name: server.address for name, server in running.items()})
    done = subprocess.run(
        [sys.executable, "orchestrator.py", addresses, str(COUNT + 1)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)

    # By id, what can't be read passed over, and then anew.
    files = [album / f"{number:05d}.jpg" for number in range(COUNT)]
    endings = [file.read_bytes().hex()[-64:] for file in files]
    assert told["photos"] == [*endings, endings[0]]
    assert told["streamed"] == endings
    skipped = [line for line in running["source"].lines if "event=skipped" in line]
    assert len(skipped) == 2  # once each, however often they are met
    assert "photo=00000-broken.jpg" in skipped[0]
    assert "not an image" in skipped[0]
    assert "photo=00001-cut.jpg" in skipped[1]

    assert len({str(tags) for tags in told["tags"]}) > 1
    pictures = shown(running["view"])[: COUNT + 1]
    for picture, file, (categories, attributes) in zip(
        pictures, reversed([*files, files[0]]), reversed(told["tags"]), strict=True
    ):
        assert [[e["label"], e["value"]] for e in picture["categories"]] == categories
        assert [[e["label"], e["value"]] for e in picture["attributes"]] == attributes
        assert is_of(photo_in(page_of(running["view"]), picture), file)

    check_joints(told["poses"][0], mannequins / "joints.csv", files[0])


def check_joints(people: list[list[list[float]]], table: Path, photo: Path) -> None:
    """Compare a mannequin's joints with where they were drawn."""
    width, height = Image.open(photo).size
    with table.open(newline="") as file:
        drawn = {
            row["joint"]: ((float(row["x"]) + 0.5) / width, (float(row["y"]) + 0.5) / height)
            for row in csv.DictReader(file)
            if row["image"] == photo.name
        }
    shoulders = [np.array(drawn[f"{side}_shoulder"]) for side in ("left", "right")]
    drawn["neck"] = tuple(sum(shoulders) / 2)
    [person] = people
    indices = [int(joint[0]) for joint in person]
    assert indices == sorted(set(indices))
    assert set(indices) <= set(range(18))
    assert {COCO_18.index(name) for name in ("nose", "neck", "left_knee", "right_elbow")} <= set(
        indices
    )
    distances = []
    for index, x, y, score in person:
        assert 0 <= x <= 1
        assert 0 <= y <= 1
        assert 0.5 <= score <= 1
        true_x, true_y = drawn[COCO_18[int(index)]]
        distances.append(np.hypot((x - true_x) * width / height, y - true_y))
    assert len(distances) > 12
    # In heights of the photo. Left and right shoulder are 0.17 apart, one elbow and wrist 0.12.
    assert np.median(distances) < 0.02
    assert max(distances) < 0.06


def compatible(a: Any, b: Any) -> bool:
    """Say whether a message can be taken for another: fields of one number are of one kind."""
    for field in a.fields:
        other = b.fields_by_number.get(field.number)
        if other is None:
            continue
        if field.is_repeated != other.is_repeated or field.type != other.type:
            return False
        if field.message_type and not compatible(field.message_type, other.message_type):
            return False
    return True


def test_an_orchestrator_links_the_stages_by_reflection_as_the_pipeline_description_says(
    running, known, album
):
    described = list(yaml.safe_load_all(MAESTRO.read_text()))
    specs = {
        kind: {each["spec"]["name"]: each["spec"] for each in described if each["kind"] == kind}
        for kind in ("pipeline", "stage", "link")
    }
    assert sum(map(len, specs.values())) == len(described)
    [pipeline] = specs["pipeline"]
    for spec in (*specs["stage"].values(), *specs["link"].values()):
        assert spec["pipeline"] == pipeline
    for name, spec in specs["stage"].items():
        assert spec["address"] == f"{name}:8061"
        assert known[name].service == spec["service"]
        method = known[name].method(spec["method"])
        assert not method.server_streaming
        assert not method.client_streaming

    def field_of(message: Any, name: str | None) -> Any:
        return message.fields_by_name[name].message_type if name else message

    def described_by(name: str) -> Any:
        return known[name].method(specs["stage"][name]["method"])

    for link in specs["link"].values():
        source = described_by(link["source_stage"]).output_type
        target = described_by(link["target_stage"]).input_type
        assert compatible(source, field_of(target, link.get("target_field")))
    assert not compatible(described_by("tag").output_type, described_by("tag").input_type)

    before = len(shown(running["view"]))
    given = []
    for _ in range(COUNT):
        answers: dict[str, Any] = {}
        for name in ("source", "tag", "view"):
            method = specs["stage"][name]["method"]
            request = known[name].request(method)
            for link in specs["link"].values():
                if link["target_stage"] == name:
                    field = link.get("target_field")
                    part = getattr(request, field) if field else request
                    part.MergeFromString(answers[link["source_stage"]].SerializeToString())
            answers[name] = known[name].call(method, request)
        given.append((answers["source"].data, answers["tag"].categories[0].label))
    assert {data for data, _ in given} == {
        (album / f"{number:05d}.jpg").read_bytes() for number in range(COUNT)
    }
    pictures = shown(running["view"])
    assert len(pictures) == before + COUNT
    assert [picture["categories"][0]["label"] for picture in pictures[:COUNT]] == [
        label for _, label in reversed(given)
    ]


def test_health_and_reflection_are_those_of_every_server(running, known):
    for name in known:
        server = running[name]
        stub = health_pb2_grpc.HealthStub(known[name].channel)
        for asked in ("", known[name].service):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=asked), timeout=WAIT)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        asking = [sys.executable, "-m", "vsam.serving.health", server.address]
        assert subprocess.run(asking, timeout=WAIT).returncode == 0
    asking = [sys.executable, "-m", "vsam.serving.health", "127.0.0.1:1"]
    assert subprocess.run(asking, timeout=WAIT).returncode == 1


def bad_photos(good: bytes) -> dict[str, tuple[bytes, str]]:
    return {
        "empty": (b"", "the file is empty"),
        "truncated": (good[: len(good) // 2], "truncated"),
        "text": (b"no photo at all", "not an image"),
        "bomb": (jpeg(60_000, 60_000)[:10_000], "60000 x 60000 pixels"),
        "too large": (good + bytes(20 << 20), "more than the limit of 20971520"),
    }


@pytest.mark.parametrize(
    ("name", "method", "field"), [("pose", "estimate", "data"), ("view", "Visualize", "image.data")]
)
def test_a_bad_photo_gets_one_line_and_the_stage_lives_on(
    running, known, album, name, method, field
):
    good, stage_ = (album / "00000.jpg").read_bytes(), known[name]

    def request(data: bytes) -> Any:
        inner: dict[str, Any] = {"data": data}
        return stage_.request(method, **(inner if field == "data" else {"image": inner}))

    before = len(shown(running["view"])) if name == "view" else 0
    for what, (data, told) in bad_photos(good).items():
        error = stage_.refusal(method, request(data))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, what
        assert error.details().startswith(f"Expected {field} to be a photo, but "), what
        assert told in error.details(), what
    raw = stage_.channel.stream_unary(f"/{stage_.service}/{method}")
    for sent, told in (([], "Expected one "), ([b"\xff\xff"], "can't be parsed")):
        with pytest.raises(grpc.RpcError) as caught:
            raw(iter(sent), timeout=WAIT)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert told in caught.value.details()
    huge = stage_.refusal(method, request(bytes(30 << 20)))
    assert huge.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    if name == "view":
        assert len(shown(running["view"])) == before
    stage_.call(method, request(good))


def test_a_photo_without_people_has_no_poses_and_one_with_two_has_both(known, album, tmp_path):
    blank, two = tmp_path / "blank.png", tmp_path / "two.png"
    Image.new("RGB", (300, 200), (90, 120, 60)).save(blank)
    photo = Image.open(album / "00000.jpg")
    both = Image.new("RGB", (2 * photo.width, photo.height))
    both.paste(photo, (0, 0))
    both.paste(photo, (photo.width, 0))
    both.save(two)
    pose = known["pose"]
    found = [
        pose.call("estimate", pose.request("estimate", data=path.read_bytes())).poses
        for path in (blank, two)
    ]
    assert [len(poses) for poses in found] == [0, 2]
    noses = sorted(person.key_points[0].x for person in found[1])
    assert noses[0] < 0.5 < noses[1]
    assert noses[1] - noses[0] == pytest.approx(0.5, abs=0.03)


def test_odd_requests_to_the_source_and_the_view_are_refused(known, album):
    source, view = known["source"], known["view"]
    for method, kind in (("Get", "unary_unary"), ("GetStream", "unary_stream")):
        call = getattr(source.channel, kind)(f"/{source.service}/{method}")
        with pytest.raises(grpc.RpcError) as caught:
            list(call(b"\xff\xff", timeout=WAIT))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "to be a Empty, but it can't be parsed" in caught.value.details()
    image = {"data": (album / "00000.jpg").read_bytes()}
    for value in (float("nan"), float("inf")):
        odd = {"categories": [{"label": "tee\nshirt", "value": value}]}
        error = view.refusal("Visualize", view.request("Visualize", image=image, prediction=odd))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "to be finite" in error.details()
    view.call("Visualize", view.request("Visualize", image=image))  # without tags it is a picture


def test_the_pipeline_shows_what_the_stages_do_round_after_round(running, known, album):
    tag, page = known["tag"], running["pipeline"].address
    until = time.monotonic() + WAIT
    while len(found := pictures_on(page)) <= COUNT:
        assert time.monotonic() < until
        time.sleep(0.05)
    for number in range(COUNT):
        file = album / f"{number:05d}.jpg"
        [picture, *_] = [each for each in found if is_of(photo_in(page, each), file)]
        asked = tag.request("predict", image_data=file.read_bytes())
        tags = tag.call("predict", asked)
        assert picture["categories"][0]["label"] == tags.categories[0].label
        assert {entry["label"] for entry in picture["attributes"]} == {
            entry.label for entry in tags.attributes
        }
        assert len(picture["categories"]) == len(COLOURS)


def test_photos_are_written_nowhere(running, scratch, known, album):
    view = known["view"]
    image = {"data": (album / "00000.jpg").read_bytes()}
    view.call("Visualize", view.request("Visualize", image=image))
    for name in ("tmp", "work"):
        assert [path for path in (scratch / name).rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(("name", "method"), [("pose", "estimate"), ("view", "Visualize")])
def test_no_message_ends_or_stalls_a_stage(known, album, name, method):
    small = io.BytesIO()
    Image.open(album / "00000.jpg").resize((60, 80)).save(small, "JPEG")
    image = {"data": small.getvalue()}
    stage_ = known[name]
    request = stage_.request(method, **(image if name == "pose" else {"image": image}))
    data = request.SerializeToString()
    rng, codes, said = random.Random(0), set(), []
    raw = stage_.channel.unary_unary(f"/{stage_.service}/{method}")
    for _ in range(60):
        try:
            raw(mutated(data, rng), timeout=WAIT)
            codes.add("OK")
        except grpc.RpcError as error:
            codes.add(error.code().name)
            said.append(error.details())
    assert all(len(line.splitlines()) == 1 for line in said)
    assert codes == {"OK", "INVALID_ARGUMENT"}
    stage_.call(method, request)
