"""The folder of an unfinished run beside its output: settings, journal, pictures for the report."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsam_heatmaps.atomic import locked, remove_leftovers, write_text
from vsam_heatmaps.errors import VsamError, explain_os_error

from .journal import Journal
from .pictures import PictureFile

_log = logging.getLogger("vsam")

FORMAT_VERSION = 1
_SETTINGS, _JOURNAL, _PICTURES, _LOCK = "settings.json", "journal", "pictures", "lock"


def partial_path(out: Path) -> Path:
    """Give the folder in which an output's unfinished work lies.

    >>> partial_path(Path("results/predictions.jsonl")).as_posix()
    'results/.predictions.jsonl.vsam-partial'
    """
    return out.with_name(f".{out.name}.vsam-partial")


@dataclass(frozen=True)
class Partial:
    """Unfinished work; see `opened_partial`."""

    journal: Journal
    pictures: PictureFile


@contextlib.contextmanager
def opened_partial(
    out: Path, settings: dict[str, Any], *, resume: bool, keep: bool = False
) -> Iterator[Partial]:
    """Hold an output's unfinished work: what is there already, if it is to be resumed, or none.

    On success it is removed. After a failure it stays if there is a finished line in it.

    Args:
        out: The output's file.
        settings: What the output's contents depend on.
        resume: Go on with what is there.
        keep: Leave it there on success, too.

    Raises:
        VsamError: If there is unfinished work that is not to be resumed, or that was made with
            other settings; if another run is writing the output; or the system refuses.
    """
    folder = partial_path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = f"Another run is writing {out}. Wait until it ends."
        with locked(folder / _LOCK, taken=taken), contextlib.ExitStack() as stack:
            earlier = _read_settings(folder)
            if earlier is not None and resume:
                _require_same(folder, earlier, settings)
            elif earlier is not None:
                _require_nothing_done(folder)
            fresh = earlier is None or not resume
            if fresh:
                _remove(folder, but=_LOCK)
                record = {"format_version": FORMAT_VERSION, "settings": settings}
                write_text(folder / _SETTINGS, json.dumps(record, indent=2) + "\n")
            remove_leftovers(out)
            journal = Journal(folder / _JOURNAL)
            stack.callback(journal.close)
            try:
                yield Partial(journal, PictureFile(folder / _PICTURES))
            except BaseException:
                if fresh and not journal.lines:
                    _remove(folder)
                else:
                    _log.warning("%d photos are tagged; --resume goes on with them.", journal.lines)
                raise
            if not (keep and journal.lines):
                _remove(folder)
    except OSError as error:
        raise explain_os_error(error, f"write {folder}") from error


def _read_settings(folder: Path) -> dict[str, Any] | None:
    """Read the settings of the earlier run; None if it was killed before it had written them."""
    path = folder / _SETTINGS
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format_version"] == FORMAT_VERSION:
            return dict(record["settings"])
    except (ValueError, TypeError, KeyError):
        pass
    raise VsamError(
        f"Expected {path} to be the settings of an unfinished run of this version of vsam, but it "
        f"is not. Remove {folder} to start anew."
    )


def _require_same(folder: Path, earlier: dict[str, Any], settings: dict[str, Any]) -> None:
    names = sorted(earlier.keys() | settings.keys())
    differences = [
        f"{name} {_told(earlier.get(name))}, now {_told(settings.get(name))}"
        for name in names
        if earlier.get(name) != settings.get(name)
    ]
    if differences:
        raise VsamError(
            f"Expected the settings to be those of the unfinished run in {folder}, but they "
            f"differ: {'; '.join(differences)}. Give the same, or remove {folder} to start anew."
        )


def _told(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "not given"
    return value[:12] if isinstance(value, str) and len(value) == 64 else str(value)


def _require_nothing_done(folder: Path) -> None:
    journal = Journal(folder / _JOURNAL)
    try:
        done = journal.recover()
    finally:
        journal.close()
    if done:
        raise VsamError(
            f"An unfinished run has tagged {done} photos for this output already. Go on with "
            f"--resume, or remove {folder} to start anew."
        )


def _remove(folder: Path, *, but: str = "") -> None:
    """Remove what is in the folder, the settings first: without them the rest is nothing."""
    (folder / _SETTINGS).unlink(missing_ok=True)
    if not but:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in folder.iterdir():
        if path.name != but:
            path.unlink()
