"""Predict: a run folder and photos to categories, attributes and attention. All callers use it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vsam_heatmaps.errors import UnreadablePhotoError, expected
from vsam_heatmaps.images import MAX_PIXELS, decode_photo, max_bytes
from vsam_heatmaps.photos import Photo

from .networks import Network, load_network
from .run_folder import Description, Labels, read_run

TOP_CATEGORIES = 5


@dataclass(frozen=True)
class Prediction:
    """What the model says about one photo.

    Attributes:
        category_scores: (K,) float32, probabilities that sum to 1.
        attribute_scores: (A,) float32, one probability each.
        attention: (S, S) float32, 0..1, over the squashed photo.
    """

    category_scores: NDArray[np.float32]
    attribute_scores: NDArray[np.float32]
    attention: NDArray[np.float32]

    def describe(
        self, labels: Labels, *, threshold: float, all_scores: bool = False
    ) -> dict[str, Any]:
        """Name the labels: `category`, `score`, `categories` and `attributes`.

        Args:
            labels: Names of the outputs.
            threshold: Attributes above it are listed.
            all_scores: List every category and attribute, not the best five and those above the
                threshold.
        """
        categories = _ranked(labels.categories, self.category_scores)
        attributes = _ranked(labels.attributes, self.attribute_scores)
        if not all_scores:
            categories = categories[:TOP_CATEGORIES]
            attributes = [entry for entry in attributes if entry["score"] > threshold]
        return {
            "category": categories[0]["label"],
            "score": categories[0]["score"],
            "categories": categories,
            "attributes": attributes,
        }


def _ranked(names: Sequence[str], scores: NDArray[np.float32]) -> list[dict[str, Any]]:
    order = np.argsort(-scores, kind="stable")  # equal scores keep the order of the labels
    return [{"label": names[i], "score": round(float(scores[i]), 6)} for i in order]


@dataclass(frozen=True)
class Tagged:
    """One photo of a folder with its prediction, or with the reason why there is none.

    Attributes:
        photo: Which photo.
        prediction: What the model says; None if the photo could not be read.
        error: The reason then, else empty.
        extra: What the caller's `also` made of the decoded photo.
    """

    photo: Photo
    prediction: Prediction | None
    error: str = ""
    extra: Any = None


class Predictor:
    """A trained model, ready for photos.

    Args:
        network: What runs the model.
        description: Its preprocessing and threshold.
        labels: Names of its outputs.
    """

    def __init__(self, network: Network, *, description: Description, labels: Labels) -> None:
        self.network = network
        self.labels = labels
        self.threshold = description.threshold
        self.preprocessing = description.preprocessing

    @classmethod
    def from_run(
        cls, run: str | Path, *, device: str = "auto", precision: str = "fp32"
    ) -> Predictor:
        """Load a run folder or an export.

        Args:
            run: The folder.
            device: `auto`, `cpu`, `cuda` or `mps`; an export runs on the CPU.
            precision: `fp32`, `bf16` or `fp16`; see `load_network`.

        Raises:
            VsamError: As `read_run` and `load_network`.
        """
        network = load_network(Path(run), device=device, precision=precision)
        description, labels = read_run(Path(run))
        return cls(network, description=description, labels=labels)

    def predict(self, photos: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        """Tag photos in one batch.

        Args:
            photos: (H, W, 3) uint8 RGB each, of any size.
        """
        return self.predict_prepared([self.preprocessing.resize(photo) for photo in photos])

    @torch.inference_mode()
    def predict_prepared(self, pixels: Sequence[torch.Tensor]) -> list[Prediction]:
        """Tag photos that `preprocessing.resize` made, (3, S, S) uint8 each, in one batch."""
        if not pixels:
            return []
        output = self.network(
            self.preprocessing.normalize(torch.stack(list(pixels)).to(self.network.device))
        )
        categories = output.category_logits.softmax(dim=1).cpu().numpy()
        attributes = output.attribute_logits.sigmoid().cpu().numpy()
        attention = output.attention[:, 0].cpu().numpy()  # (B, 1, S, S) -> (B, S, S)
        return [Prediction(*row) for row in zip(categories, attributes, attention, strict=True)]

    def predict_files(
        self,
        photos: Iterable[Photo],
        *,
        batch_size: int = 32,
        workers: int = 4,
        max_pixels: int = MAX_PIXELS,
        also: Callable[[NDArray[np.uint8]], Any] | None = None,
    ) -> Iterator[Tagged]:
        """Tag photo files in order; threads decode the next photos while the model works.

        Args:
            photos: Which files.
            batch_size: Photos in one forward pass.
            workers: Threads that decode.
            max_pixels: Photos with more pixels count as unreadable.
            also: Called with each decoded photo, in a thread; its result is `Tagged.extra`.
        """
        if batch_size < 1:
            raise expected("batch_size", "at least 1", batch_size)

        def load(photo: Photo) -> tuple[torch.Tensor | None, str, Any]:
            try:
                image = decode_photo(
                    photo.read(max_bytes=max_bytes(max_pixels)), max_pixels=max_pixels
                )
            except UnreadablePhotoError as error:
                return None, str(error), None
            return self.preprocessing.resize(image), "", also(image) if also else None

        with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
            waiting: deque[tuple[Photo, Future[Any]]] = deque()
            source = iter(photos)
            try:
                while True:
                    # Two batches in flight: one decodes while the other is in the model.
                    while len(waiting) < 2 * batch_size and (photo := next(source, None)):
                        waiting.append((photo, pool.submit(load, photo)))
                    if not waiting:
                        return
                    taken = [waiting.popleft() for _ in range(min(batch_size, len(waiting)))]
                    yield from self._tag([(photo, *future.result()) for photo, future in taken])
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _tag(self, loaded: list[tuple[Photo, torch.Tensor | None, str, Any]]) -> Iterator[Tagged]:
        predictions = iter(
            self.predict_prepared([pixels for _, pixels, _, _ in loaded if pixels is not None])
        )
        for photo, pixels, error, extra in loaded:
            prediction = None if pixels is None else next(predictions)
            yield Tagged(photo, prediction, error, extra)
