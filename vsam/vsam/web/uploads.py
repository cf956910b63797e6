"""What visitors send through Gradio's inputs, untouched: decoding it is ours.

Gradio's own image input opens a file with every format that Pillow knows, before any limit of ours
is looked at. So events that take photos are told `preprocess=False`, and get what is read here.
Which file that is, the visitor says: what is no upload is refused, here and in Gradio.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import processing_utils, utils

from .tagging import Upload

TAKES_PHOTOS: dict[str, Any] = {
    "preprocess": False,
    "concurrency_limit": 1,
    "concurrency_id": "model",
}
"""How such an event is told: they wait for each other, so that one photo is in memory at a time."""


def upload_of(payload: Mapping[str, Any] | None) -> Upload | None:
    """Name the file that an image input holds.

    Args:
        payload: Gradio's `FileData` as a dictionary; None of an empty input.

    Raises:
        gradio.Error: If it holds no file, or none that was uploaded.
    """
    if payload is None:
        return None
    path = _uploaded(payload.get("path") or "")  # a data: URI may stand in its place
    # What is shown and written as the photo's name: one line, without folders.
    name = (payload.get("orig_name") or path.name).replace("\\", "/").rsplit("/", 1)[-1]
    return Upload(path, "".join(sign for sign in name if sign.isprintable()) or "photo")


def uploads_of(payload: Sequence[Mapping[str, Any]] | None) -> list[Upload]:
    """Name the files that a file input holds."""
    return [upload for one in payload or () if (upload := upload_of(one)) is not None]


def _uploaded(path: str | Path) -> Path:
    """Find a file that a visitor names, links followed.

    Raises:
        gradio.Error: If it is no file in the folder of uploads.
    """
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # a NUL in it, a loop of links
        found = Path(path).resolve()
        if found.is_relative_to(Path(utils.get_upload_folder()).resolve()) and found.is_file():
            return found
    raise gr.Error("Expected a file to be uploaded, not a path.", print_exception=False)


async def _refuse_address(*_: object, **__: object) -> str:
    raise gr.Error("Expected a file, not an address: nothing is fetched.", print_exception=False)


def take_uploads_alone() -> None:
    """Make Gradio refuse what a visitor gives in the place of an uploaded file.

    Before an event is answered, Gradio copies what says of itself that it is a file into the folder
    of uploads. An address it would fetch, from this machine and in its name. A path it would read,
    whatever lies there: it checks paths only of pages that its own `launch` started.
    """
    for name, ours in (
        ("async_ssrf_protected_download", _refuse_address),
        ("_check_allowed", lambda path, check_in_upload_folder: _uploaded(path)),
    ):
        getattr(processing_utils, name)  # another Gradio may have no such function
        setattr(processing_utils, name, ours)
