"""Photos to lines with one model on this machine. Engines differ in how many of these there are."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from vsam_heatmaps.photos import Photo

from ..attention_maps import shrink
from ..prediction_files import remove_attention, shrink_for_overlay, write_attention
from ..predictions import Tagged
from . import pictures
from .lines import Block, Line, Task, form_of, stamp_of_photo
from .options import FolderOptions

DECODERS = 4
"""Threads that decode photos, unless the user asks for another number."""


class Tagger:
    """Tags photos as the options say; pictures of the attention are written on the way.

    Args:
        run: The model's folder.
        options: How.
        decoders: Threads that decode.

    Attributes:
        form: See `form_of`.

    Raises:
        VsamError: As `Predictor.from_run`.
    """

    def __init__(self, run: Path, options: FolderOptions, decoders: int) -> None:
        from ..predictor import Predictor

        self._options, self._decoders = options, decoders
        self._predictor = Predictor.from_run(
            run,
            device=options.device,
            precision=options.precision,
            calibrated=options.calibrated,
            thresholds=options.thresholds,
        )
        # A model that can't run at all fails here, where no photo is to blame.
        size = self._predictor.preprocessing.image_size
        grey = np.full((size, size, 3), 127, np.uint8)
        said: dict[str, Any] = self._predictor.predict([grey])[0].describe(all_scores=True)
        self.form = form_of(said)

    def blocks(self, tasks: Iterable[Task]) -> Generator[Block, None, None]:
        """Tag photos in order; give a block for each batch of the model.

        Raises:
            VsamError: If a picture can't be written.
        """
        waiting: deque[tuple[Task, Any]] = deque()

        def photos() -> Iterator[Photo]:
            for task in tasks:
                waiting.append((task, stamp_of_photo(task.photo)))
                yield task.photo

        options = self._options
        lines = (
            self._line(tagged, *waiting.popleft())
            for tagged in self._predictor.predict_files(
                photos(),
                batch_size=options.batch_size,
                workers=self._decoders,
                max_pixels=options.max_pixels,
                reduced=options.reduced,
                also=self._kept_of_photo(),
            )
        )
        while block := list(islice(lines, options.batch_size)):
            yield block, self.form

    def _kept_of_photo(self) -> Any:
        if self._options.attention is not None:
            return shrink_for_overlay
        if self._options.report is not None:
            return lambda photo: shrink(photo, pictures.SIDE)
        return None

    def _line(self, tagged: Tagged, task: Task, stamp: Any) -> Line:
        options, prediction = self._options, tagged.prediction
        if prediction is None:
            if options.attention is not None:  # what was there before may have had one
                remove_attention(options.attention, tagged.photo.id)
            return Line(tagged.photo.id, stamp, {"error": tagged.error})
        entry = prediction.describe(threshold=options.threshold, all_scores=options.all_scores)
        above = entry
        if options.all_scores:
            above = prediction.describe(threshold=options.threshold)
        said = tuple(attribute["label"] for attribute in above["attributes"])
        if options.attention is not None and not task.again:
            drawn = prediction.picture(tagged.extra, threshold=options.threshold)
            write_attention(options.attention, tagged.photo.id, drawn)
        picture = None
        if task.picture:
            picture = pictures.make_picture(tagged.extra, prediction.attention)
        return Line(tagged.photo.id, stamp, entry, said, picture)
