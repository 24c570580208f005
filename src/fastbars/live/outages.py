"""Outages: since when trades may have been missed, of a whole session and of single symbols.

    up --begin--> down --end--> up        of everything: a connection was lost, until all is subscribed again
    trusted --suspect--> suspected --trust--> trusted    of one symbol: its subscription has fallen silent

An outage is judged when it is over, not when it begins: only then is it known how far it reached. Where ids prove what
is missing, they say it better and nothing is judged here. Either way the clock closes empty intervals as GAP while the
feed is down. Units: times int64 nanoseconds of the exchange's clock; `steady_ns` of a steady one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fastbars.bars import OHLCVBar
from fastbars.clocks import wall_ns
from fastbars.live.intake import Intake
from fastbars.live.journal import Journal

HISTORY_S = 1.0  # by then the few past trades that some exchanges send by themselves have come; they are not all


class Outages:
    """The outages of one session, and what its bars lose by them.

    Args:
        intake: the buffer, the exchange's clock and the grace.
        journal: where each change is written before it takes effect.
        deliver: called with bars that are issued, and the local time.

    Attributes:
        suspect_since: symbol -> time since when its trades may be missing although it was subscribed, ns.
    """

    def __init__(self, intake: Intake, journal: Journal, deliver: Callable[[list[OHLCVBar], int], object]) -> None:
        self.suspect_since: dict[str, int] = {}
        self._down_since_ns: int | None = None
        self._last: tuple[int, int] | None = None  # since and until of the latest outage
        self._intake = intake
        self._journal = journal
        self._deliver = deliver

    @property
    def is_down(self) -> bool:
        """Whether an outage has begun and not ended."""
        return self._down_since_ns is not None

    def begin(self, steady_ns: int) -> None:
        """Nothing can be received from here on; the latest messages may be lost as well. Idempotent."""
        buffer, now_ns = self._intake.buffer, self._intake.clock.now_ns(steady_ns)
        # Before the first message with a time nothing has come, and there is no bar that could lack anything.
        if self._down_since_ns is not None or now_ns is None:
            return
        symbols, times_ns = ((), []) if buffer is None else (buffer.instruments.symbols, buffer.trade_times_ns.tolist())
        # Event times may be off; what is lost is not older than the latest trade that came.
        since_ns = min(now_ns, self._intake.event_time_ns or now_ns, max(times_ns, default=now_ns))
        self._down_since_ns = since_ns - self._intake.delays.grace_ns
        # A symbol without a trade since the last outage may not have been received since then either.
        if self._last is not None:
            last_since_ns, last_until_ns = self._last
            for symbol, time_ns in zip(symbols, times_ns, strict=False):
                if time_ns <= last_until_ns:
                    self.suspect(symbol, last_since_ns)
        self.feed_down(self._down_since_ns, wall_ns())

    def end(self, steady_ns: int, receive_time_ns: int) -> tuple[int | None, int | None]:
        """Everything desired is received again.

        Returns:
            (since, until) of the outage; None for what is not known. The caller judges it once more after `HISTORY_S`:
            trades that the exchange replays may open bars that lie in the outage.
        """
        since_ns, self._down_since_ns = self._down_since_ns, None
        until_ns = self._intake.clock.now_ns(steady_ns)
        if since_ns is not None and until_ns is not None:
            self._last = since_ns, until_ns
            until_ns = self._plus_grace(until_ns)
            self.judge_all(since_ns, until_ns, receive_time_ns)
        if until_ns is not None:
            self.feed_up(until_ns, receive_time_ns)
        return since_ns, until_ns

    def suspect(self, symbol: str, since_ns: int) -> None:
        """Trades of a symbol may be missing since then, though it is subscribed; the earliest call counts."""
        self.suspect_since.setdefault(symbol, since_ns)

    def suspect_all(self, symbols: Iterable[str], steady_ns: int) -> None:
        """The connection that carries these is lost, and others are up."""
        now_ns = self._intake.clock.now_ns(steady_ns)
        if now_ns is not None:
            since_ns = min(now_ns, self._intake.event_time_ns or now_ns) - self._intake.delays.grace_ns
            for symbol in symbols:
                self.suspect(symbol, since_ns)

    def trust(self, symbols: Iterable[str] | None = None) -> None:
        """Lift the suspicion of these symbols (None: all): they are received again, and the outage was judged."""
        for symbol in list(self.suspect_since) if symbols is None else symbols:
            self.suspect_since.pop(symbol, None)

    def until_ns(self, steady_ns: int) -> int | None:
        """The time by which an outage that ends at `steady_ns` is certainly over; None before the first event time."""
        now_ns = self._intake.clock.now_ns(steady_ns)
        return None if now_ns is None else self._plus_grace(now_ns)

    def judge_all(self, since_ns: int, until_ns: int, receive_time_ns: int) -> None:
        """Judge an outage of everything; for suspected symbols it began when they were first suspected."""
        self.judge(since_ns, until_ns, receive_time_ns)
        self.judge_suspects(list(self.suspect_since), until_ns, receive_time_ns)

    def judge_suspects(self, symbols: Sequence[str], until_ns: int, receive_time_ns: int) -> None:
        """Judge the outages, up to `until_ns`, of those of these symbols that are suspected."""
        since = {symbol: self.suspect_since[symbol] for symbol in symbols if symbol in self.suspect_since}
        for since_ns in sorted(set(since.values())):  # those of one time together: one pass, one entry of the journal
            self.judge(since_ns, until_ns, receive_time_ns, [symbol for symbol in since if since[symbol] == since_ns])

    def judge(
        self, since_ns: int, until_ns: int, receive_time_ns: int, symbols: Sequence[str] | None = None
    ) -> list[OHLCVBar]:
        """Judge one outage: bars between two times, when nothing was received, become GAP unless ids prove them.

        Args:
            symbols: those affected; None: all that have traded.
        """
        buffer = self._intake.buffer
        if buffer is None or buffer.policy.numbered:
            return []
        self._journal.write("outage", receive_time_ns, {"since_ns": since_ns, "until_ns": until_ns, "symbols": symbols})
        bars = buffer.note_outage(since_ns, until_ns, symbols)
        self._deliver(bars, receive_time_ns)
        return bars

    def feed_down(self, since_ns: int, receive_time_ns: int) -> list[OHLCVBar]:
        """Nothing has been received since then: intervals without trades are GAP from here on."""
        if self._intake.buffer is not None:
            self._journal.write("feed_down", receive_time_ns, {"time_ns": since_ns})
            bars = self._intake.buffer.feed_down(since_ns)
            self._deliver(bars, receive_time_ns)
            return bars
        return []

    def feed_up(self, until_ns: int, receive_time_ns: int) -> list[OHLCVBar]:
        """Everything is received again since then: intervals without trades are empty, not GAP."""
        if self._intake.buffer is not None:
            self._journal.write("feed_up", receive_time_ns, {"time_ns": until_ns})
            bars = self._intake.buffer.feed_up(until_ns)
            self._deliver(bars, receive_time_ns)
            return bars
        return []

    def _plus_grace(self, time_ns: int) -> int:
        return time_ns + self._intake.delays.grace_ns  # the exchange's clock is an estimate
