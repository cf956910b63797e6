"""The committed description of the messages is that of the `.proto` file, and loads alone."""

import subprocess
import sys
from pathlib import Path

from google.protobuf import descriptor_pb2
from stranger import PROTO

import vsam.serving

FOLDER = Path(vsam.serving.__file__).parent
NAME = "tag_my_outfit"


def compiled(source: Path, out: Path) -> descriptor_pb2.FileDescriptorProto:
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"-I{source.parent}"),
            *(f"--descriptor_set_out={out}", source.name),
        ],
        check=True,
    )
    [file] = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    return file


def test_the_committed_description_is_up_to_date(tmp_path):
    [committed] = descriptor_pb2.FileDescriptorSet.FromString(
        (FOLDER / f"{NAME}.binpb").read_bytes()
    ).file
    assert committed == compiled(FOLDER / f"{NAME}.proto", tmp_path / "out"), "make protos"


def test_the_interface_is_the_published_one(tmp_path):
    described = tmp_path / "published.proto"
    described.write_text(PROTO)
    published = compiled(described, tmp_path / "published")
    ours = compiled(FOLDER / f"{NAME}.proto", tmp_path / "ours")
    assert ours.package == published.package == ""
    assert {m.name: m for m in ours.message_type} == {m.name: m for m in published.message_type}
    assert list(ours.service) == list(published.service)
