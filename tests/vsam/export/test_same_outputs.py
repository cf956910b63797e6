"""Exports compute what the run computes."""

import numpy as np
import pytest
import torch
from drawn_run import ATTRIBUTES, CATEGORIES
from exports import CLOSE, FORMATS, exported_as, scores

from vsam import run_folder
from vsam.export import onnx_format, openvino_format, torch_format
from vsam.export.folder import FILES, Exported
from vsam.export.making import export_run
from vsam.export.program import trace
from vsam.modeling.build import ModelConfig, build_vsam
from vsam.modeling.model import VsamOutput
from vsam.networks import load_network
from vsam.predictor import Predictor
from vsam.run_folder import load_checkpoint
from vsam_datasets.preprocessing import Preprocessing
from vsam_heatmaps.photos import list_photos


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
def test_requests_of_several_photos_give_the_same(exports, images):
    exported = exported_as(exports["openvino"], "openvino")
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


class _Maps(torch.nn.Module):
    """Stands for models with several maps, or none."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.maps = maps
        self.conv = torch.nn.Conv2d(3, 4, 4, stride=4)

    def forward(self, images: torch.Tensor) -> VsamOutput:
        x = self.conv(images)
        pooled = x.mean(dim=(2, 3))
        none = pooled.new_zeros(pooled.shape[0], 0, 1)
        return VsamOutput(pooled[:, :3], pooled[:, 3:], x[:, : self.maps].sigmoid(), none)


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
        outputs={
            "category_logits": (3,),
            "attribute_logits": (1,),
            "attention": (maps, 8, 8),
            "contributions": (0, 1),
        },
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
