"""Admission: decides which trades become rows of a session's batch, and appends them.

A trade is taken if it is on the channel that bars are made from, its symbol is subscribed to, its key was not seen
before, and the kernel can hold it. What is not taken is counted; what is refused is a loss, and bars say so.
Units: times int64 nanoseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from fastbars.bars import OHLCVBar
from fastbars.buffer import BarBuffer, RowSink, wait_ns_of
from fastbars.errors import InvalidTickError, PrecisionError
from fastbars.events import Quote
from fastbars.exchanges.checked import LATEST_NS
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.listing import Listed
from fastbars.exchanges.messages import RawMessage, RefusedTrade, Trade
from fastbars.id_policy import Ids
from fastbars.kernel.arbiter import Arbiter, check_held
from fastbars.kernel.recent import RecentKeys
from fastbars.live.callbacks import Notifier
from fastbars.live.config import StreamConfig
from fastbars.live.coverage import Coverage
from fastbars.live.intake import Intake
from fastbars.live.roster import NotSubscribedError, Roster
from fastbars.live.stats import SessionStats
from fastbars.log import SparseLog
from fastbars.ticks import TickData, tick_of
from fastbars.wire.scanner import TradeScanner

_MOST_PRICE_DECIMALS, _MOST_SIZE_DECIMALS = 10, 8  # that a list of instruments may set
_SHOWN = 80  # characters of a name in a log
_FAR_AHEAD_NS, _FAR_BEHIND_NS = 3_600 * 10**9, 86_400 * 10**9  # a time further off the exchange's clock is garbage
_REFUSED = (PrecisionError, InvalidTickError, TypeError, OverflowError)


class Terms(NamedTuple):
    """How a symbol's prices and sizes are written, as the exchange lists it; 0 and None: as its first trade shows.

    Attributes:
        price_scale, size_scale: decimals of prices and sizes.
        contract_size: of an inverse contract, in quote units, as text.
    """

    price_scale: int = 0
    size_scale: int = 0
    contract_size: str | None = None


NO_TERMS = Terms()


def terms_of(one: Listed) -> Terms:
    """What a list of instruments says of one.

    Beyond these many decimals a scale is left to the trades: the list may be wrong, and a mantissa must have room.
    """
    price_scale, size_scale = (
        0 if step is None else max(0, -int(step.normalize().as_tuple().exponent))
        for step in (one.price_tick, one.size_step)
    )
    return Terms(
        price_scale if price_scale <= _MOST_PRICE_DECIMALS else 0,
        size_scale if size_scale <= _MOST_SIZE_DECIMALS else 0,
        f"{one.contract_size:f}" if one.inverse and one.contract_size is not None else None,
    )


@dataclass(slots=True)
class Wakeup:
    """Where and when the messages that are being read arrived.

    Attributes:
        connection: the number of the connection that brought them.
        line: which of redundant lines that is.
        steady_ns: when, of a steady clock; None in a replay of a plain tape.
        receive_time_ns: when, of the local wall clock.
        sent_ns: when the message that is being read was sent; None: it does not say.
        unread_ns: times of those that could not be read, and may have had trades of any symbol.
    """

    connection: int = 0
    line: int = 0
    steady_ns: int | None = None
    receive_time_ns: int = 0
    sent_ns: int | None = None
    unread_ns: list[int] = field(default_factory=list)


class Admission:
    """Takes the trades of one session.

    Args:
        exchange, config: say what bars are made of, and how.
        intake: where the trades go.
        notifier: called with each trade.
        counters: where what becomes of the trades is counted.
        warnings: of trades that are refused, or of no subscribed symbol.
        scans: messages may be scanned; else a parser of the user's reads them.

    Attributes:
        roster: whose trades are taken; None: everybody's, as in a replay of a plain tape.
        channel: the trade channel that bars are made from; None until it is known.
        wakeup: where and when the messages that are being read arrived.
        rows_are_whole: a row of the batch says as much as the trade it came from.
        coverage: knows of which symbols the next trades are to be reported.
        firsts: of such symbols, those of which trades have come in this wakeup -> (time of the oldest, whether one of
            them had come before).
        sink: what gets the rows of all bars, as in `BarBuffer`.
        terms: of symbols that have not traded yet, as the exchange lists them.
    """

    def __init__(
        self,
        exchange: Exchange,
        config: StreamConfig,
        intake: Intake,
        notifier: Notifier,
        counters: SessionStats,
        warnings: SparseLog,
        *,
        scans: bool,
    ) -> None:
        self.roster: Roster | None = None
        self.channel: str | None = None
        self.wakeup = Wakeup()
        self.rows_are_whole = False
        self.coverage: Coverage | None = None
        self.firsts: dict[str, tuple[int, bool]] = {}
        self.sink: RowSink | None = None
        self.terms: dict[str, Terms] = {}
        self._exchange = exchange
        self._config = config
        self._intake = intake
        self._notifier = notifier
        self._counters = counters
        self._warnings = warnings
        self._scans = scans
        self._recent = RecentKeys(window_ns=wait_ns_of(config.lateness))

    def begin(self, channel: str, ids: Ids | None = None) -> BarBuffer:
        """Set the channel that bars are made from, and make its buffer; `ids` overrides what the exchange declares."""
        config, exchange, intake = self._config, self._exchange, self._intake
        self.channel = channel
        named, market = exchange.identity
        buffer = BarBuffer(
            config.specs,
            ids=ids or exchange.ids(channel),
            exchange=named,
            market=market,
            negative_prices=exchange.negative_prices,
            grace_s=intake.delays.grace_ns / 1e9,
            lateness_s=config.lateness,
            heal_horizon_s=config.heal_horizon,
            recut_trades=config.recut_trades,
            empty=config.empty,
            first_id=exchange.first_ids.get(channel),
            on_late=None if self._notifier.callbacks.on_late is None else self._notifier.notify_late,
        )
        buffer.sink = self.sink
        batch = buffer.new_batch()
        fields = exchange.fields(channel) if self._scans else None
        new_scanner: Callable[[], TradeScanner] | None = None
        if fields is not None:
            new_scanner = partial(TradeScanner, fields, batch, self._new_symbol, self._recent)
            self.rows_are_whole = batch.column("first_id") is not None or not fields.has_ids
        arbiter: Arbiter | None = None
        if config.lines > 1 and buffer.policy.numbered:
            arbiter = Arbiter(buffer.new_batch(), config.lines, round(config.line_wait * 1e9))
        intake.begin(buffer, batch, new_scanner, arbiter)
        return buffer

    def dump(self, buffer: BarBuffer, recycled: dict[str, Any] | None) -> dict[str, Any]:
        """The state, for `load`: that of the buffer, ids seen lately where they are only unique, and held trades."""
        parts = self._recent.dump(len(buffer.instruments)) if buffer.policy.only_unique else {}
        arbiter = self._intake.arbiter
        return (
            buffer.dump(recycled) | parts | ({"held": arbiter.dump()} if arbiter is not None and arbiter.held else {})
        )

    def load(self, content: Mapping[str, Any], buffer: BarBuffer, *, continues: bool) -> None:
        """Restore what `dump` returned. Raises ValueError: of another buffer, or damaged; then nothing has changed."""
        listed, known = content.get("instruments"), len(buffer.instruments)
        if buffer.policy.numbered:
            check_held(content.get("held", b""), len(listed) if isinstance(listed, list | tuple) else 0)
        if not buffer.policy.only_unique:
            buffer.load(content, continues=continues)
            return
        before = self._recent.dump(known)
        self._recent.load(content, len(listed) if isinstance(listed, list | tuple) else 0)
        try:
            buffer.load(content, continues=continues)
        except BaseException:
            self._recent.load(before, known)
            raise

    def fold_held(self, content: Mapping[str, Any], buffer: BarBuffer) -> list[OHLCVBar]:
        """Fold in the trades that another process still held, for those before them on another line.

        Those did not come, and will not: what lies between is a hole, for the healer to fill.
        """
        held, bars = content.get("held", b""), list[OHLCVBar]()
        if not held or not buffer.policy.numbered:
            return bars
        arbiter = Arbiter(buffer.new_batch(), 2, 0)  # whatever the number of lines is now
        arbiter.load(held)
        while arbiter.held:
            bars += buffer.add_live(arbiter.flush())
        return bars

    def take_trade(self, trade: Trade) -> bool:
        """Append a trade that the exchange's reader has read; False: it belongs to another channel than the bars."""
        if self._intake.buffer is None:
            self.begin(trade.channel)
        if trade.channel != self.channel:
            return False
        symbol = self.subscribed_name(trade.symbol)
        if symbol is None:
            return True
        symbol_id = self.symbol_id(symbol)
        held = trade.key is not None and not self._recent.add(symbol_id, trade.key, trade.time_ns)
        if self.coverage is not None and self.coverage.is_watched(symbol, self.wakeup.connection):
            oldest_ns, held_before = self.firsts.get(symbol, (trade.time_ns, False))
            self.firsts[symbol] = min(oldest_ns, trade.time_ns), held or held_before
        if held:
            self._counters.duplicates += 1
            return True
        if symbol != trade.symbol:
            trade = trade._replace(symbol=symbol)
        if self._append(symbol, trade.time_ns, trade.row) and self._notifier.wants_trades:
            tick = trade.to_tick(negative_prices=self._exchange.negative_prices)
            self._notifier.notify_trade(tick, self.wakeup.receive_time_ns)
        return True

    def note_sign(self, item: Quote | RawMessage) -> None:
        """A message about a symbol has come that is no trade: without acks, a sign that its trades will come."""
        symbol, sent_ns = item.symbol, self.wakeup.sent_ns
        is_other = isinstance(item, RawMessage) and item.kind != self.channel
        if self.coverage is None or is_other or sent_ns is None or symbol is None or symbol in self.firsts:
            return
        if self.coverage.is_watched(symbol, self.wakeup.connection):
            self.firsts[symbol] = sent_ns, False

    def take_tick(self, tick: TickData) -> None:
        """Append a trade that a user's own parser has read."""
        if self._intake.buffer is None:
            # Where the user's parser gives no ids, nothing can be proven by them.
            self.begin(self.channel or self._exchange.default_channel, None if tick.trade_id is not None else "none")
        if self._append(tick.symbol, tick.time_ns, (*tick.row, "ns")):
            self._notifier.notify_trade(tick, self.wakeup.receive_time_ns)

    def notify_scanned(self, first_row: int) -> None:
        """Call the user's callbacks for the trades that the scanner has appended to the batch, from this row on."""
        batch, receive_time_ns = self._intake.batch, self.wakeup.receive_time_ns
        for row in range(first_row, len(batch)):
            self._notifier.notify_trade(tick_of(batch, row), receive_time_ns)

    def subscribed_name(self, name: str) -> str | None:
        """The subscribed symbol whose trades arrive under this name; None, and counted, if there is none."""
        if self.roster is None:
            return name
        symbol = self.roster.symbol_of(name)
        if symbol is None:
            if self.roster.has_ended(name):
                self._counters.dropped.no_longer_subscribed += 1
                self._warnings.warn_once("trade_after_unsubscribe", symbol=ascii(name[:_SHOWN]))
            else:
                self._counters.dropped.never_subscribed += 1
                self._warnings.warn_once("trade_never_subscribed", symbol=ascii(name[:_SHOWN]))
        return symbol

    def symbol_id(self, symbol: str) -> int:
        """The id of a symbol, new or known; where a contract has a size, that is set before its first trade."""
        assert self._intake.buffer is not None
        instruments = self._intake.buffer.instruments
        if symbol in instruments:
            return instruments.id(symbol)
        terms = self.terms.pop(symbol, NO_TERMS)
        contract_size = terms.contract_size or self._exchange.contract_size(symbol)
        return instruments.add(symbol, terms.price_scale, terms.size_scale, contract_size)

    def _new_symbol(self, name: str) -> int:
        # A name that is new to the scanner: if it is not subscribed to, or its next trades are to be reported, the
        # message is left to Python, trade by trade.
        symbol = name if self.roster is None else self.roster.symbol_of(name)
        if symbol is None:
            raise NotSubscribedError(f"{self._exchange.name}: {name[:_SHOWN]!a} is not subscribed to")
        if self.coverage is not None and self.coverage.is_watched(symbol):
            raise NotSubscribedError(f"{self._exchange.name}: {symbol[:_SHOWN]!a} has just been subscribed to")
        return self.symbol_id(symbol)

    def _append(self, symbol: str, time_ns: int, row: tuple[Any, ...]) -> bool:
        assert self._intake.buffer is not None
        batch = self._intake.batch
        try:
            try:
                batch.append(*row)
            except PrecisionError:
                # Its scale does not fit the rows before it. Once those are folded, or refused, it may fit alone.
                if not len(batch):
                    raise
                self._intake.fold(self.wakeup.line, self.wakeup.steady_ns)
                batch.append(*row)
        except _REFUSED as error:
            # The rows accepted before it are folded first, so that bars keep their order.
            self._intake.fold(self.wakeup.line, self.wakeup.steady_ns)
            self.lose(symbol, time_ns)
            self._warnings.warn("trade_refused", symbol=symbol, error=str(error))
            return False
        self._counters.trades += 1
        return True

    def refuse(self, trade: RefusedTrade) -> None:
        """A trade that could not be read is lost."""
        if self._intake.buffer is None:
            self.begin(trade.channel)
        if trade.channel != self.channel:
            return
        self._intake.fold(self.wakeup.line, self.wakeup.steady_ns)
        time_ns = self._time_of_loss(trade.time_ns)
        if trade.symbol is None:
            self.lose_any()
        elif time_ns is not None and (symbol := self.subscribed_name(trade.symbol)) is not None:
            self.symbol_id(symbol)
            self.lose(symbol, time_ns)

    def lose(self, symbol: str, time_ns: int) -> None:
        """A trade of this symbol and time is lost."""
        assert self._intake.buffer is not None
        loss_ns = self._time_of_loss(time_ns)
        self._intake.issue(self._intake.buffer.note_lost(symbol, time_ns if loss_ns is None else loss_ns))

    def lose_any(self) -> None:
        """A message could not be read: it may have had trades of any symbol, and how many is unknown."""
        buffer, time_ns = self._intake.buffer, self._time_of_loss(None)
        if buffer is None or time_ns is None:
            return  # nothing has come yet
        if buffer.covers_itself:
            self._intake.fold(self.wakeup.line, self.wakeup.steady_ns)
            self._intake.issue(buffer.lose(None, time_ns - self._intake.delays.grace_ns, time_ns))
        else:
            self.wakeup.unread_ns.append(time_ns)

    def _time_of_loss(self, time_ns: int | None) -> int | None:
        # Its own time, unless that is garbage; else when its message was sent; else now. None: nothing is known.
        steady_ns, clock = self.wakeup.steady_ns, self._intake.clock
        now_ns = self._intake.event_time_ns if steady_ns is None else clock.now_ns(steady_ns)
        if now_ns is None:
            now_ns = self._intake.event_time_ns
        for known_ns in (time_ns, self.wakeup.sent_ns):
            if known_ns is None or not 0 <= known_ns <= LATEST_NS:
                continue
            if now_ns is None or now_ns - _FAR_BEHIND_NS <= known_ns <= now_ns + _FAR_AHEAD_NS:
                return known_ns
        return now_ns
