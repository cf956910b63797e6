"""Overlays: hot where the map is hot, joints where the keypoints are, pictures that are whole."""

import hashlib
import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_shards import INFO, make_record, write
from PIL import Image

from vsam_heatmaps import (
    LANDMARKS,
    Record,
    RenderOptions,
    Shards,
    Status,
    VsamError,
    render_heatmaps,
)
from vsam_heatmaps.overlays import (
    caption,
    draw_skeleton,
    fit_tile,
    heat_overlay,
    record_row,
    view_records,
    write_picture,
)
from vsam_heatmaps.photos import list_photos

sizes = st.tuples(st.integers(1, 90), st.integers(1, 90))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(size=sizes, side=st.integers(1, 60), level=st.integers(0, 255))
def test_heat_overlay_keeps_the_photos_size_and_leaves_cold_places_alone(size, side, level):
    photo = np.full((*size, 3), level, np.uint8)
    before = photo.copy()
    picture = heat_overlay(photo, np.zeros((side, side), np.uint8))
    assert picture.dtype == np.uint8
    assert picture.shape == photo.shape
    # Without heat the photo stays, a quarter darker.
    assert np.abs(picture - 0.75 * level).max() <= 0.5
    hot = heat_overlay(photo, np.full((side, side), 255, np.uint8))
    assert hot.shape == photo.shape
    assert (hot == hot[0, 0]).all()
    np.testing.assert_array_equal(photo, before)


@pytest.mark.parametrize(("row", "column"), [(3, 4), (12, 1), (7, 13)])
def test_heat_overlay_is_hot_where_the_map_is(row, column):
    """One hot cell of a square map over a photo that is no square: it lands in its share."""
    height, width, side = 210, 140, 14
    photo = np.full((height, width, 3), 90, np.uint8)
    heat = np.zeros((side, side), np.uint8)
    heat[row, column] = 255
    picture = heat_overlay(photo, heat)
    changed = np.abs(picture.astype(int) - heat_overlay(photo, 0 * heat)).sum(axis=2)
    y, x = np.unravel_index(changed.argmax(), changed.shape)
    assert (y * side // height, x * side // width) == (row, column)
    rows, columns = np.nonzero(changed)
    # Bilinear resizing reaches one cell's width around the cell's centre, and no further.
    assert np.abs((rows + 0.5) / height * side - (row + 0.5)).max() <= 1
    assert np.abs((columns + 0.5) / width * side - (column + 0.5)).max() <= 1


def test_heat_overlay_takes_bytes_and_shares_alike():
    photo = np.random.default_rng(0).integers(0, 256, (31, 17, 3), np.uint8)
    heat = np.random.default_rng(1).integers(0, 256, (7, 9), np.uint8)
    shares = heat.astype(np.float32) / 255
    np.testing.assert_array_equal(heat_overlay(photo, heat), heat_overlay(photo, shares))
    weaker = heat_overlay(photo, heat, strength=0)
    assert np.abs(weaker - 0.75 * photo).max() <= 0.5


def pose(points: dict[str, tuple[float, float]], visibility=1.0) -> np.ndarray:
    keypoints = np.full((33, 4), np.nan, np.float32)
    for name, (x, y) in points.items():
        keypoints[LANDMARKS.index(name)] = (x, y, visibility, 1)
    return keypoints


@settings(max_examples=60, deadline=None, derandomize=True)
@given(size=st.tuples(st.integers(20, 90), st.integers(20, 90)), data=st.data())
def test_skeleton_marks_the_pixel_of_a_joint(size, data):
    height, width = size
    row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    photo = np.full((*size, 3), 90, np.uint8)
    keypoints = pose({"nose": ((column + 0.5) / width, (row + 0.5) / height)})
    picture = draw_skeleton(photo, keypoints)
    assert picture[row, column].tolist() == [255, 255, 255]
    rows, columns = np.nonzero((picture != photo).any(axis=2))
    assert np.abs(rows - row).max() <= 3
    assert np.abs(columns - column).max() <= 3
    assert (photo == 90).all()


def test_skeleton_joins_joints_in_the_colour_of_their_side():
    photo = np.zeros((601, 601, 3), np.uint8)
    at = {"left_hip": (0.75, 0.25), "left_knee": (0.75, 0.75)}
    at |= {"right_hip": (0.25, 0.25), "right_knee": (0.25, 0.75)}
    picture = draw_skeleton(photo, pose(at))
    assert picture[300, 450].tolist() == [255, 128, 0]  # the person's left: orange
    assert picture[300, 150].tolist() == [0, 170, 255]
    assert picture[150, 300].tolist() == [255, 255, 255]  # across the hips
    assert not picture[450, 300].any()  # no line from knee to knee


def test_skeleton_leaves_out_what_is_not_seen():
    photo = np.full((40, 30, 3), 90, np.uint8)
    for keypoints in (
        np.full((33, 4), np.nan, np.float32),
        pose({"left_hip": (0.5, 0.5), "left_knee": (0.5, 0.9)}, visibility=0.49),
        pose({"nose": (5.0, -3.0)}),  # far outside
    ):
        np.testing.assert_array_equal(draw_skeleton(photo, keypoints), photo)
    far = draw_skeleton(photo, pose({"left_hip": (0.5, 0.5), "left_knee": (1e9, 0.5)}))
    assert (far != photo).any()


def test_a_garment_is_drawn_by_its_outline():
    photo = np.zeros((601, 601, 3), np.uint8)
    keypoints = np.full((8, 4), (np.nan, np.nan, 0, 0), np.float32)
    at = {0: (0.25, 0.25), 1: (0.75, 0.25), 6: (0.25, 0.75), 7: (0.75, 0.75)}  # collar, hem
    for index, (x, y) in at.items():
        keypoints[index] = (x, y, 1, 1)
    picture = draw_skeleton(photo, keypoints)
    assert picture[150, 300].tolist() == [255, 255, 255]  # from collar to collar
    assert picture[450, 300].tolist() == [255, 255, 255]  # along the hem
    assert not picture[300].any()  # no waistline, so nothing joins the two
    keypoints[4] = (0.25, 0.5, 1, 1)
    assert draw_skeleton(photo, keypoints)[200, 150].tolist() == [255, 128, 0]
    # Nothing at the corner, where a landmark that nobody knows would be if it were 0.
    assert not picture[:100, :100].any()


def test_keypoints_of_no_set_are_not_drawn():
    with pytest.raises(VsamError) as refused:
        draw_skeleton(np.zeros((9, 9, 3), np.uint8), np.zeros((17, 4), np.float32))
    assert str(refused.value) == (
        "Expected `keypoints` to be of shape (33, 4) (body) or (8, 4) (garment), but got (17, 4)."
    )


def test_a_row_for_a_garment():
    options = RenderOptions(landmarks="garment")
    keypoints = np.random.default_rng(0).uniform(0.2, 0.8, (8, 4)).astype(np.float32)
    keypoints[:, 2:] = 1
    maps = render_heatmaps(keypoints, options)
    record = Record("x", Status.OK, maps, options.channel_names, keypoints, (60, 80), bytes(32))
    row = record_row(np.full((80, 60, 3), 90, np.uint8), record, tile=(60, 80))
    assert row.shape == (100, 60 * 6, 3)  # outline, four parts, all
    assert len({tile.tobytes() for tile in np.split(row, 6, axis=1)}) == 6


@settings(max_examples=60, deadline=None, derandomize=True)
@given(size=sizes, tile=st.tuples(st.integers(1, 60), st.integers(1, 60)))
def test_a_tile_keeps_a_photos_proportions(size, tile):
    height, width = size
    picture = fit_tile(np.zeros((*size, 3), np.uint8), *tile)
    assert picture.shape == (tile[1], tile[0], 3)
    rows, columns = np.nonzero((picture == 0).all(axis=2))
    seen_height, seen_width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert len(rows) == seen_height * seen_width  # a full rectangle
    scale = min(tile[0] / width, tile[1] / height)
    assert abs(seen_height - max(1, height * scale)) <= 0.5 + 1e-9
    assert abs(seen_width - max(1, width * scale)) <= 0.5 + 1e-9
    above, left = rows.min(), columns.min()
    assert abs(above - (tile[1] - seen_height - above)) <= 1
    assert abs(left - (tile[0] - seen_width - left)) <= 1


@pytest.mark.parametrize("text", ["", "a.jpg", "été 日本 👗\n" * 30, "\udce9.jpg"])
def test_captions_hold_any_text(text):
    strip = caption(150, text)
    assert strip.shape == (20, 150, 3)
    assert (strip == 255).all() == (text == "")
    assert (strip[:, -2:] == 255).all()  # cut, not run over


def test_a_row_for_parts_and_for_joints(mannequins, shards):
    record = Shards(shards)["00000.jpg"]
    photo = np.asarray(Image.open(mannequins / "photos" / "00000.jpg"))
    row = record_row(photo, record, tile=(60, 80))
    assert row.shape == (100, 60 * 9, 3)  # skeleton, seven parts, all
    tiles = np.split(row, 9, axis=1)
    assert len({tile.tobytes() for tile in tiles}) == 9


def test_pictures_are_written_whole_or_refused(tmp_path, mannequins, shards):
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    write_picture(tmp_path / "a.PNG", picture)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.PNG")), picture)
    with pytest.raises(VsamError, match=r"a\.bmp` to end in \.png, \.jpg or \.webp\.$"):
        write_picture(tmp_path / "a.bmp", picture)
    for name, height in (("a.webp", 16_400), ("a.jpg", 66_000)):
        with pytest.raises(VsamError) as refused:
            write_picture(tmp_path / name, np.zeros((height, 2, 3), np.uint8))
        assert str(refused.value) == (
            f"Could not write {tmp_path}/{name}: 2 x {height} pixels are too many for this format. "
            "Show fewer photos, or write a .png."
        )
    assert [path.name for path in tmp_path.iterdir()] == ["a.PNG"]


class TestAsExtracted:
    """The picture follows the options that the shards record."""

    def view(self, folder, photo, record, **changes) -> np.ndarray:
        """Draw one record of shards with other options; give the row's first tile."""
        sha256 = hashlib.sha256(photo.read_bytes()).digest()
        record = replace(record, id=photo.name, sha256=sha256)
        write(folder / "shards", 0, [record], replace(INFO, **changes))
        listed = list_photos([photo])
        view_records(Shards(folder / "shards"), [photo.name], listed, folder / "out.png")
        return np.asarray(Image.open(folder / "out.png"))[20:, :190]

    def test_joints_are_left_out_as_there(self, tmp_path):
        photo = tmp_path / "a.png"
        Image.new("RGB", (190, 250), (90, 90, 90)).save(photo)
        keypoints = pose({"left_hip": (0.5, 0.25), "left_knee": (0.5, 0.75)}, visibility=0.4)
        keypoints[np.isnan(keypoints[:, 0]), 2:] = 0
        record = make_record("a.png", keypoints=keypoints)
        for least, shown in ((0.3, True), (0.5, False)):
            drawn = self.view(tmp_path, photo, record, min_visibility=least)
            assert (drawn != 90).any() == shown

    def test_photos_are_as_large_as_there(self, tmp_path):
        photo = tmp_path / "a.png"
        Image.new("RGB", (19, 25), (90, 90, 90)).save(photo)
        record = make_record("a.png", status=Status.NO_POSE)
        assert (self.view(tmp_path, photo, record, max_pixels=19 * 25) == 90).all()
        with pytest.raises(VsamError, match=r"more than the limit of 474 \(--max-pixels\)"):
            self.view(tmp_path, photo, record, max_pixels=19 * 25 - 1)


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"\xff/a.png", b"plain\\xe9.png"])
def test_photos_whose_names_are_no_text_are_found_by_their_ids(tmp_path, name):
    photo = tmp_path / "photos" / os.fsdecode(name)
    try:
        photo.parent.mkdir(parents=True)
        Image.new("RGB", (19, 25), (90, 90, 90)).save(photo)
    except OSError:
        pytest.skip("this file system allows UTF-8 names only")
    sha256 = hashlib.sha256(photo.read_bytes()).digest()
    id_ = name.decode("utf-8", "backslashreplace")
    write(tmp_path / "shards", 0, [make_record(id_, status=Status.NO_POSE, sha256=sha256)])
    shards, out = Shards(tmp_path / "shards"), tmp_path / "out.png"
    view_records(shards, [id_], list_photos([tmp_path / "photos"]), out)
    assert (np.asarray(Image.open(out))[20:, :190] == 90).all()
    photo.unlink()
    Image.new("RGB", (19, 25)).save(tmp_path / "photos" / "other.png")
    with pytest.raises(VsamError, match=r"the first there is 'other\.png'\. Check --photos and "):
        view_records(shards, [id_], list_photos([tmp_path / "photos"]), out)


def test_a_photo_that_changed_is_not_shown_with_old_maps(tmp_path, mannequins, shards):
    (tmp_path / "00000.jpg").write_bytes((mannequins / "photos" / "00001.jpg").read_bytes())
    with pytest.raises(VsamError, match=r"is not the photo that was extracted under this id"):
        view_records(Shards(shards), ["00000.jpg"], list_photos([tmp_path]), tmp_path / "out.png")


def test_nothing_to_show_is_told(tmp_path, mannequins, shards):
    found, empty = Shards(shards), tmp_path / "empty"
    out = tmp_path / "out.png"
    with pytest.raises(VsamError, match="Expected the id of at least one photo"):
        view_records(found, [], list_photos([mannequins / "photos"]), out)
    empty.mkdir()
    with pytest.raises(VsamError, match=r"among the photos, but it is not; there is none\."):
        view_records(found, ["00000.jpg"], list_photos([empty], allow_empty=True), out)
    assert not out.exists()
