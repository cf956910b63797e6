"""Predict: a run folder and photos to categories, attributes and attention. All callers use it."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vsam_heatmaps.errors import UnreadablePhotoError, VsamError, expected
from vsam_heatmaps.images import MAX_PIXELS, decode_photo, max_bytes
from vsam_heatmaps.photos import Photo

from .predictions import TOP_CATEGORIES
from .run_folder import Checkpoint, Labels, load_checkpoint

_AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


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
        checkpoint: See `load_checkpoint`.
        device: `auto`, `cpu`, `cuda` or `mps`.
        precision: `fp32`, or `bf16` or `fp16` autocast.

    Raises:
        VsamError: If the device isn't there.
    """

    def __init__(
        self, checkpoint: Checkpoint, *, device: str = "auto", precision: str = "fp32"
    ) -> None:
        if precision not in _AUTOCAST:
            raise expected("precision", f"one of {', '.join(_AUTOCAST)}", precision)
        self.device = _find_device(device)
        self.labels = checkpoint.labels
        self.threshold = checkpoint.threshold
        self.preprocessing = checkpoint.preprocessing
        self._dtype = _AUTOCAST[precision]
        # Channels last is the faster layout for convolutions on CPUs and GPUs alike.
        model = checkpoint.model.eval().to(self.device)
        self._model = model.to(memory_format=torch.channels_last)

    @classmethod
    def from_run(
        cls, run: str | Path, *, device: str = "auto", precision: str = "fp32"
    ) -> Predictor:
        """Load a run folder; see `load_checkpoint` for what can go wrong."""
        return cls(load_checkpoint(Path(run)), device=device, precision=precision)

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
        batch = self.preprocessing.normalize(torch.stack(list(pixels)).to(self.device))
        autocast: Any = contextlib.nullcontext()
        if self._dtype is not None:
            autocast = torch.autocast(self.device.type, self._dtype)
        with autocast:
            output = self._model(batch.contiguous(memory_format=torch.channels_last))
        categories = output.category_logits.float().softmax(dim=1).cpu().numpy()
        attributes = output.attribute_logits.float().sigmoid().cpu().numpy()
        attention = output.attention.float()[:, 0].cpu().numpy()  # (B, 1, S, S) -> (B, S, S)
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


def _find_device(name: str) -> torch.device:
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    if name not in available:
        raise expected("device", f"one of auto, {', '.join(available)}", name)
    if not available[name]:
        raise VsamError(f"Expected `--device` to be there, but this machine has no {name}.")
    return torch.device(name)
