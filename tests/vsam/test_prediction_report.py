"""The report: figures over all photos, a sheet of some, and nothing from anywhere else."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vsam.folder_prediction import FolderOptions, predict_folder
from vsam.folder_prediction.journal import Journal
from vsam.folder_prediction.pictures import make_picture
from vsam.prediction_files import read_predictions
from vsam_heatmaps.photos import list_photos

EVIL = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def evil_run(tiny_run, tmp_path_factory) -> Path:
    """Give a model whose labels are markup."""
    run = Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("evil") / "run"))
    path = run / "labels.json"
    labels = json.loads(path.read_text())
    labels["categories"][0] += EVIL
    labels["attributes"][0] += EVIL
    path.write_text(json.dumps(labels))
    return run


@pytest.fixture(scope="module")
def made(evil_run, tmp_path_factory) -> Path:
    """Give a folder with predictions and a report of 30 photos, of which it shows 9."""
    folder = tmp_path_factory.mktemp("report")
    photos = folder / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for number in range(28):
        shade = rng.integers(0, 256, (1, 1, 3))
        pixels = np.clip(shade + rng.integers(-30, 30, (90, 60, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(photos / f"{number:02d}.png")
    (photos / "zz <b>\u202ebroken.png").write_bytes(b"no photo")
    (photos / "empty.png").write_bytes(b"")
    options = FolderOptions(
        model=evil_run, device="cpu", threshold=0.4, report=folder / "r.html", report_photos=9
    )
    predict_folder(list_photos([photos]), folder / "p.jsonl", options)
    return folder


class Page(HTMLParser):
    """Gathers a page's elements, with their attributes, and the text in them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {}
        self._tag = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self._tag = tag
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.inside.setdefault(self._tag, []).append(data)


def cards(page: Page) -> list[dict]:
    return json.loads(page.inside["script"][0])


def test_it_loads_nothing_and_markup_in_names_is_text(made):
    text = (made / "r.html").read_text()
    page = Page(text)
    assert [tag for tag, _ in page.elements].count("script") == 2
    assert not any(tag in ("img", "iframe", "object", "embed") for tag, _ in page.elements)
    for tag, attributes in page.elements:
        for name in ("src", "href", "action"):
            value = attributes.get(name, "")
            assert value == "" or value.startswith(("#", "data:")), (tag, value)
        assert not any(name.startswith("on") for name in attributes)
    policies = [
        attributes["content"]
        for tag, attributes in page.elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none'; img-src data:;")
    assert "unsafe-inline'; script-src 'sha256-" in policies[0]
    assert not re.search(r"https?://", text)
    assert "\u202e" not in text


def test_figures_are_of_all_photos_and_cards_of_some(made):
    lines = list(read_predictions(made / "p.jsonl"))
    page = Page((made / "r.html").read_text())
    tagged = [line for line in lines if "error" not in line]
    assert len(lines) == 30
    figures = [text for text in page.inside["div"] if text.strip().isdecimal()]
    assert figures[:3] == ["30", "28", "2"]
    bars = {}
    for (_, attributes), told in zip(
        [each for each in page.elements if "data-category" in each[1]],
        [text for text in page.inside["span"] if " · " in text],
        strict=False,
    ):
        bars[attributes["data-category"]] = int(told.split(" · ")[0])
    wanted = [line["category"] for line in tagged]
    assert bars == {name: wanted.count(name) for name in set(wanted)}

    found = cards(page)
    shown = [card for card in found if "error" not in card]
    assert 7 <= len(shown) <= 9  # those that were chosen and could be read
    assert shown[0]["id"] == lines[0]["image"]
    said = {line["image"]: line for line in lines}
    for card in shown:
        line = said[card["id"]]
        assert (card["category"], card["score"]) == (line["category"], line["score"])
        assert [[name, score] for name, score, _ in card["attributes"]] == [
            [entry["label"], entry["score"]] for entry in line["attributes"]
        ]
    assert [card["id"] for card in found if "error" in card] == [
        "empty.png",
        r"zz <b>\u202ebroken.png",
    ]


def test_its_pictures_are_the_photo_and_where_the_model_looked(made, evil_run):
    from vsam.predictor import Predictor

    predictor = Predictor.from_run(evil_run, device="cpu")
    shown = [card for card in cards(Page((made / "r.html").read_text())) if "error" not in card]
    for card in shown[:3]:
        photo, heat = (
            Image.open(io.BytesIO(base64.b64decode(card[key].partition("base64,")[2])))
            for key in ("photo", "heat")
        )
        original = np.asarray(Image.open(made / "photos" / card["id"]), float)
        # The noise is lost in a WebP, the colour is not.
        assert photo.size == (60, 90)
        assert (
            np.abs(
                np.asarray(photo.convert("RGB"), float).mean((0, 1)) - original.mean((0, 1))
            ).max()
            < 6
        )
        assert heat.mode == "RGBA"
        opacity = np.asarray(heat, float)[..., 3]
        attention = predictor(made / "photos" / card["id"]).attention[0]
        wide = np.asarray(Image.fromarray(attention).resize(heat.size, Image.Resampling.BILINEAR))
        assert np.corrcoef(opacity.ravel(), wide.ravel())[0, 1] > 0.9


def test_all_scores_and_a_late_wish_for_a_report_change_no_figure(made, evil_run, monkeypatch):
    """Attributes are those above the threshold, and pictures are made of photos tagged before."""
    photos, out = list_photos([made / "photos"]), made / "late.jsonl"
    values = {"model": evil_run, "device": "cpu", "threshold": 0.4, "all_scores": True}
    values |= {"batch_size": 8, "report_photos": 9}
    whole = Journal.append

    def append(self, lines, form):
        if self.lines >= 16:
            raise KeyboardInterrupt
        return whole(self, lines, form)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", append)
        with pytest.raises(KeyboardInterrupt):
            predict_folder(photos, out, FolderOptions(**values))
    late = FolderOptions(**values, report=made / "late.html", resume=True)
    assert predict_folder(photos, out, late).kept == 16
    found, wanted = (cards(Page((made / name).read_text())) for name in ("late.html", "r.html"))
    assert [card["id"] for card in found] == [card["id"] for card in wanted]
    for card, other in zip(found, wanted, strict=True):
        if "error" not in card:
            assert {name for name, *_ in card["attributes"]} == {
                name for name, *_ in other["attributes"]
            }


def colours(report: Path) -> dict[str, np.ndarray]:
    """Give the mean colour of each photo that a report shows."""
    found = {}
    for card in cards(Page(report.read_text())):
        data = base64.b64decode(card["photo"].partition("base64,")[2])
        found[card["id"]] = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).mean((0, 1))
    return found


def fill(photo: Path, colour: tuple[int, int, int]) -> None:
    photo.parent.mkdir(exist_ok=True)
    Image.new("RGB", (40, 48), colour).save(photo)


def test_a_photo_that_changed_before_a_run_was_resumed_has_its_new_picture(
    tiny_run, tmp_path, monkeypatch
):
    """Also if the run had no report when it was tagged again."""
    folder = tmp_path / "photos"
    for name in "abcdef":
        fill(folder / f"{name}.png", (250, 0, 0))
    values = {"model": tiny_run, "device": "cpu", "batch_size": 2}
    reported = values | {"report": tmp_path / "r.html"}
    whole = Journal.append

    def run_until(lines: int, **given) -> None:
        def append(self, block, form):
            if self.lines >= lines:
                raise KeyboardInterrupt
            return whole(self, block, form)

        options = FolderOptions(**given)
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "append", append)
            with pytest.raises(KeyboardInterrupt):
                predict_folder(list_photos([folder]), tmp_path / "p.jsonl", options)

    run_until(2, **reported)
    fill(folder / "a.png", (0, 0, 250))
    run_until(4, **values, resume=True)
    resumed = FolderOptions(**reported, resume=True)
    assert predict_folder(list_photos([folder]), tmp_path / "p.jsonl", resumed).kept == 3
    for image, colour in colours(tmp_path / "r.html").items():
        assert (colour[2] > 200) == (image == "a.png"), image


def test_several_maps_are_shown_each_at_its_own_range():
    sharp = np.zeros((2, 16, 16), np.float32)
    sharp[0, 2, 8] = 1  # on the head
    sharp[1, 9:13, 2:14] = 1 / 48  # over the hips
    picture = make_picture(np.full((256, 256, 3), 127, np.uint8), sharp)
    opacity = np.asarray(Image.open(io.BytesIO(picture.heat)))[..., 3]
    assert opacity[44, 32] > 200  # alone, the sharper one would leave 5
    assert opacity[10, 34] > 150
    assert opacity[60, 5] < 20


def test_a_model_without_attention_has_a_report_too(tiny_data, tmp_path):
    from tiny import train_config

    from vsam.training import train

    train(train_config(tiny_data, tmp_path / "run", attention="none", pose_weight=0.0, epochs=1))
    options = FolderOptions(model=tmp_path / "run", device="cpu", report=tmp_path / "r.html")
    predict_folder(list_photos([tiny_data / "photos"]), tmp_path / "p.csv", options)
    page = Page((tmp_path / "r.html").read_text())
    assert {card["heat"] for card in cards(page)} == {""}
    assert not any(attributes.get("id") == "heat" for _, attributes in page.elements)


def test_it_can_be_used_in_a_browser(made, browser):
    lines = {line["image"]: line for line in read_predictions(made / "p.jsonl")}
    asked, complaints = [], []
    with browser.new_context(viewport={"width": 375, "height": 800}) as context:
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto((made / "r.html").as_uri())
        assert page.title() == "Predictions"
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        shown = page.locator("#cards .id").all_text_contents()
        assert shown == sorted(shown)
        assert 7 <= len(shown) <= 9

        page.select_option("#order", "low")
        order = page.locator("#cards .id").all_text_contents()
        assert order == sorted(shown, key=lambda id_: lines[id_]["score"])
        category = lines[shown[0]]["category"]
        page.select_option("#category", category)
        found = set(page.locator("#cards .id").all_text_contents())
        assert found == {id_ for id_ in shown if lines[id_]["category"] == category}
        page.click("button[type=reset]")
        page.fill("#text", shown[2].upper())
        assert page.locator("#cards .id").all_text_contents() == [shown[2]]
        page.click("button[type=reset]")
        middle = sorted(lines[id_]["score"] for id_ in shown)[len(shown) // 2]
        page.locator("#least").evaluate(
            "(range, value) => {"
            " range.value = value; range.form.dispatchEvent(new Event('input')); }",
            round(middle, 2),
        )
        found = page.locator("#cards .id").all_text_contents()
        assert found == [id_ for id_ in shown if lines[id_]["score"] >= round(middle, 2)]
        page.click("button[type=reset]")
        page.select_option("#kind", "errors")
        assert page.locator("#cards .none").all_text_contents() == [
            "the file is empty",
            "it is not an image, or its header is damaged",
        ]
        page.click("button[type=reset]")

        # A bar of the chart filters, by keyboard; the sheet's dialog too.
        page.locator("button.bar").first.focus()
        page.keyboard.press("Enter")
        assert page.locator("button.bar").first.get_attribute("aria-pressed") == "true"
        page.click("button[type=reset]")
        # The sheet is drawn anew after the click, and what had the focus before is gone then.
        page.wait_for_function(
            "count => document.querySelectorAll('#cards .id').length === count", arg=len(shown)
        )
        page.locator("#cards .picture").first.focus()
        page.keyboard.press("Enter")
        assert page.locator("#large-facts .id").inner_text() == shown[0]
        page.keyboard.press("ArrowRight")
        assert page.locator("#large-facts .id").inner_text() == shown[1]
        page.keyboard.press("Escape")
        assert not page.locator("#large").is_visible()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert complaints == []
