"""Folders of OpenPose's JSON: one `NAME_keypoints.json` for each photo.

https://github.com/CMU-Perceptual-Computing-Lab/openpose/blob/master/doc/02_output.md
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import VsamError, expected, explain_os_error
from ..photos.folders import walk
from .joints import OPENPOSE_18, OPENPOSE_25, Joints
from .keypoint_file import Gathering, KeypointFile
from .values import checked_list, checked_object, checked_points

SUFFIX = "_keypoints.json"
"""What OpenPose appends to the photo's name without its extension."""

_JOINTS = {len(joints): joints for joints in (OPENPOSE_18, OPENPOSE_25)}


def read_openpose(folder: Path) -> KeypointFile:
    """Read a folder whose sub-folders are those of the photos.

    Raises:
        VsamError: If there is no such file in it, one is malformed or has other joints than the
            rest, or can't be read.
    """
    people = Gathering()
    names: list[str] = []
    shares: list[bool] = []
    joints: Joints | None = None
    digest = hashlib.sha256()
    for name in sorted(walk(folder, lambda name: name.endswith(SUFFIX))):
        path = folder / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise explain_os_error(error, f"read {path}") from error
        # As sha256sum prints it.
        digest.update(f"{hashlib.sha256(data).hexdigest()}  ".encode() + os.fsencode(name) + b"\n")
        persons = _read_people(path, data)
        for person, points in enumerate(persons):
            own = _JOINTS[len(points)]
            if joints is not None and joints is not own:
                raise expected(
                    f"pose_keypoints_2d of person {person} in {path}",
                    f"of {len(joints)} joints, as in the files before",
                    len(own),
                    "Keep the results of different models in separate folders.",
                )
            joints = own
        shares.append(_are_shares(persons, path))
        for points in persons:
            points[:, 2] = points[:, 2].clip(0, 1)
            people.add(len(names), _JOINTS[len(points)].pick(points))
        names.append(_as_text(name.removesuffix(SUFFIX)))
    if not names:
        raise VsamError(
            f"Expected `{folder}` to hold OpenPose's *{SUFFIX}, but it holds none. Name the folder "
            "that OpenPose wrote with --write_json."
        )
    joints = joints or OPENPOSE_25
    ids, found = people.finish(names, joints.columns, shares=shares)
    return KeypointFile(folder, joints.name, joints.landmarks, digest.hexdigest(), ids, True, found)


def _read_people(path: Path, data: bytes) -> list[NDArray[np.float64]]:
    """Read the people of one file: (18 or 25, 3) each."""
    try:
        document: Any = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        told = f"Could not read {path}: it is not JSON, or is cut off ({reason})."
        raise VsamError(told) from error
    people = checked_object(document, str(path)).get("people")
    return [
        checked_points(
            checked_object(person, f"person {index} in {path}").get("pose_keypoints_2d"),
            tuple(_JOINTS),
            f"pose_keypoints_2d of person {index} in {path}",
        )
        for index, person in enumerate(checked_list(people, f"people in {path}"))
    ]


def _are_shares(persons: list[NDArray[np.float64]], path: Path) -> bool:
    """Tell whether coordinates are shares of the photo instead of pixels.

    With `--keypoint_scale 3` OpenPose divides by width - 1 and height - 1 (keypointScaler.cpp).
    """
    known = [points[points[:, 2] > 0, :2] for points in persons]
    if not sum(map(len, known)):
        return False
    low = min(float(points.min()) for points in known if len(points))
    high = max(float(points.max()) for points in known if len(points))
    if low < 0 and low >= -1 and high <= 1:
        raise VsamError(
            f"Expected the positions in {path} to be pixels or from 0 to 1, but they go from "
            f"{low:g} to {high:g}. Write them with OpenPose's --keypoint_scale 0 or 3."
        )
    return low >= 0 and high <= 1


def _as_text(name: str) -> str:
    """Escape bytes of a name that are not UTF-8, as ids do."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
