"""`fastbars.stream`, the entry point for most users, and `fastbars.run`, asyncio on uvloop."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, Unpack, overload

from fastbars.bar_stream import UPDATES_S, BarStream
from fastbars.bars import ExchangeBar, OHLCVBar
from fastbars.callbacks import check_callbacks
from fastbars.clocks import wall_ns
from fastbars.differences import Difference
from fastbars.errors import UnknownExchangeError, WebSocketError
from fastbars.events import MarketDataEvent
from fastbars.exchanges import find_exchange
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.instruments import Where
from fastbars.exchanges.messages import RawMessage
from fastbars.live.callbacks import Callbacks
from fastbars.live.config import Repair, StreamConfig
from fastbars.live.connections.adapter import BaseWebSocketAdapter
from fastbars.live.connections.states import ConnectionState
from fastbars.live.instrument_source import InstrumentSource
from fastbars.live.universe import SymbolChange, UniverseWatch
from fastbars.sinks.declaration import Sink
from fastbars.sinks.worker import SinkWorkers
from fastbars.specs import BarSpec
from fastbars.ticks import TickData
from fastbars.venue_streams import VenueStreams

if TYPE_CHECKING:
    from fastbars.live.past.keeper import PastKeeper
    from fastbars.live.past.plan import HistoryFrom
    from fastbars.live.past.spans import Since, Span
    from fastbars.tapes.recorder import Recording
    from fastbars.verification import CandleWatch

__all__ = ["BarStream", "VenueStreams", "run", "stream"]

T = TypeVar("T")
Bars = str | int | BarSpec | Sequence[str | int | BarSpec]
Symbols = Sequence[str] | Where
OneSink = str | Sink | Callable[..., object]
Sinks = Sequence[OneSink] | Mapping[str, OneSink]


class StreamOptions(TypedDict, total=False):
    """Options of `stream`, which has what they mean; mappings are by venue, where there are several."""

    channel: str | Mapping[str, str] | None
    url: str | Mapping[str, str] | None
    config: StreamConfig | Mapping[str, StreamConfig] | None
    once: bool
    ssl: SSLContext | None
    proxy: str | Literal[True] | None
    lines: int | None
    repair: Repair | None
    on_tick: Callable[[TickData], object] | None
    on_bar: Callable[[OHLCVBar], object] | None
    on_bars: Callable[[list[OHLCVBar]], object] | None
    on_update: Callable[[OHLCVBar], object] | None
    updates: float
    on_late: Callable[[TickData], object] | None
    on_exchange_bar: Callable[[ExchangeBar], object] | None
    on_event: Callable[[MarketDataEvent], object] | None
    on_message: Callable[[RawMessage], object] | None
    on_state: Callable[[ConnectionState], object] | None
    on_error: Callable[[WebSocketError], object] | None
    verify: bool | float
    on_difference: Callable[[Difference], object] | None
    record: str | PathLike[str] | Recording | None
    on_symbols: Callable[[SymbolChange], object] | None
    history: Span | None
    since: Since | None
    history_from: HistoryFrom | None
    sinks: Sinks | SinkWorkers
    source: str


@overload
def stream(
    exchange: str | Exchange,
    symbols: Symbols,
    bars: Bars = "1m",
    *,
    market: str | None = None,
    **options: Unpack[StreamOptions],
) -> BarStream: ...


@overload
def stream(
    exchange: Mapping[str, Symbols],
    symbols: None = None,
    bars: Bars = "1m",
    *,
    market: None = None,
    **options: Unpack[StreamOptions],
) -> VenueStreams: ...


def stream(
    exchange: str | Exchange | Mapping[str, Symbols],
    symbols: Symbols | None = None,
    bars: Bars = "1m",
    *,
    market: str | None = None,
    channel: str | Mapping[str, str] | None = None,
    url: str | Mapping[str, str] | None = None,
    config: StreamConfig | Mapping[str, StreamConfig] | None = None,
    once: bool = False,
    ssl: SSLContext | None = None,
    proxy: str | Literal[True] | None = True,
    lines: int | None = None,
    repair: Repair | None = None,
    on_tick: Callable[[TickData], object] | None = None,
    on_bar: Callable[[OHLCVBar], object] | None = None,
    on_bars: Callable[[list[OHLCVBar]], object] | None = None,
    on_update: Callable[[OHLCVBar], object] | None = None,
    updates: float = UPDATES_S,
    on_late: Callable[[TickData], object] | None = None,
    on_exchange_bar: Callable[[ExchangeBar], object] | None = None,
    on_event: Callable[[MarketDataEvent], object] | None = None,
    on_message: Callable[[RawMessage], object] | None = None,
    on_state: Callable[[ConnectionState], object] | None = None,
    on_error: Callable[[WebSocketError], object] | None = None,
    verify: bool | float = False,
    on_difference: Callable[[Difference], object] | None = None,
    record: str | PathLike[str] | Recording | None = None,
    on_symbols: Callable[[SymbolChange], object] | None = None,
    history: Span | None = None,
    since: Since | None = None,
    history_from: HistoryFrom | None = None,
    sinks: Sinks | SinkWorkers = (),
    source: str = "",
) -> BarStream | VenueStreams:
    """Stream finished bars: `async with stream("binance", ["BTCUSDT"], bars=["1m", "5m"]) as bars: ...`.

    Of several venues: `stream({"binance": ["BTCUSDT"], "bybit:linear": ["BTCUSDT"]}, bars="1m")`, one iterator and one
    set of callbacks; see `VenueStreams`. `channel`, `url` and `config` may then be mappings by the same names; a shared
    `config.state` is one file a venue, `bars.binance-spot.state` for `bars.state`. A trade names no venue, but
    `on_event` does.

    Args:
        exchange, market: such as "binance" and "usdm", or "binance:usdm"; the exchange's first market if None. Or an
            Exchange of your own. Or the symbols of several, by their names.
        symbols: as the exchange writes them, or their aliases, such as "BTC/USDT:USDT"; case is put right where the
            exchange has one case only. Or `fastbars.where(...)`: the instruments that are chosen, looked at again
            every `StreamConfig.listing_interval`; see `BarStream.universe`.
        bars: bar specs.
        channel: trade channel that bars are made from; the exchange's default one if None.
        url: connect here instead of the exchange's own address.
        config: every other setting; `bars` replaces its `bars`.
        once: end when the server closes normally, instead of reconnecting.
        ssl, proxy, lines, repair: as in StreamConfig, whose values hold where these are not given.
        on_tick, on_bar, on_bars, on_late, on_exchange_bar, on_event, on_message, on_state, on_error: plain functions,
            called as in BaseWebSocketAdapter; on_bars for each list of bars issued in one wakeup. One that
            raises is logged and counted in `stats().session.callback_errors`, and nothing is lost.
        on_update: likewise, called with the bars in progress (their close_reason is `open`): with those that have
            changed, each at most once in `updates` seconds, as it is then; behind the bars issued before it.
        updates: seconds between two updates of a bar, for `on_update` and `BarStream.updates`.
        verify: compare bars with the exchange's own candles, which are then subscribed to as well: of all symbols, or
            of this share of them, chosen by name; see `BarStream.verification`.
        on_difference: called with each Difference of `verify`.
        record: folder, or Recording, to write every input of the run to: `replay` makes the same bars from it.
            A Recording that several streams share ends with the last of them.
        on_symbols: called with each SymbolChange, where `symbols` is `where(...)`.
        history: begin with bars of the past: how many intervals of each spec, such as 500, or a time, such as "3d". For
            each symbol and spec they come first, in order of time, and live bars follow without a double or a
            missing one. Intervals without trades have no bar, in either.
        since: instead of `history`: where the past begins, an aware datetime, or the bar behind which it goes on.
        history_from: "trades": bars are made of past trades, and proven as live ones are; "candles": they are the
            exchange's own candles, REPORTED; None: trades where the exchange serves them by id and they are few enough,
            else candles. See docs/warm-up.md.
        sinks: where bars are kept besides: URLs such as "jsonl:bars.jsonl", functions that are given lists of bars, or
            a `Sink`, in a list or by names of your own. Each is given every bar at least once, also across restarts
            where there is a `state`; one that is down is retried, and one that is too slow stops the reading.
        source: name of this stream in what sinks keep; the host's name if empty.

    Raises:
        UnknownExchangeError, SpecError, ValueError, TypeError: at once; with `record` also OSError, and TapeError
            where zstd is missing or the Recording has ended; with `state` SnapshotError and OSError.
        SubscriptionError: at once for what cannot be a symbol of the exchange; on entering for what it refuses.
        WSConnectionError: on entering.
        SinkRefused: at once, or on entering: a sink that can take nothing as it is configured.
        RestError: where `symbols` is `where(...)`: at once, if this exchange has no list of instruments; on entering,
            if it cannot be had.
    """
    if isinstance(exchange, Mapping):
        if symbols is not None or market is not None:
            raise TypeError('symbols and markets of several venues are given together: {"bybit:linear": ["BTCUSDT"]}')
        options: StreamOptions = {
            "channel": channel, "url": url, "config": config, "once": once, "ssl": ssl, "proxy": proxy, "lines": lines,
            "repair": repair,
            "on_tick": on_tick, "on_bar": on_bar, "on_bars": on_bars, "on_update": on_update, "updates": updates,
            "on_late": on_late, "on_exchange_bar": on_exchange_bar, "on_event": on_event, "on_message": on_message,
            "on_state": on_state, "on_error": on_error, "verify": verify, "on_difference": on_difference,
            "record": record, "on_symbols": on_symbols, "history": history, "since": since,
            "history_from": history_from, "sinks": sinks, "source": source,
        }  # fmt: skip
        return _streams_of(exchange, bars, options)
    if symbols is None:
        raise TypeError("symbols are missing")
    if isinstance(channel, Mapping) or isinstance(url, Mapping) or isinstance(config, Mapping):
        raise TypeError("channel, url and config are mappings only where several venues are given")
    if isinstance(symbols, str):
        raise TypeError("symbols must be a list of strings")
    venue = find_exchange(exchange, market)
    chosen = symbols if isinstance(symbols, Where) else None
    symbols = [] if isinstance(symbols, Where) else venue.exact_symbols(symbols)
    base = config or StreamConfig()
    settings = replace(
        base,
        bars=bars,
        ssl=ssl or base.ssl,
        proxy=base.proxy if proxy is True else proxy,
        lines=base.lines if lines is None else lines,
        repair=base.repair if repair is None else repair,
    )
    callbacks = Callbacks(on_tick, on_bar, on_bars, on_late, on_exchange_bar, on_event, on_message)
    check_callbacks(
        on_state=on_state, on_error=on_error, on_update=on_update, on_difference=on_difference, on_symbols=on_symbols
    )
    chosen_symbols: Sequence[str] | UniverseWatch = symbols
    if chosen is not None:
        chosen_symbols = UniverseWatch(InstrumentSource(venue, settings, url), venue, settings, chosen, on_symbols)
    make_past = _past_of(venue, settings, channel, url, history, since, history_from, on_error)
    workers = _workers_of(sinks, source)
    watch: CandleWatch | None = None
    recording: Recording | None = None
    if verify is not False:
        from fastbars.verification import CandleWatch  # noqa: PLC0415 loaded for those who ask for it

        watch = CandleWatch(venue, settings.specs, float(verify), on_difference)
    if record is not None:
        recording = _recording_of(record)

    def make_adapter() -> BaseWebSocketAdapter:
        def take_bars(issued: list[OHLCVBar]) -> None:
            if watch is not None:
                watch.add_bars(issued)
            adapter.session.notifier.call(on_bars, issued)

        def take_candle(candle: ExchangeBar) -> None:
            if watch is not None:
                watch.add_candle(candle)
            adapter.session.notifier.call(on_exchange_bar, candle)

        own = callbacks
        if watch is not None:
            own = replace(callbacks, on_bars=take_bars, on_exchange_bar=take_candle)
        adapter = BaseWebSocketAdapter(
            venue, settings, callbacks=own, on_state=on_state, on_error=on_error, url=url, channel=channel, once=once,
            record=None if recording is None else recording.session,
        )  # fmt: skip
        if chosen_symbols:
            adapter.take_subscribed_only()
        return adapter

    try:
        return BarStream(
            make_adapter, chosen_symbols, settings.queue_size, recording, watch, updates, on_update, make_past, workers
        )
    except BaseException:
        if recording is not None and recording is not record:
            recording.close()
        raise


def _past_of(
    exchange: Exchange,
    config: StreamConfig,
    channel: str | None,
    url: str | None,
    history: Span | None,
    since: Since | None,
    history_from: HistoryFrom | None,
    on_error: Callable[[WebSocketError], object] | None,
) -> Callable[[BaseWebSocketAdapter], PastKeeper] | None:
    # Mistakes are found here, at once.
    if history is None and since is None:
        if history_from is not None:
            raise ValueError(f"history_from={history_from!r} needs history= or since=, which say how far back")
        return None
    from fastbars.live.past.keeper import PastKeeper  # noqa: PLC0415 for those who ask for it
    from fastbars.live.past.plan import make_plan  # noqa: PLC0415
    from fastbars.live.past.spans import Reach, check_reach  # noqa: PLC0415

    reach = Reach.of(history, since)
    assert reach is not None
    plan = make_plan(
        exchange, channel or exchange.default_channel, config.specs, history_from,
        has_key=config.api_key is not None, url=url, rest_url=config.rest_url,
    )  # fmt: skip
    check_reach(reach, config.specs, wall_ns())

    def make_past(adapter: BaseWebSocketAdapter) -> PastKeeper:
        return PastKeeper(adapter.session, plan, reach, is_healing=adapter.upkeep.is_healing, on_failure=on_error)

    return make_past


def _streams_of(given: Mapping[str, Symbols], bars: Bars, options: StreamOptions) -> VenueStreams:
    venues = {name: find_exchange(name) for name in given}
    if not venues:
        raise ValueError("no venue is given")
    for name, venue in venues.items():
        for other, one in venues.items():
            if other != name and one is venue:
                raise ValueError(f"{name} and {other} are one venue; list its symbols together")
    record, on_state = options.get("record"), options.get("on_state")
    check_callbacks(on_state=on_state)
    recording = None if record is None else _recording_of(record)

    def note_state(state: ConnectionState) -> None:
        made.note_state(state)

    workers = _workers_of(options.get("sinks", ()), options.get("source", ""))
    options |= {"record": recording, "on_state": note_state, "sinks": () if workers is None else workers}
    own = {name: _own_options(name, venue, venues, options) for name, venue in venues.items()}
    streams: dict[str, BarStream] = {}
    try:
        for name in venues:
            streams[name] = stream(name, given[name], bars, **own[name])
    except BaseException:
        if recording is not None:
            for _ in streams:
                recording.leave()
            if recording is not record:
                recording.close()
        raise
    made = VenueStreams(streams, recording, options.get("on_error"), on_state)
    return made


def _own_options(name: str, venue: Exchange, venues: Collection[str], options: StreamOptions) -> StreamOptions:
    # Those of one of several venues: what is given by venue is its own, and so is a state file.
    own = options.copy()
    config = options.get("config")
    if isinstance(config, StreamConfig) and config.state is not None:
        path = Path(config.state)
        own["config"] = replace(config, state=path.with_name(f"{path.stem}.{'-'.join(venue.identity)}{path.suffix}"))
    for key in ("channel", "url", "config"):
        value = options.get(key)
        if isinstance(value, Mapping):
            for other in value:
                if other not in venues:
                    raise UnknownExchangeError(f"{key}: unknown venue {other!r:.100}; given are {', '.join(venues)}")
            own[key] = value.get(name)
    return own


def _workers_of(sinks: Sinks | SinkWorkers, source: str) -> SinkWorkers | None:
    if not sinks and isinstance(sinks, tuple | list | dict):
        return None
    return sinks if isinstance(sinks, SinkWorkers) else SinkWorkers(sinks, source)


def _recording_of(record: str | PathLike[str] | Recording) -> Recording:
    from fastbars.tapes.recorder import Recording  # noqa: PLC0415 loaded for those who ask for it

    return record if isinstance(record, Recording) else Recording(record)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on uvloop (on Windows: on asyncio's own loop).

    Raises:
        RuntimeError: an event loop is running in this thread already. TypeError: `main` is no coroutine.
    """
    given: Any = main
    if not asyncio.iscoroutine(given):
        called = f": call it, run({given.__name__}())" if inspect.iscoroutinefunction(given) else ""
        raise TypeError(f"run() takes a coroutine, got {given!r:.100}{called}")
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        main.close()
        raise RuntimeError(
            "fastbars.run() starts an event loop, and one is running in this thread already, as in a notebook:"
            " `await` the coroutine instead"
        )
    if sys.platform == "win32":
        return asyncio.run(main)
    import uvloop  # noqa: PLC0415 it is not there on Windows

    return uvloop.run(main)
