"""What the tests of pose estimators share: the official networks, and the drawn photos."""

import pytest

from vsam_heatmaps import VsamError, read_photo
from vsam_heatmaps.pose_model import find_pose_model


@pytest.fixture(scope="session")
def model():
    """Give the default bundle; tests that need it are skipped where it can't be had."""
    try:
        return find_pose_model()
    except VsamError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def drawn(mannequins):
    photos = [read_photo(path) for path in sorted((mannequins / "photos").glob("*.jpg"))]
    assert len(photos) == 24
    return photos
