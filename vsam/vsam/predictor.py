"""Predict: a model and photos to categories, attributes and attention. All callers use it."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, cast, overload

import numpy as np
import torch
from numpy.typing import NDArray

from vsam_heatmaps.errors import UnreadablePhotoError, VsamError, expected
from vsam_heatmaps.images import MAX_PIXELS, decode_photo, max_bytes
from vsam_heatmaps.photos import Photo

from .calibration import Calibration
from .labels import Labels
from .misfits import listed
from .modeling.model import VsamOutput
from .networks import Network, load_network
from .photo_inputs import PhotoLike, is_one_photo, read, require_rgb
from .predictions import Prediction, Tagged, weakly
from .run_folder import Description, read_run

__all__ = ["THRESHOLDS", "Prediction", "Predictor", "Tagged"]

THRESHOLDS = ("run", "attribute")
"""Where an attribute's threshold comes from: the run's one for all, or the calibration's own."""


# Pixels of a photo that is decoded at a reduced scale, for each of the model's; figures for others
# are in benchmarks/README.md.
_REDUCED_SCALE = 4

_Item = TypeVar("_Item")
_Loaded = TypeVar("_Loaded")


class Predictor:
    """A trained model, ready for photos; `Predictor.from_pretrained` loads one.

    Args:
        network: What runs the model.
        description: Its preprocessing, threshold and calibration.
        labels: Names of its outputs.
        calibrated: Divide the category logits by the calibration's temperature, so that scores say
            how often the model is right.
        thresholds: `run`: attributes above the run's threshold are predicted; `attribute`: those
            above their own one of the calibration.

    Attributes:
        network: What runs the model.
        labels: Names of the outputs.
        regions: Names of the maps with region attention, else none.
        preprocessing: How a photo becomes the network's input.
        threshold: The run's threshold.
        thresholds: (A,) float32, what predictions go by.

    Raises:
        VsamError: If the model holds no calibration and needs one.
    """

    def __init__(
        self,
        network: Network,
        *,
        description: Description,
        labels: Labels,
        calibrated: bool = False,
        thresholds: str = "run",
    ) -> None:
        if thresholds not in THRESHOLDS:
            raise expected("thresholds", f"one of {', '.join(THRESHOLDS)}", thresholds)
        self.network = network
        self.labels = labels
        self.regions = description.config.regions
        self.threshold = description.threshold
        self.preprocessing = description.preprocessing
        self.thresholds = np.full(len(labels.attributes), self.threshold, np.float32)
        if thresholds == "attribute":
            self.thresholds = np.array(_calibration_of(description).thresholds, np.float32)
        self.thresholds.setflags(write=False)  # all predictions share it
        self._temperature = _calibration_of(description).temperature if calibrated else 1.0

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        device: str = "auto",
        precision: str = "fp32",
        calibrated: bool = False,
        thresholds: str = "run",
        revision: str | None = None,
    ) -> Predictor:
        """Load a run folder, an export of one, or a model of the Hugging Face hub.

        Args:
            model: A folder, or else the hub's `user/name`. A folder that is there always wins.
            device: `auto`, `cpu`, `cuda` or `mps`; an export runs on the CPU.
            precision: `fp32`, `bf16` or `fp16`; see `load_network`.
            calibrated: See `Predictor`.
            thresholds: See `Predictor`.
            revision: Branch, tag or commit on the hub; by default the newest.

        Raises:
            VsamError: If there is no such model, it can't be downloaded, or it is damaged; see
                `find_run` and `load_network`.
        """
        from .hub import find_run

        return cls.from_run(
            find_run(model, revision=revision),
            device=device,
            precision=precision,
            calibrated=calibrated,
            thresholds=thresholds,
        )

    @classmethod
    def from_run(
        cls,
        run: str | Path,
        *,
        device: str = "auto",
        precision: str = "fp32",
        calibrated: bool = False,
        thresholds: str = "run",
    ) -> Predictor:
        """Load a run folder or an export, as `from_pretrained` does, but never ask the hub."""
        network = load_network(Path(run), device=device, precision=precision)
        description, labels = read_run(Path(run))
        return cls(
            network,
            description=description,
            labels=labels,
            calibrated=calibrated,
            thresholds=thresholds,
        )

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a string is an iterable of strings, too
        self, photos: PhotoLike, *, batch_size: int = ..., workers: int = ...
    ) -> Prediction: ...
    @overload
    def __call__(
        self, photos: Iterable[PhotoLike], *, batch_size: int = ..., workers: int = ...
    ) -> list[Prediction]: ...
    def __call__(
        self,
        photos: PhotoLike | Iterable[PhotoLike],
        *,
        batch_size: int = 32,
        workers: int = 4,
    ) -> Prediction | list[Prediction]:
        """Tag a photo, or several.

        Args:
            photos: An (H, W, 3) uint8 RGB array, a Pillow image, a path, or an iterable of them,
                also mixed. Of an iterable, some two batches are held at a time.
            batch_size: Photos in one forward pass.
            workers: Threads that read and decode the next photos while the model works.

        Returns:
            A prediction for one photo; a list of them, in order, for a list.

        Raises:
            UnreadablePhotoError: If a file can't be read; it is named. `predict_files` goes on.
            VsamError: If it is no photo, or an array of another shape or type, or what the model
                says of it is not finite.
        """
        if is_one_photo(photos):
            pixels = self.preprocessing.resize(read(photos))
            return self._predict([pixels], [photos])[0]
        several = cast("Iterable[PhotoLike]", photos)

        def load(photo: PhotoLike) -> torch.Tensor:
            return self.preprocessing.resize(read(photo))

        predictions: list[Prediction] = []
        for batch in _batches(several, load, batch_size=batch_size, workers=workers):
            sources = [weakly(photo) for photo, _ in batch]
            predictions += self._predict([pixels for _, pixels in batch], sources)
        return predictions

    def predict(self, photos: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        """Tag photos in one batch.

        Args:
            photos: (H, W, 3) uint8 RGB each, of any size.

        Raises:
            VsamError: If one is no photo, or what the model says of it is not finite.
        """
        return self.predict_prepared(
            [self.preprocessing.resize(require_rgb(photo)) for photo in photos]
        )

    def predict_prepared(self, pixels: Sequence[torch.Tensor]) -> list[Prediction]:
        """Tag photos that `preprocessing.resize` made, (3, S, S) uint8 each, in one batch."""
        return self._predict(pixels, [None] * len(pixels))

    @torch.inference_mode()
    def _predict(
        self,
        pixels: Sequence[torch.Tensor],
        sources: Sequence[Any],
        names: Sequence[str] | None = None,
    ) -> list[Prediction]:
        """Tag a batch; an error calls photos by their names, or else by their paths or numbers."""
        if not pixels:
            return []
        # Resized photos have their channels last in memory, and networks want them so.
        # (3, S, S) each -> (B, S, S, 3) -> (B, 3, S, S)
        batch = torch.stack([photo.movedim(0, -1) for photo in pixels]).movedim(-1, 1)
        batch = batch.to(self.network.device)
        output = self.network(self.preprocessing.normalize(batch))
        _require_finite(output, names or _names(sources))
        logits = output.category_logits / self._temperature
        categories = logits.softmax(dim=1).cpu().numpy()
        attributes = output.attribute_logits.sigmoid().cpu().numpy()
        attention = output.attention.cpu().numpy()
        contributions = output.contributions.cpu().numpy()
        return [
            Prediction(
                category_scores=category,
                attribute_scores=attribute,
                attention=maps,
                labels=self.labels,
                thresholds=self.thresholds,
                regions=self.regions,
                contributions=added,
                source=source,
            )
            for category, attribute, maps, added, source in zip(
                categories, attributes, attention, contributions, sources, strict=True
            )
        ]

    def predict_files(
        self,
        photos: Iterable[Photo],
        *,
        batch_size: int = 32,
        workers: int = 4,
        max_pixels: int = MAX_PIXELS,
        reduced: bool = False,
        also: Callable[[NDArray[np.uint8]], Any] | None = None,
    ) -> Iterator[Tagged]:
        """Tag photo files in order; threads decode the next photos while the model works.

        Args:
            photos: Which files.
            batch_size: Photos in one forward pass.
            workers: Threads that decode.
            max_pixels: Photos with more pixels count as unreadable.
            reduced: Decode large JPEGs at the smallest scale at which the shorter side has four
                times the model's pixels. Scores move a little.
            also: Called with each decoded photo, in a thread; its result is `Tagged.extra`.

        Raises:
            VsamError: If what the model says of a photo is not finite.
        """
        least = _REDUCED_SCALE * self.preprocessing.image_size if reduced else None

        def load(photo: Photo) -> tuple[torch.Tensor | None, str, Any]:
            try:
                image = decode_photo(
                    photo.read(max_bytes=max_bytes(max_pixels)),
                    max_pixels=max_pixels,
                    least_shorter_side=least,
                )
            except UnreadablePhotoError as error:
                return None, str(error), None
            return self.preprocessing.resize(image), "", also(image) if also else None

        with contextlib.closing(
            _batches(photos, load, batch_size=batch_size, workers=workers)
        ) as batches:
            for batch in batches:
                readable = [
                    (photo, pixels) for photo, (pixels, _, _) in batch if pixels is not None
                ]
                predictions = iter(
                    self._predict(
                        [pixels for _, pixels in readable],
                        # A photo inside another file has no path of its own to draw on.
                        [photo.path if type(photo) is Photo else None for photo, _ in readable],
                        [photo.id for photo, _ in readable],
                    )
                )
                for photo, (pixels, error, extra) in batch:
                    prediction = None if pixels is None else next(predictions)
                    yield Tagged(photo, prediction, error, extra)


def _names(sources: Sequence[Any]) -> list[str]:
    return [
        str(source) if isinstance(source, str | Path) else f"photo {number} of the batch"
        for number, source in enumerate(sources, 1)
    ]


def _require_finite(output: VsamOutput, names: Sequence[str]) -> None:
    """Check a batch's output: NaN would be written, counted and compared as if it said something.

    Raises:
        VsamError: If a photo's is not finite.
    """
    # (B, …) each -> (B,)
    finite = torch.stack([part.isfinite().flatten(1).all(dim=1) for part in output]).all(dim=0)
    if not finite.all():
        wrong = [name for name, good in zip(names, finite.tolist(), strict=True) if not good]
        raise VsamError(
            f"Expected the model's scores and maps of {listed(wrong)} to be finite, but they hold "
            "NaN or infinity. Give --precision fp32 or bf16, or another model."
        )


def _batches(
    items: Iterable[_Item], load: Callable[[_Item], _Loaded], *, batch_size: int, workers: int
) -> Generator[list[tuple[_Item, _Loaded]], None, None]:
    """Load items in threads, in order, and give them in batches; what `load` raises comes out."""
    if batch_size < 1:
        raise expected("batch_size", "at least 1", batch_size)
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        waiting: deque[tuple[_Item, Future[_Loaded]]] = deque()
        source = iter(items)
        try:
            while True:
                # Two batches in flight: one decodes while the other is in the model.
                while len(waiting) < 2 * batch_size:
                    try:
                        item = next(source)
                    except StopIteration:
                        break
                    waiting.append((item, pool.submit(load, item)))
                if not waiting:
                    return
                taken = [waiting.popleft() for _ in range(min(batch_size, len(waiting)))]
                yield [(item, future.result()) for item, future in taken]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _calibration_of(description: Description) -> Calibration:
    if description.calibration is None:
        raise VsamError(
            "Expected the model to be calibrated, but its config.json holds no calibration. Fit "
            "one with vsam calibrate, or leave the calibration out."
        )
    return description.calibration
