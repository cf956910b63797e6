"""The page itself: which parts it has, and what happens when a visitor uses them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from vsam_heatmaps.errors import UnreadablePhotoError, VsamError

from . import markup
from .examples import Example
from .gallery import Gallery
from .gallery_tab import GalleryTab
from .pictures import attention_figure, pose_figure
from .poses import NoPoseError, PoseFinder
from .tagging import Answer, Photo, Tagger, failed
from .uploads import TAKES_PHOTOS, upload_of

_QUEUE = 64  # visitors that may wait
_CLEANED_EVERY, _KEPT = 30, 120  # seconds; uploads are read at once
_FORGOTTEN = 3600  # seconds after which a session's last answer goes
_STRENGTH = 55  # of the maps, in percent


class Page:
    """Answers a visitor's events.

    Args:
        tagger: Reads photos and asks the model.
        poses: Finds where the model should look.
        gallery: A folder's predictions; may be empty.
        examples: Photos to begin with.
    """

    def __init__(
        self, tagger: Tagger, poses: PoseFinder, gallery: Gallery, examples: Sequence[Example]
    ) -> None:
        self._tagger, self._poses, self._gallery = tagger, poses, gallery
        self._examples = examples
        self._threshold = round(tagger.predictor.threshold, 2)
        # What the attention's maps are called; the model is asked once, as it alone knows how many.
        maps, regions = len(tagger.warm_up().attention), tagger.regions
        self.maps = [regions[n] if n < len(regions) else f"{n + 1}" for n in range(maps)]

    def build(self) -> gr.Blocks:
        """Put the page together."""
        with gr.Blocks(
            title="VSAM", analytics_enabled=False, delete_cache=(_CLEANED_EVERY, _KEPT)
        ) as page:
            gr.HTML(markup.render("header.html"))
            with gr.Tabs():
                with gr.Tab("Tag a photo"):
                    self._build_tagging()
                with gr.Tab("Gallery"):
                    GalleryTab(tagger=self._tagger, gallery=self._gallery).build(page)
            gr.HTML(markup.render("footer.html"))
            self._build_api()
        page.queue(max_size=_QUEUE)
        return page

    def _build_tagging(self) -> None:
        answer = gr.State(None, time_to_live=_FORGOTTEN)
        with gr.Row(elem_id="v-top"):
            with gr.Column(scale=4, min_width=280, elem_id="v-give"):
                photo = gr.Image(
                    label="Photo",
                    sources=["upload", "webcam", "clipboard"],
                    buttons=[],
                    height=230,
                    elem_id="v-photo",
                    placeholder="Drop a photo, paste it\nor choose a file",
                )
                examples = gr.HTML(
                    markup.render("examples.html", examples=self._examples),
                    js_on_load=_CLICKED_EXAMPLE,
                    elem_id="v-example",
                )
            with gr.Column(scale=7, min_width=280, elem_id="v-answer"):
                category = gr.HTML(markup.nothing_yet(), elem_id="v-category")
                with gr.Column(visible=False, elem_id="v-tags") as tags:
                    threshold = gr.Slider(
                        0,
                        1,
                        value=self._threshold,
                        step=0.01,
                        label="Show attributes above",
                        info=self._tell_threshold(),
                        elem_id="v-threshold",
                    )
                    threshold.preprocess = self._slid  # type: ignore[method-assign]
                    attributes = gr.HTML(elem_id="v-attributes")
        with gr.Column(visible=False, elem_id="v-look") as look:
            with gr.Row():
                strength = gr.Slider(
                    0, 100, value=_STRENGTH, step=1, label="Strength of the maps, in percent",
                    elem_id="v-strength",
                )  # fmt: skip
                chosen = gr.Radio(
                    [("all", "all"), *((name, str(n)) for n, name in enumerate(self.maps))],
                    value="all",
                    label="Map",
                    visible=len(self.maps) > 1,
                    elem_id="v-map",
                )
            figures = gr.HTML(elem_id="v-figures")

        shown = [category, attributes, figures, tags, look, answer]
        told: dict[str, Any] = TAKES_PHOTOS | {
            "api_visibility": "private",
            "show_progress": "minimal",
            "show_progress_on": [category],
        }
        photo.input(self._tag_upload, [photo, threshold], [*shown, photo], **told)
        examples.click(self._tag_example, [threshold], shown, **told)
        threshold.change(
            self._redraw,
            [answer, threshold],
            [attributes, answer],
            api_visibility="private",
            queue=False,
            show_progress="hidden",
            trigger_mode="always_last",
        )
        # These happen in the browser alone.
        category.change(None, js=_SCROLL_TO_ANSWER, api_visibility="private")
        strength.change(None, strength, js=_SET_STRENGTH, api_visibility="private")
        chosen.change(None, chosen, js=_CHOOSE_MAP, api_visibility="private")

    def _tell_threshold(self) -> str:
        own = self._tagger.predictor.thresholds
        if len(set(own.tolist())) > 1:
            return "Each attribute has a threshold of its own until you move this."
        return f"The model’s own threshold is {self._threshold:.2f}."

    def _tag_upload(
        self, payload: dict[str, Any] | None, threshold: float
    ) -> Iterator[tuple[Any, ...]]:
        photo = upload_of(payload)
        if photo is None:  # another source was chosen
            yield (gr.skip(),) * 7
            return
        # The last output empties the input: it is ready for the next photo.
        try:
            pixels = self._tagger.read(photo.path)
        except UnreadablePhotoError as error:
            yield *_problem(failed(photo.name, error)), None
            return
        for shown in self._tag(photo.name, pixels, threshold):
            yield *shown, None

    def _tag_example(self, threshold: float, event: gr.EventData) -> Iterator[tuple[Any, ...]]:
        number = event._data.get("number") if isinstance(event._data, dict) else None
        if not isinstance(number, int) or not 0 <= number < len(self._examples):
            yield (gr.skip(),) * 6
            return
        example = self._examples[number]
        try:
            source = example.source
            pixels = self._tagger.read(source) if isinstance(source, Path) else source
        except UnreadablePhotoError as error:  # the file is another one by now
            yield _problem(failed(example.name, error))
            return
        yield from self._tag(example.name, pixels, threshold)

    def _tag(self, name: str, photo: Photo, threshold: float) -> Iterator[tuple[Any, ...]]:
        """Show the tags as soon as they are there, and the pose when it is found."""
        try:
            prediction = self._tagger.tag(photo)
        except VsamError as error:
            yield _problem(failed(name, error))
            return
        answer = Answer(name, prediction, self._chosen(threshold))
        looked = attention_figure(photo, prediction.attention)
        yield (
            markup.category(answer),
            markup.attributes(answer),
            markup.figures(name, looked, None, pending=True),
            gr.update(visible=True),
            gr.update(visible=True),
            answer,
        )
        try:
            keypoints = self._poses.find(photo)
            should = pose_figure(photo, keypoints, self._tagger.regions, len(self.maps))
            drawn = markup.figures(name, looked, should)
        except NoPoseError as error:
            drawn = markup.figures(name, looked, None, str(error))
        yield (gr.skip(), gr.skip(), drawn, gr.skip(), gr.skip(), gr.skip())

    def _redraw(self, answer: Answer | None, threshold: float) -> tuple[Any, Any]:
        """List the attributes above another threshold; the model isn't asked."""
        if answer is None:
            return gr.skip(), gr.skip()
        answer = Answer(answer.name, answer.prediction, self._chosen(threshold))
        return markup.attributes(answer), answer

    def _slid(self, payload: float | None) -> float:
        """Take the slider's number; while a visitor rewrites it, Gradio would refuse some.

        It can be none, which stands for where it stood at first, or beyond the slider's ends.
        """
        return self._threshold if payload is None else min(max(payload, 0.0), 1.0)

    def _chosen(self, threshold: float) -> float | None:
        """Take the slider's place; where it stood at first, the model's own thresholds hold."""
        return None if round(threshold, 2) == self._threshold else threshold

    def _build_api(self) -> None:
        """Offer `/predict` to gradio_client; its parts are not shown."""
        photo = gr.Image(visible=False, label="photo")
        threshold = gr.Number(None, visible=False, label="threshold")
        all_scores = gr.Checkbox(False, visible=False, label="all_scores")
        line = gr.JSON(visible=False, label="prediction")

        def predict(
            photo: dict[str, Any] | None, threshold: float | None = None, all_scores: bool = False
        ) -> dict[str, Any]:
            given = upload_of(photo)
            if given is None:
                raise gr.Error("Expected a photo, but got none.", print_exception=False)
            if threshold is not None and not (
                isinstance(threshold, int | float) and 0 <= threshold <= 1
            ):
                message = f"Expected `threshold` to be from 0 to 1, but got {threshold}."
                raise gr.Error(message, print_exception=False)
            try:
                prediction = self._tagger.tag(self._tagger.read(given.path))
            except VsamError as error:
                raise gr.Error(failed(given.name, error), print_exception=False) from error
            return Answer(given.name, prediction, threshold).describe(all_scores=all_scores)

        gr.Button(visible=False).click(
            predict,
            [photo, threshold, all_scores],
            line,
            api_name="predict",
            api_description="Tag a photo: the same JSON as a line of vsam-predict. `threshold`: "
            "attributes above it are listed, by default the model's own; `all_scores`: list every "
            "category and attribute.",
            **TAKES_PHOTOS,
        )


def _problem(sentence: str) -> tuple[Any, ...]:
    """Show a sentence in the place of the answer."""
    hidden = gr.update(visible=False)
    return markup.problem(sentence), "", "", hidden, hidden, None


_CLICKED_EXAMPLE = """
element.addEventListener("click", (event) => {
  const example = event.target.closest("button[data-number]");
  if (example) trigger("click", { number: Number(example.dataset.number) });
});
"""
_SET_STRENGTH = """(percent) => {
  document.documentElement.style.setProperty("--v-strength", percent / 100);
}"""
_SCROLL_TO_ANSWER = """() => {
  const answer = document.getElementById("v-answer");
  if (answer.getBoundingClientRect().top > 0.6 * window.innerHeight) {
    answer.scrollIntoView({ behavior: "smooth" });
  }
}"""
_CHOOSE_MAP = "(key) => { document.documentElement.dataset.map = key; }"
