"""`vsam serve-view`: photos with their tags on a page, sent over gRPC."""

from __future__ import annotations

from typing import Any

from .serving import page, protection, service, service_options, with_options


@with_options(protection, service, page)
def serve_view(protected: dict[str, Any], served: dict[str, Any], paged: dict[str, Any]) -> None:
    """Serve VisualizationService over gRPC, and show the latest pictures with their tags on a page.

    SIGTERM and Ctrl-C end it as `vsam serve`.
    """
    from vsam.serving.options import ServiceOptions

    options = ServiceOptions(**service_options(protected, served))
    from vsam.serving.page import PageOptions
    from vsam.serving.view import serve_view as run_server

    run_server(options, PageOptions(port=paged["page_port"], pictures=paged["pictures"]))
