"""`fastbars.stream`, the entry point for most users, and `fastbars.run`, asyncio on uvloop."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from os import PathLike
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from fastbars.bar_stream import UPDATES_S, BarStream
from fastbars.bars import ExchangeBar, OHLCVBar
from fastbars.callbacks import check_callbacks
from fastbars.clocks import wall_ns
from fastbars.differences import Difference
from fastbars.errors import WebSocketError
from fastbars.events import MarketDataEvent
from fastbars.exchanges import find_exchange
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.instruments import Where
from fastbars.exchanges.messages import RawMessage
from fastbars.live.callbacks import Callbacks
from fastbars.live.config import StreamConfig
from fastbars.live.connections.adapter import BaseWebSocketAdapter
from fastbars.live.connections.states import ConnectionState
from fastbars.live.instrument_source import InstrumentSource
from fastbars.live.universe import SymbolChange, UniverseWatch
from fastbars.specs import BarSpec
from fastbars.ticks import TickData

if TYPE_CHECKING:
    from fastbars.live.past.keeper import PastKeeper
    from fastbars.live.past.plan import HistoryFrom
    from fastbars.live.past.spans import Since, Span
    from fastbars.tapes.recorder import Recording
    from fastbars.verification import CandleWatch

__all__ = ["BarStream", "run", "stream"]

T = TypeVar("T")


def stream(
    exchange: str | Exchange,
    symbols: Sequence[str] | Where,
    bars: str | int | BarSpec | Sequence[str | int | BarSpec] = "1m",
    *,
    market: str | None = None,
    channel: str | None = None,
    url: str | None = None,
    config: StreamConfig | None = None,
    once: bool = False,
    ssl: SSLContext | None = None,
    proxy: str | Literal[True] | None = True,
    lines: int | None = None,
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
) -> BarStream:
    """Stream finished bars: `async with stream("binance", ["BTCUSDT"], bars=["1m", "5m"]) as bars: ...`.

    Args:
        exchange, market: such as "binance" and "usdm"; the exchange's first market if None. Or an Exchange of your own.
        symbols: as the exchange writes them, or their aliases, such as "BTC/USDT:USDT"; case is put right where the
            exchange has one case only. Or `fastbars.where(...)`: the instruments that are chosen, looked at again
            every `StreamConfig.listing_interval`; see `BarStream.universe`.
        bars: bar specs.
        channel: trade channel that bars are made from; the exchange's default one if None.
        url: connect here instead of the exchange's own address.
        config: every other setting; `bars` replaces its `bars`.
        once: end when the server closes normally, instead of reconnecting.
        ssl, proxy, lines: as in StreamConfig, whose values hold where these are not given.
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

    Raises:
        UnknownExchangeError, SpecError, ValueError, TypeError: at once; with `record` also OSError, and TapeError
            where zstd is missing or the Recording has ended; with `state` SnapshotError and OSError.
        SubscriptionError: at once for what cannot be a symbol of the exchange; on entering for what it refuses.
        WSConnectionError: on entering.
        RestError: where `symbols` is `where(...)`: at once, if this exchange has no list of instruments; on entering,
            if it cannot be had.
    """
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
    )
    callbacks = Callbacks(on_tick, on_bar, on_bars, on_late, on_exchange_bar, on_event, on_message)
    check_callbacks(
        on_state=on_state, on_error=on_error, on_update=on_update, on_difference=on_difference, on_symbols=on_symbols
    )
    source: Sequence[str] | UniverseWatch = symbols
    if chosen is not None:
        source = UniverseWatch(InstrumentSource(venue, settings, url), venue, settings, chosen, on_symbols)
    make_past = _past_of(venue, settings, channel, url, history, since, history_from, on_error)
    watch: CandleWatch | None = None
    recording: Recording | None = None
    # Both are loaded for those who ask for them.
    if verify is not False:
        from fastbars.verification import CandleWatch  # noqa: PLC0415

        watch = CandleWatch(venue, settings.specs, float(verify), on_difference)
    if record is not None:
        from fastbars.tapes.recorder import Recording  # noqa: PLC0415

        recording = record if isinstance(record, Recording) else Recording(record)

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
        if source:
            adapter.take_subscribed_only()
        return adapter

    try:
        return BarStream(make_adapter, source, settings.queue_size, recording, watch, updates, on_update, make_past)
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
