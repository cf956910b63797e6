"""Write predictions as JSON lines or CSV, and attention as pictures."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import numpy as np
from numpy.typing import NDArray

from vsam_heatmaps.atomic import replacing, write_bytes
from vsam_heatmaps.errors import VsamError, explain_os_error
from vsam_heatmaps.overlays import heat_overlay

from .attention_maps import stretch

if TYPE_CHECKING:  # it imports torch, which a client of a server does without
    from .run_folder import Labels

FORMATS = ("jsonl", "csv")
ATTENTION_SUFFIX = ".attention.jpg"

# Overlays are for looking at: larger ones would fill disks.
_OVERLAY_SIDE = 640


class Writer(Protocol):
    """Writes one photo's entry: its id, and either a description or an error."""

    def __call__(self, image: str, description: dict[str, Any] | None, error: str) -> None:
        """Write it."""
        ...


@contextlib.contextmanager
def opened_output(out: str) -> Iterator[TextIO]:
    """Open a file that appears when it is whole, or standard output for `-`."""
    if out == "-":
        try:
            yield sys.stdout
            sys.stdout.flush()
        except BrokenPipeError:
            raise  # nobody reads on: the command ends without a word
        except OSError as error:
            raise explain_os_error(error, "write to standard output") from error
        return
    path = Path(out)
    if path.is_dir():
        raise VsamError(f"Expected `--out` to be a file, but {path} is a folder.")
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        yield file


def jsonl_writer(file: TextIO) -> Writer:
    """Make a writer of one JSON object a line."""

    def write(image: str, description: dict[str, Any] | None, error: str) -> None:
        entry = {"image": image, **(description or {"error": error})}
        # ASCII: a line stays a line, whatever a file name holds.
        file.write(json.dumps(entry) + "\n")

    return write


def csv_writer(file: TextIO, labels: Labels, *, all_scores: bool) -> Writer:
    """Make a writer of a table: image, category, score, attributes, error.

    With all scores, a column for each category and attribute follows.
    """
    scored = [("categories", name) for name in labels.categories]
    scored += [("attributes", name) for name in labels.attributes]
    table = csv.writer(file, lineterminator="\n")
    header = ["image", "category", "score", "attributes", "error"]
    if all_scores:
        header += [f"{kind}:{name}" for kind, name in scored]
    table.writerow(header)

    def write(image: str, description: dict[str, Any] | None, error: str) -> None:
        if description is None:
            table.writerow([image, "", "", "", error, *[""] * (len(header) - 5)])
            return
        names = ";".join(entry["label"] for entry in description["attributes"])
        row = [image, description["category"], description["score"], names, ""]
        if all_scores:
            scores = {
                (kind, entry["label"]): entry["score"]
                for kind in ("categories", "attributes")
                for entry in description[kind]
            }
            row += [scores[key] for key in scored]
        table.writerow(row)

    return write


def shrink_for_overlay(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale an (H, W, 3) photo down to what an overlay needs."""
    import cv2

    scale = _OVERLAY_SIDE / max(photo.shape[:2])
    if scale >= 1:
        return photo
    size = (max(1, round(photo.shape[1] * scale)), max(1, round(photo.shape[0] * scale)))
    return np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)


def write_attention(
    folder: Path, image: str, photo: NDArray[np.uint8], attention: NDArray[np.float32]
) -> Path:
    """Write the attention over a photo as `folder/<image>.attention.jpg`.

    Args:
        folder: For the pictures; sub-folders follow the id.
        image: The photo's id.
        photo: (H, W, 3) uint8 RGB.
        attention: (S, S) float32; it is stretched to its own range.
    """
    import cv2

    overlay = heat_overlay(photo, stretch(attention))
    done, data = cv2.imencode(".jpg", overlay[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert done
    path = folder / f"{image}{ATTENTION_SUFFIX}"
    write_bytes(path, data.tobytes())
    return path
