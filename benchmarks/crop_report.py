"""Tables and pictures of what `crops.py` measures: a reliability diagram, a sheet of failures."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scoring import Reliability

from vsam_heatmaps.overlays import caption, draw_skeleton, fit_tile, write_picture

_TILE = (150, 200)  # width and height in pixels
_COLUMNS = 5


@dataclass(frozen=True)
class Failure:
    """A crop whose pose was not found, or is mostly wrong.

    Attributes:
        crop: (H, W, 3) uint8 RGB.
        title: What to write above.
        found: (33, 4) x, y as shares of the crop, visibility, presence; None without a pose.
        true: (33, 4) likewise.
    """

    crop: NDArray[np.uint8]
    title: str
    found: NDArray[np.float32] | None
    true: NDArray[np.float32]


def write_sheet(failures: Sequence[Failure], out: Path) -> None:
    """Draw each crop twice: with the skeleton that was found, and with the true one."""
    width, height = _TILE
    tiles = []
    for failure in failures:
        ours = failure.crop if failure.found is None else draw_skeleton(failure.crop, failure.found)
        told = "no pose" if failure.found is None else "found"
        pair = [(told, ours), ("true", draw_skeleton(failure.crop, failure.true))]
        row = [
            np.vstack([caption(width, name), fit_tile(image, width, height)])
            for name, image in pair
        ]
        tiles.append(np.vstack([caption(2 * width, failure.title), np.hstack(row)]))
    blank = np.full_like(tiles[0], 255)
    tiles += [blank] * (-len(tiles) % _COLUMNS)
    gap = np.full((tiles[0].shape[0], 8, 3), 255, np.uint8)
    rows = [
        np.hstack([part for tile in tiles[start : start + _COLUMNS] for part in (tile, gap)])
        for start in range(0, len(tiles), _COLUMNS)
    ]
    write_picture(out, np.vstack(rows))


def write_reliability(curves: Mapping[str, Reliability], out: Path) -> None:
    """Plot the share of right joints over their visibility, and how many joints there are."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(
        2, 1, sharex=True, figsize=(5, 6), height_ratios=(3, 1), layout="constrained"
    )
    above.plot([0, 1], [0, 1], color="0.7", linestyle="--", label="perfect")
    for name, curve in curves.items():
        known = curve.count > 0
        label = f"{name}: error {curve.error:.3f}"
        above.plot(curve.confidence[known], curve.right[known], marker="o", label=label)
        edges = np.linspace(0, 1, len(curve.count) + 1)
        below.stairs(curve.count / curve.count.sum(), edges)
    above.set(ylabel="share of right joints", xlim=(0, 1), ylim=(0, 1))
    above.legend(loc="upper left", fontsize="small")
    below.set(xlabel="visibility", ylabel="share of joints")
    figure.savefig(out, dpi=120)
    pyplot.close(figure)


def as_json(curve: Reliability) -> dict[str, object]:
    """Give a curve as a table, one row a bin that has joints."""
    rows = zip(curve.confidence, curve.right, curve.count, strict=True)
    return {
        "expected_calibration_error": round(curve.error, 4),
        "joints": int(curve.count.sum()),
        "bins": [
            {"confidence": round(float(mean), 3), "right": round(float(part), 3), "joints": int(n)}
            for mean, part, n in rows
            if n
        ],
    }


def tell(
    crops: Mapping[str, Mapping[str, Mapping[str, object]]],
    false: Mapping[str, Mapping[str, Mapping[str, object]]],
    curves: Mapping[str, Reliability],
) -> None:
    """Write tables for people on stderr."""
    for line in _lines(crops, false, curves):
        print(line, file=sys.stderr)


def _lines(
    crops: Mapping[str, Mapping[str, Mapping[str, object]]],
    false: Mapping[str, Mapping[str, Mapping[str, object]]],
    curves: Mapping[str, Reliability],
) -> Iterator[str]:
    columns = (
        "pck", "pck_95%", "found", "pck_of_the_found", "map_iou_union", "map_iou_channels",
        "outside_drawn",
    )  # fmt: skip
    yield "  ".join(["crop".ljust(17), "estimator".ljust(19), *columns])
    for kind, by_estimator in crops.items():
        for name, values in by_estimator.items():
            cells = [str(values[column]).rjust(len(column)) for column in columns]
            yield "  ".join([kind.ljust(17), name.ljust(19), *cells])
    for what, by_estimator in false.items():
        for name, values in by_estimator.items():
            yield f"false poses, {what}, {name}: found {values['found']}, drawn {values['drawn']}"
    for name, curve in curves.items():
        yield f"expected calibration error, {name}: {curve.error:.4f}"
