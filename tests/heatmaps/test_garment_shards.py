"""Shards of garment landmarks, and files from before there were any."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from made_shards import INFO, SIDE, make_record, records, same

from vsam_heatmaps import (
    LANDMARKS,
    Record,
    RenderOptions,
    Shards,
    Status,
    VsamError,
    render_heatmaps,
)
from vsam_heatmaps.shards import no_keypoints, write_shard


@pytest.fixture
def folder(tmp_path):
    write_shard(tmp_path / "s" / "shard-000000.h5", INFO, records())
    return tmp_path / "s"


GARMENT_INFO = replace(
    INFO,
    channels=("collar", "sleeves", "waistline", "hem"),
    backend="deepfashion-landmarks",
    landmarks="garment",
)


def garment_records() -> list[Record]:
    keypoints = np.random.default_rng(3).uniform(0.1, 1, (8, 4)).astype(np.float32)
    keypoints[:, 2:] = 1
    keypoints[4:6] = (np.nan, np.nan, 0, 0)  # an upper garment: its waistline is not known
    maps = render_heatmaps(keypoints, GARMENT_INFO.render_options)
    change = {"heatmaps": maps, "channels": GARMENT_INFO.channels, "keypoints": keypoints}
    nobody = change | {"heatmaps": 0 * maps, "keypoints": no_keypoints("garment")}
    return [
        make_record("a.jpg", 1, people=1, **change),
        make_record("b.jpg", 2, status=Status.NO_POSE, **nobody),
    ]


class TestGarments:
    def test_what_is_written_is_read(self, tmp_path):
        write_shard(tmp_path / "shard-000000.h5", GARMENT_INFO, garment_records())
        shards = Shards(tmp_path)
        assert shards.info == GARMENT_INFO
        assert shards.info.render_options == RenderOptions(
            SIDE, 0.08, "parts", 0.25, landmarks="garment"
        )
        for record in garment_records():
            assert record.keypoints.shape == (8, 4)
            assert same(shards[record.id], record)
        record = shards["a.jpg"]
        assert record.region("hem").any()
        np.testing.assert_array_equal(record.region("garment"), record.heatmaps.max(axis=0))
        np.testing.assert_array_equal(shards.regions("a.jpg", ["sleeves"])[0], record.heatmaps[1])
        shards.close()
        with h5py.File(tmp_path / "shard-000000.h5") as file:
            assert file.attrs["landmarks"].decode() == "garment"
            assert file.attrs["format_version"] == 1
            assert file["keypoints"].shape == (2, 8, 4)

    def test_channels_of_joints(self, tmp_path):
        info = replace(
            GARMENT_INFO,
            channels=tuple(
                f"{side}_{stem}"
                for stem in ("collar", "sleeve", "waistline", "hem")
                for side in ("left", "right")
            ),
        )
        assert info.render_options.channels == "joints"
        assert replace(INFO, channels=LANDMARKS).render_options.channels == "joints"

    def test_are_not_mixed_with_bodies(self, folder):
        write_shard(folder / "shard-000001.h5", GARMENT_INFO, garment_records())
        with pytest.raises(VsamError, match=r"different options: .*landmarks 'body' and 'garment'"):
            Shards(folder)

    def test_keypoints_of_the_other_set(self, tmp_path):
        (garment, _), path = garment_records(), tmp_path / "shard-000000.h5"
        wrong = replace(garment, keypoints=np.zeros((33, 4), np.float32))
        with pytest.raises(VsamError) as refused:
            write_shard(path, GARMENT_INFO, [garment, wrong])
        assert str(refused.value) == (
            "Expected `keypoints of a.jpg` to be of shape (8, 4), but got (33, 4)."
        )
        with pytest.raises(VsamError, match=r"keypoints of a\.jpg` to be of shape \(33, 4\), but"):
            write_shard(path, INFO, [replace(records()[0], keypoints=garment.keypoints)])
        assert not list(tmp_path.iterdir())

    def test_a_file_whose_keypoints_are_others_than_it_says(self, folder):
        path = folder / "shard-000000.h5"
        with h5py.File(path, "r+") as file:
            file.attrs["landmarks"] = "garment"
        with pytest.raises(VsamError) as refused:
            Shards(folder)
        assert str(refused.value) == (
            f"Expected `keypoints in {path}` to be of shape (4, 8, 4), of garment landmarks, but "
            "got (4, 33, 4)."
        )

    def test_a_set_of_later(self, folder):
        path = folder / "shard-000000.h5"
        with h5py.File(path, "r+") as file:
            file.attrs["landmarks"] = "face"
        with pytest.raises(VsamError) as refused:
            Shards(folder)
        assert str(refused.value) == (
            f"Expected `landmarks of {path}` to be one of body, garment, which this version of "
            "vsam reads, but got 'face'. Use the version of vsam that wrote it."
        )


def test_files_that_do_not_say_which_landmarks_are_of_bodies(folder):
    """Those of before there was a second set."""
    with h5py.File(folder / "shard-000000.h5", "r+") as file:
        assert file.attrs["landmarks"].decode() == "body"
        del file.attrs["landmarks"]
    shards = Shards(folder)
    assert shards.info == INFO
    assert INFO.landmarks == "body"
    assert all(same(shards[record.id], record) for record in records())
