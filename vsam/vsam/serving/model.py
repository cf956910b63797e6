"""A `Predictor` as the service uses it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vsam_heatmaps.images import decode_photo

from ..predictor import Prediction, Predictor
from .service import Scores


class PredictorModel:
    """Serves a predictor.

    Args:
        predictor: Ready for photos.
        max_pixels: Photos with more pixels count as unreadable.
    """

    def __init__(self, predictor: Predictor, *, max_pixels: int) -> None:
        self._predictor, self._max_pixels = predictor, max_pixels

    @classmethod
    def load(
        cls, run: Path, *, device: str, precision: str, max_pixels: int, max_batch: int
    ) -> PredictorModel:
        """Load a run, and decode and predict once, so that no request waits for what that loads.

        Raises:
            VsamError: As `Predictor.from_run`.
        """
        predictor = Predictor.from_run(run, device=device, precision=precision)
        model = cls(predictor, max_pixels=max_pixels)
        blank = model.prepare(cv2.imencode(".jpg", np.zeros((32, 32, 3), np.uint8))[1].tobytes())
        for size in sorted({1, max_batch}):
            model.predict([blank] * size)
        return model

    def prepare(self, data: bytes) -> torch.Tensor:
        """Decode a photo's file to (3, S, S) uint8.

        Raises:
            UnreadablePhotoError: As `decode_photo`.
        """
        return self.prepare_image(decode_photo(data, max_pixels=self._max_pixels))

    def prepare_image(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """Resize a decoded photo, (H, W, 3) uint8, to (3, S, S) uint8."""
        return self._predictor.preprocessing.resize(image)

    def predict(self, items: Sequence[torch.Tensor]) -> list[Prediction]:
        """Run the model on a batch."""
        return self._predictor.predict_prepared(items)

    def describe(
        self, prediction: Prediction, *, all_categories: bool, all_attributes: bool
    ) -> tuple[Scores, Scores]:
        """List the best category or all, and the attributes above their threshold or all."""
        some = prediction.describe()
        if not (all_categories or all_attributes):
            return some["categories"][:1], some["attributes"]
        everything = prediction.describe(all_scores=True)
        return (
            everything["categories"] if all_categories else some["categories"][:1],
            everything["attributes"] if all_attributes else some["attributes"],
        )
