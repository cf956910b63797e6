"""Whether pip, which fetches the pose model, has a connection: where it has none, tests skip."""

import subprocess
import sys

import pytest


def skip_without_connection(said: str) -> None:
    """Skip if a message tells that the pose model was not fetched, and pip reaches no index.

    Of a wheel that is not there pip says the same as without a connection; so it is asked for any
    release of MediaPipe at all.
    """
    if "Could not get the pose model" not in said:
        return
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "index", "versions", "mediapipe"],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    if "No matching distribution found" in asked.stderr:
        pytest.skip("there is no connection to fetch the pose model")
