"""The logger of fastbars: structlog's key-value events, through the standard library's `logging`.

A program that configures neither thus sees warnings on stderr, and nothing is ever written to stdout.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any

import structlog

from fastbars.redaction import hidden, without_credentials

_render_pairs = structlog.processors.KeyValueRenderer(key_order=["event"], drop_missing=True)


def _render(logger: Any, name: str, event: MutableMapping[str, Any]) -> tuple[tuple[str], dict[str, Any]]:
    exc_info = event.pop("exc_info", None)
    text = event.pop("event")
    text = without_credentials(f"{text} {_render_pairs(logger, name, event)}".rstrip())
    if exc_info:
        error = sys.exc_info()[1] if exc_info is True else exc_info if isinstance(exc_info, BaseException) else None
        if (
            error is not None and hidden(error) is None
        ):  # the traceback would show secrets: it is formatted here, without them
            trace = "".join(traceback.format_exception(error))
            return (f"{text}\n{without_credentials(trace)}".rstrip(),), {"exc_info": False}
    return (text,), {"exc_info": exc_info}


log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    logging.getLogger("fastbars"),
    wrapper_class=structlog.stdlib.BoundLogger,
    processors=[structlog.stdlib.filter_by_level, _render],
)


class SparseLog:
    """Logs the 1st, 2nd, 4th, 8th, ... warning of a kind, so that a flood costs a few lines; counters have them all.

    Args:
        context: what each line names, such as the exchange.
    """

    def __init__(self, **context: object) -> None:
        self._context = context
        self._seen: dict[tuple[str, str], int] = {}

    def warn(self, event: str, *, of: str = "", **context: Any) -> None:
        """Count a warning and log it if it is due; events with another `of`, such as a symbol, are counted apart."""
        seen = self._seen[event, of] = self._seen.get((event, of), 0) + 1
        if seen & (seen - 1) == 0:
            log.warning(event, **self._context, seen=seen, **context)

    def warn_once(self, event: str, **context: Any) -> None:
        """Log only the first of a kind."""
        if (event, "") not in self._seen:
            self.warn(event, **context)
