"""Carriage: how the coverage is tied to a session: what it must know, where its changes go, what a connection tells it.

Subscriptions are of streams, (symbol, channel); only those of the trade channel that bars are made from matter here.
Where they do not say which trades come, because the user's own parser has names of its own or the address alone
decides, the connection carries all symbols or none.

Units: times int64 nanoseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fastbars.bars import OHLCVBar
from fastbars.buffer import Gap
from fastbars.clocks import steady_ns, wall_ns
from fastbars.exchanges.messages import Stream
from fastbars.live.admission import Admission
from fastbars.live.coverage import Coverage
from fastbars.live.intake import Intake
from fastbars.live.journal import Journal

_EVERYTHING = (None,)
_FOR_EVER = 2**63 - 1


def is_lost(gaps: Sequence[Gap]) -> bool:
    """Whether a symbol with these gaps is not covered now, though somebody wants it."""
    return bool(gaps) and gaps[-1].until_ns >= _FOR_EVER and gaps[-1].lost


def is_unwanted(gaps: Sequence[Gap]) -> bool:
    """Whether nobody wants a symbol with these gaps now."""
    return bool(gaps) and gaps[-1].until_ns >= _FOR_EVER and not gaps[-1].lost


class RecordedChanges:
    """Gives each change to the buffer, once it is in the journal. A replay calls this too, with what was recorded.

    The buffer is told nothing of a symbol before its first trade.

    Args:
        intake: has the buffer.
        journal: where each change is written before it takes effect.
        deliver: called with bars that are issued, and the local time; returns them as the user has them.

    Attributes:
        is_in_charge: what is covered is said by connections, not by a clock that knows whether any is up.
    """

    def __init__(
        self, intake: Intake, journal: Journal, deliver: Callable[[list[OHLCVBar], int], list[OHLCVBar]]
    ) -> None:
        self._intake = intake
        self._journal = journal
        self._deliver = deliver
        self.is_in_charge = False
        self._early: dict[str, int] = {}  # symbols without a trade -> since when they are covered
        self._known = 0  # symbols of the buffer that were looked for there

    def take_charge(self, receive_time_ns: int | None = None, *, by_name: bool = True) -> list[OHLCVBar]:
        """See `Changes`, here and below; returns the bars that are issued."""
        buffer, now_ns = self._intake.buffer, wall_ns() if receive_time_ns is None else receive_time_ns
        if not self.is_in_charge or (buffer is not None and buffer.covers_itself == by_name):
            self._journal.write("carried", now_ns, {"by_name": by_name})
            self.is_in_charge = True
            if buffer is not None:
                buffer.covers_itself = not by_name
        return []

    def cover(self, symbols: list[str] | None, from_ns: int, receive_time_ns: int | None = None) -> list[OHLCVBar]:
        """See `Changes`."""
        buffer = self._intake.buffer
        if buffer is None:
            return []
        if symbols is None:  # not those that nobody wants
            symbols = [symbol for symbol in buffer.instruments.symbols if is_lost(buffer.gaps(symbol))]
        self._early |= {symbol: from_ns for symbol in symbols if symbol not in buffer.instruments}
        return self._change("cover", receive_time_ns, symbols, {"from_ns": from_ns})

    def begin(self, receive_time_ns: int | None = None) -> list[OHLCVBar]:
        """Trades have come: cover those of the symbols that are covered already and had none before."""
        buffer = self._intake.buffer
        if buffer is None or not self._early or len(buffer.instruments) == self._known:
            return []
        self._known = len(buffer.instruments)
        bars: list[OHLCVBar] = []
        for symbol in [symbol for symbol in self._early if symbol in buffer.instruments]:
            bars += self._change("cover", receive_time_ns, [symbol], {"from_ns": self._early.pop(symbol)})
        return bars

    def uncover(
        self, symbols: list[str] | None, since_ns: int, receive_time_ns: int | None = None, *, lost: bool = True
    ) -> list[OHLCVBar]:
        """See `Changes`."""
        for symbol in list(self._early) if symbols is None else symbols:
            self._early.pop(symbol, None)
        return self._change("uncover", receive_time_ns, symbols, {"since_ns": since_ns, "lost": lost})

    def lose(
        self, symbols: list[str] | None, since_ns: int, until_ns: int, receive_time_ns: int | None = None
    ) -> list[OHLCVBar]:
        """See `Changes`."""
        return self._change("lose", receive_time_ns, symbols, {"since_ns": since_ns, "until_ns": until_ns})

    def bridge(
        self, symbols: list[str] | None, since_ns: int, until_ns: int, receive_time_ns: int | None = None
    ) -> list[OHLCVBar]:
        """See `Changes`."""
        return self._change("bridge", receive_time_ns, symbols, {"since_ns": since_ns, "until_ns": until_ns})

    def _change(
        self, name: str, receive_time_ns: int | None, symbols: list[str] | None, how: Mapping[str, Any]
    ) -> list[OHLCVBar]:
        buffer, now_ns = self._intake.buffer, wall_ns() if receive_time_ns is None else receive_time_ns
        if buffer is None:
            return []
        if max(abs(value) for value in how.values()) > _FOR_EVER:  # of a recording that is not ours
            raise OverflowError(f"{name} {how}: a time is outside 64 bits")
        if symbols is not None:
            symbols = [symbol for symbol in symbols if symbol in buffer.instruments]
            if not symbols:
                return []
        self._journal.write(name, now_ns, {"symbols": symbols, **how})
        bars: list[OHLCVBar] = getattr(buffer, name)(symbols, **how)
        return self._deliver(bars, now_ns)


class CoverageSource:
    """What the coverage must know of a session; see `coverage.Source`.

    Args:
        intake: has the buffer, the clock and the grace.
        set_carriers: that of the session.
    """

    def __init__(self, intake: Intake, set_carriers: Callable[[str, frozenset[int]], object]) -> None:
        self.set_carriers = set_carriers
        self._intake = intake

    @property
    def grace_ns(self) -> int:
        """See `coverage.Source`, here and below."""
        return self._intake.delays.grace_ns

    def now_ns(self, steady_ns: int) -> int | None:
        """See `coverage.Source`."""
        return self._intake.clock.now_ns(steady_ns)

    def heard_ns(self, connection: int | None) -> int | None:
        """See `coverage.Source`."""
        if connection is None:
            return self._intake.event_time_ns
        return self._intake.feeds.event_time_of(connection)

    @property
    def symbols(self) -> Sequence[str]:
        """See `coverage.Source`."""
        return () if self._intake.buffer is None else self._intake.buffer.instruments.symbols

    def trade_time_ns(self, symbol: str) -> int | None:
        """See `coverage.Source`."""
        buffer = self._intake.buffer
        if buffer is None or symbol not in buffer.instruments:
            return None
        times_ns, symbol_id = buffer.trade_times_ns, buffer.instruments.id(symbol)
        traded_ns = int(times_ns[symbol_id]) if symbol_id < len(times_ns) else -1
        return traded_ns if traded_ns >= 0 else None

    def watch(self, symbols: Sequence[str]) -> None:
        """See `coverage.Source`."""
        buffer = self._intake.buffer
        if buffer is not None:
            ids = [buffer.instruments.id(symbol) for symbol in symbols if symbol in buffer.instruments]
            self._intake.feeds.forget(ids)


class Carriage:
    """What one connection carries.

    Args:
        coverage: of the session.
        admission: knows whether subscriptions name the symbols of trades.
        connection: its number.
        channel: the trade channel that bars are made from.
        names: subscriptions name the symbols of trades, where they are known to the session at all.
    """

    def __init__(self, coverage: Coverage, admission: Admission, connection: int, channel: str, *, names: bool) -> None:
        self._coverage = coverage
        self._admission = admission
        self._connection = connection
        self._channel = channel
        self._names = names

    @property
    def _is_whole(self) -> bool:
        return not self._names or self._admission.roster is None

    def opened(self, streams: Iterable[Stream]) -> None:
        """The connection is open, and its address itself subscribes to these streams, if to any."""
        if self._is_whole:
            self._coverage.request(self._connection, _EVERYTHING)
        else:
            self.requested(streams)

    def settled(self) -> None:
        """Everything that is desired has been asked for, and answered."""
        if self._is_whole:
            self._coverage.confirm(self._connection, _EVERYTHING, steady_ns())

    def requested(self, streams: Iterable[Stream], *, by_trades: bool = True) -> None:
        """Streams are about to be asked for; `by_trades` as in `Coverage.request`."""
        if symbols := self._symbols(streams):
            self._coverage.end(self._connection, _EVERYTHING, steady_ns(), wanted=False)
            self._coverage.request(self._connection, symbols, by_trades=by_trades)

    def confirmed(self, streams: Iterable[Stream]) -> None:
        """The exchange has acknowledged streams."""
        if symbols := self._symbols(streams):
            self._coverage.confirm(self._connection, symbols, steady_ns())

    def ended(self, streams: Iterable[Stream], asked_ns: int, *, wanted: bool, answered: bool = True) -> None:
        """Streams have ended, or are refused; as `Coverage.end`, `asked_ns` of the steady clock."""
        if symbols := self._symbols(streams):
            self._coverage.end(self._connection, symbols, asked_ns, wanted=wanted, answered=answered)

    def lost(self, *, wanted: bool, kept: bool, asked_ns: int | None = None) -> None:
        """The connection is gone; as `Coverage.lose`. Idempotent."""
        self._coverage.lose(self._connection, wanted=wanted, kept=kept, asked_ns=asked_ns)

    def _symbols(self, streams: Iterable[Stream]) -> list[str]:
        if self._is_whole:
            return []
        return [symbol for symbol, channel in streams if channel == self._channel]
