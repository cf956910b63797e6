"""Write beside, fsync, rename: a file that has its final name is whole."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from .errors import VsamError, explain_os_error

LONGEST_NAME = 255 - 14
"""Bytes of a name that `replacing` can write: file systems take 255, a temporary's has 14 more."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it becomes `path`, else it vanishes.

    The temporary name starts with a dot and ends in `.tmp`, so that no reader takes it for a
    result. Contents and directory entry are synced before and after the rename, so that the
    file is whole even after a power cut.

    Raises:
        VsamError: If there is a pipe, a socket or a device, or the operating system refuses, with
            the reason.
    """
    target = Path(os.path.realpath(path))  # a link stays, and what it leads to is written
    # 14 bytes more, see `LONGEST_NAME`. Not the process's number: machines that share a folder have
    # the same ones.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        if is_special(path):
            raise VsamError(
                f"Expected `{path}` to be a file, but it is a pipe, a socket or a device. Name a "
                "file."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        temporary.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise explain_os_error(error, f"write {path}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def is_special(path: Path) -> bool:
    """Whether there is a pipe, a socket or a device, of which a rename would take the place.

    So `/dev/null` would become a file, for all programs of the machine.
    """
    return path.exists() and not path.is_file() and not path.is_dir()


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left when they were `replacing` a file.

    Nobody else may be writing it now.

    Args:
        path: The file.
    """
    target = Path(os.path.realpath(path))
    for leftover in target.parent.glob(_temporary_names(glob.escape(target.name))):
        leftover.unlink(missing_ok=True)


def remove_leftovers_below(folder: Path, names: str) -> None:
    """Remove what killed processes left in a folder, and those in it, as `remove_leftovers` does.

    Args:
        folder: Where to look; need not be there.
        names: Pattern of the names that the files were to have, as for `Path.glob`.
    """
    for leftover in folder.rglob(_temporary_names(names)):
        leftover.unlink(missing_ok=True)


def _temporary_names(names: str) -> str:
    return f".{names}.{'[0-9a-f]' * 8}.tmp"


@contextlib.contextmanager
def locked(path: Path, *, taken: str, patience: float = 0.0) -> Iterator[None]:
    """Hold a lock while the block runs.

    The system frees it when its process dies, so a killed one's is never in the way. The lock's
    file stays.

    Args:
        path: The lock's file, in a folder that is there.
        taken: What an error says if another process, or another thread, holds it.
        patience: Seconds to wait for it.

    Raises:
        VsamError: If it is held, or the operating system refuses.
    """
    import filelock

    try:
        held = filelock.FileLock(path).acquire(timeout=patience)
    except filelock.Timeout as error:
        raise VsamError(taken) from error
    except OSError as error:
        raise explain_os_error(error, f"lock {path.parent}") from error
    with held:
        yield


@contextlib.contextmanager
def making_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside `path`; on success it becomes `path`, else it vanishes.

    So `path` holds nothing, or all. The temporary folder's name starts with a dot. A lock beside it
    is held meanwhile: what a killed process left there is removed by the next one that makes the
    same folder, but never what a living one uses.

    Args:
        path: The folder; not there yet, or empty. What is written into the temporary folder must
            be synced by who writes it.

    Raises:
        VsamError: If it holds something, another process is making it, or the operating system
            refuses.
    """
    path = Path(os.path.realpath(path))  # a link stays, and what it leads to is made
    temporary = path.with_name(f".{path.name}.vsam-unfinished")
    lock = path.with_name(f".{path.name}.vsam-lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(lock, taken=f"Another process is making {path}. Wait until it ends."):
            try:
                refuse_unless_empty(path)
                if temporary.exists():
                    shutil.rmtree(temporary)
                temporary.mkdir()
                yield temporary
                _sync(temporary)
                temporary.replace(path)
                _sync(path.parent)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
                with contextlib.suppress(OSError):  # Windows keeps what is open
                    lock.unlink()
    except OSError as error:
        raise explain_os_error(error, f"write {path}") from error


def refuse_unless_empty(path: Path) -> None:
    """Check that `making_folder` can make a folder.

    Raises:
        VsamError: If there is something that is no empty folder, or one that can't be replaced.
    """
    if path.exists() and not path.is_dir():
        raise VsamError(f"Expected `{path}` to be a folder or not to be there, but it is a file.")
    try:
        first = min((entry.name for entry in path.iterdir()), default=None)
    except FileNotFoundError:
        return
    except OSError as error:
        raise explain_os_error(error, f"write {path}") from error
    if first is not None:
        raise VsamError(
            f"Expected `{path}` to be an empty folder or not to be there, but it holds {first}. "
            "Name another folder."
        )
    if path.is_mount():
        raise VsamError(f"{path} is a disk's own folder and can't be replaced. Name one in it.")


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
