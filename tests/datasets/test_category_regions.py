"""Regions of categories: one's own table before DeepFashion's types, and what is refused."""

from pathlib import Path

import pytest

from vsam_datasets.category_regions import CategoryRegions, read_category_regions
from vsam_datasets.deepfashion import category_names, region_of
from vsam_heatmaps.errors import VsamError


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "regions.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_without_a_table_regions_are_deepfashions():
    regions = CategoryRegions()
    for name in (*category_names(), "", "Kilt"):
        assert regions.of(name) == region_of(name)
    assert regions.unknown(["Kilt", "JEANS", "Tee"]) == ("Kilt",)


def test_a_table_goes_before_deepfashion_in_any_case(tmp_path):
    lines = ("note,category,region", "x,Kilt, lower ", ",JEANS,knees", ',"Hüte, Mützen",head')
    text = "\ufeff" + "".join(f"{line}\r\n" for line in lines)
    regions = read_category_regions(written(tmp_path, text))
    found = {name: regions.of(name) for name in ("kilt", "Jeans", "hüte, MÜTZEN", "Tee", "Scuba")}
    assert list(found.values()) == ["lower", "knees", "head", "upper", "full"]
    assert regions.own == {"kilt": "lower", "jeans": "knees", "hüte, mützen": "head"}
    assert regions.unknown(["Scuba", "KILT", "Tee"]) == ("Scuba",)


def test_a_category_is_found_however_its_accents_are_composed(tmp_path):
    regions = read_category_regions(written(tmp_path, "category,region\nHu\u0308te,head\n"))
    assert regions.of("H\u00fcte") == "head"


def test_a_table_without_rows_changes_nothing(tmp_path):
    assert read_category_regions(written(tmp_path, "category,region\n")).own == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "to have the columns category, region"),
        ("category,area\nKilt,lower\n", "but region is missing"),
        ("category,region\nKilt,\n", "line 2: expected a `region`, but it is empty"),
        ("category,region\nKilt\n", "line 2: expected 2 fields, as in the header, but got 1"),
        ("category,region\nKilt,lower\n ,upper\n", "line 3: expected a `category`"),
        ("category,region\nKilt,lower\nKILT,upper\n", "line 3: the category 'KILT' is on line 2"),
        (b"category,region\nH\xfcte,head\n", "to be UTF-8 text"),
    ],
)
def test_wrong_tables_are_refused_in_one_line(tmp_path, text, said):
    path = written(tmp_path, text)
    with pytest.raises(VsamError) as refused:
        read_category_regions(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(VsamError, match=r"Could not read .*none\.csv"):
        read_category_regions(tmp_path / "none.csv")
