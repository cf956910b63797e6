"""Report: one HTML page about a folder of shards that loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from importlib import resources
from itertools import islice, pairwise
from pathlib import Path
from statistics import median

from .. import __version__
from ..atomic import write_text
from ..errors import expected
from ..names import Names
from ..photos import Photos
from ..progress import track
from ..shards import FORMAT_VERSION, ShardInfo, Shards
from ..shards.files import damage_told, opened
from .sheets import Tile, make_tile
from .survey import BINS, Survey, survey

_LONGEST_TEXT = 160  # characters of an id or a reason that are shown
_MOST_PEOPLE = 8  # more are counted with these: estimators look for no more
_SIDES = (0, 256, 512, 1024, 2048, 4096)  # where the classes of photo sizes start


@dataclass(frozen=True)
class Bar:
    """A bar of a chart.

    Attributes:
        label: What it stands for.
        length: How long it is, in any unit.
        told: The figure that stands at it.
    """

    label: str
    length: float
    told: str


def write_report(
    folder: Path,
    out: Path,
    *,
    photos: Photos | None = None,
    samples: int = 24,
    seed: int = 0,
    progress: bool = False,
) -> None:
    """Write a page about a folder of shards: one HTML file with all its pictures.

    The same shards, photos and arguments give the same page.

    Args:
        folder: The folder of shards.
        out: The file. What is there is replaced once the new one is whole.
        photos: The photos that were extracted; without them the page has no pictures.
        samples: Photos on each of its sheets at most.
        seed: Another seed chooses other random photos.
        progress: Show progress on stderr.

    Raises:
        VsamError: If it is no folder of shards, a shard is damaged, or the file can't be written.
    """
    if samples < 0:
        raise expected("samples", "at least 0", samples)
    shards = Shards(folder)
    with track(len(shards), "records", "record", shown=progress) as bar:
        found = survey(shards, samples, seed, bar.update)
    chosen = {
        "random": found.random if photos is not None else [],  # nothing to look at without
        "worst": [id_ for _, id_ in found.worst],
        "no_pose": found.no_pose,
        "unreadable": found.unreadable,
    }
    sheets: dict[str, list[Tile]] = {name: [] for name in chosen}
    with track(sum(map(len, chosen.values())), "pictures", shown=progress) as bar:
        for name, ids in chosen.items():
            for id_ in ids:
                sheets[name].append(make_tile(shards[id_], shards.info, photos))
                bar.update()
    strays = {}
    if photos is not None:
        strays = {
            ("record", "photo"): _missing(shards.ids, photos.ids, samples),
            ("photo", "record"): _missing(photos.ids, shards.ids, samples),
        }
    write_text(out, _page(shards, found, sheets, strays, photos is not None))


def _page(
    shards: Shards,
    found: Survey,
    sheets: dict[str, list[Tile]],
    strays: dict[tuple[str, str], tuple[int, list[str]]],
    with_photos: bool,
) -> str:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["shown"] = _shown
    source = resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    counts = shards.counts()
    return environment.from_string(source).render(
        version=__version__,
        folder=str(shards.path),
        name=shards.path.resolve().name,
        records=len(shards),
        counts=counts,
        shares={name: _percent(count, len(shards)) for name, count in counts.items()},
        facts=_facts(shards),
        options=_options(shards.info),
        info=shards.info,
        found=found,
        charts=_charts(found),
        middle_side=round(median(found.sides)) if found.sides else 0,
        sheets=sheets,
        not_drawn=sum(
            bool(tile.not_drawn)
            for name, sheet in sheets.items()
            for tile in sheet
            if name != "unreadable"
        ),
        strays=strays,
        with_photos=with_photos,
    )


def _facts(shards: Shards) -> list[tuple[str, str]]:
    """List what is worth knowing of the files: name and value of each."""
    size = sum(path.stat().st_size for path in shards.files)
    versions: set[str] = set()
    for path in shards.files:
        with opened(path) as file, damage_told(path):
            version = file.attrs["tool_version"]
            versions.add(version.decode() if isinstance(version, bytes) else str(version))
    return [
        ("shards", f"{len(shards.files):,}"),
        (
            "on the disk",
            f"{size / 1e6:,.1f} MB, {size / 1e3 / max(1, len(shards)):,.1f} KB a photo",
        ),
        ("superseded records", f"{shards.superseded:,}"),
        ("format version", str(FORMAT_VERSION)),
        ("written by", ", ".join(f"vsam {version}" for version in sorted(versions))),
    ]


def _options(info: ShardInfo) -> list[tuple[str, str]]:
    """List the options of the extraction: name and value of each."""
    listed = []
    for name in (each.name for each in fields(info)):
        value = getattr(info, name)
        if isinstance(value, tuple):
            value = ", ".join(map(str, value))
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        elif isinstance(value, int):
            value = f"{value:,}"
        if value != "":
            listed.append((name.replace("_", " "), str(value)))
    return sorted(listed, key=lambda each: len(each[1]) > 24)  # the long ones take a line each


def _charts(found: Survey) -> dict[str, list[Bar]]:
    posed = sum(found.visibilities)
    most = min(max(found.people, default=0), _MOST_PEOPLE)
    people = [0] * (most + 1)
    for number, count in found.people.items():
        people[min(number, most)] += count
    sides = dict.fromkeys(_SIDES, 0)
    for side in found.sides:
        sides[max(start for start in _SIDES if start <= side)] += 1
    ends = [f"{start} to {end - 1}" for start, end in pairwise(_SIDES)]
    side_names = [*ends, f"{_SIDES[-1]} or more"]
    return {
        "visibility": _bars(
            (f"{number / BINS:.2f} to {(number + 1) / BINS:.2f}", count)
            for number, count in enumerate(found.visibilities)
        ),
        "parts": [
            Bar(part, count / max(1, posed), _percent(count, posed))
            for part, count in found.parts.items()
        ],
        "people": _bars(
            (str(number) if number < _MOST_PEOPLE else f"{number}+", count)
            for number, count in enumerate(people)
        ),
        "sides": _bars(zip(side_names, sides.values(), strict=True)),
        "shapes": _bars(found.shapes.items()),
    }


def _bars(counts: Iterable[tuple[str, int]]) -> list[Bar]:
    return [Bar(label, count, f"{count:,}") for label, count in counts]


def _percent(count: int, of: int) -> str:
    """Give a share in percent; 0 % and 100 % are said of none and all alone."""
    share = 100 * count / max(1, of)
    if 0 < share < 0.1:
        return "< 0.1 %"
    if 99.9 < share < 100:
        return "> 99.9 %"
    return f"{share:.1f} %" if share % 100 else f"{share:.0f} %"


def _missing(names: Names, other: Names, shown: int) -> tuple[int, list[str]]:
    """Count the names that `other` doesn't hold; give the first ones."""
    missing = names.missing(other)
    first = list(islice(missing, shown))
    return len(first) + sum(1 for _ in missing), first


def _shown(text: str) -> str:
    """Make text from outside safe to look at: one line, nothing invisible, not too long.

    Characters that can't be printed would let an id pose as another: those that turn the direction
    of writing, say.
    """
    text = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
    half = _LONGEST_TEXT // 2
    return text if len(text) <= _LONGEST_TEXT else f"{text[:half]} … {text[-half:]}"
