"""Tag whole folders: resumable, in any of three formats, with a report, also as photos come."""

from .options import FolderOptions
from .run import FolderReport, predict_folder
from .watching import watch_folders

__all__ = ["FolderOptions", "FolderReport", "predict_folder", "watch_folders"]
