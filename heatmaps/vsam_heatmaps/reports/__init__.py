"""Report: one HTML page about a folder of shards."""

from .report import write_report

__all__ = ["write_report"]
