"""The page's second tab: a folder's predictions and photos that visitors give, with filters."""

from __future__ import annotations

from typing import Any

import gradio as gr

from vsam_heatmaps.errors import VsamError

from . import markup
from .gallery import Entry, Gallery, Wanted, choices, entry_of
from .pictures import thumbnail
from .tagging import Answer, Tagger, failed
from .uploads import TAKES_PHOTOS, uploads_of

_FORGOTTEN = 3600  # seconds after which the photos that a visitor gave go
_MOST_AT_ONCE, _MOST_GIVEN = 100, 500  # photos of a visitor
_ANY = "any"


class GalleryTab:
    """Shows the gallery, and tags photos that visitors add to it.

    Args:
        tagger: Reads photos and asks the model.
        gallery: A folder's predictions; may be empty.
    """

    def __init__(self, *, tagger: Tagger, gallery: Gallery) -> None:
        self._tagger, self._gallery = tagger, gallery

    def build(self, page: gr.Blocks) -> None:
        """Add its parts to the page that is being put together."""
        given: Any = gr.State([], time_to_live=_FORGOTTEN)
        place = gr.State(0)
        categories, attributes = choices(self._gallery.entries)
        with gr.Row(elem_id="v-filters"):
            category = gr.Dropdown(
                [_ANY, *categories], value=_ANY, label="Category", elem_id="v-by-category"
            )
            every = gr.Dropdown(
                attributes, value=[], multiselect=True, label="Attributes", elem_id="v-by-attribute"
            )
            text = gr.Textbox(
                label="Text", placeholder="in names and tags", elem_id="v-by-text", max_lines=1
            )
        shown = gr.HTML(elem_id="v-shown")
        with gr.Row(elem_id="v-pages", visible=False) as turning:
            back = gr.Button("Previous page")
            on = gr.Button("Next page")
        with gr.Accordion("Add photos of your own", open=not self._gallery.entries):
            photos = gr.File(
                label="Photos", file_count="multiple", file_types=["image"], elem_id="v-photos",
                height=140,
            )  # fmt: skip
            problem = gr.HTML()

        def show(
            given: list[Entry], category: str, every: list[str], text: str, place: int = 0
        ) -> tuple[Any, ...]:
            wanted = Wanted("" if category == _ANY else category, tuple(every or ()), text or "")
            html, place, pages = self._gallery.show(given, wanted, place)
            return html, place, gr.update(visible=pages > 1)

        def show_before(
            given: list[Entry], category: str, every: list[str], text: str, place: int
        ) -> tuple[Any, ...]:
            return show(given, category, every, text, place - 1)

        def show_after(
            given: list[Entry], category: str, every: list[str], text: str, place: int
        ) -> tuple[Any, ...]:
            return show(given, category, every, text, place + 1)

        filters, results = [given, category, every, text], [shown, place, turning]
        quick: dict[str, Any] = {
            "api_visibility": "private",
            # Gradio's browser part never hears of an event that joins the queue in the moment in
            # which the one before ends: what is asked when the page opens must not be in it.
            "queue": False,
            "show_progress": "hidden",
            "trigger_mode": "always_last",
        }
        gr.on(
            [category.change, every.change, text.change],
            show,
            filters,
            results,
            **quick,
        )
        page.load(show, filters, results, **quick)
        back.click(show_before, [*filters, place], results, **quick)
        on.click(show_after, [*filters, place], results, **quick)
        photos.upload(
            self._tag_several,
            [photos, given],
            [given, photos, problem, category, every],
            api_visibility="private",
            show_progress_on=[photos],
            **TAKES_PHOTOS,
        ).then(show, filters, results, **quick)

    def _tag_several(
        self, payload: list[dict[str, Any]] | None, given: list[Entry]
    ) -> tuple[Any, ...]:
        photos, added = uploads_of(payload), list[Entry]()
        for photo in photos[:_MOST_AT_ONCE]:
            try:
                pixels = self._tagger.read(photo.path)
                line = Answer(photo.name, self._tagger.tag(pixels)).describe()
            except VsamError as error:
                added.append(Entry(photo.name, error=failed(photo.name, error)))
                continue
            added.append(entry_of(line, picture=thumbnail(pixels)))
        every = [*added, *given][:_MOST_GIVEN]
        categories, attributes = choices([*every, *self._gallery.entries])
        problem = ""
        if len(photos) > _MOST_AT_ONCE:
            problem = markup.problem(
                f"Only the first {_MOST_AT_ONCE} of {len(photos)} photos were taken: tag folders "
                "with vsam-predict."
            )
        return (
            every,
            None,
            problem,
            gr.update(choices=[_ANY, *categories]),
            gr.update(choices=attributes),
        )
