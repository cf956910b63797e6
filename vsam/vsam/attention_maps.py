"""Attention maps as pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vsam_heatmaps.errors import VsamError
from vsam_heatmaps.overlays import heat_overlay


def stretch(attention: NDArray[np.float32]) -> NDArray[np.float32]:
    """Stretch a map to the range 0..1 for display; a flat map becomes zeros.

    The map's own range depends on the model: what a picture shows is where it looks more than
    elsewhere.

    Args:
        attention: (H, W).
    """
    low, high = float(attention.min()), float(attention.max())
    if high - low < 1e-6:
        return np.zeros_like(attention)
    return (attention - low) / (high - low)


def strongest(attention: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make one map of several: their maximum at each place.

    Args:
        attention: (R, S, S).

    Returns:
        (S, S).

    Raises:
        VsamError: If there is no map, because the model has no attention.
    """
    if not len(attention):
        raise VsamError(
            "Expected the model to have an attention map, but it has none: it was built with "
            "--attention none."
        )
    return attention.max(axis=0)  # (R, S, S) -> (S, S)


def shrink(photo: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Scale an (H, W, 3) photo down until its longer side has at most `side` pixels."""
    import cv2

    scale = side / max(photo.shape[:2])
    if scale >= 1:
        return photo
    size = (max(1, round(photo.shape[1] * scale)), max(1, round(photo.shape[0] * scale)))
    return np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)


def attention_overlay(
    photo: NDArray[np.uint8], attention: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Lay the attention over a photo, stretched to its own range; several maps as their maximum.

    Args:
        photo: (H, W, 3) uint8 RGB.
        attention: (R, S, S) float32, over the squashed photo.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        VsamError: If there is no map.
    """
    return heat_overlay(photo, stretch(strongest(attention)))
