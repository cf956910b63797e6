"""Photos, labels and heatmaps for `supervision.py`: mannequins, and Clothing Co-Parsing."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from supervision_maps import make_maps
from supervision_plan import CCP, CLEAN, CROWDED, MANNEQUINS, Sizes
from tqdm import tqdm

from vsam_datasets.mannequins import ATTRIBUTE_KINDS, Part, write_mannequins
from vsam_datasets.tables import COLUMNS, LabelRow, LabelTable, read_labels
from vsam_heatmaps.atomic import making_folder, write_bytes, write_text
from vsam_heatmaps.errors import VsamError
from vsam_heatmaps.extraction import extract
from vsam_heatmaps.images import read_photo

Image = NDArray[np.uint8]

# The value of CCP's masks that shows no person; bags count as the person here: they are labelled.
_CCP_BACKGROUND = 0
_JPEG_QUALITY = 97
# Blur of a pasted person's edge, as a share of the photo's width.
_SOFT_EDGE = 0.004


@dataclass(frozen=True)
class Data:
    """A data set, ready to train on.

    Attributes:
        name: One of the data sets of `supervision_plan`.
        labels: The table.
        photos: Folder that its images are relative to.
        heatmaps: Folder of the extraction's shards.
        pasted: Folder with those test photos whose person was put before another background, named
            as the photos; None without any.
        kinds: Attributes by what they are about, if that is known.
    """

    name: str
    labels: Path
    photos: Path
    heatmaps: Path
    pasted: Path | None
    kinds: dict[str, tuple[str, ...]]

    @property
    def table(self) -> LabelTable:
        """Labels of the photos."""
        return read_labels(self.labels)

    def pasted_rows(self) -> tuple[LabelRow, ...]:
        """Labels of the test photos that were pasted."""
        if self.pasted is None:
            return ()
        return tuple(row for row in self.table.split("test") if (self.pasted / row.image).is_file())

    def maps(self, kind: str) -> Path:
        """Give shards with maps of a kind, made if need be."""
        if kind == CLEAN:
            return self.heatmaps
        return make_maps(self.heatmaps, kind, self.heatmaps.parent / f"{self.name}-{kind}")


def prepare(
    name: str, work: Path, size: Sizes, *, ccp: Path | None, backgrounds: Path | None
) -> Data:
    """Make a data set, or take what is there of it.

    Args:
        name: `MANNEQUINS`, `CROWDED` or `CCP`.
        work: The benchmark's folder.
        size: How large.
        ccp: Folder of Clothing Co-Parsing.
        backgrounds: Folder of photos to paste people on, or none.
    """
    folder = work / "data"
    if name == CCP:
        assert ccp is not None, "asked for where the options are read"
        data = _ccp(folder, ccp, size)
        masks = ccp / "masks"
    else:
        data = _mannequins(folder, size, crowded=name == CROWDED)
        masks = folder / name / "masks"
    rows = data.table.rows
    extract(
        [data.photos / row.image for row in rows], data.heatmaps, root=data.photos, progress=True
    )
    if backgrounds is not None:
        pasted = folder / f"{name}-pasted"
        if not pasted.is_dir():
            _paste(data, masks, backgrounds, pasted)
        data = replace(data, pasted=pasted)
    return data


def squash(photos: Path, rows: Iterable[LabelRow], side: int, out: Path) -> Path:
    """Copy photos as squares of the size that the training resizes them to, unless they are there.

    Small networks would wait for the decoder otherwise.

    Args:
        photos: Where they are.
        rows: Which.
        side: Height and width in pixels.
        out: The folder to make.
    """
    if not out.is_dir():
        with making_folder(out) as folder:
            for row in tqdm(list(rows), desc=f"{photos.name} at {side} pixels", unit="photo"):
                photo = read_photo(photos / row.image)
                small = cv2.resize(photo, (side, side), interpolation=cv2.INTER_AREA)
                _write_jpeg(folder / row.image, small)
    return out


def _mannequins(folder: Path, size: Sizes, *, crowded: bool) -> Data:
    name = CROWDED if crowded else MANNEQUINS
    drawn = folder / name
    count = size.train + size.val + size.test
    if not (drawn / "labels.csv").is_file():  # written last
        write_mannequins(drawn, count=count, seed=0, masks=True, crowded=crowded)
    rows = read_labels(drawn / "labels.csv").rows
    splits = ["train"] * size.train + ["val"] * size.val + ["test"] * size.test
    if len(rows) != count:
        raise VsamError(f"Expected {drawn} to hold {count} mannequins, but it holds {len(rows)}.")
    labels = folder / f"{name}.csv"
    _write_labels(
        labels, [replace(row, split=split) for row, split in zip(rows, splits, strict=True)]
    )
    kinds = {kind: tuple(names) for kind, names in ATTRIBUTE_KINDS.items()}
    return Data(name, labels, drawn / "photos", folder / f"{name}-heatmaps", None, kinds)


def _ccp(folder: Path, ccp: Path, size: Sizes) -> Data:
    rows = read_labels(ccp / "labels.csv", ccp).rows
    if size.ccp_photos is not None:
        rows = rows[: size.ccp_photos]
    folder.mkdir(parents=True, exist_ok=True)
    labels = folder / f"{CCP}.csv"
    _write_labels(labels, rows)
    return Data(CCP, labels, ccp, folder / f"{CCP}-heatmaps", None, {})


def _paste(data: Data, masks: Path, backgrounds: Path, out: Path) -> None:
    """Put the people of the test photos that have a mask before other backgrounds."""
    behind = sorted(
        path for path in backgrounds.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")
    )
    if not behind:
        raise VsamError(f"Expected {backgrounds} to hold photos, but it holds none.")
    shown = (
        (int(Part.PERSON), int(Part.GARMENT), int(Part.BAG))
        if data.name != CCP
        else tuple(value for value in range(256) if value != _CCP_BACKGROUND)
    )
    rows = [
        (row, mask)
        for row in data.table.split("test")
        if (mask := masks / f"{Path(row.image).stem}.png").is_file()
    ]
    with making_folder(out) as folder:
        for number, (row, path) in enumerate(tqdm(rows, desc="paste", unit="photo")):
            photo = read_photo(data.photos / row.image)
            values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            person = np.isin(values, shown)
            other = read_photo(behind[number % len(behind)])
            _write_jpeg(folder / row.image, _composed(photo, person, other))


def _composed(photo: Image, person: NDArray[np.bool_], background: Image) -> Image:
    """Put a person before a background.

    Args:
        photo: (H, W, 3).
        person: (h, w), a mask of any size.
        background: Of any size; cut to the photo's proportions.
    """
    height, width = photo.shape[:2]
    scale = max(height / background.shape[0], width / background.shape[1])
    resized = cv2.resize(background, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    # Rounding may leave a pixel too few.
    behind = cv2.copyMakeBorder(resized, 0, 1, 0, 1, cv2.BORDER_REPLICATE)[:height, :width]
    mask = cv2.resize(person.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    soft = cv2.GaussianBlur(mask, (0, 0), _SOFT_EDGE * width)[..., None]  # (H, W, 1)
    return np.rint(photo * soft + behind * (1 - soft)).astype(np.uint8)


def _write_labels(path: Path, rows: Sequence[LabelRow]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((row.image, row.split, row.category, ";".join(row.attributes)) for row in rows)
    write_text(path, text.getvalue())


def _write_jpeg(path: Path, photo: Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded, data = cv2.imencode(
        ".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    assert encoded, "OpenCV encodes any (H, W, 3) uint8 array as JPEG"
    write_bytes(path, data.tobytes())
