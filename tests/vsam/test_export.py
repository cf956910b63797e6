"""Exports compute what the run computes; what does not fit or is damaged is told in one line."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from drawn_run import ATTRIBUTES, CATEGORIES, SIDE, draw_run
from tiny import train_config

from vsam import run_folder
from vsam.export import making, onnx_format, openvino_format, torch_format
from vsam.export.calibration import read_calibration_photos
from vsam.export.folder import FILES, Exported, sync_and_hash
from vsam.export.making import export_run
from vsam.export.program import trace
from vsam.modeling.build import ModelConfig, build_vsam
from vsam.modeling.vsam import VsamOutput
from vsam.networks import load_network
from vsam.predictor import Predictor
from vsam.run_folder import load_checkpoint
from vsam.training import train
from vsam_datasets.preprocessing import Preprocessing
from vsam_heatmaps.errors import VsamError
from vsam_heatmaps.openvino_core import openvino_core
from vsam_heatmaps.photos import Photo, list_photos

FORMATS = tuple(FILES)
# What the README promises: float32 sums differ with their order.
CLOSE = {"rtol": 0, "atol": 1e-4}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Give a run with batch normalisation. Only read it."""
    return draw_run(tmp_path_factory.mktemp("runs") / "drawn", batch_norm=True)


@pytest.fixture(scope="module")
def exports(run, tmp_path_factory) -> dict[str, Path]:
    """Give an export in each format. Only read them."""
    folder = tmp_path_factory.mktemp("exports")
    for format in FORMATS:
        report = export_run(run, folder / format, format=format)
        assert report.files == tuple(folder / format / name for name in FILES[format])
        assert report.bytes == sum(file.stat().st_size for file in report.files)
    return {format: folder / format for format in FORMATS}


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Give eight inputs that differ."""
    generator = torch.Generator().manual_seed(1)
    colours = torch.randn(8, 3, 1, 1, generator=generator)
    grain = torch.rand(8, 1, 1, 1, generator=generator)
    return colours + torch.randn(8, 3, SIDE, SIDE, generator=generator) * grain


@pytest.fixture
def copy(exports, tmp_path):
    """Give a function that copies an export, and changes what its `config.json` says of it."""

    def make(name: str = "openvino", **section: object) -> Path:
        folder = tmp_path / name
        shutil.copytree(exports[name], folder)
        path = folder / "config.json"
        values = json.loads(path.read_text())
        values["export"] |= section
        path.write_text(json.dumps(values))
        return folder

    return make


def scores(output: VsamOutput) -> list[np.ndarray]:
    return [
        output.category_logits.softmax(dim=1).numpy(),
        output.attribute_logits.sigmoid().numpy(),
        output.attention.numpy(),
    ]


def refusal(folder: Path, **options: str) -> str:
    with pytest.raises(VsamError) as refused:
        load_network(folder, **options)
    message = str(refused.value)
    assert "\n" not in message
    return message


def sign(folder: Path, name: str) -> Path:
    """Record a file's new hash, as somebody would who made the file on purpose."""
    path = folder / "config.json"
    values = json.loads(path.read_text())
    values["export"]["sha256"][name] = sync_and_hash(folder / name)
    path.write_text(json.dumps(values))
    return folder


def test_a_vision_transformer_is_exported_for_torch(tmp_path):
    """Its archive holds what VGG's does not: multiples of the batch's size."""
    config = ModelConfig(categories=2, attributes=3, image_size=32, backbone="test_vit")
    torch.manual_seed(0)
    model = build_vsam(config).eval()
    with run_folder.new_run(tmp_path / "run") as made:
        run_folder.save_tensors(made / run_folder.WEIGHTS, model.state_dict(), {})
        run_folder.save_description(
            made,
            config=config,
            preprocessing=Preprocessing(image_size=32),
            labels=run_folder.Labels(("a", "b"), ("c", "d", "e")),
            threshold=0.5,
            training={},
        )
    export_run(tmp_path / "run", tmp_path / "export", format="torch-export")
    images = torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        wanted = model(images)
    for found, exact in zip(load_network(tmp_path / "export")(images), wanted, strict=True):
        torch.testing.assert_close(found, exact, **CLOSE)


@torch.inference_mode()
@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("format", FORMATS)
def test_an_export_computes_what_the_model_computes(run, exports, images, format, batch):
    model = load_checkpoint(run).model
    expected = scores(model(images))
    assert [array.shape for array in expected] == [(8, 5), (8, 7), (8, 1, 16, 16)]
    for array in expected:
        assert array.std(axis=0).mean() > 0.02, "all inputs look the same, so nothing is tested"
    given = load_network(exports[format])(images[:batch])
    assert all(tensor.dtype == torch.float32 for tensor in given)
    for found, wanted in zip(scores(given), expected, strict=True):
        np.testing.assert_allclose(found, wanted[:batch], **CLOSE)


@torch.inference_mode()
def test_requests_of_several_photos_give_the_same(exports, images):
    exported = _exported(exports["openvino"], "openvino")
    alone = openvino_format.OpenVinoNetwork(exported)(images)
    for size, hint in ((3, "THROUGHPUT"), (8, "LATENCY"), (16, "LATENCY")):
        network = openvino_format.OpenVinoNetwork(exported, photos_a_request=size, hint=hint)
        for _ in range(2):
            for found, wanted in zip(network(images), alone, strict=True):
                np.testing.assert_allclose(found, wanted, **CLOSE)


def test_a_network_may_be_asked_from_several_threads(exports, images):
    from concurrent.futures import ThreadPoolExecutor

    network = load_network(exports["openvino"])
    alone = network(images).category_logits
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda i: network(images[i : i + 1]).category_logits, range(8)))
    np.testing.assert_allclose(torch.cat(answers), alone, **CLOSE)


@pytest.mark.parametrize("format", FORMATS)
def test_predictions_of_photos_are_the_runs(exports, run, tiny_data, format):
    photos = list_photos([tiny_data / "photos"])[:5]
    wanted = list(Predictor.from_run(run, device="cpu").predict_files(photos))
    predictor = Predictor.from_run(exports[format])
    assert predictor.labels.categories == CATEGORIES
    assert predictor.labels.attributes == ATTRIBUTES
    for one, other in zip(predictor.predict_files(photos, batch_size=2), wanted, strict=True):
        for name in ("category_scores", "attribute_scores", "attention"):
            found, expected = getattr(one.prediction, name), getattr(other.prediction, name)
            np.testing.assert_allclose(found, expected, **CLOSE)
    assert predictor.predict([]) == []


def test_an_export_says_what_it_is(exports, run):
    for format, folder in exports.items():
        names = {"config.json", "labels.json", *FILES[format]}
        assert {path.name for path in folder.iterdir()} == names
        assert (folder / "labels.json").read_bytes() == (run / "labels.json").read_bytes()
        described = json.loads((folder / "config.json").read_text())
        section = described.pop("export")
        assert described == json.loads((run / "config.json").read_text())
        assert section["format"] == format
        assert section["precision"] == "fp32"
        assert section["attention"] == [1, 16, 16]
        assert section["calibration_photos"] == 0
        weights = sync_and_hash(run / "model.safetensors")
        assert section["made_from"] == {"model.safetensors": weights}
        assert section["made_by"]["torch"] == torch.__version__.partition("+")[0]


def test_exports_tell_nothing_of_the_machine(exports):
    for format, folder in exports.items():
        for name in FILES[format]:
            data = (folder / name).read_bytes()
            for secret in (str(Path.home()), "site-packages", "vsam/modeling", "stack_trace"):
                assert secret.encode() not in data, (name, secret)


def test_the_onnx_file_is_valid_whole_and_recent(exports):
    path = exports["onnx"] / "model.onnx"
    proto = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(proto, full_check=True)
    assert {opset.domain: opset.version for opset in proto.opset_import} == {"": 20}
    assert all(not tensor.external_data for tensor in proto.graph.initializer)
    session = onnxruntime.InferenceSession(path)
    assert [(i.name, i.shape) for i in session.get_inputs()] == [("images", ["batch", 3, 64, 64])]
    assert {o.name: o.shape for o in session.get_outputs()} == {
        "category_logits": ["batch", 5],
        "attribute_logits": ["batch", 7],
        "attention": ["batch", 1, 16, 16],
    }


def test_the_openvino_network_fuses_blocks_before_it_resizes_them(exports):
    network = openvino_core().read_model(exports["openvino"] / "model.xml")
    resized = [node for node in network.get_ops() if node.get_type_name() == "Interpolate"]
    assert sorted(node.get_input_partial_shape(0)[2].get_length() for node in resized) == [4, 8]
    for node in resized:
        assert node.input_value(0).get_node().get_type_name() == "Convolution"
    stored = {node.get_element_type() for node in network.get_ops() if _is_kernel(node)}
    assert stored == {openvino.Type.f32}


def _is_kernel(node) -> bool:
    return node.get_type_name() == "Constant" and len(node.get_output_shape(0)) == 4


def test_fp16_halves_the_weights_and_hardly_changes_scores(exports, images, tmp_path):
    whole = exports["openvino"]
    network = openvino_core().read_model(whole / "model.xml")
    openvino_format.write_openvino(network, tmp_path, half=True)
    ratio = (tmp_path / "model.bin").stat().st_size / (whole / "model.bin").stat().st_size
    assert ratio == pytest.approx(0.5, abs=0.02)
    after = openvino_format.OpenVinoNetwork(_exported(tmp_path, "openvino"))(images)
    for a, b in zip(scores(load_network(whole)(images)), scores(after), strict=True):
        # float16 has 11 bits, 0.05 % a weight; errors of many weights cancel.
        np.testing.assert_allclose(a, b, rtol=0, atol=0.02)


@pytest.fixture(scope="module")
def int8(run, tiny_data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("int8") / "export"
    photos = [*list_photos([tiny_data / "photos"]), Photo("gone.jpg", Path("gone.jpg"))]
    report = export_run(run, out, format="openvino", precision="int8", calibrate=photos)
    assert report.calibration_photos == 24
    assert [id_ for id_, _ in report.unreadable] == ["gone.jpg"]
    return out


def test_int8_is_smaller_and_tells_photos_apart_as_before(run, exports, int8, tiny_data):
    size = (int8 / "model.bin").stat().st_size
    assert size < 0.35 * (exports["openvino"] / "model.bin").stat().st_size
    photos = list_photos([tiny_data / "photos"])
    found, wanted = (
        [one.prediction for one in Predictor.from_run(folder, device="cpu").predict_files(photos)]
        for folder in (int8, run)
    )
    assert len(found) == 24
    for name in ("category_scores", "attribute_scores", "attention"):
        before = np.stack([getattr(one, name) for one in wanted])
        after = np.stack([getattr(one, name) for one in found])
        # Untrained layers of 8 to 64 channels round coarsely: errors of few channels don't cancel.
        # They must stay well below what tells one photo from another.
        error, spread = np.abs(after - before).mean(), before.std(axis=0).mean()
        assert 0 < error < spread / 2, name
    section = json.loads((int8 / "config.json").read_text())["export"]
    assert (section["precision"], section["calibration_photos"]) == ("int8", 24)
    assert "nncf" in section["made_by"]


def test_int8_keeps_the_last_layers_in_float32(int8):
    network = openvino_core().read_model(int8 / "model.xml")
    layers = [n for n in network.get_ops() if n.get_type_name() in ("Convolution", "MatMul")]
    quantised = {n.get_friendly_name() for n in layers if _comes_from_int8(n)}
    kept = {n.get_friendly_name() for n in layers} - quantised
    # 13 of VGG-16, 3 that fuse, 2 of the heads; the 7×7 and the linear layers are left.
    assert (len(quantised), len(kept)) == (18, 3)
    assert sum(name.startswith("addmm") for name in kept) == 2


def _comes_from_int8(layer) -> bool:
    node = layer.input_value(1).get_node()
    while node.get_type_name() in ("Multiply", "Subtract", "Convert", "Reshape"):
        node = node.input_value(0).get_node()
    return node.get_element_type() in (openvino.Type.i8, openvino.Type.u8)


def test_the_same_photos_are_chosen_each_time(tiny_data):
    photos = list_photos([tiny_data / "photos"])

    def choose(count: int) -> list[torch.Tensor]:
        return read_calibration_photos(photos, Preprocessing(32), count=count).pixels

    first, again, more = choose(6), choose(6), choose(1000)
    assert (len(first), len(more)) == (6, 24)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    # All over: the list is sorted by category.
    places = [next(i for i, b in enumerate(more) if torch.equal(a, b)) for a in first]
    assert places == sorted(places)
    assert len({place // 8 for place in places}) == 3


class _Maps(torch.nn.Module):
    """Stands for models with several maps, or none."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.maps = maps
        self.conv = torch.nn.Conv2d(3, 4, 4, stride=4)

    def forward(self, images: torch.Tensor) -> VsamOutput:
        x = self.conv(images)
        pooled = x.mean(dim=(2, 3))
        return VsamOutput(pooled[:, :3], pooled[:, 3:], x[:, : self.maps].sigmoid())


@torch.inference_mode()
@pytest.mark.parametrize("maps", [0, 3])
@pytest.mark.parametrize("format", FORMATS)
def test_models_with_another_number_of_maps(tmp_path, maps, format):
    model = _Maps(maps).eval()
    program = trace(model, 32)
    images = torch.rand(5, 3, 32, 32)
    exported = Exported(
        network=tmp_path / FILES[format][0],
        format=format,
        image_size=32,
        outputs={"category_logits": (3,), "attribute_logits": (1,), "attention": (maps, 8, 8)},
    )
    if format == "onnx":
        onnx_format.write_onnx(program, tmp_path)
        network = onnx_format.OnnxNetwork(exported)
    elif format == "openvino":
        made = openvino_format.convert(program, 32)
        openvino_format.write_openvino(made, tmp_path, half=False)
        network = openvino_format.OpenVinoNetwork(exported)
    else:
        torch_format.write_program(program, tmp_path)
        network = torch_format.TorchExportNetwork(exported)
    for found, wanted in zip(network(images), model(images), strict=True):
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, **CLOSE)


def _exported(folder: Path, format: str) -> Exported:
    return Exported(
        network=folder / FILES[format][0],
        format=format,
        image_size=SIDE,
        outputs={"category_logits": (5,), "attribute_logits": (7,), "attention": (1, 16, 16)},
    )


class TestRefusals:
    @pytest.mark.parametrize("format", FORMATS)
    def test_a_damaged_or_missing_file(self, copy, format):
        folder = copy(format)
        for name in FILES[format]:
            data = bytearray((folder / name).read_bytes())
            data[len(data) // 2] ^= 1
            (folder / name).write_bytes(data)
            message = refusal(folder)
            assert str(folder / name) in message
            assert "is not the one" in message
            (folder / name).unlink()
            assert f"Expected {folder / name} to be there" in refusal(folder)
            data[len(data) // 2] ^= 1
            (folder / name).write_bytes(data)
        load_network(folder)

    @pytest.mark.parametrize(
        ("format", "name"), [(format, name) for format in FORMATS for name in FILES[format]]
    )
    def test_a_file_that_is_no_network_though_its_hash_is_right(self, copy, format, name):
        folder = copy(format)
        whole = (folder / name).read_bytes()
        for data in (b"no network", whole[: len(whole) // 2]):
            (folder / name).write_bytes(data)
            message = refusal(sign(folder, name))
            assert str(folder / FILES[format][0]) in message
            assert "Export the run again" in message

    @pytest.mark.parametrize("format", FORMATS)
    def test_labels_that_do_not_fit_the_network(self, copy, format):
        folder = copy(format)
        path = folder / "labels.json"
        labels = json.loads(path.read_text())
        path.write_text(json.dumps(labels | {"categories": labels["categories"][:4]}))
        assert "to name 5 categories" in refusal(folder)
        config = json.loads((folder / "config.json").read_text())
        config["model"]["categories"] = 4
        (folder / "config.json").write_text(json.dumps(config))
        message = refusal(folder)
        assert "category_logits (N, 4)" in message
        assert "category_logits (N, 5)" in message

    @pytest.mark.parametrize("format", FORMATS)
    def test_an_input_of_another_size(self, copy, format):
        folder = copy(format)
        config = json.loads((folder / "config.json").read_text())
        config["model"]["image_size"] = config["preprocessing"]["image_size"] = 96
        (folder / "config.json").write_text(json.dumps(config))
        assert "images (N, 3, 96, 96)" in refusal(folder)

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"format_version": 2}, "Expected `export.format_version of"),
            ({"format_version": True}, "but got True"),
            ({"format": "tflite"}, "to be one of openvino, onnx, torch-export, but got 'tflite'"),
            ({"format": ["onnx"]}, "but got ['onnx']"),
            ({"attention": [1, 16]}, "to be three sizes"),
            ({"attention": [1, 16, -1]}, "to be three sizes"),
            ({"attention": [2, 16, 16]}, "attention (N, 2, 16, 16)"),
            ({"sha256": []}, "to be a JSON object"),
            ({"sha256": {}}, "its SHA-256 is not"),
        ],
    )
    def test_a_section_that_makes_no_sense(self, copy, changed, said):
        assert said in refusal(copy("openvino", **changed))

    def test_a_section_that_is_no_object(self, copy):
        folder = copy()
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"export": 3}))
        assert "to be a JSON object, but got 3" in refusal(folder)

    def test_another_device(self, exports, monkeypatch):
        assert "Expected `device` to be one of" in refusal(exports["onnx"], device="tpu")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert "an export runs on the CPU" in refusal(exports["onnx"], device="cuda")
        load_network(exports["onnx"], device="auto")

    def test_another_precision(self, exports):
        for format in ("onnx", "torch-export"):
            assert "can't be changed" in refusal(exports[format], precision="bf16")
        assert "Expected `precision` to be one of" in refusal(exports["onnx"], precision="fp8")

    def test_a_precision_that_the_processor_lacks(self, exports, images, monkeypatch):
        there = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if "BF16" in there:
            given = load_network(exports["openvino"], precision="bf16")(images)
            whole = load_network(exports["openvino"])(images)
            for a, b in zip(scores(given), scores(whole), strict=True):
                # bfloat16 has 8 bits, over some 15 layers.
                np.testing.assert_allclose(a, b, rtol=0, atol=0.2)
        core = openvino_core()

        class Old:
            def get_property(self, device: str, name: str) -> list[str]:
                return ["FP32"]

            def __getattr__(self, name: str):
                return getattr(core, name)

        monkeypatch.setattr(openvino_format, "openvino_core", Old)
        message = refusal(exports["openvino"], precision="bf16")
        assert "this processor has no bf16 arithmetic" in message

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"format": "tflite"}, "Expected `format` to be one of openvino, onnx, torch-export"),
            ({"format": "onnx", "precision": "fp8"}, "Expected `precision` to be one of"),
            ({"format": "onnx", "precision": "int8"}, "to be openvino for int8"),
            ({"format": "torch-export", "precision": "fp16"}, "to be openvino for fp16"),
            ({"format": "openvino", "precision": "int8"}, "`--calibrate PHOTOS`"),
            ({"format": "openvino", "calibrate": []}, "`--calibrate PHOTOS`"),
            ({"format": "openvino", "precision": "int8", "calibrate": []}, "none of 0 could"),
            (
                {"format": "openvino", "precision": "int8", "calibrate": [Photo("a", Path("a"))]},
                "none of 1 could be read; 'a': ",
            ),
            (
                {
                    "format": "openvino",
                    "precision": "int8",
                    "calibrate": [Photo("a", Path("a"))],
                    "calibrate_count": 0,
                },
                "Expected `--calibrate-count` to be at least 1",
            ),
        ],
    )
    def test_options_that_do_not_go_together(self, run, tmp_path, options, said):
        with pytest.raises(VsamError, match=re.escape(said)) as refused:
            export_run(run, tmp_path / "out", **options)
        assert "\n" not in str(refused.value)
        assert list(tmp_path.iterdir()) == []

    def test_an_export_is_not_exported_nor_trained(self, exports, tiny_data, tmp_path):
        with pytest.raises(VsamError, match=r"it is an export: .* not trained or exported again"):
            export_run(exports["onnx"], tmp_path / "out", format="openvino")
        with pytest.raises(VsamError, match=r"it is an export: .* not trained or exported again"):
            train(train_config(tiny_data, tmp_path / "run", init=exports["onnx"]))
        before = (exports["onnx"] / "config.json").read_bytes()
        with pytest.raises(VsamError, match="it holds an export"):
            train(train_config(tiny_data, exports["onnx"]))
        assert (exports["onnx"] / "config.json").read_bytes() == before

    def test_a_folder_that_is_there(self, run, exports):
        with pytest.raises(VsamError, match="it is there already"):
            export_run(run, exports["onnx"], format="onnx")

    def test_a_run_that_is_none(self, run, tmp_path):
        with pytest.raises(VsamError, match="it is not there"):
            export_run(tmp_path / "none", tmp_path / "out", format="onnx")
        shutil.copytree(run, tmp_path / "run")
        (tmp_path / "run" / run_folder.WEIGHTS).write_bytes(b"")
        with pytest.raises(VsamError, match="to be a safetensors file"):
            export_run(tmp_path / "run", tmp_path / "out", format="onnx")
        assert [path.name for path in tmp_path.iterdir()] == ["run"]

    def test_a_failure_leaves_nothing(self, run, tmp_path, monkeypatch):
        def fail(*_: object) -> None:
            assert [path.suffix for path in tmp_path.iterdir()] == [".tmp"]
            raise RuntimeError("the disk of a tool")

        monkeypatch.setattr(making, "trace", fail)
        with pytest.raises(RuntimeError):
            export_run(run, tmp_path / "out", format="openvino")
        assert list(tmp_path.iterdir()) == []
