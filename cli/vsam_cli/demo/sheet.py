"""The demonstration's picture: one row a photo, and the metrics below."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vsam.attention_maps import attention_overlay
from vsam_heatmaps.overlays import draw_skeleton, fit_tile, heat_overlay

from .pipeline import Example, Model
from .tags import Tag, attribute_tags, category_tags

_TILE, _GAP, _TEXT_WIDTH = (180, 240), 8, 250
_INK, _GREY, _RIGHT, _WRONG = "#1d2433", "#667085", "#1a7f4b", "#c0362c"

Picture = NDArray[np.uint8]


def draw_sheet(examples: Sequence[Example], models: Sequence[Model]) -> Picture:
    """Draw photo, skeleton, map, each model's attention and the first model's tags.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    titles = ["photo", "pose", "heatmap", *(f"attention {model.name}" for model in models)]
    columns = len(titles)
    width = columns * (_TILE[0] + _GAP) + _TEXT_WIDTH + _GAP
    top, row_height, table_height = 78, _TILE[1] + _GAP, 40 + 26 * (len(models) + 1)
    sheet = Image.new("RGB", (width, top + len(examples) * row_height + table_height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 10), "VSAM on unseen mannequins", fill=_INK, font=_font(24))
    for column, title in enumerate([*titles, f"tags ({models[0].name})"]):
        draw.text((_GAP + column * (_TILE[0] + _GAP), 50), title, fill=_GREY, font=_font(15))
    for index, example in enumerate(examples):
        y = top + index * row_height
        for column, picture in enumerate(tiles(example, models)):
            tile = Image.fromarray(fit_tile(picture, *_TILE))
            sheet.paste(tile, (_GAP + column * (_TILE[0] + _GAP), y))
        _draw_tags(draw, _GAP + columns * (_TILE[0] + _GAP), y, example, models[0])
    _draw_metrics(draw, top + len(examples) * row_height + 14, models)
    return np.asarray(sheet)


def tiles(example: Example, models: Sequence[Model]) -> list[Picture]:
    """Draw one example's pictures: photo, skeleton, map, and each model's attention."""
    photo = example.photo
    return [
        photo,
        draw_skeleton(photo, example.record.keypoints),
        heat_overlay(photo, example.heatmap),
        *(
            attention_overlay(photo, model.predictions[example.row.image].attention)
            for model in models
        ),
    ]


def metrics_table(models: Sequence[Model]) -> tuple[list[str], list[list[str]]]:
    """Make the header and one row a model, as text."""
    header = [
        *("training", "category accuracy", "top 3", "attribute mAP"),
        *("mAP by chance", "attention on the wearer"),
    ]
    rows = [
        [
            f"{model.name} (lambda {model.pose_weight:g})",
            f"{model.metrics.category_accuracy:.3f}",
            f"{model.metrics.category_top3:.3f}",
            f"{model.metrics.attribute_map:.3f}",
            f"{model.metrics.chance_map:.3f}",
            f"{model.body_focus:.2f} times chance",
        ]
        for model in models
    ]
    return header, rows


def _draw_tags(draw: ImageDraw.ImageDraw, x: int, y: int, example: Example, model: Model) -> None:
    prediction = model.predictions[example.row.image]
    for tag in category_tags(example.row, prediction, model.labels):
        draw.text((x, y + 2), _line(tag), fill=_colour(tag), font=_font(19))
        y += 26
    for tag in attribute_tags(example.row, prediction, model.labels, model.threshold)[:9]:
        draw.text((x, y + 4), _line(tag), fill=_colour(tag), font=_font(15))
        y += 21


def _line(tag: Tag) -> str:
    if tag.right:
        spoke = f", {tag.region}" if tag.region else ""
        return f"+ {tag.label} {tag.score:.2f}{spoke}"
    return f"x {tag.label} {tag.score:.2f} {'(wrong)' if tag.said else '(missed)'}"


def _colour(tag: Tag) -> str:
    return _RIGHT if tag.right else _WRONG


def _draw_metrics(draw: ImageDraw.ImageDraw, y: int, models: Sequence[Model]) -> None:
    header, rows = metrics_table(models)
    for line, row in enumerate([header, *rows]):
        for column, text in enumerate(row):
            x = _GAP + (0 if column == 0 else 60 + 180 * column)
            colour = _GREY if line == 0 else _INK
            draw.text((x, y + 26 * line), text, fill=colour, font=_font(15))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
