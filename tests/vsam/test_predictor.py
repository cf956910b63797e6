"""The predictor: scores equal the model's, whatever the batch; broken photos keep to themselves."""

import gc
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from vsam.calibration import Calibration
from vsam.networks import load_network
from vsam.predictor import Prediction, Predictor
from vsam.run_folder import load_checkpoint, read_run, save_calibration
from vsam_heatmaps.errors import UnreadablePhotoError, VsamError
from vsam_heatmaps.images import read_photo
from vsam_heatmaps.photos import Photo, list_photos


@pytest.fixture(scope="module")
def predictor(tiny_run) -> Predictor:
    return Predictor.from_run(tiny_run, device="cpu")


@pytest.fixture(scope="module")
def listed(tiny_data) -> list[Photo]:
    return list_photos([tiny_data / "photos"])


def scores(prediction: Prediction) -> np.ndarray:
    return np.concatenate([prediction.category_scores, prediction.attribute_scores])


@torch.inference_mode()
def test_predictions_are_the_models_outputs(tiny_run, predictor, listed):
    checkpoint = load_checkpoint(tiny_run)
    assert checkpoint.config.batch_norm
    tagged = list(predictor.predict_files(listed[:5]))
    assert len(tagged) == 5
    for one in tagged:
        # By hand: Pillow resizes, numpy normalises, the model runs on one photo.
        photo = Image.open(one.photo.path).convert("RGB").resize((32, 32), Image.BILINEAR)
        inputs = (np.asarray(photo) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        batch = torch.from_numpy(inputs).permute(2, 0, 1)[None].float()
        output = checkpoint.model(batch)
        # Pillow's and torchvision's pixels differ by a level here and there.
        close = {"atol": 0.02}
        np.testing.assert_allclose(
            one.prediction.category_scores, output.category_logits[0].softmax(0), **close
        )
        np.testing.assert_allclose(
            one.prediction.attribute_scores, 1 / (1 + np.exp(-output.attribute_logits[0])), **close
        )
        np.testing.assert_allclose(one.prediction.attention, output.attention[0], **close)
        exact = checkpoint.model(checkpoint.preprocessing(read_photo(one.photo.path))[None])
        np.testing.assert_allclose(
            one.prediction.category_scores, exact.category_logits[0].softmax(0), atol=1e-5
        )


def test_the_batch_does_not_change_a_photos_scores(predictor, listed):
    alone = {one.photo.id: one for one in predictor.predict_files(listed, batch_size=1)}
    assert len(alone) == 24
    spread = np.ptp([scores(one.prediction) for one in alone.values()], axis=0)
    assert spread.max() > 1e-3, "all photos look the same, so nothing is tested"
    for batch_size, workers in ((5, 1), (24, 3), (100, 2)):
        together = list(
            predictor.predict_files(reversed(listed), batch_size=batch_size, workers=workers)
        )
        assert [one.photo for one in together] == listed[::-1]
        for one in together:
            other = alone[one.photo.id].prediction
            # The order of float32 sums depends on the batch.
            np.testing.assert_allclose(scores(one.prediction), scores(other), atol=1e-5)
            np.testing.assert_allclose(one.prediction.attention, other.attention, atol=1e-5)


def test_unreadable_photos_keep_their_place_and_spoil_no_other(predictor, listed, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    absent = Photo("absent.jpg", tmp_path / "absent.jpg")
    mixed = [listed[0], Photo("broken.jpg", broken), listed[1], absent, listed[2]]
    expected = [scores(one.prediction) for one in predictor.predict_files(listed[:3])]
    for batch_size in (1, 2, 5):
        tagged = list(predictor.predict_files(mixed, batch_size=batch_size))
        assert [one.photo for one in tagged] == mixed
        assert [one.prediction is None for one in tagged] == [False, True, False, True, False]
        assert [bool(one.error) for one in tagged] == [False, True, False, True, False]
        # Each can be drawn on its own photo, which is read again.
        for one in tagged:
            if one.prediction:
                picture = one.prediction.overlay(read_photo(one.photo.path))
                np.testing.assert_array_equal(one.prediction.overlay(), picture)
        found = [scores(one.prediction) for one in tagged if one.prediction]
        np.testing.assert_allclose(found, expected, atol=1e-5)


class Overflowing:
    """A network that says NaN of white photos, as half precision may."""

    def __init__(self, network) -> None:
        self.device, self._network = network.device, network

    def __call__(self, images):
        output = self._network(images)
        white = images.mean(dim=(1, 2, 3)) > 2
        output.attribute_logits[white] = torch.nan
        return output


def test_what_is_not_finite_is_no_prediction_and_its_photo_is_named(tiny_run, tmp_path):
    description, labels = read_run(tiny_run)
    network = Overflowing(load_network(tiny_run, device="cpu"))
    predictor = Predictor(network, description=description, labels=labels)
    black, white = (np.full((20, 20, 3), level, np.uint8) for level in (0, 255))
    assert len(predictor([black, black])) == 2
    said = (
        "Expected the model's scores and maps of {} to be finite, but they hold NaN or infinity. "
        "Give --precision fp32 or bf16, or another model."
    )
    for name, level in {"a": 0, "b": 255, "c": 0, "d": 255}.items():
        Image.new("L", (20, 20), level).save(tmp_path / f"{name}.png")
    for tag, named in {
        lambda: predictor(white): "photo 1 of the batch",
        lambda: predictor.predict([black, white]): "photo 2 of the batch",
        lambda: predictor([black, tmp_path / "b.png"]): f"{tmp_path}/b.png",
        lambda: list(predictor.predict_files(list_photos([tmp_path]))): "b.png, d.png",
    }.items():
        with pytest.raises(VsamError) as refused:
            tag()
        assert str(refused.value) == said.format(named)


def test_only_unreadable_photos_and_no_photos_at_all(predictor, tmp_path):
    tagged = list(predictor.predict_files([Photo("a", tmp_path / "a"), Photo("b", tmp_path / "b")]))
    assert [one.prediction for one in tagged] == [None, None]
    assert list(predictor.predict_files([])) == []
    assert predictor.predict([]) == []


def test_photos_with_too_many_pixels_are_unreadable(predictor, listed):
    (tagged,) = predictor.predict_files(listed[:1], max_pixels=1000)
    assert "--max-pixels" in tagged.error


def test_large_jpegs_can_be_decoded_at_a_reduced_scale(predictor, tmp_path):
    """Four times the model's 32 pixels: 128 of 512 or more, so a quarter."""
    y, x = np.mgrid[:640, :512]
    pixels = np.stack([x % 256, y % 256, (x + y) // 5], axis=2).astype(np.uint8)
    for name in ("large.jpg", "large.png"):
        Image.fromarray(pixels).save(tmp_path / name, quality=95)
    shapes = {}
    for reduced in (False, True):
        for tagged in predictor.predict_files(
            list_photos([tmp_path]), reduced=reduced, also=lambda image: image.shape
        ):
            shapes[tagged.photo.id, reduced] = tagged.extra
    assert shapes["large.jpg", True] == (160, 128, 3)
    assert {shapes.pop(each) for each in shapes.keys() - {("large.jpg", True)}} == {(640, 512, 3)}


def test_also_is_called_with_each_readable_photo(predictor, listed, tmp_path):
    photos = [listed[0], Photo("absent", tmp_path / "absent"), listed[1]]
    tagged = list(predictor.predict_files(photos, also=lambda photo: photo.shape))
    assert [one.extra for one in tagged] == [(48, 40, 3), None, (48, 40, 3)]


def test_photos_of_different_sizes_share_a_batch(predictor):
    rng = np.random.default_rng(0)
    photos = [
        rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((1, 1), (7, 300), (64, 64))
    ]
    together = predictor.predict(photos)
    for photo, prediction in zip(photos, together, strict=True):
        (alone,) = predictor.predict([photo])
        np.testing.assert_allclose(scores(prediction), scores(alone), atol=1e-5)
        assert prediction.attention.shape == (1, 8, 8)
        assert prediction.category_scores.sum() == pytest.approx(1, abs=1e-5)


def test_stopping_early_stops_the_decoding(predictor, listed):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield listed[0]

    tagged = predictor.predict_files(endless(), batch_size=2)
    for _ in range(5):
        next(tagged)
    tagged.close()
    assert len(taken) <= 12


def test_bfloat16_is_near_float32(tiny_run, predictor, listed):
    photos = [read_photo(photo.path) for photo in listed[:4]]
    halved = Predictor.from_run(tiny_run, device="cpu", precision="bf16").predict(photos)
    for a, b in zip(predictor.predict(photos), halved, strict=True):
        # bfloat16 has 8 bits: 0.4 % a step, over some 15 layers.
        np.testing.assert_allclose(scores(a), scores(b), atol=0.1)
        assert b.category_scores.dtype == np.float32
        assert b.category_scores.sum() == pytest.approx(1, abs=1e-5)


def pixels(seed: int, height: int = 30, width: int = 20) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_one_photo_gives_one_prediction_whatever_it_is_given_as(predictor, tmp_path):
    photo, path = pixels(0), tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    (wanted,) = predictor.predict([photo])
    for given in (photo, Image.fromarray(photo), Image.open(path), path, str(path)):
        found = predictor(given)
        assert isinstance(found, Prediction)
        np.testing.assert_array_equal(scores(found), scores(wanted))
        assert found.category in predictor.labels.categories
        assert found.overlay().shape == photo.shape
        assert not np.array_equal(found.overlay(), photo)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_a_list_gives_a_list_in_order_whatever_it_holds(predictor, tmp_path, batch_size):
    photos = [pixels(seed, 20 + seed, 30) for seed in range(7)]
    for number in (1, 4):
        Image.fromarray(photos[number]).save(tmp_path / f"{number}.png")
    mixed = [
        *(photos[0], tmp_path / "1.png", Image.fromarray(photos[2]), photos[3]),
        *(str(tmp_path / "4.png"), photos[5], photos[6]),
    ]
    wanted = predictor.predict(photos)
    spread = np.ptp([scores(one) for one in wanted], axis=0)
    assert spread.max() > 1e-3, "all photos look the same, so nothing is tested"
    for given in (mixed, tuple(mixed), iter(mixed)):
        found = predictor(given, batch_size=batch_size, workers=2)
        assert isinstance(found, list)
        np.testing.assert_allclose(
            [scores(one) for one in found], [scores(one) for one in wanted], atol=1e-5
        )
        assert [one.overlay().shape for one in found] == [photo.shape for photo in photos]
    assert predictor([]) == []
    assert len(predictor([photos[0]])) == 1


def test_a_long_list_is_never_held_whole(predictor):
    alive: set[int] = set()
    most = 0

    class Counted(np.ndarray):
        def __del__(self):
            alive.discard(id(self))

    def endless():
        nonlocal most
        for seed in range(40):
            photo = pixels(seed).view(Counted)
            alive.add(id(photo))
            most = max(most, len(alive))
            yield photo

    found = predictor(endless(), batch_size=2, workers=1)
    gc.collect()
    assert len(found) == 40
    assert most <= 8
    assert not alive
    with pytest.raises(VsamError, match="has no photo to draw on"):
        found[0].overlay()


def test_a_photo_that_can_not_be_read_is_named(predictor, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    for given in (broken, str(broken), [pixels(0), broken]):
        with pytest.raises(UnreadablePhotoError, match=f"Could not read {broken}: it is not an im"):
            predictor(given)
    with pytest.raises(UnreadablePhotoError, match=r"absent\.jpg: No such file"):
        predictor("absent.jpg")
    with pytest.raises(UnreadablePhotoError, match=f"Could not read {tmp_path}: Is a directory"):
        predictor(tmp_path)
    Image.fromarray(pixels(0, 300, 300)).save(tmp_path / "cut.png")
    data = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(UnreadablePhotoError, match=r"cut\.png: it is truncated"):
        predictor(Image.open(tmp_path / "cut.png"))
    with pytest.raises(UnreadablePhotoError, match="the image: it has 0 x 5 pixels"):
        predictor(Image.new("RGB", (0, 5)))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((4, 4, 3), np.float32), r"got \(4, 4, 3\) float32. Levels reach from 0 to 255"),
        (np.zeros((4, 4), np.uint8), r"got \(4, 4\) uint8"),
        (np.zeros((4, 4, 4), np.uint8), r"got \(4, 4, 4\) uint8"),
        (np.zeros((2, 4, 4, 3), np.uint8), "Give several photos as a list"),
        (np.zeros((0, 4, 3), np.uint8), r"got \(0, 4, 3\) uint8"),
        (torch.zeros(4, 4, dtype=torch.uint8), "but got a torch.Tensor"),
        (b"bytes", "but got a bytes"),
        ({"a": 1}, "or a list of them, but got a dict"),
        (7, "or a list of them, but got a int"),
        (None, "but got a NoneType"),
        ([[pixels(0)]], "a Pillow image, or a path, but got a list"),
        ([None], "but got a NoneType"),
    ],
)
def test_what_is_no_photo_is_refused(predictor, given, said):
    with pytest.raises(VsamError, match=said) as refused:
        predictor(given)
    assert "Expected `photo` to be" in str(refused.value)


def test_predict_refuses_what_is_no_photo(predictor):
    with pytest.raises(VsamError, match="Expected `photo` to be"):
        predictor.predict([pixels(0)[..., 0]])


@pytest.fixture
def calibrated_run(tiny_run, tmp_path):
    run = tmp_path / "calibrated"
    shutil.copytree(tiny_run, run)
    save_calibration(run, Calibration(2.5, (0.0, 0.99)))
    return run


def test_calibration_is_used_where_it_is_asked_for(tiny_run, calibrated_run, predictor):
    photo = pixels(3)
    plain = Predictor.from_pretrained(calibrated_run, device="cpu")(photo)
    wanted = predictor(photo)
    np.testing.assert_array_equal(scores(plain), scores(wanted))
    assert plain.thresholds.tolist() == [0.5, 0.5]
    fitted = Predictor.from_pretrained(
        calibrated_run, device="cpu", calibrated=True, thresholds="attribute"
    )(photo)
    np.testing.assert_array_equal(fitted.attribute_scores, wanted.attribute_scores)
    # softmax(z / T) of z = log p.
    powers = wanted.category_scores.astype(float) ** (1 / 2.5)
    np.testing.assert_allclose(fitted.category_scores, powers / powers.sum(), atol=1e-6)
    assert [label for label, _ in fitted.attributes] == ["left"]


def test_a_calibration_that_is_not_there_is_refused(tiny_run, tmp_path):
    run = tmp_path / "old"
    shutil.copytree(tiny_run, run)
    description = json.loads((run / "config.json").read_text())
    del description["calibration"]
    (run / "config.json").write_text(json.dumps(description))
    Predictor.from_run(run, device="cpu")
    for options in ({"calibrated": True}, {"thresholds": "attribute"}):
        with pytest.raises(VsamError, match="Fit one with vsam calibrate"):
            Predictor.from_run(run, device="cpu", **options)
    with pytest.raises(VsamError, match="Expected `thresholds` to be one of run, attribute"):
        Predictor.from_run(run, device="cpu", thresholds="own")


def test_a_device_that_is_not_there_is_refused(tiny_run):
    if not torch.cuda.is_available():
        with pytest.raises(VsamError, match="this machine has no cuda"):
            Predictor.from_run(tiny_run, device="cuda")
    with pytest.raises(VsamError, match="Expected `device` to be one of"):
        Predictor.from_run(tiny_run, device="tpu")
    with pytest.raises(VsamError, match="Expected `precision` to be one of"):
        Predictor.from_run(tiny_run, device="cpu", precision="fp8")
    with pytest.raises(VsamError, match="Expected `batch_size` to be at least 1"):
        next(Predictor.from_run(tiny_run, device="cpu").predict_files([], batch_size=0))
