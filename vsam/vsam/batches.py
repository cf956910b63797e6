"""Check batches before they are used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vsam_datasets.pairs import Pair
from vsam_heatmaps.errors import VsamError

from .misfits import listed


def checked(loader: Any) -> Iterator[Pair]:
    """Pass batches on; stop at the first photo that could not be read, and at NaN in an input.

    Raises:
        VsamError: There, with the photo's name.
    """
    for batch in loader:
        if "error" in batch:
            raise VsamError(
                f"Could not read {batch['error']}. Mend the photo, or take its line out of --data."
            )
        for name, what in {"image": "input", "heatmap": "heatmap"}.items():
            finite = batch[name].isfinite().flatten(1).all(dim=1)
            if not finite.all():
                wrong = [
                    id_ for id_, good in zip(ids_of(loader, batch), finite, strict=True) if not good
                ]
                raise VsamError(
                    f"Expected the {what} of {listed(wrong)} to be finite, but it holds NaN or "
                    "infinity. Mend them, or take their lines out of --data."
                )
        yield batch


def ids_of(loader: Any, batch: Pair) -> list[str]:
    """Name the photos of a batch."""
    return [loader.dataset.rows[index].image for index in batch["index"].tolist()]
