"""What a worker process of an extraction does: a photo in, its record out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..engines import Engine, Lookup
from ..errors import UnreadablePhotoError
from ..hashes import HashIndex
from ..images import Decoded, decode, max_bytes
from ..photos import Photo
from ..poses import PoseEstimator, Poses
from ..rendering import RenderOptions, render_heatmaps
from ..shards import NO_HASH, Record, Status, no_keypoints

LEAST_SIDE = 500
"""Large JPEGs are decoded at a reduced scale with at least this many pixels on the longer side."""


@dataclass(frozen=True)
class Work:
    """What a worker must know to make records; see `ExtractOptions`.

    Attributes:
        engine: What finds poses, or the file in which they are looked up.
        render: How they become maps.
        people: Whom the maps show.
        max_pixels: Photos with more pixels are unreadable.
        moved: Hashes of contents whose record is there already, under the id of a photo that is
            gone.
    """

    engine: Engine | Lookup
    render: RenderOptions
    people: str
    max_pixels: int
    moved: HashIndex = field(default_factory=HashIndex)


@dataclass(frozen=True)
class Known:
    """What the record says that a photo has already.

    Attributes:
        sha256: Hash of the contents for which it was made; zeros if they could not be read.
        reason: Why the photo was unreadable, else empty.
    """

    sha256: bytes
    reason: str = ""


@dataclass(frozen=True)
class Task:
    """One photo to be looked at.

    Attributes:
        photo: The photo.
        known: Its record that is there already, or None.
        again: Look at the photo even if its contents are the known ones.
    """

    photo: Photo
    known: Known | None = None
    again: bool = False


@dataclass(frozen=True)
class Unchanged:
    """The photo's record that is there already holds."""


@dataclass(frozen=True)
class Moved:
    """The photo's contents are those of a photo that is gone, whose record can be kept."""

    sha256: bytes


@dataclass(frozen=True)
class Written:
    """The photo's new record is in a shard already."""

    status: Status
    reason: str


Outcome = Record | Unchanged | Moved
"""What becomes of a task."""


class RecordMaker:
    """Makes records of photos. The networks are loaded at the first photo that needs them.

    Args:
        work: See `Work`.
        around_loading: Called with False before the networks are loaded, with True after it.
        hashed: Called with the hash of a photo's contents as soon as it is known, before anything
            else is done with them.
    """

    def __init__(
        self,
        work: Work,
        *,
        around_loading: Callable[[bool], None] = lambda done: None,
        hashed: Callable[[bytes], None] = lambda sha256: None,
    ) -> None:
        self._work = work
        self._around_loading, self._hashed = around_loading, hashed
        self._estimator: PoseEstimator | None = None

    def outcome(self, task: Task) -> Outcome:
        """Make a photo's record, or say which one can be kept."""
        work, photo = self._work, task.photo
        sha256, size = NO_HASH, (0, 0)
        self._hashed(sha256)
        try:
            data = photo.read(max_bytes=max_bytes(work.max_pixels))
            sha256 = hashlib.sha256(data).digest()
            self._hashed(sha256)
            if task.known is not None and sha256 == task.known.sha256 and not task.again:
                return Unchanged()
            if work.moved.find(sha256) is not None:
                return Moved(sha256)
            # Keypoints that are looked up need no pixels, but a photo that is whole.
            least_side = 1 if isinstance(work.engine, Lookup) else LEAST_SIDE
            decoded = decode(data, max_pixels=work.max_pixels, least_side=least_side)
            del data
            size = decoded.size
            poses = self._poses(photo, decoded)
            if not len(poses):
                return without_pose(photo, work.render, sha256, size)
            heatmaps = self._render(poses)
        except UnreadablePhotoError as error:
            return unreadable(task, work.render, str(error), sha256, size)
        except MemoryError:
            return unreadable(task, work.render, "there is not enough memory", sha256, size)
        return Record(
            id=photo.id,
            status=Status.OK,
            heatmaps=heatmaps,
            channels=work.render.channel_names,
            keypoints=poses.keypoints[0],
            size=size,
            sha256=sha256,
            people=len(poses),
        )

    def _poses(self, photo: Photo, decoded: Decoded) -> Poses:
        import cv2

        engine = self._work.engine
        if isinstance(engine, Lookup):
            return engine.file.poses(photo.id, decoded.size, min_confidence=engine.min_confidence)
        if self._estimator is None:
            self._around_loading(False)
            self._estimator = engine.estimator()
            # A network that can't run at all must fail here, where no photo is to blame.
            self._estimator.estimate(np.full((256, 256, 3), 127, np.uint8))
            self._around_loading(True)
        try:
            return self._estimator.estimate(decoded.image)
        except (RuntimeError, ValueError, cv2.error) as error:
            said = (str(error) or repr(error)).splitlines()[0]
            raise UnreadablePhotoError(f"the pose estimator failed: {said}") from error

    def _render(self, poses: Poses) -> NDArray[np.uint8]:
        """Render the main person, or all: a map is a maximum over joints, so also over people."""
        shown = len(poses) if self._work.people == "all" else 1
        maps = [render_heatmaps(person, self._work.render) for person in poses.keypoints[:shown]]
        return np.maximum.reduce(maps)


def unreadable(
    task: Task,
    render: RenderOptions,
    reason: str,
    sha256: bytes = NO_HASH,
    size: tuple[int, int] = (0, 0),
) -> Record | Unchanged:
    """Make the record of a photo that can't be read, unless the known one says just that."""
    if task.known == Known(sha256, reason):
        return Unchanged()
    return _empty(task.photo, Status.UNREADABLE, render, sha256, size, reason)


def without_pose(
    photo: Photo, render: RenderOptions, sha256: bytes, size: tuple[int, int]
) -> Record:
    """Make the record of a photo that shows nobody."""
    return _empty(photo, Status.NO_POSE, render, sha256, size)


def _empty(
    photo: Photo,
    status: Status,
    render: RenderOptions,
    sha256: bytes,
    size: tuple[int, int],
    reason: str = "",
) -> Record:
    channels = render.channel_names
    maps = np.zeros((len(channels), render.side, render.side), np.uint8)
    return Record(
        photo.id, status, maps, channels, no_keypoints(render.landmarks), size, sha256, reason
    )
