"""Bars beside the exchange's own candles, field by field: where they differ first, and why that may be.

A `Verifier` is given bars and candles in any order, and pairs them. A `CandleWatch` does it for a stream, `verify` for
tapes and recordings, with the candles in them or in CSV files of Binance's public archive.

Source: https://github.com/binance/binance-public-data for the columns of the files.
Units: times int64 nanoseconds since the Unix epoch, UTC; patience in seconds.
"""

from __future__ import annotations

import csv
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

from fastbars.bars import BarStatus, ExchangeBar, OHLCVBar
from fastbars.callbacks import call
from fastbars.errors import TapeError
from fastbars.live.exchange import Exchange
from fastbars.live.session import Callbacks
from fastbars.log import log
from fastbars.specs import BarKind, BarSpec
from fastbars.tapes.replay import Bars, replay
from fastbars.ticks import to_datetime

COMPARED = (
    "open", "high", "low", "close", "volume", "quote_volume", "trade_count",
    "taker_buy_volume", "taker_buy_quote_volume", "first_trade_id", "last_trade_id",
)  # fmt: skip

CandleOpen = Literal["first trade", "previous close"]
Outcome = Literal["equal", "different", "partial"]
_Key = tuple[str, str, datetime]
_UNSETTLED = (BarStatus.PROVISIONAL, BarStatus.GAP)


@cache
def _is_cut_by_time(spec: str) -> bool:
    return BarSpec.parse(spec).kind is BarKind.TIME


@dataclass(frozen=True, slots=True)
class Difference:
    """The first field in which a bar is not what the exchange's candle says.

    Attributes:
        bar, candle: the two.
        field: its name.
        bar_value, candle_value: what it is in each.
        cause: what is likely to be the reason.
    """

    bar: OHLCVBar
    candle: ExchangeBar
    field: str
    bar_value: Decimal | int | None
    candle_value: Decimal | int | None
    cause: str

    def __str__(self) -> str:
        bar = self.bar
        values = [format(v, "f") if isinstance(v, Decimal) else v for v in (self.bar_value, self.candle_value)]
        name = f"{bar.symbol} {bar.spec} {bar.open_time:%Y-%m-%dT%H:%M:%SZ} revision {bar.revision}"
        return f"{name}: {self.field} is {values[0]}, the exchange has {values[1]}; {self.cause}"


@dataclass(slots=True)
class Verification:
    """What the comparison came to so far; a bar counts by its latest revision.

    Attributes:
        equal: bars that equal the exchange's candle in every field that the candle has.
        different: bars that do not.
        partial: PARTIAL bars, which are not compared: the stream saw only part of their interval.
        without_candle: bars of which no candle came.
        without_bar: candles with trades of which no bar came, though bars of their symbol had begun to.
        empty: candles without a trade, and no bar: as it should be.
        mended: bars that differed, until a later revision equalled the candle.
        running: messages of candles that the exchange was still updating, which are not compared.
        first: the first difference that was found; a bar that was mended later can be it.
    """

    equal: int = 0
    different: int = 0
    partial: int = 0
    without_candle: int = 0
    without_bar: int = 0
    empty: int = 0
    mended: int = 0
    running: int = 0
    first: Difference | None = None

    @property
    def compared(self) -> int:
        """Bars compared."""
        return self.equal + self.different


@dataclass(slots=True)
class _Pair:
    bar: OHLCVBar | None = None
    candle: ExchangeBar | None = None
    previous: ExchangeBar | None = None
    outcome: Outcome | None = None
    seen: set[tuple[object, ...]] = field(default_factory=set)


class Verifier:
    """Compares time bars with the exchange's candles of the same symbol, spec and interval.

    A candle is final when the exchange says so or, where it never does, when the next one comes. A bar whose status
    says that it may still change, GAP or PROVISIONAL, is given `patience_s` to be issued again before a difference
    is reported. What has been waiting for its other half so long is given up. Time is that of bars and candles.

    Args:
        candle_open: what the open of the exchange's candles is (`Exchange.candle_open`). "previous close" is
            expected in open, and folded into high and low, and so counts as equal.
        on_difference: called with each Difference; once for each revision that still differs.
        missing: trade ids known to be missing, (first, last) of each hole of a symbol; to name the cause.
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
        self._pairs: OrderedDict[_Key, _Pair] = OrderedDict()  # whose first is found at once, however many have gone
        self._running: dict[tuple[str, str], ExchangeBar] = {}  # the latest of those that never say they are final
        self._latest: dict[tuple[str, str], ExchangeBar] = {}
        self._begun: dict[tuple[str, str], datetime] = {}
        self._now: datetime | None = None

    def add_bar(self, bar: OHLCVBar) -> None:
        """A bar, or its next revision; bars that are not cut by time are passed over."""
        if not _is_cut_by_time(bar.spec):
            return
        key = (bar.symbol, bar.spec, bar.open_time)
        pair = self._pairs.get(key)
        if pair is None:
            if bar.revision:  # its verdict was given, and it was let go
                return
            pair = self._pairs[key] = _Pair()
        pair.bar = bar
        begun = self._begun.setdefault(key[:2], bar.open_time)
        if bar.open_time < begun:
            self._begun[key[:2]] = bar.open_time
        self._judge(pair)
        self._pass(bar.open_time)

    def add_candle(self, candle: ExchangeBar) -> None:
        """A candle of the exchange, or an update of one."""
        series = (candle.symbol, candle.spec)
        if candle.is_closed is False:
            self.verification.running += 1
        elif candle.is_closed:
            self._take(candle)
        else:
            held = self._running.get(series)
            if held is not None and held.open_time < candle.open_time:
                self._take(held)
            elif held is not None:
                self.verification.running += 1
            if held is None or held.open_time <= candle.open_time:
                self._running[series] = candle
        self._pass(candle.open_time)

    def finish(self) -> Verification:
        """Nothing more comes: judge what is still waiting."""
        for pair in self._pairs.values():
            self._let_go(pair)
        self._pairs.clear()
        self._running.clear()
        return self.verification

    def _take(self, candle: ExchangeBar) -> None:
        pair = self._pairs.setdefault((candle.symbol, candle.spec, candle.open_time), _Pair())
        series = (candle.symbol, candle.spec)
        latest = self._latest.get(series)
        if latest is not None and latest.close_time == candle.open_time:
            pair.previous = latest
        if latest is None or latest.open_time < candle.open_time:
            self._latest[series] = candle
        pair.candle = candle
        self._judge(pair)

    def _pass(self, time: datetime) -> None:
        # Time goes on: pairs are let go in the order in which they came, which is nearly that of their times.
        if self._now is not None and time <= self._now:
            return
        self._now = time
        while self._pairs:
            pair = self._pairs[next(iter(self._pairs))]
            one = pair.bar or pair.candle
            assert one is not None
            if one.close_time + self._patience > time:
                break
            self._pairs.popitem(last=False)
            self._let_go(pair)

    def _let_go(self, pair: _Pair) -> None:
        self._judge(pair, finally_=True)
        counts = self.verification
        if pair.bar is None:
            candle = pair.candle
            assert candle is not None
            begun = self._begun.get((candle.symbol, candle.spec))
            if begun is not None and begun < candle.open_time:
                traded = candle.trade_count != 0 and candle.volume != 0
                counts.without_bar += traded
                counts.empty += not traded
        elif pair.outcome is None:
            counts.without_candle += 1

    def _judge(self, pair: _Pair, *, finally_: bool = False) -> None:
        bar, candle = pair.bar, pair.candle
        if bar is None or (candle is None and bar.status is not BarStatus.PARTIAL):
            return
        if bar.status is BarStatus.PARTIAL:
            self._set(pair, "partial")
            return
        assert candle is not None
        difference = self._compare(bar, candle, pair.previous)
        if difference is None:
            self._set(pair, "equal")
        elif finally_ or bar.status not in _UNSETTLED or pair.outcome == "different":
            self._set(pair, "different")
            what = (bar.revision, difference.field, difference.bar_value, difference.candle_value)
            if what not in pair.seen:
                pair.seen.add(what)
                self._report(difference)

    def _set(self, pair: _Pair, outcome: Outcome) -> None:
        counts = self.verification
        if pair.outcome is not None:
            setattr(counts, pair.outcome, getattr(counts, pair.outcome) - 1)
            counts.mended += pair.outcome == "different" and outcome == "equal"
        pair.outcome = outcome
        setattr(counts, outcome, getattr(counts, outcome) + 1)

    def _report(self, difference: Difference) -> None:
        if self.verification.first is None:
            self.verification.first = difference
        if self._on_difference is not None:
            call(self._on_difference, difference)

    def _compare(self, bar: OHLCVBar, candle: ExchangeBar, previous: ExchangeBar | None) -> Difference | None:
        expected: dict[str, Any] = {name: getattr(bar, name) for name in COMPARED}
        if self.candle_open == "previous close" and bar.open is not None:
            opened = candle.open if previous is None else previous.close
            expected["open"] = opened
            expected["high"], expected["low"] = max(expected["high"], opened), min(expected["low"], opened)
        for name in COMPARED:
            theirs = getattr(candle, name)
            if theirs is not None and expected[name] != theirs:
                return Difference(bar, candle, name, getattr(bar, name), theirs, self._cause(bar, candle, name))
        return None

    def _cause(self, bar: OHLCVBar, candle: ExchangeBar, name: str) -> str:
        less = None if candle.trade_count is None else candle.trade_count - bar.trade_count
        if bar.status is BarStatus.GAP:
            return f"the bar is GAP: {self._missing_in(bar, candle, less)}"
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
            unproven = "" if bar.is_complete else f", and its ids could not tell: it is {bar.status}"
            return f"the bar lacks {_trades(less)}{unproven}"
        if name in ("open", "high", "low") and bar.volume == candle.volume:
            return "both count the same trades: the exchange may open a candle at the close before (venue semantics)"
        if not bar.is_complete and candle.volume > bar.volume:
            return f"trades are missing, and its ids could not tell: the bar is {bar.status}"
        return "unknown"

    def _missing_in(self, bar: OHLCVBar, candle: ExchangeBar, less: int | None) -> str:
        holes = [] if self.missing is None else self.missing(bar.symbol)
        first, last = candle.first_trade_id or bar.first_trade_id, candle.last_trade_id or bar.last_trade_id
        if first is not None and last is not None:
            holes = [(max(a, first), min(b, last)) for a, b in holes if a <= last and b >= first]
        ids = ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in holes[:3]) + (", ..." if len(holes) > 3 else "")
        count = f"{_trades(less)} missing" if less else "trades are missing"
        return f"{count}, of ids {ids}" if ids else count


def _trades(count: int) -> str:
    return f"{count} trade{'s' if count > 1 else ''}"


class CandleWatch:
    """The candles that a stream's bars are compared with while it runs.

    Args:
        exchange: whose candles these are.
        specs: of the stream's bars; those of which the exchange has candles are compared.
        share: of the symbols, chosen by their names, so that a restart chooses the same ones.
        on_difference: called with each Difference; the 1st, 2nd, 4th, 8th, ... is logged as well.

    Attributes:
        channels: of the candles.
        verifier: that compares.

    Raises:
        ValueError: the share is not above 0 and at most 1, or the exchange has no candles of any of these specs.
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
        names = [str(spec) for spec in specs]
        self.channels = list(dict.fromkeys(exchange.candles[name] for name in names if name in exchange.candles))
        if not self.channels:
            known = ", ".join(exchange.candles) or "none"
            raise ValueError(
                f"{exchange.name}: no candles of {', '.join(names)} to verify bars with; there are {known}"
            )
        self.verifier = Verifier(candle_open=exchange.candle_open, on_difference=self._tell)
        self._exchange = exchange
        self._share = share
        self._on_difference = on_difference
        self._told = 0

    def watches(self, symbol: str) -> bool:
        """Whether a symbol's bars are compared."""
        return crc32(symbol.encode()) < self._share * 2**32

    def add_bars(self, bars: Iterable[OHLCVBar]) -> None:
        """Bars as they are issued."""
        for bar in bars:
            if bar.spec in self._exchange.candles and self.watches(bar.symbol):
                self.verifier.add_bar(bar)

    def _tell(self, difference: Difference) -> None:
        if self._told & (self._told + 1) == 0:
            log.warning("bar_differs", exchange=self._exchange.name, seen=self._told + 1, difference=str(difference))
        self._told += 1
        if self._on_difference is not None:
            call(self._on_difference, difference)


# Tapes and files.

_NAMED = re.compile(r"([A-Z0-9]+(?:_(?:PERP|[0-9]{6}))?)-([0-9]+(?:mo|[smhdw]))(?=[-_.])")


def read_klines(path: Path, symbol: str | None = None, spec: str | None = None) -> Iterator[ExchangeBar]:
    """Read a CSV file of klines, with or without header, as in Binance's public archive.

    Args:
        path: the file; its name tells symbol and spec as the archive's names do ("BTCUSDT-1m-2024-08-08.csv").
        symbol, spec: where the name does not.

    Raises:
        TapeError: the name does not tell and neither do you; the file is missing, or a row makes no sense.
    """
    named = _name_of(path)
    symbol = symbol or (named and named[0])
    spec = spec or (named and named[1])
    if not symbol or not spec:
        raise TapeError(f"{path}: the name tells neither symbol nor spec, as BTCUSDT-1m-2024-08-08.csv does")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.reader(file), 1):
                if not row or (number == 1 and not row[0].isdigit()):
                    continue
                yield _kline(row, symbol, spec)
    except OSError as error:
        raise TapeError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, IndexError, InvalidOperation) as error:
        raise TapeError(f"{path}, line {number}: not a kline: {error or type(error).__name__}") from error


def _name_of(path: Path) -> tuple[str, str] | None:
    match = _NAMED.search(path.name)
    return None if match is None else (match[1], match[2])


def _kline(row: Sequence[str], symbol: str, spec: str) -> ExchangeBar:
    # open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore
    unit = 1_000 if len(row[0]) > 14 else 1_000_000  # spot has microseconds since 2025
    opened, closed, count = int(row[0]) * unit, (int(row[6]) + 1) * unit, int(row[8])
    open_, high, low, close, volume, quote, taker, taker_quote = (Decimal(row[i]) for i in (1, 2, 3, 4, 5, 7, 9, 10))
    return ExchangeBar(
        symbol, spec, to_datetime(opened), to_datetime(closed), open_, high, low, close, volume,
        quote, count, taker, taker_quote, None, None, True, None,
    )  # fmt: skip


def verify(
    tapes: str | Path | Sequence[str | Path],
    exchange: str | None = None,
    bars: Bars | None = None,
    *,
    klines: Iterable[str | Path] = (),
    market: str = "spot",
    channel: str | None = None,
    on_difference: Callable[[Difference], object] | None = None,
    patience_s: float = 60.0,
) -> Verification:
    """Compare the bars of tapes or recordings with the exchange's candles in them, or in CSV files.

    Args:
        tapes, exchange, bars, market, channel: as in `replay`; bars that are not given are those of the klines.
        klines: CSV files (see `read_klines`); candles in the tapes are compared as well.
        on_difference, patience_s: as in `Verifier`.

    Raises:
        UnknownExchangeError, SpecError, TapeError: as in `replay` and `read_klines`.
    """
    archive = _Archive([Path(path) for path in klines])
    candles: list[ExchangeBar] = []
    callbacks = Callbacks(on_exchange_bar=candles.append)
    specs = bars or archive.specs or None
    replayed = replay(tapes, exchange, specs, market=market, channel=channel, callbacks=callbacks)
    verifier = Verifier(on_difference=on_difference, patience_s=patience_s)

    def missing(symbol: str) -> list[tuple[int, int]]:
        return [hole for session in replayed.sessions for hole in session.missing(symbol)]

    verifier.missing = missing
    for bar in replayed:
        venue = replayed.sessions[0].exchange
        verifier.candle_open = venue.candle_open
        for candle in [*candles, *archive.up_to(bar, inverse=venue.contract_size(bar.symbol) is not None)]:
            verifier.add_candle(candle)
        candles.clear()
        verifier.add_bar(bar)
    for candle in candles:
        verifier.add_candle(candle)
    return verifier.finish()


class _Archive:
    """Candles of files, given when bars come that they belong to."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.specs = list(dict.fromkeys(name[1] for name in map(_name_of, files) if name is not None))
        self._candles: dict[tuple[str, str], dict[datetime, ExchangeBar]] = {}
        self._begun: set[tuple[str, str]] = set()
        for path in files:
            for candle in read_klines(path):
                self._candles.setdefault((candle.symbol, candle.spec), {})[candle.open_time] = candle

    def up_to(self, bar: OHLCVBar, *, inverse: bool) -> list[ExchangeBar]:
        """The candle of this bar and those before it, back to the first bar of its symbol and spec."""
        series = (bar.symbol, bar.spec)
        candles = self._candles.get(series)
        if not candles:
            return []
        due = [candles.pop(time) for time in sorted(candles) if time <= bar.open_time]
        if series not in self._begun:
            self._begun.add(series)
            due = [candle for candle in due if candle.open_time == bar.open_time]
        if inverse:  # their quote columns are base volumes, a rounded division
            due = [replace(candle, quote_volume=None, taker_buy_quote_volume=None) for candle in due]
        return due
