"""DeepFashion's landmarks of garments: `list_landmarks.txt` and its variants.

A first line with the number of images, a second one with the names of the columns, then a line for
each image: its name, `clothes_type`, in most of the benchmarks `variation_type`, and v, x, y of
each landmark that clothes of the type have.
https://github.com/open-mmlab/mmfashion/blob/master/docs/dataset/LANDMARK_DETECT_DATASET.md
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import VsamError, expected, explain_os_error
from ..landmarks import GARMENT
from .coco import OCCLUDED
from .joints import DEEPFASHION
from .keypoint_file import Gathering, KeypointFile
from .values import checked_points, shown

# 0 visible, 1 hidden, 2 not in the photo.
_VISIBILITY = {"0": 1.0, "1": OCCLUDED, "2": 0.0}

_WITHOUT_VARIATION = ["image_name", "clothes_type"]
_LANDMARK_COLUMNS = [
    f"landmark_{column}_{number}"
    for number in range(1, len(GARMENT) + 1)
    for column in ("visibility", "location_x", "location_y")
]
_NUMBER = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,9})?")


def read_deepfashion(path: Path) -> KeypointFile:
    """Read a list of landmarks. An image that is in several lines has several garments.

    Raises:
        VsamError: If it is malformed or cut off, with the line, or can't be read.
    """
    people = Gathering()
    numbers: dict[str, int] = {}
    digest = hashlib.sha256()
    lines = _lines(path, digest)
    count = next(lines, (1, ""))[1].strip()
    if not re.fullmatch("[0-9]{1,9}", count):
        raise expected(f"line 1 of {path}", "the number of images", shown(count))
    columns = next(lines, (2, ""))[1].split()
    fixed = len(columns) - len(_LANDMARK_COLUMNS)
    if columns not in (
        [*_WITHOUT_VARIATION, *_LANDMARK_COLUMNS],
        [*_WITHOUT_VARIATION, "variation_type", *_LANDMARK_COLUMNS],
    ):
        raise expected(
            f"line 2 of {path}",
            "the columns of DeepFashion's list_landmarks.txt (image_name clothes_type "
            "[variation_type] landmark_visibility_1 landmark_location_x_1 …)",
            " ".join(columns)[:80] or "nothing",
        )
    rows = 0
    for number, line in lines:
        fields = line.split()
        if not fields:
            continue
        photo = numbers.setdefault(fields[0], len(numbers))
        people.add(photo, _landmarks(fields[1:], fixed - 1, f"line {number} of {path}"))
        rows += 1
    if rows != int(count):
        raise expected(f"lines of {path}", f"{int(count)}, as its first line says", rows)
    columns_of = tuple(range(len(GARMENT)))
    ids, found = people.finish(list(numbers), columns_of)
    return KeypointFile(
        path, "deepfashion-landmarks", GARMENT.name, digest.hexdigest(), ids, False, found
    )


def _landmarks(fields: list[str], before: int, where: str) -> NDArray[np.float64]:
    """Read a line without the image's name.

    Args:
        fields: The type, what comes after it, then v, x, y of each landmark.
        before: How many fields come before the landmarks.
        where: What to say of the line in a message.

    Returns:
        (8, 3) x, y in pixels and visibility of `GARMENT`'s landmarks.
    """
    type_ = fields[0] if fields else ""
    if type_ not in DEEPFASHION:
        rule = "1 (upper-body), 2 (lower-body) or 3 (full-body)"
        raise expected(f"clothes_type in {where}", rule, shown(type_))
    names, values = DEEPFASHION[type_], fields[before:]
    if len(values) != 3 * len(names):
        rule = f"{len(names)} landmarks of clothes_type {type_}, {3 * len(names)} numbers"
        raise expected(where, rule, len(values))
    for value in values:
        if not _NUMBER.fullmatch(value):
            raise expected(where, "numbers after its clothes_type", shown(value))
    flags = values[::3]
    for flag in flags:
        if flag not in _VISIBILITY:
            raise expected(f"visibility in {where}", "0, 1 or 2", shown(flag))
    given = [
        number
        for x, y, flag in zip(values[1::3], values[2::3], flags, strict=True)
        for number in (float(x), float(y), _VISIBILITY[flag])
    ]
    points = np.zeros((len(GARMENT), 3))
    points[list(GARMENT.indices(names))] = checked_points(given, (len(names),), where)
    return points


def _lines(path: Path, digest: hashlib._Hash) -> Iterator[tuple[int, str]]:
    """Give the lines with their numbers, from 1, and hash them on the way."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                digest.update(line)
                try:
                    yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise VsamError(f"Line {number} of {path} is not text in UTF-8.") from error
    except OSError as error:
        raise explain_os_error(error, f"read {path}") from error
