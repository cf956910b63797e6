"""`vsam serve` as a stranger meets it: own stubs, reflection, health, bad input."""

import concurrent.futures
import json
import re
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
import torch
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from image_files import jpeg
from message_fuzzer import ALLOWED, send
from PIL import Image
from servers import WAIT
from tiny import call

from vsam.run_folder import load_checkpoint
from vsam.serving import client
from vsam.serving.client import TagClient
from vsam_heatmaps.errors import UnreadablePhotoError

SERVICE = "TagMyOutfitService"
SAME = 1e-5  # batches of another size add up in another order; scores have six decimals


@pytest.fixture
def channel(server):
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.address, options) as opened:
        yield opened


def by_hand(run: Path, photo: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Apply the model to a photo without the predictor: categories and attributes."""
    checkpoint = load_checkpoint(run)
    with torch.inference_mode():
        output = checkpoint.model(checkpoint.preprocessing(np.array(Image.open(photo)))[None])
    labels = checkpoint.labels
    categories = output.category_logits[0].softmax(0).tolist()
    attributes = output.attribute_logits[0].sigmoid().tolist()
    return (
        dict(zip(labels.categories, categories, strict=True)),
        dict(zip(labels.attributes, attributes, strict=True)),
    )


def scores(field) -> dict[str, float]:
    found = {entry.label: entry.value for entry in field}
    assert len(found) == len(field)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    return found


def check(answer, expected, *, all_categories: bool, all_attributes: bool) -> None:
    """Compare an answer with what the model says, by the description's rules."""
    categories, attributes = expected
    if not all_categories:
        best = max(categories, key=categories.get)
        categories = {best: categories[best]}
    if not all_attributes:
        attributes = {name: score for name, score in attributes.items() if score > 0.5}
    assert scores(answer.categories) == pytest.approx(categories, abs=SAME)
    assert scores(answer.attributes) == pytest.approx(attributes, abs=SAME)


@pytest.mark.parametrize("all_categories", [False, True])
@pytest.mark.parametrize("all_attributes", [False, True])
def test_a_client_of_the_published_service_gets_what_the_model_says(
    channel, stubs, tiny_run, photos, all_categories, all_attributes
):
    messages, grpc_stubs = stubs
    stub = grpc_stubs.TagMyOutfitServiceStub(channel)
    asked = {"all_categories": all_categories, "all_attributes": all_attributes}
    requests = [
        messages.PredictRequest(image_data=photo.read_bytes(), **asked) for photo in photos[:6]
    ]
    expected = [by_hand(tiny_run, photo) for photo in photos[:6]]
    for request, says in zip(requests, expected, strict=True):
        check(stub.predict(request, timeout=WAIT), says, **asked)
    streamed = stub.stream_predict(iter(requests), timeout=WAIT).predictions
    for prediction, says in zip(streamed, expected, strict=True):
        check(prediction, says, **asked)


def test_sixty_four_clients_at_once_get_each_its_own_answer(server, tiny_run, tmp_path):
    rng = np.random.default_rng(1)
    files = [tmp_path / f"{number}.png" for number in range(64)]
    for file in files:
        tone = rng.integers(0, 256, 3)
        noise = rng.integers(-40, 40, (40, 30, 3))
        Image.fromarray(np.clip(tone + noise, 0, 255).astype(np.uint8)).save(file)

    def ask(file: Path) -> client.Tags:
        with TagClient(server.address, timeout=WAIT) as own:
            return own.predict(file, all_categories=True, all_attributes=True)

    before = server.metrics()
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(ask, files))
    distinct = set()
    for file, answer in zip(files, answers, strict=True):
        for field, says in zip(
            (answer.categories, answer.attributes), by_hand(tiny_run, file), strict=True
        ):
            assert dict(field) == pytest.approx(says, abs=SAME)
        distinct.add(answer.categories)
    assert len(distinct) == 64  # else a mix-up would go unseen
    after = server.metrics()
    batches = after["vsam_batch_photos_count"] - before.get("vsam_batch_photos_count", 0)
    assert after["vsam_batch_photos_sum"] - before.get("vsam_batch_photos_sum", 0) == 64
    assert batches < 64


def bad_photos(good: bytes) -> dict[str, tuple[bytes, str]]:
    return {
        "empty": (b"", "the file is empty"),
        "truncated": (good[: len(good) // 2], "truncated"),
        "text": (b"no photo at all", "not an image"),
        "bomb": (jpeg(60_000, 60_000)[:10_000], "60000 x 60000 pixels"),
        "too large": (good + bytes(20 << 20), "more than the limit of 20971520"),
    }


def test_bad_photos_get_one_line_and_their_neighbours_are_unharmed(channel, stubs, photos):
    messages, grpc_stubs = stubs
    stub = grpc_stubs.TagMyOutfitServiceStub(channel)
    good = photos[0].read_bytes()
    usual = stub.predict(messages.PredictRequest(image_data=good), timeout=WAIT)
    bad = bad_photos(good)
    sent = [
        (name, stub.predict.future(messages.PredictRequest(image_data=data), timeout=WAIT))
        for name, (data, _) in [*bad.items()] * 2
    ]
    others = [
        stub.predict.future(messages.PredictRequest(image_data=good), timeout=WAIT)
        for _ in range(10)
    ]
    for name, answer in sent:
        assert answer.code() is grpc.StatusCode.INVALID_ARGUMENT, name
        assert bad[name][1] in answer.details()
        assert answer.details().startswith("Expected image_data to be a photo, but ")
        assert len(answer.details().splitlines()) == 1
    for answer in others:
        assert answer.result().categories[0].label == usual.categories[0].label
        assert answer.result().categories[0].value == pytest.approx(
            usual.categories[0].value, abs=SAME
        )


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ([], "Expected one PredictRequest, but none came."),
        ([b""], "the file is empty"),
        ([b"\xff\xff\xff"], "can't be parsed"),
        ([b"\x0a\x05abc"], "can't be parsed"),
    ],
)
def test_what_is_no_request_is_refused(channel, sent, told):
    raw = channel.stream_unary(f"/{SERVICE}/predict")  # the same on the wire, and can send nothing
    with pytest.raises(grpc.RpcError) as caught:
        raw(iter(sent), timeout=WAIT)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert told in caught.value.details()


def test_a_message_far_over_the_limit_is_not_received(channel, stubs):
    messages, grpc_stubs = stubs
    stub = grpc_stubs.TagMyOutfitServiceStub(channel)
    with pytest.raises(grpc.RpcError) as caught:
        stub.predict(messages.PredictRequest(image_data=bytes(30 << 20)), timeout=WAIT)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    packed = {"compression": grpc.Compression.Gzip, "timeout": WAIT}
    with pytest.raises(grpc.RpcError) as caught:
        stub.predict(messages.PredictRequest(image_data=bytes(100 << 20)), **packed)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_stream_names_its_bad_photo_and_an_empty_one_is_answered(channel, stubs, photos):
    messages, grpc_stubs = stubs
    stub = grpc_stubs.TagMyOutfitServiceStub(channel)
    assert len(stub.stream_predict(iter([]), timeout=WAIT).predictions) == 0
    data = [photo.read_bytes() for photo in photos[:5]]
    data[3] = b"no photo"
    with pytest.raises(grpc.RpcError) as caught:
        stub.stream_predict(
            (messages.PredictRequest(image_data=photo) for photo in data), timeout=WAIT
        )
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().startswith("Photo 3 of the stream, from 0: ")


def test_reflection_is_enough_to_call(channel, photos, tiny_run):
    ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
    Request = reflection_pb2.ServerReflectionRequest
    [listed] = ask(iter([Request(list_services="")]), timeout=WAIT)
    names = {service.name for service in listed.list_services_response.service}
    assert names == {
        SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    for name in names:  # each can be described
        [found] = ask(iter([Request(file_containing_symbol=name)]), timeout=WAIT)
        assert found.file_descriptor_response.file_descriptor_proto, name
    [found] = ask(iter([Request(file_containing_symbol=SERVICE)]), timeout=WAIT)
    pool = descriptor_pool.DescriptorPool()
    for serialized in found.file_descriptor_response.file_descriptor_proto:
        assert descriptor_pb2.FileDescriptorProto.FromString(serialized).package == ""
        pool.AddSerializedFile(serialized)
    service = pool.FindServiceByName(SERVICE)
    assert [
        (method.name, method.client_streaming, method.server_streaming)
        for method in service.methods
    ] == [("predict", False, False), ("stream_predict", True, False)]
    method = service.FindMethodByName("predict")
    request = message_factory.GetMessageClass(method.input_type)
    answer = message_factory.GetMessageClass(method.output_type)
    predict = channel.unary_unary(
        f"/{SERVICE}/predict", request.SerializeToString, answer.FromString
    )
    check(
        predict(request(image_data=photos[0].read_bytes()), timeout=WAIT),
        by_hand(tiny_run, photos[0]),
        all_categories=False,
        all_attributes=False,
    )


def test_health_says_serving(channel, server):
    stub = health_pb2_grpc.HealthStub(channel)
    for name in ("", SERVICE):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=WAIT)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="other"), timeout=WAIT)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    with TagClient(server.address) as asking:
        assert asking.is_ready()
    with TagClient("127.0.0.1:1", timeout=WAIT) as asking:
        assert not asking.is_ready()


def test_no_message_ends_or_stalls_the_server(server, photos):
    codes = send(server.address, seed=0, count=300, seconds=WAIT)
    assert codes.total() == 300
    assert set(codes) == ALLOWED, codes  # both: mutations that are all refused early test little
    assert min(codes.values()) > 30
    with TagClient(server.address, timeout=WAIT) as asking:
        assert asking.predict(photos[0]).category
    server.wait_until("vsam_places_taken", 0)


def test_metrics_count_and_the_log_is_silent_about_calls(server, photos):
    def total(code: str) -> float:
        return server.metrics().get(f'vsam_requests_total{{code="{code}",method="predict"}}', 0)

    before = total("OK"), total("INVALID_ARGUMENT")
    with TagClient(server.address, timeout=WAIT) as asking:
        asking.predict(photos[0])
        with pytest.raises(client.TagError, match="not an image") as caught:
            asking.predict(b"no photo")
        assert caught.value.code == "INVALID_ARGUMENT"
    assert (total("OK"), total("INVALID_ARGUMENT")) == (before[0] + 1, before[1] + 1)
    metrics = server.metrics()
    assert metrics['vsam_request_seconds_count{method="predict"}'] >= 2
    assert metrics["vsam_queue_photos"] == 0
    assert not [line for line in server.lines if "event=call" in line]


@pytest.mark.parametrize("options", [[], ["--all-scores"]])
def test_the_tag_command_prints_what_vsam_predict_does_without_torch(
    server, tiny_run, tmp_path, photos, options, monkeypatch
):
    album = tmp_path / "album"
    album.mkdir()
    for number, photo in enumerate(photos[:5]):
        (album / f"ü {number}.png").write_bytes(photo.read_bytes())
    (album / "broken.jpg").write_bytes(b"no photo")
    tagged = subprocess.run(
        [
            *(sys.executable, "-c", WITHOUT_TORCH, "tag"),
            *(album, "--server", server.address, *options),
        ],
        capture_output=True,
        text=True,
        timeout=WAIT,
    )
    assert tagged.returncode == 3, tagged.stderr
    assert "unreadable: 'broken.jpg'" in tagged.stderr
    predicted = tmp_path / "predicted.jsonl"
    arguments = [album, "--model", tiny_run, "--out", predicted, "--device", "cpu", *options]
    assert call("vsam-predict", arguments, monkeypatch) == 3
    ours, theirs = (
        [json.loads(line) for line in text.splitlines()]
        for text in (tagged.stdout, predicted.read_text())
    )
    assert [entry["image"] for entry in ours] == [entry["image"] for entry in theirs]
    assert len(ours) == 6
    for a, b in zip(ours, theirs, strict=True):
        assert list(a) == list(b)
        if "error" in a:
            assert a["error"] == b["error"]
            continue
        assert a["category"] == b["category"]
        for field in ("categories", "attributes"):
            assert {s["label"]: s["score"] for s in a[field]} == pytest.approx(
                {s["label"]: s["score"] for s in b[field]}, abs=SAME
            )


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["torchvision"] = None
sys.argv[0] = "vsam"
from vsam_cli.main import run
run()
"""


def test_the_client_streams_and_says_what_is_wrong_with_a_file(server, photos, tmp_path):
    with TagClient(server.address, timeout=WAIT) as asking:
        single = [asking.predict(photo) for photo in photos]
        streamed = asking.stream(photos)
        assert [tags.category for tags in streamed] == [tags.category for tags in single]
        assert len(streamed) == 24
        assert asking.predict(str(photos[0])) == asking.predict(photos[0].read_bytes())
        none = tmp_path / "none.png"
        told = f"^Could not read {re.escape(str(none))}: No such file or directory\\.$"
        with pytest.raises(UnreadablePhotoError, match=told):
            asking.predict(none)
        with pytest.raises(UnreadablePhotoError, match=told):
            asking.stream([photos[0], none])
        assert asking.predict(photos[0]) == single[0]  # it goes on


@pytest.mark.parametrize("timeout", [1e10, float("inf"), None])
def test_a_time_without_end_is_no_deadline(server, photos, timeout):
    with TagClient(server.address, timeout=timeout) as asking:
        assert asking.predict(photos[0]).category
        assert len(asking.stream(photos[:2])) == 2
        assert asking.is_ready()


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_no_time_at_all_is_refused(timeout):
    with pytest.raises(client.VsamError, match=r"^Expected `timeout` to be positive, but got"):
        TagClient("localhost:8061", timeout=timeout)


def test_a_server_that_is_not_there_is_told_in_one_line():
    with (
        TagClient("127.0.0.1:1", timeout=WAIT) as asking,
        pytest.raises(client.TagError, match=r"127\.0\.0\.1:1 .*\(UNAVAILABLE\)") as caught,
    ):
        asking.predict(b"photo")
    assert len(str(caught.value).splitlines()) == 1


PROXY = "http://127.0.0.1:9"  # nobody listens there


@pytest.fixture
def proxy(monkeypatch):
    """Set a proxy that all servers are asked through, as far as it is heeded."""
    for name in ("grpc_proxy", "https_proxy", "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", PROXY)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_on_this_machine_is_asked_without_the_proxy(server, photos, proxy, host):
    address = f"{host}:{server.address.rpartition(':')[2]}"
    with TagClient(address, timeout=WAIT) as asking:
        assert asking.predict(photos[0]).category
    command = [sys.executable, "-m", "vsam.serving.health", address]
    assert subprocess.run(command, timeout=WAIT).returncode == 0


def test_a_proxy_that_does_not_lead_to_the_server_is_named(proxy):
    with (
        TagClient("server.invalid:8061", timeout=WAIT) as asking,
        pytest.raises(client.TagError, match="http_proxy names a proxy; no_proxy can") as caught,
    ):
        asking.predict(b"photo")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "address",
    [
        *("", "localhost", ":8061", "localhost:", "localhost:x", "localhost:0", "localhost:65536"),
        *("http://localhost:8061", "::1:8061", "[::1]", "local host:8061", "localhost:8061/"),
    ],
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(client.VsamError, match=r"^Expected `address` to be HOST:PORT") as caught:
        TagClient(address)
    assert repr(address) in str(caught.value)


def test_a_server_is_asked_by_any_kind_of_address():
    for address in ("tags.example:443", "[::1]:8061", "10.0.0.1:1", "unix:/run/tags.sock"):
        TagClient(address).close()
