"""Sinks: where bars are kept. `open_sink(URL)` makes one; `stream(..., sinks=[URL])` writes to it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from fastbars.redaction import keep_address_secret, without_credentials
from fastbars.sinks.declaration import Sink, SinkError, SinkRefused, SinkState, SinkStats
from fastbars.sinks.json_rows import record_of_json
from fastbars.sinks.rows import Rows, best_of

__all__ = [
    "SCHEMES", "Rows", "Sink", "SinkError", "SinkRefused", "SinkState", "SinkStats", "best_of", "open_sink",
    "record_of_json",
]  # fmt: skip

SCHEMES = {
    "parquet": ("fastbars.sinks.parquet", "ParquetSink", "archives"),
    "duckdb": ("fastbars.sinks.duckdb", "DuckDBSink", "duckdb"),
    "csv": ("fastbars.sinks.text", "CsvSink", ""),
    "jsonl": ("fastbars.sinks.text", "JsonLinesSink", ""),
    "postgresql": ("fastbars.sinks.postgresql", "PostgresqlSink", "postgresql"),
    "clickhouse": ("fastbars.sinks.clickhouse", "ClickhouseSink", "clickhouse"),
    "clickhouses": ("fastbars.sinks.clickhouse", "ClickhouseSink", "clickhouse"),
    "redis": ("fastbars.sinks.redis", "RedisSink", "redis"),
    "rediss": ("fastbars.sinks.redis", "RedisSink", "redis"),
    "nats": ("fastbars.sinks.nats", "NatsSink", "nats"),
    "tls": ("fastbars.sinks.nats", "NatsSink", "nats"),
    "kafka": ("fastbars.sinks.kafka", "KafkaSink", "kafka"),
}
"""Scheme of a URL -> its module, its class, and the extra with its libraries. A class is called with the URL."""


def open_sink(target: str | Sink | Callable[[Any], object]) -> Sink:
    """Make a sink. Nothing is connected or written before its `open`.

    Args:
        target: a URL, such as "jsonl:bars.jsonl"; a function, plain or async, that is called with lists of bars and
            confirms them by returning; or a Sink, which is returned.

    Raises:
        SinkRefused: no such scheme, its library is not installed, or the URL is malformed.
    """
    if not isinstance(target, str):
        if callable(target):
            from fastbars.sinks.functions import FunctionSink  # noqa: PLC0415

            return FunctionSink(target)
        return target
    keep_address_secret(target)
    scheme, colon, _ = target.partition(":")
    if not colon or scheme not in SCHEMES:
        shown = without_credentials(target[:200])
        raise SinkRefused(
            f"{shown!r} is no URL of a sink: it begins with one of {', '.join(map('{}:'.format, SCHEMES))}"
        )
    module, name, extra = SCHEMES[scheme]
    try:
        made: Sink = getattr(import_module(module), name)(target)
    except ModuleNotFoundError as error:
        if not extra:
            raise
        raise SinkRefused(f'{scheme}: needs {error.name}: pip install "fastbars[{extra}]"') from None
    return made
