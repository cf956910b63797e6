"""Remove records from a folder of shards."""

from __future__ import annotations

from pathlib import Path

from ..atomic import remove
from ..names import Names
from .reading import Shards
from .writing import write_shard


def prune(folder: Path, keep: Names) -> int:
    """Remove the records of photos that are not to be kept, and those that newer ones replace.

    Each shard is replaced as a whole or stays as it is, so that a killed run leaves whole shards
    behind, and the next one goes on. Nobody else may write into the folder meanwhile.

    Args:
        folder: The folder of shards.
        keep: Ids of the photos whose records stay.

    Returns:
        How many photos' records were removed.

    Raises:
        VsamError: If a shard is damaged or can't be written.
    """
    shards = Shards(folder)
    removed = shards.ids.count_missing(keep)
    # The oldest first: if this is interrupted, no record that a later one replaced comes to light.
    for number, file in enumerate(shards.files):
        rows = shards.rows_in(number)
        kept = [id_ for id_, counts in rows if counts and id_ in keep]
        if not kept:
            remove(file)
        elif len(kept) < len(rows):
            write_shard(file, shards.info, [shards[id_] for id_ in kept])
    return removed
