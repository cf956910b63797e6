"""The page in a real browser: what visitors see, and what it asks for behind their backs."""

import base64
import csv
import io
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from vsam_heatmaps.pose_model import cached_pose_model

UPLOAD = "#v-photo input[type=file]"
ANSWER = ".v-category"


def give(page, photo: Path) -> None:
    """Upload a photo and wait until its figures are complete."""
    page.set_input_files(UPLOAD, photo)
    page.wait_for_selector(f".v-eyebrow:text-is('{photo.name}')")
    page.wait_for_selector(".v-figures")
    page.wait_for_selector(".v-pending", state="detached")


def labels_and_scores(page, selector: str) -> list[tuple[str, str]]:
    return [
        (one.locator(".v-label").inner_text(), one.locator(".v-score").inner_text())
        for one in page.locator(selector).all()
    ]


def as_shown(entries) -> list[tuple[str, str]]:
    return [(label, f"{score:.2f}") for label, score in entries]


def set_threshold(page, value: object) -> None:
    page.locator("#v-threshold input[type=number]").fill(str(value))


def test_an_upload_shows_what_the_predictor_says(open_page, photo, predictor):
    page = open_page()
    give(page, photo)
    said = predictor(photo)
    assert page.locator(ANSWER).inner_text() == said.category
    assert labels_and_scores(page, ".v-bars li") == as_shown(said.categories)
    assert labels_and_scores(page, "#v-attributes .v-chips li") == as_shown(said.attributes)
    # The input is empty again, ready for the next photo.
    page.wait_for_selector(UPLOAD, state="attached")
    # Nobody can be found on a tiny photo; or nothing is here that could.
    assert page.locator(".v-nopose").inner_text().endswith((".", "extract."))
    assert page.locator(".v-layer").count() == 1


def test_a_photo_is_taken_with_the_camera(open_page):
    page = open_page(permissions=["camera"])
    page.get_by_label("Capture from camera").click()
    page.get_by_role("button", name="Click to Access Webcam").click()
    page.get_by_label("capture photo").wait_for()
    page.wait_for_function("document.querySelector('#v-photo video')?.videoWidth > 0")
    with page.expect_request("**/gradio_api/upload*"):  # other requests may not be as large
        page.get_by_label("capture photo").click()
    page.wait_for_selector(".v-figures")
    size = page.evaluate(
        "(p => [p.naturalWidth, p.naturalHeight])(document.querySelector('.v-photo'))"
    )
    assert min(size) > 100


def test_a_photo_is_pasted(open_page, photo, predictor):
    page = open_page()
    page.evaluate(
        """(base64) => {
          const bytes = Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0));
          const files = new DataTransfer();
          files.items.add(new File([bytes], "pasted.png", { type: "image/png" }));
          document.body.dispatchEvent(
            new ClipboardEvent("paste", { clipboardData: files, bubbles: true, cancelable: true }),
          );
        }""",
        base64.b64encode(photo.read_bytes()).decode(),
    )
    page.wait_for_selector(".v-eyebrow:text-is('pasted.png')")
    assert labels_and_scores(page, ".v-bars li") == as_shown(predictor(photo).categories)


def test_choosing_a_source_keeps_the_answer(open_page, photo):
    page = open_page()
    give(page, photo)
    page.get_by_label("Capture from camera").click()
    page.get_by_label("Upload file").click()
    page.wait_for_timeout(500)
    assert page.locator(".v-eyebrow").inner_text() == photo.name


def test_the_threshold_redraws_the_attributes(open_page, photo, predictor):
    page = open_page()
    give(page, photo)
    picture = page.locator(".v-photo").first.element_handle()
    set_threshold(page, 0)
    every = predictor(photo).describe(all_scores=True)["attributes"]
    page.wait_for_function(f"document.querySelectorAll('#v-attributes li').length == {len(every)}")
    shown = [(one["label"], f"{one['score']:.2f}") for one in every]
    assert labels_and_scores(page, "#v-attributes .v-chips li") == shown
    set_threshold(page, 1)
    page.wait_for_selector(".v-none")
    assert every[0]["label"] in page.locator(".v-none").inner_text()
    assert picture.evaluate("image => image.isConnected")  # the figures weren't drawn again


def test_a_threshold_that_is_being_rewritten_is_the_models_own(open_page, photo, predictor):
    page = open_page()
    give(page, photo)
    set_threshold(page, 5)
    page.wait_for_selector(".v-none")
    set_threshold(page, "")
    entries = predictor(photo).describe()["attributes"]
    expect = f"document.querySelectorAll('#v-attributes .v-chips li').length == {len(entries)}"
    page.wait_for_function(expect)
    assert labels_and_scores(page, "#v-attributes .v-chips li") == as_shown(
        (one["label"], one["score"]) for one in entries
    )


def test_the_strength_of_the_maps_follows_its_slider(open_page, photo):
    page = open_page()
    give(page, photo)
    slider = page.locator("#v-strength input[type=range]")
    opacity = "() => getComputedStyle(document.querySelector('.v-layer')).opacity"
    assert page.evaluate(opacity) == "0.55"
    slider.fill("20")
    page.wait_for_function(f"({opacity})() === '0.2'")
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"({opacity})() === '0.21'")


def test_an_example_is_tagged_by_keyboard_alone(open_page):
    page = open_page()
    page.wait_for_selector(".v-examples button")
    for _ in range(12):  # the tabs, the photo's input and its sources come before
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.v-examples button')"):
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_selector(".v-figures")
    page.wait_for_selector(".v-pending", state="detached")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('#v-threshold')?.id ?? ''"):
            break
    before = page.locator("#v-threshold input[type=number]").input_value()
    page.keyboard.press("ArrowDown")
    page.wait_for_function(
        "before => document.querySelector('#v-threshold input[type=number]').value != before",
        arg=before,
    )
    if cached_pose_model() is not None:  # a drawn person is found
        assert page.locator(".v-figures figure").nth(1).locator(".v-layer").count() == 1


def truncated(tmp_path: Path) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()[: file.tell() // 2]


def bomb(tmp_path: Path) -> bytes:
    file = io.BytesIO()
    Image.new("1", (3000, 3000)).save(file, "PNG")  # more pixels than the page's limit
    return file.getvalue()


BAD = {
    "notes.jpg": lambda _: b"Buy milk.\n",
    "half.jpg": truncated,
    "bomb.png": bomb,
    "phone.heic": lambda _: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64),
    "empty.png": lambda _: b"",
    "<img src=x onerror=alert(1)>.png": lambda _: b"?",
}


def test_what_is_no_photo_gets_a_sentence(open_page, site, photo, tmp_path):
    page = open_page()
    page.on("dialog", lambda dialog: pytest.fail("a file's name ran as a script"))
    for name, make in BAD.items():
        path = tmp_path / name
        path.write_bytes(make(tmp_path))
        page.set_input_files(UPLOAD, path)
        alert = page.locator(".v-problem", has_text=name)
        alert.wait_for()
        assert "could not be read as a photo: " in alert.inner_text()
        assert page.locator(".v-figures").count() == 0
    give(page, photo)  # the page goes on
    assert not any("Traceback" in line for line in site.lines)


def test_a_file_over_the_limit_is_refused(open_page, photo, tmp_path):
    page = open_page()
    path = tmp_path / "large.png"
    path.write_bytes(photo.read_bytes() + bytes(2_500_000))
    page.set_input_files(UPLOAD, path)
    page.get_by_text(re.compile("exceed|too large|maximum", re.IGNORECASE)).first.wait_for()
    give(page, photo)


def test_a_turned_photo_is_shown_upright(open_page, predictor, tmp_path):
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, 40:] = (200, 60, 60)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    path = tmp_path / "turned.png"
    Image.fromarray(pixels).save(path, exif=exif)
    page = open_page()
    give(page, path)
    size = page.evaluate(
        "(p => [p.naturalWidth, p.naturalHeight])(document.querySelector('.v-photo'))"
    )
    assert size == [40, 80]
    upright = predictor(np.ascontiguousarray(np.rot90(pixels, -1)))
    assert labels_and_scores(page, ".v-bars li") == as_shown(upright.categories)


def test_downloads_hold_what_is_shown(open_page, photo, predictor):
    page = open_page()
    give(page, photo)
    set_threshold(page, 0)
    page.wait_for_selector("#v-attributes .v-chips li:nth-child(2)")
    with page.expect_download() as taken:
        page.get_by_role("link", name="Download JSON").click()
    assert taken.value.suggested_filename == "00.json"
    described = predictor(photo).describe(threshold=0)
    line = Path(taken.value.path()).read_text()
    assert json.loads(line) == {"image": "00.png"} | described
    assert line.count("\n") == 1
    with page.expect_download() as taken:
        page.get_by_role("link", name="Download CSV").click()
    assert taken.value.suggested_filename == "00.csv"
    names = ";".join(one["label"] for one in described["attributes"])
    (row,) = csv.DictReader(Path(taken.value.path()).read_text().splitlines())
    assert row["image"] == "00.png"
    assert (row["category"], row["attributes"]) == (described["category"], names)
    assert float(row["score"]) == described["score"]


def test_the_gallery_filters_a_folder(open_page, site, tiny_data):
    lines = [json.loads(line) for line in site.predictions.read_text().splitlines()]
    page = open_page()
    page.get_by_role("tab", name="Gallery").click()
    count = page.locator(".v-count")
    count.wait_for()
    assert count.inner_text() == f"{len(lines)} of {len(lines)} photos, page 1 of 2"
    assert page.locator(".v-gallery > li").count() == 24
    assert page.locator(".v-gallery img").count() == 24
    page.get_by_role("button", name="Next page").click()
    page.wait_for_selector(".v-unread")
    # Text of the file is no markup, and ids don't lead out of the folder.
    assert page.locator(".v-unread").inner_text() == "it is <b>truncated</b>"
    assert "outside" in page.locator(".v-gallery > li", has_text="labels.csv").inner_text()

    category = lines[0]["category"]
    fits = [line for line in lines if line.get("category") == category]
    page.get_by_label("Category").click()
    page.get_by_role("option", name=category, exact=True).click()
    page.wait_for_function(
        f"document.querySelector('.v-count').innerText.startsWith('{len(fits)} of')"
    )
    page.get_by_label("Text").fill("TEE/0")
    fits = [line for line in fits if "tee/0" in line["image"]]
    page.wait_for_function(
        f"document.querySelector('.v-count').innerText.startsWith('{len(fits)} of')"
    )
    shown = [one.get_attribute("title") for one in page.locator(".v-gallery .v-eyebrow").all()]
    assert shown == [line["image"] for line in fits]


def test_photos_are_added_to_the_gallery(open_page, photo, predictor, tmp_path):
    bad = tmp_path / "notes.png"
    bad.write_bytes(b"Buy milk.\n")
    page = open_page()
    page.get_by_role("tab", name="Gallery").click()
    page.wait_for_selector(".v-gallery")
    page.get_by_role("button", name="Add photos of your own").click()
    page.set_input_files("#v-photos input[type=file]", [photo, bad])
    page.wait_for_selector(".v-gallery .v-eyebrow:text-is('00.png')")
    first, second = page.locator(".v-gallery > li").all()[:2]
    assert first.locator("h3").inner_text().startswith(predictor(photo).category)
    assert first.locator("img").count() == 1
    assert "could not be read" in second.inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_in_readable_colours(open_page, photo, scheme):
    page = open_page(viewport={"width": 375, "height": 812}, color_scheme=scheme)
    give(page, photo)
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    assert page.evaluate(FAINT) == []
    assert page.evaluate(NAMELESS) == []
    page.get_by_role("tab", name="Gallery").click()
    page.wait_for_selector(".v-gallery")
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    assert page.evaluate(FAINT) == []
    assert page.evaluate(NAMELESS) == []


# WCAG 2's contrast of each visible text with what lies behind it; below 4.5 is listed. Text over
# pictures and gradients isn't judged.
FAINT = """() => {
  const channels = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const over = (top, ground) => {
    const a = top.length > 3 ? top[3] : 1;
    return [0, 1, 2].map((i) => top[i] * a + ground[i] * (1 - a));
  };
  const ground = (element) => {
    if (!element) return [255, 255, 255];
    const own = channels(getComputedStyle(element).backgroundColor);
    return own.length > 3 && own[3] === 0 ? ground(element.parentElement)
      : over(own, own.length > 3 && own[3] < 1 ? ground(element.parentElement) : own);
  };
  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    if (!text || element.closest("script, style, svg, :disabled")) continue;
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const behind = ground(element), style = getComputedStyle(element);
    const [a, b] = [light(over(channels(style.color), behind)), light(behind)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) faint.push(`${text.slice(0, 30)}: ${contrast.toFixed(2)}`);
  }
  return faint;
}"""

# What can be used, or is a picture, and has no name that could be read out.
NAMELESS = """() => [...document.querySelectorAll("button, input, select, textarea, a[href], img")]
  .filter((one) => one.checkVisibility())
  .filter((one) => !(one.getAttribute("aria-label") || one.getAttribute("aria-labelledby")
    || one.labels?.length || one.innerText?.trim() || one.title || one.querySelector("img[alt]")
    || (one.tagName === "IMG" && one.hasAttribute("alt"))))
  .map((one) => one.outerHTML.slice(0, 120))"""


def test_the_checks_of_colours_and_names_find_what_is_wrong(open_page):
    page = open_page()
    page.evaluate("document.querySelector('.v-hint').style.color = '#b5ab9c'")
    page.evaluate("document.querySelector('.v-header').innerHTML += '<input>'")
    assert [found.split(":")[0] for found in page.evaluate(FAINT)] == ["Or choose an example"]
    assert page.evaluate(NAMELESS) == ["<input>"]


def test_every_request_stayed_on_this_machine(site, open_page):
    open_page()
    assert len(site.requests) > 20
    away = [
        url
        for url in site.requests
        if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).hostname != "127.0.0.1"
    ]
    assert away == []


def test_photos_lie_in_a_folder_that_nobody_else_reads(site, open_page, photo):
    give(open_page(), photo)
    (folder,) = site.temporary.iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    assert any(path.name == "00.png" for path in folder.rglob("*"))  # for two minutes
