"""The configuration: defaults, then a file, then the command line; and what is refused."""

import dataclasses
import inspect
import re
import typing
from pathlib import Path

import pytest

from vsam.config import TrainConfig, resolve_config
from vsam_cli.train import train as train_command
from vsam_heatmaps.errors import VsamError

NEEDED = {"data": Path("l.csv"), "photos": Path("p"), "out": Path("o"), "heatmaps": Path("h")}


def from_yaml(tmp_path: Path, text: str, **given) -> TrainConfig:
    file = tmp_path / "train.yaml"
    file.write_text(text, encoding="utf-8")
    return resolve_config(file, {**NEEDED, **given})


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(VsamError) as refused:
        from_yaml(tmp_path, text)
    message = str(refused.value)
    assert "\n" not in message
    assert "train.yaml" in message
    return message


def test_the_command_line_goes_before_the_file_and_the_file_before_the_defaults(tmp_path):
    config = from_yaml(tmp_path, "epochs: 3\nbatch-size: 4\n", epochs=5, seed=None)
    assert (config.epochs, config.batch_size, config.seed) == (5, 4, 0)


def test_what_the_command_line_leaves_out_the_file_may_give(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("data: a.csv\nphotos: ph\nout: run\nheatmaps: maps\n")
    config = resolve_config(file, {"data": None, "photos": None, "out": Path("other")})
    assert config.data == Path("a.csv")
    assert config.heatmaps == Path("maps")
    assert config.out == Path("other")


def test_options_are_named_as_on_the_command_line_or_as_the_fields(tmp_path):
    config = from_yaml(
        tmp_path, "lambda: 2.5\nimage-size: 64\nbatch_norm: true\nweight-decay: 0.1\n"
    )
    assert config.pose_weight == 2.5
    assert config.image_size == 64
    assert config.batch_norm is True
    assert config.weight_decay == 0.1


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("1.0e-4", 1e-4), ("5", 5.0), ("0.25", 0.25), ("1", 1.0), ("1.0", 1.0)],
)
def test_numbers_are_floats_however_they_are_written(tmp_path, text, value):
    config = from_yaml(tmp_path, f"lr: {text}\n")
    assert config.lr == value
    assert type(config.lr) is float


def test_zero_is_a_number_not_false(tmp_path):
    config = from_yaml(tmp_path, "lambda: 0\ndropout: 0\nseed: 0\nnum_workers: 0\n")
    assert (config.pose_weight, config.dropout) == (0.0, 0.0)
    assert (config.seed, config.num_workers) == (0, 0)
    assert config.batch_norm is False


@pytest.mark.parametrize("nothing", ["none", "null", "~", ""])
def test_optional_values_can_be_none(tmp_path, nothing):
    config = from_yaml(tmp_path, f"backbone-weights: {nothing}\nnum-workers: {nothing}\n")
    assert config.backbone_weights is None
    assert config.num_workers is None


def test_none_on_the_command_line_takes_the_files_weights_back(tmp_path):
    config = from_yaml(tmp_path, "backbone-weights: vgg.pth\n", backbone_weights="none")
    assert config.backbone_weights is None


def test_an_empty_file_gives_nothing(tmp_path):
    assert from_yaml(tmp_path, "# nothing yet\n") == TrainConfig(**NEEDED)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoch: 3", "names the unknown option `epoch`. Did you mean `epochs`?"),
        ("learning_rate_of_the_thing: 3", "names the unknown option"),
        ("batch-sise: 3", "Did you mean `batch_size`?"),
        ("5: 3", "names the unknown option `5`"),
        ("epochs: many", "Expected `epochs in"),
        ("epochs: 2.5", "to be a int, but got 2.5"),
        ("epochs: true", "to be a int, but got True"),
        ("epochs:", "to be a int, but got None"),
        ("lr: fast", "to be a float, but got 'fast'"),
        ("lr: true", "to be a float, but got True"),
        ("lr: false", "to be a float, but got False"),
        ("batch-norm: 1", "to be a bool, but got 1"),
        ("batch-norm: 'yes'", "to be a bool, but got 'yes'"),
        ("heatmaps: [a, b]", "to be a Path, but got ['a', 'b']"),
        ("region: 7", "to be a str, but got 7"),
        ("regulariser:", "to be a str, but got None"),
        ("learn-temperature: 1", "to be a bool, but got 1"),
        ("- epochs\n- lr", "to hold options as `name: value` lines"),
        ("just words", "to hold options as `name: value` lines"),
        ("epochs: [1,", "is no YAML"),
        ("a: b: c", "is no YAML"),
        ("out: 2026-02-30", "is no YAML: day is out of range for month"),
        ("seed: 0x_", "is no YAML"),
        ("seed: 1\nseed: 2", "is no YAML: `seed` twice"),
        ("image-size: 64\nimage_size: 96", "gives `image_size` twice. Take one out."),
        ("lambda: 1\npose_weight: 2", "gives `pose_weight` twice. Take one out."),
        ("lambda: 1" + 400 * "0", "to be a float"),
        ("[]", "to hold options as `name: value` lines"),
        ("0", "to hold options as `name: value` lines"),
        ("lr: !!python/object/apply:os.getcwd []", "is no YAML"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, text, said):
    assert said in refusal(tmp_path, text)


def test_a_missing_file_and_one_that_is_no_text_are_refused(tmp_path):
    with pytest.raises(VsamError, match=r"Could not read .*none\.yaml"):
        resolve_config(tmp_path / "none.yaml", NEEDED)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00epochs")
    with pytest.raises(VsamError, match=r"Could not read .*binary\.yaml"):
        resolve_config(tmp_path / "binary.yaml", NEEDED)


@pytest.mark.parametrize("name", ["data", "photos", "out"])
def test_required_options_are_required(name):
    with pytest.raises(VsamError, match=f"Expected `--{name}` to be given"):
        resolve_config(None, {**NEEDED, name: None})


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("epochs", 0, "epochs"),
        ("batch_size", 0, "batch_size"),
        ("lr", 0.0, "lr"),
        ("lr", -1.0, "lr"),
        ("lr", float("nan"), "lr"),
        ("pose_weight", -1.0, "lambda"),
        ("pose_weight", float("nan"), "lambda"),
        ("pose_weight", float("inf"), "lambda"),
        ("lr", float("inf"), "lr"),
        ("attribute_weight", -0.1, "attribute_weight"),
        ("attribute_weight", float("nan"), "attribute_weight"),
        ("attribute_weight", float("inf"), "attribute_weight"),
        ("weight_decay", float("nan"), "weight_decay"),
        ("weight_decay", float("inf"), "weight_decay"),
        ("min_crop", float("nan"), "min_crop"),
        ("threshold", float("nan"), "threshold"),
        ("width", float("inf"), "width"),
        ("lambda_warmup", -0.5, "lambda_warmup"),
        ("lambda_warmup", 20.5, "lambda_warmup"),
        ("lambda_warmup", float("nan"), "lambda_warmup"),
        ("lambda_warmup", float("inf"), "lambda_warmup"),
        ("lambda_decay", "steps", "lambda_decay"),
        ("regulariser", "l3", "regulariser"),
        ("temperature", 0.0, "temperature"),
        ("temperature", -1.0, "temperature"),
        ("temperature", 1e-5, "temperature"),
        ("temperature", 1e5, "temperature"),
        ("temperature", float("nan"), "temperature"),
        ("temperature", float("inf"), "temperature"),
        ("weight_decay", -0.1, "weight_decay"),
        ("seed", -1, "seed"),
        ("seed", 2**32, "seed"),
        ("num_workers", -1, "num_workers"),
        ("max_pixels", 0, "max_pixels"),
        ("threshold", 0.0, "threshold"),
        ("threshold", 1.0, "threshold"),
        ("device", "tpu", "device"),
        ("precision", "fp8", "precision"),
    ],
)
def test_impossible_values_are_refused(field, value, named):
    with pytest.raises(VsamError, match=f"Expected `{named}` to be"):
        resolve_config(None, {**NEEDED, field: value})


def test_a_pose_weight_needs_heatmaps():
    with pytest.raises(VsamError, match="Expected `--heatmaps` to be given") as refused:
        resolve_config(None, {**NEEDED, "heatmaps": None})
    assert "--lambda 0" in str(refused.value)
    assert resolve_config(None, {**NEEDED, "heatmaps": None, "pose_weight": 0.0}).heatmaps is None


def test_without_a_regulariser_training_needs_no_heatmaps():
    plain = {**NEEDED, "heatmaps": None, "regulariser": "none"}
    assert not resolve_config(None, plain).supervised
    assert not resolve_config(None, {**NEEDED, "pose_weight": 0.0}).supervised
    assert resolve_config(None, NEEDED).supervised


@pytest.mark.parametrize(
    ("changed", "decay"),
    [
        ({}, "none"),
        ({"attention": "regions"}, "cosine"),
        ({"attention": "regions", "lambda_decay": "none"}, "none"),
        ({"attention": "regions", "lambda_decay": "auto"}, "cosine"),
        ({"attention": "regions", "pose_weight": 0.0}, "none"),
        ({"attention": "regions", "regulariser": "none"}, "none"),
    ],
)
def test_where_nothing_else_is_asked_for_the_weight_of_poses_falls_with_regions(changed, decay):
    assert resolve_config(None, {**NEEDED, **changed}).lambda_decay == decay


@pytest.mark.parametrize("changed", [{"learn_temperature": True}, {"temperature": 0.5}])
def test_a_temperature_without_a_soft_maximum_is_refused(changed):
    for without in ({"regulariser": "bce"}, {"regulariser": "none"}, {"pose_weight": 0.0}):
        with pytest.raises(
            VsamError, match=r"Expected a temperature to be given with λ"
        ) as refused:
            resolve_config(None, {**NEEDED, **without, **changed})
        assert "\n" not in str(refused.value)
    for name in ("l2", "l2-squared", "kl"):
        resolve_config(None, {**NEEDED, "regulariser": name, **changed})


def test_regions_of_categories_without_the_choice_by_category_are_refused():
    given = {**NEEDED, "category_regions": Path("regions.csv")}
    with pytest.raises(VsamError, match="but the region is 'full'"):
        resolve_config(None, {**given, "region": "full"})
    assert resolve_config(None, given).category_regions == Path("regions.csv")


def test_none_is_a_name_where_a_field_has_one(tmp_path):
    config = from_yaml(tmp_path, "regulariser: none\nlambda-decay: none\n")
    assert (config.regulariser, config.lambda_decay) == ("none", "none")
    config = from_yaml(
        tmp_path, "regulariser: kl\nlambda-decay: linear\n", regulariser="none", lambda_decay="none"
    )
    assert (config.regulariser, config.lambda_decay) == ("none", "none")


def test_the_configuration_is_json_with_paths_as_text(tmp_path):
    values = TrainConfig(**NEEDED, num_workers=2).to_json()
    assert set(values) == {field.name for field in dataclasses.fields(TrainConfig)}
    assert values["data"] == "l.csv"
    assert values["backbone_weights"] is None
    assert values["num_workers"] == 2


def test_the_help_texts_name_the_defaults():
    fields = {field.name: field for field in dataclasses.fields(TrainConfig)}
    hints = typing.get_type_hints(train_command, include_extras=True)
    checked = []
    for name in inspect.signature(train_command).parameters:
        option = typing.get_args(hints[name])[1]
        found = re.search(r"\[default: (.*)\]$", option.help or "")
        if name not in fields:
            assert found is None, name
            continue
        default = fields[name].default
        if name in ("data", "photos", "out"):
            assert default is dataclasses.MISSING
            assert option.help.endswith("Required.")
        elif name == "heatmaps":
            assert default is None
        else:
            said = {
                "batch_norm": "batch-norm" if default is True else "no-batch-norm",
                "fit_threshold": "fit-threshold" if default is True else "no-fit-threshold",
                "freeze_backbone": "freeze-backbone" if default is True else "no-freeze-backbone",
                "learn_temperature": "learn-temperature" if default else "no-learn-temperature",
                "category_regions": "none" if default is None else default,
                "backbone_weights": "none" if default is None else default,
                "regions": "none" if default is None else default,
                "init": "none" if default is None else default,
                "num_workers": "up to 4" if default is None else default,
            }.get(name, str(default))
            assert found, name
            assert found[1] == said, name
        checked.append(name)
    assert set(checked) == set(fields)
