"""Check what a keypoint file holds before it becomes an array."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import expected

READ = (
    "What is read: COCO or COCO-WholeBody keypoints in JSON (annotations or a list of results), a "
    "folder of OpenPose's *_keypoints.json, and DeepFashion's list_landmarks.txt."
)
"""What to say of a file that is something else."""

_FARTHEST = 1e6
"""Pixels: no photo is as large, so what lies beyond is no position."""

# Scores end at 1; AlphaPose's documentation has some up to 6.
_MOST_VISIBLE = 10


def shown(value: object) -> str:
    """Tell a value in a few words, for a message.

    >>> shown([1, 2]), shown("é" * 99)
    ('a list of 2', "'ééééééééééééééééééééééééééééééééééé…")
    """
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object of {len(value)}"
    if value is None:
        return "none"
    # Python refuses to write out integers of thousands of digits.
    huge = isinstance(value, int) and value.bit_length() > 100
    text = "a huge number" if huge else repr(value)
    return text if len(text) <= 36 else f"{text[:36]}…"


def checked_object(value: object, where: str) -> dict[str, Any]:
    """Check that a value is a JSON object.

    Raises:
        VsamError: If not.
    """
    if not isinstance(value, dict):
        raise expected(where, "an object", shown(value))
    return value


def checked_list(value: object, where: str) -> list[Any]:
    """Check that a value is a JSON list.

    Raises:
        VsamError: If not.
    """
    if not isinstance(value, list):
        raise expected(where, "a list", shown(value))
    return value


def checked_number(value: object, where: str) -> float:
    """Check that a value is a finite number of ordinary size.

    Raises:
        VsamError: If not.
    """
    # bool is an int to Python, not to JSON. NaN is not within limits.
    is_bool = isinstance(value, bool)
    if isinstance(value, int | float) and not is_bool and -_FARTHEST <= value <= _FARTHEST:
        return float(value)
    raise expected(where, f"a number of at most {_FARTHEST:.0f}", shown(value))


def checked_whole(value: object, where: str) -> int:
    """Check that a value is a whole number above 0 and of ordinary size.

    Raises:
        VsamError: If not.
    """
    if type(value) is not int or not 0 < value <= _FARTHEST:
        raise expected(where, "a whole number above 0", shown(value))
    return value


def checked_points(value: object, counts: Collection[int], where: str) -> NDArray[np.float64]:
    """Check that a value lists x, y and visibility of so many joints.

    Args:
        value: What should be a flat list [x, y, v, x, y, v, …].
        counts: How many joints there may be.
        where: What it is and where, for messages.

    Returns:
        (joints, 3) x and y in pixels, v: finite, v from 0 to 10.

    Raises:
        VsamError: If it is none, with the joint where one is wrong.
    """
    if not isinstance(value, list) or len(value) not in [3 * count for count in counts]:
        rule = " or ".join(f"{3 * count} numbers (x, y, v of {count} joints)" for count in counts)
        raise expected(where, rule, shown(value))
    if not {int, float}.issuperset(map(type, value)):
        wrong = next(each for each in value if type(each) not in (int, float))
        raise expected(where, "numbers alone", shown(wrong))
    try:
        points = np.array(value, np.float64).reshape(-1, 3)
    except OverflowError:  # an integer too large for a float
        points = np.full((len(value) // 3, 3), np.inf)
    with np.errstate(invalid="ignore"):  # NaN compares as False
        right = (abs(points) <= (_FARTHEST, _FARTHEST, _MOST_VISIBLE)).all(axis=1)
        right &= points[:, 2] >= 0
    if not right.all():
        joint = int(np.flatnonzero(~right)[0])
        rule = f"x and y of at most {_FARTHEST:.0f} pixels and v from 0 to {_MOST_VISIBLE}"
        told = ", ".join(map(shown, value[3 * joint : 3 * joint + 3]))
        raise expected(where, rule, f"({told}) at joint {joint}")
    return points
