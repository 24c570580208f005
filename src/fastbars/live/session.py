"""Session: messages in, bars and events out. It knows no socket, no timer and no exchange by name.

    payloads -+-> scanner ------------------> batch -> Intake -> bars -> Notifier -> the user
              +-> MessageReader -> Admission -^          |
                                                         +<- Coverage, Repairs: what may be missing, and what filled it

Live connections and replays feed the same session, so that they give the same bars. Whatever changes a bar from
outside, messages, clock, coverage and repairs, is written to the journal first. Units: times int64 nanoseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbars import clocks
from fastbars.bars import BarStatus, OHLCVBar
from fastbars.buffer import BufferStats, RowSink, place_of, shortened, wait_ns_of
from fastbars.clocks import wall_ns
from fastbars.exchanges.checked import LATEST_NS
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.listing import Listed
from fastbars.exchanges.messages import Stream
from fastbars.kernel.fields import IDENTITY
from fastbars.live.admission import Admission, Terms, terms_of
from fastbars.live.callbacks import Callbacks, Notifier
from fastbars.live.carriage import Carriage, CoverageSource, RecordedChanges, is_unwanted
from fastbars.live.carriers import Carriers
from fastbars.live.clock import ExchangeClock
from fastbars.live.config import StreamConfig
from fastbars.live.connections.never_heard import CandleCount
from fastbars.live.coverage import Coverage
from fastbars.live.delivery import Delivery, knows_all
from fastbars.live.delivery_log import encoded
from fastbars.live.intake import Feed, Intake
from fastbars.live.journal import Journal, OpenRecorder
from fastbars.live.open_bars import OpenBars
from fastbars.live.past.joining import Joining
from fastbars.live.reader import MessageReader, Received
from fastbars.live.repairs import Repairs
from fastbars.live.roster import Roster
from fastbars.live.snapshots import pack
from fastbars.live.stats import LineStats, SessionStats
from fastbars.log import SparseLog
from fastbars.specs import BarSpec
from fastbars.ticks import TickData
from fastbars.wire.scanner import TradeScanner


class Session:
    """Turns one exchange's messages into bars.

    Args:
        exchange: says what the messages mean.
        config: bar specs, grace, lateness, and what closes bars.
        callbacks: the user's; on_bars is called once with all bars of a `receive`.
        channel: trade channel that bars are made from; None: that of the first trade seen.
        parse_message: a user's own parser, used for trades instead of the exchange's.
        record: opens the recorder that everything this session consumes is written to; None: it is not recorded.

    Attributes:
        intake: the trades of each wakeup, and the exchange's clock.
        carriers: which connections carry each symbol.
        notifier: calls the user's callbacks.
        coverage: which connection carries which symbol, and so which trades would have come.
        changes: how coverage changes; a replay gives it what was recorded.
        repairs: the holes, and the trades that fill them; a healer sees nothing else of the session.
        past: bars of the past, which come before the live ones.
        wake_healer: called when there may be new holes, or symbols whose first bars lack their beginning.
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
        self.wake_healer: Callable[[], None] | None = None
        self.notifier = Notifier(
            exchange.name,
            callbacks or Callbacks(),
            Delivery(exchange.name, exchange.identity, config),
            overlaps=config.lines > 1,
        )
        self._warnings = SparseLog(exchange=exchange.name)
        grace_ns = -1 if config.grace == "auto" else wait_ns_of(config.grace)
        self.intake = Intake(
            self._warn_of_leap, closes=config.close_by == "clock", grace_ns=grace_ns, on_symbols=self._place_symbols
        )
        self.carriers = Carriers(self.intake)
        self._counters = SessionStats()
        self._admission = Admission(
            exchange, config, self.intake, self.notifier, self._counters, self._warnings, scans=parse_message is None
        )
        self._reader = MessageReader(
            exchange, self._admission, self.notifier, self._counters, self._warnings, parse_message
        )
        self._received = Received()
        if parse_message is not None:
            self._admission.channel = channel  # begun with the first trade: it shows whether there are ids
        elif channel is not None:
            self._admission.begin(channel)
        self._journal = Journal(None if record is None else record(self.declaration(channel)))
        deliver = self.notifier.notify_bars
        self.changes = RecordedChanges(self.intake, self._journal, deliver)
        source = CoverageSource(self.intake, self.set_carriers)
        self.coverage = self._admission.coverage = Coverage(
            source, self.changes, acks_prove=exchange.acks_prove, sends_recent=exchange.sends_recent_trades
        )
        backfill_s = min(config.backfill, config.heal_horizon)
        self.repairs = Repairs(self.intake, self._journal, deliver, self._warnings, backfill_s)
        self.past = Joining(self.notifier, self._journal)

    def divert_rows(self, sink: RowSink | None) -> None:
        """From here on bars go to `sink` as rows, and nowhere else; None: as objects, to callbacks and loops."""
        self._admission.sink = sink
        if self.intake.buffer is not None:
            self.intake.buffer.sink = sink

    def declaration(self, channel: str | None = None) -> Mapping[str, Any]:
        """The settings from which a replay rebuilds this session; secrets, hidden from the `repr` too, are left out."""
        config = {field.name: getattr(self.config, field.name) for field in fields(self.config) if field.repr}
        config |= {"bars": [str(spec) for spec in self.config.specs], "timezone": None, "origin": None}
        return {
            "exchange": self.exchange.name,
            "channel": channel,
            "own_parser": self.has_own_parser,
            "config": config,
        }

    # What is known.

    @property
    def channel(self) -> str:
        """The trade channel that bars are made from."""
        return self._admission.channel or self.exchange.default_channel

    @property
    def has_own_parser(self) -> bool:
        """Whether a parser of the user's reads the trades."""
        return self._reader.parse_message is not None

    @property
    def delivery(self) -> Delivery:
        """The bars on their way to the user."""
        return self.notifier.delivery

    @property
    def drops_duplicates(self) -> bool:
        """Whether a trade that comes twice is noticed."""
        return self.intake.buffer is not None and self.intake.buffer.policy.deduplicates

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that traded, by their ids."""
        return () if self.intake.buffer is None else self.intake.buffer.instruments.symbols

    @property
    def trade_times_ns(self) -> npt.NDArray[np.int64]:
        """int64[n], time of the latest trade of each of `symbols`, ns."""
        return np.zeros(0, np.int64) if self.intake.buffer is None else self.intake.buffer.trade_times_ns

    def trade_time_ns(self, symbol: str) -> int:
        """Time of the latest trade of a symbol, ns; 0: it has none."""
        buffer = self.intake.buffer
        if buffer is None or symbol not in buffer.instruments:
            return 0
        return int(buffer.trade_times_ns[buffer.instruments.id(symbol)])

    @property
    def candles(self) -> CandleCount:
        """How many candles came of each subscription."""
        return self._reader.candles

    def current(self, symbol: str, spec: str | int | BarSpec) -> OHLCVBar | None:
        """The bar in progress, as `BarBuffer.current`, with its beginning where that is known. Raises SpecError."""
        if self.intake.buffer is None:
            place_of(spec, self.config.specs)
            return None
        bar = self.intake.buffer.current(symbol, spec)
        return bar if bar is None or self.past.beginnings is None else self.past.beginnings.shown(bar)

    def open_bars(self, interval_s: float) -> OpenBars:
        """The bars in progress, for one more consumer. Raises ValueError: the interval is not positive."""
        return OpenBars(self.intake, self.delivery.seam, interval_s, self.past.beginnings)

    def missing(self, symbol: str) -> list[tuple[int, int]]:
        """Trade ids known to be missing: (first, last) of each hole."""
        return [] if self.intake.buffer is None else self.intake.buffer.missing(symbol)

    @property
    def clock(self) -> ExchangeClock:
        """What is known of the exchange's clock."""
        return self.intake.clock

    @property
    def event_time_ns(self) -> int | None:
        """The latest event time of any connection; None before the first."""
        return self.intake.event_time_ns

    def now_ns(self, steady_ns: int) -> int | None:
        """The exchange's time, as estimated at `steady_ns`; None before the first message with a time."""
        return self.clock.now_ns(steady_ns)

    @property
    def grace_s(self) -> float:
        """How long watermark and clock wait now, s: as configured, or as learned."""
        return self.intake.delays.grace_ns / 1e9

    # Counters.

    @property
    def stats(self) -> SessionStats:
        """The counters, as they are now."""
        messages, size, trades, duplicates = self.intake.scanned
        counted = self._counters
        return replace(
            counted,
            bytes=counted.bytes + size,
            trade_messages=counted.trade_messages + messages,
            trades=counted.trades + trades,
            duplicates=counted.duplicates + duplicates,
            dropped=replace(counted.dropped),
            callback_errors=self.notifier.errors,
        )

    @property
    def buffer_stats(self) -> BufferStats:
        """The counters of the bar buffer."""
        return BufferStats() if self.intake.buffer is None else self.intake.buffer.stats

    @property
    def lines(self) -> list[LineStats]:
        """Counters of each redundant line; empty where there is only one, or where ids do not rise."""
        arbiter = self.intake.arbiter
        return [] if arbiter is None else [LineStats(*arbiter.counted(line)) for line in range(self.config.lines)]

    def timing(self) -> dict[str, Any]:
        """The fields of `StreamStats` about clocks and delays."""
        offset_ns, delays = self.clock.offset_ns, self.intake.delays
        return {
            "clock_offset_s": None if offset_ns is None else offset_ns / 1e9,
            "grace_s": self.grace_s,
            "delay_p50_s": delays.quantile_ns(0.5) / 1e9,
            "delay_p999_s": delays.quantile_ns(0.999) / 1e9,
        }

    # Messages.

    @property
    def scanner(self) -> TradeScanner | None:
        """Reads trade messages without making objects of them; None: `receive` must be given every message."""
        return self.scanner_of(self.intake.feeds.everything)

    def scanner_of(self, feed: Feed) -> TradeScanner | None:
        """The same, of one connection."""
        return None if self._journal.is_recorded or self.notifier.wants_trades else feed.scanner

    def receive(
        self, payloads: Sequence[bytes], receive_time_ns: int, steady_ns: int | None = None, *, line: int = 0
    ) -> Received:
        """Process the messages of one wakeup and end it; trades reach the kernel in one batch.

        Args:
            payloads: raw messages, in wire order, without those that `scanner` or `take_message` was given already.
            receive_time_ns: of the local wall clock.
            steady_ns: of a steady clock, for the exchange's clock offset; None in a replay of a plain tape.
            line: number of the connection that brought them: that of a feed, where one was opened.
        """
        self._journal.write_messages(payloads, receive_time_ns, steady_ns, line)
        feed = self._begin_wakeup(receive_time_ns, steady_ns, line)
        # A callback for each trade is given the row as an object, if the row holds all that the message said.
        notifies = self.notifier.wants_trades
        for payload in payloads:
            scanner = None if notifies and not self._admission.rows_are_whole else feed.scanner
            if scanner is None or not scanner.scan(payload):
                self._read(payload)
            elif notifies:
                self._admission.notify_scanned(scanner.first_row)
        received, self._received = self._received, Received()
        received.bars, scanned = self.intake.end_wakeup(receive_time_ns, steady_ns)
        received.data_messages += scanned
        received.bars = self.notifier.notify_bars(received.bars, receive_time_ns)
        self._note_coverage(steady_ns)
        self._wake_healer()
        return received

    def take_message(self, payload: bytes, receive_time_ns: int, steady_ns: int | None = None, line: int = 0) -> None:
        """Process one message that `scanner` did not take, on arrival; `receive` ends its wakeup."""
        self._begin_wakeup(receive_time_ns, steady_ns, line)
        self._read(payload)

    def _begin_wakeup(self, receive_time_ns: int, steady_ns: int | None, number: int) -> Feed:
        wakeup = self._admission.wakeup
        feed = self.intake.feeds.begin_wakeup(number, number % self.config.lines)
        wakeup.receive_time_ns, wakeup.steady_ns = receive_time_ns, steady_ns
        wakeup.connection, wakeup.line = number, feed.line
        return feed

    def _note_coverage(self, steady_ns: int | None) -> None:
        # After the trades of the wakeup: a replay is given its messages and these changes one after the other.
        connection, admission = self._admission.wakeup.connection, self._admission
        self.changes.begin(admission.wakeup.receive_time_ns)
        if admission.firsts:
            firsts, admission.firsts = admission.firsts, {}
            for symbol, (oldest_ns, held) in firsts.items():
                self.coverage.confirm_by_trades(connection, symbol, oldest_ns, steady_ns, held=held)
        if admission.wakeup.unread_ns:
            unread_ns, admission.wakeup.unread_ns = admission.wakeup.unread_ns, []
            for time_ns in unread_ns:
                self.coverage.lose_unread(connection, time_ns)
        if steady_ns is not None and self.coverage.is_waiting:
            self.coverage.pass_time(steady_ns)

    def _read(self, payload: bytes) -> None:
        self.intake.interrupt()
        sent_ns = self._reader.read(payload, self._received)
        if sent_ns is not None:
            self.intake.note_sent(sent_ns)

    def _wake_healer(self) -> None:
        if self.intake.note_new_holes() and self.wake_healer is not None:
            self.wake_healer()

    def _warn_of_leap(self, event_time_ns: int, exchange_time_ns: int) -> None:
        self._warnings.warn(
            "event_time_leaps", event_time_ns=str(event_time_ns), exchange_time_ns=str(exchange_time_ns)
        )

    # Subscriptions.

    def begin_overlap(self, owner: object) -> None:
        """Two connections are about to carry the same trades: callbacks are called for the first arrival of each."""
        if self.notifier.wants_trades:
            self.notifier.begin_overlap(owner, self._received_before_now())

    def _received_before_now(self) -> Callable[[str, int], bool]:
        # Says of a symbol and a trade id whether that trade has come by now.
        buffer = self.intake.buffer
        ids: dict[str, int] = {}
        missing: dict[str, list[tuple[int, int]]] = {}
        if buffer is not None and buffer.policy.proves:
            ids = {symbol: expected for symbol in self.symbols if (expected := buffer.next_id(symbol)) is not None}
            missing = {symbol: buffer.missing(symbol) for symbol in ids}

        def has_come(symbol: str, trade_id: int) -> bool:
            return trade_id < ids.get(symbol, 0) and not any(
                first <= trade_id <= last for first, last in missing[symbol]
            )

        return has_come

    @property
    def takes_all(self) -> bool:
        """Whether trades of all symbols make bars, subscribed to or not."""
        return self._admission.roster is None

    @property
    def streams(self) -> frozenset[Stream]:
        """The streams that are subscribed to, on whichever connection."""
        roster = self._admission.roster
        return frozenset() if roster is None else roster.streams

    def follow(self, owner: object, streams: Iterable[Stream], receive_time_ns: int) -> None:
        """Set the streams that one connection is subscribed to; trades of other symbols are dropped from here on.

        Until the first call all trades are taken, as in a replay of a plain tape.

        Args:
            owner: the connection; the session takes the streams of all connections together.
        """
        roster = self._admission.roster
        if roster is None:
            roster = self._admission.roster = Roster(self.exchange.symbols, self.channel)
        before = roster.streams
        gone = roster.follow(owner, streams)
        now = roster.streams
        self.coverage.give_up(gone, clocks.steady_ns())
        self._journal.write("streams", receive_time_ns, {"added": sorted(now - before), "ended": sorted(before - now)})
        if gone and self.intake.buffer is not None:
            instruments = self.intake.buffer.instruments
            self.intake.feeds.forget([instruments.id(symbol) for symbol in gone if symbol in instruments])

    def learn(self, listed: Iterable[Listed]) -> None:
        """What an exchange lists of symbols to come: their first trades find their scales and contract sizes set."""
        terms = {one.symbol: terms_of(one) for one in listed}
        if terms:
            self.set_terms(terms, wall_ns())

    def set_terms(self, terms: Mapping[str, Terms], receive_time_ns: int) -> None:
        """The same, as a recording has it; a symbol that has traded keeps what it has."""
        self._journal.write("terms", receive_time_ns, {"terms": {symbol: list(each) for symbol, each in terms.items()}})
        self._admission.terms |= terms

    def change_streams(self, added: Iterable[Stream], ended: Iterable[Stream], receive_time_ns: int) -> None:
        """As `follow`, in a replay: streams that the recorded run began and ended at this point."""
        roster = self._admission.roster
        before = frozenset[Stream]() if roster is None else roster.streams
        self.follow(None, before - set(ended) | set(added), receive_time_ns)

    # Connections.

    def open_feed(
        self, number: int, line: int | None = None, on_failure: Callable[[Exception], object] | None = None
    ) -> Feed:
        """A connection is about to bring messages.

        Args:
            number: which `receive` is given with them; no other open feed has it.
            line: which of redundant lines it is; None: the number modulo the number of lines.
            on_failure: called with an internal error in a wakeup that the feed ends by itself.
        """
        line = number % self.config.lines if line is None else line
        self._journal.write("feed", wall_ns(), {"number": number, "line": line, "opens": True})
        feed = self.intake.feeds.open(number, line, on_failure)
        self.carriers.follow(number)
        return feed

    def close_feed(self, feed: Feed) -> None:
        """The connection brings nothing any more. Idempotent."""
        if self.intake.feeds.opened.get(feed.number) is feed:
            self._journal.write("feed", wall_ns(), {"number": feed.number, "line": feed.line, "opens": False})
            self.intake.feeds.close(feed)

    def set_carriers(self, symbol: str, connections: frozenset[int]) -> None:
        """From here on these connections carry a symbol, and no others: their event time closes its bars."""
        if self.carriers.of(symbol) != connections:
            self._journal.write("carriers", wall_ns(), {"symbol": symbol, "connections": sorted(connections)})
            self.carriers.set(symbol, connections, are_named=not self.takes_all)

    def _place_symbols(self, first: int) -> None:
        self.carriers.place(first)
        if self.past.beginnings is not None:
            self.past.beginnings.watch(first)

    def carriage(self, connection: int) -> Carriage:
        """What a connection of this number tells of what it carries."""
        return Carriage(
            self.coverage, self._admission, connection, self.channel, names=self._reader.parse_message is None
        )

    # What closes bars besides trades: the clock, and the end.

    def clock_is_due(self, steady_ns: int, unread: Collection[int] = ()) -> bool:
        """Whether `advance_clock` would close a bar, or release a trade that waits for another line."""
        intake, kernel = self.intake, self.intake.kernel
        if intake.buffer is None or kernel is None:
            return False
        if self.coverage.is_waiting:
            return True
        if intake.arbiter is not None and intake.arbiter.next_release_ns <= steady_ns:
            return True
        now_ns = self.now_ns(steady_ns)
        if now_ns is None or now_ns < intake.buffer.next_close_ns:
            return False
        closes_ns = [kernel.next_close_in(group) for group in self.carriers.groups_but(unread)]
        return now_ns - intake.buffer.grace_ns >= min(closes_ns, default=LATEST_NS)

    def advance_clock(
        self, steady_ns: int, receive_time_ns: int, *, feed_up: bool, unread: Collection[int] = ()
    ) -> list[OHLCVBar]:
        """Close the bars that are over by the exchange's clock, as estimated at `steady_ns`.

        Args:
            steady_ns: of a steady clock.
            receive_time_ns: of the local wall clock.
            feed_up: everything is received.
            unread: connections that are not read to the end: trades that lie there may belong to bars of what only
                they carry, which stay open.
        """
        buffer = self.intake.buffer
        self.coverage.pass_time(steady_ns)
        if buffer is None or not self.clock_is_due(steady_ns, unread):
            return []
        now_ns = self.now_ns(steady_ns)
        clock = {"steady_ns": steady_ns, "exchange_time_ns": now_ns, "feed_up": feed_up}
        self._journal.write("clock", receive_time_ns, clock | ({"unread": sorted(unread)} if unread else {}))
        self.intake.place_symbols()
        bars = self.intake.release(steady_ns)
        if now_ns is not None:
            feed_up |= self.changes.is_in_charge
            bars += buffer.advance_clock(now_ns, feed_up=feed_up, groups=self.carriers.groups_but(unread))
        bars = self.notifier.notify_bars(bars, receive_time_ns)
        self._wake_healer()  # a trade that was released may have a hole before it
        return bars

    def flush(self, receive_time_ns: int, symbol: str | None = None) -> list[OHLCVBar]:
        """Close every open bar (of one symbol) with reason `end`.

        Where a snapshot keeps them for a restart (StreamConfig.state), they stay open, unless one symbol is named.
        """
        self.notifier.finish()
        if self.config.state is not None and symbol is None:
            return []
        if symbol is None:
            self.coverage.cut()
        self._journal.write("flush", receive_time_ns, {"symbol": symbol})
        buffer = self.intake.buffer
        bars = self.intake.release(None) if buffer is not None else []
        if buffer is not None:
            bars += buffer.flush_all() if symbol is None else buffer.flush_symbol(symbol)
        bars = self.notifier.notify_bars(bars, receive_time_ns)
        bars += self.past.end(symbol, receive_time_ns)
        self.notifier.finish()
        return bars

    def report(self, bars: Sequence[OHLCVBar], receive_time_ns: int | None = None) -> list[OHLCVBar]:
        """Issue bars from elsewhere in place of those that trades make.

        Args:
            bars: REPORTED: each is issued unless what was issued is as good. Others: what trades make, in place of a
                REPORTED bar that they contradict. Those of other specs than the session's are ignored.

        Returns:
            Those that were issued, with their revisions.
        """
        earlier, now_ns = self.delivery.earlier, wall_ns() if receive_time_ns is None else receive_time_ns
        judged = [
            earlier.report(bar) if bar.status is BarStatus.REPORTED else earlier.withdraw(bar)
            for bar in bars
            if earlier.has_spec(bar)
        ]
        issued = [bar for bar in judged if bar is not None]
        if issued:
            # As they are issued: a replay may know less of what was issued before.
            self._journal.write("report", now_ns, {}, lambda: b"[%s]" % b",\n".join(map(encoded, issued)))
        return self.notifier.notify_judged(issued, now_ns)

    # Connections and restarts.

    def note_state(self, state: str, url: str) -> None:
        """Write the connection's state to the recording; no bar depends on it."""
        self._journal.note("state", wall_ns(), {"state": state, "url": url})

    def begin_outage(self, steady_ns: int) -> None:
        """Nothing can be received from here on; the latest messages may be lost as well. Idempotent.

        This and `end_outage` are for sessions that are fed without connections.
        """
        self.coverage.begin_outage(steady_ns)

    def end_outage(self, steady_ns: int, receive_time_ns: int = 0) -> None:  # noqa: ARG002
        """Everything is received again."""
        self.coverage.end_outage(steady_ns)

    def dump(self, recycled: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """The state of the session, for `load`; None before the first trade. `recycled` as in `BarBuffer.dump`."""
        buffer = self.intake.buffer
        if buffer is None or not len(buffer.instruments):
            return None
        return self._admission.dump(buffer, recycled) | {
            "channel": self.channel,
            "event_time_ns": self.event_time_ns,
        }

    def load(self, content: Mapping[str, Any], receive_time_ns: int) -> list[OHLCVBar]:
        """Restore the state that another process dumped; since then nothing is covered.

        Raises:
            ValueError: the state belongs to another exchange, market, channel, specs, or build.
        """
        if "instruments" not in content and "delivery" in content:  # killed before the first snapshot
            self.delivery.load(content)
            self._journal.write("load", receive_time_ns, {}, lambda: pack(content))
            return self._begin_issued(receive_time_ns)
        own = (*zip(IDENTITY, self.exchange.identity, strict=True), ("channel", self.channel))
        for name, value in own:
            if content.get(name) != value:
                raise ValueError(f"its {name} is {shortened(content.get(name))}, not {value!r}")
        event_time_ns = content.get("event_time_ns")
        if event_time_ns is not None and not (type(event_time_ns) is int and 0 <= event_time_ns <= LATEST_NS):
            raise ValueError(f"its event time is {shortened(event_time_ns)}")
        if not content.get("instruments"):
            raise ValueError("it has no symbols")
        buffer = self._admission.begin(self.channel) if self.intake.buffer is None else self.intake.buffer
        self._admission.load(content, buffer, continues=knows_all(content))
        self.delivery.load(content)
        self._journal.write("load", receive_time_ns, {}, lambda: pack(content))
        self.intake.event_time_ns = event_time_ns
        self.carriers.forget()  # they were the other process's
        bars = self.notifier.notify_bars(self._admission.fold_held(content, buffer), receive_time_ns)
        # The other process received nothing after the latest event in the snapshot, and this one has not begun.
        heard_ns = max(int(buffer.trade_times_ns.max()), event_time_ns or 0)
        since_ns = heard_ns - self.intake.delays.grace_ns
        bars += self._begin_issued(receive_time_ns)
        if buffer.covers_itself:  # until `end_outage`, or the clock that says so
            return bars + self.notifier.notify_bars(buffer.feed_down(since_ns), receive_time_ns)
        wanted = [symbol for symbol in buffer.instruments.symbols if not is_unwanted(buffer.gaps(symbol))]
        self.coverage.restored(wanted, since_ns)
        return bars

    def _begin_issued(self, receive_time_ns: int) -> list[OHLCVBar]:
        # Symbols that began after the snapshot, of which bars were issued: what followed those was lost.
        buffer = self._admission.begin(self.channel) if self.intake.buffer is None else self.intake.buffer
        bars: list[OHLCVBar] = []
        for symbol, end_ns in self.delivery.earlier.ends_ns().items():
            if symbol not in buffer.instruments:
                bars += self.notifier.notify_bars(buffer.note_lost(symbol, end_ns), receive_time_ns)
                if not buffer.covers_itself:
                    self.coverage.restored([symbol], end_ns)
        return bars
