"""What the tests of pose estimators share: the official networks, and the drawn photos."""

import pytest
from connection import skip_without_connection

from vsam_heatmaps import VsamError, read_photo
from vsam_heatmaps.pose_model import find_pose_model


@pytest.fixture(scope="session")
def model():
    """Give the default bundle; tests that need it are skipped where it can't be fetched."""
    try:
        return find_pose_model()
    except VsamError as error:
        skip_without_connection(str(error))
        raise


@pytest.fixture(scope="session")
def drawn(mannequins):
    photos = [read_photo(path) for path in sorted((mannequins / "photos").glob("*.jpg"))]
    assert len(photos) == 24
    return photos
