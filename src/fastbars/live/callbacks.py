"""User callbacks: the functions that a session calls. One that raises loses no trade and no bar.

Units: times int64 nanoseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TypeVar

from fastbars.bars import ExchangeBar, OHLCVBar
from fastbars.callbacks import call, check_callbacks
from fastbars.events import MarketDataEvent, Quote, Ticker
from fastbars.exchanges.messages import RawMessage
from fastbars.kernel.recent import RecentKeys
from fastbars.live.delivery import CALLBACKS, Delivery
from fastbars.ticks import TickData, to_nanoseconds

T = TypeVar("T")


@dataclass(slots=True)
class Callbacks:
    """Functions that a session calls; one that raises is logged and counted, and nothing is lost.

    Raises:
        TypeError: one is not callable, or an async or generator function.
    """

    on_tick: Callable[[TickData], object] | None = None
    on_bar: Callable[[OHLCVBar], object] | None = None
    on_bars: Callable[[list[OHLCVBar]], object] | None = None
    on_late: Callable[[TickData], object] | None = None
    on_exchange_bar: Callable[[ExchangeBar], object] | None = None
    on_event: Callable[[MarketDataEvent], object] | None = None
    on_message: Callable[[RawMessage], object] | None = None

    def __post_init__(self) -> None:
        check_callbacks(**{field.name: getattr(self, field.name) for field in fields(self)})


class Notifier:
    """Calls the callbacks of one session.

    Args:
        exchange: name of the exchange, for events.
        callbacks: the user's.
        delivery: what the bars pass before the callbacks are given them.
        overlaps: several connections carry the same trades from the start, as redundant lines do.

    Attributes:
        delivery: as given.
        errors: times that a callback raised.
        seen_by_callbacks: trades already passed to callbacks, while two connections carry the same ones; None: every
            trade is new to them.
    """

    def __init__(self, exchange: str, callbacks: Callbacks, delivery: Delivery, *, overlaps: bool = False) -> None:
        self.callbacks = callbacks
        self.delivery = delivery
        if callbacks.on_bar or callbacks.on_bars or callbacks.on_event:
            delivery.add_consumer(CALLBACKS)
        self.errors = 0
        self.seen_by_callbacks = RecentKeys() if overlaps else None
        self._overlaps: set[object] = {self} if overlaps else set()  # who has begun one
        self._exchange = exchange
        self._numbers: dict[str, int] = {}  # of the symbols in `seen_by_callbacks`
        self._came_before: Callable[[str, int], bool] | None = None  # of a symbol and a trade id: before the overlap

    @property
    def wants_trades(self) -> bool:
        """Whether each trade is wanted as an object."""
        return self.callbacks.on_tick is not None or self.callbacks.on_event is not None

    def begin_overlap(self, owner: object, came_before: Callable[[str, int], bool]) -> None:
        """Two connections carry the same trades from here on: drop duplicates, as the kernel does. Idempotent.

        Args:
            owner: ends it.
            came_before: whether a trade, of this symbol and id, has come already: some exchanges send past trades to
                whoever subscribes.
        """
        self._overlaps.add(owner)
        if self.seen_by_callbacks is None:
            self.seen_by_callbacks = RecentKeys()
            self._came_before = came_before

    def end_overlap(self, owner: object) -> None:
        """Of its two connections one is left, and everything of the other has been read."""
        self._overlaps.discard(owner)
        if not self._overlaps:
            self.seen_by_callbacks = self._came_before = None

    def call(self, callback: Callable[[T], object] | None, value: T) -> None:
        """Call `callback(value)`, where there is one; one that raises is logged and counted."""
        if callback is not None and not call(callback, value):
            self.errors += 1

    def notify_bars(self, bars: list[OHLCVBar], receive_time_ns: int) -> list[OHLCVBar]:
        """Pass on the bars issued in one wakeup. Returns them, as the user has them (see `reissues.py`)."""
        if not bars:
            return bars
        issued = self.delivery.issue(bars)
        if issued and not self.delivery.is_held:
            self._call_all(issued, receive_time_ns)
        return issued

    def begin(self, receive_time_ns: int) -> None:
        """Pass on what an earlier process has issued and the callbacks have not confirmed."""
        if not self.delivery.is_held:
            return
        self.delivery.release()
        if bars := self.delivery.waiting(CALLBACKS):
            self._call_all(bars, receive_time_ns)

    def _call_all(self, bars: list[OHLCVBar], receive_time_ns: int) -> None:
        for bar in bars:
            self.call(self.callbacks.on_bar, bar)
            if self.callbacks.on_event is not None:
                self.notify_event(bar.symbol, bar, to_nanoseconds(bar.close_time), receive_time_ns)
        self.call(self.callbacks.on_bars, bars)
        self.delivery.confirm(CALLBACKS)

    def notify_trade(self, tick: TickData, receive_time_ns: int) -> None:
        """Pass on a trade. One of size 0 only used its id up, and is not shown to users."""
        on_tick, on_event = self.callbacks.on_tick, self.callbacks.on_event
        if (on_tick is None and on_event is None) or not tick.trade_count:
            return
        # Where ids are only unique, rows have none: what came twice was dropped by its key, before this.
        if self.seen_by_callbacks is not None and tick.trade_id is not None:
            if self._came_before is not None and self._came_before(tick.symbol, tick.trade_id):
                return
            number = self._numbers.setdefault(tick.symbol, len(self._numbers))
            if not self.seen_by_callbacks.add(number, str(tick.trade_id), tick.time_ns):
                return
        if on_tick is not None and not call(on_tick, tick):
            self.errors += 1
        if on_event is not None:
            self.notify_event(tick.symbol, tick, tick.time_ns, receive_time_ns)

    def notify_late(self, tick: TickData) -> None:
        """Pass on a trade that came too late for a bar."""
        self.call(self.callbacks.on_late, tick)

    def notify_exchange_bar(self, candle: ExchangeBar, receive_time_ns: int) -> None:
        """Pass on a candle of the exchange's own."""
        self.call(self.callbacks.on_exchange_bar, candle)
        self.notify_event(candle.symbol, candle, candle.event_time_ns, receive_time_ns)

    def notify_event(
        self,
        symbol: str,
        data: OHLCVBar | TickData | Quote | Ticker | ExchangeBar,
        event_time_ns: int | None,
        receive_time_ns: int,
    ) -> None:
        """Pass on any of these as a MarketDataEvent, where `on_event` is given."""
        if self.callbacks.on_event is not None:
            self.call(
                self.callbacks.on_event,
                MarketDataEvent(self._exchange, symbol, data, event_time_ns, receive_time_ns),
            )

    def notify_message(self, message: RawMessage) -> None:
        """Pass on a message as it is."""
        self.call(self.callbacks.on_message, message)
