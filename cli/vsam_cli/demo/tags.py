"""What a model said about a photo beside what is true, for sheet and report."""

from __future__ import annotations

from dataclasses import dataclass

from vsam.predictor import Prediction
from vsam.run_folder import Labels
from vsam_datasets.tables import LabelRow


@dataclass(frozen=True)
class Tag:
    """One label with its score.

    Attributes:
        label: The category or attribute.
        score: Probability, 0..1.
        said: Whether the model predicts it.
        true: Whether it holds.
        region: Who spoke for an attribute, else "".
    """

    label: str
    score: float
    said: bool
    true: bool
    region: str = ""

    @property
    def right(self) -> bool:
        """Whether model and truth agree."""
        return self.said == self.true


def category_tags(row: LabelRow, prediction: Prediction, labels: Labels) -> list[Tag]:
    """List the predicted category, and after it the true one where it differs."""
    scores = dict(zip(labels.categories, prediction.category_scores.tolist(), strict=True))
    best = max(scores, key=lambda name: scores[name])
    tags = [Tag(best, scores[best], True, best == row.category)]
    if best != row.category:
        tags.append(Tag(row.category, scores[row.category], False, True))
    return tags


def attribute_tags(
    row: LabelRow, prediction: Prediction, labels: Labels, threshold: float
) -> list[Tag]:
    """List the attributes that are predicted or true, the likeliest first."""
    tags = [
        Tag(name, score, score > threshold, name in row.attributes, prediction.spoke(name))
        for name, score in zip(labels.attributes, prediction.attribute_scores.tolist(), strict=True)
    ]
    return sorted((tag for tag in tags if tag.said or tag.true), key=lambda tag: -tag.score)
