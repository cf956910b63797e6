"""The region network: its weights' file, its numbers by hand, and itself in plain numpy."""

import hashlib
import io
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsam_datasets.mannequins import draw_mannequin
from vsam_heatmaps import LANDMARKS, VsamError
from vsam_heatmaps.blazepose import region_network
from vsam_heatmaps.blazepose.detection import letterbox
from vsam_heatmaps.blazepose.region_network import (
    COARSE_JOINTS,
    FEATURES,
    VALUES,
    RegionWeights,
    decode_proposal,
    load_region_weights,
    region_weights_sha256,
)
from vsam_heatmaps.blazepose.regions import Region

SHIPPED = Path(region_network.__file__).parent / "data" / "region_network.npz"
NAMES = {
    *("conv1", "conv1_bias", "conv2", "conv2_bias", "dense1", "dense1_bias"),
    *("dense2", "dense2_bias", "person", "visibility"),
}


def random_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Make the arrays of a small region network whose values stay near 1."""
    rng = np.random.default_rng(seed)

    def array(*shape: int) -> np.ndarray:
        spread = 1 / math.sqrt(math.prod(shape[1:]))
        return (rng.normal(0, 1, shape) * spread).astype(np.float16)

    return {
        "conv1": array(6, FEATURES[0], 1, 1),
        "conv1_bias": array(6),
        "conv2": array(5, 6, 3, 3),
        "conv2_bias": array(5),
        "dense1": array(8, 5 * 7 * 7),
        "dense1_bias": array(8),
        "dense2": array(VALUES, 8),
        "dense2_bias": array(VALUES),
        "person": np.array([1.5, -0.5], np.float16),
        "visibility": np.array([0.2, 0.2, -1.5, -1, -8], np.float16),
    }


def as_npz(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


class TestTheFile:
    def test_what_was_written_is_loaded(self, tmp_path):
        arrays, path = random_arrays(), tmp_path / "w.npz"
        path.write_bytes(as_npz(arrays))
        weights = load_region_weights(path)
        loaded = {"person": weights.person, "visibility": weights.visibility}
        for kind, layers in (("conv", weights.convolutions), ("dense", weights.dense)):
            assert len(layers) == 2
            for number, (kernel, bias) in enumerate(layers, 1):
                loaded |= {f"{kind}{number}": kernel, f"{kind}{number}_bias": bias}
        assert loaded.keys() == NAMES
        for name, array in arrays.items():
            np.testing.assert_array_equal(loaded[name], array)

    def refusal(self, path: Path) -> str:
        with pytest.raises(VsamError) as refused:
            load_region_weights(path)
        said = str(refused.value)
        assert len(said.splitlines()) == 1
        assert said.startswith(f"Could not read the region network's weights in {path}: ")
        assert said.endswith(". Install vsam again, or choose --crops off.")
        return said

    def test_missing(self, tmp_path):
        assert "No such file" in self.refusal(tmp_path / "none.npz")
        self.refusal(tmp_path)  # a folder

    @pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.99])
    def test_truncated(self, tmp_path, share):
        data, path = as_npz(random_arrays()), tmp_path / "w.npz"
        path.write_bytes(data[: int(share * len(data))])
        self.refusal(path)

    def test_damaged_inside(self, tmp_path):
        data, path = bytearray(as_npz(random_arrays())), tmp_path / "w.npz"
        data[5000] ^= 1  # in the first kernel
        path.write_bytes(data)
        self.refusal(path)

    def test_no_arrays(self, tmp_path):
        path = tmp_path / "w.npz"
        path.write_bytes(b"weights, but none of ours")
        self.refusal(path)
        with zipfile.ZipFile(path, "w") as file:
            for name in NAMES:
                file.writestr(f"{name}.npy", b"no array")
        self.refusal(path)
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
        self.refusal(path)

    def test_pickled_objects_are_not_loaded(self, tmp_path):
        path = tmp_path / "w.npz"
        arrays = random_arrays() | {"conv1": np.array([{"a": 1}], object)}
        path.write_bytes(as_npz(arrays))
        self.refusal(path)

    @pytest.mark.parametrize("name", sorted(NAMES))
    def test_lacking_an_array(self, tmp_path, name):
        arrays, path = random_arrays(), tmp_path / "w.npz"
        del arrays[name]
        path.write_bytes(as_npz(arrays))
        assert name in self.refusal(path)

    @pytest.mark.parametrize(
        ("name", "array"),
        [
            ("conv1", np.zeros((6, 10, 1, 1), np.float16)),  # of another layer
            ("conv1_bias", np.zeros(7, np.float16)),
            ("conv2", np.zeros((3, 3), np.float16)),
            ("dense1", np.zeros((8, 12), np.float16)),
            ("dense2", np.zeros((VALUES - 1, 8), np.float16)),
            ("dense2", np.array("a word")),
            ("person", np.zeros(1, np.float16)),
            ("visibility", np.zeros(4, np.float16)),
        ],
        ids=lambda value: value if isinstance(value, str) else "x".join(map(str, value.shape)),
    )
    def test_arrays_of_another_network(self, tmp_path, name, array):
        """Found when the file is read, not when the first photo is."""
        path = tmp_path / "w.npz"
        path.write_bytes(as_npz(random_arrays() | {name: array}))
        self.refusal(path)


class TestTheShippedFile:
    def test_is_small_and_whole(self):
        assert SHIPPED.stat().st_size < 2_000_000
        with np.load(SHIPPED, allow_pickle=False) as stored:
            assert set(stored) == NAMES
            for name in NAMES:
                assert stored[name].dtype == np.float16
                assert np.isfinite(stored[name]).all()

    def test_is_calibrated(self):
        """Training writes a first file without; only a later one is to be shipped."""
        weights = load_region_weights()
        assert weights.person[0] > 0  # a higher logit is a likelier person
        assert weights.visibility.any()
        # What is more visible and present is likelier right; what deviates more is not.
        assert (weights.visibility[:2] > 0).all()
        assert (weights.visibility[2:4] < 0).all()

    def test_its_hash(self):
        assert region_weights_sha256() == hashlib.sha256(SHIPPED.read_bytes()).hexdigest()

    def test_a_lost_one_is_told_in_one_line(self, monkeypatch):
        """By both that read it: a run asks for its hash first."""
        monkeypatch.setattr(region_network, "_FILE", "lost.npz")
        for read in (load_region_weights, region_weights_sha256):
            with pytest.raises(VsamError) as refused:
                read()
            assert len(str(refused.value).splitlines()) == 1
            assert "lost.npz" in str(refused.value)
            assert str(refused.value).endswith("Install vsam again, or choose --crops off.")


def weights_with(person: tuple[float, float]) -> RegionWeights:
    return RegionWeights([], [], np.array(person), np.zeros(5))


class TestDecoding:
    frame = Region(200, 150, 400)  # a photo of 400 x 300

    def values(self, *first: float) -> np.ndarray:
        values = np.zeros(VALUES, np.float32)
        values[: len(first)] = first
        return values

    def test_the_values_are_those_of_the_joints(self):
        assert VALUES == 30
        assert len(COARSE_JOINTS) == 12
        assert set(COARSE_JOINTS) <= set(LANDMARKS)

    def test_the_frame_itself(self):
        values = self.values(0.5, 0.5, 0, 0, 1, 0)
        proposal = decode_proposal(values, self.frame, weights_with((1, 0)))
        assert proposal.region == Region(200, 150, 400, 0)
        assert proposal.person == pytest.approx(0.5)
        np.testing.assert_allclose(proposal.joints, [[200, 150]] * 12)

    def test_a_region_by_hand(self):
        angle = 0.6
        values = self.values(
            0.25, 0.75, math.log(0.5), 3 * math.sin(angle), 3 * math.cos(angle), 2.0
        )
        values[6:10] = 0.1, -0.2, 0.0, 0.5
        proposal = decode_proposal(values, self.frame, weights_with((0.5, -0.25)))
        region = proposal.region
        # 0 of the frame is x = 0, y = -50.
        assert (region.x, region.y) == pytest.approx((100, 250), abs=1e-4)
        assert region.side == pytest.approx(200, rel=1e-6)
        assert region.angle == pytest.approx(angle, abs=1e-6)  # whatever the vector's length
        assert proposal.person == pytest.approx(1 / (1 + math.exp(-0.75)), abs=1e-6)
        turned = [
            complex(x, y) * 200 * complex(math.cos(angle), math.sin(angle)) + complex(100, 250)
            for x, y in ((0.1, -0.2), (0.0, 0.5), (0.0, 0.0))
        ]
        expected = [(point.real, point.imag) for point in turned]
        np.testing.assert_allclose(proposal.joints[:3], expected, rtol=0, atol=1e-3)
        assert proposal.joints.shape == (12, 2)
        assert proposal.joints.dtype == np.float32

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(
        region=st.builds(
            Region,
            x=st.floats(-100, 500),
            y=st.floats(-100, 400),
            side=st.floats(20, 3000),
            angle=st.floats(-3.1, 3.1),
        ),
        seed=st.integers(0, 10_000),
    )
    def test_it_reads_what_training_writes(self, region, seed):
        """The values of a known region and known joints, as the docstring has them."""
        joints = np.random.default_rng(seed).uniform(-50, 450, (12, 2))
        values = self.values(
            region.x / 400,
            (region.y + 50) / 400,
            math.log(region.side / 400),
            math.sin(region.angle),
            math.cos(region.angle),
            1.0,
        )
        values[6:] = (region.from_photo(joints) - 0.5).ravel()
        proposal = decode_proposal(values, self.frame, weights_with((1, 0)))
        found = (proposal.region.x, proposal.region.y)
        assert found == pytest.approx((region.x, region.y), abs=1e-3)
        assert proposal.region.side == pytest.approx(region.side, rel=1e-5)
        assert math.remainder(proposal.region.angle - region.angle, math.tau) == pytest.approx(
            0, abs=1e-5
        )
        # float32 shares of a side, and coordinates as large as a region that may lie beyond.
        largest = float(np.abs(region.from_photo(joints) - 0.5).max()) * region.side + 500
        np.testing.assert_allclose(proposal.joints, joints, rtol=0, atol=4e-6 * largest)

    @pytest.mark.parametrize("log_side", [-1e30, -100, 100, 1e30])
    def test_a_region_beyond_all_measure_has_a_side(self, log_side):
        values = self.values(0.5, 0.5, log_side, 0, 1, math.copysign(1e30, log_side))
        proposal = decode_proposal(values, self.frame, weights_with((1, 0)))
        assert 1 < proposal.region.side < 100_000
        assert proposal.person == (log_side > 0)
        assert np.isfinite(proposal.joints).all()


def forward(weights: RegionWeights, features: np.ndarray) -> np.ndarray:
    """The region network in plain numpy: two convolutions and two dense layers, in float64."""
    x = features.astype(np.float64)  # (C, H, W)
    for kernel, bias in weights.convolutions:
        kernel = kernel.astype(np.float64)
        side = kernel.shape[-1]
        margin = side // 2
        padded = np.pad(x, [(0, 0), (margin, margin), (margin, margin)])
        height, width = x.shape[1:]
        total = np.zeros((len(kernel), height, width)) + bias.astype(np.float64)[:, None, None]
        for row in range(side):
            for column in range(side):
                seen = padded[:, row : row + height, column : column + width]
                total += np.tensordot(kernel[:, :, row, column], seen, axes=1)
        x = np.maximum(total, 0)
    x = x.ravel()  # (C, H, W) -> (C · H · W)
    (first, first_bias), (last, last_bias) = weights.dense
    x = np.maximum(first.astype(np.float64) @ x + first_bias, 0)
    return last.astype(np.float64) @ x + last_bias


class TestTheNetwork:
    @pytest.fixture(scope="class")
    def networks(self):
        pytest.importorskip("openvino")
        from vsam_heatmaps import openvino_networks

        return openvino_networks

    @pytest.fixture(scope="class")
    def views(self):
        """Give what the detector sees of four mannequins, of noise and of nothing."""
        photos = [draw_mannequin(index, 3).photo for index in range(4)]
        noise = np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)
        photos += [noise, np.zeros((90, 120, 3), np.uint8)]
        return [
            letterbox(photo.shape[1], photo.shape[0]).cut(photo, 224, repeat_border=False)
            for photo in photos
        ]

    @pytest.mark.parametrize("which", ["shipped", "random"])
    def test_equals_plain_numpy(self, networks, model, views, tmp_path, which):
        path = SHIPPED
        if which == "random":
            path = tmp_path / "w.npz"
            path.write_bytes(as_npz(random_arrays(5)))
        weights = load_region_weights(path)
        layer = networks.DetectorLayer(model, FEATURES)
        joined = networks.OpenVinoNetworks(model, region_weights=weights, precision="f32")
        for view in views:
            features = layer(view)
            assert features.shape == FEATURES
            assert features.any()
            proposal = joined.detect(view).proposal
            assert proposal.shape == (VALUES,)
            np.testing.assert_allclose(proposal, forward(weights, features), rtol=1e-3, atol=1e-3)

    def test_the_detector_says_the_same_with_and_without(self, networks, model, views):
        alone = networks.OpenVinoNetworks(model, precision="f32")
        joined = networks.OpenVinoNetworks(
            model, region_weights=load_region_weights(), precision="f32"
        )
        for view in views:
            a, b = alone.detect(view), joined.detect(view)
            assert a.proposal is None
            np.testing.assert_allclose(a.boxes, b.boxes, rtol=0, atol=1e-3)  # of 224 pixels
            np.testing.assert_allclose(a.logits, b.logits, rtol=0, atol=1e-3)

    def test_a_layer_that_is_not_there(self, networks, model):
        with pytest.raises(VsamError) as refused:
            networks.DetectorLayer(model, (1151, 7, 7))
        assert str(refused.value) == (
            f"Expected `detector in {model.path}` to be the official one, with the layer of shape "
            "(1151, 7, 7) that --crops on needs, but got one without. Choose --crops off."
        )
