"""The figure of what `supervision.py` measured: bars of all variants, and what poses add."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

from supervision_plan import (
    BY_NAME,
    GIVEN,
    NONE,
    REGIONS,
    REGIONS_FREE,
    SINGLE,
    SINGLE_FREE,
)
from supervision_results import ATTRIBUTES, PartResults, estimate

from vsam_heatmaps.atomic import write_bytes

# Greys without poses, colours with them, an empty bar for what needs a pose of each photo.
_COLOURS = {
    NONE.name: "#c9c9c9",
    SINGLE_FREE.name: "#a0b4c8",
    SINGLE.name: "#3f7fbf",
    REGIONS_FREE.name: "#e8c39e",
    REGIONS.name: "#d9731a",
    GIVEN.name: "#ffffff",
}
_GAINS = (
    (SINGLE, SINGLE_FREE, "one map: pose − no pose"),
    (REGIONS, REGIONS_FREE, "region maps: pose − no pose"),
)
_BEST = "region maps with pose − best variant without"
_LABELS = {
    "a100": "mannequins,\n100 photos",
    "a300": "mannequins,\n300 photos",
    "a1000": "mannequins,\n1,000 photos",
    "b": "street photos,\nfrom scratch",
    "c-frozen": "street photos,\npretrained,\nfrozen",
    "c-tuned": "street photos,\npretrained,\nfine-tuned",
}
_WIDTH, _HEIGHT, _DPI = 9.0, 6.4, 200  # legible when shown 900 pixels wide


def draw_figure(parts: Mapping[str, PartResults], out: Path) -> None:
    """Draw attribute mAP by part and variant, and below the differences, with intervals.

    Args:
        parts: Results by the part's name.
        out: PNG to write.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(
        2, 1, sharex=True, figsize=(_WIDTH, _HEIGHT), height_ratios=(3, 2), layout="constrained"
    )
    _draw_levels(above, parts)
    _draw_gains(below, parts)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="0.9", zorder=0)
        axes.set_axisbelow(True)
    below.set_xticks(range(len(parts)), [_LABELS[name] for name in parts], fontsize=9.5)
    below.tick_params(axis="x", length=0)
    above.tick_params(axis="x", length=0)
    data = io.BytesIO()
    figure.savefig(data, dpi=_DPI, format="png")
    pyplot.close(figure)
    write_bytes(out, data.getvalue())


def _draw_levels(axes, parts: Mapping[str, PartResults]) -> None:  # type: ignore[no-untyped-def]
    shown = [name for name in _COLOURS if any(result.has(name) for result in parts.values())]
    wide = 0.84 / len(shown)
    for number, name in enumerate(shown):
        places, values = [], []
        for group, result in enumerate(parts.values()):
            if result.has(name):
                places.append(group + (number - (len(shown) - 1) / 2) * wide)
                values.append(estimate(result.of(name).measure(ATTRIBUTES).mean(axis=0)))
        axes.bar(
            places,
            [each.value for each in values],
            wide * 0.9,
            color=_COLOURS[name],
            edgecolor="#444444" if name == GIVEN.name else _COLOURS[name],
            hatch="////" if name == GIVEN.name else None,
            linewidth=0.8,
            label=BY_NAME[name].title,
            yerr=_spread(values),
            error_kw={"elinewidth": 0.9, "ecolor": "#333333"},
        )
    axes.set_ylabel("attribute mAP (test)", fontsize=10)
    axes.legend(
        ncols=3, fontsize=9, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0),
        columnspacing=1.4, handlelength=1.4,
    )  # fmt: skip


def _draw_gains(axes, parts: Mapping[str, PartResults]) -> None:  # type: ignore[no-untyped-def]
    axes.axhline(0, color="#333333", linewidth=0.9)
    lines = [(first, second, title, _COLOURS[first.name]) for first, second, title in _GAINS]
    lines.append((REGIONS, None, _BEST, "#7a2e0e"))
    for number, (first, second, title, colour) in enumerate(lines):
        places, values = [], []
        for group, result in enumerate(parts.values()):
            other = result.best_unsupervised() if second is None else second.name
            if other is not None and result.has(first.name, other):
                places.append(group + (number - 1) * 0.22)
                values.append(result.difference(first.name, other))
        axes.errorbar(
            places,
            [each.value for each in values],
            yerr=_spread(values),
            fmt="o",
            markersize=5,
            capsize=3,
            color=colour,
            label=title,
        )
    axes.set_ylabel("gain in mAP", fontsize=10)
    axes.legend(ncols=3, fontsize=9, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0),
                columnspacing=1.4, handletextpad=0.3)  # fmt: skip


def _spread(values):  # type: ignore[no-untyped-def]
    return [
        [max(0.0, each.value - each.low) for each in values],
        [max(0.0, each.high - each.value) for each in values],
    ]
