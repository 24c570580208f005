"""How a service logs: lines for a console, or of JSON, both to stderr with time and level."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import orjson

from fastbars.redaction import without_credentials
from fastbars.service.config import LogConfig

__all__ = ["ConsoleFormatter", "JsonFormatter", "set_up_logging"]


class ConsoleFormatter(logging.Formatter):
    """`2026-12-01T13:56:44.123Z WARNING sink_down sink='main' ...`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and behind it the traceback where there is one."""
        text = f"{_time_of(record)} {record.levelname} {record.getMessage()}"
        if record.name != "fastbars":
            text = f"{_time_of(record)} {record.levelname} {record.name}: {record.getMessage()}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return without_credentials(text)


class JsonFormatter(logging.Formatter):
    """`{"time": ..., "level": ..., "event": ..., ...}`: the fields of an event are members of the object."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        event = getattr(record, "event", None)
        line = {"time": _time_of(record), "level": record.levelname.lower(), "logger": record.name}
        line |= {"event": event, **getattr(record, "fields", {})} if event else {"event": record.getMessage()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return without_credentials(orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode())


def set_up_logging(config: LogConfig) -> None:
    """Log to stderr from now on, and nowhere else."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if config.format == "json" else ConsoleFormatter())
    root = logging.getLogger()
    for other in list(root.handlers):
        root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(config.level.upper())
    # Their own lines about each request or connection say nothing that the events do not.
    for name in ("websockets", "aiohttp.access", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _time_of(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
