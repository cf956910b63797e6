"""Who may ask: certificates and tokens; hosts and files that a server refuses to start with."""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import empty_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from servers import WAIT, command_line, running, steered
from tiny import call, the_error

from vsam.serving.client import TagClient, TagError
from vsam.serving.options import ServerOptions, is_loopback
from vsam_cli import main
from vsam_heatmaps.errors import VsamError

TOKEN = "s3cret-of-the-test"


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=WAIT)


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> Path:
    """Give a folder with an authority and certificates of a server, a client and a stranger."""
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl command to make certificates with")
    folder = tmp_path_factory.mktemp("pki")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", 2)
    for authority in ("ca", "other-ca"):
        openssl(
            *("req", "-x509", *key, "-subj", f"/CN={authority}"),
            *("-keyout", folder / f"{authority}.key", "-out", folder / f"{authority}.pem"),
        )
    for name, authority in (("server", "ca"), ("client", "ca"), ("stranger", "other-ca")):
        openssl(
            *("req", "-new", *key[:-2], "-subj", f"/CN={name}"),
            *("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.csr"),
        )
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        openssl(
            *("x509", "-req", "-in", folder / f"{name}.csr", "-days", 2, "-CAcreateserial"),
            *("-CA", folder / f"{authority}.pem", "-CAkey", folder / f"{authority}.key"),
            *("-extfile", folder / "names", "-out", folder / f"{name}.pem"),
        )
    return folder


@contextlib.contextmanager
def raises(code: str) -> Iterator[None]:
    with pytest.raises(TagError) as caught:
        yield
    assert caught.value.code == code, caught.value
    assert len(str(caught.value).splitlines()) == 1


MUTUAL = {"tls_cert": "server.pem", "tls_key": "server.key", "tls_client_ca": "ca.pem"}


def test_mutual_tls_answers_those_with_a_certificate_of_the_authority(pki, photos, tmp_path):
    options = {name: pki / file for name, file in MUTUAL.items()}
    mine = {"tls_cert": pki / "client.pem", "tls_key": pki / "client.key"}
    others = {"tls_cert": pki / "stranger.pem", "tls_key": pki / "stranger.key"}
    with steered(tmp_path / "gate", **options) as server:
        assert "tls=mutual" in server.lines[0]
        with TagClient(server.address, tls_ca=pki / "ca.pem", **mine, timeout=WAIT) as client:
            assert client.predict(photos[0]).category
        for wrong in ({}, others):
            with TagClient(server.address, tls_ca=pki / "ca.pem", **wrong) as client:
                with raises("UNAVAILABLE"):
                    client.predict(photos[0])
                assert not client.is_ready()


def test_tls_and_tokens_keep_out_who_has_neither(pki, tiny_run, photos, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text(f"an-older-one\n\n  {TOKEN}  \n")
    tls = ("--tls-cert", pki / "server.pem", "--tls-key", pki / "server.key")
    with running(command_line(tiny_run, *tls, "--token-file", tokens)) as server:
        assert "tls=on tokens=on" in server.lines[0]
        safe = {"tls_ca": pki / "ca.pem", "timeout": WAIT}
        for token in (TOKEN, "an-older-one"):
            with TagClient(server.address, token=token, **safe) as client:
                assert client.predict(photos[0]).category
                assert len(client.stream(photos[:3])) == 3
        for token in (None, "wrong", TOKEN[:-1], TOKEN + "x"):
            with TagClient(server.address, token=token, **safe) as client:
                with raises("UNAUTHENTICATED"):
                    client.predict(photos[0])
                with raises("UNAUTHENTICATED"):
                    client.stream(photos)
                assert client.is_ready()  # health is open
        with TagClient(server.address, token=TOKEN, timeout=WAIT) as client, raises("UNAVAILABLE"):
            client.predict(photos[0])  # without TLS
        other = {"tls_ca": pki / "other-ca.pem", "timeout": WAIT}
        with TagClient(server.address, token=TOKEN, **other) as client, raises("UNAVAILABLE"):
            client.predict(photos[0])  # the client trusts another authority
        counted = server.metrics()
        refused = 'vsam_requests_total{code="UNAUTHENTICATED",method="%s"}'
        assert counted[refused % "predict"] == counted[refused % "stream_predict"] == 4
        assert TOKEN not in "\n".join(server.lines)

        credentials = grpc.ssl_channel_credentials((pki / "ca.pem").read_bytes())
        with grpc.secure_channel(server.address, credentials) as channel:
            ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            with pytest.raises(grpc.RpcError) as caught:  # reflection is guarded
                list(ask(iter([request]), timeout=WAIT))
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            found = ask(
                iter([request]), timeout=WAIT, metadata=[("authorization", f"Bearer {TOKEN}")]
            )
            assert next(found).list_services_response.service
            method = channel.unary_unary(
                "/grpc.health.v1.HealthX/Check", empty_pb2.Empty.SerializeToString
            )
            with pytest.raises(grpc.RpcError) as caught:
                method(empty_pb2.Empty(), timeout=WAIT)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            for odd in ([("authorization", f"Basic {TOKEN}")], [("authorization", TOKEN)],
                        [("authorization", f"Bearer {TOKEN}")] * 2):  # fmt: skip
                with pytest.raises(grpc.RpcError) as caught:
                    next(ask(iter([request]), timeout=WAIT, metadata=odd))
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            health = health_pb2_grpc.HealthStub(channel)
            assert health.Check(health_pb2.HealthCheckRequest(), timeout=WAIT).status == 1


def test_the_tag_command_brings_a_token(photos, tmp_path, run_command):
    tokens = tmp_path / "tokens"
    tokens.write_text(f"\n with blanks {TOKEN} \nanother\n")
    with steered(tmp_path / "gate", token_file=tokens) as server:
        known = ("vsam", "tag", photos[0], "--server", server.address)
        done = run_command(*known, "--token-file", tokens)
        assert done.returncode == 0, done.stderr
        assert '"category"' in done.stdout
        unsendable = tmp_path / "unsendable"
        unsendable.write_text("a\x07b\n")
        for options, told in (
            ((), "UNAUTHENTICATED"),
            (("--token-file", unsendable), f"Expected {unsendable} to hold printable ASCII"),
        ):
            refused = run_command(*known, *options)
            assert refused.returncode == 1
            assert told in the_error(refused.stderr)
            assert refused.stdout == ""
        # A second server on the same port would take turns with the first.
        port = server.address.rpartition(":")[2]
        second = run_command("vsam", "serve", "--model", tmp_path, "--port", port)
        assert second.returncode == 1
        [line] = second.stderr.splitlines()  # and none of gRPC's own
        assert line.startswith(f"error: Could not listen on {server.address}: Address already in")


def test_hosts_that_others_reach_need_protection(tmp_path):
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        assert not is_loopback(host)
        with pytest.raises(VsamError, match=rf"but others reach {host}\. Give --tls-cert"):
            ServerOptions(host=host)
        ServerOptions(host=host, insecure=True)
        ServerOptions(host=host, token_file=tmp_path / "tokens")
        ServerOptions(host=host, tls_cert=tmp_path / "c", tls_key=tmp_path / "k")
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        assert is_loopback(host)
        ServerOptions(host=host)
    with pytest.raises(VsamError, match=r"'no\.such\.host\.invalid' has none"):
        ServerOptions(host="no.such.host.invalid")
    assert ServerOptions(host="::1").address(8061) == "[::1]:8061"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"max_batch": 0}, "`max_batch` to be at least 1, but got 0"),
        ({"max_wait_ms": float("nan")}, "`max_wait_ms` to be 0 or more, but got nan"),
        ({"idle_seconds": 0}, "`idle_seconds` to be positive"),
        ({"port": 65536}, "`port` to be from 0 to 65535"),
        ({"max_bytes": 3 * 10**9, "buffer_bytes": 10**12}, "`max_bytes` to be at most 2143289343"),
        ({"drain_seconds": float("nan")}, "`drain_seconds` to be 0 or more, but got nan"),
        ({"buffer_bytes": 1000}, "`buffer_bytes` to be at least"),
        ({"tls_cert": Path("a")}, "--tls-cert and --tls-key to come together"),
        ({"tls_key": Path("a")}, "--tls-cert and --tls-key to come together"),
        ({"tls_client_ca": Path("a")}, "--tls-client-ca to come with"),
    ],
)
def test_options_that_make_no_sense_are_refused(values, told):
    with pytest.raises(VsamError) as caught:
        ServerOptions(**values)
    assert told in str(caught.value)


def test_files_that_are_none_are_named_before_anything_is_asked(pki, photos, monkeypatch, capfd):
    junk, cert, key = photos[0], pki / "client.pem", pki / "client.key"
    for options, told in (
        (("--tls-ca", junk), f"Expected {junk} to hold PEM certificates"),
        (("--tls-ca", pki / "none"), f"Could not read {pki / 'none'}"),
        (("--tls-cert", junk, "--tls-key", key), f"Expected {junk} and {key} to be a certificate"),
        (("--tls-cert", cert, "--tls-key", pki / "server.key"), "to be a certificate and its key"),
        (("--tls-cert", cert), "to come together"),
    ):
        assert call("vsam", ("tag", photos[0], *options), monkeypatch) == 1
        [line] = capfd.readouterr().err.splitlines()  # gRPC's own would be there, too
        assert told in the_error(line)


def test_files_that_are_none_are_named_before_anything_listens(pki, tmp_path, monkeypatch, capsys):
    empty, junk = tmp_path / "empty", tmp_path / "junk"
    empty.write_text(" \n")
    junk.write_text("no certificate")
    good, key = pki / "server.pem", pki / "server.key"
    public = ("--host", "0.0.0.0")
    for options, told in (
        (public, "others reach 0.0.0.0"),
        (("--token-file", empty), f"Expected {empty} to hold a token"),
        (("--token-file", tmp_path / "none"), f"Could not read {tmp_path / 'none'}"),
        (("--tls-cert", junk, "--tls-key", key), f"Expected {junk} and {key} to be a certificate"),
        (("--tls-cert", good, "--tls-key", pki / "client.key"), "to be a certificate and its key"),
        (
            ("--tls-cert", good, "--tls-key", key, "--tls-client-ca", junk),
            f"Expected {junk} to hold PEM certificates",
        ),
    ):
        given = ["vsam", "serve", "--model", tmp_path, "--port", 0, *options]
        monkeypatch.setattr(sys, "argv", [str(part) for part in given])
        monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # the command sets its own
        with pytest.raises(SystemExit) as ended:
            main.run()
        assert ended.value.code == 1, options
        said = capsys.readouterr().err
        assert told in the_error(said)
        assert "event=listening" not in said
