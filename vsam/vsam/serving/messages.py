"""The services of the `.proto` files and their messages, made when this is imported.

They come from the compiled descriptions `*.binpb` (`make protos`), not from generated Python, which
would run with the protobuf of its generator and later ones alone. And each file lives in a pool of
its own: the interfaces have no package, so their names would clash with each other's, and with
those of a program that has stubs of the published services.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


class Interface:
    """A service as its `.proto` file describes it.

    Args:
        name: Of the file, without `.proto`.
        service: Of the service in it.

    Attributes:
        service: As given.
        file: The file's descriptor.
    """

    def __init__(self, name: str, service: str) -> None:
        described = descriptor_pb2.FileDescriptorSet.FromString(
            resources.files(__package__).joinpath(f"{name}.binpb").read_bytes()
        )
        [file] = described.file
        self.file: Any = _in_own_pool(file)
        self.service = service

    @property
    def methods(self) -> Sequence[Any]:
        """Descriptors of the service's methods."""
        methods: Sequence[Any] = self.file.services_by_name[self.service].methods
        return methods

    def path(self, method: str) -> str:
        """Write a method as calls name it."""
        return f"/{self.service}/{method}"

    def message(self, name: str) -> Any:
        """Give the class of a message.

        Raises:
            KeyError: If the file has none of that name.
        """
        return _class_of(self.file, name)


def _class_of(file: Any, name: str) -> Any:
    return message_factory.GetMessageClass(file.message_types_by_name[name])


def knowing_one_field(kind: Any, field: str) -> Any:
    """Give the class of a message that takes all of a message's fields but one as they come.

    It reads them into bytes, not into objects, and writes them as it read them.

    Args:
        kind: The class of the whole message.
        field: The name of the field that it knows.
    """
    file = descriptor_pb2.FileDescriptorProto()
    kind.DESCRIPTOR.file.CopyToProto(file)
    [message] = [each for each in file.message_type if each.name == kind.DESCRIPTOR.name]
    [known] = [each for each in message.field if each.name == field]
    del message.field[:]
    message.field.append(known)
    return _class_of(_in_own_pool(file), message.name)


def _in_own_pool(file: Any) -> Any:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindFileByName(file.name)


TAG_MY_OUTFIT = Interface("tag_my_outfit", "TagMyOutfitService")
OPEN_POSE = Interface("open_pose", "OpenPoseEstimator")
IMAGE_SOURCE = Interface("image_source", "ImageSourceService")
VISUALIZATION = Interface("visualization", "VisualizationService")

PREDICT = TAG_MY_OUTFIT.path("predict")
STREAM_PREDICT = TAG_MY_OUTFIT.path("stream_predict")

PredictRequest = TAG_MY_OUTFIT.message("PredictRequest")
Prediction = TAG_MY_OUTFIT.message("Prediction")
PredictResponse = TAG_MY_OUTFIT.message("PredictResponse")
StreamPredictResponse = TAG_MY_OUTFIT.message("StreamPredictResponse")

PHOTO = "image_data"
"""The field of a PredictRequest that holds the photo's file."""


def no_photo(field: str) -> str:
    """Say how servers begin the refusal of what a field holds; the reason follows."""
    return f"Expected {field} to be a photo, but "
