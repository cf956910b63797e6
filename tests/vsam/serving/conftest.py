"""A server as users start it, and stubs as a stranger makes them from the description."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from servers import command_line, running
from stranger import PROTO


@pytest.fixture(scope="session")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModuleType, ModuleType]:
    """Give the messages and the stub that the standard generator makes of `PROTO`."""
    folder = tmp_path_factory.mktemp("stubs")
    (folder / "published.proto").write_text(PROTO)
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}"),
            *(f"--python_out={folder}", f"--grpc_python_out={folder}", "published.proto"),
        ],
        check=True,
    )
    sys.path.insert(0, str(folder))
    try:
        messages = importlib.import_module("published_pb2")
        return messages, importlib.import_module("published_pb2_grpc")
    finally:
        sys.path.remove(str(folder))


@pytest.fixture(scope="session")
def server(tiny_run: Path):
    """Give a server of `tiny_run`, started by the command. Leave it as it is."""
    with running(command_line(tiny_run)) as started:
        yield started
        assert "Traceback" not in "\n".join(started.lines)
        assert started.end() == 0


@pytest.fixture
def photos(tiny_data: Path) -> list[Path]:
    """Give the tiny data's 24 photos."""
    return sorted((tiny_data / "photos").rglob("*.png"))
