"""The samples that the region network learns from: what is known of a photo follows its pixels."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from vsam_heatmaps.blazepose.regions import Region
from vsam_heatmaps.landmarks import LANDMARKS, MIRRORED

SIDE = 120
REGION = Region(60.0, 64.0, 90.0, 0.2)


@pytest.fixture
def samples(monkeypatch):
    """Give the module, which lies beside the package and not in it."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "heatmaps" / "region_network")
    monkeypatch.delitem(sys.modules, "samples", raising=False)
    import samples

    return samples


def standing() -> np.ndarray:
    """A person's 33 joints in pixels, left on the right of the picture."""
    rng = np.random.default_rng(0)
    keypoints = np.ones((33, 4), np.float32)
    heights = {"shoulder": 40, "elbow": 52, "wrist": 62, "hip": 64, "knee": 82, "ankle": 100}
    for index, name in enumerate(LANDMARKS):
        side = {"left": 9, "right": -9}.get(name.split("_")[0], 0)
        height = heights.get(name.split("_")[-1], 26 if index < 11 else 104)
        keypoints[index, :2] = (60 + side + rng.uniform(-1, 1), height + rng.uniform(-1, 1))
    return keypoints


def dotted(point: np.ndarray) -> np.ndarray:
    """A black photo with one bright pixel around a point."""
    photo = np.zeros((SIDE, SIDE, 3), np.uint8)
    photo[int(point[1]), int(point[0])] = 255
    return photo


def brightest(photo: np.ndarray) -> np.ndarray:
    weights = photo[..., 0].astype(float)
    rows, columns = np.mgrid[: photo.shape[0], : photo.shape[1]] + 0.5
    return np.array([(weights * columns).sum(), (weights * rows).sum()]) / weights.sum()


@pytest.mark.parametrize("joint", [0, 11, 16, 23, 28])
def test_a_mirrored_person_has_the_other_sides(samples, joint):
    keypoints = standing()
    photo, mirrored, region = samples.mirror(dotted(keypoints[joint]), keypoints, REGION)
    np.testing.assert_allclose(brightest(photo), mirrored[MIRRORED[joint], :2], atol=0.71)
    assert (region.x, region.y, region.side, region.angle) == (60.0, 64.0, 90.0, -0.2)
    twice = samples.mirror(photo, mirrored, region)
    np.testing.assert_allclose(twice[1], keypoints, atol=1e-4)


@pytest.mark.parametrize("degrees", [-35.0, 8.0, 20.0])
@pytest.mark.parametrize("joint", [0, 16, 27])
def test_a_turned_person_turns_with_the_region(samples, degrees, joint):
    keypoints = standing()
    photo, turned, region = samples.turn(dotted(keypoints[joint]), keypoints, REGION, degrees)
    # Half a pixel, which OpenCV's frame and ours differ by, and half of the dot.
    np.testing.assert_allclose(brightest(photo), turned[joint, :2], atol=1.2)
    # In the region's own frame nothing has moved.
    np.testing.assert_allclose(
        region.from_photo(turned[:, :2]), REGION.from_photo(keypoints[:, :2]), atol=1e-4
    )


def test_crops_keep_the_person_in_their_region(samples):
    rng = np.random.default_rng(1)
    photo = rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    mask = np.zeros((40, 40), np.uint8)
    mask[6:36, 14:26] = 14  # a dress
    person = samples.Person(photo, standing(), REGION, mask)
    sampler = samples.Sampler([person], [person], [photo], seed=3)
    crops, empty = 0, 0
    here = REGION.from_photo(standing()[:, :2])
    there = here.copy()  # where a mirrored person is
    there[:, 0] = 1 - there[:, 0]
    there = there[list(MIRRORED)]
    for sample in itertools.islice(sampler, 200):
        assert sample.photo.dtype == np.uint8
        assert min(sample.photo.shape[:2]) >= 24
        if sample.keypoints is None:
            assert sample.region is None
            empty += 1
            continue
        seen = sample.region.from_photo(sample.keypoints[:, :2])
        assert min(abs(seen - here).max(), abs(seen - there).max()) < 1e-3
        crops += 1
    assert crops > 120
    assert empty > 20


def test_samples_depend_on_the_seed_alone(samples):
    photo = np.random.default_rng(1).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    mask = np.full((40, 40), 14, np.uint8)
    person = samples.Person(photo, standing(), REGION, mask)

    def first(seed: int) -> list[bytes]:
        sampler = samples.Sampler([person], [], [photo], seed)
        return [sample.photo.tobytes() for sample in itertools.islice(sampler, 30)]

    assert first(1) == first(1)
    assert first(1) != first(2)
