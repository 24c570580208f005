"""User callbacks: the functions that a session calls. One that raises loses no trade and no bar.

Where thousands of bars close at once, a live stream calls `on_bar` in slices; between them the event loop has its turn:

    bars of a wakeup -> waiting -+-> on_bar, on_event for each ... on_bars with all of them -> confirmed
                                 +-- SLICE_NS is over: the rest in the next turn of the event loop

What callbacks see stays in order: any other callback, and whoever ends the stream, first has those called that wait.
Units: times int64 nanoseconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TypeVar

from fastbars.bars import ExchangeBar, OHLCVBar
from fastbars.callbacks import call, check_callbacks
from fastbars.clocks import steady_ns
from fastbars.events import MarketDataEvent, Quote, Ticker
from fastbars.exchanges.messages import RawMessage
from fastbars.kernel.recent import RecentKeys
from fastbars.live.delivery import A_LOOK, CALLBACKS, SLICE_NS, Delivery
from fastbars.ticks import TickData, to_nanoseconds

T = TypeVar("T")

_MOST_WAITING = (
    100_000  # bars; more are passed on at once, as callbacks that are slower than the market must hold it up
)


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


@dataclass(slots=True)
class _Issued:
    # The bars of one wakeup on their way to the callbacks; `end`: the number of the bar issued behind them.
    bars: list[OHLCVBar]
    receive_time_ns: int
    end: int
    passed: int = 0

    @property
    def left(self) -> int:
        return len(self.bars) - self.passed


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
        in_next_turn: calls a function in the next turn of the event loop; None: bars are passed on at once.
    """

    def __init__(self, exchange: str, callbacks: Callbacks, delivery: Delivery, *, overlaps: bool = False) -> None:
        self.callbacks = callbacks
        self.delivery = delivery
        if callbacks.on_bar or callbacks.on_bars or callbacks.on_event:
            delivery.add_consumer(CALLBACKS)
        self.errors = 0
        self.in_next_turn: Callable[[Callable[[], object]], object] | None = None
        self._waiting: deque[_Issued] = deque()
        self._is_calling = False
        self.seen_by_callbacks = RecentKeys() if overlaps else None
        self._overlaps: set[object] = {self} if overlaps else set()  # who has begun one
        self._exchange = exchange
        self._numbers: dict[str, int] = {}  # of the symbols in `seen_by_callbacks`
        self._came_before: Callable[[str, int], bool] | None = None  # of a symbol and a trade id: before the overlap

    @property
    def wants_trades(self) -> bool:
        """Whether each trade is wanted as an object."""
        return self.callbacks.on_tick is not None or self.callbacks.on_event is not None

    @property
    def is_behind(self) -> bool:
        """Whether issued bars wait for their callbacks."""
        return bool(self._waiting) or self.delivery.is_held

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
        return self._notify(self.delivery.issue(bars), receive_time_ns) if bars else bars

    def notify_judged(self, bars: list[OHLCVBar], receive_time_ns: int) -> list[OHLCVBar]:
        """The same, of bars that `delivery.earlier` has returned as they are to be issued."""
        return self._notify(self.delivery.issue_judged(bars), receive_time_ns)

    def notify_past(self, bars: list[OHLCVBar], receive_time_ns: int) -> list[OHLCVBar]:
        """The same, for bars of the past."""
        return self._notify(self.delivery.issue_past(bars, receive_time_ns), receive_time_ns) if bars else bars

    def notify_joined(self, bars: list[OHLCVBar], receive_time_ns: int) -> list[OHLCVBar]:
        """The same, for bars that have waited for their past."""
        return self._notify(self.delivery.issue_joined(bars), receive_time_ns) if bars else bars

    def _notify(self, issued: list[OHLCVBar], receive_time_ns: int) -> list[OHLCVBar]:
        if issued and not self.delivery.is_held:
            self._pass_on(issued, receive_time_ns)
        return issued

    def begin(self, receive_time_ns: int) -> None:
        """Pass on what an earlier process has issued and the callbacks have not confirmed."""
        if not self.delivery.is_held:
            return
        self.delivery.release()
        if bars := self.delivery.waiting(CALLBACKS):
            self._pass_on(bars, receive_time_ns)

    def finish(self) -> None:
        """Call the callbacks for all bars that wait for their turn."""
        if self._waiting and not self._is_calling:
            self._call_waiting(None)

    def _pass_on(self, bars: list[OHLCVBar], receive_time_ns: int) -> None:
        issued = _Issued(bars, receive_time_ns, self.delivery.next_number)
        if self._is_calling:  # a callback has flushed: these are due before it returns
            self._call(issued, None)
            return
        slices = self.in_next_turn is not None and sum(one.left for one in self._waiting) < _MOST_WAITING
        is_first = not self._waiting
        self._waiting.append(issued)
        if is_first or not slices:  # else they follow those that wait, which have their turn already
            self._call_waiting(steady_ns() + SLICE_NS if slices else None)

    def _call_waiting(self, until_ns: int | None) -> None:
        self._is_calling = True
        try:
            while self._waiting and self._call(self._waiting[0], until_ns):
                self._waiting.popleft()
        finally:
            self._is_calling = False
            if self._waiting and self.in_next_turn is not None:
                self._ask_for_turn(self.in_next_turn)

    def _ask_for_turn(self, in_next_turn: Callable[[Callable[[], object]], object]) -> None:
        try:
            in_next_turn(self._take_turn)
        except RuntimeError:  # the event loop is closed
            self.in_next_turn = None
            self.finish()

    def _take_turn(self) -> None:
        if self._waiting and not self._is_calling:
            self._call_waiting(steady_ns() + SLICE_NS)

    def _call(self, issued: _Issued, until_ns: int | None) -> bool:
        # False: some are left for the next slice.
        callbacks = self.callbacks
        while issued.left and (callbacks.on_bar or callbacks.on_event):
            if until_ns is not None and issued.passed and not issued.passed % A_LOOK and steady_ns() >= until_ns:
                return False
            bar = issued.bars[issued.passed]
            issued.passed += 1
            self.call(callbacks.on_bar, bar)
            if callbacks.on_event is not None:
                self._call_event(bar.symbol, bar, to_nanoseconds(bar.close_time), issued.receive_time_ns)
        self.call(callbacks.on_bars, issued.bars)
        self.delivery.confirm(CALLBACKS, issued.end)
        return True

    def notify_trade(self, tick: TickData, receive_time_ns: int) -> None:
        """Pass on a trade. One of size 0 only used its id up, and is not shown to users."""
        on_tick, on_event = self.callbacks.on_tick, self.callbacks.on_event
        if (on_tick is None and on_event is None) or not tick.trade_count:
            return
        if self._waiting:
            self.finish()
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
            self._call_event(tick.symbol, tick, tick.time_ns, receive_time_ns)

    def notify_late(self, tick: TickData) -> None:
        """Pass on a trade that came too late for a bar."""
        if self.callbacks.on_late is not None:
            self.finish()
            self.call(self.callbacks.on_late, tick)

    def notify_exchange_bar(self, candle: ExchangeBar, receive_time_ns: int) -> None:
        """Pass on a candle of the exchange's own."""
        if self.callbacks.on_exchange_bar is not None or self.callbacks.on_event is not None:
            self.finish()
        self.call(self.callbacks.on_exchange_bar, candle)
        self._call_event(candle.symbol, candle, candle.event_time_ns, receive_time_ns)

    def notify_event(self, quoted: Quote | Ticker, receive_time_ns: int) -> None:
        """Pass on a quote or a ticker as a MarketDataEvent, where `on_event` is given."""
        if self.callbacks.on_event is not None:
            self.finish()
        self._call_event(quoted.symbol, quoted, quoted.event_time_ns, receive_time_ns)

    def _call_event(
        self,
        symbol: str,
        data: OHLCVBar | TickData | Quote | Ticker | ExchangeBar,
        event_time_ns: int | None,
        receive_time_ns: int,
    ) -> None:
        if self.callbacks.on_event is not None:
            self.call(
                self.callbacks.on_event,
                MarketDataEvent(self._exchange, symbol, data, event_time_ns, receive_time_ns),
            )

    def notify_message(self, message: RawMessage) -> None:
        """Pass on a message as it is."""
        if self.callbacks.on_message is not None:
            self.finish()
            self.call(self.callbacks.on_message, message)
