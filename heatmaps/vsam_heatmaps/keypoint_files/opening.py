"""Recognise what kind of keypoint file something is."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from ..atomic import is_special
from ..errors import VsamError, explain_os_error
from ..paths import StrPath
from .coco import read_coco
from .deepfashion import read_deepfashion
from .json_stream import JsonStream
from .keypoint_file import KeypointFile
from .openpose import read_openpose
from .values import READ


def open_keypoints(path: StrPath) -> KeypointFile:
    """Read a keypoint file; its format is told by what is in it.

    Args:
        path: COCO or COCO-WholeBody keypoint JSON, DeepFashion's `list_landmarks.txt`, or a folder
            of OpenPose's `*_keypoints.json`.

    Raises:
        VsamError: If it is none of them, is malformed, or can't be read. The line names the file
            and what is wrong.
    """
    path = Path(path)
    if path.is_dir():
        return read_openpose(path)
    if not path.exists():
        raise VsamError(f"Expected `{path}` to hold keypoints, but it is not there. {READ}")
    if is_special(path):
        raise VsamError(
            f"Expected `{path}` to hold keypoints, but it is a pipe, a socket or a device, and "
            "they are read twice. Write them into a file."
        )
    try:
        with path.open("rb") as file:
            start = file.read(4096).removeprefix(codecs.BOM_UTF8).lstrip()
    except OSError as error:
        raise explain_os_error(error, f"read {path}") from error
    if re.match(rb"[0-9]+\s+image_name\s", start):
        return read_deepfashion(path)
    if start[:1] not in (b"{", b"["):
        raise VsamError(
            f"Expected `{path}` to hold keypoints, but it is neither JSON nor a list of landmarks. "
            f"{READ}"
        )
    with JsonStream(path) as stream:
        return read_coco(stream)
