"""Let a model tag labelled photos, and say how well it does: as a whole, and label by label."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from vsam_datasets.pairs import UNKNOWN_CATEGORY
from vsam_datasets.tables import LabelRow
from vsam_heatmaps.atomic import write_text
from vsam_heatmaps.errors import VsamError
from vsam_heatmaps.images import MAX_PIXELS
from vsam_heatmaps.photos import Photo
from vsam_heatmaps.progress import track

from .calibration import calibration_error, fit_calibration, has_labels, log_likelihood_loss
from .evaluation import (
    Metrics,
    attribute_f1,
    attribute_recall,
    average_precisions,
    compute_metrics,
)
from .labels import Labels
from .prediction_files import table_writer
from .predictor import Predictor
from .run_folder import save_calibration

_log = logging.getLogger("vsam")


@dataclass(frozen=True)
class Scored:
    """What a model says about N labelled photos, and what is true.

    Attributes:
        category_scores: (N, K) float32, probabilities.
        attribute_scores: (N, A) float32, probabilities.
        category: (N,) int64, `UNKNOWN_CATEGORY` where unknown.
        attributes: (N, A) float32, 0 or 1.
    """

    category_scores: torch.Tensor
    attribute_scores: torch.Tensor
    category: torch.Tensor
    attributes: torch.Tensor

    @property
    def category_logits(self) -> torch.Tensor:
        """Logits that give the scores, (N, K): their logarithms, above float32's smallest."""
        return self.category_scores.clamp(min=torch.finfo(torch.float32).tiny).log()


def score_photos(
    predictor: Predictor,
    rows: Sequence[LabelRow],
    photos: Path,
    *,
    batch_size: int = 32,
    workers: int = 4,
    max_pixels: int = MAX_PIXELS,
    progress: bool = False,
    unreadable: list[tuple[str, str]] | None = None,
) -> Scored:
    """Tag labelled photos.

    What the labels name and the model doesn't know is left out, which is told.

    Args:
        predictor: The model.
        rows: The photos, at least one, and their labels.
        photos: Folder that their images are relative to.
        batch_size: Photos in one forward pass.
        workers: Threads that decode photos.
        max_pixels: Photos with more pixels can't be read.
        progress: Show progress on stderr.
        unreadable: Takes id and reason of photos that can't be read, which are then left out. None:
            the first of them is an error, as figures would be of other photos than was asked.

    Raises:
        VsamError: If a photo can't be read and none may be left out, none at all can be read, or
            the model knows none of the labels.
    """
    category, attributes = _targets(rows, predictor.labels)
    kept: list[int] = []
    scores: list[tuple[torch.Tensor, torch.Tensor]] = []
    files = (Photo(row.image, photos / row.image) for row in rows)
    with track(len(rows), "evaluate", shown=progress) as bar:
        for number, tagged in enumerate(
            predictor.predict_files(
                files, batch_size=batch_size, workers=workers, max_pixels=max_pixels
            )
        ):
            bar.update()
            found = tagged.prediction
            if found is None and unreadable is not None:
                unreadable.append((tagged.photo.id, tagged.error))
                continue
            if found is None:
                raise VsamError(
                    f"Could not read {tagged.photo}: {tagged.error}. Mend the photo, take its line "
                    "out of --data, or leave out all such photos with --on-error skip."
                )
            kept.append(number)
            scores.append(
                (torch.from_numpy(found.category_scores), torch.from_numpy(found.attribute_scores))
            )
    if not scores:
        raise VsamError(f"Expected photos in {photos} to be readable, but none is. Check --photos.")
    category_scores, attribute_scores = (torch.stack(part) for part in zip(*scores, strict=True))
    return Scored(category_scores, attribute_scores, category[kept], attributes[kept])


def _targets(rows: Sequence[LabelRow], labels: Labels) -> tuple[torch.Tensor, torch.Tensor]:
    """Bring labels into the model's order: (N,) and (N, A), as in `Scored`."""
    classes = {name: index for index, name in enumerate(labels.categories)}
    outputs = {name: index for index, name in enumerate(labels.attributes)}
    category = torch.tensor([classes.get(row.category, UNKNOWN_CATEGORY) for row in rows])
    attributes = torch.zeros(len(rows), len(outputs))
    for number, row in enumerate(rows):
        attributes[number, [outputs[name] for name in row.attributes if name in outputs]] = 1
    given = {row.category for row in rows if row.category}
    named = {name for row in rows for name in row.attributes}
    if (given or named) and not (given & set(classes) or named & set(outputs)):
        raise VsamError(
            f"Expected the labels to be those of the model, but it knows none of them: they name "
            f"{min(given or named)!r}, the model {labels.categories[0]!r}."
        )
    for kind, unknown in {
        "categories": given - set(classes),
        "attributes": named - set(outputs),
    }.items():
        if unknown:
            _log.warning(
                "The model does not know %d of the labels' %s, for instance %r: they are left out.",
                len(unknown),
                kind,
                min(unknown),
            )
    return category, attributes


@dataclass(frozen=True)
class Evaluation:
    """How well a model does on N labelled photos; NaN where no label allows to say it.

    Attributes:
        metrics: Accuracy, top 3, attribute mAP and chance.
        attribute_recall_top3: See `attribute_recall`.
        attribute_recall_top5: The same with five.
        attribute_f1_micro: See `F1`; at the predictor's thresholds.
        attribute_f1_macro: See `F1`.
        category_nll: See `log_likelihood_loss`.
        category_ece: See `calibration_error`.
    """

    metrics: Metrics
    attribute_recall_top3: float
    attribute_recall_top5: float
    attribute_f1_micro: float
    attribute_f1_macro: float
    category_nll: float
    category_ece: float

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON values; NaN becomes null."""
        values = asdict(self)
        values = values.pop("metrics") | values
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in values.items()
        }


def evaluate_scores(scored: Scored, thresholds: torch.Tensor) -> Evaluation:
    """Compute all figures.

    Args:
        scored: What the model said.
        thresholds: (A,) float32; a score above says yes.
    """
    f1 = attribute_f1(scored.attribute_scores > thresholds, scored.attributes)
    return Evaluation(
        metrics=compute_metrics(
            scored.category_scores, scored.attribute_scores, scored.category, scored.attributes
        ),
        attribute_recall_top3=attribute_recall(scored.attribute_scores, scored.attributes, 3),
        attribute_recall_top5=attribute_recall(scored.attribute_scores, scored.attributes, 5),
        attribute_f1_micro=f1.micro,
        attribute_f1_macro=f1.macro,
        category_nll=log_likelihood_loss(scored.category_logits, scored.category),
        category_ece=calibration_error(scored.category_logits, scored.category),
    )


def write_per_label(path: Path, scored: Scored, labels: Labels, thresholds: torch.Tensor) -> None:
    """Write a CSV file with a row for each label: kind, label, count, ap, threshold, f1.

    `count` is how many photos have it, `ap` its average precision. A category is predicted where it
    comes first, so it has no threshold; photos without a known category don't count for it. Cells
    are empty where no photo has the label.

    Raises:
        VsamError: If the file can't be written.
    """
    file = io.StringIO()
    table = table_writer(file)
    table.writerow(["kind", "label", "count", "ap", "threshold", "f1"])
    known = scored.category != UNKNOWN_CATEGORY
    scores, classes = scored.category_scores[known], len(labels.categories)
    true = torch.nn.functional.one_hot(scored.category[known], classes)
    first = torch.nn.functional.one_hot(scores.argmax(dim=1), classes).bool()
    table.writerows(_label_rows("category", labels.categories, scores, true, first, None))
    table.writerows(
        _label_rows(
            "attribute",
            labels.attributes,
            scored.attribute_scores,
            scored.attributes,
            scored.attribute_scores > thresholds,
            thresholds,
        )
    )
    write_text(path, file.getvalue())


def _label_rows(
    kind: str,
    names: Sequence[str],
    scores: torch.Tensor,
    true: torch.Tensor,
    decided: torch.Tensor,
    thresholds: torch.Tensor | None,
) -> Iterator[list[object]]:
    counts = (true > 0).sum(dim=0).tolist()
    precisions = average_precisions(scores, true).tolist()
    f1 = attribute_f1(decided, true).each.tolist()
    limits = [""] * len(names) if thresholds is None else map(_cell, thresholds.tolist())
    columns = (names, counts, map(_cell, precisions), limits, map(_cell, f1))
    for row in zip(*columns, strict=True):
        yield [kind, *row]


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def calibrate_run(
    run: Path,
    predictor: Predictor,
    rows: Sequence[LabelRow],
    photos: Path,
    *,
    batch_size: int = 32,
    workers: int = 4,
    max_pixels: int = MAX_PIXELS,
    progress: bool = False,
    unreadable: list[tuple[str, str]] | None = None,
) -> dict[str, float]:
    """Fit a run's calibration on labelled photos and put it into its `config.json`.

    Args:
        run: The run folder.
        predictor: Its model, not calibrated.
        rows: See `score_photos`, as the rest.
        photos: See there.
        batch_size: See there.
        workers: See there.
        max_pixels: See there.
        progress: See there.
        unreadable: See there.

    Returns:
        What was fitted, and the figures before and after: `photos`, `temperature`, then
        `category_nll_before` and so on. They are of the photos that were fitted on.

    Raises:
        VsamError: As `score_photos`, if no photo has a label that the model knows, or if the file
            can't be written.
    """
    scored = score_photos(
        predictor,
        rows,
        photos,
        batch_size=batch_size,
        workers=workers,
        max_pixels=max_pixels,
        progress=progress,
        unreadable=unreadable,
    )
    logits, truth = scored.category_logits, (scored.category, scored.attributes)
    if not has_labels(*truth):
        raise VsamError(
            f"Expected the photos to calibrate {run} with to have labels, but none has one that it "
            "knows. Check --data and --split."
        )
    calibration = fit_calibration(
        logits, scored.attribute_scores, *truth, threshold=predictor.threshold
    )
    save_calibration(run, calibration)
    own = torch.tensor(calibration.thresholds, dtype=torch.float32)
    report: dict[str, float] = {
        "photos": len(scored.category),
        "temperature": calibration.temperature,
    }
    temperatures = {"before": 1.0, "after": calibration.temperature}
    for name, figure in {
        "category_nll": log_likelihood_loss,
        "category_ece": calibration_error,
    }.items():
        for when, temperature in temperatures.items():
            report[f"{name}_{when}"] = figure(logits, scored.category, temperature)
    f1 = {
        "before": attribute_f1(scored.attribute_scores > predictor.threshold, scored.attributes),
        "after": attribute_f1(scored.attribute_scores > own, scored.attributes),
    }
    for name in ("micro", "macro"):
        report |= {
            f"attribute_f1_{name}_{when}": getattr(found, name) for when, found in f1.items()
        }
    return report
