"""Find photos in folders, lists, tar files and Parquet files, and keep the list of them small."""

from .listing import list_photos
from .photo import EXTENSIONS, Photo
from .sequence import Photos

__all__ = ["EXTENSIONS", "Photo", "Photos", "list_photos"]
