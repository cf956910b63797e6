"""What tests of extractions share."""

import shutil
from pathlib import Path

from vsam_heatmaps.shards import Record


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".h5"}


def copy_photos(mannequins: Path, folder: Path, count: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    photos = sorted((mannequins / "photos").iterdir())[:count]
    assert len(photos) == count
    for photo in photos:
        shutil.copy(photo, folder)
    return folder


def plain(record: Record) -> tuple:
    """Everything in a record, as something that can be compared."""
    arrays = (record.heatmaps.tobytes(), record.keypoints.tobytes())
    return (record.id, record.status, *arrays, record.size, record.sha256, record.reason)
