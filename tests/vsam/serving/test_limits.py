"""What a server does when there is too much: overload, deadlines, streams, and its own end.

The model waits while a file is there, so nothing depends on how fast anything is.
"""

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from servers import WAIT, Server, colour, name, photo, steered

PLACES = 8
OPTIONS = {"max_batch": 4, "max_queue": PLACES, "workers": 2, "max_stream": 50}
TAKEN = "vsam_places_taken"


@pytest.fixture
def gate(tmp_path) -> Path:
    """Give the file that stops the model; it is not there."""
    return tmp_path / "gate"


@pytest.fixture
def server(gate) -> Iterator[Server]:
    with steered(gate, **OPTIONS) as started:
        yield started


class Client:
    """The stub of a stranger, on a connection."""

    def __init__(self, address: str, stubs) -> None:
        self.messages, grpc_stubs = stubs
        self.channel = grpc.insecure_channel(address)
        self.stub = grpc_stubs.TagMyOutfitServiceStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)

    def ask(self, number: int, *, side: int = 8, **options):
        """Send a photo of a colour, and give the call."""
        request = self.messages.PredictRequest(image_data=photo(colour(number), side))
        return self.stub.predict.future(request, **{"timeout": WAIT} | options)

    def requests(self, count: int):
        for number in range(count):
            yield self.messages.PredictRequest(image_data=photo(colour(number)))

    def state(self) -> int:
        return self.health.Check(health_pb2.HealthCheckRequest(), timeout=WAIT).status


@pytest.fixture
def client(server, stubs):
    opened = Client(server.address, stubs)
    yield opened
    opened.channel.close()


def check(call, number: int) -> None:
    assert [entry.label for entry in call.result().categories] == [name(colour(number))]


def refused(call) -> str:
    assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return call.details()


def test_too_many_are_refused_at_once_the_others_answered_and_then_it_recovers(
    server, client, gate
):
    gate.touch()
    accepted = [client.ask(number) for number in range(PLACES)]
    server.wait_until(TAKEN, PLACES)
    for _ in range(3 * PLACES):
        assert "Try again later" in refused(client.ask(99))  # while the model stands still
    assert client.state() == health_pb2.HealthCheckResponse.SERVING
    assert not any(call.done() for call in accepted)
    gate.unlink()
    for number, call in enumerate(accepted):
        check(call, number)
    server.wait_until(TAKEN, 0)
    check(client.ask(7), 7)
    assert server.metrics()["vsam_batch_photos_sum"] == PLACES + 1


@pytest.mark.parametrize("how", ["cancel", "deadline", "connection"])
def test_who_gives_up_frees_the_place(server, client, gate, stubs, how):
    gate.touch()
    busy = client.ask(0)
    server.wait_until("vsam_batch_photos_count", 1)  # in the model
    other = Client(server.address, stubs)
    timeout = 0.5 if how == "deadline" else WAIT
    gone = [other.ask(number, timeout=timeout) for number in range(1, PLACES)]
    if how == "deadline":
        assert {call.code() for call in gone} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    else:
        server.wait_until(TAKEN, PLACES)
    if how == "cancel":
        for call in gone:
            call.cancel()
    elif how == "connection":
        other.channel.close()
    server.wait_until(TAKEN, 1)
    server.wait_until("vsam_queue_photos", 0)
    later = [client.ask(number) for number in range(20, 19 + PLACES)]
    server.wait_until(TAKEN, PLACES)
    gate.unlink()
    check(busy, 0)
    for number, call in enumerate(later, 20):
        check(call, number)
    server.wait_until(TAKEN, 0)
    # The model never saw the photos of those who had gone.
    assert server.metrics()["vsam_batch_photos_sum"] == PLACES
    other.channel.close()


def test_a_call_that_sends_nothing_is_ended(gate, stubs):
    with steered(gate, **OPTIONS, idle_seconds=0.2) as server:
        client = Client(server.address, stubs)
        stuck = threading.Event()

        def silence():
            stuck.wait(WAIT)
            yield from ()

        for path in ("predict", "stream_predict"):
            call = client.channel.stream_unary(f"/TagMyOutfitService/{path}").future(
                silence(), timeout=WAIT
            )
            assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert call.details() == "No whole request came for 0.2 seconds."
        server.wait_until(TAKEN, 0)
        stuck.set()
        client.channel.close()


def test_a_failing_model_is_told_without_its_words_and_the_server_goes_on(server, client):
    request = client.messages.PredictRequest(image_data=photo((255, 0, 255)))
    call = client.stub.predict.future(request, timeout=WAIT)
    assert call.code() is grpc.StatusCode.INTERNAL
    assert call.details() == "The server failed; its log tells why."
    server.wait_for("the model fails on magenta")
    check(client.ask(3), 3)


def test_a_stream_is_answered_in_order_and_no_further_than_its_limit(server, client):
    count = OPTIONS["max_stream"]
    answer = client.stub.stream_predict(client.requests(count), timeout=WAIT)
    assert [p.categories[0].label for p in answer.predictions] == [
        name(colour(number)) for number in range(count)
    ]
    batches = server.metrics()
    assert batches["vsam_batch_photos_sum"] == count
    with pytest.raises(grpc.RpcError) as caught:
        client.stub.stream_predict(client.requests(count + 1), timeout=WAIT)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert f"at most {count} photos" in caught.value.details()
    server.wait_until(TAKEN, 0)


def test_a_bad_photo_is_told_before_the_next_one_comes(server, client):
    more = threading.Event()

    def requests():
        yield from client.requests(2)
        yield client.messages.PredictRequest(image_data=b"no photo")
        more.wait(WAIT)

    call = client.stub.stream_predict.future(requests(), timeout=15)
    assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert call.details().startswith("Photo 2 of the stream, from 0: ")
    server.wait_until(TAKEN, 0)
    more.set()


def test_a_stream_is_read_no_faster_than_it_is_answered(server, client, gate):
    """The photos are large beside what the connection buffers, so the sender feels it."""
    data = photo(colour(5)) + bytes(4 << 20)  # what follows a PNG is ignored
    sent, count = [], OPTIONS["max_stream"]

    def requests():
        for number in range(count):
            sent.append(number)
            yield client.messages.PredictRequest(image_data=data)

    gate.touch()
    call = client.stub.stream_predict.future(requests(), timeout=WAIT)
    # One place of its own, and spare ones while less than half of all are taken.
    server.wait_until(TAKEN, PLACES // 2)
    until = time.monotonic() + 1
    while time.monotonic() < until:
        assert server.metrics()[TAKEN] <= PLACES // 2
    assert len(sent) < count
    others = [client.ask(number) for number in range(PLACES // 2)]  # room is left for them
    server.wait_until(TAKEN, PLACES)
    gate.unlink()
    for number, other in enumerate(others):
        check(other, number)
    assert len(call.result().predictions) == count
    server.wait_until(TAKEN, 0)


def test_a_cancelled_stream_leaves_nothing_behind(server, client, gate):
    gate.touch()
    forever = threading.Event()

    def requests():
        yield from client.requests(3)
        forever.wait(WAIT)

    call = client.stub.stream_predict.future(requests(), timeout=WAIT)
    server.wait_until(TAKEN, 3)
    call.cancel()
    server.wait_until(TAKEN, 0)
    forever.set()
    gate.unlink()
    check(client.ask(5), 5)


def test_open_streams_leave_room_for_others(server, client):
    forever = threading.Event()

    def requests():
        yield from client.requests(1)
        forever.wait(WAIT)

    streams = [
        client.stub.stream_predict.future(requests(), timeout=WAIT) for _ in range(PLACES // 4)
    ]
    server.wait_until(TAKEN, PLACES // 4)
    refused(client.stub.stream_predict.future(client.requests(1), timeout=WAIT))
    check(client.ask(1), 1)
    forever.set()
    for stream in streams:
        assert len(stream.result().predictions) == 1


def test_a_stream_whose_answer_would_be_too_large_is_refused(gate, stubs):
    with steered(gate, **OPTIONS | {"max_stream": 10_000}) as server:
        client = Client(server.address, stubs)

        def requests():
            data = photo((1, 2, 3))
            for _ in range(10_000):
                yield client.messages.PredictRequest(image_data=data, all_attributes=True)

        with pytest.raises(grpc.RpcError) as caught:
            client.stub.stream_predict(requests(), timeout=WAIT)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "whose answer has at most 67108864 bytes" in caught.value.details()
        client.channel.close()


def test_photos_that_take_long_to_decode_hold_up_no_others(gate, stubs):
    message = 24 << 20  # the largest, with the default --max-bytes
    with steered(gate, **OPTIONS | {"max_queue": 32}, buffer_bytes=12 * message) as server:
        client = Client(server.address, stubs)
        gate.with_suffix(".large").touch()
        data = photo(colour(9), 4001)  # above 16 megapixels
        request = client.messages.PredictRequest(image_data=data)
        # Twelve fit, half of them in streams, and half of the others may be large.
        large = [client.stub.predict.future(request, timeout=WAIT) for _ in range(4)]
        server.wait_until(
            'vsam_requests_total{code="RESOURCE_EXHAUSTED",method="predict"}', 1
        )  # whichever came last
        streams = [
            client.stub.stream_predict.future(iter([request] * 5), timeout=WAIT) for _ in range(3)
        ]
        for number in range(10):
            check(client.ask(number), number)
        refused(client.stub.predict.future(request, timeout=WAIT))
        assert not any(stream.done() for stream in streams)
        gate.with_suffix(".large").unlink()
        assert [call.code().name for call in large].count("OK") == 3
        for stream in streams:
            assert len(stream.result().predictions) == 5
        client.channel.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_accepted_is_answered_before_it_ends(server, client, gate, number):
    gate.touch()
    accepted = [client.ask(each) for each in range(PLACES - 2)]
    finish = threading.Event()

    def requests():
        yield from client.requests(2)
        finish.wait(WAIT)
        yield from client.requests(1)

    server.wait_until(TAKEN, PLACES - 2)
    stream = client.stub.stream_predict.future(requests(), timeout=WAIT)
    server.wait_until(TAKEN, PLACES - 1)
    server.process.send_signal(number)
    server.wait_for("event=draining")
    late = client.ask(50)
    assert late.code() is grpc.StatusCode.UNAVAILABLE
    assert "the server is ending" in late.details()
    assert client.state() == health_pb2.HealthCheckResponse.NOT_SERVING
    assert not any(call.done() for call in accepted)
    gate.unlink()
    finish.set()
    for each, call in enumerate(accepted):
        check(call, each)
    assert len(stream.result().predictions) == 3
    assert server.wait() == 0
    assert "event=ended" in server.lines[-1]


@pytest.mark.parametrize("loaded", [True, False])
def test_who_watches_its_health_is_told_of_its_end_and_does_not_delay_it(gate, stubs, loaded):
    loading = gate.with_suffix(".load")
    if not loaded:
        loading.touch()
    with steered(gate, ready=loaded) as server:
        client = Client(server.address, stubs)
        watching, told = {}, {}
        for service in ("", "TagMyOutfitService", "other"):
            request = health_pb2.HealthCheckRequest(service=service)
            watching[service] = client.health.Watch(request, timeout=WAIT)
            told[service] = [next(watching[service]).status]
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("event=draining" if loaded else "event=ending")
        loading.unlink(missing_ok=True)
        for service, answers in watching.items():  # they end in order, or this raises
            told[service] += [answer.status for answer in answers]
        assert server.wait() == 0
        client.channel.close()
    assert all(line.startswith("time=") for line in server.lines), server.lines
    assert "event=ended" in server.lines[-1]
    kinds = health_pb2.HealthCheckResponse
    mine = [kinds.SERVING, kinds.NOT_SERVING] if loaded else [kinds.NOT_SERVING]
    assert told == {"": mine, "TagMyOutfitService": mine, "other": [kinds.SERVICE_UNKNOWN]}


@pytest.mark.parametrize("how", ["time", "signal"])
def test_what_takes_too_long_to_end_is_cut_off_and_told(gate, stubs, how):
    seconds = 0.2 if how == "time" else WAIT
    with steered(gate, **OPTIONS, drain_seconds=seconds) as server:
        client = Client(server.address, stubs)
        forever = threading.Event()

        def requests():
            yield from client.requests(1)
            forever.wait(WAIT)

        call = client.stub.stream_predict.future(requests(), timeout=WAIT)
        server.wait_until(TAKEN, 1)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("event=draining")
        if how == "signal":
            server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 1
        assert "1 call was cut off" in server.lines[-1]
        assert call.code() is grpc.StatusCode.UNAVAILABLE
        assert call.details() == "The server ended. Try again later."
        forever.set()
        client.channel.close()


def test_what_is_sent_while_calls_are_cut_off_is_no_failure(gate, stubs):
    large = gate.with_suffix(".large")
    large.touch()
    with steered(gate, **OPTIONS) as server:
        client = Client(server.address, stubs)
        cutting = threading.Event()

        def requests():
            cutting.wait(WAIT)
            yield from client.requests(1)

        decoding = client.ask(0, side=5000)
        stream = client.stub.stream_predict.future(requests(), timeout=WAIT)
        server.wait_until(TAKEN, 2)
        for event in ("draining", "cutting"):
            server.process.send_signal(signal.SIGTERM)
            server.wait_for(f"event={event}")
        cutting.set()
        # Both are told while a thread still decodes.
        assert [call.code() for call in (decoding, stream)] == [grpc.StatusCode.UNAVAILABLE] * 2
        large.unlink()
        assert server.wait() == 1
        assert "2 calls were cut off" in server.lines[-1]
        assert not any("event=failed" in line for line in server.lines)
        client.channel.close()


def test_a_model_that_cannot_be_loaded_ends_it(tmp_path):
    (tmp_path / "gate.fail").touch()
    with steered(tmp_path / "gate", ready=False) as server:
        assert server.wait() == 1
        assert server.lines[-1] == "error: The model can't be loaded."


def test_before_its_model_is_loaded_it_is_not_ready(tmp_path, stubs):
    gate = tmp_path / "gate"
    (tmp_path / "gate.load").touch()
    with steered(gate, ready=False) as server:
        client = Client(server.address, stubs)
        assert client.state() == health_pb2.HealthCheckResponse.NOT_SERVING
        early = client.ask(1)
        assert early.code() is grpc.StatusCode.UNAVAILABLE
        assert "the model is being loaded" in early.details()
        (tmp_path / "gate.load").unlink()
        server.wait_for("event=ready")
        assert client.state() == health_pb2.HealthCheckResponse.SERVING
        check(client.ask(1), 1)
        client.channel.close()


def test_it_can_be_ended_while_its_model_is_being_loaded(tmp_path):
    (tmp_path / "gate.load").touch()
    with steered(tmp_path / "gate", ready=False) as server:
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("event=ending")
        (tmp_path / "gate.load").unlink()
        assert server.wait() == 0
        assert not any("event=ready" in line for line in server.lines)
