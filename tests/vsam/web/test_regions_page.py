"""The page of a model with region attention, in a real browser."""

import sys
from pathlib import Path

from drawn_run import draw_run

from vsam.predictor import Predictor

REGIONS = ("head", "feet")


def test_tags_name_their_region_and_each_region_s_map_can_be_chosen(
    browser, serve, tiny_data, tmp_path
):
    run = draw_run(tmp_path / "run", batch_norm=True, regions=REGIONS)
    photo = tiny_data / "photos" / "tee" / "00.png"
    command = [str(Path(sys.executable).parent / "vsam"), "web", "--model", str(run)]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with serve([*command, "--port", "0", "--device", "cpu"], temporary) as (_, _, url):
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector("#v-photo input[type=file]", state="attached")
        page.set_input_files("#v-photo input[type=file]", photo)
        page.wait_for_selector(".v-figures")
        page.wait_for_selector(".v-pending", state="detached")
        page.locator("#v-threshold input[type=number]").fill("0")
        said = Predictor.from_run(run, device="cpu")(photo).describe(all_scores=True)["attributes"]
        chips = "#v-attributes .v-chips li"
        page.wait_for_function(f"document.querySelectorAll('{chips}').length == {len(said)}")
        shown = [
            (chip.locator(".v-label").inner_text(), chip.locator(".v-region").inner_text())
            for chip in page.locator(chips).all()
        ]
        assert shown == [(one["label"], one["region"]) for one in said]
        assert {region for _, region in shown} <= set(REGIONS)
        layers = "[...document.querySelectorAll('.v-layer')].filter(one => one.offsetParent)"
        for name, key in (("all", "all"), ("head", "0"), ("feet", "1")):
            page.locator("#v-map").get_by_label(name).check()
            seen = page.evaluate(f"{layers}.map(one => one.dataset.map)")
            assert set(seen) == {key}
        context.close()
