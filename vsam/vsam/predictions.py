"""What a model says about a photo: scores, names, attention. Arrays of numpy, nothing of torch."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from vsam_heatmaps.errors import VsamError, expected
from vsam_heatmaps.photos import Photo

from .attention_maps import attention_overlay, region_picture, shrink
from .labels import Labels
from .photo_inputs import PhotoLike, read

TOP_CATEGORIES = 5


class LabelScore(NamedTuple):
    """A category or an attribute with its probability, 0..1."""

    label: str
    score: float


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Prediction:
    """What the model says about one photo.

    Attributes:
        category_scores: (K,) float32, probabilities that sum to 1.
        attribute_scores: (A,) float32, one probability each.
        attention: (R, S, S) float32, at least 0, over the squashed photo. The published model has
            R = 1 map, with pixels in 0..1; region attention one for each region, which sums to 1; a
            model without attention none.
        labels: Names of the K categories and A attributes; all predictions of a model share them.
        thresholds: (A,) float32; attributes with a score above theirs are predicted. Shared, too.
        regions: Names of the maps with region attention, else none.
        contributions: (R, A) float32: what each region adds to each attribute's logit, beyond what
            it adds in an average photo; R = 0 without region attention.
        source: The photo that `overlay` draws on; for arrays and images out of a list a weak
            reference, so that predictions never keep photos in memory.
    """

    category_scores: NDArray[np.float32]
    attribute_scores: NDArray[np.float32]
    attention: NDArray[np.float32]
    labels: Labels
    thresholds: NDArray[np.float32]
    regions: tuple[str, ...] = ()
    contributions: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    source: PhotoLike | weakref.ref[Any] | None = None

    @property
    def category(self) -> str:
        """The likeliest category."""
        return self.labels.categories[int(self.category_scores.argmax())]

    @property
    def score(self) -> float:
        """The probability of that category, 0..1."""
        return float(self.category_scores.max())

    @property
    def categories(self) -> list[LabelScore]:
        """The best five categories, the likeliest first."""
        return self.top_categories(TOP_CATEGORIES)

    @property
    def attributes(self) -> list[LabelScore]:
        """The attributes above their thresholds, the likeliest first."""
        return _ranked(self.labels.attributes, self.attribute_scores, self.thresholds)

    def top_categories(self, count: int) -> list[LabelScore]:
        """List the best categories, the likeliest first."""
        return _ranked(self.labels.categories, self.category_scores)[:count]

    def spoke(self, attribute: str) -> str:
        """Name the region that spoke loudest for an attribute.

        Raises:
            VsamError: If the model has no region attention, or no such attribute.
        """
        if not self.regions:
            raise VsamError(
                "Expected the model to have region attention, but it has none: it was not trained "
                "with --attention regions."
            )
        if attribute not in self.labels.attributes:
            raise expected("attribute", "one of the model's", repr(attribute))
        return self._speakers()[attribute]

    def _speakers(self) -> dict[str, str]:
        """Name each attribute's region; none without region attention."""
        if not self.regions:
            return {}
        loudest = self.contributions.argmax(axis=0).tolist()  # (R, A) -> (A,)
        return {
            name: self.regions[index]
            for name, index in zip(self.labels.attributes, loudest, strict=True)
        }

    def describe(
        self, *, threshold: float | None = None, all_scores: bool = False
    ) -> dict[str, Any]:
        """Say it in JSON's values: `category`, `score`, `categories` and `attributes`.

        With region attention each attribute has a `region`, the one that spoke for it.

        Args:
            threshold: Attributes above it are listed; by default those above `thresholds`.
            all_scores: List every category and attribute, not the best five and those above.
        """
        # As float32, like the scores: 0.3 is not above 0.3.
        least = self.thresholds if threshold is None else np.full(1, threshold, np.float32)
        categories = self.top_categories(len(self.labels.categories))
        attributes = _ranked(
            self.labels.attributes, self.attribute_scores, None if all_scores else least
        )
        speakers = self._speakers()
        return {
            "category": categories[0].label,
            "score": round(categories[0].score, 6),
            "categories": _entries(categories if all_scores else categories[:TOP_CATEGORIES]),
            "attributes": [
                entry | ({"region": speakers[entry["label"]]} if speakers else {})
                for entry in _entries(attributes)
            ],
        }

    def overlay(
        self,
        photo: PhotoLike | None = None,
        *,
        size: int | None = None,
        region: str | None = None,
    ) -> NDArray[np.uint8]:
        """Draw the attention over the photo, stretched to its own range.

        Several maps are shown by their maximum, each at its own range.

        Args:
            photo: What to draw on; by default the photo that was given to the predictor. A path is
                read again.
            size: The picture's longer side in pixels at most; by default the photo's own size.
            region: Show the map of this region alone.

        Returns:
            (H, W, 3) uint8 RGB.

        Raises:
            UnreadablePhotoError: If the photo can't be read.
            VsamError: If the model has no attention, or no such region, or the photo is not known
                any more.
        """
        if region is not None and region not in self.regions:
            raise expected("region", f"one of {', '.join(self.regions) or 'none'}", repr(region))
        pixels = self._pixels(photo, size)
        if region is None:
            return attention_overlay(pixels, self.attention)
        index = self.regions.index(region)
        return attention_overlay(pixels, self.attention[index : index + 1])

    def picture(
        self,
        photo: PhotoLike | None = None,
        *,
        size: int | None = None,
        threshold: float | None = None,
    ) -> NDArray[np.uint8]:
        """Draw what the model looked at, and with region attention who spoke for what.

        Args:
            photo: As for `overlay`.
            size: The longer side of each picture in it, as for `overlay`.
            threshold: Attributes above it are named; by default those above `thresholds`.

        Returns:
            (H, W, 3) uint8 RGB: the overlay; with region attention one beside it for each region
            that spoke for an attribute, with their names above.

        Raises:
            UnreadablePhotoError, VsamError: As `overlay`.
        """
        pixels = self._pixels(photo, size)
        if not self.regions:
            return attention_overlay(pixels, self.attention)
        said: dict[str, list[str]] = {}
        for entry in self.describe(threshold=threshold)["attributes"]:
            said.setdefault(entry["region"], []).append(entry["label"])
        return region_picture(pixels, dict(zip(self.regions, self.attention, strict=True)), said)

    def _pixels(self, photo: PhotoLike | None, size: int | None) -> NDArray[np.uint8]:
        """Read the photo to draw on, shrunk if need be."""
        if size is not None and size < 1:
            raise expected("size", "at least 1", size)
        if photo is None:
            photo = self.source() if isinstance(self.source, weakref.ref) else self.source
        if photo is None:
            raise VsamError(
                "Expected `photo` to be given, because the prediction has no photo to draw on: it "
                "is not kept in memory. Give it: prediction.overlay(photo)."
            )
        pixels = read(photo)
        if size is not None:
            pixels = shrink(pixels, size)
        return pixels

    def __repr__(self) -> str:
        said = ", ".join(f"{name} {score:.2f}" for name, score in self.attributes)
        return f"<Prediction {self.category} {self.score:.2f}; {said or 'no attributes'}>"

    def __getstate__(self) -> dict[str, Any]:
        """Leave a weak reference out: it can't be pickled."""
        weak = isinstance(self.source, weakref.ref)
        return vars(self) | ({"source": None} if weak else {})


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


def weakly(photo: PhotoLike) -> PhotoLike | weakref.ref[Any]:
    """Refer to a photo without keeping its pixels in memory; a path stays a path."""
    return weakref.ref(photo) if isinstance(photo, np.ndarray | Image) else photo


def _ranked(
    names: Sequence[str],
    scores: NDArray[np.float32],
    thresholds: NDArray[np.float32] | None = None,
) -> list[LabelScore]:
    order = np.argsort(-scores, kind="stable")  # equal scores keep the order of the labels
    if thresholds is not None:
        order = order[(scores > thresholds)[order]]
    return [LabelScore(names[i], float(scores[i])) for i in order]


def _entries(ranked: Sequence[LabelScore]) -> list[dict[str, Any]]:
    return [{"label": label, "score": round(score, 6)} for label, score in ranked]
