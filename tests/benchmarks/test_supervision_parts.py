"""What `supervision.py` makes its trainings of: maps, blocks of a backbone, drawn photos."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from supervision_backbone import (
    KEPT,
    LaterBlocks,
    cache_blocks,
    load_network,
    normalised_weights,
    preprocessing,
)
from supervision_maps import make_maps
from supervision_models import build, kept_blocks, pose_distributions, run_given
from supervision_plan import (
    AS_IN_LIBRARY,
    BLOCK_5,
    BLOCKS_4_AND_5,
    FROZEN,
    GIVEN,
    REGIONS,
    SHARED_MAXIMUM,
    SHARED_MEAN,
    Budget,
    Part,
)
from supervision_training import drawn_rows

from vsam.modeling.backbones.vgg import VggBackbone
from vsam.modeling.plan import vgg16_plan
from vsam_datasets.tables import LabelRow, read_labels
from vsam_heatmaps.errors import VsamError
from vsam_heatmaps.images import read_photo
from vsam_heatmaps.rendering import render_heatmaps
from vsam_heatmaps.shards import Shards, Status

TINY = Part("t", "", "mannequins", "scratch", Budget(epochs=1, lr=1e-3, image_size=32, width=0.05))


def rows_of(folder):
    return read_labels(folder / "labels.csv").rows


class TestMaps:
    def test_another_sigma_renders_the_same_joints(self, shards, tmp_path):
        clean, wide = Shards(shards), Shards(make_maps(shards, "sigma-0.1", tmp_path / "out"))
        assert wide.ids == clean.ids
        assert wide.info == replace(clean.info, sigma=0.1)
        for record in clean:
            options = replace(clean.info.render_options, sigma=0.1)
            expected = render_heatmaps(record.keypoints, options)
            np.testing.assert_array_equal(wide[record.id].heatmaps, expected)

    def test_jitter_moves_each_joint_on_its_own(self, shards, tmp_path):
        moved = moves(shards, make_maps(shards, "jitter-0.05", tmp_path / "out"))
        assert moved.std() == pytest.approx(0.05, rel=0.1)  # of about 1,500 numbers
        assert np.abs(moved.mean(axis=1)).max() < 0.05

    def test_a_shift_moves_all_joints_of_a_photo_alike(self, shards, tmp_path):
        moved = moves(shards, make_maps(shards, "shift-0.1", tmp_path / "out"))
        np.testing.assert_allclose(np.linalg.norm(moved, axis=2), 0.1, atol=1e-5)
        assert np.ptp(moved, axis=1).max() < 1e-5
        assert np.ptp(moved[:, 0], axis=0).min() > 0.05  # each photo its own way

    def test_photos_swap_their_poses(self, shards, tmp_path):
        clean, other = Shards(shards), Shards(make_maps(shards, "others", tmp_path / "out"))
        posed = [id_ for id_ in clean.ids if clean.status(id_) is Status.OK]
        assert len(posed) > 2
        for id_ in posed:
            assert (other[id_].heatmaps != clean[id_].heatmaps).any()
        before, after = (
            sorted(shard[id_].heatmaps.tobytes() for id_ in posed) for shard in (clean, other)
        )
        assert before == after  # none is lost

    def test_maps_that_are_there_stay(self, shards, tmp_path):
        make_maps(shards, "jitter-0.05", tmp_path / "out")
        before = [path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()]
        make_maps(shards, "jitter-0.05", tmp_path / "out")
        assert [path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()] == before


def moves(before, after):
    """How far the joints of each photo with a pose were moved, (N, 33, 2)."""
    clean, other = Shards(before), Shards(after)
    found = [
        other[record.id].keypoints[:, :2] - record.keypoints[:, :2]
        for record in clean
        if record.status is Status.OK
    ]
    return np.array(found)


class TestGivenMaps:
    def test_maps_sum_to_one_or_are_empty(self):
        heatmap = torch.rand(2, 3, 56, 56)
        heatmap[1, 2] = 0
        maps = pose_distributions(heatmap, 7)
        assert maps.shape == (2, 3, 7, 7)
        expected = torch.ones(2, 3)
        expected[1, 2] = 0
        torch.testing.assert_close(maps.sum(dim=(2, 3)), expected)
        assert (maps >= 0).all()

    def test_features_are_pooled_with_them(self):
        model = build(TINY, GIVEN, None, categories=3, attributes=2).eval()
        images = torch.rand(2, 3, 32, 32)
        heatmap = torch.zeros(2, 7, 2, 2)
        heatmap[:, :, 1, 0] = 0.7  # all regions look at one pixel
        output = run_given(model, images, heatmap)
        features = model.norm(model.features(images, lambda stages: stages[-1]))
        seen = features[:, :, 1, 0].repeat(1, 7)
        torch.testing.assert_close(output.category_logits, model.category_head.linear(seen))

    def test_its_own_maps_are_used_otherwise(self):
        torch.manual_seed(0)
        model = build(TINY, REGIONS, None, categories=3, attributes=2).eval()
        images = torch.rand(1, 3, 32, 32)
        own = model(images)
        given = run_given(model, images, own.attention)
        torch.testing.assert_close(own.attribute_logits, given.attribute_logits)


class TestDesigns:
    PART = replace(TINY, backbone=FROZEN, budget=replace(TINY.budget, width=1.0, image_size=64))

    @pytest.mark.parametrize(
        ("design", "side"),
        [
            (AS_IN_LIBRARY, 4),
            (BLOCK_5, 2),
            (BLOCKS_4_AND_5, 4),
            (SHARED_MEAN, 4),
            (SHARED_MAXIMUM, 4),
        ],
    )
    def test_the_maps_lie_on_the_blocks_that_are_named(self, network, design, side):
        part = replace(self.PART, design=design)
        model = build(part, REGIONS, network, categories=3, attributes=2)
        outputs = {4: torch.rand(2, 512, 4, 4), 5: torch.rand(2, 512, 2, 2)}
        output = model([outputs[block] for block in kept_blocks(part, REGIONS)])
        assert output.attention.shape == (2, 7, side, side)
        assert output.attribute_logits.shape == (2, 2)
        sum(each.square().mean() for each in output[:3]).backward()
        trained = {name for name, p in model.named_parameters() if p.grad is not None}
        assert {name for name, p in model.named_parameters() if p.requires_grad} == trained

    @pytest.mark.parametrize(
        ("design", "together"), [(SHARED_MEAN, torch.mean), (SHARED_MAXIMUM, torch.amax)]
    )
    def test_shared_heads_read_each_region_alike(self, network, design, together):
        part = replace(self.PART, design=design)
        head = build(part, REGIONS, network, categories=3, attributes=2).eval().category_head
        vectors = torch.rand(4, 7, 512)
        each = [F.linear(vectors[:, r], head.linear.weight, head.linear.bias) for r in range(7)]
        torch.testing.assert_close(head(vectors), together(torch.stack(each), dim=0))


class TestDrawnRows:
    ROWS = tuple(LabelRow(f"{n}.jpg", "train", "", ()) for n in range(50))

    def test_the_seed_draws(self):
        first, again, other = (drawn_rows(self.ROWS, 10, seed) for seed in (1, 1, 2))
        assert first == again != other
        assert len(set(first)) == 10

    def test_all_are_taken_without_a_number(self):
        assert drawn_rows(self.ROWS, None, 1) == list(self.ROWS)


def means_after_each_relu(network, photos, rows):
    """Run photos through a network, layer by layer; give its channels' means."""
    prepare = preprocessing(32)
    x = torch.stack([prepare(read_photo(photos / row.image)) for row in rows])
    with torch.inference_mode():
        for layer in network.children():
            x = layer(x)
            if isinstance(layer, torch.nn.ReLU):
                yield x.mean(dim=(0, 2, 3))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A VGG-16 in the layout of an edge detector's file, with biases, and with one dead channel."""
    import h5py

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "vgg.h5"
    inputs = 3
    with h5py.File(path, "w") as file:
        for block, channels in enumerate(vgg16_plan(1.0).blocks, 1):
            for layer, outputs in enumerate(channels):
                suffix = f"_{layer}" if layer else ""
                group = file.create_group(f"block{block}/layers/conv2d{suffix}/vars")
                kernel = torch.randn(3, 3, inputs, outputs) * (2 / (9 * inputs)) ** 0.5
                kernel[..., 5] = 0
                group["0"], group["1"] = kernel.numpy(), torch.zeros(outputs).numpy()
                inputs = outputs
    return path


@pytest.fixture(scope="module")
def network(source, mannequins, tmp_path_factory):
    """The same, as networks take it."""
    out = tmp_path_factory.mktemp("normalised") / "n.h5"
    return normalised_weights(source, mannequins / "photos", rows_of(mannequins)[:4], 32, out)


class TestBackbone:
    def test_channels_are_one_on_average_and_the_function_stays(self, source, mannequins, tmp_path):
        import h5py

        rows = rows_of(mannequins)[:4]
        photos = mannequins / "photos"
        network = load_network(normalised_weights(source, photos, rows, 32, tmp_path / "n.h5"))
        plain = VggBackbone(vgg16_plan(1.0), batch_norm=False).eval()
        convolutions = [m for m in plain.children() if isinstance(m, torch.nn.Conv2d)]
        with h5py.File(source) as file:
            position = 0
            for block, channels in enumerate(vgg16_plan(1.0).blocks, 1):
                for layer in range(len(channels)):
                    suffix = f"_{layer}" if layer else ""
                    kernel = file[f"block{block}/layers/conv2d{suffix}/vars/0"][:]
                    weight = torch.from_numpy(kernel).permute(3, 2, 0, 1)
                    convolutions[position].weight.data = weight
                    convolutions[position].bias.data.zero_()
                    position += 1
        images = torch.rand(2, 3, 32, 32) * 255
        with torch.inference_mode():
            before, after = (net(images, lambda stages: stages[-1]) for net in (plain, network))
        assert after.isfinite().all()
        # Each channel is the same up to its own factor.
        ratio = after.sum(dim=(0, 2, 3)) / before.sum(dim=(0, 2, 3)).clamp(min=1e-9)
        torch.testing.assert_close(
            after, before * ratio[:, None, None], rtol=1e-3, atol=1e-3 * float(after.max())
        )
        assert float(after[:, 5].abs().max()) == 0  # the dead one
        for mean in means_after_each_relu(network, photos, rows):
            spoken = torch.cat([mean[:5], mean[6:]])  # all but the dead one
            # Rare channels are brought up only so far, so that some stay below 1.
            assert float(spoken.max()) == pytest.approx(1, abs=1e-3)
            assert float(spoken.median()) == pytest.approx(1, abs=1e-3)

    def test_a_file_without_them_is_refused(self, mannequins, tmp_path):
        import h5py

        with h5py.File(tmp_path / "other.h5", "w") as file:
            file["something"] = [1.0]
        with pytest.raises(VsamError, match="hold VGG-16's convolutions"):
            normalised_weights(
                tmp_path / "other.h5",
                mannequins / "photos",
                rows_of(mannequins)[:1],
                32,
                tmp_path / "n.h5",
            )

    @pytest.mark.parametrize("done", [3, 4])
    def test_later_blocks_go_on_where_others_ended(self, done):
        torch.manual_seed(0)
        whole = VggBackbone(vgg16_plan(0.05), batch_norm=False).eval()
        stages = []

        def attend(blocks):
            stages.extend(blocks)
            return F.relu(blocks[-1] - 0.01)  # what comes back must go on

        images = torch.rand(2, 3, 64, 64)
        with torch.inference_mode():
            expected = whole(images, attend)
            kept, seen = stages[: done - 1], list(stages)
            stages.clear()
            found = LaterBlocks(whole, done)(kept, attend)
        torch.testing.assert_close(found, expected)
        for ours, theirs in zip(stages, seen, strict=True):
            torch.testing.assert_close(ours, theirs)

    def test_after_the_last_block_nothing_is_left_to_do(self):
        whole = VggBackbone(vgg16_plan(0.05), batch_norm=False)
        features = torch.rand(2, whole.out_channels, 2, 2)
        found = LaterBlocks(whole, 5)([features], lambda stages: stages[-1])
        torch.testing.assert_close(found, features)

    def test_what_is_kept_is_what_the_network_computes(self, source, mannequins, tmp_path):
        rows, photos = rows_of(mannequins)[:3], mannequins / "photos"
        weights = normalised_weights(source, photos, rows, 32, tmp_path / "n.h5")
        folder = cache_blocks(weights, photos, rows, 32, tmp_path / "kept")
        network = load_network(weights)
        inputs = torch.stack([preprocessing(32)(read_photo(photos / row.image)) for row in rows])
        for view, images in enumerate((inputs, inputs.flip(-1))):
            stages = []
            with torch.inference_mode():
                last = network(images, lambda blocks, kept=stages: kept.extend(blocks) or kept[-1])
            for block, expected in zip(KEPT, [*stages, last], strict=True):
                found = torch.from_numpy(np.load(folder / f"b{block}.npy")[:, view]).float()
                # They are computed in bf16, which has 8 bits.
                error = (found - expected).norm() / expected.norm()
                assert error < 0.03
