"""Which body region a category covers: one's own table goes before DeepFashion's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from vsam_heatmaps.errors import VsamError

from .deepfashion import category_regions, region_of
from .tables import label_name, read_table

BY_CATEGORY = "by-category"
"""Names the choice of each photo's region by the type of its category."""


class CategoryRegions:
    """Knows the region of every category; names are compared without regard to case.

    Args:
        own: Regions by category in lower case. DeepFashion's categories need not be among them;
            where one is, this region counts.
    """

    def __init__(self, own: Mapping[str, str] | None = None) -> None:
        self.own: Mapping[str, str] = dict(own or {})

    def of(self, category: str) -> str:
        """Name the region of a category; `full` where it is unknown.

        >>> regions = CategoryRegions({"kilt": "lower"})
        >>> regions.of("Kilt"), regions.of("Blouse"), regions.of("Diving suit")
        ('lower', 'upper', 'full')
        """
        return self.own.get(category.lower()) or region_of(category)

    def unknown(self, categories: Iterable[str]) -> tuple[str, ...]:
        """List those of the categories that get `full` because nothing else is known.

        >>> CategoryRegions({"kilt": "lower"}).unknown(["Kilt", "Blouse", "Diving suit"])
        ('Diving suit',)
        """
        known = {*self.own, *category_regions()}
        return tuple(name for name in categories if name.lower() not in known)


def read_category_regions(path: Path) -> CategoryRegions:
    """Read a CSV file with the columns `category, region`; others are ignored.

    Which regions there are depends on the heatmaps: `vsam.supervision` checks them.

    Args:
        path: The file, UTF-8.

    Raises:
        VsamError: As `read_table`, or if a category or a region is empty or a category is listed
            twice, in whatever case. Lines are named.
    """
    own: dict[str, str] = {}
    first_line: dict[str, int] = {}
    for line, record in read_table(path, ("category", "region")):
        category, region = label_name(record["category"]), record["region"].strip()
        for column, value in {"category": category, "region": region}.items():
            if not value:
                raise VsamError(f"{path}, line {line}: expected a `{column}`, but it is empty.")
        name = category.lower()
        if name in own:
            raise VsamError(
                f"{path}, line {line}: the category {category!r} is on line {first_line[name]} "
                "already."
            )
        own[name], first_line[name] = region, line
    return CategoryRegions(own)
