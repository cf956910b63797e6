"""Attention maps as pictures, and what they look at, measured with masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vsam_heatmaps.errors import VsamError, expected
from vsam_heatmaps.overlays import caption, heat_overlay

POINTING_TOLERANCE = 0.03
"""How far from a mask the pointing game lets a maximum lie, as a share of the longer side.

Zhang et al. (*Top-Down Neural Attention by Excitation Backprop*, IJCV 2018) allow 15 pixels in the
photos of PASCAL VOC, whose longer side has 500.
"""

MERGES = ("max", "mean")
"""How the maps of several regions become one."""


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


def merge_maps(maps: NDArray[np.float32], how: str = "max") -> NDArray[np.float32]:
    """Make one map out of those of several regions.

    Args:
        maps: (R, S, S).
        how: `max` or `mean`, pixel by pixel.

    Returns:
        (S, S).

    Raises:
        VsamError: If there is no map, because the model has no attention.
    """
    if how not in MERGES:
        raise expected("how", f"one of {', '.join(MERGES)}", repr(how))
    if maps.ndim != 3:
        raise expected("maps", "of the shape (R, S, S)", maps.shape)
    if not len(maps):
        raise VsamError(
            "Expected the model to have an attention map, but it has none: it was built with "
            "--attention none."
        )
    return maps.max(axis=0) if how == "max" else maps.mean(axis=0)


def as_one(attention: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make one map to look at, stretched to 0..1: the maximum of all.

    Several are stretched by themselves before: one that is spread over both legs is then as visible
    as one that is on the head.

    Args:
        attention: (R, S, S).

    Returns:
        (S, S).

    Raises:
        VsamError: If there is no map.
    """
    if len(attention) > 1:
        attention = np.stack([stretch(one) for one in attention])
    return stretch(merge_maps(attention))


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
    """Lay the attention over a photo, stretched to its own range; several maps as one.

    Args:
        photo: (H, W, 3) uint8 RGB.
        attention: (R, S, S) float32, over the squashed photo.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        VsamError: If there is no map.
    """
    return heat_overlay(photo, as_one(attention))


def region_picture(
    photo: NDArray[np.uint8],
    maps: Mapping[str, NDArray[np.float32]],
    said: Mapping[str, Sequence[str]],
) -> NDArray[np.uint8]:
    """Draw all maps over a photo, and beside it each region that has something to say.

    Args:
        photo: (H, W, 3) uint8 RGB.
        maps: (S, S) map of each region, over the squashed photo.
        said: What the regions spoke for; a region without a line is not drawn by itself.

    Returns:
        (H + h, (1 + n) · W, 3) uint8 RGB: a line with names above each of 1 + n pictures.
    """
    width = photo.shape[1]
    tiles = [("all regions", attention_overlay(photo, np.stack(list(maps.values()))))]
    for region, lines in said.items():
        title = f"{region}: {', '.join(lines)}"
        tiles.append((title, attention_overlay(photo, maps[region][None])))
    return np.hstack([np.vstack([caption(width, title), tile]) for title, tile in tiles])


def distribution(
    attention: NDArray[np.floating], size: tuple[int, int], *, from_minimum: bool = False
) -> NDArray[np.float64]:
    """Resize a map to a photo or its mask, and scale it so that it sums to 1.

    Args:
        attention: (S, T), 0 or more, over the whole photo.
        size: Height H and width W of the result; the map is interpolated bilinearly.
        from_minimum: Subtract the map's minimum before. A sigmoid's map is nowhere zero: its floor,
            spread over the whole photo, outweighs what stands out of it.

    Returns:
        (H, W). A map that is the same everywhere, as zeros are, becomes an even distribution.

    Raises:
        VsamError: If the map has another shape, or a number that is negative or not finite.
    """
    import cv2

    height, width = size
    values = np.asarray(attention, np.float64)
    if values.ndim != 2 or not np.isfinite(values).all() or values.min() < 0:
        raise expected("attention", "(S, T) finite numbers, 0 or more", f"{values.shape}")
    if from_minimum:
        values = values - values.min()
    resized = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    total = resized.sum()
    if not total > 0:
        return np.full(size, 1 / (height * width))
    return np.asarray(resized / total)


def share_inside(weights: NDArray[np.floating], mask: NDArray[np.bool_]) -> float:
    """Sum a distribution over a mask, both (H, W): the share of the attention that lies there.

    Raises:
        VsamError: If their shapes differ.
    """
    _require_same_shape(weights, mask)
    return float(weights[mask].sum())


def pointing_hit(
    weights: NDArray[np.floating],
    mask: NDArray[np.bool_],
    tolerance: float = POINTING_TOLERANCE,
) -> float:
    """Play the pointing game: is a map's maximum inside a mask, or near it?

    Args:
        weights: (H, W), a map over the mask's photo.
        mask: (H, W), not empty.
        tolerance: Largest distance from the mask, as a share of the longer side.

    Returns:
        1 for a hit, 0 for a miss. If several pixels are the maximum, the share of them that hits;
        a flat map gets what pointing at random gets.

    Raises:
        VsamError: If their shapes differ, or the mask is empty.
    """
    import cv2

    _require_same_shape(weights, mask)
    if not mask.any():
        raise expected("mask", "somewhere true", "one that is false everywhere")
    # (H, W), distance of each pixel to the nearest one of the mask
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    near = distance <= tolerance * max(mask.shape)
    return float(near[weights == weights.max()].mean())


def _require_same_shape(weights: NDArray[np.floating], mask: NDArray[np.bool_]) -> None:
    if mask.dtype != np.bool_ or weights.shape != mask.shape or mask.ndim != 2:
        raise expected(
            "mask", f"booleans of the map's shape {weights.shape}", f"{mask.dtype} {mask.shape}"
        )
