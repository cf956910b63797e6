"""Shards: HDF5 files of heatmaps and keypoints, written, read, merged and pruned."""

from .files import PATTERN
from .merging import MergeReport, merge
from .pruning import prune
from .reading import Shards, read_info
from .records import FORMAT_VERSION, NO_HASH, Record, ShardInfo, Status, differences, no_keypoints
from .writer import ShardWriter
from .writing import write_shard

__all__ = [
    "FORMAT_VERSION",
    "NO_HASH",
    "PATTERN",
    "MergeReport",
    "Record",
    "ShardInfo",
    "ShardWriter",
    "Shards",
    "Status",
    "differences",
    "merge",
    "no_keypoints",
    "prune",
    "read_info",
    "write_shard",
]
