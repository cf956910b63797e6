"""Ask a server for tags. Needs `vsam[serve]`, no torch.

with TagClient("localhost:8061") as client:
    client.predict("photo.jpg").category
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc

from vsam_heatmaps.errors import UnreadablePhotoError, VsamError, expected
from vsam_heatmaps.images import read_bytes

from ..predictions import TOP_CATEGORIES, LabelScore
from .addresses import is_this_machine, proxy_variable
from .health import NO_PROXY, is_serving
from .messages import (
    PHOTO,
    PREDICT,
    STREAM_PREDICT,
    PredictRequest,
    PredictResponse,
    StreamPredictResponse,
    no_photo,
)
from .security import channel_credentials

Photo = bytes | str | Path
"""A photo's file: its contents, or where it lies."""

_FOR_EVER = 1e9  # seconds; gRPC counts nanoseconds in 64 bits: larger deadlines would be past ones
_MAX_ANSWER = 128 << 20  # bytes; gRPC's own limit, 4 MiB, is below the answer to a long stream

_TOO_LARGE = "SERVER: Received message larger than max"  # gRPC's words


class TagError(VsamError):
    """A server could not be asked, or answered with an error.

    Attributes:
        code: gRPC's name for the kind of error: `UNAVAILABLE`, `INVALID_ARGUMENT`…
        details: What the server, or gRPC, said.
    """

    def __init__(self, message: str, *, code: str, details: str) -> None:
        super().__init__(message)
        self.code, self.details = code, details

    @property
    def refusal(self) -> str | None:
        """What is wrong with the photo, in `vsam-predict`'s words; None if it is something else."""
        if self.code == "INVALID_ARGUMENT":
            return self.details.removeprefix(no_photo(PHOTO)).removesuffix(".")
        # The server has this code, too, when it is full; gRPC has it where a message is too large.
        if self.code == "RESOURCE_EXHAUSTED" and _TOO_LARGE in self.details:
            return f"it is larger than the server takes: {self.details}"
        return None


@dataclass(frozen=True)
class Tags:
    """What a model says about a photo.

    Attributes:
        categories: The most probable one, or all, the most probable first.
        attributes: Those above the model's threshold, or all, the most probable first.
    """

    categories: tuple[LabelScore, ...]
    attributes: tuple[LabelScore, ...]

    @property
    def category(self) -> str:
        """The most probable category."""
        return self.categories[0].label

    def describe(self, *, all_scores: bool = False) -> dict[str, Any]:
        """Say it in JSON's values, as `Prediction.describe` does.

        Args:
            all_scores: List every category that the server sent, not the best five.
        """
        categories, attributes = (
            [entry._asdict() for entry in scores] for scores in (self.categories, self.attributes)
        )
        return {
            "category": categories[0]["label"],
            "score": categories[0]["score"],
            "categories": categories if all_scores else categories[:TOP_CATEGORIES],
            "attributes": attributes,
        }


class TagClient:
    """Asks one server, over one connection; threads may share it.

    Args:
        address: Host and port, `localhost:8061`, or `unix:PATH`. On this machine no proxy is asked.
        token: One of the server's tokens.
        tls_ca: PEM file of who signed the server's certificate; this or `tls` turns TLS on.
        tls: Use TLS, and trust whom gRPC trusts.
        tls_cert, tls_key: PEM files of a certificate for a server that asks clients for one.
        timeout: Seconds for each call, a whole stream included; None, or a billion, waits for ever.

    Raises:
        VsamError: If the address is none, a file can't be read or holds something else, `tls_cert`
            and `tls_key` don't come together, or the timeout is not positive.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        tls_ca: str | Path | None = None,
        tls: bool = False,
        tls_cert: str | Path | None = None,
        tls_key: str | Path | None = None,
        timeout: float | None = 60.0,
    ) -> None:
        if timeout is not None and not timeout > 0:
            raise expected("timeout", "positive", timeout)
        self.address, self._is_local = address, is_this_machine(address)
        self._timeout = timeout if timeout is not None and timeout < _FOR_EVER else None
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        options = [("grpc.max_receive_message_length", _MAX_ANSWER)]
        if self._is_local:
            options.append(NO_PROXY)
        if (tls_cert is None) != (tls_key is None):
            raise VsamError("Expected `tls_cert` and `tls_key` to come together, but got one.")
        if tls or tls_ca or tls_cert:
            files = (Path(path) if path else None for path in (tls_ca, tls_cert, tls_key))
            credentials = channel_credentials(*files)
            self._channel = grpc.secure_channel(address, credentials, options)
        else:
            self._channel = grpc.insecure_channel(address, options)
        self._predict = self._channel.unary_unary(
            PREDICT, PredictRequest.SerializeToString, PredictResponse.FromString
        )
        self._stream = self._channel.stream_unary(
            STREAM_PREDICT, PredictRequest.SerializeToString, StreamPredictResponse.FromString
        )

    def predict(
        self, photo: Photo, *, all_categories: bool = False, all_attributes: bool = False
    ) -> Tags:
        """Tag a photo.

        Args:
            photo: Contents or path of its file.
            all_categories: List every category, not the best one.
            all_attributes: List every attribute, not those above the model's threshold.

        Raises:
            UnreadablePhotoError: If the file can't be read; it is named.
            TagError: If the server can't be reached or refuses.
        """
        request = _request(photo, all_categories, all_attributes)
        with self._told():
            answer = self._predict(request, timeout=self._timeout, metadata=self._metadata)
        return _tags(answer)

    def stream(
        self,
        photos: Iterable[Photo],
        *,
        all_categories: bool = False,
        all_attributes: bool = False,
    ) -> list[Tags]:
        """Tag many photos in one call; they are read as the server takes them.

        Args:
            photos: Contents or paths. One that can't be read ends the call.
            all_categories: As for `predict`.
            all_attributes: As for `predict`.

        Returns:
            One for each photo, in their order.

        Raises:
            UnreadablePhotoError: If a file can't be read; it is named.
            TagError: If the server can't be reached or refuses a photo, whose number it names.
        """
        unreadable: list[BaseException] = []

        def requests() -> Iterator[Any]:
            try:
                for photo in photos:
                    yield _request(photo, all_categories, all_attributes)
            except BaseException as error:  # in gRPC's thread: it would be lost there
                unreadable.append(error)
                raise

        try:
            with self._told():
                answer = self._stream(requests(), timeout=self._timeout, metadata=self._metadata)
        except TagError:
            if unreadable:
                raise unreadable[0] from None
            raise
        return [_tags(prediction) for prediction in answer.predictions]

    def is_ready(self) -> bool:
        """Ask whether the server has its model ready; False also if nobody answers."""
        return is_serving(self._channel, timeout=self._timeout)

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def __enter__(self) -> TagClient:
        """Close it when the block ends."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn gRPC's errors into one line."""
        try:
            yield
        except grpc.RpcError as error:
            code, details = error.code().name, " ".join((error.details() or "").split())
            remedy = _REMEDIES.get(code, "")
            if code == "UNAVAILABLE" and not self._is_local and (proxy := proxy_variable()):
                remedy += f" {proxy} names a proxy; no_proxy can name hosts to reach without it."
            raise TagError(
                f"The server at {self.address} gave no tags: {details} ({code}){remedy}",
                code=code,
                details=details,
            ) from error


_REMEDIES = {
    "UNAVAILABLE": ". Is it running, is it ready, and do both sides use TLS or neither?",
    "DEADLINE_EXCEEDED": ". Allow more time.",
    "UNAUTHENTICATED": ". Give the client one of the server's tokens.",
    "UNIMPLEMENTED": ". Is it a Tag My Outfit service?",
}


def _request(photo: Photo, all_categories: bool, all_attributes: bool) -> Any:
    try:
        data = photo if isinstance(photo, bytes) else read_bytes(Path(photo))
    except UnreadablePhotoError as error:
        raise UnreadablePhotoError(f"Could not read {photo!s}: {error}.") from error
    return PredictRequest(
        image_data=data, all_categories=all_categories, all_attributes=all_attributes
    )


def _tags(answer: Any) -> Tags:
    return Tags(
        *(
            tuple(LabelScore(entry.label, entry.value) for entry in field)
            for field in (answer.categories, answer.attributes)
        )
    )
