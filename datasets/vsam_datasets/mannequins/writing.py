"""A folder of mannequins: photos, labels, true joints and, if wanted, true masks."""

from __future__ import annotations

import contextlib
import csv
import io
import multiprocessing
import os
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vsam_heatmaps import interrupts
from vsam_heatmaps.atomic import prepare_output_folder, write_bytes, write_text
from vsam_heatmaps.errors import VsamError, expected, explain_os_error
from vsam_heatmaps.landmarks import LANDMARKS

from .drawing import draw_mannequin

_JPEG_QUALITY = 90
# Ten consecutive mannequins are split 7 : 1 : 2, so that a photo's split never depends on how
# many there are.
_SPLITS = ("train", "train", "test", "train", "train", "val", "train", "test", "train", "train")
MARKER = ".mannequins"
"""Marks a folder as ours from its first photo on, so that an interrupted run can be repeated."""


@dataclass(frozen=True)
class _Record:
    """What the tables say about one photo."""

    image: str
    split: str
    category: str
    attributes: tuple[str, ...]
    joints: NDArray[np.float64]


def write_mannequins(
    out: Path,
    *,
    count: int,
    seed: int = 0,
    masks: bool = False,
    crowded: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Draw mannequins 0 … `count` − 1 of a series into a folder.

    The folder then holds `photos/00000.jpg` and so on, `joints.csv` (image, joint, x, y; pixels,
    origin at the centre of the top-left pixel; joints inside the photo) and `labels.csv` (image,
    split, category, attributes joined by `;`). `labels.csv` is written last: where it is, the
    folder is complete. The files are the same for any number of workers. With `masks` there are
    also `masks/00000.png` and so on, of the photo's size, one byte a pixel: a number of `Part`.

    Args:
        out: A new or empty folder, or one that this function wrote before.
        count: How many to draw.
        seed: Chooses the series.
        masks: Write the masks too; without it, masks of an earlier run are removed.
        crowded: See `draw_mannequin`.
        workers: Processes to draw with; the default is one per core.
        progress: Whether to show a progress bar, if stderr is a terminal.

    Returns:
        The path of `labels.csv`.

    Raises:
        VsamError: If an argument is out of range, the folder holds something else or can't be
            written, or a worker was killed.
    """
    if count < 1:
        raise expected("count", "at least 1", count)
    if seed < 0:
        raise expected("seed", "at least 0", seed)
    if workers is not None and workers < 1:
        raise expected("workers", "at least 1", workers)
    out = Path(out)
    prepare_output_folder(out, ours=MARKER, purpose="mannequins")
    write_text(out / MARKER, "Drawn by vsam_datasets.mannequins; may be drawn over.\n")
    labels, photos = out / "labels.csv", out / "photos"
    mask_folder = out / "masks"
    try:
        labels.unlink(missing_ok=True)
        photos.mkdir(exist_ok=True)
        _remove_stale(photos, count)
        if masks:
            mask_folder.mkdir(exist_ok=True)
        if mask_folder.is_dir():
            _remove_stale(mask_folder, count if masks else 0)
    except OSError as error:
        raise explain_os_error(error, f"clear {out}") from error

    processes = min(workers or os.cpu_count() or 1, count)
    draw = partial(
        _draw_one,
        photos=photos,
        masks=mask_folder if masks else None,
        seed=seed,
        crowded=crowded,
    )
    with contextlib.closing(_draw_all(draw, count, processes)) as drawn:
        bar = tqdm(drawn, total=count, unit="photo", disable=None if progress else True)
        records = list(bar)
    write_text(out / "joints.csv", _table(("image", "joint", "x", "y"), _joint_rows(records)))
    write_text(
        labels,
        _table(
            ("image", "split", "category", "attributes"),
            ((r.image, r.split, r.category, ";".join(r.attributes)) for r in records),
        ),
    )
    return labels


def split_of(index: int) -> str:
    """Give the split of a mannequin: 70 % `train`, 10 % `val`, 20 % `test`."""
    return _SPLITS[index % len(_SPLITS)]


def _draw_all(
    draw: Callable[[int], _Record], count: int, processes: int
) -> Generator[_Record, None, None]:
    """Draw and write every photo; give the records in order."""
    if processes == 1:
        yield from map(draw, range(count))
        return
    pool = ProcessPoolExecutor(
        processes, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    try:
        with interrupts.starting_processes():
            drawn = pool.map(draw, range(count), chunksize=min(8, -(-count // processes)))
        yield from drawn
    except BrokenProcessPool as error:
        raise VsamError(
            "Could not draw all mannequins: a worker process was killed, perhaps for want of "
            "memory. Use fewer workers."
        ) from error
    finally:
        # Also on Ctrl-C: what has not begun is dropped, what has begun is a matter of moments.
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    interrupts.begin_process()
    cv2.setNumThreads(1)  # one process per core is parallel enough


def _draw_one(index: int, *, photos: Path, masks: Path | None, seed: int, crowded: bool) -> _Record:
    mannequin = draw_mannequin(index, seed, crowded=crowded)
    bgr = cv2.cvtColor(mannequin.photo, cv2.COLOR_RGB2BGR)
    encoded, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    assert encoded, "OpenCV encodes any (H, W, 3) uint8 array as JPEG"
    image = f"{index:05d}.jpg"
    write_bytes(photos / image, data.tobytes())
    if masks is not None:
        encoded, data = cv2.imencode(".png", mannequin.mask)
        assert encoded, "OpenCV encodes any (H, W) uint8 array as PNG"
        write_bytes(masks / f"{index:05d}.png", data.tobytes())
    return _Record(
        image, split_of(index), mannequin.category, mannequin.attributes, mannequin.joints
    )


def _remove_stale(folder: Path, count: int) -> None:
    """Remove pictures of a longer series, and what an interrupted run left half written."""
    for path in folder.iterdir():
        number = re.fullmatch(r"(\d{5,})\.(jpg|png)", path.name)
        half_written = re.fullmatch(r"\.\d{5,}\.(jpg|png)\.\w+\.tmp", path.name)
        if half_written or (number and int(number[1]) >= count):
            path.unlink()


def _joint_rows(records: Iterable[_Record]) -> Iterator[tuple[str, str, str, str]]:
    for record in records:
        for name, (x, y, known) in zip(LANDMARKS, record.joints, strict=True):
            if known:
                yield record.image, name, f"{x:.2f}", f"{y:.2f}"


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
