"""The logger of fastbars: structlog's key-value events, through the standard library's `logging`.

So a program that configures neither sees warnings on stderr, and nothing of ours ever reaches stdout.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

import structlog

_render_pairs = structlog.processors.KeyValueRenderer(key_order=["event"], drop_missing=True)


def _render(logger: Any, name: str, event: MutableMapping[str, Any]) -> tuple[tuple[str], dict[str, Any]]:
    exc_info = event.pop("exc_info", None)
    text = event.pop("event")
    pairs = _render_pairs(logger, name, event)
    return (f"{text} {pairs}".rstrip(),), {"exc_info": exc_info}


log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    logging.getLogger("fastbars"),
    wrapper_class=structlog.stdlib.BoundLogger,
    processors=[structlog.stdlib.filter_by_level, _render],
)
