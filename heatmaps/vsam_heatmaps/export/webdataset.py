"""Export: photos and their heatmaps as WebDataset tar files, for trainers that stream their data.

`heatmaps/README.md` tells what is in the files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..atomic import replacing, write_text
from ..errors import UnreadablePhotoError, VsamError, expected, explain_os_error
from ..images import max_bytes
from ..photos import Photos
from ..progress import Progress, track
from ..shards import Record, Shards, Status
from .samples import make_sample, tar_size

FORMAT = "vsam-webdataset"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class ExportOptions:
    """How records become tar files.

    Attributes:
        maxcount: Most samples in one file.
        maxsize: Most bytes of one file; a sample that is larger has a file of its own.
        only_ok: Leave out photos without a pose; they have zero maps otherwise.
        stop_on_error: Stop at the first record whose photo is missing, unreadable or another one,
            instead of leaving it out.
    """

    maxcount: int = 1000
    maxsize: int = 1_000_000_000
    only_ok: bool = False
    stop_on_error: bool = True

    def __post_init__(self) -> None:
        if self.maxcount < 1:
            raise expected("maxcount", "at least 1", self.maxcount)
        if self.maxsize < 1:
            raise expected("maxsize", "at least 1 byte", self.maxsize)


@dataclass
class ExportReport:
    """What an export did.

    Attributes:
        tars: Names of the files, with the number of samples in each.
        counts: Samples by status: keys `ok` and `no_pose`.
        left_out: Id and reason of each record that is in no file: the photo was unreadable when it
            was extracted, or is missing, unreadable or another one now.
        without_record: Photos that were given and have no record.
    """

    tars: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: {"ok": 0, "no_pose": 0})
    left_out: list[tuple[str, str]] = field(default_factory=list)
    without_record: int = 0


def export(
    shards: Shards,
    photos: Photos,
    out: Path,
    *,
    options: ExportOptions | None = None,
    progress: bool = False,
) -> ExportReport:
    """Write each record with its photo into tar files, in the order of the ids.

    The same photos, shards and options give the same bytes. Each file has its name when it is
    whole; `dataset.json` comes last.

    Args:
        shards: The records.
        photos: Where their photos lie, see `list_photos`.
        out: A folder that is new or empty.
        options: See `ExportOptions`.
        progress: Show progress on stderr.

    Raises:
        VsamError: If the folder isn't empty or can't be written, a shard is damaged, no photo
            belongs to a record, there is nothing to export, or at a photo as the options say.
    """
    options = options or ExportOptions()
    if shards.ids.count_missing(photos.ids) == len(shards):
        given = f"the first photo is {photos.ids[0]!r}" if photos else "there is no photo"
        raise VsamError(
            f"Expected the photos to be those of the shards in {shards.path}, but no id is the "
            f"same: the first record is {shards.ids[0]!r}, {given}. Check --photos and --root."
        )
    report = ExportReport(without_record=photos.ids.count_missing(shards.ids))
    with _claimed(out), track(len(shards), "export", shown=progress) as bar:
        samples = _samples(shards, photos, options, report, bar)
        pending = next(samples, None)
        while pending is not None:
            path = out / f"vsam-{len(report.tars):06d}.tar"
            with replacing(path) as temporary, temporary.open("wb") as file:
                written = size = 0
                while pending is not None and (
                    written == 0
                    or (
                        written < options.maxcount
                        and tar_size(size + len(pending)) <= options.maxsize
                    )
                ):
                    size += file.write(pending)
                    written += 1
                    pending = next(samples, None)
                file.write(bytes(tar_size(size) - size))
            report.tars[path.name] = written
        if not report.tars:
            raise VsamError(f"None of the {len(shards)} records in {shards.path} can be exported.")
        write_text(out / "dataset.json", _description(shards, report))
    return report


def _samples(
    shards: Shards, photos: Photos, options: ExportOptions, report: ExportReport, bar: Progress
) -> Iterator[bytes]:
    """Give each sample as a piece of a tar file; count it."""
    for id_ in shards.ids:
        bar.update()
        status = shards.status(id_)
        if options.only_ok and status is not Status.OK:
            continue
        record = shards[id_]
        if status is Status.UNREADABLE:
            report.left_out.append((id_, f"it could not be read: {record.reason}"))
            continue
        try:
            sample = make_sample(record, _photo(record, photos, max_bytes(shards.info.max_pixels)))
        except UnreadablePhotoError as error:
            if options.stop_on_error:
                raise VsamError(
                    f"Could not export {id_!r}: {error}. Give the photos that the heatmaps were "
                    "made from, extract them again, or leave such photos out: --on-error skip."
                ) from error
            report.left_out.append((id_, str(error)))
            continue
        report.counts[status.name.lower()] += 1
        yield sample


def _photo(record: Record, photos: Photos, limit: int) -> bytes:
    """Read a record's photo.

    Raises:
        UnreadablePhotoError: If there is none, it can't be read, or it is another one.
    """
    position = photos.ids.find(record.id)
    if position is None:
        raise UnreadablePhotoError("it is not among the photos")
    photo = photos[position]
    data = photo.read(max_bytes=limit)
    found = hashlib.sha256(data).digest()
    if found != record.sha256:
        raise UnreadablePhotoError(
            f"{photo} is another photo than the heatmaps were made from, with the SHA-256 "
            f"{found.hex()[:16]}… instead of {record.sha256.hex()[:16]}…"
        )
    return data


def _description(shards: Shards, report: ExportReport) -> str:
    from .. import __version__

    description: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "tool_version": __version__,
        "samples": sum(report.tars.values()),
        **report.counts,
        "tars": report.tars,
        "heatmaps": asdict(shards.info),
    }
    return json.dumps(description, indent=2) + "\n"


@contextlib.contextmanager
def _claimed(out: Path) -> Iterator[None]:
    """Make the folder or take an empty one, for this process alone."""
    import filelock

    try:
        out.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(out / ".lock").acquire(timeout=0):
            there = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
            if there:
                raise VsamError(
                    f"Expected `{out}` to be new or empty, but it holds {there[0]}. Name another "
                    "folder, or delete it if it is what a stopped export left."
                )
            for stale in out.glob(".vsam-*.tmp"):
                stale.unlink()
            yield
    except filelock.Timeout as error:
        raise VsamError(f"Another export is writing into {out}. Wait until it ends.") from error
    except OSError as error:
        raise explain_os_error(error, f"write into {out}") from error
