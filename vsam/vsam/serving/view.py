"""`VisualizationService`: photos with their tags, shown on a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc

from vsam_heatmaps.errors import expected
from vsam_heatmaps.images import decode_photo

from .calls import Method, PhotoService
from .decoding import BadRequestError
from .hosting import host
from .messages import VISUALIZATION
from .metrics import Metrics
from .options import ServiceOptions
from .page import Page, PageOptions
from .pictures import Pictures, small_jpeg

_Empty = VISUALIZATION.message("Empty")


class ViewService(PhotoService):
    """Answers `VisualizationService`, and shows what it was sent.

    Args:
        options: The limits.
        metrics: Told of each call.
        page: Where the pictures are shown.
    """

    interface = VISUALIZATION
    request = VISUALIZATION.message("VisualizationRequest")
    photo = "image.data"
    needs = "the page"

    def __init__(self, options: ServiceOptions, metrics: Metrics, page: PageOptions) -> None:
        super().__init__(options, metrics)
        self._pictures = Pictures(page.pictures)
        self._page = Page(self._pictures, page, options)

    def load(self) -> None:
        """Open the page."""
        self._page.open()

    @property
    def about(self) -> dict[str, object]:
        """Where the page is."""
        return {"page": self._page.address, **super().about}

    def shut(self) -> None:
        """Wait for photos that are being decoded, and close the page."""
        super().shut()
        self._page.close()

    def prepare(self, data: bytes) -> bytes:
        """Make a small copy of a photo's file."""
        return small_jpeg(decode_photo(data, max_pixels=self._options.max_pixels))

    def methods(self) -> Mapping[str, Method]:
        """Give what answers each method."""
        return {"Visualize": self._visualize}

    async def _visualize(self, context: grpc.aio.ServicerContext) -> Any:
        with self._places.enter():
            decoded = await self._photo(context)
        said = decoded.request.prediction
        try:
            self._pictures.add(
                decoded.item,
                *(
                    ((entry.label, entry.value) for entry in field)
                    for field in (said.categories, said.attributes)
                ),
            )
        except ValueError as error:
            raise BadRequestError(
                f"Expected the values of prediction to be finite, but {error}."
            ) from error
        return _Empty()


def serve_view(options: ServiceOptions, page: PageOptions) -> None:
    """Serve `VisualizationService` and its page until a signal comes; see `host`.

    Args:
        options: Where and how.
        page: The page's port, and how many pictures it shows.

    Raises:
        VsamError: As `host`, or if the page's port is taken.
    """
    if page.port and page.port == options.port:
        raise expected("page_port", "another port than that of the service", page.port)
    host(options, lambda metrics: ViewService(options, metrics, page))
