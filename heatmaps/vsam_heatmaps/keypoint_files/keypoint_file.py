"""The people of a keypoint file of any format, looked up by photo."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import UnreadablePhotoError, VsamError
from ..landmarks import landmark_set
from ..names import Names
from ..poses import FARTHEST, Poses, main_person_first, no_poses


@dataclass(frozen=True, eq=False)
class People:
    """People of N photos, photo after photo.

    Attributes:
        columns: Indices of the J landmarks that the format has.
        ends: (N,) int64, for each photo the number of people up to its last one.
        points: (P, J, 3) float32 for P people: x, y and visibility of each landmark. x and y are in
            pixels, origin at the centre of the top-left pixel. Visibility is 0..1, and 0 where the
            landmark is not known.
        scores: (P,) float64, how sure whoever found them was; NaN if that is not said.
        sizes: (N, 2) int32, width and height of the photo that the pixels are of; 0 if not said.
        shares: (N,) bool, whether x and y go from 0 at the centre of the first pixel to 1 at that
            of the last one, instead of pixels.
    """

    columns: tuple[int, ...]
    ends: NDArray[np.int64]
    points: NDArray[np.float32]
    scores: NDArray[np.float64]
    sizes: NDArray[np.int32]
    shares: NDArray[np.bool_]


class Gathering:
    """Gathers people in the order in which a file has them, in 12 J + 16 bytes each."""

    def __init__(self) -> None:
        self._points = array("f")
        self._scores = array("d")
        self._photos = array("Q")

    def add(self, photo: int, points: NDArray[np.float64], score: float = math.nan) -> None:
        """Take a person; one without a joint is left out.

        Args:
            photo: Number of the photo.
            points: (J, 3), see `People`; the same J for all.
            score: How sure whoever found them was.
        """
        if points[:, 2].any():
            self._points.frombytes(points.astype(np.float32).tobytes())
            self._scores.append(score)
            self._photos.append(photo)

    def finish(
        self,
        names: Sequence[str],
        columns: tuple[int, ...],
        *,
        sizes: Sequence[tuple[int, int]] = (),
        shares: Sequence[bool] = (),
    ) -> tuple[Names, People]:
        """Sort the photos by name, each with its people in the order of the file.

        Args:
            names: The photos' names by number, each once.
            columns: See `People`.
            sizes: The photos' sizes by number, if they are said.
            shares: Whether coordinates are shares, by the photo's number; else pixels.
        """
        encoded = [name.encode() for name in names]
        order = sorted(range(len(names)), key=encoded.__getitem__)
        place = np.empty(len(names), np.int64)
        place[order] = np.arange(len(names))
        where = place[np.array(self._photos, np.int64)]
        people = np.argsort(where, kind="stable")
        points = np.array(self._points, np.float32).reshape(-1, len(columns), 3)
        return Names(encoded[number] for number in order), People(
            columns=columns,
            ends=np.cumsum(np.bincount(where, minlength=len(names))),
            points=points[people],
            scores=np.array(self._scores, np.float64)[people],
            sizes=np.array(sizes or [(0, 0)] * len(names), np.int32).reshape(-1, 2)[order],
            shares=np.array(shares or [False] * len(names), np.bool_)[order],
        )


@dataclass(frozen=True, eq=False)
class KeypointFile:
    """Keypoints that were found or drawn before. Can be sent to worker processes.

    Attributes:
        path: The file, or the folder.
        name: What a shard records as its backend: `coco-keypoints`, `coco-wholebody`,
            `openpose-18`, `openpose-25` or `deepfashion-landmarks`.
        landmarks: The landmark set, `body` or `garment`.
        sha256: SHA-256 of the file, hexadecimal; of a folder, that of the list which `sha256sum`
            prints of its files, sorted by their paths in it.
        ids: The photos that it knows, sorted.
        without_extension: Whether `ids` lack the photo's extension.
        people: Who is on them.
    """

    path: Path
    name: str
    landmarks: str
    sha256: str
    ids: Names
    without_extension: bool
    people: People

    def knows(self, photo_id: str) -> bool:
        """Tell whether a photo is in the file, be it with nobody on it."""
        return self._find(photo_id) is not None

    def check_ids(self, ids: Sequence[str]) -> None:
        """Check that the photos are those of the file.

        Args:
            ids: Ids of all photos that are asked for.

        Raises:
            VsamError: If not one of them is in the file: then the ids are relative to different
                folders; or if one entry of the file would serve two photos.
        """
        taken = bytearray(len(self.ids))
        for id_ in ids:
            position = self._find(id_)
            if position is None:
                continue
            if taken[position] and self.without_extension:
                other = next(each for each in ids if self._find(each) == position)
                raise VsamError(
                    f"{self.path} has one entry, {self.ids[position]!r}, for both {other!r} and "
                    f"{id_!r}. Give photos names that differ in more than the extension."
                )
            taken[position] = 1
        if ids and not any(taken):
            theirs = f"{self.ids[0]!r}" if self.ids else "none"
            extension = " (whatever the extension)" if self.ids and self.without_extension else ""
            raise VsamError(
                f"None of the {len(ids)} photos is in {self.path}: the photos are called like "
                f"{ids[0]!r}, those of the keypoints {theirs}{extension}. Set --root to the "
                "folder that the names in the keypoints are relative to."
            )

    def poses(self, photo_id: str, size: tuple[int, int], *, min_confidence: float = 0.0) -> Poses:
        """Look up the people on a photo.

        Args:
            photo_id: The photo's id: must be the name in the file to the letter.
            size: Width and height of the upright photo in pixels.
            min_confidence: People with a lower score are left out; formats without scores have
                none of them.

        Returns:
            The main person first; nobody if the file does not know the photo.

        Raises:
            UnreadablePhotoError: If the file has the keypoints of a photo of other proportions.
        """
        position = self._find(photo_id)
        if position is None:
            return no_poses(self.landmarks)
        width, height = self._size_of_keypoints(position, size)
        start = int(self.people.ends[position - 1]) if position else 0
        chosen = np.arange(start, self.people.ends[position])
        scores = self.people.scores[chosen]
        sure = ~(scores < min_confidence)  # NaN, no score, is sure
        chosen, scores = chosen[sure], scores[sure]
        points = self.people.points[chosen].astype(np.float64)
        if self.people.shares[position]:
            points[..., :2] *= (width - 1, height - 1)
        if not np.isfinite(scores).all():
            scores = points[..., 2].sum(axis=1)  # who has most joints counts as most certain
        order = np.argsort(-scores, kind="stable")
        keypoints = _keypoints(points[order], self.people.columns, self.landmarks, width, height)
        return main_person_first(Poses(keypoints, self.landmarks), *size)

    def _find(self, photo_id: str) -> int | None:
        return self.ids.find(_without_extension(photo_id) if self.without_extension else photo_id)

    def _size_of_keypoints(self, position: int, size: tuple[int, int]) -> tuple[int, int]:
        """Tell the size that pixels are of: the photo's, or a scaled one's of its proportions."""
        width, height = map(int, self.people.sizes[position])
        if not width:
            return size
        # Scaling rounds a side by less than a pixel, which makes this difference less than the
        # larger photo's longer side. Sides that are swapped always make more.
        off = abs(size[0] * height - size[1] * width)
        if off >= max(*size, width, height) and (width, height) != size:
            raise UnreadablePhotoError(
                f"its keypoints are for a photo of {width} x {height}, but it has "
                f"{size[0]} x {size[1]}"
            )
        return width, height


def _keypoints(
    points: NDArray[np.float64], columns: tuple[int, ...], landmarks: str, width: int, height: int
) -> NDArray[np.float32]:
    """Turn (P, J, 3) pixels into (P, K, 4) keypoints; see `Poses`. Who has none is left out."""
    keypoints = np.zeros((len(points), len(landmark_set(landmarks)), 4), np.float32)
    keypoints[..., :2] = np.nan
    xy = (points[..., :2] + 0.5) / (width, height)
    known = (points[..., 2] > 0) & (abs(xy) <= FARTHEST).all(axis=-1)
    inside = (xy.min(axis=-1) >= 0) & (xy.max(axis=-1) <= 1)
    found = np.concatenate([xy, points[..., 2:], inside[..., None]], axis=-1)
    found[~known] = (np.nan, np.nan, 0, 0)
    keypoints[:, list(columns)] = found
    return keypoints[known.any(axis=1)]


def _without_extension(photo_id: str) -> str:
    name, dot, extension = photo_id.rpartition(".")
    return name if dot and "/" not in extension else photo_id
