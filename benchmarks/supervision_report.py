"""Tables of what `supervision.py` measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from supervision_figure import draw_figure
from supervision_plan import (
    BY_NAME,
    CCP,
    GIVEN,
    NONE,
    REGIONS,
    REGIONS_FREE,
    SINGLE,
    SINGLE_FREE,
    Part,
)
from supervision_results import ATTRIBUTES, CATEGORY, Estimate, PartResults, estimate

from vsam_datasets.mannequins import ATTRIBUTE_KINDS
from vsam_heatmaps.atomic import write_text

_COMPARED = ((SINGLE, SINGLE_FREE), (REGIONS, REGIONS_FREE), (REGIONS, SINGLE), (REGIONS, NONE))
_METHOD = (
    "Mean over seeds; in brackets the 95 % interval of a paired bootstrap over test photos (2,000 "
    "resamples, the same for all variants; on each a measure is averaged over the seeds). In "
    "square brackets the seeds with the sign of the mean. Bold: the interval excludes zero."
)


def report(
    work: Path,
    parts: Mapping[str, Part],
    sweeps: Mapping[str, Sequence[Part]],
    settings: Mapping[str, Any],
) -> str:
    """Write `report.md`, `report.json` and `figure.png` of all that is there; give the text."""
    runs = work / "runs"
    found = {name: PartResults(part, runs) for name, part in parts.items()}
    measured = {name: results for name, results in found.items() if results.variants}
    points = {
        name: [result for part in each if (result := PartResults(part, runs)).variants]
        for name, each in sweeps.items()
    }
    told: dict[str, Any] = {"settings": dict(settings), "parts": {}, "sweeps": {}}
    lines = ["# Does pose supervision help?", "", _METHOD, ""]
    for name, results in measured.items():
        told["parts"][name] = _as_json(results)
        lines += _part(name, results)
    for name, each in points.items():
        if each:
            told["sweeps"][name] = {result.part.name: _as_json(result) for result in each}
            lines += _sweep(name, each, measured)
    lines += [f"Settings: `{json.dumps(dict(settings))}`", ""]
    text = "\n".join(lines)
    write_text(work / "report.json", json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    write_text(work / "report.md", text)
    if measured:
        draw_figure(measured, work / "figure.png")
    return text


def _part(name: str, results: PartResults) -> list[str]:
    seeds = len(results.seeds)
    budget = results.part.budget
    lines = [
        f"## {name}: {results.part.title}",
        "",
        f"{len(results.photos())} test photos, {seeds} seeds; {budget.epochs} epochs, "
        f"{budget.image_size} pixels, width {budget.width:g}.",
        "",
    ]
    lines += _table(
        ["", "attribute mAP", "category accuracy", "validation: mAP", "accuracy"],
        (
            [
                variant.title,
                _cell(_level(results, variant.name, ATTRIBUTES)),
                _cell(_level(results, variant.name, CATEGORY)),
                f"{results.validation(variant.name):.3f}",
                f"{results.validation(variant.name, CATEGORY):.3f}",
            ]
            for variant in results.variants
        ),
    )
    lines += _table(
        ["difference", "attribute mAP", "category accuracy"],
        (
            [
                f"{BY_NAME[first].title} − {BY_NAME[second].title}",
                *(_cell(results.difference(first, second, m), signed=True)
                  for m in (ATTRIBUTES, CATEGORY)),
            ]
            for first, second in _pairs(results)
        ),
    )  # fmt: skip
    lines += _ratios(results) + _by_kind(results) + _pasted(results) + _by_label(results)
    return lines


def _pairs(results: PartResults) -> list[tuple[str, str]]:
    """List the comparisons: those that are fixed, and with the best unsupervised variant."""
    pairs = [(first.name, second.name) for first, second in _COMPARED]
    best = results.best_unsupervised()
    if best is not None:
        pairs.append((REGIONS.name, best))
    return [pair for pair in dict.fromkeys(pairs) if results.has(*pair)]


def _ratios(results: PartResults) -> list[str]:
    best, lines = results.best_unsupervised(), []
    if best is not None and results.has(REGIONS.name):
        lines.append(
            f"- The best unsupervised variant here, by validation mAP: {BY_NAME[best].title}. "
            f"Pose-supervised region maps reach {_cell(results.ratio(REGIONS.name, best))} times "
            "its attribute mAP."
        )
    if results.has(REGIONS.name, GIVEN.name):
        ratio = results.ratio(REGIONS.name, GIVEN.name)
        lines.append(
            f"- Pose-supervised region maps reach {_cell(ratio)} times the upper bound's mAP."
        )
    return [*lines, ""] if lines else []


def _by_kind(results: PartResults) -> list[str]:
    if results.part.data == CCP:
        return []
    columns = {
        kind: [results.attributes.index(name) for name in names if name in results.attributes]
        for kind, names in ATTRIBUTE_KINDS.items()
    }
    columns = {kind: chosen for kind, chosen in columns.items() if chosen}
    lines = ["Attribute mAP by what the attributes are about:", ""]
    rows = []
    for variant in results.variants:
        measured = results.of(variant)
        cells = [
            _cell(estimate(measured.attribute_map(chosen).mean(axis=0)))
            for chosen in columns.values()
        ]
        rows.append([variant.title, *cells])
    for first, second in _pairs(results):
        gains = [results.of_attributes(first, second, chosen) for chosen in columns.values()]
        title = f"*{BY_NAME[first].title} − {BY_NAME[second].title}*"
        rows.append([title, *(_cell(gain, signed=True) for gain in gains)])
    return lines + _table(["", *columns], rows)


def _pasted(results: PartResults) -> list[str]:
    photos = results.photos("pasted")
    if not photos:
        return []
    lines = [
        f"The {len(photos)} test photos with a mask, as they are, and with their people before "
        "other backgrounds:",
        "",
    ]
    rows = []
    for variant in results.variants:
        cells = []
        for measure in (ATTRIBUTES, CATEGORY):
            before, after = (
                results.of(variant, split).measure(measure) for split in ("unpasted", "pasted")
            )
            # The same photos in the same order, so the resamples are the same, too.
            gap = after - before
            cells += [
                _cell(estimate(before.mean(axis=0))),
                _cell(estimate(after.mean(axis=0))),
                _cell(estimate(gap.mean(axis=0), gap[:, 0].tolist()), signed=True),
            ]
        rows.append([variant.title, *cells])
    header = ["", "mAP", "pasted", "change", "accuracy", "pasted", "change"]
    lines += _table(header, rows)
    pairs = [
        [
            f"{BY_NAME[first].title} − {BY_NAME[second].title}",
            *(
                _cell(results.difference(first, second, measure, "pasted"), signed=True)
                for measure in (ATTRIBUTES, CATEGORY)
            ),
        ]
        for first, second in _pairs(results)
    ]
    return lines + _table(["difference, pasted", "attribute mAP", "category accuracy"], pairs)


def _by_label(results: PartResults) -> list[str]:
    """Say which attributes gain, from the most to the least."""
    best = results.best_unsupervised()
    if best is None or not results.has(REGIONS.name):
        return []
    shown = [best, *(each.name for each in (REGIONS_FREE, REGIONS, GIVEN) if each.name != best)]
    shown = [name for name in shown if results.has(name)]
    levels = {name: results.of(name).precisions[:, :, 0].mean(axis=0) for name in shown}
    gains = {
        index: results.of_attributes(REGIONS.name, best, [index])
        for index in np.flatnonzero(results.frequency)
    }
    lines = [
        "Average precision by attribute; the gain is that of pose-supervised region maps over "
        f"{BY_NAME[best].title}:",
        "",
    ]
    return lines + _table(
        ["", "test photos", *(BY_NAME[name].title for name in shown), "gain"],
        (
            [
                results.attributes[index],
                str(results.frequency[index]),
                *(f"{levels[name][index]:.3f}" for name in shown),
                _cell(gain, signed=True),
            ]
            for index, gain in sorted(gains.items(), key=lambda entry: -entry[1].value)
        ),
    )


def _sweep(name: str, points: Sequence[PartResults], parts: Mapping[str, PartResults]) -> list[str]:
    """Tell one sweep: a row a point, beside the part that it starts from."""
    base = next((result for key, result in parts.items()
                 if points[0].part.name.startswith(f"{key}-")), None)  # fmt: skip
    rows = [*([base] if base else []), *points]
    names = [each for each in BY_NAME if any(point.has(each) for point in points)]
    body = []
    for row in rows:
        cells = [_cell(_level(row, each, ATTRIBUTES)) if row.has(each) else "" for each in names]
        valid = [
            f"{row.validation(each):.3f}" if row.has(each) else ""
            for each in (SINGLE.name, REGIONS.name)
            if each in names
        ]
        title = row.part.title if row is not base else f"*as in {row.part.name}*"
        body.append([title, str(len(row.seeds)), *cells, *valid])
    header = ["", "seeds", *(BY_NAME[each].title for each in names)]
    header += [f"validation: {each.title}" for each in (SINGLE, REGIONS) if each.name in names]
    lines = [f"## Sweep: {name}", "", "Attribute mAP:", "", *_table(header, body)]
    gains = [
        [
            row.part.title if row is not base else f"*as in {row.part.name}*",
            f"{BY_NAME[first].title} − {BY_NAME[second].title}",
            _cell(row.difference(first, second), signed=True),
        ]
        for row in rows
        for first, second in _pairs(row)
        if {first, second} <= set(names)
    ]
    gains += [
        [
            point.part.title,
            f"{BY_NAME[each].title} − *as in {base.part.name}*, same seeds",
            _cell(change, signed=True),
        ]
        for point in points
        for each in names
        if base and point.has(each) and base.has(each)
        if (change := point.change(each, base)) is not None
    ]
    lines += _table(["", "difference", "attribute mAP"], gains) if gains else []
    for point in points:
        pasted = _pasted(point) if _pairs(point) else []
        if more := _ratios(point) + _by_kind(point) + pasted:
            lines += [f"*{point.part.title}*", "", *more]
    return lines


def _as_json(results: PartResults) -> dict[str, Any]:
    best = results.best_unsupervised()
    by_label = {}
    if best is not None and results.has(REGIONS.name):
        by_label = {
            results.attributes[index]: results.of_attributes(REGIONS.name, best, [index]).to_json()
            for index in np.flatnonzero(results.frequency)
        }
    return {
        "title": results.part.title,
        "test_photos": len(results.photos()),
        "seeds": results.seeds,
        "pose_weight": results.part.pose_weight,
        "best_unsupervised_by_validation": best,
        "variants": {
            variant.name: {
                measure: _level(results, variant.name, measure).to_json()
                | {"validation": round(results.validation(variant.name, measure), 4)}
                for measure in (ATTRIBUTES, CATEGORY)
            }
            for variant in results.variants
        },
        "differences": [
            {"first": first, "second": second}
            | {
                measure: results.difference(first, second, measure).to_json()
                for measure in (ATTRIBUTES, CATEGORY)
            }
            for first, second in _pairs(results)
        ],
        "ratios": {
            f"{REGIONS.name} / {other}": results.ratio(REGIONS.name, other).to_json()
            for other in (best, GIVEN.name)
            if other is not None and results.has(REGIONS.name, other)
        },
        "gain_by_attribute": by_label,
    }


def _level(results: PartResults, name: str, measure: str) -> Estimate:
    values = results.of(name).measure(measure)  # (seeds, 1 + B)
    return estimate(values.mean(axis=0), values[:, 0].tolist())


def _table(header: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *body]
    return [f"| {' | '.join(cells)} |" for cells in lines] + [""]


def _cell(value: Estimate, *, signed: bool = False) -> str:
    form = "+.3f" if signed else ".3f"
    text = f"{value.value:{form}} ({value.low:{form}} to {value.high:{form}})"
    if signed and value.seeds:
        same = sum(each * value.value > 0 for each in value.seeds)
        text += f" [{same} of {len(value.seeds)}]"
    return f"**{text}**" if signed and value.excludes_zero else text
