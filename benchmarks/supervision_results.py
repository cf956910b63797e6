"""What `supervision.py` measured, with bootstrap intervals over test photos."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scoring import average_precision, draw_photos, interval, share_right
from supervision_plan import BY_NAME, UNSUPERVISED, Part, Variant

Resampled = NDArray[np.float64]
"""(1 + B,): a measure on all photos, then on B resamples."""

ATTRIBUTES, CATEGORY = "attribute_map", "category_accuracy"
_UNKNOWN = 0  # a category below it is unknown


@dataclass(frozen=True)
class Estimate:
    """A measure on all photos, with its 95 % interval over photos.

    Attributes:
        value: On all photos, mean over seeds.
        low, high: The interval.
        seeds: Of each seed.
    """

    value: float
    low: float
    high: float
    seeds: tuple[float, ...] = ()

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON values."""
        told: dict[str, Any] = {
            "value": round(self.value, 4),
            "95%": [round(self.low, 4), round(self.high, 4)],
        }
        if self.seeds:
            told["seeds"] = [round(each, 4) for each in self.seeds]
        return told


def estimate(resampled: Resampled, seeds: Sequence[float] = ()) -> Estimate:
    """Sum up a measure, or a difference or ratio of measures."""
    return Estimate(float(resampled[0]), *interval(resampled[1:]), tuple(seeds))


class Measured:
    """The trainings of one variant on one set of photos.

    Args:
        scores: Of each seed: `category_scores` (N, K), `attribute_scores` (N, A), and what is true,
            `category` (N,) and `attributes` (N, A).
        counts: (1 + B, N): ones, then the resamples.
    """

    def __init__(self, scores: Sequence[dict[str, NDArray]], counts: NDArray[np.int64]) -> None:
        self._scores, self._counts = scores, counts

    @cached_property
    def precisions(self) -> NDArray[np.float64]:
        """Average precisions by seed and attribute, (seeds, A, 1 + B)."""
        return np.array(
            [
                [
                    average_precision(scores, true, self._counts)
                    for scores, true in zip(
                        each["attribute_scores"].T, each["attributes"].T, strict=True
                    )
                ]
                for each in self._scores
            ]
        )

    def attribute_map(self, chosen: Sequence[int] | None = None) -> NDArray[np.float64]:
        """Mean average precision of attributes by seed, (seeds, 1 + B).

        On each resample it is over those attributes that a photo of the resample has.
        """
        precisions = self.precisions if chosen is None else self.precisions[:, list(chosen)]
        known = ~np.isnan(precisions)
        with np.errstate(invalid="ignore"):  # 0 / 0 where a resample has none of them
            return np.where(known, precisions, 0).sum(axis=1) / known.sum(axis=1)

    @cached_property
    def category_accuracy(self) -> NDArray[np.float64]:
        """Share of photos with a known category whose category comes first, (seeds, 1 + B)."""
        shares = []
        for each in self._scores:
            known = each["category"] >= _UNKNOWN
            right = each["category_scores"].argmax(axis=1) == each["category"]
            shares.append(share_right(right[known], self._counts[:, known]))
        return np.array(shares)

    def measure(self, name: str) -> NDArray[np.float64]:
        """Give a measure by its name, (seeds, 1 + B)."""
        return self.attribute_map() if name == ATTRIBUTES else self.category_accuracy


class PartResults:
    """What was measured in one part.

    Only seeds count that all variants of the part have.

    Args:
        part: The part.
        runs: Folder of all results.
    """

    def __init__(self, part: Part, runs: Path) -> None:
        self.part = part
        found: dict[str, dict[int, Path]] = {}
        for variant in part.variants:
            paths = (runs / part.name).glob(f"{variant.name}-*.json")
            numbered = {path.stem.removeprefix(f"{variant.name}-"): path for path in paths}
            seeds = {int(seed): path for seed, path in numbered.items() if seed.isdecimal()}
            if seeds:
                found[variant.name] = seeds
        every = [set(seeds) for seeds in found.values()]
        self.seeds = sorted(set.intersection(*every)) if every else []
        self.variants = tuple(BY_NAME[name] for name in found) if self.seeds else ()
        self._paths = found
        self._measured: dict[tuple[str, str], Measured] = {}

    @cached_property
    def told(self) -> dict[str, list[dict[str, Any]]]:
        """Each variant's JSON files, by seed."""
        return {
            variant.name: [
                json.loads(self._paths[variant.name][seed].read_text(encoding="utf-8"))
                for seed in self.seeds
            ]
            for variant in self.variants
        }

    @property
    def attributes(self) -> list[str]:
        """Names of the attributes, in the order of the scores."""
        return self.told[self.variants[0].name][0]["attributes"]

    @cached_property
    def frequency(self) -> NDArray[np.int64]:
        """How many test photos have each attribute, (A,)."""
        return self._load(self.variants[0].name, self.seeds[0], "test")["attributes"].sum(axis=0)

    def photos(self, split: str = "test") -> list[str]:
        """List the photos of a set; empty if it was not measured."""
        images = self._load(self.variants[0].name, self.seeds[0], split).get("images", ())
        return [str(image) for image in images]

    def of(self, variant: Variant | str, split: str = "test") -> Measured:
        """Give a variant's trainings on `test`, on `pasted`, or on their originals, `unpasted`."""
        name = variant if isinstance(variant, str) else variant.name
        if (name, split) not in self._measured:
            scores = [self._load(name, seed, split) for seed in self.seeds]
            count = len(scores[0]["images"])
            counts = np.vstack([np.ones((1, count), np.int64), draw_photos(count, seed=0)])
            self._measured[name, split] = Measured(scores, counts)
        return self._measured[name, split]

    def has(self, *names: str) -> bool:
        """Say whether variants were measured."""
        return set(names) <= {variant.name for variant in self.variants}

    def validation(self, name: str, measure: str = ATTRIBUTES) -> float:
        """Give a measure on the validation split, mean over seeds."""
        return float(np.mean([told["validation"][measure] for told in self.told[name]]))

    def best_unsupervised(self) -> str | None:
        """Name the unsupervised variant with the best attribute mAP on the validation split."""
        there = [each.name for each in UNSUPERVISED if self.has(each.name)]
        return max(there, key=self.validation) if there else None

    def difference(
        self, first: str, second: str, measure: str = ATTRIBUTES, split: str = "test"
    ) -> Estimate:
        """Compare two variants on the same photos: the first less the second."""
        pair = (self.of(name, split).measure(measure) for name in (first, second))
        gap = np.subtract(*pair)  # (seeds, 1 + B)
        return estimate(gap.mean(axis=0), gap[:, 0].tolist())

    def change(self, name: str, base: PartResults, measure: str = ATTRIBUTES) -> Estimate | None:
        """Compare a variant with itself in another part, which has the same test photos.

        Only seeds count that both have; None if there are none, or the photos are others.
        """
        same = self.part.data == base.part.data and self.photos() == base.photos()
        seeds = [seed for seed in self.seeds if seed in base.seeds]
        if not same or not seeds:
            return None
        here, there = (
            part.of(name).measure(measure)[[part.seeds.index(seed) for seed in seeds]]
            for part in (self, base)
        )
        gap = here - there  # (seeds, 1 + B)
        return estimate(gap.mean(axis=0), gap[:, 0].tolist())

    def ratio(self, first: str, second: str, measure: str = ATTRIBUTES) -> Estimate:
        """Divide a variant's measure, mean over seeds, by another's."""
        above, below = (self.of(name).measure(measure).mean(axis=0) for name in (first, second))
        return estimate(above / below)

    def of_attributes(self, first: str, second: str, chosen: Sequence[int]) -> Estimate:
        """As `difference`, of the mAP of some attributes."""
        pair = (self.of(name).attribute_map(chosen) for name in (first, second))
        gap = np.subtract(*pair)
        return estimate(gap.mean(axis=0), gap[:, 0].tolist())

    def _load(self, name: str, seed: int, split: str) -> dict[str, NDArray]:
        path = self._paths[name][seed].with_suffix(".npz")
        source = "test" if split == "unpasted" else split
        with np.load(path, allow_pickle=False) as file:
            arrays = {
                key.removeprefix(f"{source}_"): file[key]
                for key in file.files
                if key.startswith(f"{source}_")
            }
            if split == "unpasted":
                kept = np.isin(arrays["images"], file["pasted_images"])
                arrays = {key: values[kept] for key, values in arrays.items()}
        return arrays
