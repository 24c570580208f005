"""Beginnings: what bars in progress lack because the stream began inside them, taken from the exchange's candles.

    |------------- candles -------------|
                              |--seen---|----- live -----|
    open                     start    border            now

Candles are whole, so they reach up to the end of the interval in which the first trade came, the border. The trades
before it that were seen are in them as well: their extremes do no harm, and their sums are subtracted, once and
exactly. They are known from a second, small buffer, which is given the trades of the first minute too (`Intake.tap`),
and those that come late; it ends when they have come. A bar is merged only where that buffer and the kernel agree.

What is shown so is REPORTED; kernel, delivery, recordings and snapshots know nothing of it. Units: times int64
nanoseconds; seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

from fastbars.bars import UNSEEN, BarStatus, ExchangeBar, OHLCVBar
from fastbars.buffer import BarBuffer
from fastbars.errors import RestError
from fastbars.exchanges.messages import EXACT
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.limits import LATEST_NS
from fastbars.live.intake import Intake
from fastbars.live.past.candles import CandleClient
from fastbars.live.past.reports import reported_bars
from fastbars.log import log
from fastbars.specs import BarKind, BarSpec
from fastbars.ticks import to_nanoseconds

_LOOK_S = 0.25
_AGAIN_S = 2.0
_TRIES = 6
_AT_ONCE = 8  # symbols; the client has a limit of its own for requests
_LEVELS = ("1d", "1h")  # longer candles, for what they cover whole

Pair = tuple[str, str]  # symbol, spec


_SUMS = ("volume", "quote_volume", "trade_count", "taker_buy_volume", "taker_buy_quote_volume")
Sums = dict[str, Decimal]  # by these names


def sums_of(bars: Iterable[OHLCVBar]) -> Sums:
    """Of several bars together, which are made of trades."""
    sums = dict.fromkeys(_SUMS, Decimal(0))
    for bar in bars:
        for name in _SUMS:
            sums[name] = EXACT.add(sums[name], getattr(bar, name))
    return sums


@dataclass(slots=True)
class _Began:
    # A symbol that the stream began inside bars of. `seen`: its bars of the finest candle interval, by open time.
    border_ns: int
    is_fixed: bool = False  # the border is
    seen: dict[int, OHLCVBar] = field(default_factory=dict)
    before: Sums | None = None  # of the trades before the border, once no more of them are awaited
    is_wanted: bool = False
    tries: int = 0
    due_ns: int = 0
    candles: dict[str, OHLCVBar] | None = None  # by spec; None: they were not had yet


class Beginnings:
    """The beginnings of one session's bars in progress.

    Args:
        intake: where its trades are folded in.
        specs: of its bars.
        client: asks for candles; it waits behind healing.
        lateness_s: how long trades may be late.
        exchange_time_ns: the exchange's time now.
    """

    def __init__(
        self,
        intake: Intake,
        specs: Sequence[BarSpec],
        client: CandleClient,
        lateness_s: float,
        exchange_time_ns: Callable[[], int],
    ) -> None:
        self.had: list[Pair] = []  # whose beginnings came, in order
        self._intake = intake
        self._client = client
        self._lateness_s = lateness_s
        self._now_ns = exchange_time_ns
        served = client.history.intervals
        self._levels = _levels_of(served)
        self._step_ns = self._levels[-1][1]
        self._specs = {str(spec): spec for spec in specs if _is_made_of(spec, self._step_ns)}
        self._buffer: BarBuffer | None = None
        self._began: dict[str, _Began] = {}
        self._known = 0  # symbols that were there before
        self._all_wanted = False

    def watch(self, first: int = 0) -> None:
        """Follow the trades of new symbols, of which this is the number of the first; earlier ones are left alone."""
        if self._specs and self._intake.tap is None:
            self._known = first
            self._intake.tap = self._take

    def want_all(self) -> None:
        """Somebody is shown all bars in progress."""
        self._all_wanted = True

    def shown(self, bar: OHLCVBar) -> OHLCVBar:
        """A bar in progress with its beginning, REPORTED, where that is known; else as it is."""
        if bar.status is not BarStatus.PARTIAL or bar.spec not in self._specs:
            return bar
        began = self._began.get(bar.symbol)
        if began is None:
            return bar
        began.is_wanted = True
        candle = None if began.candles is None else began.candles.get(bar.spec)
        if candle is None or candle.open_time != bar.open_time:
            return bar
        before = self._seen_before(bar, began)
        return bar if before is None else _merged(candle, bar, before)

    async def run(self) -> None:
        """Ask for what is wanted, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            now_ns = self._now_ns()
            self._end_late(now_ns)
            due = [
                symbol
                for symbol, began in self._began.items()
                if began.candles is None
                and (began.is_wanted or self._all_wanted)
                and now_ns >= max(began.border_ns, began.due_ns)
            ]
            for start in range(0, len(due), _AT_ONCE):
                await asyncio.gather(*(self._fetch(symbol) for symbol in due[start : start + _AT_ONCE]))

    def stop(self) -> None:
        """Follow no trades any more."""
        self._intake.tap = self._buffer = None

    # What was seen before the border.

    def _take(self, batch: TickBatch) -> None:
        try:
            if self._buffer is None:
                self._buffer = self._new_buffer()
            for bar in self._buffer.add_live(batch):
                self._note(bar)
        except Exception:  # noqa: BLE001 the bars of the stream are made elsewhere, and must not suffer
            log.exception("beginnings_failed", exchange=self._client.history.api.url)
            self._began = {symbol: one for symbol, one in self._began.items() if one.before is not None}
            self._specs = {}
            self.stop()

    def _new_buffer(self) -> BarBuffer:
        buffer = self._intake.buffer
        assert buffer is not None
        return BarBuffer(
            self._levels[-1][0], ids=buffer.ids, instruments=buffer.instruments, grace_s=4e9,
            lateness_s=self._lateness_s,
        )  # fmt: skip

    def _note(self, bar: OHLCVBar) -> None:
        if bar.trade_count:
            began = self._began_of(bar)
            if began is not None and began.before is None:
                began.seen[to_nanoseconds(bar.open_time)] = bar

    def _began_of(self, bar: OHLCVBar) -> _Began | None:
        began = self._began.get(bar.symbol)
        buffer = self._intake.buffer
        assert buffer is not None
        if began is None and buffer.instruments.id(bar.symbol) >= self._known:
            border_ns = to_nanoseconds(bar.close_time)
            began = self._began[bar.symbol] = _Began(border_ns)
        return began

    def _all_seen(self, symbol: str, began: _Began) -> dict[int, OHLCVBar]:
        current = None if self._buffer is None else self._buffer.current(symbol, self._levels[-1][0])
        return began.seen if current is None else began.seen | {to_nanoseconds(current.open_time): current}

    def _seen_before(self, bar: OHLCVBar, began: _Began) -> Sums | None:
        # The sums of the trades of a bar before the border; None: the two buffers do not agree.
        if began.before is not None:
            return began.before
        seen = self._all_seen(bar.symbol, began)
        if sums_of(seen.values()) != sums_of([bar]):
            return None
        return sums_of(one for open_ns, one in seen.items() if open_ns < began.border_ns)

    def _end_late(self, now_ns: int) -> None:
        # Trades before the border are awaited no longer than `lateness`; then the second buffer is not needed.
        if self._buffer is None:
            return
        for symbol in self._buffer.instruments.symbols[self._known :]:
            current = self._buffer.current(symbol, self._levels[-1][0])
            if current is not None:
                self._began_of(current)
        is_over = True
        for symbol, began in list(self._began.items()):
            if began.before is not None:
                continue
            if now_ns < began.border_ns + (self._lateness_s + _AGAIN_S) * 10**9:
                is_over = False
                continue
            lacking = [bar for bar in self._lacking(symbol) if self._seen_before(bar, began) is not None]
            if not lacking or not self._fix_border(symbol, began):
                del self._began[symbol]
                continue
            began.before = self._seen_before(lacking[0], began)
        if is_over:
            self.stop()

    def _fix_border(self, symbol: str, began: _Began) -> bool:
        # It lies behind the last time in which not every trade would have come. False: that goes on.
        assert self._intake.buffer is not None
        if not began.is_fixed:
            last_ns = max((gap.until_ns for gap in self._intake.buffer.gaps(symbol)), default=0)
            if last_ns >= LATEST_NS:
                return False
            began.border_ns = max(began.border_ns, (last_ns // self._step_ns + 1) * self._step_ns)
            began.is_fixed = True
        return True

    def _lacking(self, symbol: str) -> list[OHLCVBar]:
        # The bars in progress that lack their beginnings.
        buffer = self._intake.buffer
        assert buffer is not None
        bars = [buffer.current(symbol, spec) for spec in self._specs]
        return [bar for bar in bars if bar is not None and bar.status is BarStatus.PARTIAL]

    # Candles.

    async def _fetch(self, symbol: str) -> None:
        began = self._began[symbol]
        if not self._fix_border(symbol, began) or self._now_ns() < began.border_ns:
            return
        lacking = {
            bar.spec: to_nanoseconds(bar.open_time)
            for bar in self._lacking(symbol)
            if to_nanoseconds(bar.open_time) < began.border_ns <= to_nanoseconds(bar.close_time)
        }
        if not lacking:
            began.candles = {}
            return
        try:
            found = await self._candles(symbol, sorted({*lacking.values(), began.border_ns}))
        except RestError as error:
            found = None
            if error.permanent:
                began.tries = _TRIES
            log.info("beginning_not_had", symbol=symbol, error=str(error))
        if found is None or not self._has_all(found[0], began):
            began.tries += 1
            began.due_ns = self._now_ns() + int(_AGAIN_S * 1e9) * 2**began.tries
            if began.tries >= _TRIES:
                began.candles = {}
            return
        candles, since_ns = found
        began.candles = {}
        for spec, open_ns in lacking.items():
            own = [one for one in candles if to_nanoseconds(one.open_time) >= open_ns]
            if own and open_ns >= since_ns:
                (whole,) = reported_bars(own, self._specs[spec], inverse=self._is_inverse(symbol))
                began.candles[spec] = whole
                self.had.append((symbol, spec))

    def _is_inverse(self, symbol: str) -> bool:
        assert self._intake.buffer is not None
        return self._intake.buffer.instruments.contract_size(symbol) is not None

    async def _candles(self, symbol: str, cuts: Sequence[int]) -> tuple[list[ExchangeBar], int] | None:
        # Candles from the first cut to the last, none of which reaches over one between, and from when on the exchange
        # has them; None: it does not have the last one yet.
        pieces: list[tuple[str, int, int]] = []
        for since_ns, until_ns in pairwise(cuts):
            for level, first_ns, end_ns in _cover(since_ns, until_ns, self._levels):
                if pieces and pieces[-1][0] == level and pieces[-1][2] == first_ns:
                    pieces[-1] = level, pieces[-1][1], end_ns
                else:
                    pieces.append((level, first_ns, end_ns))
        candles: list[ExchangeBar] = []
        reached_ns = cuts[0]
        for level, first_ns, end_ns in pieces:
            past = await self._client.past(symbol, level, first_ns, end_ns)
            if past.until_ns < end_ns:
                return None
            if past.since_ns > first_ns:
                reached_ns = past.since_ns
            candles += past.candles
        return candles, reached_ns

    def _has_all(self, candles: Sequence[ExchangeBar], began: _Began) -> bool:
        # Whether what was seen is in the candles: each trade's interval has one, and together they have no less.
        seen = {open_ns for open_ns in began.seen if open_ns < began.border_ns}
        spans = [(to_nanoseconds(one.open_time), to_nanoseconds(one.close_time)) for one in candles]
        if not all(any(since_ns <= open_ns < until_ns for since_ns, until_ns in spans) for open_ns in seen):
            return False
        before = began.before or sums_of(bar for open_ns, bar in began.seen.items() if open_ns < began.border_ns)
        volume = Decimal(0)
        for one in candles:
            volume = EXACT.add(volume, one.volume)
        return bool(candles) and volume >= before["volume"]


def _levels_of(served: Iterable[str]) -> list[tuple[str, int]]:
    # The candles that are used, and their lengths: the longest first, the last one those of a minute, or the shortest.
    lengths = {spec: BarSpec.parse(spec).rule[1] for spec in served if BarSpec.parse(spec).kind is BarKind.TIME}
    plain = {spec: length for spec, length in lengths.items() if BarSpec.parse(spec).rule[0] == "time"}
    finest = "1m" if "1m" in plain else min(plain, key=lambda spec: plain[spec])
    levels = [(spec, plain[spec]) for spec in _LEVELS if spec in plain and plain[spec] > plain[finest]]
    return [*levels, (finest, plain[finest])]


def _is_made_of(spec: BarSpec, step_ns: int) -> bool:
    # Whether bars of a spec begin where candles of this length do, and are longer.
    if spec.kind is not BarKind.TIME:
        return False
    kind, step, origin = spec.rule
    if kind == "months":
        return True
    if spec.is_zoned:
        boundaries = spec.boundaries
        assert boundaries is not None
        return not (boundaries[boundaries > 0] % step_ns).any()
    return step > step_ns and step % step_ns == 0 and origin % step_ns == 0


def _cover(since_ns: int, until_ns: int, levels: Sequence[tuple[str, int]]) -> list[tuple[str, int, int]]:
    # A span as whole candles, each as long as can be: (spec, since, until) of each run of them, in order.
    if since_ns >= until_ns:
        return []
    (level, length_ns), *finer = levels
    if not finer:
        return [(level, since_ns, until_ns)]
    first_ns, end_ns = -(-since_ns // length_ns) * length_ns, until_ns // length_ns * length_ns
    if first_ns >= end_ns:
        return _cover(since_ns, until_ns, finer)
    return [*_cover(since_ns, first_ns, finer), (level, first_ns, end_ns), *_cover(end_ns, until_ns, finer)]


def _merged(candle: OHLCVBar, bar: OHLCVBar, before: Sums) -> OHLCVBar:
    # The candles up to the border, and the bar without what was seen before it. What candles lack it lacks as well.
    sums: dict[str, Any] = dict.fromkeys(UNSEEN)
    for name, seen in before.items():
        own, reported = getattr(bar, name), getattr(candle, name)
        sums[name] = None if reported is None else EXACT.add(reported, EXACT.subtract(own, seen))
    if sums["trade_count"] is not None:
        sums["trade_count"] = int(sums["trade_count"])
    assert candle.high is not None
    assert candle.low is not None
    assert bar.high is not None
    assert bar.low is not None
    return replace(
        bar,
        open=candle.open,
        high=max(candle.high, bar.high),
        low=min(candle.low, bar.low),
        first_trade_id=candle.first_trade_id,
        status=BarStatus.REPORTED,
        missing_count=None,
        unpublished_count=None,
        **sums,
    )
