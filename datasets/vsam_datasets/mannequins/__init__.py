"""The embedded data set: drawn people in garments, with labels, true joints and true masks.

`draw_mannequin` draws one photo, `write_mannequins` a folder of them. The names are resolved on
first use, so that importing the package does not import OpenCV.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .canvas import Part
    from .drawing import Mannequin, draw_mannequin
    from .outfit import ATTRIBUTE_KINDS, ATTRIBUTES, CATEGORIES
    from .writing import write_mannequins

__all__ = [
    "ATTRIBUTES",
    "ATTRIBUTE_KINDS",
    "CATEGORIES",
    "Mannequin",
    "Part",
    "draw_mannequin",
    "write_mannequins",
]

_HOMES = {
    "ATTRIBUTES": "outfit",
    "ATTRIBUTE_KINDS": "outfit",
    "CATEGORIES": "outfit",
    "Mannequin": "drawing",
    "Part": "canvas",
    "draw_mannequin": "drawing",
    "write_mannequins": "writing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
