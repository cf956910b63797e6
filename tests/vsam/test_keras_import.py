"""Importing Keras weights: every layout that Keras 2 writes, and one line for what does not fit.

That the imported model computes what the published one does is tested in `parity/`.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import published_model as published
import pytest
import torch
from safetensors.torch import load_file

from vsam import run_folder
from vsam.keras_import import import_keras
from vsam.run_folder import load_checkpoint
from vsam_datasets.deepfashion import attribute_names, category_names
from vsam_heatmaps.errors import VsamError

Shapes = dict[str, dict[str, tuple[int, ...]]]


def shapes() -> Shapes:
    return {
        name: {"kernel": shape, "bias": shape[-1:]}
        for name, shape in published.kernel_shapes().items()
    }


def write_empty(path: Path, layers: Shapes) -> Path:
    """Write a file of the published size in a moment: arrays of zeros that take no room."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for name, arrays in layers.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{role}:0".encode() for role in arrays]
            for role, shape in arrays.items():
                group.create_dataset(f"{name}/{role}:0", shape, "f4", chunks=shape or None)
    return path


@pytest.fixture(autouse=True)
def tidy(tmp_path) -> Iterator[None]:
    """Remove what a test wrote: each run takes 100 MB."""
    yield
    shutil.rmtree(tmp_path)


@pytest.fixture(scope="module")
def weights() -> published.Weights:
    return published.draw_weights(7)


@pytest.fixture(scope="module")
def imported(weights, tmp_path_factory) -> Iterator[dict[str, torch.Tensor]]:
    """Give the tensors of an import from the plain layout."""
    folder = tmp_path_factory.mktemp("plain")
    import_keras(published.write_keras2(folder / "w.h5", weights), folder / "run")
    yield load_file(folder / "run" / "model.safetensors")
    shutil.rmtree(folder)


@pytest.fixture
def refusal(tmp_path) -> Callable[..., str]:
    """Give a function that sees an import fail and leave nothing, and gives its one line."""

    def run(path: Path, **options: Path) -> str:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(VsamError) as refused:
            import_keras(path, tmp_path / "new" / "run", **options)
        assert sorted(tmp_path.rglob("*")) == before
        message = str(refused.value)
        assert "\n" not in message
        return message

    return run


def same(run: Path, imported: dict[str, torch.Tensor]) -> bool:
    found = load_file(run / "model.safetensors")
    return set(found) == set(imported) and all(
        torch.equal(found[name], tensor) for name, tensor in imported.items()
    )


def test_every_array_lands_in_its_place(weights, imported):
    torchvisions = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    modules = [f"features.{index}" for index in torchvisions]
    modules += ["attention.fuse.conv", "attention.attend.conv"]
    modules += ["category_head.conv", "attribute_head.conv"]
    modules += ["category_head.linear", "attribute_head.linear"]
    assert len(modules) == len(weights)
    assert len(imported) == 2 * len(weights)
    for module, arrays in zip(modules, weights.values(), strict=True):
        kernel = arrays["kernel"]
        # (H, W, I, O) -> (O, I, H, W), and (I, O) -> (O, I)
        moved = np.einsum("hwio->oihw", kernel) if kernel.ndim == 4 else kernel.T
        assert np.array_equal(imported[f"{module}.weight"].numpy(), moved), module
        assert np.array_equal(imported[f"{module}.bias"].numpy(), arrays["bias"]), module


def test_the_run_has_the_published_input_labels_and_origin(tmp_path):
    path = write_empty(tmp_path / "published.h5", shapes())
    labels = import_keras(path, tmp_path / "run")
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == [
        "config.json",
        "labels.json",
        "model.safetensors",
    ]
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.labels == labels
    assert labels.categories == category_names()
    assert labels.attributes == attribute_names()
    assert checkpoint.threshold == 0.5
    assert checkpoint.preprocessing.interpolation == "nearest"
    assert checkpoint.preprocessing.colour == "bgr"
    assert checkpoint.training["imported_from"] == "published.h5"
    assert len(checkpoint.training["sha256"]) == 64


def test_a_whole_saved_model_gives_the_same(weights, imported, tmp_path):
    path = published.write_keras2(tmp_path / "m.h5", weights, below="model_weights")
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = '{"class_name": "Model"}'
        optimizer = file.create_group("optimizer_weights")
        optimizer.attrs["weight_names"] = [b"Adam/iterations:0"]
        optimizer["Adam/iterations:0"] = 3
    import_keras(path, tmp_path / "run")
    assert same(tmp_path / "run", imported)


def test_a_model_within_a_model_gives_the_same(weights, imported, tmp_path):
    path = tmp_path / "nested.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"input_1", b"vsam"]
        file.create_group("input_1").attrs["weight_names"] = []
        group, names = file.create_group("vsam"), []
        for name, arrays in weights.items():
            for role, array in arrays.items():
                names.append(f"{name}/{role}:0")
                group[names[-1]] = array
        # Keras splits lists of names that are too long for one attribute.
        group.attrs["weight_names0"] = [name.encode() for name in names[:20]]
        group.attrs["weight_names1"] = [name.encode() for name in names[20:]]
    import_keras(path, tmp_path / "run")
    assert same(tmp_path / "run", imported)


@pytest.mark.parametrize(
    ("first", "second"),
    [("conv2d", "conv2d_1"), ("conv2d_9", "conv2d_10"), ("conv2d_3", "conv2d_8")],
)
def test_the_heads_numbers_may_differ_but_not_their_order(
    weights, imported, tmp_path, first, second
):
    renamed = {
        {"conv2d_1": first, "conv2d_2": second}.get(name, name): arrays
        for name, arrays in weights.items()
    }
    # The order in the file says nothing.
    renamed = dict(sorted(renamed.items(), reverse=True))
    import_keras(published.write_keras2(tmp_path / "w.h5", renamed), tmp_path / "run")
    assert same(tmp_path / "run", imported)


def test_scopes_and_numbers_of_an_old_graph_do_not_matter(weights, imported, tmp_path):
    path = tmp_path / "old.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in weights]
        for name, arrays in weights.items():
            group = file.create_group(name)
            # A second model in one session got scopes with a number.
            names = [f"{name}_1/{role}:0" for role in arrays]
            group.attrs["weight_names"] = [one.encode() for one in names]
            for one, array in zip(names, arrays.values(), strict=True):
                group[one] = array
    import_keras(path, tmp_path / "run")
    assert same(tmp_path / "run", imported)


def test_double_precision_becomes_single(weights, imported, tmp_path):
    doubled = {n: {r: a.astype(np.float64) for r, a in v.items()} for n, v in weights.items()}
    import_keras(published.write_keras2(tmp_path / "w.h5", doubled), tmp_path / "run")
    assert same(tmp_path / "run", imported)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda s: s.pop("conv_7x7x1"), "it lacks conv_7x7x1."),
        (lambda s: s["conv_7x7x1"].pop("bias"), "it lacks conv_7x7x1/bias."),
        (lambda s: s.pop("conv2d_2"), "it lacks conv2d_2."),
        (
            lambda s: [s.pop("conv2d_1"), s.pop("conv2d_2"), s.pop("block1_conv1")],
            "it lacks block1_conv1, conv2d_1, conv2d_2.",
        ),
        (
            lambda s: s.update(conv2d_3={"kernel": (1, 1, 4, 4)}),
            "it holds the unknown conv2d_3.",
        ),
        (
            lambda s: s.update(bn={"gamma": (64,), "beta": (64,)}),
            "it holds the unknown bn.",
        ),
        (
            lambda s: s["block1_conv1"].update(kernel=(3, 3, 1, 64)),
            "block1_conv1/kernel should be of shape (3, 3, 3, 64), but got (3, 3, 1, 64).",
        ),
        (
            lambda s: s["out_3_dense"].update(kernel=(1000,)),
            "out_3_dense/kernel should be of shape (1024, 1000), but got (1000,).",
        ),
        (
            lambda s: [
                s.pop("block5_conv1"),
                s.update(spare={"kernel": (1, 1)}),
                s["conv2d_1"].update(bias=(7,)),
            ],
            "it lacks block5_conv1; it holds the unknown spare; "
            "conv2d_1/bias should be of shape (1024,), but got (7,).",
        ),
    ],
)
def test_layers_that_do_not_fit_are_each_named(tmp_path, refusal, spoil, said):
    changed = shapes()
    spoil(changed)
    message = refusal(write_empty(tmp_path / "w.h5", changed))
    assert (
        message == f"Expected {tmp_path / 'w.h5'} to hold the published VSAM's layers, but {said}"
    )


def test_of_many_missing_layers_ten_are_named(tmp_path, refusal):
    few = dict(list(shapes().items())[:2])
    message = refusal(write_empty(tmp_path / "w.h5", few))
    assert message.endswith(
        "it lacks block2_conv1, block2_conv2, block3_conv1, block3_conv2, block3_conv3, "
        "block4_conv1, block4_conv2, block4_conv3, block5_conv1, block5_conv2 and 7 more."
    )


def test_other_numbers_of_labels_need_files(tmp_path, refusal):
    layers = shapes()
    layers["out_1_dense"] = {"kernel": (1024, 2), "bias": (2,)}
    layers["out_3_dense"] = {"kernel": (1024, 3), "bias": (3,)}
    path = write_empty(tmp_path / "w.h5", layers)
    message = refusal(path)
    assert "The weights have 2 categories, but DeepFashion has 46" in message
    assert "--categories FILE" in message
    categories, attributes = tmp_path / "c.txt", tmp_path / "a.txt"
    categories.write_bytes("\ufeffKleid\r\nюбка\r\n".encode())
    attributes.write_text("a-line\n weite Ärmel \nx", encoding="utf-8")
    message = refusal(path, categories=categories)
    assert "The weights have 3 attributes, but DeepFashion has 1000" in message
    labels = import_keras(path, tmp_path / "run", categories=categories, attributes=attributes)
    assert labels.categories == ("Kleid", "юбка")
    assert labels.attributes == ("a-line", "weite Ärmel", "x")
    assert load_checkpoint(tmp_path / "run").labels == labels


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a\nb\n", "to name 46 categories, as many as the weights have, but it names 2"),
        (b"a\n\nb\n", "but a line is empty"),
        (b"", "but a line is empty"),
        (b"a\nb\na\n", "'a' is there twice"),
        (b"\xff\xfe", "to be UTF-8 text"),
        (None, "Could not read"),
    ],
)
def test_label_files_that_do_not_fit_are_refused(tmp_path, refusal, content, said):
    file = tmp_path / "names.txt"
    if content is not None:
        file.write_bytes(content)
    message = refusal(write_empty(tmp_path / "w.h5", shapes()), categories=file)
    assert said in message
    assert str(file) in message


def keras3_weights(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["layers/conv2d/vars/0"] = np.zeros((3, 3, 3, 64), np.float32)
        file["layers/conv2d/vars/1"] = np.zeros(64, np.float32)
        file.create_group("optimizer/vars")


def zipped(path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", b"")


def other_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["heatmaps"] = np.zeros((2, 7, 56, 56), np.uint8)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: path.write_bytes(b""), "is no HDF5 file"),
        (lambda path: path.write_bytes(b"no weights at all" * 99), "is no HDF5 file"),
        (lambda path: path.mkdir(), "to be a file"),
        (lambda path: None, "to be a file"),
        (zipped, "is a Keras 3 archive (.keras)"),
        (keras3_weights, "is laid out as Keras 3 does it (.weights.h5)"),
        (other_hdf5, "holds no Keras weights"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, refusal, write, said):
    path = tmp_path / "weights.h5"
    write(path)
    message = refusal(path)
    assert said in message
    assert str(path) in message


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.9999])
def test_a_truncated_file_is_refused(tmp_path, refusal, share):
    path = write_empty(tmp_path / "w.h5", shapes())
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    message = refusal(path)
    assert "damaged or truncated" in message
    assert str(path) in message


def test_an_array_that_is_listed_but_not_there_is_told(tmp_path, refusal):
    path = write_empty(tmp_path / "w.h5", shapes())
    with h5py.File(path, "a") as file:
        del file["conv_7x7x1/conv_7x7x1/bias:0"]
    message = refusal(path)
    assert "damaged or truncated" in message
    assert "bias:0" in message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(tmp_path, refusal, value):
    path = write_empty(tmp_path / "w.h5", shapes())
    with h5py.File(path, "a") as file:
        file["conv2d_1/conv2d_1/bias:0"][5] = value
    message = refusal(path)
    assert "conv2d_1/bias" in message
    assert "NaN or infinity" in message


def test_weights_that_are_no_floats_are_named(tmp_path, refusal):
    path = write_empty(tmp_path / "w.h5", shapes())
    with h5py.File(path, "a") as file:
        del file["conv_7x7x1/conv_7x7x1/bias:0"]
        file["conv_7x7x1/conv_7x7x1/bias:0"] = [b"one"]
    assert "conv_7x7x1/bias" in refusal(path)


def test_an_impossibly_large_layer_is_refused_before_it_is_read(tmp_path, refusal):
    changed = shapes()
    changed["out_3_dense"] = {"kernel": (1024, 10**12), "bias": (1000,)}
    path = tmp_path / "w.h5"
    with h5py.File(write_empty(path, {**changed, "out_3_dense": {}}), "a") as file:
        group = file["out_3_dense"]
        group.attrs["weight_names"] = [b"out_3_dense/kernel:0"]
        group.create_dataset("out_3_dense/kernel:0", (1024, 10**12), "f4", chunks=(1, 1000))
    assert f"The weights have {10**12} attributes" in refusal(path)


@pytest.mark.parametrize("occupied", ["file", "folder"])
def test_an_occupied_place_is_left_alone(tmp_path, occupied):
    path = write_empty(tmp_path / "w.h5", shapes())
    run = tmp_path / "run"
    kept = run
    if occupied == "folder":
        run.mkdir()
        kept = run / "thesis.tex"
    kept.write_text("words")
    with pytest.raises(VsamError, match="to be a new folder, but it is there already"):
        import_keras(path, run)
    assert kept.read_text() == "words"


def test_an_empty_folder_becomes_the_run(tmp_path):
    (tmp_path / "run").mkdir()
    import_keras(write_empty(tmp_path / "w.h5", shapes()), tmp_path / "run")
    assert load_checkpoint(tmp_path / "run").config.categories == 46


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_import_that_fails_late_leaves_nothing(tmp_path, monkeypatch, error):
    path = write_empty(tmp_path / "w.h5", shapes())

    def fail(folder: Path, **_: object) -> None:
        assert (folder / "model.safetensors").is_file()
        raise error

    monkeypatch.setattr(run_folder, "save_description", fail)
    with pytest.raises((VsamError, KeyboardInterrupt)):
        import_keras(path, tmp_path / "run")
    assert sorted(tmp_path.iterdir()) == [path]


def test_nothing_in_the_file_is_run(tmp_path):
    # A saved model holds Python code where it has Lambda layers; it is not even looked at.
    path = write_empty(tmp_path / "w.h5", shapes())
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Lambda", "config": "no base64"})
        file.attrs["training_config"] = "no JSON"
    import_keras(path, tmp_path / "run")
    assert load_checkpoint(tmp_path / "run").config.attributes == 1000
