"""Options that commands share which look at the photos of an extraction again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Root = Annotated[Path | None, typer.Option(help="The --root of the extraction, if it had one.")]
ImageColumn = Annotated[
    str | None, typer.Option(help="The --image-column of the extraction, if it had one.")
]
