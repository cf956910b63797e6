"""Export: photos and maps in other formats, for trainers that stream."""

from .webdataset import ExportOptions, ExportReport, export

__all__ = ["ExportOptions", "ExportReport", "export"]
