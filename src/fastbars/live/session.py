"""Session: messages in, bars and events out. It knows no socket, no timer and no exchange by name.

Live connections and replays feed the same session, so that they give the same bars. What it cannot read it
counts, logs (the 1st, 2nd, 4th, 8th, ... of a kind) and skips. Units: times int64 nanoseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbars.bars import ExchangeBar, OHLCVBar
from fastbars.buffer import BarBuffer, BufferStats, Ids, tick_of
from fastbars.callbacks import call
from fastbars.errors import InvalidTickError, PrecisionError
from fastbars.events import MarketDataEvent, Quote, Ticker
from fastbars.exchanges.checked import BROKEN, LATEST_NS, read_with
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.messages import Ack, Heartbeat, Notice, RawMessage, Refusal, Stream, TokenWanted, Trade
from fastbars.exchanges.naming import NotSubscribedError, Roster
from fastbars.kernel.arbiter import Arbiter
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.recent import RecentKeys
from fastbars.live.callbacks import Callbacks
from fastbars.live.config import StreamConfig
from fastbars.live.connections.never_heard import CandleCount
from fastbars.live.intake import Intake
from fastbars.live.journal import OpenRecorder, Recorder
from fastbars.live.repairs import Repairs
from fastbars.live.stats import LineStats, SessionStats
from fastbars.log import log
from fastbars.ticks import TickData, to_nanoseconds
from fastbars.wire.scanner import TradeScanner

_SHOWN = 80  # characters of a name in a log

Control = Ack | Refusal | Notice | Heartbeat | TokenWanted


@dataclass(slots=True)
class Received:
    """What one batch of messages came to."""

    bars: list[OHLCVBar] = field(default_factory=list)
    control: list[Control] = field(default_factory=list)
    errors: int = 0  # messages that could not be read


class Session(Repairs):
    """Turns one exchange's messages into bars.

    Args:
        exchange: says what the messages mean.
        config: bar specs, grace, lateness, and what closes bars.
        callbacks: whom to tell; on_bars is called once for all bars of a `receive`.
        channel: trade channel that bars are made from; None: that of the first trade seen.
        parse_message: a user's own parser, used for trades instead of the exchange's.
        record: opens the recorder that everything this session consumes is written to; None: it is not recorded.
    """

    def __init__(
        self,
        exchange: Exchange,
        config: StreamConfig,
        callbacks: Callbacks | None = None,
        *,
        channel: str | None = None,
        parse_message: Callable[[dict[str, Any]], TickData | None] | None = None,
        record: OpenRecorder | None = None,
    ) -> None:
        self.exchange = exchange
        self.config = config
        self.callbacks = callbacks or Callbacks()
        self.on_taken: Callable[[], None] | None = None  # called where there may be new holes or symbols
        self.intake = Intake(
            self._warn_of_leap,
            closes=config.close_by == "clock",
            learns=config.grace == "auto",
            lines=config.lines,
        )
        # While two lines carry the same trades: those that callbacks were told.
        self.told = RecentKeys() if config.lines > 1 else None
        self.unheard: dict[str, int] = {}
        self._down_since_ns: int | None = None
        self._last_outage: tuple[int, int] | None = None
        self._data_messages = 0
        self._read = exchange.reader()
        self._parse_message = parse_message
        self._roster: Roster | None = None  # as in a replay: whatever comes is taken
        self._recent = RecentKeys()
        self._channel: str | None = None
        self._buffer: BarBuffer | None = None
        self._batch: TickBatch | None = None
        self._ids_are_kept = False  # a row of the batch says as much as the trade it came from
        self._stats = SessionStats()
        self._received = Received()
        self._arbiter: Arbiter | None = None
        self._wakeup: tuple[int, int | None] = (0, None)
        self._warnings: dict[str, int] = {}
        self.candles = CandleCount(exchange.candles)
        if parse_message is not None:
            self._channel = channel
        elif channel is not None:
            self._begin(channel)
        self.recorder: Recorder | None = None if record is None else record(self.declaration(channel))

    def declaration(self, channel: str | None = None) -> Mapping[str, Any]:
        """What a replay needs to make this session anew; what a `repr` of the config hides, secrets, is not in it."""
        config = {field.name: getattr(self.config, field.name) for field in fields(self.config) if field.repr}
        config |= {"bars": [str(spec) for spec in self.config.specs], "timezone": None, "origin": None}
        return {
            "exchange": self.exchange.name,
            "channel": channel,
            "own_parser": self._parse_message is not None,
            "config": config,
        }

    @property
    def channel(self) -> str:
        """The trade channel that bars are made from."""
        return self._channel or self.exchange.default_channel

    @property
    def stats(self) -> SessionStats:
        """The counters, as they are now."""
        messages, size, trades, duplicates = self.intake.take_counts()
        stats = self._stats
        stats.messages += messages
        stats.bytes += size
        stats.trade_messages += messages
        stats.trades += trades
        stats.duplicates += duplicates
        return stats

    @property
    def buffer_stats(self) -> BufferStats:
        """The counters of the bar buffer."""
        return BufferStats() if self._buffer is None else self._buffer.stats

    @property
    def drops_duplicates(self) -> bool:
        """Whether a trade that comes twice is noticed."""
        return self._buffer is not None and self._buffer.ids in ("contiguous", "sequenced", "unique")

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that traded, by their ids."""
        return () if self._buffer is None else self._buffer.instruments.symbols

    @property
    def trade_times_ns(self) -> npt.NDArray[np.int64]:
        """int64[n], time of the latest trade of each of `symbols`, ns."""
        return np.zeros(0, np.int64) if self._buffer is None else self._buffer.trade_times_ns

    @property
    def lines(self) -> list[LineStats]:
        """What each of several redundant lines was good for; empty where there is one, or where ids do not rise."""
        if self._arbiter is None:
            return []
        return [LineStats(*self._arbiter.counted(line)) for line in range(self.config.lines)]

    def take_data_messages(self) -> int:
        """Messages that were data and could be read, since this was last asked; those of quiet wakeups are not told."""
        stats = self.stats
        others = stats.control + stats.unknown + stats.invalid_json + stats.parse_errors + self.intake.quiet_messages
        before, self._data_messages = self._data_messages, stats.messages - others
        return self._data_messages - before

    def missing(self, symbol: str) -> list[tuple[int, int]]:
        """Trade ids known to be missing: (first, last) of each hole."""
        return [] if self._buffer is None else self._buffer.missing(symbol)

    def _begin(self, channel: str, ids: Ids | None = None) -> None:
        self._channel = channel
        self._buffer = BarBuffer(
            self.config.specs,
            ids=ids or self.exchange.ids(channel),
            exchange=self.exchange.name,
            negative_prices=self.exchange.negative_prices,
            grace_s=self.grace_s,
            lateness_s=self.config.lateness,
            heal_horizon_s=self.config.heal_horizon,
            empty=self.config.empty,
            on_late=None if self.callbacks.on_late is None else self._tell_late,
        )
        self._batch = self._buffer.new_batch()
        scanner: TradeScanner | None = None
        if self._parse_message is None:
            declared = self.exchange.fields(channel)
            if declared is not None:
                scanner = TradeScanner(declared, self._batch, self._new_symbol, self._recent)
                numbered = self._batch.column("first_id") is not None
                self._ids_are_kept = numbered or not declared.has_ids
        if self.config.lines > 1 and self._buffer.ids in ("contiguous", "sequenced"):
            self._arbiter = Arbiter(self._buffer.new_batch(), self.config.lines, round(self.config.line_wait * 1e9))
        self.intake.begin(self._buffer, self._batch, scanner, self._arbiter)

    @property
    def scanner(self) -> TradeScanner | None:
        """What may take messages before `take`, without making objects of them; None: `receive` must have them all."""
        callbacks = self.callbacks
        if self.recorder is not None or callbacks.on_tick is not None or callbacks.on_event is not None:
            return None
        return self.intake.scanner

    def receive(
        self, payloads: Sequence[bytes], receive_time_ns: int, steady_ns: int | None = None, *, line: int = 0
    ) -> Received:
        """Digest the messages of one wakeup; trades reach the kernel in one batch.

        Args:
            payloads: raw messages, in wire order.
            receive_time_ns: of the local wall clock.
            steady_ns: of a steady clock, for the exchange's clock offset; None in a replay of a plain tape.
            line: which of the connections that feed this session brought them; of redundant lines, modulo their number.
        """
        if self.recorder is not None:
            self.recorder.messages(payloads, receive_time_ns, steady_ns, line)
        self._wakeup = line, steady_ns
        tells = self.callbacks.on_tick is not None or self.callbacks.on_event is not None
        for payload in payloads:
            scanner = None if tells and not self._ids_are_kept else self.intake.scanner
            if scanner is None or not scanner.scan(payload):
                self.take(payload, receive_time_ns)
            elif tells:
                self._tell_scanned(receive_time_ns)
        return self.finish(receive_time_ns, steady_ns)

    def take(self, payload: bytes, receive_time_ns: int, steady_ns: int | None = None, line: int | None = None) -> None:
        """Digest one message that the scanner has not taken; `receive` of what is left, or `finish`, ends the wakeup.

        `steady_ns` and `line` are given where the wakeup did not begin with `receive`.
        """
        if line is not None:
            self._wakeup = line, steady_ns
        self.intake.interrupt()
        stats = self._stats
        stats.messages += 1
        stats.bytes += len(payload)
        try:
            message = self.exchange.loads(payload)
        except Exception as error:  # noqa: BLE001 whatever it is, RecursionError too, the next message may be good
            stats.invalid_json += 1
            self._unreadable("invalid_json", payload, error, self._received)
            return
        try:
            unknown = stats.unknown
            self._take(message, receive_time_ns, self._received)
            if stats.unknown > unknown:
                self._warn("unknown_message", payload=ascii(payload[:200]))
        except BROKEN as error:
            stats.parse_errors += 1
            self._unreadable("parse_error", payload, error, self._received)
        try:
            time_ns = self.exchange.event_time_ns(message)
        except Exception:  # noqa: BLE001 counted already, where the whole message could not be read
            return
        if time_ns is not None and 0 <= time_ns <= LATEST_NS:
            self.intake.note_sent(time_ns)

    def finish(self, receive_time_ns: int, steady_ns: int | None = None) -> Received:
        """End a wakeup: the trades of all its messages go to the kernel, and what closes bars closes them."""
        received = self._received
        self._received = Received()
        received.bars = self.intake.finish(receive_time_ns, steady_ns, self._wakeup[0])
        self._tell(received.bars, receive_time_ns)
        if self.on_taken is not None:
            self.on_taken()
        return received

    def _tell_scanned(self, receive_time_ns: int) -> None:
        assert self.intake.scanner is not None
        assert self._batch is not None
        for row in range(self.intake.scanner.first_row, len(self._batch)):
            tick = tick_of(self._batch, row)
            if tick.volume:
                self._tell_tick(tick, receive_time_ns)

    @property
    def takes_all(self) -> bool:
        """Whether trades of all symbols make bars, subscribed to or not."""
        return self._roster is None

    def follow(self, owner: object, streams: Iterable[Stream], receive_time_ns: int) -> None:
        """A connection is subscribed to these streams alone; of no others are trades taken from here on.

        A session that is never told takes whatever comes, as a replay of a plain tape does.

        Args:
            owner: the connection; what several of them are subscribed to adds up.
        """
        if self._roster is None:
            self._roster = Roster(self.exchange.symbols, self.channel)
        before = self._roster.streams
        gone = self._roster.follow(owner, streams)
        now = self._roster.streams
        if self.recorder is not None:
            self.recorder.event(
                "streams", receive_time_ns, {"added": sorted(now - before), "ended": sorted(before - now)}
            )
        if gone and self._buffer is not None and self.intake.scanner is not None:
            instruments = self._buffer.instruments
            self.intake.scanner.forget([instruments.id(symbol) for symbol in gone if symbol in instruments])

    def change_streams(self, added: Iterable[Stream], ended: Iterable[Stream], receive_time_ns: int) -> None:
        """As `follow`, in a replay: what the recorded run had begun and ended to be subscribed to."""
        before = frozenset[Stream]() if self._roster is None else self._roster.streams
        self.follow(None, before - set(ended) | set(added), receive_time_ns)

    def _taken(self, name: str) -> str | None:
        # The symbol of a trade, as it was asked for; None: nobody has.
        if self._roster is None:
            return name
        symbol = self._roster.taken(name)
        if symbol is None:
            if self._roster.has_ended(name):
                self._stats.no_longer_subscribed += 1
                self._warn_once("trade_after_unsubscribe", symbol=ascii(name[:_SHOWN]))
            else:
                self._stats.never_subscribed += 1
                self._warn_once("trade_never_subscribed", symbol=ascii(name[:_SHOWN]))
        return symbol

    def _new_symbol(self, name: str) -> int:
        # A name that the scanner has not met: where nobody asked for it, the message is read again, one by one.
        symbol = name if self._roster is None else self._roster.taken(name)
        if symbol is None:
            raise NotSubscribedError(f"{self.exchange.name}: nobody is subscribed to {name[:_SHOWN]!a}")
        return self._symbol_id(symbol)

    def _symbol_id(self, symbol: str) -> int:
        # Of a symbol's first trade: where a contract has a size, that is set before it.
        assert self._buffer is not None
        instruments = self._buffer.instruments
        if symbol in instruments:
            return instruments.id(symbol)
        return instruments.add(symbol, contract_size=self.exchange.contract_size(symbol))

    def advance_clock(self, steady_ns: int, receive_time_ns: int, *, feed_up: bool) -> list[OHLCVBar]:
        """Close what the exchange's clock, estimated at `steady_ns`, says is over."""
        if self._buffer is None or not self.clock_is_due(steady_ns):
            return []
        now_ns = self.clock.now_ns(steady_ns)
        if self.recorder is not None:
            fired = {"steady_ns": steady_ns, "exchange_time_ns": now_ns, "feed_up": feed_up}
            self.recorder.event("clock", receive_time_ns, fired)
        bars: list[OHLCVBar] = []
        if self._arbiter is not None:
            bars += self._buffer.add_live(self._arbiter.expire(steady_ns))
        if now_ns is not None and not self.intake.holds:
            bars += self._buffer.advance_clock(now_ns, feed_up=feed_up)
        self._tell(bars, receive_time_ns)
        if self.on_taken is not None:  # what waited for another line may have a hole before it
            self.on_taken()
        return bars

    def clock_is_due(self, steady_ns: int) -> bool:
        """Whether `advance_clock` would close something, or let something go on that waited for another line."""
        if self._buffer is None:
            return False
        if self._arbiter is not None and self._arbiter.held:
            return self._arbiter.next_release_ns <= steady_ns
        now_ns = self.clock.now_ns(steady_ns)
        return now_ns is not None and now_ns >= self._buffer.next_close_ns

    def flush(self, receive_time_ns: int, symbol: str | None = None) -> list[OHLCVBar]:
        """Close every open bar (of one symbol) with reason `end`.

        Where a snapshot keeps them for a restart (StreamConfig.state), they stay open, unless one symbol is named.
        """
        if self.config.state is not None and symbol is None:
            return []
        if self.recorder is not None:
            self.recorder.event("flush", receive_time_ns, {"symbol": symbol})
        if self._buffer is None:
            return []
        bars = [] if self._arbiter is None else self._buffer.add_live(self._arbiter.flush())
        bars += self._buffer.flush_all() if symbol is None else self._buffer.flush_symbol(symbol)
        self._tell(bars, receive_time_ns)
        return bars

    def _warn_of_leap(self, event_time_ns: int, exchange_time_ns: int) -> None:
        self._warn("event_time_leaps", event_time_ns=str(event_time_ns), exchange_time_ns=str(exchange_time_ns))

    def _take(self, message: Any, receive_time_ns: int, received: Received) -> None:
        stats = self._stats
        if self._parse_message is not None and isinstance(message, dict):
            tick = read_with(self._parse_message, message)
            if tick is not None:
                tick = self._subscribed(tick, message)
                if tick is not None:
                    self._add_tick(tick, receive_time_ns)
                stats.trade_messages += 1
                return
        counted = False  # a message of several trades counts once
        for each in read_with(self._read, message):
            item = each if self._roster is None else self._roster.renamed(each)
            if isinstance(item, Trade):
                if self._parse_message is not None:  # which has passed it over
                    stats.ignored += not counted
                    counted = True
                    continue
                taken = self._add_trade(item, receive_time_ns)
                if not counted:
                    stats.trade_messages += taken
                    stats.other_trade_messages += not taken
            elif isinstance(item, ExchangeBar):
                stats.exchange_bars += not counted
                self.candles.add(item)
                self.tell(self.callbacks.on_exchange_bar, item)
                self._tell_event(item.symbol, item, item.event_time_ns, receive_time_ns)
            elif isinstance(item, Quote):
                stats.quotes += not counted
                self._tell_event(item.symbol, item, item.event_time_ns, receive_time_ns)
            elif isinstance(item, Ticker):
                stats.tickers += not counted
                self._tell_event(item.symbol, item, item.event_time_ns, receive_time_ns)
            elif isinstance(item, RawMessage):
                stats.raw += not counted
                self.tell(self.callbacks.on_message, item)
            else:
                stats.control += not counted
                received.control.append(item)
            counted = True
        if not counted:
            stats.unknown += 1
            self.tell(self.callbacks.on_message, RawMessage("unknown", None, message))

    def _add_trade(self, trade: Trade, receive_time_ns: int) -> bool:
        # False: it is of another channel than the one that bars are made from.
        if self._buffer is None:
            self._begin(trade.channel)
        assert self._buffer is not None
        assert self._batch is not None
        if trade.channel != self._channel:
            return False
        symbol = self._taken(trade.symbol)
        if symbol is None:
            return True
        if trade.key is not None and not self._recent.add(trade.symbol, trade.key, trade.time_ns):
            self._stats.duplicates += 1
            return True
        if symbol != trade.symbol:
            trade = trade._replace(symbol=symbol)
        self._symbol_id(symbol)
        try:
            self._batch.append(*trade.row)
        except (PrecisionError, InvalidTickError, TypeError, OverflowError) as error:
            self._refuse(symbol, trade.time_ns, error)
            return True
        self._stats.trades += 1
        if self.callbacks.on_tick is not None or self.callbacks.on_event is not None:
            tick = trade.to_tick(negative_prices=self.exchange.negative_prices)
            if tick.volume:  # else its id is void: nothing was traded
                self._tell_tick(tick, receive_time_ns)
        return True

    def _add_tick(self, tick: TickData, receive_time_ns: int) -> None:
        if self._batch is None:
            # A parser of the user's that gives no ids can prove nothing by them.
            self._begin(self.channel, None if tick.trade_id is not None else "none")
        assert self._batch is not None
        try:
            self._batch.append(*tick.row, time_unit="ns")
        except (PrecisionError, InvalidTickError, TypeError, OverflowError) as error:
            self._refuse(tick.symbol, tick.time_ns, error)
            return
        self._stats.trades += 1
        if tick.volume:
            self._tell_tick(tick, receive_time_ns)

    def _subscribed(self, tick: TickData, message: Any) -> TickData | None:
        # A user's parser may name symbols in words of its own; what the exchange calls them was subscribed to.
        if self._roster is None or self._roster.taken(tick.symbol) == tick.symbol:
            return tick
        try:
            items = read_with(self.exchange.read, message)
            names = [item.symbol for item in items if isinstance(item, Trade)]
        except BROKEN:
            names = []
        name = names[0] if names else tick.symbol
        symbol = self._taken(name)
        if symbol is None or name != tick.symbol:
            return None if symbol is None else tick
        return TickData(
            symbol, tick.time_ns, tick.price, tick.volume, tick.side, tick.trade_id, tick.last_trade_id,
            tick.trade_count, negative_prices=True,
        )  # fmt: skip

    def _refuse(self, symbol: str, time_ns: int, error: Exception) -> None:
        assert self._buffer is not None
        # What was accepted before it goes first, so that bars keep their order.
        self.intake.fold(*self._wakeup)
        self.intake.issue(self._buffer.note_lost(symbol, time_ns))
        self._warn("trade_refused", symbol=symbol, error=str(error))

    def _unreadable(self, kind: str, payload: bytes, error: Exception, received: Received) -> None:
        received.errors += 1
        self._warn(kind, error=f"{type(error).__name__}: {error}", payload=ascii(payload[:200]))

    def _warn(self, kind: str, **context: str) -> None:
        count = self._warnings.get(kind, 0)
        self._warnings[kind] = count + 1
        # The 1st, 2nd, 4th, 8th, ... of a kind is logged; the counters have them all.
        if count & (count + 1) == 0:
            log.warning(kind, exchange=self.exchange.name, seen=count + 1, **context)

    def _warn_once(self, kind: str, **context: str) -> None:
        if kind not in self._warnings:
            self._warn(kind, **context)

    def _tell(self, bars: list[OHLCVBar], receive_time_ns: int) -> None:
        if not bars:
            return
        for bar in bars:
            self.tell(self.callbacks.on_bar, bar)
            if self.callbacks.on_event is not None:
                self._tell_event(bar.symbol, bar, to_nanoseconds(bar.close_time), receive_time_ns)
        self.tell(self.callbacks.on_bars, bars)

    def _tell_tick(self, tick: TickData, receive_time_ns: int) -> None:
        if self.told is not None and not self.told.add(tick.symbol, str(tick.trade_id)):
            return
        self.tell(self.callbacks.on_tick, tick)
        self._tell_event(tick.symbol, tick, tick.time_ns, receive_time_ns)

    def _tell_event(
        self,
        symbol: str,
        data: OHLCVBar | TickData | Quote | Ticker | ExchangeBar,
        event_time_ns: int | None,
        receive_time_ns: int,
    ) -> None:
        if self.callbacks.on_event is not None:
            event = MarketDataEvent(self.exchange.name, symbol, data, event_time_ns, receive_time_ns)
            self.tell(self.callbacks.on_event, event)

    def _tell_late(self, tick: TickData) -> None:
        self.tell(self.callbacks.on_late, tick)

    def tell(self, callback: Callable[[Any], object] | None, value: Any) -> None:
        """Call a user's callback, where there is one; one that raises is logged and counted."""
        if callback is not None and not call(callback, value):
            self._stats.callback_errors += 1
