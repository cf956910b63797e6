"""What tests of exports share."""

from pathlib import Path

import numpy as np
from drawn_run import SIDE

from vsam.export.folder import FILES, Exported
from vsam.modeling.model import VsamOutput

FORMATS = tuple(FILES)
# What the README promises: float32 sums differ with their order.
CLOSE = {"rtol": 0, "atol": 1e-4}


def scores(output: VsamOutput) -> list[np.ndarray]:
    return [
        output.category_logits.softmax(dim=1).numpy(),
        output.attribute_logits.sigmoid().numpy(),
        output.attention.numpy(),
    ]


def exported_as(folder: Path, format: str) -> Exported:
    return Exported(
        network=folder / FILES[format][0],
        format=format,
        image_size=SIDE,
        outputs={
            "category_logits": (5,),
            "attribute_logits": (7,),
            "attention": (1, 16, 16),
            "contributions": (0, 7),
        },
    )
