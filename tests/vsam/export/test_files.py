"""What the files of an export hold, in float32, float16 and int8."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from exports import CLOSE, FORMATS, exported_as, scores
from PIL import Image

from vsam import run_folder
from vsam.export import openvino_format
from vsam.export.calibration import read_calibration_photos
from vsam.export.folder import FILES, sync_and_hash
from vsam.export.making import export_run
from vsam.modeling.build import ModelConfig, build_vsam
from vsam.networks import load_network
from vsam.predictor import Predictor
from vsam_datasets.preprocessing import Preprocessing
from vsam_heatmaps.openvino_core import openvino_core
from vsam_heatmaps.photos import Photo, list_photos


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
    after = openvino_format.OpenVinoNetwork(exported_as(tmp_path, "openvino"))(images)
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


def test_int8_pools_with_a_broad_map_beside_a_sharp_one(tmp_path):
    """In steps of 1/255 of the sharp one's peak, the broad one would lose a quarter."""
    config = ModelConfig(
        categories=3,
        attributes=4,
        image_size=224,
        width=0.125,
        batch_norm=True,
        attention="regions",
        regions=("head", "full"),
    )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = build_vsam(config)
        model.attention.locate.weight[0] *= 1000
        model.attention.locate.weight[1] = 0  # flat: 1/196 everywhere
    with run_folder.new_run(tmp_path / "run") as made:
        run_folder.save_tensors(made / run_folder.WEIGHTS, model.state_dict(), {})
        run_folder.save_description(
            made,
            config=config,
            preprocessing=Preprocessing(),
            labels=run_folder.Labels(("a", "b", "c"), ("d", "e", "f", "g")),
            threshold=0.5,
            training={},
        )
    photos = np.random.default_rng(0).integers(0, 256, (8, 4, 3, 3), np.uint8)
    (tmp_path / "photos").mkdir()
    for number, photo in enumerate(photos):
        Image.fromarray(photo).save(tmp_path / "photos" / f"{number}.png")
    listed = list_photos([tmp_path / "photos"])
    export_run(
        tmp_path / "run", tmp_path / "int8", format="openvino", precision="int8", calibrate=listed
    )
    exact, rounded = (
        Predictor.from_run(tmp_path / name, device="cpu")(list(photos)) for name in ("run", "int8")
    )
    assert max(prediction.attention[0].max() for prediction in exact) > 0.9
    before, after = (np.stack([one.contributions[1] for one in made]) for made in (exact, rounded))
    # The backbone's own rounding takes some hundredths.
    assert (after * before).sum() / (before**2).sum() == pytest.approx(1, abs=0.1)


def _comes_from_int8(layer) -> bool:
    node = layer.input_value(1).get_node()
    while node.get_type_name() in ("Multiply", "Subtract", "Convert", "Reshape"):
        node = node.input_value(0).get_node()
    return node.get_element_type() in (openvino.Type.i8, openvino.Type.u8)


@pytest.mark.parametrize("format", FORMATS)
def test_a_network_in_use_needs_its_files_no_more(exports, images, tmp_path, format):
    """In a process of its own: a file that is mapped and cut ends it with a bus error."""
    copy = tmp_path / "copy"
    shutil.copytree(exports[format], copy)
    np.save(tmp_path / "images.npy", images)
    program = (
        "import sys, numpy as np, torch; from pathlib import Path\n"
        "from vsam.networks import load_network\n"
        "folder, images = Path(sys.argv[1]), torch.from_numpy(np.load(sys.argv[2]))\n"
        "network = load_network(folder, device='cpu')\n"
        "for path in folder.iterdir(): path.write_bytes(b'')\n"
        "np.save(sys.argv[3], network(images).attribute_logits)"
    )
    paths = (copy, tmp_path / "images.npy", tmp_path / "logits.npy")
    subprocess.run([sys.executable, "-c", program, *paths], check=True, timeout=120)
    expected = load_network(exports[format], device="cpu")(images).attribute_logits
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, **CLOSE)


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
