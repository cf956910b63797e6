"""DeepFashion's facts: the benchmark's counts, and the regions of its categories."""

import csv
from collections import Counter

import pytest

from vsam_datasets.deepfashion import (
    attribute_names,
    category_names,
    category_regions,
    region_of,
)
from vsam_heatmaps.landmarks import REGIONS


def test_there_are_the_benchmarks_categories_with_regions_that_exist():
    regions = category_regions()
    assert len(regions) == 46
    assert set(regions.values()) <= set(REGIONS)
    assert all(name == name.lower() for name in regions)
    assert set(Counter(regions.values())) == {"upper", "lower", "full"}


def test_names_are_the_benchmarks_in_alphabetical_order():
    for names, count in ((category_names(), 46), (attribute_names(), 1000)):
        assert len(set(names)) == count
        assert list(names) == sorted(names)
        assert all(name == name.strip() != "" for name in names)


@pytest.mark.parametrize(
    ("category", "region"),
    [
        ("tee", "upper"),
        ("Hoodie", "upper"),
        ("JEANS", "lower"),
        ("Skirt", "lower"),
        ("dress", "full"),
        ("Jumpsuit", "full"),
        ("", "full"),
        ("spacesuit", "full"),
    ],
)
def test_region_follows_from_the_category_in_any_case(category, region):
    assert region_of(category) == region


def test_categories_agree_with_the_benchmarks_list(shared_data):
    with (shared_data / "deepfashion" / "categories.csv").open() as file:
        listed = {row["category"].lower(): row["type"] for row in csv.DictReader(file)}
    kinds = {"1": "upper", "2": "lower", "3": "full"}
    assert category_regions() == {name: kinds[kind] for name, kind in listed.items()}


def test_names_agree_with_the_benchmarks_lists(shared_data):
    with (shared_data / "deepfashion" / "categories.csv").open() as file:
        assert category_names() == tuple(row["category"] for row in csv.DictReader(file))
    text = (shared_data / "deepfashion" / "attributes.txt").read_text()
    assert attribute_names() == tuple(text.split())
