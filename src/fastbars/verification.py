"""Compares bars with the exchange's own candles, field by field: the first difference, and its likely cause.

A `Verifier` takes bars and candles in any order and pairs them. A `CandleWatch` feeds one from a stream, `verify` from
tapes and recordings, with the candles in them or in CSV files of Binance's public archive.

Units: patience in seconds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from functools import cache
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

from fastbars.bars import BAR_FIELDS, BarStatus, ExchangeBar, OHLCVBar
from fastbars.callbacks import call, check_callbacks
from fastbars.differences import Difference, Series, series_of
from fastbars.exchanges.declaration import Exchange
from fastbars.kernel.fields import IDENTITY
from fastbars.klines import read_klines
from fastbars.live.callbacks import Callbacks
from fastbars.log import SparseLog
from fastbars.specs import BarKind, BarSpec
from fastbars.tapes.replay import Bars, Replay, replay

_PAIRED_BY = (*IDENTITY, "symbol", "spec", "open_time", "close_time")
# The fields of a bar that an exchange's candle can have, in the order in which they are compared.
COMPARED = tuple(own.name for own in fields(ExchangeBar) if own.name in BAR_FIELDS and own.name not in _PAIRED_BY)

CandleOpen = Literal["first trade", "previous close"]
Outcome = Literal["equal", "different", "partial", "without_candle", "without_bar", "empty", "reported"]
_Key = tuple[Series, datetime]
_UNSETTLED = (BarStatus.PROVISIONAL, BarStatus.GAP)
# How many pairs wait for their verdict, and are kept after it: those that may yet become equal, and the others.
_MOST_WAITING, _MOST_UNPROVEN, _MOST_SETTLED = 200_000, 50_000, 5_000


@cache
def _is_cut_by_time(spec: str) -> bool:
    return BarSpec.parse(spec).kind is BarKind.TIME


@dataclass(slots=True)
class Verification:
    """Counts of a comparison so far; of each bar the latest revision counts.

    Attributes:
        equal: bars that equal the exchange's candle in every field that the candle has.
        different: bars that do not.
        partial: PARTIAL bars, which are not compared: the stream saw only part of their interval.
        without_candle: bars for which no candle came.
        without_bar: candles with trades for which no bar came, although the symbol had earlier bars.
        empty: candles without trades and without a bar, as it should be.
        reported: REPORTED bars, which are not compared: they are the exchange's candles themselves.
        mended: bars that differed until a later revision equalled the candle.
        running: messages of candles that the exchange was still updating, which are not compared.
        first: the first difference found, even if a later revision repaired the bar.
    """

    equal: int = 0
    different: int = 0
    partial: int = 0
    without_candle: int = 0
    without_bar: int = 0
    empty: int = 0
    mended: int = 0
    running: int = 0
    reported: int = 0
    first: Difference | None = None

    @property
    def compared(self) -> int:
        """Bars compared."""
        return self.equal + self.different

    @property
    def repaired(self) -> int:
        """The same as `mended`."""
        return self.mended


@dataclass(slots=True)
class _Pair:
    # A pair is WAITING from its first half on, DUE when patience is over, and from then on UNPROVEN or SETTLED; of each
    # of these as many are kept as there is room for. Whatever its state, another bar or candle judges it again.
    bar: OHLCVBar | None = None
    candle: ExchangeBar | None = None
    previous: ExchangeBar | None = None  # the candle before it, whose close may be this one's open
    outcome: Outcome | None = None  # as it is counted now
    is_due: bool = False  # its patience is over: it is judged as it is, and again whenever a half of it comes
    mended: bool = False
    reported: set[tuple[object, ...]] = field(default_factory=set)  # differences, so that none is reported twice

    @property
    def is_settled(self) -> bool:
        return self.outcome == "equal" and self.bar is not None and self.bar.is_complete


class Verifier:
    """Compares time bars with the exchange's candles of the same exchange, market, symbol, spec and interval.

    A candle is final when the exchange says so or, where it never does, when the next one comes; one that comes again
    replaces the earlier one unless it is older. A bar whose status says that it may still change, GAP or PROVISIONAL,
    has `patience_s` to be issued again before a difference is reported. A bar or candle that has waited that long for
    the other counts as without it. Time is that of bars and candles. No verdict is final: a later revision, or the
    missing half, is judged and counted anew. For this the latest 50,000 pairs that are not proven equal are kept, and
    5,000 of the others.

    Args:
        candle_open: what the open of the exchange's candles is (`Exchange.candle_open`). "previous close" is
            expected in open, and folded into high and low, and so counts as equal.
        on_difference: called with each Difference; once for each revision that still differs.
        missing: symbol -> (first, last) of each hole in its trade ids, ascending; to name the cause.
        patience_s: see above.
    """

    def __init__(
        self,
        *,
        candle_open: CandleOpen = "first trade",
        on_difference: Callable[[Difference], object] | None = None,
        missing: Callable[[str], Sequence[tuple[int, int]]] | None = None,
        patience_s: float = 60.0,
    ) -> None:
        self.verification = Verification()
        self.candle_open = candle_open
        self._on_difference = on_difference
        self.missing = missing
        self._patience = timedelta(seconds=patience_s)
        self._waiting: dict[_Key, _Pair] = {}  # for their verdict
        self._deadlines: list[tuple[datetime, _Key]] = []  # heap of (close time, key) of those waiting
        self._unproven: OrderedDict[_Key, _Pair] = OrderedDict()  # judged, and may yet become equal
        self._settled: OrderedDict[_Key, _Pair] = OrderedDict()  # equal, and the bar is proven complete
        self._forgotten: dict[Series, datetime] = {}  # open time of the latest pair that is no longer kept
        self._running: dict[Series, ExchangeBar] = {}  # the latest candle, where candles are not marked as final
        self._latest: dict[Series, ExchangeBar] = {}  # final candle
        self._first_bar: dict[Series, datetime] = {}  # its open time
        self._now: datetime | None = None  # the latest open time of all

    def add_bar(self, bar: OHLCVBar) -> None:
        """Add a bar or its next revision; bars that are not cut by time are ignored."""
        if not _is_cut_by_time(bar.spec):
            return
        series = series_of(bar)
        pair = self._pair_of((series, bar.open_time), bar.close_time)
        if pair is None:
            return
        pair.bar = bar
        first = self._first_bar.setdefault(series, bar.open_time)
        if bar.open_time < first:
            self._first_bar[series] = bar.open_time
        self._judge(pair)
        self._advance(bar.open_time)

    def add_candle(self, candle: ExchangeBar) -> None:
        """Add a candle of the exchange, or an update of one."""
        series = series_of(candle)
        if candle.is_closed is False:
            self.verification.running += 1
        elif candle.is_closed:
            self._take_candle(candle)
        else:
            # The exchange does not mark final candles: the latest is held until the next interval's first one comes.
            held = self._running.get(series)
            if held is not None and held.open_time == candle.open_time:
                self.verification.running += 1
                if _is_newer(candle, held):
                    self._running[series] = candle
            elif held is None or held.open_time < candle.open_time:
                self._running[series] = candle
                if held is not None:
                    self._take_candle(held)
            else:
                self._take_candle(candle)
        self._advance(candle.open_time)

    def finish(self) -> Verification:
        """Judge what is still waiting; nothing more comes."""
        for key, pair in list(self._waiting.items()):
            self._decide(key, pair)
        self._waiting.clear()
        self._deadlines.clear()
        self._running.clear()
        return self.verification

    def _pair_of(self, key: _Key, close_time: datetime) -> _Pair | None:
        # None: it was judged so long ago that it is no longer kept.
        pair = self._waiting.get(key) or self._unproven.get(key) or self._settled.get(key)
        if pair is None:
            forgotten = self._forgotten.get(key[0])
            if forgotten is not None and key[1] <= forgotten:
                return None
            pair = self._waiting[key] = _Pair()
            heappush(self._deadlines, (close_time, key))
        return pair

    def _take_candle(self, candle: ExchangeBar) -> None:
        series = series_of(candle)
        pair = self._pair_of((series, candle.open_time), candle.close_time)
        if pair is None or (pair.candle is not None and not _is_newer(candle, pair.candle)):
            return
        latest = self._latest.get(series)
        if latest is not None and latest.close_time == candle.open_time:
            pair.previous = latest
        if latest is None or latest.open_time <= candle.open_time:
            self._latest[series] = candle
        pair.candle = candle
        self._judge(pair)

    def _advance(self, time: datetime) -> None:
        # What has waited long enough is judged.
        if self._now is None or time > self._now:
            self._now = time
        while self._deadlines and (
            self._deadlines[0][0] + self._patience <= self._now or len(self._deadlines) > _MOST_WAITING
        ):
            _, key = heappop(self._deadlines)
            self._decide(key, self._waiting.pop(key))

    def _decide(self, key: _Key, pair: _Pair) -> None:
        pair.is_due = True
        if not pair.is_settled:
            self._judge(pair)
        kept, most = (self._settled, _MOST_SETTLED) if pair.is_settled else (self._unproven, _MOST_UNPROVEN)
        kept[key] = pair
        if len(kept) > most:
            (series, time), _ = kept.popitem(last=False)
            self._forgotten[series] = max(time, self._forgotten.get(series, time))

    def _judge(self, pair: _Pair) -> None:
        bar, candle = pair.bar, pair.candle
        if bar is None:
            if pair.is_due and candle is not None:
                self._judge_alone(pair, candle)
        elif bar.status is BarStatus.PARTIAL:
            self._count_as(pair, "partial")
        elif bar.status is BarStatus.REPORTED:
            self._count_as(pair, "reported")
        elif candle is None:
            if pair.is_due:
                self._count_as(pair, "without_candle")
        elif (name := self._differs_in(bar, candle, pair.previous)) is None:
            self._count_as(pair, "equal")
        elif pair.is_due or bar.status not in _UNSETTLED or pair.outcome == "different":
            self._count_as(pair, "different")
            what = (bar.revision, name, getattr(bar, name), getattr(candle, name))
            if what not in pair.reported:
                pair.reported.add(what)
                self._report(bar, candle, name)

    def _judge_alone(self, pair: _Pair, candle: ExchangeBar) -> None:
        # A candle from before the stream's first bar is nobody's loss.
        first = self._first_bar.get(series_of(candle))
        if first is not None and first < candle.open_time:
            traded = candle.trade_count != 0 and candle.volume != 0
            self._count_as(pair, "without_bar" if traded else "empty")

    def _count_as(self, pair: _Pair, outcome: Outcome) -> None:
        # A pair counts once: out of the counter that it was in, and into that of its outcome.
        if pair.outcome == outcome:
            return
        counts = self.verification
        if pair.outcome is not None:
            setattr(counts, pair.outcome, getattr(counts, pair.outcome) - 1)
        setattr(counts, outcome, getattr(counts, outcome) + 1)
        # A pair that is no longer equal no longer counts as mended, until it is equal again.
        mended = outcome == "equal" and (pair.mended or pair.outcome == "different")
        counts.mended += mended - (pair.mended and pair.outcome == "equal")
        pair.mended |= mended
        pair.outcome = outcome

    def _report(self, bar: OHLCVBar, candle: ExchangeBar, name: str) -> None:
        cause = self._cause(bar, candle, name)
        difference = Difference(bar, candle, name, getattr(bar, name), getattr(candle, name), cause)
        if self.verification.first is None:
            self.verification.first = difference
        if self._on_difference is not None:
            call(self._on_difference, difference)

    def _differs_in(self, bar: OHLCVBar, candle: ExchangeBar, previous: ExchangeBar | None) -> str | None:
        # The first field in which they differ; None where they are equal.
        expected: dict[str, Any] = {}
        if self.candle_open == "previous close" and bar.open is not None:
            opened = candle.open if previous is None else previous.close
            assert bar.high is not None
            assert bar.low is not None
            expected = {"open": opened, "high": max(bar.high, opened), "low": min(bar.low, opened)}
        for name in COMPARED:
            theirs = getattr(candle, name)
            if theirs is not None and (expected[name] if name in expected else getattr(bar, name)) != theirs:
                return name
        return None

    def _cause(self, bar: OHLCVBar, candle: ExchangeBar, name: str) -> str:
        counts = bar.trade_count, candle.trade_count
        less = None if counts[0] is None or counts[1] is None else counts[1] - counts[0]
        if bar.status is BarStatus.GAP:
            return f"the bar is GAP: {self._missing_in(bar, candle, less)}"
        if bar.status is BarStatus.PUBLISHED and less:
            return "the bar is PUBLISHED: the exchange's history leaves ids of it out"
        if bar.status is BarStatus.PROVISIONAL:
            return "the bar is PROVISIONAL: it closed before its last trades came"
        if candle.is_closed is None and candle.volume < bar.volume:
            return "the candle may not be final: this exchange does not say when one is"
        ours, theirs = (bar.first_trade_id, bar.last_trade_id), (candle.first_trade_id, candle.last_trade_id)
        if None not in ours and None not in theirs and ours != theirs:
            return f"the bar has the trades {ours[0]} to {ours[1]}, the candle {theirs[0]} to {theirs[1]}"
        if less:
            if less < 0:
                return f"the candle leaves out {_trades(-less)} of the bar"
            unproven = "" if bar.is_complete else f", which its ids cannot show: it is {bar.status}"
            return f"the bar lacks {_trades(less)}{unproven}"
        if name in ("open", "high", "low") and bar.volume == candle.volume:
            return "both count the same trades: the exchange may open a candle at the close before (venue semantics)"
        if not bar.is_complete and candle.volume > bar.volume:
            return f"trades are missing, which its ids cannot show: the bar is {bar.status}"
        return "unknown"

    def _missing_in(self, bar: OHLCVBar, candle: ExchangeBar, less: int | None) -> str:
        holes = [] if self.missing is None else self.missing(bar.symbol)
        first, last = candle.first_trade_id or bar.first_trade_id, candle.last_trade_id or bar.last_trade_id
        if first is not None and last is not None:
            begin = bisect_left(holes, first, key=lambda hole: hole[1])
            end = bisect_left(holes, last + 1, key=lambda hole: hole[0])
            holes = [(max(a, first), min(b, last)) for a, b in holes[begin:end]]
        ids = ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in holes[:3]) + (", ..." if len(holes) > 3 else "")
        count = f"{_trades(less)} missing" if less else "trades are missing"
        return f"{count}, of ids {ids}" if ids else count


def _is_newer(candle: ExchangeBar, held: ExchangeBar) -> bool:
    # Or equally new. Another line, or a snapshot after a reconnect, may repeat an older state of a candle.
    if candle.event_time_ns is not None and held.event_time_ns is not None:
        return candle.event_time_ns >= held.event_time_ns
    return bool(candle.is_closed) or candle.volume >= held.volume


def _trades(count: int) -> str:
    return f"{count} trade{'s' if count > 1 else ''}"


class CandleWatch:
    """Compares a stream's bars with the exchange's candles while it runs.

    Args:
        exchange: whose candles these are.
        specs: of the stream's bars; those that the exchange has candles for are compared.
        share: fraction of the symbols, chosen by name, so that a restart chooses the same ones.
        on_difference: called with each Difference; the 1st, 2nd, 4th, 8th, ... is logged as well.

    Attributes:
        channels: of the candles.
        symbols: whose candles are subscribed to; those of others are ignored.
        verifier: makes the comparison.
        notify: calls `on_difference` with a difference; a stream replaces it, to count exceptions.

    Raises:
        ValueError: the share is not above 0 and at most 1, or the exchange has no candles for any of these specs.
    """

    def __init__(
        self,
        exchange: Exchange,
        specs: Iterable[BarSpec],
        share: float,
        on_difference: Callable[[Difference], object] | None = None,
    ) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"verify must be True, or a share above 0 and at most 1, got {share}")
        check_callbacks(on_difference=on_difference)
        names = [str(spec) for spec in specs]
        self.channels = list(dict.fromkeys(exchange.candles[name] for name in names if name in exchange.candles))
        if not self.channels:
            known = ", ".join(exchange.candles) or "none"
            raise ValueError(
                f"{exchange.name}: no candles of {', '.join(names)} to verify bars with; there are {known}"
            )
        self.symbols: set[str] = set()
        self.verifier = Verifier(candle_open=exchange.candle_open, on_difference=self._report)
        self._exchange = exchange
        self._share = share
        self._on_difference = on_difference
        self._warnings = SparseLog(exchange=exchange.name)
        self.notify: Callable[[Callable[[Difference], object] | None, Difference], object] = _notify

    def watches(self, symbol: str) -> bool:
        """Whether a symbol's bars are compared."""
        return crc32(symbol.encode()) < self._share * 2**32

    def add_candle(self, candle: ExchangeBar) -> None:
        """Add a candle of the exchange; one of another symbol is ignored."""
        if candle.symbol in self.symbols:
            self.verifier.add_candle(candle)

    def add_bars(self, bars: Iterable[OHLCVBar]) -> None:
        """Add bars as they are issued."""
        for bar in bars:
            if bar.spec in self._exchange.candles and self.watches(bar.symbol):
                self.verifier.add_bar(bar)

    def _report(self, difference: Difference) -> None:
        self._warnings.warn("bar_differs", difference=str(difference))
        self.notify(self._on_difference, difference)


def _notify(callback: Callable[[Difference], object] | None, difference: Difference) -> None:
    if callback is not None:
        call(callback, difference)


# Tapes and files.


def verify(
    tapes: str | Path | Sequence[str | Path],
    exchange: str | Exchange | None = None,
    bars: Bars | None = None,
    *,
    klines: str | Path | Iterable[str | Path] = (),
    market: str | None = "spot",
    channel: str | None = None,
    on_difference: Callable[[Difference], object] | None = None,
    patience_s: float = 60.0,
) -> Verification:
    """Compare the bars of tapes or recordings with the exchange's candles in them, or in CSV files.

    Args:
        tapes, exchange, bars, market, channel: as in `replay`; `bars` defaults to the specs of the klines.
        klines: files as in Binance's public archive (see `fastbars.klines.read_klines`); candles in the tapes are
            compared as well.
        on_difference, patience_s: as in `Verifier`.

    Raises:
        UnknownExchangeError, SpecError, TapeError: as in `replay` and `read_klines`.
    """
    check_callbacks(on_difference=on_difference)
    if isinstance(exchange, Exchange):
        market = None
    archive = _Archive([Path(path) for path in ([klines] if isinstance(klines, str | Path) else klines)])
    candles: list[ExchangeBar] = []
    callbacks = Callbacks(on_exchange_bar=candles.append)
    specs = bars or archive.specs or None
    replayed = replay(tapes, exchange, specs, market=market, channel=channel, callbacks=callbacks)
    verifier = Verifier(on_difference=on_difference, patience_s=patience_s)

    verifier.missing = _Missing(replayed)
    for bar in replayed:
        venue = next(one.exchange for one in replayed.sessions if one.exchange.identity == (bar.exchange, bar.market))
        verifier.candle_open = venue.candle_open
        for candle in [*candles, *archive.up_to(bar, inverse=venue.contract_size(bar.symbol) is not None)]:
            verifier.add_candle(candle)
        candles.clear()
        verifier.add_bar(bar)
    for candle in candles:
        verifier.add_candle(candle)
    return verifier.finish()


class _Missing:
    """The holes of a symbol, read again only after new messages."""

    def __init__(self, replayed: Replay) -> None:
        self._replayed = replayed
        self._messages = -1
        self._holes: dict[str, list[tuple[int, int]]] = {}

    def __call__(self, symbol: str) -> list[tuple[int, int]]:
        sessions = self._replayed.sessions
        messages = sum(session.stats.messages for session in sessions)
        if messages != self._messages:
            self._messages = messages
            self._holes.clear()
        if symbol not in self._holes:
            self._holes[symbol] = sorted(hole for session in sessions for hole in session.missing(symbol))
        return self._holes[symbol]


class _Archive:
    """Candles from files, handed out as the bars of their time come."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.specs: list[str] = []
        candles: dict[tuple[str, str], dict[datetime, ExchangeBar]] = {}  # by symbol and spec: files name no market
        for path in files:
            for candle in read_klines(path):
                candles.setdefault((candle.symbol, candle.spec), {})[candle.open_time] = candle
        self.specs = list(dict.fromkeys(spec for _, spec in candles))
        self._times = {series: sorted(one) for series, one in candles.items()}
        self._candles = candles
        self._given: dict[Series, int] = {}  # how many of `_times` were handed out

    def up_to(self, bar: OHLCVBar, *, inverse: bool) -> list[ExchangeBar]:
        """The candle of this bar and those before it, back to the first bar of its symbol and spec."""
        named = (bar.symbol, bar.spec)
        times = self._times.get(named)
        if times is None:
            return []
        first = bisect_left(times, bar.open_time)
        end = first + (first < len(times) and times[first] == bar.open_time)
        series = series_of(bar)
        begin = self._given.setdefault(series, first)
        self._given[series] = max(begin, end)
        candles = self._candles[named]
        # For a bar that comes after later ones, or again, its candle is handed out again.
        due = times[min(begin, first) : end]
        found = [replace(candles[time], exchange=bar.exchange, market=bar.market) for time in due]
        if inverse:  # their quote columns are base volumes, a rounded division
            found = [replace(candle, quote_volume=None, taker_buy_quote_volume=None) for candle in found]
        return found
