"""Candles of the exchange as REPORTED bars: of the same spec, or merged of smaller ones; and intervals without trades.

Units: times int64 nanoseconds since the Unix epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from fastbars.bars import ExchangeBar, OHLCVBar, reported
from fastbars.exchanges.candles import finest_of
from fastbars.exchanges.messages import EXACT
from fastbars.live.past.spans import open_of, shifted
from fastbars.specs import BarKind, BarSpec
from fastbars.ticks import to_datetime, to_nanoseconds

_ZONED_PARTS = (
    "1h",
    "30m",
    "15m",
    "5m",
    "1m",
)  # whichever is served: the clocks of all zones differ by quarters of hours
_QUARTER_NS = 900 * 10**9


def candles_for(intervals: Mapping[str, str], spec: BarSpec) -> str | None:
    """The spec of the candles that bars of `spec` are made of, itself or a smaller one; None: there are none.

    Args:
        intervals: those served, by their specs.
    """
    if spec.kind is not BarKind.TIME:
        return None
    if not spec.is_zoned:
        return finest_of(intervals, str(spec))
    boundaries = spec.boundaries
    assert boundaries is not None
    for part in _ZONED_PARTS:
        step_ns = BarSpec.parse(part).rule[1]
        # Before time zones were kept to the quarter of an hour there were no candles.
        if part in intervals and not (boundaries[boundaries > 0] % step_ns).any():
            return part
    return None


def reported_bars(candles: Iterable[ExchangeBar], spec: BarSpec, *, inverse: bool) -> list[OHLCVBar]:
    """Bars of one symbol, REPORTED, ascending.

    Args:
        candles: of `spec`, or of a smaller one whose intervals lie in those of `spec` without remainder, whole ones;
            ascending by open time.
        inverse: their volume counts contracts.
    """
    name = str(spec)
    found: list[OHLCVBar] = []
    for candle in candles:
        bar = reported(candle, inverse=inverse)
        if bar.spec != name:
            open_ns = open_of(spec, to_nanoseconds(bar.open_time))
            times = to_datetime(open_ns), to_datetime(shifted(spec, open_ns, 1))
            bar = replace(bar, spec=name, open_time=times[0], close_time=times[1])
            if found and found[-1].open_time == bar.open_time:
                found[-1] = merged(found[-1], bar)
                continue
        found.append(bar)
    return found


def merged(before: OHLCVBar, after: OHLCVBar) -> OHLCVBar:
    """One bar of two that lie one behind the other in its interval; a sum that one of them lacks it lacks too."""

    def added(name: str) -> Decimal | None:
        parts = getattr(before, name), getattr(after, name)
        return None if None in parts else EXACT.add(*parts)

    counts = before.trade_count, after.trade_count
    volume = added("volume")
    assert volume is not None
    return replace(
        before,
        high=max(_price(before.high), _price(after.high)),
        low=min(_price(before.low), _price(after.low)),
        close=after.close,
        volume=volume,
        quote_volume=added("quote_volume"),
        trade_count=None if counts[0] is None or counts[1] is None else counts[0] + counts[1],
        taker_buy_volume=added("taker_buy_volume"),
        taker_buy_quote_volume=added("taker_buy_quote_volume"),
        last_trade_id=after.last_trade_id,
    )


def _price(price: Decimal | None) -> Decimal:
    assert price is not None  # a candle has all four
    return price


def filled(bars: Sequence[OHLCVBar], spec: BarSpec, before: OHLCVBar | None, until_ns: int) -> list[OHLCVBar]:
    """The bars of one symbol with a flat one for each interval between them, and up to a time, that has none.

    Args:
        before: the last bar before them; None: flat bars begin behind the first.
    """
    found: list[OHLCVBar] = []

    def fill(end_ns: int) -> None:
        if before is None:
            return
        open_ns = to_nanoseconds(before.close_time)
        while open_ns < end_ns:
            close_ns = shifted(spec, open_ns, 1)
            found.append(_flat(before, open_ns, close_ns))
            open_ns = close_ns

    for bar in bars:
        fill(to_nanoseconds(bar.open_time))
        found.append(bar)
        before = bar
    fill(until_ns)
    return found


def _flat(before: OHLCVBar, open_ns: int, close_ns: int) -> OHLCVBar:
    price, zero = before.close, Decimal(0)

    def sum_like(value: Decimal | None) -> Decimal | None:
        return None if value is None else zero

    return replace(
        before,
        open_time=to_datetime(open_ns), close_time=to_datetime(close_ns), open=price, high=price, low=price,
        volume=zero, quote_volume=sum_like(before.quote_volume),
        trade_count=None if before.trade_count is None else 0,
        taker_buy_volume=sum_like(before.taker_buy_volume),
        taker_buy_quote_volume=sum_like(before.taker_buy_quote_volume),
        first_trade_id=None, last_trade_id=None, revision=0,
    )  # fmt: skip
