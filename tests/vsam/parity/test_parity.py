"""The imported model against the published one, which `make_reference.py` ran in TensorFlow.

Weights of the published sizes are drawn from the reference's seed and written as Keras 2 does it;
then everything goes through the commands.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import published_model as published
import pytest
import torch
from PIL import Image

from vsam.losses import attention_loss, attribute_loss, category_loss
from vsam.networks import TorchNetwork
from vsam.predictor import Prediction, Predictor
from vsam.run_folder import Checkpoint, load_checkpoint
from vsam_heatmaps import read_photo

# What the project promises. The sums are float32, in another order than TensorFlow's: 5e-6 is seen.
PROMISED = 1e-4
FIELDS = {
    "categories": "category_scores",
    "attributes": "attribute_scores",
    "attention": "attention",
}


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).with_name("reference.npz")) as file:
        return dict(file)


@pytest.fixture(scope="module")
def weights(reference, tmp_path_factory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("keras")
    drawn = published.draw_weights(int(reference["seed"]))
    yield published.write_keras2(folder / "weights.h5", drawn)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def run(weights, call_command, tmp_path_factory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("imported") / "run"
    done = call_command("vsam", "import-keras", weights, "--out", folder)
    assert done.returncode == 0, done.stderr
    assert "46 categories, 1000 attributes" in done.stdout
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def checkpoint(run) -> Checkpoint:
    return load_checkpoint(run)


@pytest.fixture(scope="module")
def photos(reference, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name, size in zip(reference["names"], published.PHOTO_SIZES, strict=True):
        Image.fromarray(published.draw_photo(*size)).save(folder / str(name))
    return folder


@pytest.fixture(scope="module")
def predict(reference, photos) -> Callable[[Checkpoint], list[Prediction]]:
    def run(checkpoint: Checkpoint) -> list[Prediction]:
        images = [read_photo(photos / str(name)) for name in reference["names"]]
        network = TorchNetwork(checkpoint.model, device="cpu")
        predictor = Predictor(network, description=checkpoint, labels=checkpoint.labels)
        return predictor.predict(images)

    return run


def difference(predictions: list[Prediction], reference, name: str) -> float:
    found = np.stack([getattr(prediction, FIELDS[name]) for prediction in predictions])
    if name == "attention":
        found = found[:, 0]  # its one map: (N, 1, S, S) -> (N, S, S)
    assert found.shape == reference[name].shape
    return float(np.abs(found - reference[name]).max())


def test_the_reference_is_worth_comparing_with(reference):
    # Outputs far from 0 and 1, different for each photo: an error would show.
    assert reference["categories"].shape == (3, 46)
    assert reference["attributes"].shape == (3, 1000)
    assert reference["attention"].shape == (3, 56, 56)
    assert ((reference["attributes"] > 0.1) & (reference["attributes"] < 0.9)).mean() > 0.3
    for name in FIELDS:
        assert np.percentile(reference[name], 99) - np.percentile(reference[name], 1) > 0.2, name
        assert np.abs(np.diff(reference[name], axis=0)).max() > 0.1, name


def test_the_input_is_the_published_one_to_the_bit(reference, checkpoint, photos):
    for name, wanted in zip(reference["names"], reference["inputs"], strict=True):
        with Image.open(photos / str(name)) as image:
            theirs = published.preprocess(image)
        assert hashlib.sha256(theirs.tobytes()).hexdigest() == wanted
        ours = checkpoint.preprocessing(read_photo(photos / str(name)))
        assert np.array_equal(ours.permute(1, 2, 0).numpy(), theirs)


def test_predicted_scores_are_the_published_ones(reference, run, photos, call_command, tmp_path):
    out = tmp_path / "predictions.jsonl"
    done = call_command(
        "vsam-predict", photos, "--model", run, "--out", out, "--all-scores", "--device", "cpu"
    )
    assert done.returncode == 0, done.stderr
    entries = {entry["image"]: entry for entry in map(json.loads, out.read_text().splitlines())}
    assert set(entries) == set(reference["names"])
    labels = json.loads((run / "labels.json").read_text())
    for row, name in enumerate(reference["names"]):
        for kind in ("categories", "attributes"):
            scores = {entry["label"]: entry["score"] for entry in entries[name][kind]}
            found = [scores[label] for label in labels[kind]]
            np.testing.assert_allclose(found, reference[kind][row], rtol=0, atol=PROMISED)


def test_scores_and_attention_are_the_published_ones(reference, checkpoint, predict):
    predictions = predict(checkpoint)
    for name in FIELDS:
        assert difference(predictions, reference, name) < PROMISED, name


@pytest.mark.parametrize(
    "changed", [{"colour": "rgb"}, {"interpolation": "bilinear"}, {"mean": (104.5, 116.5, 123.5)}]
)
def test_another_preprocessing_would_show(reference, checkpoint, predict, changed):
    other = replace(checkpoint, preprocessing=replace(checkpoint.preprocessing, **changed))
    assert difference(predict(other), reference, "attributes") > 10 * PROMISED


def test_the_tests_file_is_laid_out_as_keras_does_it(reference, weights):
    # Keras lists layers without weights, too; only those differ.
    def of_weights(lines) -> list[str]:
        layers = set(published.kernel_shapes())
        return sorted(line for line in lines if line.partition(":")[0].split("/")[0] in layers)

    theirs = of_weights(reference["layout"])
    assert len(theirs) == 19 * 4
    assert of_weights(published.describe_file(weights)) == theirs
    assert [line for line in published.describe_file(weights) if line.startswith("/:")] == [
        line for line in reference["layout"] if line.startswith("/:")
    ]


@pytest.mark.parametrize("term", ["category", "attributes", "attention"])
def test_losses_and_gradients_equal_tensorflows(reference, term):
    given = {name: torch.from_numpy(array) for name, array in published.loss_inputs().items()}
    maps = {name: given[name][:, None] for name in ("attention", "heatmap")}
    source = {
        "category": given["category_logits"],
        "attributes": given["attribute_logits"],
        "attention": maps["attention"],
    }[term].requires_grad_()
    if term == "category":
        loss = category_loss(source, given["category"], given["class_weights"])
    elif term == "attributes":
        loss = attribute_loss(source, given["attributes"])
    else:
        loss = attention_loss(source, maps["heatmap"], torch.ones(5, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(reference[f"loss_{term}"]), rel=1e-5)
    wanted = reference[f"gradient_{term}"]
    assert np.abs(wanted).max() > 5e-4
    np.testing.assert_allclose(
        source.grad.numpy().reshape(wanted.shape), wanted, rtol=1e-4, atol=1e-7
    )
