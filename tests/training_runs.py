"""What tests of trainings share."""

import csv
import json
from pathlib import Path

import pytest
from safetensors import safe_open
from tiny import write_table

from vsam.training import train
from vsam_heatmaps.errors import VsamError


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def finished_epochs(run: Path) -> int:
    with safe_open(run / "last.safetensors", framework="pt") as file:
        return int(file.metadata()["epoch"])


def refusal(config, **options) -> str:
    with pytest.raises(VsamError) as refused:
        train(config, **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def without_column(data: Path, target: Path, change) -> Path:
    """Copy the table of labels with every row changed, or left out."""
    with (data / "labels.csv").open(newline="") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    return write_table(target, filter(None, map(change, rows)))
