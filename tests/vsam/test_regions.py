"""Region attention: what it computes, what supervises it, and what becomes of a run with it."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny import train_config
from torchvision.models import get_model, resnet18, vgg16

from vsam.attention_losses import attention_loss
from vsam.backbones import load_backbone
from vsam.export.making import export_run
from vsam.modeling.build import ModelConfig, build_vsam
from vsam.modeling.regions import RegionVSAM
from vsam.predictor import Predictor
from vsam.run_folder import load_checkpoint, read_description
from vsam.training import train
from vsam_datasets.pairs import PairDataset
from vsam_datasets.preprocessing import Preprocessing
from vsam_datasets.tables import read_labels
from vsam_heatmaps.errors import VsamError
from vsam_heatmaps.landmarks import PARTS
from vsam_heatmaps.photos import list_photos
from vsam_heatmaps.shards import Shards

REGIONS = ("head", "torso", "feet")
BACKBONES = ("vgg16", "resnet18", "convnext_tiny", "vit_tiny_patch16_224", "test_resnet")


def small(**changed) -> ModelConfig:
    values = {"categories": 3, "attributes": 4, "image_size": 64, "attention": "regions"}
    if changed.get("backbone", "vgg16") == "vgg16":
        values["width"] = 0.05
    return ModelConfig(**{"regions": REGIONS, **values, **changed})


def built(**changed) -> RegionVSAM:
    torch.manual_seed(0)
    model = build_vsam(small(**changed))
    assert isinstance(model, RegionVSAM)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
        model.attention.locate.weight.mul_(100)  # maps that are not flat
        model.usual_vectors.normal_()
    return model


@pytest.fixture(scope="module")
def run(tiny_data, tmp_path_factory) -> Path:
    """Give a run with region attention on the tiny data. Only read it."""
    out = tmp_path_factory.mktemp("regions") / "run"
    train(train_config(tiny_data, out, attention="regions", regions=REGIONS, image_size=64))
    return out


@torch.inference_mode()
def test_it_computes_what_a_loop_over_regions_and_pixels_computes():
    model = built().double().eval()
    output = model(images := torch.randn(2, 3, 64, 64).double())
    features = images
    for layer in model.features:
        features = layer(features)
    assert features.shape[-2:] == (4, 4), "after VGG's fourth block"
    features = model.norm(features).numpy()
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    squeeze = state["attention.squeeze.weight"][:, :, 0, 0]
    for photo in range(2):
        seen = np.einsum("kc,chw->khw", squeeze, features[photo])
        seen = np.maximum(seen + state["attention.squeeze.bias"][:, None, None], 0)
        padded = np.pad(seen, ((0, 0), (1, 1), (1, 1)))
        logits = {
            kind: state[f"{kind}_head.linear.bias"].copy() for kind in ("category", "attribute")
        }
        channels = len(features[photo])
        for region in range(3):
            weights = state["attention.locate.weight"][region]
            scores = np.array(
                [
                    [(padded[:, y : y + 3, x : x + 3] * weights).sum() for x in range(4)]
                    for y in range(4)
                ]
            )
            powers = np.exp(scores + state["attention.locate.bias"][region])
            of_map = powers / powers.sum()
            np.testing.assert_allclose(output.attention[photo, region], of_map, rtol=1e-10)
            vector = sum(
                features[photo, :, y, x] * of_map[y, x] for y in range(4) for x in range(4)
            )
            columns = slice(region * channels, (region + 1) * channels)
            for kind in logits:
                logits[kind] += state[f"{kind}_head.linear.weight"][:, columns] @ vector
            added = state["attribute_head.linear.weight"][:, columns] @ (
                vector - state["usual_vectors"][region]
            )
            np.testing.assert_allclose(output.contributions[photo, region], added, atol=1e-10)
        np.testing.assert_allclose(output.category_logits[photo], logits["category"], atol=1e-10)
        np.testing.assert_allclose(output.attribute_logits[photo], logits["attribute"], atol=1e-10)


def test_what_is_usual_is_a_step_s_photos_at_first_and_then_follows_slowly():
    torch.manual_seed(0)
    model = build_vsam(small()).double().train()
    steps = [torch.randn(6, model.features.out_channels, 4, 4).double() for _ in range(2)]

    def average(step) -> torch.Tensor:
        with torch.no_grad():
            return model.read(step).contributions.mean(dim=0)

    torch.testing.assert_close(average(steps[0]), torch.zeros(3, 4).double())
    second = average(steps[1])  # 0.9 of the way from the first step to the second
    assert second.abs().max() > 1e-4
    third = average(steps[0])  # 0.09 of that way are left, backwards
    torch.testing.assert_close(third, -0.1 * second)


def test_contributions_are_relative_to_what_the_training_saw():
    model = built().train()
    features = torch.randn(6, model.features.out_channels, 4, 4)
    for _ in range(200):
        model.read(features)
    mean = model.eval().read(features).contributions.mean(dim=0)
    # Evaluation normalises with the training's statistics, whose variance counts n - 1 pixels.
    torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=2e-2)
    assert model.read(features).contributions.abs().max() > 0.1


@torch.inference_mode()
def test_given_maps_take_the_place_of_its_own():
    model = built().eval()
    features = torch.randn(2, model.features.out_channels, 4, 4)
    own = model.read(features)
    again = model.read(features, own.attention)
    torch.testing.assert_close(again.attribute_logits, own.attribute_logits)
    elsewhere = model.read(features, torch.zeros(2, 3, 4, 4).index_fill(3, torch.tensor(1), 0.25))
    assert not torch.allclose(elsewhere.attribute_logits, own.attribute_logits)
    assert elsewhere.attention.sum(dim=(2, 3)).allclose(torch.ones(2, 3))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_parameter_learns(backbone):
    model = built(backbone=backbone).train()
    output = model(torch.randn(4, 3, 64, 64))
    assert [tuple(tensor.shape) for tensor in output] == [(4, 3), (4, 4), (4, 3, 4, 4), (4, 3, 4)]
    loss = output.category_logits.square().sum() + output.attribute_logits.square().sum()
    (loss + output.attention.square().sum()).backward()
    silent = [name for name, value in model.named_parameters() if not value.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize("backbone", BACKBONES)
@torch.inference_mode()
def test_the_cut_backbone_is_the_beginning_of_the_whole_one(backbone):
    whole = build_vsam(small(backbone=backbone, attention="none", regions=())).features.eval()
    cut = build_vsam(small(backbone=backbone)).features.eval()
    state = whole.state_dict()
    cut.load_state_dict({name: state[name] for name in cut.state_dict()})
    images, stages = torch.randn(1, 3, 64, 64), []
    last = whole(images, lambda seen: (stages.extend(seen), seen[-1])[1])
    wanted = last if backbone.startswith("vit") else stages[-1]
    torch.testing.assert_close(cut(images, lambda seen: seen[-1]), wanted)
    assert cut.out_stride == 16
    assert cut.out_channels == wanted.shape[1]
    assert backbone.startswith("vit") or len(cut.state_dict()) < len(state)
    assert cut.whole().state_dict().keys() == state.keys()


@pytest.mark.parametrize("name", ["vgg16", "resnet18"])
def test_weights_of_the_library_fill_a_cut_backbone(tmp_path, name):
    library = get_model(name, weights=None)
    torch.save(library.state_dict(), tmp_path / "w.pth")
    config = ModelConfig(
        categories=2,
        attributes=2,
        image_size=64,
        backbone=name,
        attention="regions",
        regions=("head",),
    )
    model = build_vsam(config)
    load_backbone(model, tmp_path / "w.pth")
    theirs = library.state_dict()
    names = model.features.library_names()
    assert names
    assert all(
        theirs[names[ours]].equal(value) for ours, value in model.features.state_dict().items()
    )
    other = {"vgg16": resnet18, "resnet18": vgg16}[name]
    torch.save(other(weights=None).state_dict(), tmp_path / "other.pth")
    with pytest.raises(VsamError, match=r"other\.pth to hold"):
        load_backbone(model, tmp_path / "other.pth")


@pytest.mark.parametrize("regulariser", ["kl", "l2", "l2-squared"])
def test_masked_supervision_equals_a_loop(regulariser):
    rng = np.random.default_rng(3)
    maps = rng.uniform(0, 1, (4, 3, 5, 5)) ** 3
    maps /= maps.sum(axis=(2, 3), keepdims=True)
    heat = rng.uniform(0, 1, (4, 3, 5, 5)) ** 4
    heat[0, 2] = 0  # cropped away
    heat[3] = 0
    has_pose = np.array([True, False, True, True])
    total = 0.0
    for photo in range(4):
        for region in range(3):
            if not has_pose[photo] or heat[photo, region].sum() == 0:
                continue
            wanted, given = heat[photo, region] / heat[photo, region].sum(), maps[photo, region]
            total += {
                "kl": (wanted * np.log(wanted / given)).sum(),
                "l2": np.sqrt(((wanted - given) ** 2).sum()),
                "l2-squared": ((wanted - given) ** 2).sum(),
            }[regulariser]
    attention = torch.from_numpy(maps).requires_grad_()
    loss = attention_loss(
        attention,
        torch.from_numpy(heat),
        torch.from_numpy(has_pose),
        regulariser=regulariser,
        distributions=True,
    )
    assert loss.item() == pytest.approx(total / 12, rel=1e-6)
    loss.backward()
    moved = attention.grad.abs().sum(dim=(2, 3)) > 0
    assert moved.tolist() == [[True, True, False], [False] * 3, [True] * 3, [False] * 3]


def test_supervision_of_sharp_maps_stays_finite():
    scores = torch.full((1, 1, 4, 4), -200.0)
    scores[..., 0, 0] = 200  # all other pixels have the probability 0 in float32
    scores.requires_grad_()
    maps = scores.flatten(2).softmax(2).view(1, 1, 4, 4)
    heat = torch.zeros(1, 1, 4, 4)
    heat[..., 3, 3] = 1
    loss = attention_loss(maps, heat, torch.tensor([True]), regulariser="kl", distributions=True)
    loss.backward()
    assert loss.isfinite()
    assert loss > 50
    assert scores.grad.isfinite().all()


def test_pairs_give_one_map_for_each_region(tiny_data):
    table, shards = read_labels(tiny_data / "labels.csv", tiny_data / "photos"), None
    shards = Shards(tiny_data / "shards")
    pairs = PairDataset(
        table.rows,
        tiny_data / "photos",
        categories=table.categories,
        attributes=table.attributes,
        preprocessing=Preprocessing(image_size=32),
        map_side=shards.info.side,
        shards=shards,
        regions=REGIONS,
    )
    composed = {"torso": ("shoulders", "hips")}
    stored = dict(zip(PARTS, shards[table.rows[0].image].heatmaps, strict=True))
    for region, found in zip(REGIONS, pairs[0]["heatmap"], strict=True):
        parts = [stored[part] for part in composed.get(region, (region,))]
        np.testing.assert_array_equal(np.rint(found.numpy() * 255), np.max(parts, axis=0))
    for number in (1, 2):  # no pose, and no record
        assert pairs[number]["heatmap"].shape == (3, shards.info.side, shards.info.side)
        assert not pairs[number]["has_pose"]
        assert not pairs[number]["heatmap"].any()


def test_a_run_says_what_its_maps_are_and_how_they_were_supervised(run):
    description = read_description(run)
    assert description.config.regions == REGIONS
    assert description.config.attention == "regions"
    assert description.training["regions"] == list(REGIONS)
    assert description.training["regulariser"] == "kl"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["train_attention"] > 0


def test_supervision_brings_the_maps_to_the_pose(tiny_data, tmp_path):
    """The tiny photos' persons stand left or right; maps must follow them."""
    found = {}
    for weight in (0.0, 10.0):
        out = tmp_path / str(weight)
        settings = {"attention": "regions", "regions": ("full",), "image_size": 64, "epochs": 12}
        train(train_config(tiny_data, out, pose_weight=weight, lr=1e-2, min_crop=1.0, **settings))
        predict = Predictor.from_pretrained(out)
        photos = list_photos([tiny_data / "photos"])
        shards = Shards(tiny_data / "shards")
        distances = []
        for photo, prediction in zip(photos, predict([p.path for p in photos]), strict=True):
            if photo.id not in shards or not shards[photo.id].heatmaps.any():
                continue
            wanted = cv2.resize(
                shards.regions(photo.id, ["full"])[0].astype(np.float64),
                (4, 4),
                interpolation=cv2.INTER_AREA,
            )
            distances.append(np.abs(prediction.attention[0] - wanted / wanted.sum()).sum() / 2)
        found[weight] = np.mean(distances)
    assert found[10.0] < 0.75 * found[0.0], found


def test_a_stopped_run_goes_on_as_if_it_had_not_been(run, tiny_data, tmp_path):
    settings = {"attention": "regions", "regions": REGIONS, "image_size": 64}
    train(train_config(tiny_data, tmp_path / "run", **settings | {"epochs": 1}))
    # The learning rate follows the number of epochs, so only the names and shapes are compared.
    train(train_config(tiny_data, tmp_path / "run", **settings), resume=True)
    ours, theirs = (
        load_checkpoint(folder).model.state_dict() for folder in (tmp_path / "run", run)
    )
    assert {name: value.shape for name, value in ours.items()} == {
        name: value.shape for name, value in theirs.items()
    }
    with pytest.raises(VsamError, match="Expected `regions` to be"):
        train(
            train_config(tiny_data, tmp_path / "run", **settings | {"regions": ("feet",)}),
            resume=True,
        )


@pytest.mark.parametrize("format", ["openvino", "onnx", "torch-export"])
def test_exports_say_the_same(run, tiny_data, tmp_path, format):
    export_run(run, tmp_path / "export", format=format)
    photos = [photo.path for photo in list_photos([tiny_data / "photos"])][:5]
    ours = Predictor.from_pretrained(run)(photos)
    theirs = Predictor.from_pretrained(tmp_path / "export")(photos)
    for a, b in zip(ours, theirs, strict=True):
        assert b.regions == REGIONS
        for name in ("category_scores", "attribute_scores", "attention", "contributions"):
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=1e-4)


def test_int8_keeps_the_regions(run, tiny_data, tmp_path):
    photos = list_photos([tiny_data / "photos"])
    export_run(run, tmp_path / "export", format="openvino", precision="int8", calibrate=photos)
    prediction = Predictor.from_pretrained(tmp_path / "export")(photos[0].path)
    assert prediction.attention.shape == (3, 4, 4)
    assert prediction.contributions.shape == (3, 2)
    np.testing.assert_allclose(prediction.attention.sum(axis=(1, 2)), 1, atol=1e-3)


def test_predictions_name_the_region_that_spoke_and_draw_it(run, tiny_data):
    predict = Predictor.from_pretrained(run)
    path = list_photos([tiny_data / "photos"])[0].path
    prediction = predict(path)
    assert predict.regions == prediction.regions == REGIONS
    by_hand = {
        name: REGIONS[int(np.argmax(prediction.contributions[:, index]))]
        for index, name in enumerate(prediction.labels.attributes)
    }
    assert {name: prediction.spoke(name) for name in by_hand} == by_hand
    told = prediction.describe(all_scores=True)["attributes"]
    assert {entry["label"]: entry["region"] for entry in told} == by_hand
    whole, head = prediction.overlay(), prediction.overlay(region="head")
    assert whole.shape == head.shape == (48, 40, 3)
    assert not np.array_equal(whole, head)
    spoken = {by_hand[name] for name in by_hand}
    assert prediction.picture(threshold=0.0).shape[1] == 40 * (1 + len(spoken))
    assert prediction.picture(threshold=0.999).shape[1] == 40
    with pytest.raises(VsamError, match="`region` to be one of head, torso, feet, but got 'knees'"):
        prediction.overlay(region="knees")
    with pytest.raises(VsamError, match="`attribute` to be one of the model's, but got 'belt'"):
        prediction.spoke("belt")


def test_other_models_have_no_region_that_could_speak(tiny_run):
    prediction = Predictor.from_pretrained(tiny_run)(np.zeros((40, 40, 3), np.uint8))
    assert prediction.regions == ()
    assert prediction.contributions.shape[0] == 0
    assert "region" not in prediction.describe(all_scores=True)["attributes"][0]
    with pytest.raises(VsamError, match="trained with --attention regions"):
        prediction.spoke("left")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"regions": ()}, "`regions` to be names of one region or more, but got ''"),
        ({"regions": ("head", "")}, "`regions` to be names of one region or more, but got 'head,'"),
        ({"regions": ("head", "feet", "head")}, "named once, but head is named 2 times"),
        (
            {"attention": "single"},
            "`regions` to be left out with the attention single, but got head",
        ),
    ],
)
def test_impossible_models_are_refused(changed, said):
    with pytest.raises(VsamError) as refused:
        small(**changed)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"regions": ("head", "tail")}, "--regions` to be one of head, shoulders"),
        ({"regions": ("collar",)}, "--regions` to be one of head, shoulders"),
        ({"regions": ("tail",), "pose_weight": 0.0}, "--regions` to be one of head, shoulders"),
        ({"regions": ("head", "head")}, "named once, but head is named 2 times"),
        ({"regions": ()}, "names of one region or more"),
        ({"attention": "single", "regions": ("head",)}, "`--regions` to be given with --attention"),
        ({"region": "torso"}, "`--region` to be left out with --attention regions"),
        ({"category_regions": Path("x.csv")}, "`--category-regions` to be left out"),
        ({"regulariser": "bce"}, "but got bce: it compares pixels"),
        ({"temperature": 0.5}, "a temperature to be given with λ above 0, a single map"),
    ],
)
def test_impossible_trainings_are_refused(tiny_data, tmp_path, changed, said):
    with pytest.raises(VsamError) as refused:
        train(train_config(tiny_data, tmp_path / "run", **{"attention": "regions", **changed}))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_run_starts_another_one_with_the_same_regions_alone(run, tiny_data, tmp_path):
    settings = {"attention": "regions", "image_size": 64, "init": run, "epochs": 1}
    train(train_config(tiny_data, tmp_path / "more", regions=REGIONS, **settings))
    with pytest.raises(VsamError, match=r"head,torso,feet, as in .*Give --regions head,torso,feet"):
        train(train_config(tiny_data, tmp_path / "other", regions=("head",), **settings))
