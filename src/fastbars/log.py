"""The logger of fastbars: structlog's key-value events, through the standard library's `logging`.

A program that configures neither thus sees warnings on stderr, and nothing is ever written to stdout. structlog is
imported with the first line that is due: it takes half as long as numpy, and most processes that end soon say nothing.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, MutableMapping
from functools import cache
from typing import TYPE_CHECKING, Any

from fastbars.redaction import hidden, without_credentials

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger

_logger = logging.getLogger("fastbars")


@cache
def _structured() -> BoundLogger:
    import structlog  # noqa: PLC0415 see the module's first lines

    pairs = structlog.processors.KeyValueRenderer(key_order=["event"], drop_missing=True)

    def render(logger: Any, name: str, event: MutableMapping[str, Any]) -> tuple[tuple[str], dict[str, Any]]:
        return _rendered(event, lambda rest: pairs(logger, name, rest))

    logger: BoundLogger = structlog.wrap_logger(
        _logger,
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[structlog.stdlib.filter_by_level, render],
    )
    return logger


def _rendered(
    event: MutableMapping[str, Any], pairs: Callable[[MutableMapping[str, Any]], str]
) -> tuple[tuple[str], dict[str, Any]]:
    exc_info = event.pop("exc_info", None)
    text = event.pop("event")
    extra = {"event": text, "fields": dict(event)}  # for formatters that show them apart
    text = without_credentials(f"{text} {pairs(event)}".rstrip())
    if exc_info:
        error = sys.exc_info()[1] if exc_info is True else exc_info if isinstance(exc_info, BaseException) else None
        if (
            error is not None and hidden(error) is None
        ):  # the traceback would show secrets: it is formatted here, without them
            trace = "".join(traceback.format_exception(error))
            return (f"{text}\n{without_credentials(trace)}".rstrip(),), {"exc_info": False, "extra": extra}
    return (text,), {"exc_info": exc_info, "extra": extra}


class Log:
    """Writes events with their fields, each where its level is enabled."""

    def prepare(self) -> None:
        """Load what the first line needs, where it would be in the way later: an event loop stood still for 40 ms."""
        _structured()

    def debug(self, event: str, **fields: Any) -> None:
        """For whoever looks into how it works."""
        if _logger.isEnabledFor(logging.DEBUG):
            _structured().debug(event, **fields)

    def info(self, event: str, **fields: Any) -> None:
        """What happens in every run."""
        if _logger.isEnabledFor(logging.INFO):
            _structured().info(event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        """What users should know of."""
        if _logger.isEnabledFor(logging.WARNING):
            _structured().warning(event, **fields)

    def error(self, event: str, **fields: Any) -> None:
        """What has failed."""
        if _logger.isEnabledFor(logging.ERROR):
            _structured().error(event, **fields)

    def exception(self, event: str, **fields: Any) -> None:
        """What has failed, with the traceback of the exception that is being handled."""
        if _logger.isEnabledFor(logging.ERROR):
            _structured().exception(event, **fields)


log = Log()


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
