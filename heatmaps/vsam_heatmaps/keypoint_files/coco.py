"""COCO and COCO-WholeBody keypoints: annotation files and lists of results.

https://cocodataset.org/#format-data, https://cocodataset.org/#format-results,
https://github.com/jin-s13/COCO-WholeBody/blob/master/data_format.md
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import VsamError, expected
from .joints import COCO, FEET, FIRST_NAMES, LEFT_HAND, RIGHT_HAND, WHOLEBODY, Joints
from .json_stream import JsonStream
from .keypoint_file import Gathering, KeypointFile
from .values import (
    READ,
    checked_list,
    checked_number,
    checked_object,
    checked_points,
    checked_whole,
    shown,
)

OCCLUDED = 0.5
"""Visibility of a joint that was labelled although it is hidden (v = 1)."""

_MORE_JOINTS = {"foot_kpts": FEET, "lefthand_kpts": LEFT_HAND, "righthand_kpts": RIGHT_HAND}


class _Skeleton:
    """The joints of a file: every person must have the same."""

    def __init__(self) -> None:
        self.joints: Joints | None = None

    def read(self, entry: dict[str, Any], where: str) -> NDArray[np.float64]:
        """Read a person's joints: (17, 3) of COCO or (133, 3) of COCO-WholeBody, v unchanged.

        Raises:
            VsamError: If they are malformed, or others than those before them.
        """
        counts = (len(COCO), len(WHOLEBODY))
        points = checked_points(entry.get("keypoints"), counts, f"keypoints of {where}")
        more = [field for field in _MORE_JOINTS if field in entry]
        if more and len(points) == len(COCO):
            points = np.concatenate([points, np.zeros((len(WHOLEBODY) - len(COCO), 3))])
            for field in more:
                if entry[field]:  # some tools write an empty list for what they don't know
                    place = _MORE_JOINTS[field]
                    count = place.stop - place.start
                    points[place] = checked_points(entry[field], (count,), f"{field} of {where}")
        joints = COCO if len(points) == len(COCO) else WHOLEBODY
        if self.joints is not None and self.joints is not joints:
            raise expected(f"joints of {where}", f"{self.joints.name}, as before", joints.name)
        self.joints = joints
        return points


def read_coco(stream: JsonStream) -> KeypointFile:
    """Read an annotation file (an object) or a list of results.

    Raises:
        VsamError: If it is malformed or has another skeleton, with what is wrong and where.
    """
    return _read_results(stream) if stream.peek() == "[" else _Annotations(stream).read()


class _Annotations:
    """Reads an annotation file. Its lists may come in any order."""

    def __init__(self, stream: JsonStream) -> None:
        self._stream, self._path = stream, stream.path
        self._people, self._skeleton = Gathering(), _Skeleton()
        # Of each image id: its number, which is a row below. Annotations may come before images.
        self._numbers: dict[int | str, int] = {}
        self._names: list[str] = []  # empty until the image comes
        self._sizes: list[tuple[int, int]] = []
        # Of each image that has annotations but has not come yet: the first of them.
        self._awaited: dict[int, str] = {}
        # Of each category whose annotations have no keypoints: the first of them.
        self._without_keypoints: dict[Any, str] = {}
        self._categories_without: list[Any] = []
        self._joints_are_named = False

    def read(self) -> KeypointFile:
        readers = {
            "images": self._read_image,
            "annotations": self._read_annotation,
            "categories": self._read_category,
        }
        found: set[str] = set()
        for name in self._stream.members():
            if name == "people":
                raise VsamError(
                    f"{self._path} looks like OpenPose's result for one photo. Name the folder "
                    "that it is in."
                )
            if name not in readers:
                self._stream.skip()
                continue
            if name in found:
                raise VsamError(f"{self._path} has `{name}` twice. Merge them into one list.")
            found.add(name)
            if self._stream.peek() != "[":
                raise expected(f"{name} in {self._path}", "a list", shown(self._stream.value()))
            for index, entry in enumerate(self._stream.items()):
                # "image 3 in FILE": the list's name without its plural.
                kind = {"categories": "category"}.get(name, name.removesuffix("s"))
                where = f"{kind} {index} in {self._path}"
                readers[name](checked_object(entry, where), where)
        sha256 = self._stream.finish()
        for name in ("images", "annotations"):
            if name not in found:
                raise VsamError(
                    f"Expected `{self._path}` to have `{name}`, as COCO's annotation files do, but "
                    f"it has none. {READ}"
                )
        self._check_categories()
        self._check_names()
        joints = self._skeleton.joints or COCO
        ids, people = self._people.finish(self._names, joints.columns, sizes=self._sizes)
        return KeypointFile(self._path, joints.name, joints.landmarks, sha256, ids, False, people)

    def _number(self, image_id: object, where: str) -> int:
        if type(image_id) not in (int, str):
            raise expected(f"image id of {where}", "a whole number or a string", shown(image_id))
        assert isinstance(image_id, int | str)
        if image_id not in self._numbers:
            self._numbers[image_id] = len(self._numbers)
            self._names.append("")
            self._sizes.append((0, 0))
        return self._numbers[image_id]

    def _read_image(self, entry: dict[str, Any], where: str) -> None:
        number = self._number(entry.get("id"), where)
        if self._names[number]:
            raise VsamError(f"The id {shown(entry['id'])} of {where} is another image's, too.")
        self._names[number] = _checked_name(entry.get("file_name"), f"file_name of {where}")
        self._awaited.pop(number, None)
        sides = entry.get("width"), entry.get("height")
        if sides != (None, None):
            width, height = (
                checked_whole(side, f"{name} of {where}")
                for name, side in zip(("width", "height"), sides, strict=True)
            )
            self._sizes[number] = width, height

    def _read_annotation(self, entry: dict[str, Any], where: str) -> None:
        number = self._number(entry.get("image_id"), where)
        if not self._names[number]:
            self._awaited.setdefault(number, where)
        crowd = entry.get("iscrowd", 0)
        if crowd not in (0, 1):
            raise expected(f"iscrowd of {where}", "0 or 1", shown(crowd))
        if crowd or entry.get("num_keypoints") == 0:
            return
        if "keypoints" not in entry:
            category = entry.get("category_id")
            key = category if isinstance(category, int | str) else None
            self._without_keypoints.setdefault(key, where)
            return
        points = self._skeleton.read(entry, where)
        assert self._skeleton.joints is not None
        points[:, 2] = _visibility_of_flags(points[:, 2], where)
        self._people.add(number, self._skeleton.joints.pick(points))

    def _read_category(self, entry: dict[str, Any], where: str) -> None:
        names = entry.get("keypoints")
        if names:
            _check_joint_names(checked_list(names, f"keypoints of {where}"), where)
            self._joints_are_named = True
        else:
            self._categories_without.append(entry.get("id"))

    def _check_categories(self) -> None:
        """Refuse annotations without keypoints, unless their category has none."""
        # Only a file that says which category has keypoints says which has none.
        without = self._categories_without if self._joints_are_named else []
        for category, where in self._without_keypoints.items():
            if category is None or category not in without:
                raise expected(f"keypoints of {where}", "there", "none", READ)

    def _check_names(self) -> None:
        for where in self._awaited.values():
            raise VsamError(
                f"The image_id of {where} is none of its `images`. Add the image, or remove the "
                "annotation."
            )
        known: set[str] = set()
        for name in self._names:
            if name in known:
                raise VsamError(
                    f"{self._path} has two images of the file_name {name!r}, so whose keypoints "
                    "are whose can't be told. Remove one."
                )
            known.add(name)


def _visibility_of_flags(flags: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    """Turn COCO's flags of (17,) or (133,) joints into visibilities.

    0 is not labelled, 1 labelled but hidden, 2 visible. COCO-WholeBody's hands were found by a
    network and checked by people: there v is 0, or the network's score, or 1, and the authors count
    every v above 0 as reliable (https://github.com/jin-s13/COCO-WholeBody/issues/5).
    """
    body = flags[: len(COCO)]
    wrong = body[(body % 1 != 0) | (body > 2)]
    if len(wrong):
        raise expected(
            f"v of {where}",
            "0, 1 or 2",
            f"{wrong[0]:g}",
            "Write keypoints that have scores as a list of results.",
        )
    visibility = (flags > 0).astype(np.float64)
    visibility[: FEET.stop][flags[: FEET.stop] == 1] = OCCLUDED
    return visibility


def _check_joint_names(names: list[Any], where: str) -> None:
    """Refuse another skeleton, or the same joints in another order."""
    known = {len(COCO): FIRST_NAMES[: len(COCO)], len(WHOLEBODY): FIRST_NAMES}.get(len(names))
    skeletons = f"{len(COCO)} joints or COCO-WholeBody's {len(WHOLEBODY)}"
    if known is None:
        raise expected(f"keypoints of {where}", f"COCO's {skeletons}", f"{len(names)} names")
    for joint, (theirs, ours) in enumerate(zip(names, known, strict=False)):
        if str(theirs).lower().replace(" ", "_").replace("-", "_") != ours:
            raise expected(
                f"joint {joint} of {where}",
                f"{ours!r}, as in COCO",
                shown(theirs),
                f"COCO's {skeletons} are read, in its order.",
            )


def _read_results(stream: JsonStream) -> KeypointFile:
    """Read a list of results.

    Their `image_id` is COCO's number, which is the photo's name but for zeros and extension, or, as
    AlphaPose has it, the photo's name.
    """
    people, skeleton = Gathering(), _Skeleton()
    numbers: dict[str, int] = {}
    kinds: set[type] = set()
    for where, entry in _results(stream):
        image_id = entry.get("image_id")
        if type(image_id) is int:
            if not 0 <= image_id < 10**18:
                raise expected(f"image_id of {where}", "0 or above, in 18 digits", shown(image_id))
            name = f"{image_id:012d}"
        else:
            name = _checked_name(image_id, f"image_id of {where}", "a whole number or a file name")
        kinds.add(type(image_id))
        if len(kinds) > 1:
            raise VsamError(
                f"{stream.path} has numbers and strings as image_id, from {where} on. Write all "
                "of them as one or the other."
            )
        number = numbers.setdefault(name, len(numbers))
        points = skeleton.read(entry, where)
        points[:, 2] = points[:, 2].clip(0, 1)
        score = entry.get("score")
        sure = math.nan if score is None else checked_number(score, f"score of {where}")
        assert skeleton.joints is not None
        people.add(number, skeleton.joints.pick(points), sure)
    sha256 = stream.finish()
    joints = skeleton.joints or COCO
    ids, found = people.finish(list(numbers), joints.columns)
    without_extension = kinds == {int}
    return KeypointFile(
        stream.path, joints.name, joints.landmarks, sha256, ids, without_extension, found
    )


def _results(stream: JsonStream) -> Iterator[tuple[str, dict[str, Any]]]:
    for index, entry in enumerate(stream.items()):
        where = f"result {index} in {stream.path}"
        yield where, checked_object(entry, where)


def _checked_name(name: object, where: str, rule: str = "a file name") -> str:
    if not isinstance(name, str) or not name:
        raise expected(where, rule, shown(name))
    try:
        name.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON allows
        raise expected(where, rule, ascii(name)[:40]) from error
    return name
