"""`vsam-predict`: what it writes for a folder, what it refuses, and Ctrl-C."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from local_hub import serving, talk_to
from PIL import Image
from processes import started, wait_until
from pyarrow import table
from pyarrow.parquet import write_table
from safetensors.torch import load_file, save_file
from tiny import call, command, environment, the_error

ODD = ["new\nline.png", "sub/ü 服.png", 'sub/deep/"quoted", comma.jpg', "-dash.png"]


@pytest.fixture(scope="module")
def album(tmp_path_factory) -> Path:
    """Give a folder with odd names, sub-folders, a broken photo and what is none. Only read it."""
    folder = tmp_path_factory.mktemp("album")
    rng = np.random.default_rng(0)
    for number, name in enumerate(ODD):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shape = (30 + 20 * number, 50, 3)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / name)
    (folder / "broken.jpg").write_bytes(b"no photo")
    (folder / "notes.txt").write_text("no photo either")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


@pytest.fixture
def predict(tiny_run, tmp_path, monkeypatch, capsys):
    """Give a function that runs the command: exit code, stdout, stderr."""

    def run(*arguments: object, model: Path | str = tiny_run) -> tuple[int, str, str]:
        given = ["--model", model, "--device", "cpu", *arguments]
        code = call("vsam-predict", given, monkeypatch)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def entries(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


def test_an_output_that_is_a_pipe_is_refused_before_any_work(predict, album, tmp_path):
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    for name in ("--out", "--report"):
        given = {"--out": tmp_path / "p.jsonl", "--report": tmp_path / "r.html"} | {name: pipe}
        code, _, stderr = predict(album, *(word for pair in given.items() for word in pair))
        assert code == 1
        assert f"Expected `{name}` to be a file, but got {pipe}, which is a pipe" in stderr
        assert [path.name for path in tmp_path.iterdir()] == ["pipe.jsonl"]
    assert pipe.is_fifo()


def test_every_photo_gets_a_line_in_sorted_order(predict, album, tmp_path):
    out = tmp_path / "new" / "p.jsonl"
    code, stdout, stderr = predict(album, "--out", out)
    assert code == 3
    assert stdout == ""
    assert "Traceback" not in stderr
    found = entries(out)
    assert [entry["image"] for entry in found] == sorted([*ODD, "broken.jpg"])
    for entry in found:
        if entry["image"] == "broken.jpg":
            assert set(entry) == {"image", "error"}
            assert "not an image" in entry["error"]
            continue
        assert list(entry) == ["image", "category", "score", "categories", "attributes"]
        assert sum(c["score"] for c in entry["categories"]) == pytest.approx(1, abs=1e-5)
        assert {c["label"] for c in entry["categories"]} == {"dress", "jeans", "tee"}
        assert entry["categories"][0] == {"label": entry["category"], "score": entry["score"]}
        ranked = [c["score"] for c in entry["categories"]]
        assert ranked == sorted(ranked, reverse=True)
        assert all(a["score"] > 0.5 for a in entry["attributes"])
    assert [path.name for path in out.parent.iterdir()] == ["p.jsonl"]


def test_all_scores_and_a_threshold_list_what_they_should(predict, tiny_data, tmp_path):
    everything, some, none = (tmp_path / name for name in ("all", "some", "none"))
    photos = tiny_data / "photos"
    assert predict(photos, "--out", everything, "--all-scores")[0] == 0
    assert predict(photos, "--out", some, "--threshold", 0.4)[0] == 0
    assert predict(photos, "--out", none, "--threshold", 1)[0] == 0
    assert len(entries(everything)) == 24
    for full, part, empty in zip(entries(everything), entries(some), entries(none), strict=True):
        assert {a["label"] for a in full["attributes"]} == {"left", "warm"}
        assert part["attributes"] == [a for a in full["attributes"] if a["score"] > 0.4]
        assert part["categories"] == full["categories"]
        assert empty["attributes"] == []


def test_predictions_equal_the_model_applied_by_hand(predict, tiny_data, tiny_run, tmp_path):
    from vsam.run_folder import load_checkpoint

    assert predict(tiny_data / "photos", "--out", tmp_path / "p", "--batch-size", 5)[0] == 0
    checkpoint = load_checkpoint(tiny_run)
    found = entries(tmp_path / "p")
    assert len(found) == 24
    for entry in found:
        photo = np.array(Image.open(tiny_data / "photos" / entry["image"]))
        with torch.inference_mode():
            output = checkpoint.model(checkpoint.preprocessing(photo)[None])
        scores = output.category_logits[0].softmax(0).tolist()
        expected = dict(zip(checkpoint.labels.categories, scores, strict=True))
        for category in entry["categories"]:
            assert category["score"] == pytest.approx(expected[category["label"]], abs=2e-5)


def test_the_batch_and_the_workers_change_nothing(predict, tiny_data, tmp_path):
    outputs = []
    for number, options in enumerate([(1, 1), (7, 3), (64, 2)]):
        out = tmp_path / f"{number}.jsonl"
        assert predict(
            tiny_data / "photos", "--out", out, "--all-scores",
            "--batch-size", options[0], "--workers", options[1],
        )[0] == 0  # fmt: skip
        outputs.append(entries(out))
    for found in outputs[1:]:
        assert [e["image"] for e in found] == [e["image"] for e in outputs[0]]
        for a, b in zip(found, outputs[0], strict=True):
            ours = {s["label"]: s["score"] for s in a["categories"] + a["attributes"]}
            theirs = {s["label"]: s["score"] for s in b["categories"] + b["attributes"]}
            assert ours == pytest.approx(theirs, abs=1e-5)


def test_a_table_says_the_same_as_the_lines(predict, album, tmp_path):
    assert predict(album, "--out", tmp_path / "p.jsonl", "--threshold", 0.3)[0] == 3
    options = ("--out", tmp_path / "p.csv", "--threshold", 0.3, "--format", "csv")
    assert predict(album, *options)[0] == 3
    text = (tmp_path / "p.csv").read_bytes().decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    lines = entries(tmp_path / "p.jsonl")
    assert len(rows) == len(lines) == 5
    for row, entry in zip(rows, lines, strict=True):
        assert row["image"] == entry["image"]
        assert row["error"] == entry.get("error", "")
        assert row["category"] == entry.get("category", "")
        names = [attribute["label"] for attribute in entry.get("attributes", [])]
        assert row["attributes"] == ";".join(names)


def test_a_dash_writes_to_standard_output_alone(run_command, album, tiny_run, tmp_path):
    # The real command: nothing but predictions may come out of it.
    ended = run_command(
        "vsam-predict", album, "--model", tiny_run, "--out", "-", "--device", "cpu", cwd=tmp_path
    )
    assert ended.returncode == 3, ended.stderr
    assert [json.loads(line)["image"] for line in ended.stdout.splitlines()] == sorted(
        [*ODD, "broken.jpg"]
    )
    assert "unreadable: 'broken.jpg'" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.iterdir())


def test_a_reader_that_leaves_early_is_no_error(album, tiny_run):
    with started(
        [command("vsam-predict"), album, "--model", tiny_run, "--out", "-"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.close()
        stderr = process.stderr.read()
        process.wait(timeout=60)
    assert process.returncode in (1, 3)
    assert "Traceback" not in stderr
    assert "Exception ignored" not in stderr


def test_names_too_long_for_a_picture_end_no_run(predict, tmp_path):
    names = ["服" * 83 + "一.jpg", "服" * 83 + "二.jpg", "x" * 223 + ".jpg", "x" * 224 + ".jpg"]
    ids = [*(f"{name[:80]}/{name}" for name in names), "a" * 300 + "/" + "b" * 5000]
    photos, pictures = tmp_path / "photos.parquet", tmp_path / "pictures"
    stored = io.BytesIO()
    Image.new("RGB", (9, 9)).save(stored, "png")
    write_table(table({"id": ids, "image": [stored.getvalue()] * len(ids)}), photos)
    code, *_ = predict(photos, "--out", tmp_path / "p", "--attention", pictures)
    assert code == 0
    assert [entry["image"] for entry in entries(tmp_path / "p")] == sorted(ids)
    found = {str(path.relative_to(pictures)) for path in pictures.rglob("*.attention.jpg")}
    assert len(found) == len(ids)
    assert f"{ids[2]}.attention.jpg" in found  # as long as a name may be
    assert all(any(one.startswith(id_[:60]) for one in found) for id_ in ids)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16"])
def test_a_table_is_the_same_whatever_the_encoding_of_standard_output(
    predict, album, tiny_run, tmp_path, encoding
):
    assert predict(album, "--out", tmp_path / "p.csv")[0] == 3
    given = [album, "--model", tiny_run, "--device", "cpu", "--out", "-", "--format", "csv"]
    done = subprocess.run(
        [command("vsam-predict"), *given],
        env=environment() | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 3
    assert done.stdout == (tmp_path / "p.csv").read_bytes()


def test_a_photo_that_broke_keeps_no_older_picture(predict, tmp_path):
    photos, pictures = tmp_path / "photos", tmp_path / "pictures"
    (photos / "sub").mkdir(parents=True)
    for number in range(2):
        Image.new("RGB", (9, 9)).save(photos / "sub" / f"{number}.png")
    given = (photos, "--out", tmp_path / "p", "--attention", pictures)
    assert predict(*given)[0] == 0
    (photos / "sub" / "1.png").write_bytes(b"no photo")
    assert predict(*given)[0] == 3
    assert [path.name for path in pictures.rglob("*.jpg")] == ["0.png.attention.jpg"]


def test_attention_pictures_lie_under_their_ids(predict, album, tmp_path):
    pictures = tmp_path / "pictures"
    for _ in range(2):  # the second time over the first one's pictures
        code, *_ = predict(album, "--out", tmp_path / "p", "--attention", pictures)
        assert code == 3
        found = {str(p.relative_to(pictures)) for p in pictures.rglob("*") if p.is_file()}
        assert found == {f"{name}.attention.jpg" for name in ODD}
    for name in ODD:
        photo, picture = album / name, pictures / f"{name}.attention.jpg"
        assert Image.open(picture).size == Image.open(photo).size


def test_a_folder_with_something_else_gets_no_pictures(predict, album, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("words")
    code, _, stderr = predict(album, "--out", tmp_path / "p", "--attention", tmp_path / "thesis")
    assert code == 1
    assert "chapter1.tex" in the_error(stderr)
    assert not (tmp_path / "p").exists()


def test_files_and_a_root_give_the_ids_asked_for(predict, album, tmp_path):
    photos = (album / ODD[1], album / "sub" / "deep")
    assert predict(*photos, "--out", tmp_path / "p", "--root", album)[0] == 0
    assert [entry["image"] for entry in entries(tmp_path / "p")] == sorted(ODD[1:3])
    assert predict(*photos, "--out", tmp_path / "p")[0] == 0
    assert [entry["image"] for entry in entries(tmp_path / "p")] == sorted(
        Path(name).name for name in ODD[1:3]
    )


def test_photos_in_tar_files_and_tables_are_tagged_like_files(predict, album, tmp_path):
    packed, rows = tmp_path / "photos.tar", tmp_path / "rows.parquet"
    with tarfile.open(packed, "w") as archive:
        for name in [*ODD[::-1], "broken.jpg", "notes.txt"]:
            archive.add(album / name, name)
    photos = [(album / name).read_bytes() for name in ODD]
    write_table(table({"front": photos, "back": photos[::-1], "id": ODD}), rows)
    code, *_ = predict(album, "--out", tmp_path / "files", "--attention", tmp_path / "seen")
    assert code == 3
    wanted = {entry["image"]: entry for entry in entries(tmp_path / "files")}

    pictures = tmp_path / "pictures"
    assert predict(packed, "--out", tmp_path / "p", "--attention", pictures)[0] == 3
    found = entries(tmp_path / "p")
    assert [entry["image"] for entry in found] == sorted([*ODD, "broken.jpg"])
    for entry in found:
        assert_alike(entry, wanted[entry["image"]])
    for name in ODD:
        one, other = (
            np.asarray(Image.open(folder / f"{name}.attention.jpg"), float)
            for folder in (pictures, tmp_path / "seen")
        )
        assert np.abs(one - other).mean() < 1
    assert len([path for path in pictures.rglob("*") if path.is_file()]) == len(ODD)

    code, _, stderr = predict(rows, "--out", tmp_path / "q")
    assert code == 1
    assert "it has front, back. Name one with --image-column." in the_error(stderr)
    assert predict(rows, "--out", tmp_path / "q", "--image-column", "front")[0] == 0
    found = entries(tmp_path / "q")
    assert [entry["image"] for entry in found] == sorted(ODD)
    for entry in found:
        assert_alike(entry, wanted[entry["image"]])


def test_a_name_in_a_tar_file_leads_nowhere(predict, album, tmp_path):
    packed = tmp_path / "photos.tar"
    with tarfile.open(packed, "w") as archive:
        archive.add(album / ODD[0], "../up.png")
    options = ("--out", tmp_path / "p", "--attention", tmp_path / "in" / "pictures")
    code, _, stderr = predict(packed, *options)
    assert code == 1
    assert "relative names without `..`, but got '../up.png'" in the_error(stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["photos.tar"]


def assert_alike(entry: dict, other: dict) -> None:
    """Check that two predictions are equal but for how batches were summed up."""
    assert entry.keys() == other.keys()
    assert (entry["image"], entry.get("error")) == (other["image"], other.get("error"))
    scores, others = (
        {label["label"]: label["score"] for label in one.get("categories", [])}
        for one in (entry, other)
    )
    assert scores == pytest.approx(others, abs=1e-5)


def test_large_photos_count_as_unreadable(predict, tiny_data, tmp_path):
    code, *_ = predict(tiny_data / "photos", "--out", tmp_path / "p", "--max-pixels", 100)
    assert code == 3
    found = entries(tmp_path / "p")
    assert len(found) == 24
    assert all("--max-pixels" in entry["error"] for entry in found)


def copied(run: Path, target: Path) -> Path:
    shutil.copytree(run, target)
    return target


def spoil(run: Path, change) -> None:
    state = load_file(run / "model.safetensors")
    change(state)
    save_file(state, run / "model.safetensors")


def test_what_is_wrong_is_told_in_one_line_and_nothing_is_written(
    predict, album, tiny_run, tmp_path
):
    def fill(value):
        return lambda state: state["features.0.bias"].fill_(value)

    unweighted = copied(tiny_run, tmp_path / "unweighted")
    (unweighted / "model.safetensors").unlink()
    spoiled = copied(tiny_run, tmp_path / "spoiled")
    spoil(spoiled, fill(float("nan")))
    other = copied(tiny_run, tmp_path / "other")
    spoil(other, lambda state: state.update({"features.0.bias": torch.zeros(9)}))
    truncated = copied(tiny_run, tmp_path / "truncated")
    weights = truncated / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (tmp_path / "empty").mkdir()
    (tmp_path / "a folder").mkdir()
    cases = [
        ((tmp_path / "none",), tiny_run, "is not there"),
        ((tmp_path / "empty",), tiny_run, "to hold photos, but it holds none"),
        ((album / "notes.txt",), tmp_path / "none", "to be a run folder"),
        ((album,), tmp_path / "none", "to be a run folder"),
        ((album,), tmp_path / "empty", "has no config.json"),
        ((album,), unweighted, "model.safetensors to be there"),
        ((album,), spoiled, "features.0.bias"),
        ((album,), other, "but got (9,)"),
        ((album,), truncated, "to be a safetensors file"),
        ((album, "--out", tmp_path / "a folder"), tiny_run, "`--out` to be a file"),
        ((album, "--root", tmp_path / "empty"), tiny_run, "below the root"),
    ]
    if not torch.cuda.is_available():
        cases.append(((album, "--device", "cuda"), tiny_run, "this machine has no cuda"))
    out = tmp_path / "results" / "p.jsonl"
    out.parent.mkdir()
    for arguments, model, said in cases:
        code, stdout, stderr = predict("--out", out, *arguments, model=model)
        assert said in the_error(stderr), said
        assert (code, stdout) == (1, ""), said
        assert list(out.parent.iterdir()) == [], said
    assert list((tmp_path / "a folder").iterdir()) == []


def test_a_model_that_overflows_says_nothing(predict, album, tiny_run, tmp_path):
    """Each of its weights is finite, but what it makes of a photo is not."""
    large = copied(tiny_run, tmp_path / "large")

    def enlarge(state: dict) -> None:
        for name in state:
            if name.startswith("category_head."):
                state[name] = state[name] * 1e30

    spoil(large, enlarge)
    for out in (tmp_path / "p.jsonl", "-"):
        code, stdout, stderr = predict(album, "--out", out, model=large)
        assert (code, stdout) == (1, "")
        assert "to be finite, but they hold NaN or infinity" in the_error(stderr)
    assert {path.name for path in tmp_path.iterdir()} == {"large"}


@pytest.mark.parametrize(
    "arguments", [["--batch-size", 0], ["--workers", 0], ["--threshold", 2], ["--format", "xml"]]
)
def test_wrong_usage_exits_with_2(predict, album, tmp_path, arguments):
    code, _, stderr = predict(album, "--out", tmp_path / "p", *arguments)
    assert code == 2
    assert arguments[0] in stderr
    assert not (tmp_path / "p").exists()


def test_ctrl_c_writes_no_predictions_and_exits_with_130(tiny_run, tmp_path):
    photos, results = tmp_path / "photos", tmp_path / "results"
    photos.mkdir()
    results.mkdir()
    rng = np.random.default_rng(0)
    first = photos / "0000.jpg"
    Image.fromarray(rng.integers(0, 256, (1500, 1500, 3), dtype=np.uint8)).save(first)
    for number in range(1, 3000):
        (photos / f"{number:04d}.jpg").hardlink_to(first)
    given = [photos, "--model", tiny_run, "--out", results / "p.jsonl", "--device", "cpu"]
    with started(
        [command("vsam-predict"), *given],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        # The unfinished work: predictions have begun.
        wait_until(lambda: list(results.iterdir()), process)
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1] == "Interrupted; what was finished is kept."
    assert stdout == ""
    # What was finished, if anything was, can be resumed.
    assert {path.name for path in results.iterdir()} <= {".p.jsonl.vsam-partial"}


def test_fitted_temperature_and_thresholds_are_used_where_asked_for(
    predict, tiny_data, tiny_run, tmp_path
):
    from vsam.calibration import Calibration
    from vsam.run_folder import save_calibration

    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    save_calibration(run, Calibration(3.0, (0.0, 0.999)))
    photos, plain, fitted = tiny_data / "photos", tmp_path / "plain", tmp_path / "fitted"
    assert predict(photos, "--out", tmp_path / "before")[0] == 0
    assert predict(photos, "--out", plain, model=run)[0] == 0
    assert plain.read_bytes() == (tmp_path / "before").read_bytes()
    options = ("--calibrated", "--thresholds", "attribute")
    assert predict(photos, "--out", fitted, *options, model=run)[0] == 0
    found = entries(fitted)
    assert len(found) == 24
    for before, after in zip(entries(plain), found, strict=True):
        assert list(before) == list(after)
        assert after["category"] == before["category"]
        powers = {c["label"]: c["score"] ** (1 / 3) for c in before["categories"]}
        for category in after["categories"]:
            wanted = powers[category["label"]] / sum(powers.values())
            assert category["score"] == pytest.approx(wanted, abs=1e-4)
        assert [a["label"] for a in after["attributes"]] == ["left"]


def test_a_threshold_and_those_of_the_attributes_are_not_both_taken(predict, album, tmp_path):
    options = ("--threshold", 0.3, "--thresholds", "attribute")
    code, _, stderr = predict(album, "--out", tmp_path / "p", *options)
    assert code == 1
    assert "--threshold or --thresholds attribute to be given, but not both" in the_error(stderr)


def test_a_model_of_the_hub_predicts_as_its_folder_does(
    predict, tiny_data, tiny_run, tmp_path, monkeypatch
):
    photos = tiny_data / "photos"
    with serving() as hub:
        hub.add_folder("someone/tiny", tiny_run)
        talk_to(hub, tmp_path / "cache", monkeypatch)
        code, _, stderr = predict(photos, "--out", tmp_path / "p", model="someone/tiny")
        assert code == 0, stderr
        code, _, stderr = predict(photos, "--out", tmp_path / "q", model="someone/else")
        assert code == 1
        assert hub.downloaded >= {"config.json", "labels.json", "model.safetensors"}
    assert "Expected the model someone/else to be a run folder or a model of the hub" in the_error(
        stderr
    )
    assert predict(photos, "--out", tmp_path / "here")[0] == 0
    assert (tmp_path / "p").read_bytes() == (tmp_path / "here").read_bytes()
