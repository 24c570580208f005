"""`/healthz`: the process lives; `/readyz`: it does what it is there for; `/stats`: all counters as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson

from fastbars.live.connections.states import ConnectionState
from fastbars.redaction import without_credentials
from fastbars.service.http import Route, View
from fastbars.sinks import SinkState

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["health_routes", "reasons", "stats_of"]


def reasons(view: View) -> dict[str, str]:
    """Why it is not ready, by venue and sink; empty where it is."""
    found: dict[str, str] = {}
    stats = view.stats()
    if stats is None:
        return {"stream": "not connected yet"}
    for name, own in (stats.venues or {"stream": stats}).items():
        if own.failure:
            found[name] = f"ended: {own.failure}"
        elif own.state is not ConnectionState.CONNECTED:
            found[name] = str(own.state)
    for name, sink in stats.sinks.items():
        if sink.state is not SinkState.UP:
            found[f"sink {name}"] = f"{sink.state}: {sink.error}" if sink.error else str(sink.state)
    return {name: without_credentials(reason) for name, reason in found.items()}


def stats_of(view: View) -> dict[str, Any]:
    """All counters, as JSON has them."""
    stats = view.stats()
    content: dict[str, Any] = {"source": view.source, "reasons": reasons(view)}
    if stats is not None:
        content |= asdict(stats)
        content["holes"] = {name: len(one.holes()) for name, one in view.streams.items()}
        content["subscribed"] = {name: len(one.subscribed) for name, one in view.streams.items()}
        content["healing"] = {name: [asdict(own) for own in one.healing()] for name, one in view.streams.items()}
    return content


def health_routes(view: View) -> list[Route]:
    """The routes of health. Probes have no token: the first two are answered without, and name no address."""

    async def alive(_: web.Request) -> web.Response:
        return _answer({"alive": True})

    async def ready(_: web.Request) -> web.Response:
        found = reasons(view)
        return _answer({"ready": not found, "reasons": found}, 503 if found else 200)

    async def stats(_: web.Request) -> web.Response:
        return _answer(stats_of(view))

    return [
        Route("/healthz", alive, is_open=True),
        Route("/readyz", ready, is_open=True),
        Route("/stats", stats),
    ]


def _answer(content: Any, status: int = 200) -> web.Response:
    from aiohttp import web  # noqa: PLC0415 loaded already

    body = without_credentials(orjson.dumps(content, default=str, option=orjson.OPT_NON_STR_KEYS).decode())
    return web.Response(text=body, status=status, content_type="application/json")
