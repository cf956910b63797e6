"""Tables and a picture of what `attention.py` measures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from attention_data import Data, Truth
from numpy.typing import NDArray
from scoring import share_interval

from vsam.attention_maps import distribution, share_inside, stretch
from vsam_datasets.tables import LabelRow
from vsam_heatmaps.images import read_photo
from vsam_heatmaps.overlays import caption, fit_tile, heat_overlay

Values = NDArray[np.float64]
Image = NDArray[np.uint8]

MEASURES = {
    "person_share": "person: share",
    "person_share_above_minimum": "above the minimum",
    "person_pointing": "pointing",
    "garment_share": "garment: share",
    "garment_share_above_minimum": "above the minimum",
    "garment_pointing": "pointing",
}
"""The measures and their headings."""

ATTENTION, GRAD_CAM = "attention", "grad-cam"
REFERENCES = ("even map", "centred Gaussian", "average heatmap")
WITH, WITHOUT, PLAIN = "pose", "no-pose", "plain"
"""The models: with pose supervision, without it, and without an attention block."""

_TILE = (150, 200)  # width and height in pixels
_SHOWN = 5  # photos of each data set
_PERSON, _GARMENT = (255, 170, 60), (50, 120, 255)


@dataclass(frozen=True)
class Row:
    """A line of the tables: the maps of one kind that the runs of one model make.

    Attributes:
        title: What the table calls it.
        model: Which model, or none for a reference.
        kind: Which of its maps.
    """

    title: str
    model: str
    kind: str


def rows(pose_weight: float) -> list[Row]:
    """List the lines; the first is what the others are compared with."""
    return [
        Row(f"VSAM, λ = {pose_weight:g}: attention", WITH, ATTENTION),
        Row("VSAM, λ = 0: attention", WITHOUT, ATTENTION),
        Row("VGG-16 without attention: Grad-CAM", PLAIN, GRAD_CAM),
        Row(f"VSAM, λ = {pose_weight:g}: Grad-CAM", WITH, GRAD_CAM),
        Row("VSAM, λ = 0: Grad-CAM", WITHOUT, GRAD_CAM),
        *(Row(name, "", name) for name in REFERENCES),
    ]


class Results:
    """What was measured on one data set.

    Args:
        folder: Of the JSON files.
        seeds: Which trainings count.
        pose_weight: λ.
        seed: Of the bootstrap.
    """

    def __init__(self, folder: Path, seeds: Sequence[int], pose_weight: float, seed: int = 0):
        self._seed = seed
        self._runs: dict[str, list[dict[str, Any]]] = {"": [_read(folder / "references.json")]}
        for model in (WITH, WITHOUT, PLAIN):
            paths = [folder / f"{model}-{number}.json" for number in seeds]
            if all(path.is_file() for path in paths):
                self._runs[model] = [_read(path) for path in paths]
        self.rows = [row for row in rows(pose_weight) if row.model in self._runs]
        self.photos = len(self._runs[""][0]["images"])

    def values(self, row: Row, measure: str) -> Values:
        """Give a measure of each photo, by seed: (seeds, photos)."""
        return np.array([run["scores"][row.kind][measure] for run in self._runs[row.model]])

    def accuracy(self, row: Row) -> float | None:
        """Give the mean category accuracy of a model's runs; None for a reference."""
        runs = self._runs[row.model]
        return float(np.mean([run["category_accuracy"] for run in runs])) if row.model else None

    def summary(self) -> list[dict[str, Any]]:
        """Give each line's means, with intervals over photos and the spread over seeds."""
        return [
            {"map": row.title, "category_accuracy": self.accuracy(row)}
            | {key: self._sum_up(self.values(row, key)) for key in MEASURES}
            for row in self.rows
        ]

    def differences(self) -> list[dict[str, Any]]:
        """Compare the first line with each of the others, photo by photo."""
        first = self.rows[0]
        if first.model != WITH:
            return []
        return [
            {"minus": row.title}
            | {
                # A reference has one row, which is broadcast over the seeds.
                key: self._sum_up(self.values(first, key) - self.values(row, key))
                for key in MEASURES
            }
            for row in self.rows[1:]
        ]

    def _sum_up(self, values: Values) -> dict[str, Any]:
        """Average over seeds, then over photos; the bootstrap draws photos."""
        by_photo = values.mean(axis=0)  # (seeds, photos) -> (photos,)
        low, high = share_interval(by_photo, np.ones_like(by_photo), self._seed)
        return {
            "mean": round(float(by_photo.mean()), 4),
            "95%": [round(low, 4), round(high, 4)],
            "seeds": [round(float(each), 4) for each in values.mean(axis=1)],
        }


def markdown(results: Mapping[str, Results], settings: Mapping[str, Any]) -> str:
    """Write the tables of all data sets."""
    lines = ["# What the attention looks at", ""]
    for name, result in results.items():
        lines += [f"## {name}: {result.photos} photos", ""]
        lines += _table(
            ["", *MEASURES.values(), "category accuracy"],
            (
                [entry["map"], *(_cell(entry[key]) for key in MEASURES), _plain(entry)]
                for entry in result.summary()
            ),
        )
        differences = result.differences()
        if differences:
            lines += [f"{result.rows[0].title}, minus:", ""]
            lines += _table(
                ["", *MEASURES.values()],
                ([e["minus"], *(_cell(e[key], signed=True) for key in MEASURES)]
                 for e in differences),
            )  # fmt: skip
    lines += [
        "Mean over photos and seeds, in brackets its 95 % bootstrap interval over photos; of",
        "differences in square brackets the seeds with the sign of the mean.",
        "",
        f"Settings: `{json.dumps(settings)}`",
        "",
    ]
    return "\n".join(lines)


def _table(header: Sequence[str], body: Iterator[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *body]
    return [f"| {' | '.join(cells)} |" for cells in lines] + [""]


def _cell(value: Mapping[str, Any], *, signed: bool = False) -> str:
    form = "+.3f" if signed else ".3f"
    low, high = value["95%"]
    text = f"{value['mean']:{form}} ({low:{form}} to {high:{form}})"
    if signed:
        same = sum(each * value["mean"] > 0 for each in value["seeds"])
        text += f" [{same} of {len(value['seeds'])}]"
    return text


def _plain(entry: Mapping[str, Any]) -> str:
    accuracy = entry["category_accuracy"]
    return "" if accuracy is None else f"{accuracy:.3f}"


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def draw_rows(
    data: Data, result: Results, maps: Callable[[str, Sequence[Path]], Sequence[Mapping[str, Any]]]
) -> Image:
    """Draw photos of one data set: the photo, its masks, and the maps of each line of the table.

    Args:
        data: The data set.
        result: Says which lines there are.
        maps: Gives the maps of photos, by kind, of a model.
    """
    chosen = _varied(data.measured(), _SHOWN)
    photos = [data.photos / row.image for row in chosen]
    shown = [row for row in result.rows if row.model]
    by_model = {model: maps(model, photos) for model in {row.model for row in shown}}
    width, height = _TILE
    lines = []
    for index, (row, path) in enumerate(zip(chosen, photos, strict=True)):
        photo, truth = read_photo(path), data.truth(row)
        tiles = [(row.category, photo), ("person, garment", tinted(photo, truth))]
        for line in shown:
            each = by_model[line.model][index][line.kind]
            share = share_inside(distribution(each, truth.person.shape), truth.person)
            tiles.append((f"on the person {share:.2f}", heat_overlay(photo, stretch(each))))
        lines.append(
            np.hstack(
                [
                    np.vstack([caption(width, text), fit_tile(image, width, height)])
                    for text, image in tiles
                ]
            )
        )
    titles = [data.name, "", *(line.title for line in shown)]
    head = np.hstack([_title(width, text) for text in titles])
    return np.vstack([head, *lines])


def tinted(photo: Image, truth: Truth) -> Image:
    """Colour person and garment in a grey photo, (H, W, 3) uint8 RGB."""
    import cv2

    height, width = photo.shape[:2]
    grey = np.repeat(photo.mean(axis=2, keepdims=True), 3, axis=2) * 0.6  # (H, W, 3)
    for mask, colour in ((truth.person, _PERSON), (truth.garment, _GARMENT)):
        sized = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=0) > 0
        grey[sized] = grey[sized] * 0.5 + np.array(colour) * 0.5
    return np.rint(grey).astype(np.uint8)


def _title(width: int, text: str) -> Image:
    """Set a title in two lines, broken after its colon."""
    text = text.replace("λ", "lambda")
    first, _, second = text.partition(": ")
    return np.vstack([caption(width, first), caption(width, second)])


def _varied(every: Sequence[LabelRow], count: int) -> list[LabelRow]:
    """Pick photos in the table's order, of as many categories as possible."""
    seen: dict[str, int] = {}
    turns = []
    for position, row in enumerate(every):
        turns.append((seen.get(row.category, 0), position))
        seen[row.category] = seen.get(row.category, 0) + 1
    return [every[position] for _, position in sorted(turns)[:count]]
