"""Photos with true masks for `attention.py`: Clothing Co-Parsing, and mannequins."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vsam_datasets.deepfashion import region_of
from vsam_datasets.mannequins import CATEGORIES, Part, write_mannequins
from vsam_datasets.tables import COLUMNS, LabelRow, read_labels
from vsam_heatmaps.atomic import write_text
from vsam_heatmaps.errors import VsamError, expected
from vsam_heatmaps.extraction import extract
from vsam_heatmaps.shards import Shards, Status

Mask = NDArray[np.bool_]

MANNEQUINS, CCP = "mannequins", "ccp"
"""The names of the data sets."""

# The classes of CCP's masks that show a category's garment, by the names in mask_labels.txt.
_CCP_GARMENTS = {
    "dress": ("dress",),
    "jeans": ("jeans",),
    "leggings": ("leggings",),
    "pants": ("pants",),
    "shorts": ("shorts",),
    "skirt": ("skirt",),
}
# What is carried is not the person, nor is the background.
_CCP_NOT_PERSON = ("null", "bag", "purse", "wallet")


@dataclass(frozen=True)
class Truth:
    """Where person and garment are in one photo.

    Attributes:
        person: (H, W), skin, hair and all that is worn, the garment included; not what is carried.
        garment: (H, W), the garment that makes the category.
    """

    person: Mask
    garment: Mask


@dataclass(frozen=True)
class Classes:
    """What the values of a data set's masks mean.

    Attributes:
        person: Values that show the person.
        garments: By category, the values that show its garment.
    """

    person: tuple[int, ...]
    garments: dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Data:
    """A data set, ready to train on and to measure.

    Attributes:
        name: For tables and folders.
        labels: The table.
        photos: Folder that its images are relative to.
        heatmaps: Folder of shards.
        masks: Folder of the masks, named as the photos.
        classes: What their values mean.
    """

    name: str
    labels: Path
    photos: Path
    heatmaps: Path
    masks: Path
    classes: Classes

    def measured(self) -> list[LabelRow]:
        """List the photos to measure: those of the test split with a category and a mask."""
        rows = [row for row in read_labels(self.labels).split("test") if self._has_truth(row)]
        if not rows:
            raise VsamError(
                f"Expected {self.labels} to have photos for testing with a category and a mask, "
                "but it has none. Take more photos."
            )
        return rows

    def truth(self, row: LabelRow) -> Truth:
        """Read the masks of one of them."""
        path = self._mask_path(row.image)
        values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if values is None or values.ndim != 2:
            raise VsamError(f"Expected {path} to be a picture with one byte a pixel.")
        truth = Truth(
            person=np.isin(values, self.classes.person),
            garment=np.isin(values, self.classes.garments[row.category]),
        )
        if not truth.garment.any():
            raise VsamError(f"Expected {path} to show the {row.category}, but it does not.")
        return truth

    def average_heatmap(self) -> NDArray[np.float64]:
        """Average the heatmaps that supervise the photos for training, each scaled to sum 1."""
        shards = Shards(self.heatmaps)
        total = np.zeros((shards.info.side, shards.info.side))
        for row in read_labels(self.labels).split("train"):
            if row.image in shards and shards.status(row.image) is Status.OK:
                heat = shards.regions(row.image, [region_of(row.category)])[0].astype(float)
                total += heat / max(heat.sum(), 1)
        return total

    def _has_truth(self, row: LabelRow) -> bool:
        return row.category in self.classes.garments and self._mask_path(row.image).is_file()

    def _mask_path(self, image: str) -> Path:
        return self.masks / f"{Path(image).stem}.png"


def prepare_mannequins(work: Path, count: int) -> Data:
    """Draw mannequins, or take those that are there, and find their poses."""
    folder = work / MANNEQUINS
    if not (folder / "labels.csv").is_file():  # written last
        write_mannequins(folder, count=count, seed=0, masks=True)
    every = dict.fromkeys(CATEGORIES, (int(Part.GARMENT),))
    return _with_heatmaps(
        Data(
            name=MANNEQUINS,
            labels=folder / "labels.csv",
            photos=folder / "photos",
            heatmaps=work / f"{MANNEQUINS}-heatmaps",
            masks=folder / "masks",
            classes=Classes((int(Part.PERSON), int(Part.GARMENT)), every),
        )
    )


def prepare_ccp(work: Path, ccp: Path, count: int | None) -> Data:
    """Take CCP's photos, or the first `count` that have a category and a mask."""
    labels = work / CCP / "labels.csv"
    data = Data(
        name=CCP,
        labels=labels,
        photos=ccp,
        heatmaps=work / f"{CCP}-heatmaps",
        masks=ccp / "masks",
        classes=_ccp_classes(ccp / "mask_labels.txt"),
    )
    rows = list(read_labels(ccp / "labels.csv", ccp).rows)
    if count is not None:
        rows = [row for row in rows if data._has_truth(row)][:count]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((row.image, row.split, row.category, ";".join(row.attributes)) for row in rows)
    write_text(labels, text.getvalue())
    return _with_heatmaps(data)


def _ccp_classes(names_file: Path) -> Classes:
    """Look up the values of CCP's classes; each line holds a value and a name."""
    try:
        lines = names_file.read_text(encoding="utf-8").splitlines()
        values = {name: int(value) for value, name in (line.split(maxsplit=1) for line in lines)}
    except (OSError, ValueError) as error:
        raise VsamError(f"Could not read {names_file}: {error}.") from error
    unknown = {*_CCP_NOT_PERSON, *sum(_CCP_GARMENTS.values(), ())} - set(values)
    if unknown:
        missing = ", ".join(sorted(unknown))
        raise expected(str(names_file), f"CCP's list of classes with {missing}", "one without")
    return Classes(
        person=tuple(value for name, value in values.items() if name not in _CCP_NOT_PERSON),
        garments={
            category: tuple(values[name] for name in names)
            for category, names in _CCP_GARMENTS.items()
        },
    )


def _with_heatmaps(data: Data) -> Data:
    """Find the poses of a data set's photos; those that are there already stay."""
    rows = read_labels(data.labels).rows
    paths = [data.photos / row.image for row in rows]
    extract(paths, data.heatmaps, root=data.photos, progress=True)
    return data
