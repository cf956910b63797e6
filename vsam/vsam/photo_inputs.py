"""What counts as a photo for the predictor: an array, a Pillow image, or a path."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from vsam_heatmaps.errors import UnreadablePhotoError, VsamError, expected
from vsam_heatmaps.images import from_pillow, read_photo
from vsam_heatmaps.paths import StrPath

PhotoLike: TypeAlias = "NDArray[np.uint8] | Image | StrPath"
"""An (H, W, 3) uint8 RGB array, a Pillow image, or a photo's path.

The image may have any mode but those of 32 bits, `I` and `F`.
"""

_RULE = "an (H, W, 3) uint8 RGB array, a Pillow image, or a path"


def is_one_photo(photos: PhotoLike | Iterable[PhotoLike]) -> TypeGuard[PhotoLike]:
    """Whether this is one photo, not several.

    Raises:
        VsamError: If it can be neither.
    """
    if isinstance(photos, np.ndarray | Image | str | os.PathLike):
        return True
    if not isinstance(photos, Iterable) or isinstance(photos, bytes | bytearray | Mapping):
        raise expected("photo", f"{_RULE}, or a list of them", _kind(photos))
    return False


def read(photo: PhotoLike) -> NDArray[np.uint8]:
    """Get a photo's pixels.

    Args:
        photo: See `PhotoLike`. Pillow images are turned upright and laid over white, as files are.

    Returns:
        (H, W, 3) uint8 RGB; an array is given back itself.

    Raises:
        UnreadablePhotoError: If a file or Pillow image can't be read; it is named.
        VsamError: If it is something else, or an array of another shape or type.
    """
    if isinstance(photo, np.ndarray):
        return require_rgb(photo)
    try:
        if isinstance(photo, Image):
            return from_pillow(photo)
        if isinstance(photo, str | os.PathLike):
            return read_photo(Path(photo))
    except UnreadablePhotoError as error:
        name = getattr(photo, "filename", "") or "the image" if isinstance(photo, Image) else photo
        raise UnreadablePhotoError(f"Could not read {os.fspath(name)}: {error}.") from error
    raise expected("photo", _RULE, _kind(photo))


def require_rgb(photo: NDArray[Any]) -> NDArray[np.uint8]:
    """Give an array back if it is (H, W, 3) uint8.

    Raises:
        VsamError: If it is not.
    """
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or 0 in photo.shape:
        remedy = ""
        if photo.ndim == 4:
            remedy = " Give several photos as a list."
        elif photo.dtype != np.uint8:
            remedy = " Levels reach from 0 to 255."
        raise VsamError(
            "Expected `photo` to be an (H, W, 3) uint8 RGB array, "
            f"but got {photo.shape} {photo.dtype}.{remedy}"
        )
    return photo


def _kind(value: object) -> str:
    return f"a {type(value).__module__}.{type(value).__qualname__}".replace("builtins.", "")
