"""From an uploaded file to a prediction: what the page, the gallery and the API share."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vsam_heatmaps.errors import UnreadablePhotoError, VsamError
from vsam_heatmaps.images import decode_photo, read_bytes

from .. import prediction_files

if TYPE_CHECKING:
    from ..predictions import Prediction
    from ..predictor import Predictor

Photo = NDArray[np.uint8]
"""(H, W, 3) uint8 RGB, upright."""


@dataclass(frozen=True)
class Upload:
    """A file that a visitor gave.

    Attributes:
        path: Where it lies until it is cleaned away.
        name: What the visitor calls it.
    """

    path: Path
    name: str


@dataclass(frozen=True)
class Answer:
    """What a visitor is shown; a session keeps the last one. It holds nothing of the photo.

    Attributes:
        name: What the visitor calls the photo.
        prediction: What the model says.
        threshold: Attributes above it are listed; None for the model's own thresholds.
    """

    name: str
    prediction: Prediction
    threshold: float | None = None

    def describe(self, *, all_scores: bool = False) -> dict[str, Any]:
        """Say it as a line of `vsam-predict` does."""
        said = self.prediction.describe(threshold=self.threshold, all_scores=all_scores)
        return {"image": self.name} | said

    def as_jsonl(self) -> str:
        """Write it as the one line of a file of predictions."""
        file = io.StringIO()
        prediction_files.jsonl_writer(file)(self.name, self._described(), "")
        return file.getvalue()

    def as_csv(self) -> str:
        """Write it as a table with a header and one row."""
        file = io.StringIO()
        labels = self.prediction.labels
        write = prediction_files.csv_writer(file, labels, all_scores=False)
        write(self.name, self._described(), "")
        return file.getvalue()

    def _described(self) -> dict[str, Any]:
        return self.prediction.describe(threshold=self.threshold)


class Tagger:
    """Reads photos within the limits and asks the model, one photo at a time.

    Args:
        predictor: The model.
        max_bytes: Larger files are refused.
        max_pixels: Photos with more pixels are refused.
    """

    def __init__(self, predictor: Predictor, *, max_bytes: int, max_pixels: int) -> None:
        self.predictor = predictor
        self._max_bytes, self._max_pixels = max_bytes, max_pixels
        self._turn = threading.Lock()

    @property
    def regions(self) -> tuple[str, ...]:
        """Names of the attention's maps; empty if the model has one map, none, or no names."""
        return self.predictor.regions

    def read(self, path: Path) -> Photo:
        """Decode a photo.

        Raises:
            UnreadablePhotoError: If it is none, or too large.
        """
        data = read_bytes(path, max_bytes=self._max_bytes)
        return decode_photo(data, max_pixels=self._max_pixels)

    def tag(self, photo: Photo) -> Prediction:
        """Ask the model about a photo.

        Raises:
            VsamError: If what it says is not finite.
        """
        with self._turn:
            return self.predictor.predict([photo])[0]

    def warm_up(self) -> Prediction:
        """Let the model do once what is slow the first time; give what it says of a black photo."""
        side = self.predictor.preprocessing.image_size
        return self.tag(np.zeros((side, side, 3), np.uint8))


def failed(name: str, error: VsamError) -> str:
    """Say in one sentence that a photo can't be read or tagged, and why."""
    what = "read as a photo" if isinstance(error, UnreadablePhotoError) else "tagged"
    reason = " ".join(str(error).split()).removesuffix(".")
    return f"“{name}” could not be {what}: {reason}."
