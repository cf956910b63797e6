"""Write beside, fsync, rename: a file that has its final name is whole."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from .errors import VsamError, explain_os_error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it becomes `path`, else it vanishes.

    The temporary name starts with a dot and ends in `.tmp`, so that no reader takes it for a
    result. Contents and directory entry are synced before and after the rename, so that the
    file is whole even after a power cut.

    Raises:
        VsamError: If the operating system refuses, with the reason.
    """
    # Not the process's number: machines that share a folder have the same ones.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise explain_os_error(error, f"write {path}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 text file atomically."""
    write_bytes(path, text.encode())


def remove(path: Path) -> None:
    """Remove a file, so that it stays removed after a power cut.

    Raises:
        VsamError: If the operating system refuses, with the reason.
    """
    try:
        path.unlink()
        _sync(path.parent)
    except OSError as error:
        raise explain_os_error(error, f"remove {path}") from error


def prepare_output_folder(path: Path, *, ours: str, purpose: str) -> None:
    """Make a folder for results, or accept one that holds results of the same kind.

    Args:
        path: The folder.
        ours: A glob pattern that at least one entry of a folder of this kind matches.
        purpose: What the folder is for, in words: "shards".

    Raises:
        VsamError: If it is a file, holds something else, or can't be made or written to.
    """
    if path.exists() and not path.is_dir():
        raise VsamError(f"Expected `{path}` to be a folder for {purpose}, but it is a file.")
    try:
        path.mkdir(parents=True, exist_ok=True)
        foreign = [entry.name for entry in path.iterdir() if not entry.name.startswith(".")]
        if foreign and not any(path.glob(ours)):
            raise VsamError(
                f"Expected `{path}` to be empty or to hold {purpose}, but it holds something else "
                f"({sorted(foreign)[0]}). Name another folder."
            )
        probe = path / f".probe.{os.getpid()}.tmp"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise explain_os_error(error, f"write into {path}") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
