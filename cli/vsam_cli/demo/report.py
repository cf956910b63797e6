"""The demonstration's page: one HTML file that holds its pictures."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsam_heatmaps import __version__
from vsam_heatmaps.atomic import write_text
from vsam_heatmaps.extraction import ExtractReport
from vsam_heatmaps.overlays import fit_tile

from .pipeline import DemoOptions, Example, Model
from .sheet import metrics_table, tiles
from .tags import attribute_tags, category_tags

_TILE = (240, 320)


def write_report(
    path: Path,
    examples: Sequence[Example],
    models: Sequence[Model],
    extraction: ExtractReport,
    options: DemoOptions,
    seconds: float,
) -> Path:
    """Write the page; give its path."""
    import jinja2

    source = resources.files("vsam_cli.demo").joinpath("report.html").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        source
    )
    header, rows = metrics_table(models)
    page = template.render(
        version=__version__,
        options=options,
        extraction=extraction,
        seconds=round(seconds),
        header=header,
        rows=rows,
        models=models,
        titles=["photo", "pose", "heatmap", *(f"attention {model.name}" for model in models)],
        examples=[_describe(example, models) for example in examples],
    )
    write_text(path, page)
    return path


def _describe(example: Example, models: Sequence[Model]) -> dict[str, Any]:
    return {
        "image": example.row.image,
        "pictures": [_inline(fit_tile(picture, *_TILE)) for picture in tiles(example, models)],
        "tags": [
            (
                model.name,
                category_tags(example.row, model.predictions[example.row.image], model.labels),
                attribute_tags(
                    example.row,
                    model.predictions[example.row.image],
                    model.labels,
                    model.threshold,
                ),
            )
            for model in models
        ],
    }


def _inline(picture: NDArray[np.uint8]) -> str:
    import cv2

    done, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert done
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
