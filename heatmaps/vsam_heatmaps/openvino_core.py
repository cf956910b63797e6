"""The one OpenVINO core of a process: the pose networks and an exported VSAM share it."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def openvino_core() -> Any:
    """Give the one OpenVINO core of this process.

    Each core gives the thread another stack for signals, and gives back the former one when it
    goes. Two cores that overlap leave the stack of the one that went first, and the next signal
    (Ctrl-C, the end of a child) ends the process with a segmentation fault.

    Raises:
        ImportError: If OpenVINO isn't installed, or can't be loaded.
    """
    import openvino

    return openvino.Core()
