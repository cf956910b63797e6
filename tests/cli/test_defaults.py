"""Commands and the library they call have the same defaults and choices."""

from __future__ import annotations

import dataclasses
import inspect
from enum import StrEnum

import pytest

from vsam.config import DEVICES, PRECISIONS
from vsam.folder_prediction import FolderOptions
from vsam.folder_prediction.options import ENGINES
from vsam.prediction_files import FORMATS
from vsam.predictor import THRESHOLDS
from vsam.scoring import calibrate_run, score_photos
from vsam.serving.options import ServerOptions
from vsam.serving.page import PageOptions
from vsam.web.options import WebOptions
from vsam_cli import evaluate, predict, serve, serving, train, web
from vsam_cli.heatmaps.export import export
from vsam_cli.heatmaps.extract import (
    People,
    PoseEngine,
    PosePrecision,
    RunEngine,
    Switch,
    extract,
)
from vsam_cli.heatmaps.merge import merge
from vsam_heatmaps import engines
from vsam_heatmaps.export import ExportOptions
from vsam_heatmaps.extraction.run import RUN_ENGINES, ExtractOptions
from vsam_heatmaps.rendering import RenderOptions
from vsam_heatmaps.shards import merge as merge_shards

_NAMED_OTHERWISE = {"reduced_decode": "reduced", "page_port": "port"}
_TURNED_AROUND = {"on_error": "stop_on_error"}  # `stop` is true, `skip` is false


def _defaults(of) -> dict[str, object]:
    if dataclasses.is_dataclass(of):
        return {field.name: field.default for field in dataclasses.fields(of)}
    return {name: each.default for name, each in inspect.signature(of).parameters.items()}


def _as_in_library(name: str, value: object) -> object:
    if name in _TURNED_AROUND:
        return value == "stop"
    return None if value is Switch.auto else value


@pytest.mark.parametrize(
    ("command", "library", "alike"),
    [
        (extract, ExtractOptions, 15),
        (extract, RenderOptions, 4),
        (merge, merge_shards, 2),
        (export, ExportOptions, 4),
        (predict.predict, FolderOptions, 16),
        (evaluate.evaluate, score_photos, 3),
        (evaluate.calibrate, calibrate_run, 3),
        (serving.page, PageOptions, 2),
        (serve.serve, ServerOptions, 18),
        (web.web, WebOptions, 10),
    ],
)
def test_defaults_are_those_of_the_library(command, library, alike):
    known = _defaults(library)
    compared = {}
    for name, value in _defaults(command).items():
        there = _TURNED_AROUND.get(name) or _NAMED_OTHERWISE.get(name) or name
        if there in known and value is not inspect.Parameter.empty:
            compared[there] = _as_in_library(name, value), known[there]
    assert len(compared) == alike, sorted(compared)
    assert {name for name, (here, there) in compared.items() if here != there} == set()


@pytest.mark.parametrize(
    ("choices", "library"),
    [
        (PoseEngine, engines.ENGINES),
        (PosePrecision, engines.PRECISIONS),
        (People, engines.PEOPLE),
        (RunEngine, RUN_ENGINES),
        (train.Device, DEVICES),
        (train.Precision, PRECISIONS),
        (predict.Format, FORMATS),
        (predict.Engine, ENGINES),
        (evaluate.Thresholds, THRESHOLDS),
    ],
)
def test_choices_are_those_of_the_library(choices: type[StrEnum], library):
    assert tuple(choices) == library
