"""Facts of the DeepFashion category and attribute benchmark (Liu et al., CVPR 2016)."""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from importlib import resources

_REGION_OF_TYPE = {"1": "upper", "2": "lower", "3": "full"}


@functools.cache
def category_regions() -> Mapping[str, str]:
    """Map each of the categories, in lower case, to the body region that its garments cover.

    The benchmark's `list_category_cloth.txt` gives each category a type: 1 upper-body, 2
    lower-body, 3 full-body clothes.

    >>> category_regions()["jeans"], category_regions()["dress"]
    ('lower', 'full')
    """
    text = resources.files("vsam_datasets").joinpath("data/deepfashion_categories.csv").read_text()
    rows = csv.DictReader(text.splitlines())
    return {row["category"].lower(): _REGION_OF_TYPE[row["type"]] for row in rows}


def region_of(category: str) -> str:
    """Name the body region of a category; `full` where the category is not DeepFashion's.

    >>> region_of("Skirt"), region_of(""), region_of("socks")
    ('lower', 'full', 'full')
    """
    return category_regions().get(category.lower(), "full")
