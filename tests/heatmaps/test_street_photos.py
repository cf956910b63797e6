"""Real photos of people, where they lie beside the repository: poses against garment masks."""

import numpy as np
import pytest
from PIL import Image

from vsam_heatmaps import Shards, extract
from vsam_heatmaps.landmarks import landmark_indices

COUNT = 60
# Joints that clothes, shoes or skin cover; the masks name both.
JOINTS = [
    f"{side}_{name}" for side in ("left", "right") for name in ("shoulder", "elbow", "hip", "knee")
]


@pytest.fixture(scope="module")
def street(shared_data, tmp_path_factory):
    folder = shared_data / "ccp"
    masks = sorted((folder / "masks").glob("*.png"))
    chosen = masks[:: len(masks) // COUNT][:COUNT]
    photos = [folder / "images" / f"{mask.stem}.jpg" for mask in chosen]
    out = tmp_path_factory.mktemp("street") / "shards"
    report = extract(photos, out, root=folder)
    return report, Shards(out), dict(zip((f"images/{p.name}" for p in photos), chosen, strict=True))


def test_a_pose_is_found_in_nearly_all(street):
    report, _, masks = street
    assert report.photos == len(masks) == COUNT
    assert report.counts["unreadable"] == 0
    assert report.counts["ok"] >= COUNT - 1


def test_visible_joints_lie_on_the_person(street):
    _, shards, masks = street
    on, seen, covered = 0, 0, []
    for id_, mask_file in masks.items():
        record = shards[id_]
        mask = np.asarray(Image.open(mask_file)) > 0  # 0 is the background
        height, width = mask.shape
        covered.append(mask.mean())
        for x, y, visibility, _ in record.keypoints[list(landmark_indices(JOINTS))]:
            column, row = int(x * width), int(y * height)
            if visibility > 0.5 and 0 <= column < width and 0 <= row < height:
                seen += 1
                # masks are small: a joint at the edge of a limb may be off by one pixel
                on += mask[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].any()
    assert seen > COUNT * 6
    assert on / seen > 0.97
    assert np.mean(covered) < 0.5  # chance would be far lower
