"""The messages of `tag_my_outfit.proto`, made when they are imported.

They come from the compiled description `tag_my_outfit.binpb` (`make protos`), not from generated
Python, which would run with the protobuf of its generator and later ones alone. And they live in a
pool of their own: the interface has no package, so its names would clash with those of a program
that has stubs of the published service.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

DESCRIPTION = "tag_my_outfit.binpb"
SERVICE = "TagMyOutfitService"
PREDICT = f"/{SERVICE}/predict"
STREAM_PREDICT = f"/{SERVICE}/stream_predict"


def _load() -> Any:
    described = descriptor_pb2.FileDescriptorSet.FromString(
        resources.files(__package__).joinpath(DESCRIPTION).read_bytes()
    )
    [file] = described.file
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindFileByName(file.name)


FILE = _load()
"""The descriptor of `tag_my_outfit.proto`."""


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(FILE.message_types_by_name[name])


PredictRequest = _message("PredictRequest")
Prediction = _message("Prediction")
PredictResponse = _message("PredictResponse")
StreamPredictResponse = _message("StreamPredictResponse")
