"""What the web server of a service answers."""

from __future__ import annotations

from collections.abc import Sequence

from fastbars.service.health import health_routes
from fastbars.service.http import Route
from fastbars.service.metrics import BarCounts, metrics_route
from fastbars.service.page import Page
from fastbars.service.service import Service
from fastbars.service.stored import StoredBars

__all__ = ["routes_of"]


def routes_of(service: Service) -> Sequence[Route]:
    """All routes of a service; what counts bars is called with each of them from now on."""
    counts = BarCounts()
    service.on_bar.append(counts.add)
    # Older bars than the page holds come from a sink whose files others may read meanwhile.
    kept = next((sink.url for sink in service.config.sinks.values() if sink.url.startswith("parquet:")), None)
    page = Page(service, None if kept is None else StoredBars(kept))
    service.on_bar.append(page.add)
    return [metrics_route(service, counts), *health_routes(service), *page.routes()]
