"""What the page's server is told: where it listens, how much it takes, whom it answers."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vsam_heatmaps.errors import VsamError, expected, explain_os_error
from vsam_heatmaps.images import MAX_PIXELS

from ..serving.options import MIB, is_loopback

DEFAULT_PORT = 8062


@dataclass(frozen=True, kw_only=True)
class WebOptions:
    """How the page is served.

    Attributes:
        host: Address or name to listen on.
        port: 0 takes any that is free.
        max_bytes: Larger files are refused.
        max_pixels: Photos with more pixels are refused.
        auth_file: Names and passwords, `name:password` a line, one of which a visitor must know.
        insecure: Allow a host that others reach without passwords.
        examples: Folder with example photos; by default mannequins are drawn.
        predictions: JSON lines of `vsam-predict` for the gallery.
        photos: The folder that their ids are relative to.
        pose_model: `.task` bundle of the pose networks; by default the one in the user's cache
            folder, if it is there.

    Raises:
        VsamError: If a value is out of its range, or the page would be open to others.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    max_bytes: int = 20 * MIB
    max_pixels: int = MAX_PIXELS
    auth_file: Path | None = None
    insecure: bool = False
    examples: Path | None = None
    predictions: Path | None = None
    photos: Path | None = None
    pose_model: Path | None = None

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_pixels"):
            if getattr(self, name) < 1:
                raise expected(name, "at least 1", getattr(self, name))
        if not 0 <= self.port <= 65535:
            raise expected("port", "from 0 to 65535", self.port)
        if (self.predictions is None) != (self.photos is None):
            raise VsamError("Expected --predictions and --photos to come together, but got one.")
        if not (self.auth_file or self.insecure or self.is_local):
            raise VsamError(
                f"Expected `--host` to be this machine's own, but others reach {self.host}. Give "
                "--auth-file, or --insecure if a firewall guards it."
            )

    @property
    def is_local(self) -> bool:
        """Whether this machine alone reaches the page."""
        return is_loopback(self.host)


def read_passwords(path: Path) -> Callable[[str, str], bool]:
    """Read names and passwords; give the function that says whether a pair is among them.

    Args:
        path: UTF-8, `name:password` a line. Empty lines don't count, nor does a byte order mark.

    Raises:
        VsamError: If the file can't be read, is no UTF-8, is empty, or a line is no such pair.
    """
    try:
        lines = path.read_bytes().decode("utf-8-sig").encode().splitlines()
    except OSError as error:
        raise explain_os_error(error, f"read {path}") from error
    except UnicodeDecodeError as error:
        raise VsamError(
            f"Expected {path} to be UTF-8, but byte {error.start} is not. Save it as UTF-8."
        ) from error
    known: list[tuple[bytes, bytes]] = []
    for number, line in enumerate(lines, 1):
        name, colon, password = line.strip().partition(b":")
        if line.strip() and not (name and colon and password):
            raise VsamError(f"Expected line {number} of {path} to be name:password, but it isn't.")
        if name:
            known.append((name, password))
    if not known:
        raise VsamError(f"Expected {path} to hold name:password a line, but it is empty.")

    def admits(name: str, password: str) -> bool:
        given = name.encode(), password.encode()
        # All are compared, each in constant time: the answer's time tells nothing about a password.
        fits = [
            hmac.compare_digest(given[0], other) & hmac.compare_digest(given[1], secret)
            for other, secret in known
        ]
        return any(fits)

    return admits
