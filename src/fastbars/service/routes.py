"""What the web server of a service answers."""

from __future__ import annotations

from collections.abc import Sequence

from fastbars.service.health import health_routes
from fastbars.service.http import Route
from fastbars.service.metrics import BarCounts, metrics_route
from fastbars.service.page import Page
from fastbars.service.service import Service

__all__ = ["routes_of"]


def routes_of(service: Service) -> Sequence[Route]:
    """All routes of a service; what counts bars is called with each of them from now on."""
    counts = BarCounts()
    service.on_bar.append(counts.add)
    page = Page(service)
    service.on_bar.append(page.add)
    return [metrics_route(service, counts), *health_routes(service), *page.routes()]
