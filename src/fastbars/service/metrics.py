"""`/metrics`, for Prometheus: read from `stats()` when it is scraped, so that bars and trades pay nothing for it.

What only bars tell (their status, and how late they were) is counted by `BarCounts` as they are issued, once a bar.

Counters begin at 0 with the process, as Prometheus expects; a service that makes its streams anew goes on counting.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

import fastbars
from fastbars.bars import STATUSES, BarStatus, CloseReason, OHLCVBar
from fastbars.clocks import wall_ns
from fastbars.live.connections.states import ConnectionState
from fastbars.live.healing.pages import HealingStats
from fastbars.live.stats import StreamStats
from fastbars.service.http import Route, View
from fastbars.sinks import SinkState

if TYPE_CHECKING:
    from aiohttp import web

    from fastbars.bar_stream import BarStream

__all__ = ["BarCounts", "Metrics", "metrics_route"]

_DELAYS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_WORST = 10  # symbols with a metric of their own
_MOST_SYMBOLS = 100_000  # counted; a universe of names that come and go must not grow for ever
# Totals of StreamStats: name, what it is, the value.
_TOTALS: tuple[tuple[str, str, Callable[[StreamStats], float]], ...] = (
    ("messages", "Messages received, of any kind", lambda s: s.session.messages),
    ("received_bytes", "Size of the messages received", lambda s: s.session.bytes),
    ("trades", "Trades accepted from messages", lambda s: s.buffer.trades),
    ("duplicate_trades", "Trades that had come before", lambda s: s.session.duplicates + s.buffer.duplicates),
    ("late_trades", "Trades that came too late for their bar, which says so", lambda s: s.buffer.late),
    ("refused_trades", "Trades that break a rule; their bars say so", lambda s: s.buffer.refused),
    ("healed_trades", "Trades taken from REST", lambda s: s.buffer.healed),
    ("invalid_messages", "Messages that could not be read", lambda s: s.session.invalid_json + s.session.parse_errors),
    ("connections", "Handshakes that succeeded", lambda s: s.connections),
    ("handovers", "Connections replaced before the exchange ended them", lambda s: s.handovers),
    ("resubscriptions", "Subscriptions made again because nothing came", lambda s: s.resubscriptions),
    ("breaker_trips", "Times that the circuit breaker dropped a connection", lambda s: s.breaker_trips),
    ("pauses", "Times that reading was paused for a slow consumer", lambda s: s.pauses),
    ("callback_errors", "Times that a callback raised", lambda s: s.session.callback_errors),
)
_HEALING: tuple[tuple[str, str, Callable[[HealingStats], float]], ...] = (
    ("healing_requests", "Requests for missing trades", lambda h: h.requests),
    ("healing_errors", "Requests for missing trades that failed", lambda h: h.errors),
    ("holes_given_up", "Holes in the trade ids that stay", lambda h: h.given_up),
)


class _Histogram:
    # Observations in buckets, as Prometheus has them.

    __slots__ = ("buckets", "total")

    def __init__(self) -> None:
        self.buckets = [0] * (len(_DELAYS_S) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.buckets[bisect_left(_DELAYS_S, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        found, count = [], 0
        for limit, own in zip([*map(str, _DELAYS_S), "+Inf"], self.buckets, strict=True):
            count += own
            found.append((limit, float(count)))
        return found


class BarCounts:
    """Counts bars as they are issued: `counts.add` is a callback of bars."""

    def __init__(self) -> None:
        self._statuses: Counter[tuple[str, str, str, BarStatus]] = Counter()
        self._gaps: Counter[tuple[str, str, str]] = Counter()
        self._delays: dict[tuple[str, str], _Histogram] = {}

    def add(self, bar: OHLCVBar) -> None:
        """Count one bar, first issue or revision."""
        venue = bar.exchange, bar.market
        self._statuses[(*venue, bar.spec, bar.status)] += 1
        if bar.status is BarStatus.GAP:
            symbol = *venue, bar.symbol
            if symbol in self._gaps or len(self._gaps) < _MOST_SYMBOLS:
                self._gaps[symbol] += 1
        if bar.revision == 0 and bar.close_reason in (CloseReason.TRADE, CloseReason.WATERMARK, CloseReason.CLOCK):
            delays = self._delays.get(venue)
            if delays is None:
                delays = self._delays[venue] = _Histogram()
            delays.observe(max(0.0, wall_ns() / 1e9 - bar.close_time.timestamp()))

    def collect(self) -> Iterator[Metric]:
        """What was counted."""
        bars = CounterMetricFamily(
            "fastbars_bars",
            "Bars issued, revisions included, by status",
            labels=["exchange", "market", "spec", "status"],
        )
        seen = {(exchange, market, spec) for exchange, market, spec, _ in self._statuses}
        for exchange, market, spec in sorted(seen):
            for status in STATUSES:  # all of them, so that a rate exists before the first of its kind
                bars.add_metric([exchange, market, spec, str(status)], self._statuses[exchange, market, spec, status])
        yield bars
        worst = CounterMetricFamily(
            "fastbars_symbol_gap_bars",
            f"GAP bars of the {_WORST} symbols with most",
            labels=["exchange", "market", "symbol"],
        )
        for key, count in self._gaps.most_common(_WORST):
            worst.add_metric(list(key), count)
        yield worst
        delays = HistogramMetricFamily(
            "fastbars_bar_delay_seconds", "From a bar's close time to its issue, by the local clock",
            labels=["exchange", "market"],
        )  # fmt: skip
        for venue, histogram in sorted(self._delays.items()):
            delays.add_metric(list(venue), histogram.cumulative(), histogram.total)
        yield delays


class Metrics:
    """A collector of Prometheus.

    Args:
        view: what is shown.
        counts: of the bars.
    """

    def __init__(self, view: View, counts: BarCounts) -> None:
        self._view = view
        self._counts = counts
        self._ended: dict[tuple[str, str], float] = {}  # totals of streams that have ended, by metric and venue
        self._last: dict[tuple[str, str], float] = {}

    def collect(self) -> Iterator[Metric]:
        """All metrics, as of now."""
        streams = dict(self._view.streams)
        info = InfoMetricFamily("fastbars", "The version, and the name of the stream")
        info.add_metric([], {"version": fastbars.__version__, "source": self._view.source})
        yield info
        stats = {name: one.stats() for name, one in streams.items()}
        healing = {name: one.healing() for name, one in streams.items()}
        for name, text, value in _TOTALS:
            yield self._total(name, text, {venue: value(own) for venue, own in stats.items()})
        for name, text, count in _HEALING:
            yield self._total(name, text, {venue: sum(map(count, own)) for venue, own in healing.items()})
        yield from self._counts.collect()
        yield from _gauges(streams, stats)
        shared = self._view.stats()
        yield from self._sinks(shared)

    def _total(self, name: str, text: str, values: Mapping[str, float], label: str = "venue") -> CounterMetricFamily:
        family = CounterMetricFamily(f"fastbars_{name}", text, labels=[label])
        for own, value in values.items():
            key = name, own
            if value < self._last.get(key, 0.0):  # another stream: what the last one had counted is kept
                self._ended[key] = self._ended.get(key, 0.0) + self._last[key]
            self._last[key] = value
            family.add_metric([own], self._ended.get(key, 0.0) + value)
        return family

    def _sinks(self, stats: StreamStats | None) -> Iterator[Metric]:
        sinks = {} if stats is None else stats.sinks
        up = GaugeMetricFamily("fastbars_sink_up", "Whether a sink takes bars", labels=["sink"])
        waiting = GaugeMetricFamily("fastbars_sink_waiting_bars", "Bars that it has not confirmed", labels=["sink"])
        lag = GaugeMetricFamily("fastbars_sink_lag_seconds", "Age of the oldest bar that waits for it", labels=["sink"])
        paused = GaugeMetricFamily("fastbars_sink_paused", "Whether reading waits for it", labels=["sink"])
        for name, own in sinks.items():
            up.add_metric([name], own.state is SinkState.UP)
            waiting.add_metric([name], own.waiting)
            lag.add_metric([name], own.lag_s)
            paused.add_metric([name], own.paused)
        yield from (up, waiting, lag, paused)
        for name, text, values in (
            ("sink_bars", "Bars that it has confirmed", {sink: own.confirmed for sink, own in sinks.items()}),
            ("sink_failures", "Times that it failed", {sink: own.failures for sink, own in sinks.items()}),
            ("sink_busy_seconds", "Time spent in it", {sink: own.busy_s for sink, own in sinks.items()}),
        ):
            yield self._total(name, text, values, "sink")


def _gauges(streams: Mapping[str, BarStream], stats: Mapping[str, StreamStats]) -> Iterable[Metric]:
    gauges = {
        name: GaugeMetricFamily(f"fastbars_{name}", text, labels=["venue"])
        for name, text in (
            ("connected", "Whether its connections are up"),
            ("failed", "Whether it has ended for good"),
            ("subscribed_symbols", "Symbols that are subscribed to"),
            ("open_holes", "Holes in the trade ids that are known now"),
            ("missing_trades", "Trades in these holes"),
            ("latency_seconds", "Round trip of the last answered ping"),
            ("clock_offset_seconds", "The exchange's clock less the local one, less the least delay"),
            ("event_age_seconds", "Since the latest event time of the exchange, by the local clock"),
            ("grace_seconds", "How long a bar waits behind its close time"),
            ("silent_subscriptions", "Subscriptions of which nothing has come"),
            ("receive_delay_p50_seconds", "Delay of the median trade behind the fastest message"),
            ("receive_delay_p999_seconds", "The same, that 99.9 % of the trades do not exceed"),
        )
    }
    now_ns = wall_ns()
    for venue, own in stats.items():
        holes = streams[venue].holes()
        values = {
            "connected": own.state is ConnectionState.CONNECTED,
            "failed": bool(own.failure),
            "subscribed_symbols": len(streams[venue].subscribed),
            "open_holes": len(holes),
            "missing_trades": sum(hole.last - hole.first + 1 for hole in holes),
            "latency_seconds": own.latency_s,
            "clock_offset_seconds": own.clock_offset_s,
            "event_age_seconds": None if own.event_time_ns is None else (now_ns - own.event_time_ns) / 1e9,
            "grace_seconds": own.grace_s,
            "silent_subscriptions": own.never_heard,
            "receive_delay_p50_seconds": own.delay_p50_s,
            "receive_delay_p999_seconds": own.delay_p999_s,
        }
        for name, value in values.items():
            if value is not None:
                gauges[name].add_metric([venue], value)
    return gauges.values()


def metrics_route(view: View, counts: BarCounts) -> Route:
    """`/metrics`, in Prometheus' text format, or as OpenMetrics where that is accepted."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(Metrics(view, counts))

    async def answer(request: web.Request) -> web.Response:
        from aiohttp import web  # noqa: PLC0415 loaded already

        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    return Route("/metrics", answer)
