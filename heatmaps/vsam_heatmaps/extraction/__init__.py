"""Extract: photos to poses to heatmaps to shards, over worker processes or machines."""

from .run import ExtractOptions, ExtractReport, extract

__all__ = ["ExtractOptions", "ExtractReport", "extract"]
