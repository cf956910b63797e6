"""Report: one HTML file about an output that loads nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

from vsam_heatmaps import __version__
from vsam_heatmaps.atomic import write_text

from .lines import Line
from .options import FolderOptions
from .output import Summary
from .survey import BINS, LISTED_ERRORS, Survey

_BARS = 12  # of a chart at first; the others are folded away
_ATTRIBUTE_COUNTS = 8  # photos with more attributes are counted together


@dataclass(frozen=True)
class Bar:
    """A bar of a chart.

    Attributes:
        label: What it stands for.
        count: Photos.
        told: The count and its share.
        length: Of the longest, in percent.
    """

    label: str
    count: int
    told: str
    length: float


def write_report(path: Path, options: FolderOptions, summary: Summary) -> None:
    """Write the page: figures over all photos, and a sheet of those that are shown.

    The same lines give the same page.

    Args:
        path: The file. What is there is replaced once the new one is whole.
        options: How the photos were tagged.
        summary: What is told.

    Raises:
        VsamError: If the system refuses.
    """
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["shown"] = _printable
    survey = summary.survey
    script = _resource("report.js")
    page = environment.from_string(_resource("report.html")).render(
        version=__version__,
        model=str(options.model),
        survey=survey,
        tagged=survey.photos - survey.unreadable,
        shown=len(summary.shown),
        hidden_errors=survey.unreadable - len(survey.errors),
        listed_errors=LISTED_ERRORS,
        categories=_bars(survey.categories.most_common(), survey.photos - survey.unreadable),
        attributes=_bars(survey.attributes.most_common(), survey.photos - survey.unreadable),
        scores=_bars(zip(_score_names(), survey.scores, strict=True), 0),
        counts=_attribute_counts(survey),
        reasons=survey.reasons.most_common(),
        middle_score=_middle_bin(survey),
        first_bars=_BARS,
        heat=any(line.picture is not None and line.picture.heat for line in summary.shown),
        # The page may run this script and no other, whatever a label smuggles in.
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=_resource("report.css"),
        data=_embedded(_data(summary)),
    )
    write_text(path, page)


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _data(summary: Summary) -> list[dict[str, Any]]:
    """Give what the page's script needs of each card; the keys are short, as there are many."""
    cards = [_card(line) for line in summary.shown]
    errors = [
        {"id": _printable(image), "error": _printable(error)}
        for image, error in summary.survey.errors
    ]
    return cards + errors


def _card(line: Line) -> dict[str, Any]:
    scores = {each["label"]: each["score"] for each in line.entry["attributes"]}
    regions = {
        each["label"]: each["region"] for each in line.entry["attributes"] if "region" in each
    }
    best = [[each["label"], each["score"]] for each in line.entry["categories"][:5]]
    assert line.picture is not None
    return {
        "id": _printable(line.image),
        "category": line.entry["category"],
        "score": line.entry["score"],
        "categories": best,
        "attributes": [[name, scores[name], regions.get(name, "")] for name in line.said],
        "photo": _uri(line.picture.photo),
        "heat": _uri(line.picture.heat) if line.picture.heat else "",
    }


def _uri(picture: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(picture).decode()


def _embedded(data: object) -> str:
    """Write JSON that can stand in a script element: nothing in it ends that."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _bars(counts: Iterable[tuple[str, int]], whole: int) -> list[Bar]:
    listed = list(counts)
    longest = max((count for _, count in listed), default=0) or 1
    return [
        Bar(label, count, _told(count, whole), round(100 * count / longest, 1))
        for label, count in listed
    ]


def _told(count: int, whole: int) -> str:
    return f"{count:,} · {100 * count / whole:.1f} %" if whole else f"{count:,}"


def _score_names() -> list[str]:
    edges = [f"{number / BINS:.2f}" for number in range(BINS + 1)]
    return [f"{low} to {high}" for low, high in pairwise(edges)]


def _attribute_counts(survey: Survey) -> list[Bar]:
    most = min(max(survey.attribute_counts, default=0), _ATTRIBUTE_COUNTS)
    counts: Counter[int] = Counter()
    for number, count in survey.attribute_counts.items():
        counts[min(number, most)] += count
    more = max(survey.attribute_counts, default=0) > most
    names = [f"{number}{'+' if more and number == most else ''}" for number in range(most + 1)]
    return _bars(zip(names, (counts[number] for number in range(most + 1)), strict=True), 0)


def _middle_bin(survey: Survey) -> str:
    """Give the bin in which the middle photo lies: half have a higher score."""
    whole, below = sum(survey.scores), 0
    for name, count in zip(_score_names(), survey.scores, strict=True):
        below += count
        if whole and 2 * below >= whole:
            return name
    return "–"


def _printable(text: str) -> str:
    """Make text from outside safe to look at: nothing in it that can't be seen.

    Characters that turn the direction of writing, say, would let a name pose as another.
    """
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode()
        for each in text
    )
