"""Bearer tokens: the file that holds them, and whether a caller brings one."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

from vsam_heatmaps.errors import VsamError, explain_os_error


def read_tokens(path: Path) -> list[str]:
    """Read a file with a token a line; blanks around them and empty lines do not count.

    Raises:
        VsamError: If it can't be read, holds none, or one that could not be sent in a header.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise explain_os_error(error, f"read {path}") from error
    stripped = [line.strip() for line in lines]
    tokens = [line.decode("latin-1") for line in stripped if line]
    if not tokens:
        raise VsamError(f"Expected {path} to hold a token a line, but it is empty.")
    if not all(token.isascii() and token.isprintable() for token in tokens):
        raise VsamError(f"Expected {path} to hold printable ASCII alone.")
    return tokens


class Tokens:
    """Tokens, kept as their SHA-256, one of which a caller must bring.

    Args:
        path: Their file.

    Raises:
        VsamError: As `read_tokens`.
    """

    def __init__(self, path: Path) -> None:
        self._known = [hashlib.sha256(token.encode()).digest() for token in read_tokens(path)]

    def admits(self, authorization: str) -> bool:
        """Say whether the value of an `authorization` header is `Bearer` with a known token.

        Browsers, which can't send that, may send `Basic` with a token as password, and any name.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "basic":
            try:
                token = base64.b64decode(token, validate=True).decode().partition(":")[2]
            except ValueError:
                return False
        elif scheme.lower() != "bearer":
            return False
        digest = hashlib.sha256(token.strip().encode()).digest()
        # All are compared, each in constant time: the answer's time tells nothing about a token.
        return any([hmac.compare_digest(digest, known) for known in self._known])
