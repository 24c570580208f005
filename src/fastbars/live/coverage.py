"""Coverage: which connection carries which symbol, and so in which time every trade of it would have come.

It knows no socket, no timer and no kernel: events in, changes of the coverage ledger out. It keeps a table of pairs
(symbol, connection):

    ABSENT      the connection was not asked for the symbol
    REQUESTED   asked for: what comes is taken, but nothing says that all of it does
    CONFIRMED   confirmed, and not in force yet: the exchange's clock is unknown, or recent trades may still come
    CARRYING    every trade from `since_ns` on comes over it

    event             in ABSENT    in REQUESTED    in CONFIRMED    in CARRYING
    request           REQUESTED    -               -               -
    confirm (an ack)  -            CONFIRMED       -               -
    first trades      -            CARRYING        CARRYING        begins earlier, where they reach back
    time passes       -            -               CARRYING        -
    suspect           -            -               REQUESTED       REQUESTED, from its last trade on
    end, refused      -            ABSENT          ABSENT          ABSENT, from when it was asked to end
    lose              -            ABSENT          ABSENT          ABSENT, from its last event less grace on

    "-": nothing changes. An ack of an earlier request, a second one, and one of a connection that is gone do no harm.

A symbol is covered while any pair of it is CARRYING. When the last one stops a gap opens, which ends where the next
one begins:

    pair A  ======                     x  found dead, long after its last event
    pair B               ==============
    gap           |-----|                 from the latest end before it to the earliest beginning after it

Where spans overlap there is none, so that of two lines neither one that lags nor one that stalls lies. A gap is bridged
where the first trades after it include one that was held already.

Units: times int64 nanoseconds of the exchange's clock; `steady_ns` of a steady one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

_MOST_ENDED = 16  # spans of a symbol
Symbol = str | None  # None: all symbols, where the subscriptions do not say which trades come


class PairState(StrEnum):
    """The state of a pair (symbol, connection)."""

    ABSENT = "absent"
    REQUESTED = "requested"
    CONFIRMED = "confirmed"
    CARRYING = "carrying"


class Changes(Protocol):
    """Where the changes of the ledger go; `symbols` None: all that are known."""

    def take_charge(self, *, by_name: bool = True) -> object:
        """From here on only these changes say what is covered. Idempotent.

        Args:
            by_name: subscriptions name the symbols of trades; else a symbol's first trade covers it as well.
        """

    def cover(self, symbols: list[str] | None, from_ns: int) -> object:
        """The open gap of each ends at `from_ns`."""

    def uncover(self, symbols: list[str] | None, since_ns: int, *, lost: bool = True) -> object:
        """A gap opens; `lost`: trades may be missing in it, else nobody wants them."""

    def lose(self, symbols: list[str] | None, since_ns: int, until_ns: int) -> object:
        """Trades of this time may be missing, both ends included."""

    def bridge(self, symbols: list[str] | None, since_ns: int, until_ns: int) -> object:
        """Nothing was missed in this time."""


class Source(Protocol):
    """What must be known of the session."""

    @property
    def grace_ns(self) -> int:
        """How long a trade may be under way."""

    def now_ns(self, steady_ns: int) -> int | None:
        """The exchange's time; None while it is unknown."""

    def heard_ns(self, connection: int | None) -> int | None:
        """The latest event time that came over a connection (None: over any); None before the first."""

    @property
    def symbols(self) -> Sequence[str]:
        """The symbols that have traded."""

    def trade_time_ns(self, symbol: str) -> int | None:
        """The time of a symbol's latest trade; None before the first."""

    def set_carriers(self, symbol: str, connections: frozenset[int]) -> object:
        """These connections carry a symbol from here on, and no others."""

    def watch(self, symbols: list[str]) -> None:
        """Read the next message of these symbols in Python, which reports it to `confirm_by_trades`."""


@dataclass(slots=True)
class _Pair:
    state: PairState = PairState.REQUESTED
    since_ns: int | None = None  # where it carries from; None: not known yet
    watched: bool = True  # its first trades since the request are still to come, and are to be reported
    by_trades: bool = True  # they confirm it; else only the ack does


@dataclass(slots=True)
class _Spans:
    """One symbol: who carries it, and its gap.

    Attributes:
        carriers: connection -> since when it carries the symbol.
        from_ns: since when the ledger has it covered; up to there it says what is missing.
        ended: spans (since, end) of pairs that have stopped while others went on, which matter where one of these is
            found to have stopped long ago; those that touch are one.
        gap_ns: since when it is or was not covered; None: there was no gap, or the first trades after it have come.
        is_lost: a gap is open, and trades that somebody wants are missing in it.
        restored_ns: until when it was covered by what ended in an orderly way, or by another process; None: it is asked
            for again.
    """

    carriers: dict[int, int] = field(default_factory=dict)
    from_ns: int = 0
    ended: list[tuple[int, int]] = field(default_factory=list)
    gap_ns: int | None = None
    is_lost: bool = False
    restored_ns: int | None = None


class _Batches:
    """Symbols to which the same happens at the same time, so that each change is told once."""

    def __init__(self) -> None:
        self.symbols: dict[tuple[int, ...], list[Symbol]] = {}

    def add(self, symbol: Symbol, *times_ns: int) -> None:
        self.symbols.setdefault(times_ns, []).append(symbol)

    def __iter__(self) -> Iterator[tuple[list[str] | None, tuple[int, ...]]]:
        for times_ns, symbols in self.symbols.items():
            yield (None if None in symbols else [symbol for symbol in symbols if symbol is not None]), times_ns


def _join(spans: list[tuple[int, int]], since_ns: int, end_ns: int) -> None:
    # Adds one to spans that ascend and do not touch.
    joined = [span for span in spans if span[0] <= end_ns and since_ns <= span[1]]
    spans[:] = [span for span in spans if span not in joined]
    spans.append((min([since_ns, *(span[0] for span in joined)]), max([end_ns, *(span[1] for span in joined)])))
    spans.sort()
    del spans[:-_MOST_ENDED]  # the careful side: what only the oldest one covered counts as missing


class Coverage:
    """The pairs of one session.

    Args:
        source: what is known of the session.
        changes: where changes of the ledger go.
        acks_prove: an ack says that trades will come; else only a trade does.
        sends_recent: on subscribing the exchange sends its latest trades once more.
    """

    def __init__(
        self, source: Source, changes: Changes, *, acks_prove: bool = True, sends_recent: bool = False
    ) -> None:
        self._source = source
        self._changes = changes
        self._acks_prove = acks_prove
        self._sends_recent = sends_recent
        self._pairs: dict[int, dict[Symbol, _Pair]] = {}
        self._spans: dict[Symbol, _Spans] = {}
        self._waiting: dict[tuple[int, Symbol], _Pair] = {}  # those that are CONFIRMED
        self._watched: dict[Symbol, int] = {}  # symbol -> how many of its pairs are watched
        self._is_down = False  # of a session without connections

    # What is known.

    def state(self, symbol: Symbol, connection: int) -> PairState:
        """The state of a pair."""
        pair = self._pairs.get(connection, {}).get(symbol)
        return PairState.ABSENT if pair is None else pair.state

    def carriers(self, symbol: Symbol) -> Mapping[int, int]:
        """The connections that carry a symbol, each with the time since when."""
        spans = self._spans.get(symbol)
        return {} if spans is None else spans.carriers

    def is_watched(self, symbol: str, connection: int | None = None) -> bool:
        """Whether the next trades of a symbol (over one connection) are to be reported to `confirm_by_trades`."""
        if connection is None:
            return symbol in self._watched
        pair = self._pairs.get(connection, {}).get(symbol)
        return pair is not None and pair.watched

    @property
    def is_waiting(self) -> bool:
        """Whether `pass_time` has something to do."""
        return bool(self._waiting)

    # Events.

    def request(self, connection: int, symbols: Iterable[Symbol], *, by_trades: bool = True) -> None:
        """Symbols are asked for on a connection.

        Args:
            by_trades: trades that come after this confirm it; False: they may be of a subscription that is ending.
        """
        pairs = self._pairs.setdefault(connection, {})
        added = [symbol for symbol in symbols if symbol not in pairs]
        if added:
            self._changes.take_charge(by_name=None not in added)
        missed = _Batches()
        for symbol in added:
            pairs[symbol] = _Pair(by_trades=by_trades, watched=symbol is not None)
            spans = self._spans.setdefault(symbol, _Spans())
            if spans.restored_ns is not None and symbol is not None:
                self._open(symbol, spans, spans.restored_ns, missed, is_lost=True)
        self._tell(missed, lost=True)
        self._watch(added)

    def confirm(self, connection: int, symbols: Iterable[Symbol], steady_ns: int) -> None:
        """The exchange has acknowledged symbols on a connection."""
        now_ns = self._source.now_ns(steady_ns)
        for symbol in symbols:
            pair = self._pairs.get(connection, {}).get(symbol)
            if pair is None or pair.state is not PairState.REQUESTED:
                continue
            pair.by_trades = True
            if self._acks_prove or symbol is None:
                pair.state = PairState.CONFIRMED
                pair.since_ns = None if now_ns is None else now_ns + self._source.grace_ns
                self._waiting[connection, symbol] = pair
        self.pass_time(steady_ns)

    def pass_time(self, steady_ns: int) -> None:
        """Time has passed, and the exchange's clock may be known by now: begin what was confirmed."""
        now_ns = self._source.now_ns(steady_ns) if self._waiting else None
        if now_ns is None:
            return
        due: dict[int, list[Symbol]] = {}
        for (connection, symbol), pair in self._waiting.items():
            if pair.since_ns is None:
                pair.since_ns = now_ns + self._source.grace_ns
            # Its recent trades may come until then, and reach back further.
            if not (self._sends_recent and pair.watched) or pair.since_ns <= now_ns:
                due.setdefault(connection, []).append(symbol)
        for connection, symbols in due.items():
            self._begin(connection, symbols)

    def confirm_by_trades(
        self, connection: int, symbol: str, oldest_ns: int, steady_ns: int | None = None, *, held: bool = False
    ) -> None:
        """The first trades of a symbol have come over a connection since it was asked for there.

        Args:
            oldest_ns: the time of the oldest of them.
            steady_ns: when they came; None: it is not known.
            held: one of them had come before.
        """
        pair = self._pairs.get(connection, {}).get(symbol)
        if pair is None or not pair.watched or not pair.by_trades:
            return
        self._unwatch(symbol, pair)
        spans = self._spans[symbol]
        gap_ns, spans.gap_ns = spans.gap_ns, None
        # A trade in the gap came over a pair that was not confirmed, and says nothing of what was before it.
        held = held and gap_ns is not None and oldest_ns <= gap_ns + self._source.grace_ns
        # Trades that come once more are complete from the oldest on. Before one that comes for the first time, another
        # may have been published before the subscription took effect, though it is later.
        if self._sends_recent or held:
            since_ns = oldest_ns
        else:  # it may be the latest trade of before, which says nothing of those between it and now
            now_ns = None if steady_ns is None else self._source.now_ns(steady_ns)
            since_ns = (oldest_ns if now_ns is None else max(oldest_ns, now_ns)) + self._source.grace_ns
        before_ns = min(spans.carriers.values(), default=None)  # covered since then
        pair.since_ns = since_ns if pair.since_ns is None else min(since_ns, pair.since_ns)
        if pair.state is PairState.CARRYING:
            spans.carriers[connection] = pair.since_ns
        else:
            self._begin(connection, [symbol])
        if gap_ns is not None and (held or since_ns < gap_ns):
            # All that was traded since that trade is among these; before it nothing was missing, as they come in order.
            self._changes.bridge([symbol], gap_ns, max(gap_ns, pair.since_ns if before_ns is None else before_ns))
        elif before_ns is not None and since_ns < before_ns:
            self._changes.bridge([symbol], since_ns, before_ns)
        spans.from_ns = min(spans.from_ns, pair.since_ns)

    def suspect(self, symbols: Iterable[str]) -> None:
        """Symbols are silent though they are subscribed to: their trades may be missing since the last one."""
        uncovered = _Batches()
        for symbol in symbols:
            spans = self._spans.get(symbol)
            for connection, pairs in self._pairs.items():
                if (pair := pairs.get(symbol)) is not None:
                    self._waiting.pop((connection, symbol), None)
                    self._unwatch(symbol, pair)
                    pairs[symbol] = _Pair()
                    self._watch([symbol])
            if spans is not None and spans.carriers:
                traded_ns = self._source.trade_time_ns(symbol)
                since_ns = min(spans.carriers.values()) if traded_ns is None else traded_ns
                self._open(symbol, spans, since_ns, uncovered, is_lost=True)
                self._tell_carriers(symbol, spans)
        self._tell(uncovered, lost=True)

    def end(
        self, connection: int, symbols: Iterable[Symbol], steady_ns: int, *, wanted: bool, answered: bool = True
    ) -> None:
        """Symbols are no longer asked for on a connection: unsubscribed, moved away, or refused.

        Args:
            steady_ns: when the exchange was asked to end them; it may have done so at once.
            wanted: False: it is the user who ended them.
            answered: the exchange has answered, and so delivered everything before.
        """
        pairs = self._pairs.get(connection, {})
        now_ns = self._source.now_ns(steady_ns)
        end_ns = now_ns if answered and now_ns is not None else self._end_of(connection, now_ns)
        given = [symbol for symbol in symbols if symbol in pairs]
        self._stop(connection, {symbol: pairs.pop(symbol) for symbol in given}, end_ns, end_ns, wanted=wanted)
        if not wanted:
            self.give_up(given, steady_ns)

    def lose(self, connection: int, *, wanted: bool = True, kept: bool = False, asked_ns: int | None = None) -> None:
        """A connection is gone, with all that it carried.

        Args:
            wanted: False: it is the user who ended it.
            kept: bars stay open for the next connection, or the next process; what that asks for again is lost since.
            asked_ns: of the steady clock, when the exchange was asked to close it, and did: all that it sent before has
                come.
        """
        heard_ns = self._source.heard_ns(connection)
        if asked_ns is not None and (now_ns := self._source.now_ns(asked_ns)) is not None:
            heard_ns = now_ns if heard_ns is None else max(heard_ns, now_ns)
        end_ns = None if heard_ns is None else heard_ns - self._source.grace_ns
        self._stop(connection, self._pairs.pop(connection, {}), end_ns, heard_ns, wanted=wanted, kept=kept)

    def cut(self) -> None:
        """All bars are about to be closed, as the user wants it: they end here, and what comes then begins anew."""
        cut = _Batches()
        for symbol, spans in self._spans.items():
            heard_ns = [each for each in map(self._source.heard_ns, spans.carriers) if each is not None]
            if spans.carriers and symbol is not None:
                latest_ns = max(heard_ns, default=None)
                since_ns = min(spans.carriers.values())
                if latest_ns is not None:
                    since_ns = max(since_ns, latest_ns - self._source.grace_ns)
                self._leave(symbol, since_ns, latest_ns, cut)
        for named, (since_ns,) in cut:
            self._changes.uncover(named, since_ns, lost=False)
            self._changes.cover(named or [], since_ns)

    def give_up(self, symbols: Iterable[Symbol], steady_ns: int) -> None:
        """Nobody wants these symbols any more, unless a connection is still asked for them: nothing is missing then."""
        now_ns = self._source.now_ns(steady_ns)
        unwanted = []
        for symbol in symbols:
            spans = self._spans.get(symbol)
            if spans is not None and spans.is_lost and now_ns is not None and not self._is_asked(symbol):
                spans.is_lost, spans.gap_ns = False, None
                unwanted.append(symbol)
        if unwanted and now_ns is not None:
            named = None if None in unwanted else [symbol for symbol in unwanted if symbol is not None]
            self._changes.uncover(named, now_ns, lost=False)

    def restored(self, symbols: Iterable[str], since_ns: int) -> None:
        """Another process has covered these until then: what is asked for again is lost since, the others are over."""
        named = list(symbols)
        for symbol in named:
            self._spans.setdefault(symbol, _Spans()).restored_ns = since_ns
        if named:
            self._changes.uncover(named, since_ns, lost=False)

    def lose_unread(self, connection: int, time_ns: int) -> None:
        """A message that came then could not be read: trades of any symbol that only this connection carries."""
        since_ns = time_ns - self._source.grace_ns
        symbols = [symbol for symbol in self._pairs.get(connection, {}) if set(self.carriers(symbol)) == {connection}]
        if symbols:
            named = None if None in symbols else [symbol for symbol in symbols if symbol is not None]
            self._changes.lose(named, since_ns, time_ns)

    # A session without connections: all symbols at once.

    def begin_outage(self, steady_ns: int) -> None:
        """Nothing can be received from here on. Idempotent."""
        now_ns = self._source.now_ns(steady_ns)
        # Before the first message with a time nothing has come, and there is no bar that could lack anything.
        if now_ns is not None and not self._is_down:
            self._is_down = True
            heard_ns = self._source.heard_ns(None)
            self._changes.uncover(None, (now_ns if heard_ns is None else min(heard_ns, now_ns)) - self._source.grace_ns)

    def end_outage(self, steady_ns: int) -> None:
        """Everything is received again."""
        self._is_down = False
        now_ns = self._source.now_ns(steady_ns)
        if now_ns is not None:
            self._changes.cover(None, now_ns + self._source.grace_ns)

    # Spans.

    def _begin(self, connection: int, symbols: Iterable[Symbol]) -> None:
        covered, missed = _Batches(), _Batches()
        for symbol in symbols:
            pair, spans = self._pairs[connection][symbol], self._spans[symbol]
            if symbol is None:  # that it was asked for means nothing: names may follow, and then it has ended
                for each, kept in self._spans.items():
                    if kept.restored_ns is not None:
                        self._open(each, kept, kept.restored_ns, missed, is_lost=True)
            assert pair.since_ns is not None
            self._waiting.pop((connection, symbol), None)
            pair.state = PairState.CARRYING
            if not spans.carriers:
                covered.add(symbol, pair.since_ns)
                spans.from_ns, spans.ended, spans.is_lost = pair.since_ns, [], False
            spans.carriers[connection] = pair.since_ns
            self._tell_carriers(symbol, spans)
        self._tell(missed, lost=True)
        for named, (since_ns,) in covered:
            self._changes.cover(named, since_ns)

    def _stop(
        self,
        connection: int,
        pairs: Mapping[Symbol, _Pair],
        end_ns: int | None,
        heard_ns: int | None,
        *,
        wanted: bool,
        kept: bool = False,
    ) -> None:
        uncovered, unwanted, lost, resumed = _Batches(), _Batches(), _Batches(), _Batches()
        for symbol, pair in pairs.items():
            self._unwatch(symbol, pair)
            self._waiting.pop((connection, symbol), None)
            spans = self._spans[symbol]
            since_ns = spans.carriers.pop(connection, None)
            if since_ns is None:
                continue
            self._tell_carriers(symbol, spans)
            if end_ns is not None and since_ns < end_ns:
                _join(spans.ended, since_ns, end_ns)
            others_ns = min(spans.carriers.values(), default=None)
            reached_ns = spans.from_ns
            for begun_ns, ended_ns in spans.ended:
                if others_ns is not None and others_ns <= begun_ns:
                    break
                if reached_ns < begun_ns:  # the one before it delivered nothing any more when this one began
                    lost.add(symbol, reached_ns, begun_ns)
                reached_ns = max(reached_ns, ended_ns)
            if others_ns is None:
                is_lost = wanted or self._is_asked(symbol)
                if kept:
                    spans.ended, spans.restored_ns = [], reached_ns
                elif is_lost:
                    self._open(symbol, spans, reached_ns, uncovered, is_lost=True)
                else:
                    self._open(symbol, spans, reached_ns, _Batches(), is_lost=False)
                    self._leave(symbol, reached_ns, heard_ns, unwanted)
                continue
            if reached_ns < others_ns:
                if wanted:
                    lost.add(symbol, reached_ns, others_ns)
                else:
                    self._leave(symbol, reached_ns, heard_ns, unwanted)
                    resumed.add(symbol, others_ns)
            spans.from_ns = max(spans.from_ns, others_ns)
            spans.ended = [span for span in spans.ended if span[1] > spans.from_ns]
        self._tell(uncovered, lost=True)
        self._tell(unwanted, lost=False)
        for named, (from_ns,) in resumed:
            self._changes.cover(named, from_ns)
        for named, (since_ns, until_ns) in lost:
            self._changes.lose(named, since_ns, until_ns)

    def _open(self, symbol: Symbol, spans: _Spans, since_ns: int, into: _Batches, *, is_lost: bool) -> None:
        spans.carriers.clear()
        spans.ended, spans.gap_ns, spans.is_lost, spans.restored_ns = [], since_ns, is_lost, None
        into.add(symbol, since_ns)

    def _leave(self, symbol: Symbol, since_ns: int, heard_ns: int | None, into: _Batches) -> None:
        # It is the user who ends it, and nothing is in disorder: of a symbol all before its last trade has come.
        for each in [symbol] if symbol is not None else self._source.symbols:
            traded_ns = self._source.trade_time_ns(each)
            if traded_ns is not None and heard_ns is not None:
                into.add(each, max(since_ns, min(traded_ns, heard_ns)))
            else:
                into.add(each, since_ns)

    def _tell(self, uncovered: _Batches, *, lost: bool) -> None:
        for named, (since_ns,) in uncovered:
            self._changes.uncover(named, since_ns, lost=lost)

    def _tell_carriers(self, symbol: Symbol, spans: _Spans) -> None:
        if symbol is not None:
            self._source.set_carriers(symbol, frozenset(spans.carriers))

    def _end_of(self, connection: int, now_ns: int | None) -> int | None:
        # All that came before its last message has come; less the grace, as trades are not published quite in order.
        heard_ns = self._source.heard_ns(connection)
        if heard_ns is None:
            return None
        return (heard_ns if now_ns is None else min(heard_ns, now_ns)) - self._source.grace_ns

    def _is_asked(self, symbol: Symbol) -> bool:
        return any(symbol in pairs for pairs in self._pairs.values())

    def _watch(self, symbols: Iterable[Symbol]) -> None:
        named = [symbol for symbol in symbols if symbol is not None]
        for symbol in named:
            self._watched[symbol] = self._watched.get(symbol, 0) + 1
        if named:
            self._source.watch(named)

    def _unwatch(self, symbol: Symbol, pair: _Pair) -> None:
        if pair.watched:
            pair.watched = False
            self._watched[symbol] -= 1
            if not self._watched[symbol]:
                del self._watched[symbol]
