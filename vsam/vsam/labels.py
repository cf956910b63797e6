"""The names of a model's outputs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Labels:
    """Names of the model's outputs, in order."""

    categories: tuple[str, ...]
    attributes: tuple[str, ...]
