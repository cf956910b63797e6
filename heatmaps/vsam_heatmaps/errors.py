"""The errors that a user can cause and mend; a command prints them as one line."""

from __future__ import annotations

import errno

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_CONTROLS |= {ord("\t"): "\\t", ord("\n"): "\\n", ord("\r"): "\\r"}


class VsamError(Exception):
    """Something outside the program is wrong: a file, a value, a folder, a disk.

    The message names the thing, what was expected of it, what it is, and the remedy. Commands
    print it without a traceback and exit with code 1.
    """


class UnreadablePhotoError(VsamError):
    """A file that should be a photo is not one, is damaged, or is too large to decode."""


def expected(name: str, rule: str, value: object, remedy: str = "") -> VsamError:
    """Build an error in the one form that all messages have.

    >>> print(expected("sigma", "positive", -1))
    Expected `sigma` to be positive, but got -1.
    """
    return VsamError(
        f"Expected `{name}` to be {rule}, but got {value}.{' ' + remedy if remedy else ''}"
    )


def explain_os_error(error: OSError, doing: str) -> VsamError:
    """Turn a failure of the operating system into a line that says what to do about it.

    Args:
        error: What the system raised.
        doing: What was being done, with the path: "write /data/shards/shard-00001.h5".
    """
    reason = error.strerror or str(error)
    remedy = {
        errno.ENOSPC: " Free some space or name another folder, then run the command again.",
        errno.EDQUOT: " Free some space or name another folder, then run the command again.",
        errno.EACCES: " Check the permissions or name another folder.",
        errno.EROFS: " Name a folder on a disk that can be written.",
    }.get(error.errno or 0, "")
    return VsamError(f"Could not {doing}: {reason}.{remedy}")


def one_line(text: str) -> str:
    r"""Escape control characters: names of files may hold line ends, and what steers a terminal.

    >>> print(one_line("a\nb"))
    a\nb
    """
    return text.translate(_CONTROLS)
