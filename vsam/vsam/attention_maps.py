"""Attention maps as pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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
