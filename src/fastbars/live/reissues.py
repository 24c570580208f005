"""EarlierBars: bars that were issued from elsewhere, and that this process makes too, knowing less or more.

An earlier process has issued some: trades that it received after its last snapshot, and was killed, are lost to this
one, unless REST has them, so that this one makes the same bars again with fewer trades. Others are the exchange's own
candles, REPORTED, issued in place of bars that lack trades. What came from elsewhere stands as long as it is better,
and whatever replaces it continues its revisions:

    stands   --made, worse or the same--> stands           nothing is issued; what was made is remembered
    stands   --made, as good or better--> replaced         issued, with the next revision
    replaced --changed in any way--> replaced              issued, with the next revision
    replaced, of a candle --made, worse than REPORTED--> stands      the candle is issued once more, likewise
    stands, a candle --trades contradict it--> replaced              what was made is issued, likewise

Better is the better status, best first in `BarStatus`; of two bars of one status, the one with more trades.

Where bars are repaired by candles, those that lack trades (GAP, PARTIAL) are remembered as well, so that their
revisions are known when a candle comes, also after a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson

from fastbars.bars import STATUSES, BarStatus, CloseReason, OHLCVBar, PathNumber, begins, path_number
from fastbars.live.delivery_log import decoded, encoded
from fastbars.specs import BarSpec
from fastbars.ticks import to_nanoseconds

MOST_EARLIER = 4_000_000
MOST_LACKING = 100_000  # that wait for a candle; of more the oldest ones are given up
_CLOCKS_DIFFER_S = 300.0
_RANKS = {status: rank for rank, status in enumerate(STATUSES)}
_REPORTED = _RANKS[BarStatus.REPORTED]
Key = tuple[datetime, PathNumber]
_Series = tuple[str, str]


def lacks_trades(bar: OHLCVBar) -> bool:
    """Whether a candle is better than this bar, and the interval was wanted to its end."""
    return _RANKS[bar.status] > _REPORTED and bar.close_reason is not CloseReason.END


@dataclass(slots=True)
class _Issued:
    # What was issued last of one bar. `made`: what this process makes of it, where that is known and is not issued;
    # `candle`: what it falls back on; `unissued`: how often what was made has changed while a candle stood.
    bar: OHLCVBar
    stands: bool = True
    made: OHLCVBar | None = None
    candle: OHLCVBar | None = None
    unissued: int = 0
    waits: bool = False  # for a candle


class EarlierBars:
    """Judges the bars that this process makes by those that were issued from elsewhere.

    Args:
        identity: exchange and market of the bars; those of others are refused.
        specs: of the bars; those of others are refused.
        kept_s: how long after its close_time, by the bars behind it, a bar can still change.
        repairs: bars that lack trades are remembered, as candles are to replace them.

    Attributes:
        on_lacking: called with each bar that comes to lack trades, or whose candle its trades contradict.
    """

    def __init__(
        self, identity: tuple[str, str], specs: Iterable[BarSpec], kept_s: float, *, repairs: bool = False
    ) -> None:
        self.on_lacking: Callable[[OHLCVBar], object] | None = None
        self._identity = identity
        self._is_timed = {str(spec): spec.is_timed for spec in specs}
        self._kept_s = kept_s
        self._repairs = repairs
        self._count = 0
        self._bars: dict[_Series, dict[Key, _Issued]] = {}
        self._due: dict[_Series, float] = {}  # when some of a series can be forgotten, at the earliest
        self._lacking: dict[tuple[_Series, Key], None] = {}  # those that wait for a candle, the oldest first

    def __len__(self) -> int:
        return self._count

    @property
    def is_empty(self) -> bool:
        """Whether every bar passes as it is, and none needs to be remembered."""
        return not self._count and not self._repairs

    def add(self, bar: OHLCVBar, *, is_replaced: bool = False) -> None:
        """Add a bar that was issued; of one bar the latest issue counts. Raises ValueError: it is of no such spec."""
        self.check(bar)
        known = _Issued(bar, not is_replaced)
        before = self._of(bar)
        if before is not None:
            known.candle, known.made = before.candle, before.made
        if bar.status is BarStatus.REPORTED:
            known.candle = bar
            if before is not None and lacks_trades(before.bar):
                known.made = before.bar
        self._put(bar, known)
        if self._waits_for_candle(bar):
            self._note_lacking(bar)
        else:
            self.settle(bar)

    def check(self, bar: OHLCVBar) -> None:
        """Raise ValueError for a bar of another exchange, or of no such spec."""
        if (bar.exchange, bar.market) != self._identity:
            raise ValueError(f"it has a bar of {bar.exchange!a:.100} {bar.market!a:.100}, not {self._identity}")
        if not self.has_spec(bar):
            raise ValueError(f"it has a bar of {bar.spec!a:.100}, which is not one of the specs")

    def may_change(self, bar: OHLCVBar, now_ns: int) -> bool:
        """Whether this process may still make such a bar, by a local time; a little more than it may."""
        length_s = bar.close_time.timestamp() - bar.open_time.timestamp()
        return now_ns / 1e9 - bar.close_time.timestamp() <= self._kept_s + length_s + _CLOCKS_DIFFER_S

    def has_spec(self, bar: OHLCVBar) -> bool:
        """Whether the bar is of one of the specs."""
        return bar.spec in self._is_timed

    def judge(self, bar: OHLCVBar) -> OHLCVBar | None:
        """The bar as it is to be issued; None: what was issued from elsewhere stands."""
        issued = self._bars.get((bar.symbol, bar.spec))
        known = None if issued is None else issued.get(self._key(bar))
        if known is None:
            if issued is not None:
                self._forget(bar, issued)
            if self._waits_for_candle(bar):
                self._put(bar, _Issued(bar, stands=False))
                self._note_lacking(bar)
            return bar
        before, candle = known.bar, known.candle
        if known.stands and (_worth(bar) < _worth(before) or _is_same(bar, before)):
            if before.status is BarStatus.REPORTED:
                known.made, known.unissued = bar, known.unissued + 1
                if contradicts(before, bar):
                    self._note_lacking(bar)
            return None
        if candle is not None and lacks_trades(bar):
            known.bar = known.candle = replace(candle, revision=before.revision + 1)
            known.stands, known.made, known.unissued = True, bar, known.unissued + 1
            return known.bar
        bar = replace(bar, revision=max(bar.revision - known.unissued, before.revision + 1))
        known.bar, known.stands, known.made = bar, False, None
        if self._waits_for_candle(bar):
            self._note_lacking(bar)
        else:
            self.settle(bar)
        return bar

    # Candles.

    def report(self, bar: OHLCVBar) -> OHLCVBar | None:
        """A REPORTED bar as it is to be issued; None: what was issued is as good."""
        self.check(bar)
        self.settle(bar)
        known = self._of(bar)
        if known is None:
            self._put(bar, _Issued(bar, candle=bar))
            return bar
        before = known.bar
        if _RANKS[before.status] < _REPORTED or _is_same(bar, before):
            return None
        bar = replace(bar, revision=max(bar.revision, before.revision + 1))
        if before.status is not BarStatus.REPORTED:
            known.made = before
        known.bar, known.candle, known.stands = bar, bar, True
        return bar

    def withdraw(self, bar: OHLCVBar) -> OHLCVBar | None:
        """What was made, as it is to be issued in place of a candle that it contradicts; None: none stands."""
        self.check(bar)
        self.settle(bar)
        known = self._of(bar)
        if known is None or known.bar.status is not BarStatus.REPORTED:
            return None
        known.bar = replace(bar, revision=known.bar.revision + 1)
        known.stands, known.made, known.candle = False, None, None
        return known.bar

    def lacking(self) -> list[OHLCVBar]:
        """What was made of each bar that waits for a candle."""
        return [made for series, key in self._lacking if (made := self._made(self._bars[series][key])) is not None]

    def lacks(self, bar: OHLCVBar) -> OHLCVBar | None:
        """What is made now of a bar that waits for a candle; None: it does not wait any more."""
        known = self._of(bar)
        return None if known is None or not known.waits else self._made(known)

    def candle_of(self, bar: OHLCVBar) -> OHLCVBar | None:
        """The REPORTED bar that stands for a bar; None: none does."""
        known = self._of(bar)
        return None if known is None or known.bar.status is not BarStatus.REPORTED else known.bar

    def is_lacking(self, bar: OHLCVBar) -> bool:
        """Whether a bar that lacked trades still does, and no candle stands for it; True where it was forgotten."""
        known = self._of(bar)
        return known is None or lacks_trades(known.bar)

    def settle(self, bar: OHLCVBar) -> None:
        """The bar waits for no candle any more."""
        known = self._of(bar)
        if known is not None and known.waits:
            known.waits = False
            del self._lacking[(bar.symbol, bar.spec), self._key(bar)]

    def next_revision(self, bar: OHLCVBar) -> int:
        """The revision of the next issue of a bar."""
        known = self._of(bar)
        return bar.revision + 1 if known is None else known.bar.revision + 1

    def _waits_for_candle(self, bar: OHLCVBar) -> bool:
        return self._repairs and lacks_trades(bar) and self._is_timed[bar.spec]

    def _note_lacking(self, bar: OHLCVBar) -> None:
        known = self._of(bar)
        assert known is not None
        if not known.waits:
            known.waits = True
            self._lacking[(bar.symbol, bar.spec), self._key(bar)] = None
            if len(self._lacking) > MOST_LACKING:
                series, key = next(iter(self._lacking))
                self.settle(self._bars[series][key].bar)
        if self.on_lacking is not None:
            self.on_lacking(bar)

    def _made(self, known: _Issued) -> OHLCVBar | None:
        return known.bar if lacks_trades(known.bar) else known.made

    # All of them.

    def ends_ns(self) -> dict[str, int]:
        """Symbol -> close_time of its latest bar, ns."""
        ends: dict[str, int] = {}
        for (symbol, _), issued in self._bars.items():
            latest = max(to_nanoseconds(one.bar.close_time) for one in issued.values())
            ends[symbol] = max(latest, ends.get(symbol, latest))
        return ends

    def dump(self) -> Callable[[], bytes]:
        """All of them, for `load`: copied now, put into words when it is called, in any thread."""
        known = [
            (one.stands, one.waits, one.unissued, one.bar, one.made, one.candle)
            for issued in self._bars.values()
            for one in issued.values()
        ]
        return lambda: b"[%s]" % b",\n".join(map(_listed, known))

    def load(self, part: object) -> None:
        """Restore what `dump` returned. Raises ValueError: it is something else; nothing has changed."""
        listed: Any = orjson.loads(part) if isinstance(part, bytes) else None
        if not isinstance(listed, list) or len(listed) > MOST_EARLIER:
            raise ValueError("it does not list the bars of earlier processes")
        restored = EarlierBars(self._identity, (), 0, repairs=self._repairs)
        restored._is_timed = self._is_timed
        for one in listed:
            known = _known_of(one)
            for bar in (known.bar, known.made, known.candle):
                if bar is not None:
                    restored.check(bar)
                    if restored._place(bar) != restored._place(known.bar):
                        raise ValueError("it lists two bars as one")
            waits, known.waits = known.waits, False
            restored._put(known.bar, known)
            if waits and (made := self._made(known)) is not None and self._repairs:
                restored._note_lacking(made)
        self._bars, self._count, self._due = restored._bars, restored._count, restored._due
        self._lacking = restored._lacking

    def _of(self, bar: OHLCVBar) -> _Issued | None:
        issued = self._bars.get((bar.symbol, bar.spec))
        return None if issued is None else issued.get(self._key(bar))

    def _put(self, bar: OHLCVBar, known: _Issued) -> None:
        issued = self._bars.setdefault((bar.symbol, bar.spec), {})
        key = self._key(bar)
        before = issued.get(key)
        known.waits = before is not None and before.waits
        self._count += before is None
        issued[key] = known
        due = self._due.get((bar.symbol, bar.spec))
        self._due[bar.symbol, bar.spec] = min(self._forgotten_s(bar), _forever if due is None else due)

    def _place(self, bar: OHLCVBar) -> tuple[str, str, Key]:
        return bar.symbol, bar.spec, self._key(bar)

    def _key(self, bar: OHLCVBar) -> Key:
        # Several path-driven bars can begin with trades of one time.
        return begins(bar), None if self._is_timed[bar.spec] else path_number(bar)

    def _forgotten_s(self, bar: OHLCVBar) -> float:
        # When a bar is so far behind that it cannot change any more.
        closed_s = bar.close_time.timestamp()
        return closed_s + (closed_s - bar.open_time.timestamp()) + self._kept_s

    def _forget(self, bar: OHLCVBar, issued: dict[Key, _Issued]) -> None:
        series, now_s = (bar.symbol, bar.spec), bar.open_time.timestamp()
        if now_s <= self._due[series]:
            return
        gone: list[Key] = []
        due = bar.close_time.timestamp()  # where one that waits stands in front of all others
        for key, one in issued.items():  # nearly in order of time
            if one.waits:
                break
            if self._forgotten_s(one.bar) >= now_s:
                due = self._forgotten_s(one.bar)
                break
            gone.append(key)
        for key in gone:
            del issued[key]
        self._count -= len(gone)
        self._due[series] = due
        if not issued:
            del self._bars[series], self._due[series]


_forever = float("inf")


def contradicts(candle: OHLCVBar, made: OHLCVBar) -> str:
    """Why a candle cannot be of all trades of a bar that lacks some, by what is known of these; "" if it can."""
    if made.high is None or made.low is None or candle.high is None or candle.low is None:
        return ""
    if candle.trade_count is not None and made.trade_count is not None and candle.trade_count < made.trade_count:
        return f"the candle counts {candle.trade_count} trades, and {made.trade_count} were received"
    if candle.volume < made.volume:
        return f"the candle has a volume of {candle.volume:f}, and {made.volume:f} was received"
    if candle.high < made.high or candle.low > made.low:
        seen = f"{made.low:f} to {made.high:f}"
        return f"the candle's prices are {candle.low:f} to {candle.high:f}, and those received {seen}"
    return ""


def _worth(bar: OHLCVBar) -> tuple[int, int]:
    return -_RANKS[bar.status], bar.trade_count or 0


def _is_same(bar: OHLCVBar, before: OHLCVBar) -> bool:
    return replace(bar, revision=before.revision, close_reason=before.close_reason) == before


def _listed(known: tuple[Any, ...]) -> bytes:
    stands, waits, unissued, *bars = known
    texts = [b"null" if bar is None else encoded(bar) for bar in bars]
    return b"[%d,%d,%d,%b,%b,%b]" % (stands, waits, unissued, *texts)


def _known_of(one: object) -> _Issued:
    if not isinstance(one, list) or len(one) != 6 or one[0] not in (0, 1) or one[1] not in (0, 1):
        raise ValueError("it lists something other than a bar of an earlier process")
    stands, waits, unissued, *bars = one
    if type(unissued) is not int or not 0 <= unissued < 1 << 31:
        raise ValueError(f"it has a bar that was not issued {unissued!a:.100} times")
    made, candle = (None if bar is None else decoded(bar) for bar in bars[1:])
    if candle is not None and candle.status is not BarStatus.REPORTED:
        raise ValueError(f"it has a candle that is {candle.status}")
    return _Issued(decoded(bars[0]), bool(stands), made, candle, unissued, bool(waits))
