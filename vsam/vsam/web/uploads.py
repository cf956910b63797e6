"""What visitors send through Gradio's inputs, untouched: decoding it is ours.

Gradio's own image input opens a file with every format that Pillow knows, before any limit of ours
is looked at. So events that take photos are told `preprocess=False`, and get what is read here.
Gradio has checked by then that the file is an upload: `take_uploads_alone` sees to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

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
        gradio.Error: If it holds no file.
    """
    if payload is None:
        return None
    if not payload.get("path"):  # a data: URI in its place
        raise gr.Error("Expected a file to be uploaded.", print_exception=False)
    path = Path(payload["path"])
    # What is shown and written as the photo's name: one line, without folders.
    name = (payload.get("orig_name") or path.name).replace("\\", "/").rsplit("/", 1)[-1]
    return Upload(path, "".join(sign for sign in name if sign.isprintable()) or "photo")


def uploads_of(payload: Sequence[Mapping[str, Any]] | None) -> list[Upload]:
    """Name the files that a file input holds."""
    return [upload for one in payload or () if (upload := upload_of(one)) is not None]


def take_uploads_alone(blocks: gr.Blocks) -> None:
    """Make Gradio refuse what a visitor gives in the place of an uploaded file.

    An address it would fetch, from this machine and in its name. A path it would read, whatever
    lies there: it checks paths only of pages that its own `launch` started.

    Args:
        blocks: The page.
    """
    from gradio import processing_utils
    from gradio.exceptions import InvalidPathError

    async def refuse(*_: object, **__: object) -> str:
        raise gr.Error(
            "Expected a file, not an address: nothing is fetched.", print_exception=False
        )

    check_allowed = processing_utils._check_allowed

    def check(path: str | Path, check_in_upload_folder: bool) -> None:
        try:
            check_allowed(path, check_in_upload_folder)
        except InvalidPathError as error:
            raise gr.Error(
                "Expected a file to be uploaded, not a path.", print_exception=False
            ) from error

    processing_utils.async_ssrf_protected_download = refuse
    processing_utils._check_allowed = check
    blocks.has_launched = True
