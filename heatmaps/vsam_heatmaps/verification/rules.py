"""The rules that one shard's columns and records must follow; see `heatmaps/README.md`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engines import PEOPLE
from ..errors import VsamError
from ..landmarks import landmark_set
from ..poses import FARTHEST
from ..rendering import RenderOptions, render_heatmaps
from ..shards import ShardInfo, Status

Columns = Mapping[str, NDArray[Any]]
"""The small data sets of one shard by name, of N rows each; what could not be read is missing."""


def column_shapes(info: ShardInfo) -> dict[str, tuple[tuple[int, ...], np.dtype[Any] | None]]:
    """Give each data set's shape after the first axis, and its type; None is UTF-8 text."""
    return {
        "id": ((), None),
        "heatmaps": ((len(info.channels), info.side, info.side), np.dtype(np.uint8)),
        "keypoints": ((len(landmark_set(info.landmarks)), 4), np.dtype(np.float32)),
        "people": ((), np.dtype(np.int32)),
        "size": ((2,), np.dtype(np.int32)),
        "status": ((), np.dtype(np.uint8)),
        "sha256": ((32,), np.dtype(np.uint8)),
        "reason": ((), None),
    }


def data_set_problem(
    data_set: Any, rows: int, shape: tuple[int, ...], dtype: np.dtype[Any] | None
) -> str:
    """Tell what is wrong with an h5py data set before it is read; empty if nothing is.

    Args:
        data_set: What the file holds under the name.
        rows: Rows that it should have.
        shape: Its shape after the first axis.
        dtype: Its type; None for UTF-8 text of a fixed length.
    """
    import h5py

    if not isinstance(data_set, h5py.Dataset):
        return "is no data set"
    if data_set.shape != (rows, *shape):
        return f"has the shape {data_set.shape}, not {(rows, *shape)}"
    text = h5py.check_string_dtype(data_set.dtype)
    if dtype is None and (text is None or text.length is None or text.encoding != "utf-8"):
        return "is no UTF-8 text of a fixed length"
    if dtype is not None and data_set.dtype != dtype:
        return f"has the type {data_set.dtype}, not {dtype}"
    if not data_set.fletcher32:
        return "has no checksums"
    # HDF5 gives zeros, unchecked, for a chunk that was never written.
    chunks = math.prod(-(-n // c) for n, c in zip(data_set.shape, data_set.chunks, strict=True))
    written = data_set.id.get_num_chunks()
    return "" if written == chunks else f"has {written} of its {chunks} chunks"


def render_options_of(info: ShardInfo) -> tuple[RenderOptions | None, str]:
    """Give the options that rendered a shard's maps, or None and why there are none."""
    try:
        return info.render_options, ""
    except (KeyError, TypeError):  # unknown; no text
        names = ", ".join(map(str, info.channels))
        return None, f"its channels are none that this version draws: {names}"
    except VsamError as error:
        return None, str(error).rstrip(".")


def option_problems(info: ShardInfo) -> Iterator[str]:
    """Tell which options of a shard can't be."""
    _, problem = render_options_of(info)
    if problem:
        yield problem
    if info.people not in PEOPLE:
        yield f"its attribute people is {info.people!r}, none of {', '.join(PEOPLE)}"


def id_problems(ids: list[bytes]) -> Iterator[tuple[int, str]]:
    """Tell which ids of a shard can't be: the row, and what is wrong."""
    counted = Counter(ids)
    seen: set[bytes] = set()
    for row, id_ in enumerate(ids):
        if not id_:
            yield row, "the id is empty"
            continue
        if not _is_text(id_):
            yield row, "the id is not UTF-8"
        if b"\0" in id_:
            yield row, "the id has a zero byte in it"
        if id_.startswith(b"/"):
            yield row, "the id is an absolute path"
        if b".." in id_.split(b"/"):
            yield row, "the id leads out of the photos' root (..)"
        if counted[id_] > 1 and id_ not in seen:
            seen.add(id_)
            yield row, f"the id stands {counted[id_]} times in this shard"


def record_problems(columns: Columns) -> Iterator[tuple[int, str]]:
    """Tell what contradicts itself in a shard's records, without their maps: row, and what."""
    if "status" not in columns:
        return
    status = columns["status"]
    ok, unreadable = status == Status.OK, status == Status.UNREADABLE
    known = status <= max(Status)
    for row in np.flatnonzero(~known):
        yield int(row), f"the status is {status[row]}, none of 0 to {int(max(Status))}"
    # (rows that are wrong, what is wrong with them) of each rule
    rules: list[tuple[NDArray[np.bool_], str]] = []
    if "keypoints" in columns:
        rules += _keypoint_rules(columns["keypoints"], ok, known & ~ok)
    if "people" in columns:
        people = columns["people"]
        rules.append((ok & (people < 1), "nobody is counted in people, but the status is ok"))
        rules.append((known & ~ok & (people != 0), "people is not 0, but the status is not ok"))
    if "size" in columns:
        size = columns["size"]
        rules.append((known & ~unreadable & (size <= 0).any(axis=1), "the size is not positive"))
        rules.append((unreadable & (size < 0).any(axis=1), "the size is negative"))
    if "sha256" in columns:
        nothing = ~columns["sha256"].any(axis=1)
        rules.append((known & ~unreadable & nothing, "the hash is zero, but the photo was read"))
    if "reason" in columns:
        reasons: list[bytes] = columns["reason"].tolist()
        given = np.array([bool(reason) for reason in reasons], bool)
        rules.append((unreadable & ~given, "there is no reason, but the photo was unreadable"))
        rules.append((known & ~unreadable & given, "there is a reason, but the photo was read"))
        rules.append(
            (np.array([not _is_text(reason) for reason in reasons], bool), "the reason is no UTF-8")
        )
    for wrong, what in rules:
        for row in np.flatnonzero(wrong):
            yield int(row), what


def _keypoint_rules(
    keypoints: NDArray[np.float32], ok: NDArray[np.bool_], nobody: NDArray[np.bool_]
) -> list[tuple[NDArray[np.bool_], str]]:
    joints = (1, 2)
    finite = np.isfinite(keypoints).all(axis=2)
    # A landmark that the source does not know.
    unknown = np.isnan(keypoints[..., :2]).all(axis=2) & (keypoints[..., 2:] == 0).all(axis=2)
    sound = (finite | unknown).all(axis=1)
    nan = np.isnan(keypoints).all(axis=joints)
    far = (np.abs(keypoints[..., :2]) > FARTHEST).any(axis=joints)
    outside = ((keypoints[..., 2:] < 0) | (keypoints[..., 2:] > 1)).any(axis=joints)
    return [
        (ok & ~sound, "keypoints are neither finite nor marked as not known, but the status is ok"),
        (ok & sound & unknown.all(axis=1), "no landmark is known, but the status is ok"),
        (nobody & ~nan, "there are keypoints, but the status is not ok"),
        (ok & sound & far, f"a joint lies more than {FARTHEST:.0f} photos away"),
        (ok & sound & outside, "a visibility or presence is not from 0 to 1"),
    ]


def map_problem(
    maps: NDArray[np.uint8],
    status: int,
    keypoints: NDArray[np.float32] | None,
    render: RenderOptions | None,
) -> tuple[bool, str]:
    """Tell whether one record's maps could be rendered again, and what is wrong with them.

    Args:
        maps: (C, H, W) uint8.
        status: Its status.
        keypoints: (K, 4) keypoints of the main person; None if they could not be read.
        render: How its maps were rendered; None where that is unknown, or where they show people
            whose keypoints are not stored.

    Returns:
        What is wrong is empty if nothing is.
    """
    if status != Status.OK:
        wrong = maps.any() and status <= max(Status)
        return False, "the maps are not empty, but the status is not ok" if wrong else ""
    if render is None or keypoints is None:
        return False, ""
    again = render_heatmaps(keypoints, render)
    # One level is no fault: another processor or version of numpy may round another way.
    apart = int(np.abs(again.astype(np.int16) - maps).max())
    told = f"the maps are not those of the keypoints: up to {apart} levels of 255 apart"
    return True, told if apart > 1 else ""


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
