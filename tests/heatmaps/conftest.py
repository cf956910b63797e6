"""Keep MediaPipe away from torch: see the Makefile."""

import sys

import pytest

# Modules whose tests run MediaPipe and OpenVINO in this very process.
_BOTH = {"test_engines", "test_openvino_engine", "test_pose_model"}


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.path.stem in _BOTH and "torch" in sys.modules:
        pytest.skip("needs a process without torch: `make test` runs tests/heatmaps in its own")
