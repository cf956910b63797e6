"""Facts of the DeepFashion category and attribute benchmark (Liu et al., CVPR 2016)."""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from importlib import resources

_REGION_OF_TYPE = {"1": "upper", "2": "lower", "3": "full"}


@functools.cache
def category_names() -> tuple[str, ...]:
    """Name the 46 categories in the benchmark's order, which is alphabetical.

    >>> category_names()[:3]
    ('Anorak', 'Blazer', 'Blouse')
    """
    return tuple(row["category"] for row in _categories())


@functools.cache
def attribute_names() -> tuple[str, ...]:
    """Name the 1000 attributes in the benchmark's order, which is alphabetical.

    >>> attribute_names()[:3]
    ('a-line', 'abstract', 'abstract_chevron')
    """
    return tuple(_read("deepfashion_attributes.txt").splitlines())


@functools.cache
def category_regions() -> Mapping[str, str]:
    """Map each of the categories, in lower case, to the body region that its garments cover.

    The benchmark's `list_category_cloth.txt` gives each category a type: 1 upper-body, 2
    lower-body, 3 full-body clothes.

    >>> category_regions()["jeans"], category_regions()["dress"]
    ('lower', 'full')
    """
    return {row["category"].lower(): _REGION_OF_TYPE[row["type"]] for row in _categories()}


def region_of(category: str) -> str:
    """Name the body region of a category; `full` where the category is not DeepFashion's.

    >>> region_of("Skirt"), region_of(""), region_of("socks")
    ('lower', 'full', 'full')
    """
    return category_regions().get(category.lower(), "full")


def _categories() -> csv.DictReader[str]:
    return csv.DictReader(_read("deepfashion_categories.csv").splitlines())


def _read(name: str) -> str:
    return resources.files("vsam_datasets").joinpath("data", name).read_text(encoding="utf-8")
