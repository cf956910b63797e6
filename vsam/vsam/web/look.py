"""How the page looks: Gradio's theme, and the style sheet and script beside it."""

from __future__ import annotations

from importlib import resources
from typing import Any

from gradio import themes

_PAPER = themes.Color(
    c50="#faf8f4", c100="#f3efe8", c200="#e6dfd3", c300="#cfc5b4", c400="#a59a87",
    c500="#7d7363", c600="#625949", c700="#4a4338", c800="#2e2a24", c900="#211e1a", c950="#171512",
    name="paper",
)  # fmt: skip
_PINE = themes.Color(
    c50="#eef6f4", c100="#d6eae6", c200="#aed6cf", c300="#7dbcb2", c400="#4a9c91",
    c500="#2a7f75", c600="#1c665e", c700="#17524c", c800="#143f3b", c900="#10302d", c950="#081c1a",
    name="pine",
)  # fmt: skip


def theme() -> Any:
    """Make the theme, paper and pine. Its fonts are the visitor's own: none is loaded."""
    text = [themes.Font("system-ui"), themes.Font("sans-serif")]
    return themes.Base(
        primary_hue=_PINE,
        secondary_hue=_PINE,
        neutral_hue=_PAPER,
        radius_size=themes.sizes.radius_lg,
        font=text,
        font_mono=[themes.Font("ui-monospace"), themes.Font("monospace")],
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color="*neutral_900",
        body_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        background_fill_primary="white",
        background_fill_primary_dark="*neutral_900",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_color="*neutral_200",
        block_border_color_dark="*neutral_800",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        input_background_fill="*neutral_50",
        input_background_fill_dark="*neutral_800",
        input_placeholder_color="*neutral_600",
        input_placeholder_color_dark="*neutral_300",
        slider_color="*primary_600",
        slider_color_dark="*primary_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_300",
        button_primary_text_color_dark="*neutral_950",
    )


def style(maps: int) -> str:
    """Read the style sheet, with the rules that show one of a model's maps."""
    rules = [
        f':root[data-map="{number}"] .v-layer[data-map="{number}"] {{ display: block; }}'
        for number in range(maps)
    ]
    return "\n".join([_read("page.css"), *rules])


def script() -> str:
    """Read the script that runs when the page is loaded."""
    return _read("page.js")


def _read(name: str) -> str:
    return (resources.files(__package__) / "templates" / name).read_text(encoding="utf-8")
