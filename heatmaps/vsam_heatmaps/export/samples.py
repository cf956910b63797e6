"""Samples of WebDataset: a record and its photo as a piece of a tar file."""

from __future__ import annotations

import io
import json
import tarfile
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from ..images.kinds import read_header
from ..shards import Record

# Of the kinds whose usual extension is another word.
_EXTENSIONS = {"JPEG": "jpg", "TIFF": "tif"}


def sample_key(id_: str) -> str:
    """Turn a photo's id into the key of its sample; `urllib.parse.unquote` turns it back.

    WebDataset takes a name up to the first dot of its last part for the key, and leaves out what
    begins with two underscores. So dots are written as `%2E`, beside what URLs escape.

    >>> sample_key("dress v1.2/a.jpg")
    'dress%20v1%2E2/a%2Ejpg'
    """
    key = quote(id_, safe="/").replace(".", "%2E")
    return f"%5F{key[1:]}" if key.startswith("__") else key


def make_sample(record: Record, photo: bytes) -> bytes:
    """Make a record's piece of a tar file: the photo, its maps and what is known about it.

    Args:
        record: With any status but `UNREADABLE`.
        photo: The photo's file.

    Raises:
        UnreadablePhotoError: If it is no image.
    """
    key = sample_key(record.id)
    about = {
        "id": record.id,
        "status": record.status.name.lower(),
        "size": record.size,
        "people": record.people,
        "channels": record.channels,
        "keypoints": _plain(record.keypoints),
        "sha256": record.sha256.hex(),
    }
    maps = io.BytesIO()
    np.lib.format.write_array(maps, np.ascontiguousarray(record.heatmaps), allow_pickle=False)
    return b"".join(
        (
            _member(f"{key}.{_extension(photo)}", photo),
            _member(f"{key}.heatmaps.npy", maps.getvalue()),
            _member(f"{key}.json", json.dumps(about, allow_nan=False).encode()),
        )
    )


def _plain(keypoints: NDArray[np.float32]) -> list[list[float | None]]:
    """Write numbers as short as float32 allows, and those that are none as None."""
    return [[float(str(x)) if np.isfinite(x) else None for x in point] for point in keypoints]


def _extension(photo: bytes) -> str:
    """Tell a photo's usual file name extension from its contents.

    Raises:
        UnreadablePhotoError: If it is no image.
    """
    kind = read_header(photo).kind
    return _EXTENSIONS.get(kind, kind.lower())


def _member(name: str, data: bytes) -> bytes:
    """Make a file's piece of a tar file: the same bytes whoever makes it, and whenever."""
    info = tarfile.TarInfo(name)  # owner 0, time 0, mode 0644
    info.size = len(data)
    return info.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def tar_size(size: int) -> int:
    """Count the bytes of a tar file with its end mark, for members that take `size` bytes."""
    return -(-(size + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
