"""Mannequins before full rails of garments, and what their attributes are about."""

import numpy as np
import pytest

from vsam_datasets.mannequins import (
    ATTRIBUTE_KINDS,
    ATTRIBUTES,
    CATEGORIES,
    Part,
    draw_mannequin,
    scene,
    write_mannequins,
)

SEED = 4


def test_every_attribute_is_of_one_kind():
    named = [name for names in ATTRIBUTE_KINDS.values() for name in names]
    assert sorted(named) == sorted(ATTRIBUTES)


@pytest.fixture(scope="module")
def pairs():
    return [(draw_mannequin(n, SEED), draw_mannequin(n, SEED, crowded=True)) for n in range(6)]


def test_a_crowded_scene_has_the_same_person(pairs):
    for plain, crowded in pairs:
        assert plain.category == crowded.category
        assert plain.attributes == crowded.attributes
        np.testing.assert_array_equal(plain.joints, crowded.joints)
        np.testing.assert_array_equal(plain.mask, crowded.mask)


def test_a_crowded_scene_has_another_background(pairs):
    for plain, crowded in pairs:
        changed = np.abs(plain.photo.astype(int) - crowded.photo).max(axis=2) > 40
        behind = plain.mask == Part.BACKGROUND
        assert changed[behind].mean() > 0.2


def hung_in(monkeypatch: pytest.MonkeyPatch, *, crowded: bool) -> list[list[str]]:
    """List the categories of the garments that hang in each of some scenes."""
    hung: list[list[str]] = []
    drawn = scene.draw_hanging

    def noted(canvas, frame, category, fabric):
        hung[-1].append(category)
        drawn(canvas, frame, category, fabric)

    with monkeypatch.context() as patched:
        patched.setattr(scene, "draw_hanging", noted)
        for number in range(6):
            hung.append([])
            worn = draw_mannequin(number, SEED, crowded=crowded).category
            assert worn not in hung[-1]
    return hung


def test_far_more_garments_hang_in_it_and_none_is_the_worn_kind(monkeypatch):
    few, many = (hung_in(monkeypatch, crowded=crowded) for crowded in (False, True))
    for plain, full in zip(few, many, strict=True):
        assert 1 <= len(plain) <= 4
        assert len(full) >= 10
        assert set(full) <= set(CATEGORIES)


def test_a_crowded_folder_holds_crowded_scenes(tmp_path):
    import cv2

    write_mannequins(tmp_path, count=1, seed=SEED, crowded=True, workers=1, progress=False)
    written = cv2.imread(str(tmp_path / "photos" / "00000.jpg"))[..., ::-1]
    drawn = draw_mannequin(0, SEED, crowded=True).photo
    assert np.abs(written.astype(int) - drawn).mean() < 5  # JPEG
