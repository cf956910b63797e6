"""Prepare what the trainings of `supervision.py` need: photos, heatmaps, features, weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from supervision_backbone import cache_blocks, normalised_weights
from supervision_data import Data, prepare, squash
from supervision_plan import CCP, SCRATCH, Part, Sizes
from supervision_training import Place

from vsam_heatmaps.errors import VsamError

# As `PairDataset` does it: the training crops out of a square this much larger than the input.
_MARGIN = 8 / 7


def prepare_places(
    needed: Sequence[Part],
    work: Path,
    size: Sizes,
    *,
    ccp: Path | None,
    backgrounds: Path | None,
    weights: Path | None,
    precision: str,
) -> dict[str, Place]:
    """Prepare all that parts need; what is there already stays.

    Args:
        needed: The parts.
        work: The benchmark's folder.
        size: How large everything is.
        ccp: Folder of Clothing Co-Parsing.
        backgrounds: Photos to paste people on.
        weights: HDF5 file with VGG-16's convolutions.
        precision: Of the networks.

    Returns:
        Places by the parts' names.
    """
    data = {
        name: prepare(name, work, size, ccp=ccp, backgrounds=backgrounds)
        for name in dict.fromkeys(part.data for part in needed)
    }
    return {part.name: _place(part, data[part.data], work, weights, precision) for part in needed}


def _place(part: Part, data: Data, work: Path, source: Path | None, precision: str) -> Place:
    rows, pasted_rows = data.table.rows, data.pasted_rows()
    side = part.budget.image_size
    photos = pasted = features = pasted_features = weights = None
    cache = work / "cache"
    if part.backbone == SCRATCH:
        load_side = round(side * _MARGIN)
        photos = squash(data.photos, rows, load_side, cache / f"{data.name}-{load_side}")
        if data.pasted is not None:
            pasted = squash(
                data.pasted, pasted_rows, load_side, cache / f"{data.name}-pasted-{load_side}"
            )
    else:
        if source is None or not source.is_file():
            raise VsamError(f"Expected `--weights` to be a file, but {source} is not there.")
        assert data.name == CCP, "the pretrained backbone is normalised on its photos"
        weights = normalised_weights(
            source, data.photos, data.table.split("train"), side, work / f"vgg16-{side}.h5"
        )
        features = cache_blocks(weights, data.photos, rows, side, cache / f"features-{side}")
        if data.pasted is not None:
            pasted_features = cache_blocks(
                weights, data.pasted, pasted_rows, side, cache / f"features-{side}-pasted"
            )
    return Place(
        data=data,
        photos=photos,
        pasted=pasted,
        features=features,
        pasted_features=pasted_features,
        weights=weights,
        heatmaps=data.maps(part.maps),
        out=work / "runs",
        precision=precision,
    )
