"""The one OpenVINO core of a process: the pose networks and an exported VSAM share it."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

# OpenVINO and NNCF report their use to their makers through this package unless the user opted out;
# without it they don't. Nothing that runs here tells others of it.
_REPORTING = "openvino_telemetry"


def import_openvino() -> Any:
    """Import OpenVINO without its reports of use. Who imports it first goes this way.

    Raises:
        ImportError: If it isn't installed, or can't be loaded.
    """
    sys.modules.setdefault(_REPORTING, None)  # type: ignore[arg-type]  # can't be imported
    import openvino

    return openvino


@cache
def openvino_core() -> Any:
    """Give the one OpenVINO core of this process.

    Each core gives the thread another stack for signals, and gives back the former one when it
    goes. Two cores that overlap leave the stack of the one that went first, and the next signal
    (Ctrl-C, the end of a child) ends the process with a segmentation fault.

    It reads weights into memory instead of mapping their file: who replaces a model that is in use
    would end the process with a bus error, or change what was checked.

    Raises:
        ImportError: If OpenVINO isn't installed, or can't be loaded.
    """
    core = import_openvino().Core()
    core.set_property({"ENABLE_MMAP": False})
    return core
