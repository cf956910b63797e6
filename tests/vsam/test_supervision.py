"""Supervised training: measures, λ's schedule, a learned temperature, regions of categories."""

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import (
    environment,
    keypoints,
    record,
    shard_info,
    train_config,
    write_shards,
    write_table,
)

from vsam.config import REGULARISERS, TrainConfig
from vsam.run_folder import save_tensors
from vsam.supervision import open_supervision
from vsam.training import train
from vsam_datasets.tables import read_labels
from vsam_heatmaps.errors import VsamError
from vsam_heatmaps.landmarks import PARTS, landmark_indices
from vsam_heatmaps.shards import Record


def epochs_of(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "lr" in line]


def train_anew(config: TrainConfig) -> None:
    """Train as a process of its own would: accelerate allows each only one precision."""
    AcceleratorState._reset_state(reset_partial_state=True)
    train(config)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("regulariser", REGULARISERS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_measure_trains(tiny_data, tmp_path, regulariser, precision):
    run = tmp_path / "run"
    settings = {"epochs": 1, "regulariser": regulariser, "precision": precision}
    train_anew(train_config(tiny_data, run, **settings))
    (line,) = epochs_of(run)
    weighted = 10 * line["train_attention"]
    assert line["train_total"] == pytest.approx(
        line["train_category"] + line["train_attributes"] + weighted, rel=1e-5
    )
    assert (line["train_attention"] > 0) == (regulariser != "none")


@pytest.mark.parametrize("regulariser", [name for name in REGULARISERS if name != "none"])
def test_bf16_comes_close_to_fp32(tiny_data, tmp_path, regulariser):
    terms = {}
    for precision in ("fp32", "bf16"):
        run = tmp_path / precision
        # The first batch alone: later ones are seen by other weights.
        settings = {"epochs": 1, "batch_size": 30, "dropout": 0.0, "regulariser": regulariser}
        train_anew(train_config(tiny_data, run, precision=precision, **settings))
        (line,) = epochs_of(run)
        terms[precision] = [line[f"train_{name}"] for name in ("category", "attention")]
    # bf16 has eight bits: 0.4 % a value, averaged over many.
    assert terms["bf16"] == pytest.approx(terms["fp32"], rel=0.02)
    assert terms["bf16"] != terms["fp32"]


def test_lambda_is_recorded_and_is_the_weight_that_counts(tiny_data, tmp_path):
    run = tmp_path / "run"
    # One step an epoch: λ at its start is λ of the epoch.
    settings = {"epochs": 4, "batch_size": 30, "lambda_warmup": 2, "lambda_decay": "linear"}
    train(train_config(tiny_data, run, **settings))
    lines = epochs_of(run)
    assert [line["lambda"] for line in lines] == [0, 5, 10, 5]
    for line in lines:
        parts = line["train_category"] + line["train_attributes"]
        parts += line["lambda"] * line["train_attention"]
        assert line["train_total"] == pytest.approx(parts, rel=1e-5)
        assert line["train_attention"] > 0.1  # unweighted


def test_a_learned_temperature_moves_without_decay_and_is_recorded(tiny_data, tmp_path):
    run = tmp_path / "run"
    # Decayed as the weights are, log τ = 0.7 would halve in these four steps.
    settings = {"learn_temperature": True, "temperature": 2.0, "lr": 3e-3, "weight_decay": 100.0}
    train(train_config(tiny_data, run, **settings))
    told = [line["temperature"] for line in epochs_of(run)]
    assert len({2.0, *told}) == 3
    assert told == pytest.approx([2.0, 2.0], rel=0.02)
    saved = load_file(run / "last.safetensors")
    assert float(saved["loss.log_temperature"].exp()) == pytest.approx(told[-1], rel=1e-6)
    moments = [tensor for name, tensor in saved.items() if name.endswith("exp_avg")]
    parameters = [n for n in saved if not n.startswith("optimizer.")]
    assert sum(tensor.shape == () for tensor in moments) == 1
    assert len(moments) < len(parameters)  # statistics of the normalisation have none
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [s.value for s in events.Scalars("temperature")] == pytest.approx(told, rel=1e-6)


def test_a_fixed_temperature_counts_and_is_not_saved(tiny_data, tmp_path):
    terms = []
    for temperature in (1.0, 0.1):
        run = tmp_path / str(temperature)
        train(train_config(tiny_data, run, temperature=temperature, epochs=1, batch_size=30))
        (line,) = epochs_of(run)
        assert "temperature" not in line
        assert not any(name.startswith("loss.") for name in load_file(run / "last.safetensors"))
        terms.append(line["train_attention"])
    assert terms[0] != pytest.approx(terms[1], rel=1e-3)


def test_resuming_needs_the_learned_temperature(tiny_data, tmp_path):
    run = tmp_path / "run"
    train(train_config(tiny_data, run, epochs=1, learn_temperature=True))
    with pytest.raises(VsamError, match="Expected `learn_temperature` to be True, as in the run"):
        train(train_config(tiny_data, run, epochs=2), resume=True)
    from safetensors import safe_open

    with safe_open(run / "last.safetensors", framework="pt") as file:
        metadata = file.metadata()
    saved = load_file(run / "last.safetensors")
    del saved["loss.log_temperature"]
    save_tensors(run / "last.safetensors", saved, metadata)
    with pytest.raises(VsamError, match=r"last\.safetensors .* it lacks log_temperature"):
        train(train_config(tiny_data, run, epochs=2, learn_temperature=True), resume=True)


def test_a_run_of_an_older_version_resumes_with_what_it_did(tiny_data, tmp_path):
    run = tmp_path / "run"
    train(train_config(tiny_data, run, epochs=1))
    description = json.loads((run / "config.json").read_text())
    new = ("regulariser", "lambda_warmup", "lambda_decay", "temperature", "learn_temperature")
    for name in (*new, "category_regions"):
        del description["training"][name]
    (run / "config.json").write_text(json.dumps(description))
    with pytest.raises(VsamError, match="Expected `regulariser` to be 'l2', as in the run"):
        train(train_config(tiny_data, run, epochs=2, regulariser="kl"), resume=True)
    train(train_config(tiny_data, run, epochs=2), resume=True)
    assert len(epochs_of(run)) == 2


# Forks after what takes longest, the imports; torchrun sets these variables.
TOGETHER = """
import contextlib
import logging
import os
import sys
from pathlib import Path
from tiny import train_config
from vsam import training
from vsam.training import train
from vsam_heatmaps.errors import VsamError

data, out, port = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
os.environ |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
rank = int(os.fork() == 0)
logging.basicConfig(level=logging.INFO)
os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
for learn in (False, True):
    settings = {"batch_size": 4, "lambda_warmup": 1, "learn_temperature": learn}
    report = train(train_config(data, out / str(learn), **settings), progress=True)
said = [f"best epoch {report.best_epoch}, {report.validation}, {report.test}"]
try:
    diverging = {"batch_norm": False, "lr": 1e15, "epochs": 1, "batch_size": 32}
    train(train_config(data, out / "diverged", **settings | diverging))
except VsamError as error:
    said.append(str(error))
(out / f"{rank}.txt").write_text("\\n".join(said))
train_epoch = training._train_epoch
def stop(epoch, *rest):
    if epoch == 1:
        raise KeyboardInterrupt
    return train_epoch(epoch, *rest)
training._train_epoch = stop
with contextlib.suppress(KeyboardInterrupt):
    train(train_config(data, out / "resumed", **settings))
training._train_epoch = train_epoch
train(train_config(data, out / "resumed", **settings), resume=True)
if rank == 0:
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_two_processes_train_together(tiny_data, tmp_path):
    """As torchrun starts them, with a loss that learns nothing and with one that does."""
    # In the first step of the warm-up the weight of the attention, and of its temperature, is 0.
    ended = subprocess.run(
        [sys.executable, "-c", TOGETHER, tiny_data, tmp_path, str(free_port())],
        env=environment() | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("epoch 1/2: 15 of 15 photos") == 2  # by the first of them alone
    first, second = ((tmp_path / f"{rank}.txt").read_text() for rank in (0, 1))
    assert first == second
    assert re.match(
        r"best epoch [12], Metrics\(.*\), Metrics\(.*\)\nExpected the val scores", first
    )
    for learn in (False, True):
        lines = epochs_of(tmp_path / str(learn))
        assert [line["epoch"] for line in lines] == [1, 2]
        assert ("temperature" in lines[-1]) == learn
    assert lines[-1]["temperature"] != 1
    resumed = epochs_of(tmp_path / "resumed")
    for line in (*lines, *resumed):
        del line["seconds"]
    assert resumed == lines  # each epoch's photos in the order of the undisturbed run
    whole, gone_on = (
        load_file(tmp_path / name / "last.safetensors") for name in ("True", "resumed")
    )
    assert all(tensor.equal(gone_on[name]) for name, tensor in whole.items())


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def described(folder: Path, text: str) -> Path:
    path = folder / "regions.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def shop(tiny_data, tmp_path) -> Path:
    """Give a table whose categories are a shop's own names."""
    names = {"tee": "Oberteil", "jeans": "Beinkleid", "dress": "dress"}
    rows = [
        (row.image, row.split, names[row.category], ";".join(row.attributes))
        for row in read_labels(tiny_data / "labels.csv").rows
    ]
    return write_table(tmp_path / "shop.csv", rows)


def test_categories_without_a_known_region_are_told_once(tiny_data, tmp_path, shop, caplog):
    caplog.set_level(logging.INFO, "vsam")
    config = train_config(tiny_data, tmp_path / "run", data=shop, epochs=1)
    train(config)
    told = [r.getMessage() for r in caplog.records if "category-regions" in r.getMessage()]
    assert told == [
        "Without a known region, so that it is full: the categories Beinkleid, Oberteil. "
        "Name their regions with --category-regions."
    ]
    caplog.clear()
    regions = described(tmp_path, "category,region\noberteil,upper\n")
    table = read_labels(shop)
    named = train_config(tiny_data, tmp_path / "run", data=shop, category_regions=regions)
    found = open_supervision(named, table, 8).category_regions
    assert [found.of(name) for name in table.categories] == ["full", "upper", "full"]
    assert "the categories Beinkleid. " in caplog.text
    caplog.clear()
    regions = described(tmp_path, "category,region\nOberteil,upper\nBeinkleid,knees\ndress,lower\n")
    found = open_supervision(named, table, 8).category_regions
    assert [found.of(name) for name in table.categories] == ["knees", "upper", "lower"]
    assert "Without a known region" not in caplog.text
    open_supervision(train_config(tiny_data, tmp_path, data=shop, region="full"), table, 8)
    assert "Without a known region" not in caplog.text


def test_regions_from_the_file_supervise(tiny_data, tmp_path, shop):
    """With the file that says what DeepFashion does, training is the same as with its names."""
    regions = described(tmp_path, "category,region\nOberteil,upper\nBeinkleid,lower\n")
    attention = {}
    for name, changed in {
        "deepfashion": {},
        "file": {"data": shop, "category_regions": regions},
        "unknown": {"data": shop},
    }.items():
        settings = {"epochs": 1, "batch_size": 30, "lr": 1e-9, **changed}
        train(train_config(tiny_data, tmp_path / name, **settings))
        attention[name] = epochs_of(tmp_path / name)[0]["train_attention"]
    assert attention["file"] == attention["deepfashion"]
    assert attention["unknown"] != attention["deepfashion"]


def test_regions_that_the_shards_do_not_know_are_refused_first(tiny_data, tmp_path, shop):
    regions = described(tmp_path, "category,region\nOberteil,sleeves\n")
    config = train_config(tiny_data, tmp_path / "run", data=shop, category_regions=regions)
    with pytest.raises(VsamError) as refused:
        train(config)
    said = str(refused.value)
    assert said.startswith(f"Expected `region of oberteil in {regions}` to be one of head, ")
    assert said.endswith("but got 'sleeves'.")
    assert not (tmp_path / "run").exists()


def test_shards_must_have_the_channels_of_the_regions_that_are_used(tiny_data, tmp_path, shop):
    info = shard_info(channels=("head", "shoulders", "knees"))
    rows = read_labels(shop).rows
    whole = [record(row.image, keypoints(0.5, 0.5)) for row in rows]
    parts = [
        type(one)(**{**vars(one), "heatmaps": one.heatmaps[[0, 1, 5]], "channels": info.channels})
        for one in whole
    ]
    shards = write_shards(tmp_path / "shards", parts, info)
    table = read_labels(shop)
    for dress, fits in (("shoulders", True), ("lower", False)):
        text = f"category,region\nOberteil,head\nBeinkleid,knees\ndress,{dress}\n"
        config = train_config(
            tiny_data,
            tmp_path / "run",
            data=shop,
            heatmaps=shards,
            category_regions=described(tmp_path, text),
        )
        if fits:
            assert open_supervision(config, table, 8).shards is not None
        else:
            with pytest.raises(VsamError, match="can't be made of these heatmaps' channels"):
                open_supervision(config, table, 8)


def records_without(folder: Path, hidden: dict[str, set[str]]) -> list[Record]:
    """Make records of whole bodies; of some splits' photos the named parts are hidden."""
    records = []
    for row in read_labels(folder / "labels.csv").rows:
        points = keypoints(0.5, 0.5)
        for part in hidden.get(row.split, ()):
            points[list(landmark_indices(PARTS[part])), 2] = 0
        records.append(record(row.image, points))
    return records


def test_regions_that_no_photo_to_train_on_shows_are_told(tiny_data, tmp_path, caplog):
    caplog.set_level(logging.WARNING, "vsam")
    table = read_labels(tiny_data / "labels.csv")
    settings = {"attention": "regions", "regions": ("head", "knees", "feet", "lower")}
    for number, (hidden, told) in enumerate(
        [
            ({"val": {"knees", "feet"}}, []),
            ({"train": {"knees", "feet"}}, ["knees, feet"]),
            ({"train": {"feet"}, "test": {"feet"}}, ["feet"]),
        ]
    ):
        shards = write_shards(tmp_path / str(number), records_without(tiny_data, hidden))
        config = train_config(tiny_data, tmp_path / "run", heatmaps=shards, **settings)
        assert open_supervision(config, table, 4).shards is not None
        assert [r.getMessage() for r in caplog.records] == [
            f"No heatmap of the training split shows {names}, so nothing supervises what looks "
            "there. Name other regions, or add photos that show them."
            for names in told
        ]
        caplog.clear()


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"attention": "regions", "regions": ("knees", "feet")}, "knees, feet"),
        ({"region": "feet"}, "feet"),
    ],
)
def test_regions_of_which_no_photo_to_train_on_shows_any_are_refused(
    tiny_data, tmp_path, changed, names
):
    records = records_without(tiny_data, {"train": {"knees", "feet"}})
    shards = write_shards(tmp_path / "shards", records)
    with pytest.raises(VsamError) as refused:
        train(train_config(tiny_data, tmp_path / "run", heatmaps=shards, **changed))
    assert str(refused.value) == (
        f"Expected {shards} to show one of {names} in photos of the training split, but it shows "
        "none. Name other regions, or train without poses with --lambda 0."
    )
    assert not (tmp_path / "run").exists()


def test_without_supervision_no_shards_are_opened(tiny_data, tmp_path):
    table = read_labels(tiny_data / "labels.csv")
    for changed in ({"regulariser": "none"}, {"pose_weight": 0.0}):
        config = train_config(tiny_data, tmp_path, heatmaps=tmp_path / "none", **changed)
        assert open_supervision(config, table, 8).shards is None
