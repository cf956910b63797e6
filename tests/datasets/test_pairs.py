"""Image-heatmap pairs: matched by id, moved together, reproducible, broken photos reported."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import keypoints, record, shard_info, write_shards
from torch.utils.data import DataLoader

from vsam_datasets.pairs import UNKNOWN_CATEGORY, PairDataset, collate, match_heatmaps
from vsam_datasets.preprocessing import Preprocessing
from vsam_datasets.tables import LabelRow
from vsam_heatmaps.errors import VsamError
from vsam_heatmaps.landmarks import LANDMARKS
from vsam_heatmaps.shards import Record, Shards, Status, no_keypoints

CATEGORIES, ATTRIBUTES = ("dress", "jeans", "tee"), ("belt", "maxi")
SIZE = 64


def spot(x: float, y: float, width: int, height: int, sigma: float = 0.05) -> np.ndarray:
    """Draw a Gaussian at a place in shares of the picture, (height, width), 0..1."""
    u, v = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    squares = (u[None] - x) ** 2 + (v[:, None] - y) ** 2
    return np.exp(-squares / (2 * sigma**2))


def place(picture: np.ndarray) -> np.ndarray:
    """Find the centre (x, y) of a spot, in shares of the picture."""
    mass = np.clip(picture - picture.min() - 0.5 * np.ptp(picture), 0, None)
    height, width = mass.shape
    x = (mass.sum(0) * (np.arange(width) + 0.5)).sum() / mass.sum() / width
    y = (mass.sum(1) * (np.arange(height) + 0.5)).sum() / mass.sum() / height
    return np.array([x, y])


def one_point(x: float, y: float, names=LANDMARKS) -> np.ndarray:
    points = no_keypoints()
    for name in names:
        points[LANDMARKS.index(name)] = (x, y, 1, 1)
    return points


def save_spot(path: Path, x: float, y: float, size=(120, 200)) -> None:
    pixels = np.rint(spot(x, y, *size) * 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert("RGB").save(path, quality=95)


# Places that no mirroring or exchange of axes maps onto each other.
PLACES = {
    "a/1.png": (0.30, 0.45),
    "b/1.png": (0.62, 0.35),
    "c.png": (0.55, 0.70),
    "d ü.png": (0.40, 0.30),
    "e.png": (0.68, 0.58),
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("spots")
    for id_, (x, y) in PLACES.items():
        save_spot(folder / id_, x, y)
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Shards:
    info = shard_info(side=SIZE)
    records = [record(id_, one_point(*xy), info) for id_, xy in reversed(PLACES.items())]
    folder = tmp_path_factory.mktemp("maps")
    return Shards(write_shards(folder, [*records[2:], *records[:2]], info))


def rows_of(ids, category="dress", attributes=()) -> list[LabelRow]:
    return [LabelRow(id_, "train", category, attributes) for id_ in ids]


def dataset(rows, photos, shards, **changed) -> PairDataset:
    values = {
        "categories": CATEGORIES,
        "attributes": ATTRIBUTES,
        "preprocessing": Preprocessing(image_size=SIZE),
        "map_side": SIZE,
        "region": "full",
        **changed,
    }
    return PairDataset(rows, photos, shards=shards, **values)


def test_labels_become_indices_and_flags(photos, shards):
    rows = [
        LabelRow("c.png", "train", "jeans", ("maxi",)),
        LabelRow("e.png", "train", "", ()),
        LabelRow("a/1.png", "train", "tee", ("belt", "maxi")),
    ]
    pairs = list(map(dataset(rows, photos, shards).__getitem__, range(3)))
    assert [int(pair["category"]) for pair in pairs] == [1, UNKNOWN_CATEGORY, 2]
    assert [pair["attributes"].tolist() for pair in pairs] == [[0, 1], [0, 0], [1, 1]]
    assert [int(pair["index"]) for pair in pairs] == [0, 1, 2]
    batch = collate(pairs)
    assert batch["image"].shape == (3, 3, SIZE, SIZE)
    assert batch["heatmap"].shape == (3, 1, SIZE, SIZE)
    assert batch["image"].dtype == batch["heatmap"].dtype == torch.float32
    assert batch["category"].dtype == torch.int64
    assert batch["has_pose"].dtype == torch.bool


@pytest.mark.parametrize("seed", range(3))
def test_photos_and_maps_are_matched_by_id_whatever_their_order(photos, shards, seed):
    ids = list(PLACES)
    random.Random(seed).shuffle(ids)
    data = dataset(rows_of(ids), photos, shards)
    assert len(data) == len(PLACES)
    for index, id_ in enumerate(ids):
        pair = data[index]
        assert bool(pair["has_pose"])
        for picture in (pair["image"][0], pair["heatmap"][0]):
            np.testing.assert_allclose(place(picture.numpy()), PLACES[id_], atol=0.5 / SIZE)


@pytest.mark.parametrize("side", [56, 28, 8])
def test_maps_are_averaged_to_the_networks_side(photos, shards, side):
    pair = dataset(rows_of(["c.png"]), photos, shards, map_side=side)[0]
    assert pair["heatmap"].shape == (1, side, side)
    stored = Image.fromarray(shards["c.png"].region("full").astype(np.float32) / 255)
    expected = np.asarray(stored.resize((side, side), Image.BILINEAR))
    np.testing.assert_allclose(pair["heatmap"][0].numpy(), expected, atol=1e-3)


def test_photos_without_pose_or_record_have_no_map(photos, tmp_path):
    info = shard_info()
    unreadable = record("d ü.png", None, info)
    unreadable = Record(**{**vars(unreadable), "status": Status.UNREADABLE, "reason": "broken"})
    records = [
        record("a/1.png", one_point(0.3, 0.4), info),
        record("c.png", None, info),
        unreadable,
        record("elsewhere.png", one_point(0.3, 0.4), info),
    ]
    found = Shards(write_shards(tmp_path / "maps", records, info))
    ids = ["c.png", "b/1.png", "a/1.png", "d ü.png"]
    for augment in (False, True):
        data = dataset(rows_of(ids), photos, found, augment=augment)
        pairs = [data[index] for index in range(4)]
        assert [bool(pair["has_pose"]) for pair in pairs] == [False, False, True, False]
        assert [bool(pair["heatmap"].any()) for pair in pairs] == [False, False, True, False]
    match = match_heatmaps(rows_of(ids), found)
    assert (match.with_map, match.without_pose) == (1, 2)
    assert (match.without_record, match.maps_without_photo) == (1, 1)


def test_without_shards_no_sample_has_a_map(photos):
    pair = dataset(rows_of(["c.png"]), photos, None, augment=True)[0]
    assert not pair["has_pose"]
    assert pair["heatmap"].shape == (1, SIZE, SIZE)
    assert not pair["heatmap"].any()


def test_no_common_id_is_refused_with_an_example_of_both(shards):
    with pytest.raises(VsamError, match=r"None of the 2 labelled images") as refused:
        match_heatmaps(rows_of(["photos/c.png", "photos/e.png"]), shards)
    assert "'photos/c.png'" in str(refused.value)
    assert "'a/1.png'" in str(refused.value)
    assert "--root" in str(refused.value)


def test_augmentation_moves_photo_and_map_together(photos, shards):
    data = dataset(rows_of(PLACES), photos, shards, augment=True)
    places = []
    for epoch in range(10):
        data.epoch = epoch
        for index in range(len(PLACES)):
            pair = data[index]
            in_photo, in_map = place(pair["image"][1].numpy()), place(pair["heatmap"][0].numpy())
            # Stored as 8 bits and resized twice: a spot's centre is known to a part of a pixel.
            np.testing.assert_allclose(in_photo, in_map, atol=1 / SIZE)
            places.append(tuple(in_map))
    assert len(places) == 50
    original = np.array(list(PLACES.values()) * 10)
    moved = np.abs(np.array(places) - original).max(axis=1)
    assert (moved > 3 / SIZE).sum() > 25, "nothing moved, so nothing was tested"
    mirrored = np.abs(np.array(places)[:, 0] - (1 - original[:, 0])) < np.abs(
        np.array(places)[:, 0] - original[:, 0]
    )
    assert 10 < mirrored.sum() < 40


def shares_of_peaks(
    originals: np.ndarray, found: np.ndarray, sigma: float, side: int
) -> np.ndarray:
    """Tell which share of its peak each joint's Gaussian has in a crop.

    Args:
        originals: (J, 2) x, y in shares of the whole photo.
        found: (J, 2) the same in the crop, NaN where unknown; at least two known on each axis.
        sigma: In shares of the whole photo.
        side: Of the crop in pixels.

    Returns:
        (J,) exp(−d² / 2σ²), with d how far the joint lies beyond the centre of the last pixel.
    """
    squares = np.zeros(len(originals))
    for axis in (0, 1):
        known = ~np.isnan(found[:, axis])
        scale, start = np.polyfit(originals[known, axis], found[known, axis], 1)
        places = scale * originals[:, axis] + start
        beyond = np.maximum(-places, places - 1) + 0.5 / side
        outside = np.clip(beyond, 0, None) / abs(scale)
        squares += (outside / sigma) ** 2
    return np.exp(-squares / 2)


@pytest.mark.parametrize("size", [32, 64, 112])
def test_a_region_that_a_crop_does_not_show_has_no_map(tmp_path, size):
    """Each joint is a region of its own. Where the crop lies, those well inside of it tell.

    They are no body's, of which a mirrored photo would exchange the sides.
    """
    names, number = tuple(f"joint {n}" for n in range(25)), np.arange(25)
    grid = (np.stack([number, 7 * number % 25], axis=1) + 0.5) / 25  # no two in a row or column
    points = no_keypoints()
    points[:25] = [(x, y, 1, 1) for x, y in grid]
    drawn = record("x.png", points, shard_info(side=56, channels=LANDMARKS))
    drawn = replace(drawn, heatmaps=drawn.heatmaps[:25], channels=names)
    info = shard_info(side=56, channels=names)
    found = Shards(write_shards(tmp_path / "maps", [drawn], info))
    save_spot(tmp_path / "x.png", 0.5, 0.5)
    of_side = {
        side: dataset(
            rows_of(["x.png"]), tmp_path, found,
            preprocessing=Preprocessing(image_size=size),
            map_side=side, regions=names, augment=True, min_crop=0.4,
        )
        for side in (7, 14, 28, 56, size)
    }  # fmt: skip
    shown = cut = 0
    for epoch in range(40):
        for data in of_side.values():
            data.epoch = epoch
        fine = of_side[size][0]["heatmap"].numpy()
        centres = np.full((25, 2), np.nan)
        for joint, heat in enumerate(fine):
            x, y = place(heat) if heat.any() else (np.nan, np.nan)
            if 0.15 < x < 0.85 and 0.15 < y < 0.85:
                centres[joint] = x, y
        share = shares_of_peaks(grid, centres, info.sigma, size)
        # Resampling moves a peak a little.
        clear = (share > 0.5) | (share < 0.3)
        for side, data in of_side.items():
            kept = data[0]["heatmap"].flatten(1).any(dim=1).numpy()
            np.testing.assert_array_equal(kept[clear], share[clear] > 0.5, err_msg=str(side))
        shown, cut = shown + (share > 0.5).sum(), cut + ((share < 0.3) & (share > 1e-3)).sum()
    assert shown > 300
    assert cut > 50, "no tail was left over, so nothing was tested"


def test_a_faint_joint_in_the_crop_counts_beside_a_clear_one_outside(tmp_path):
    points = no_keypoints()
    points[LANDMARKS.index("left_knee")] = (0.5, 0.5, 0.5, 1)
    points[LANDMARKS.index("right_knee")] = (0.02, 0.02, 1, 1)
    info = shard_info(side=56)
    found = Shards(write_shards(tmp_path / "maps", [record("x.png", points, info)], info))
    save_spot(tmp_path / "x.png", 0.5, 0.5)
    data = dataset(
        rows_of(["x.png"]), tmp_path, found, regions=["knees"], augment=True, min_crop=0.4
    )
    peaks = []
    for epoch in range(40):
        data.epoch = epoch
        peaks.append(float(data[0]["heatmap"].max()))
    assert min(peaks) > 0.4
    assert min(peaks) < 0.52, "the clear one was always in the crop, so nothing was tested"


def test_without_augmentation_nothing_moves(photos, shards):
    data = dataset(rows_of(["b/1.png"]), photos, shards)
    first = data[0]
    data.epoch = 5
    assert torch.equal(first["image"], data[0]["image"])
    assert torch.equal(first["heatmap"], data[0]["heatmap"])


def all_of(data: PairDataset, workers: int) -> dict[str, torch.Tensor]:
    loader = DataLoader(data, batch_size=2, num_workers=workers, collate_fn=collate)
    batches = list(loader)
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in ("image", "heatmap"))


def test_samples_depend_on_seed_epoch_and_row_alone(photos, shards):
    def draw(seed: int = 0, epoch: int = 0, workers: int = 0, rng: int = 0):
        random.seed(rng)
        np.random.seed(rng)
        torch.manual_seed(rng)
        data = dataset(rows_of(PLACES), photos, shards, augment=True, seed=seed)
        data.epoch = epoch
        return all_of(data, workers)

    first = draw()
    assert same(first, draw(workers=2))
    assert same(first, draw(rng=99))
    assert not same(first, draw(epoch=1))
    assert not same(first, draw(seed=1))
    assert same(draw(epoch=1), draw(epoch=1, workers=2, rng=5))
    data = dataset(rows_of(PLACES), photos, shards, augment=True)
    backwards = [data[index] for index in reversed(range(len(PLACES)))]
    assert torch.equal(backwards[-1]["image"], first["image"][0])


def test_drawing_a_sample_leaves_the_global_random_state(photos, shards):
    data = dataset(rows_of(PLACES), photos, shards, augment=True)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    data[0]
    assert torch.equal(torch.rand(4), expected)


def test_drawing_a_sample_leaves_the_random_state_of_gpus(photos, shards, monkeypatch):
    """Else what a step drops at random would depend on who draws the samples."""
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    data = dataset(rows_of(PLACES), photos, shards, augment=True)
    torch.manual_seed(3)
    assert seeded == [3]
    data[0]
    assert seeded == [3]


@pytest.mark.parametrize("asked", [{"regions": ["nose", "left_wrist"]}, {"region": "left_wrist"}])
def test_one_side_of_the_body_is_refused_where_photos_are_mirrored(photos, shards, asked):
    dataset(rows_of(PLACES), photos, shards, **asked)
    with pytest.raises(VsamError) as refused:
        dataset(rows_of(PLACES), photos, shards, augment=True, **asked)
    assert str(refused.value) == (
        "Expected the regions to be of both sides with `augment`, but got left_wrist: in a "
        "mirrored photo it is the other one. Name a body part, or don't augment."
    )


def test_the_region_follows_the_category(tmp_path, photos):
    info = shard_info(side=SIZE)
    points = no_keypoints()
    where = {"left_shoulder": (0.2, 0.2), "left_hip": (0.5, 0.5), "left_ankle": (0.8, 0.9)}
    where["nose"] = (0.8, 0.1)
    for name, (x, y) in where.items():
        points[LANDMARKS.index(name)] = (x, y, 1, 1)
    found = Shards(write_shards(tmp_path, [record("c.png", points, info)], info))

    def joints_in(category: str, region: str) -> set[str]:
        data = dataset(rows_of(["c.png"], category), photos, found, region=region)
        heat = data[0]["heatmap"][0]
        return {name for name, (x, y) in where.items() if heat[int(y * SIZE), int(x * SIZE)] > 0.5}

    expected = {
        "tee": {"left_shoulder", "left_hip"},
        "jeans": {"left_hip", "left_ankle"},
        "dress": {"left_shoulder", "left_hip", "left_ankle"},
        "": {"left_shoulder", "left_hip", "left_ankle"},
    }
    for category, joints in expected.items():
        assert joints_in(category, "by-category") == joints, category
        assert joints_in(category, "lower") == expected["jeans"]
        assert joints_in(category, "head") == {"nose"}


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_photo_is_reported_not_replaced(tmp_path, shards, workers):
    for id_, (x, y) in PLACES.items():
        save_spot(tmp_path / id_, x, y)
    whole = (tmp_path / "c.png").read_bytes()
    (tmp_path / "c.png").write_bytes(whole[: len(whole) // 2])
    data = dataset(rows_of(PLACES), tmp_path, shards, augment=True)
    loader = DataLoader(data, batch_size=1, num_workers=workers, collate_fn=collate)
    batches = list(loader)
    assert ["error" in batch for batch in batches] == [False, False, True, False, False]
    assert batches[2]["error"].startswith(f"{tmp_path / 'c.png'}: ")
    assert batches[2]["image"].numel() == 0
    together = list(DataLoader(data, batch_size=5, num_workers=workers, collate_fn=collate))
    assert together[0]["error"] == batches[2]["error"]


@pytest.mark.parametrize("orientation", [3, 6, 8, 5])
def test_a_photo_in_exif_rotation_fits_its_map(tmp_path, orientation):
    upright = np.rint(spot(0.3, 0.2, 120, 200) * 255).astype(np.uint8)
    # What a camera stores, so that turning it as the tag says gives the upright photo.
    stored = {
        3: np.rot90(upright, 2),
        6: np.rot90(upright, 1),
        8: np.rot90(upright, -1),
        5: upright.T,
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(stored).convert("RGB").save(tmp_path / "x.jpg", quality=95, exif=exif)
    info = shard_info(side=SIZE)
    maps = Shards(write_shards(tmp_path / "m", [record("x.jpg", one_point(0.3, 0.2), info)], info))
    pair = dataset(rows_of(["x.jpg"]), tmp_path, maps)[0]
    for picture in (pair["image"][0], pair["heatmap"][0]):
        np.testing.assert_allclose(place(picture.numpy()), (0.3, 0.2), atol=1 / SIZE)


def test_a_body_has_every_part():
    # The helper that other tests rely on draws all parts inside the photo.
    assert record("x", keypoints(0.5, 0.5)).heatmaps.reshape(7, -1).max(axis=1).min() > 100
