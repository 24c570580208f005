"""The simulated exchange's own klines, in plain `Decimal`, sharing no code with the library's bars.

Bars are checked against them, so they are kept simple: each trade goes into the candle of its second; a second that
ends is merged into its minute, a minute that ends into every longer interval. So the candle of any interval is complete
at any time, whether or not anyone has subscribed to it.

Source: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams (kline intervals)
Units: times in ms since the Unix epoch, UTC; prices and sizes in quote and base units (contracts on COIN-M).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow, localcontext

from fastbars.simulator.instruments import SimulatedInstrument
from fastbars.simulator.market import SimulatedTrade

__all__ = ["EXACT", "INTERVALS", "Candle", "CandleBook", "interval_end_ms", "interval_start_ms", "merged"]

EXACT = Context(prec=100, traps=[Inexact, InvalidOperation, Overflow])  # nothing may be rounded unnoticed

_MINUTE_MS = 60_000
_DAY_MS = 86_400_000
_FIXED_MS = {
    "1s": 1000,
    **{f"{n}m": n * _MINUTE_MS for n in (1, 3, 5, 15, 30)},
    **{f"{n}h": n * 60 * _MINUTE_MS for n in (1, 2, 4, 6, 8, 12)},
    "1d": _DAY_MS,
    "3d": 3 * _DAY_MS,
}
INTERVALS = (*_FIXED_MS, "1w", "1M")
_FIXED_MS |= {"2m": 2 * _MINUTE_MS, "10m": 10 * _MINUTE_MS, "3h": 180 * _MINUTE_MS}  # over REST only
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BASE_STEP = Decimal("1e-8")


def interval_start_ms(interval: str, time_ms: int) -> int:
    """Return the open time of the interval that a time lies in.

    Seconds to days start at multiples of their length since the epoch, weeks on Monday, months on the first.
    """
    if interval == "1w":
        monday_ms = 4 * _DAY_MS  # 1970-01-05
        return (time_ms - monday_ms) // (7 * _DAY_MS) * (7 * _DAY_MS) + monday_ms
    if interval == "1M":
        day = _EPOCH + timedelta(days=time_ms // _DAY_MS)
        return (day.replace(day=1) - _EPOCH).days * _DAY_MS
    return time_ms // _FIXED_MS[interval] * _FIXED_MS[interval]


def interval_end_ms(interval: str, time_ms: int) -> int:
    """Return the first ms after the interval that a time lies in."""
    start_ms = interval_start_ms(interval, time_ms)
    if interval == "1w":
        return start_ms + 7 * _DAY_MS
    if interval == "1M":
        return interval_start_ms("1M", start_ms + 31 * _DAY_MS)
    return start_ms + _FIXED_MS[interval]


@dataclass(slots=True)
class Candle:
    """A summary of the trades of one symbol over some time, with the fields of a Binance kline.

    On COIN-M `volume` and `taker_volume` count contracts, and the amounts are base units: contracts x
    contract size / price, a division that is rounded to 8 decimals for each trade. Elsewhere everything is
    exact.
    """

    first_id: int
    last_id: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    amount: Decimal
    trade_count: int
    taker_volume: Decimal
    taker_amount: Decimal

    @classmethod
    def flat(cls, price: Decimal) -> Candle:
        """An interval without trades: ids -1, all prices the last close."""
        zero = Decimal(0)
        return cls(-1, -1, price, price, price, price, zero, zero, 0, zero, zero)


def merged(earlier: Candle | None, later: Candle | None) -> Candle | None:
    """Merge the candles of two consecutive periods; neither is changed."""
    if earlier is None or later is None:
        return later if earlier is None else earlier
    return Candle(
        first_id=earlier.first_id,
        last_id=later.last_id,
        open=earlier.open,
        high=max(earlier.high, later.high),
        low=min(earlier.low, later.low),
        close=later.close,
        volume=EXACT.add(earlier.volume, later.volume),
        amount=EXACT.add(earlier.amount, later.amount),
        trade_count=earlier.trade_count + later.trade_count,
        taker_volume=EXACT.add(earlier.taker_volume, later.taker_volume),
        taker_amount=EXACT.add(earlier.taker_amount, later.taker_amount),
    )


class CandleBook:
    """The running candles of one symbol in every interval.

    Args:
        instrument: whose trades these are.
        start_ms: when the market opened.
    """

    def __init__(self, instrument: SimulatedInstrument, start_ms: int) -> None:
        self._instrument = instrument
        self._last_close = EXACT.multiply(instrument.tick_size, instrument.start_ticks)
        self._second: Candle | None = None
        self._minute: Candle | None = None  # the ended seconds of the running minute
        self._longer: dict[str, Candle | None] = dict.fromkeys(INTERVALS[2:])  # the ended minutes of each
        self._hours: deque[tuple[int, Candle | None]] = deque(maxlen=23)  # ended hours with their open times
        self._start_ms = start_ms

    def add(self, trade: SimulatedTrade) -> None:
        """Add a trade to the running second; call under `EXACT`."""
        instrument = self._instrument
        price = instrument.tick_size * trade.price_ticks
        size = instrument.step_size * trade.size_steps
        if instrument.contract_size is None:
            amount = price * size
        else:
            with localcontext() as context:
                context.traps[Inexact] = False
                amount = (size * instrument.contract_size / price).quantize(_BASE_STEP)
        self._last_close = price
        second = self._second
        if second is None:
            zero = Decimal(0)
            self._second = second = Candle(
                trade.trade_id, trade.trade_id, price, price, price, price, zero, zero, 0, zero, zero
            )
        second.last_id = trade.trade_id
        second.high = max(second.high, price)
        second.low = min(second.low, price)
        second.close = price
        second.volume += size
        second.amount += amount
        second.trade_count += 1
        if not trade.buyer_is_maker:
            second.taker_volume += size
            second.taker_amount += amount

    def end_second(self, boundary_ms: int) -> None:
        """Close the running second; `boundary_ms` is the first ms after it. Must be called for every second."""
        if self._second is not None:
            self._minute = merged(self._minute, self._second)
            self._second = None
        if boundary_ms % _MINUTE_MS:
            return
        ended_ms = boundary_ms - 1
        for interval, earlier in self._longer.items():
            candle = merged(earlier, self._minute)
            ended = interval_end_ms(interval, ended_ms) == boundary_ms
            if ended and interval == "1h":
                self._hours.append((interval_start_ms("1h", ended_ms), candle))
            self._longer[interval] = None if ended else candle
        self._minute = None

    def running(self, interval: str) -> Candle:
        """Return the candle of the running interval with every trade so far; flat if there was none."""
        candle = self._second
        if interval != "1s":
            candle = merged(self._minute, candle)
            if interval != "1m":
                candle = merged(self._longer[interval], candle)
        return Candle.flat(self._last_close) if candle is None else replace(candle)

    def last_day(self, now_ms: int) -> tuple[int, Candle]:
        """Return open time and candle of the last 23 to 24 hours: the running hour and the 23 before it.

        A real exchange moves this window by seconds; here it moves by hours, and starts no earlier than the
        market.
        """
        window = [(start_ms, candle) for start_ms, candle in self._hours if start_ms > now_ms - _DAY_MS]
        start_ms = max(window[0][0] if window else interval_start_ms("1h", now_ms), self._start_ms)
        hour = self.running("1h")
        candle = _merge_all([candle for _, candle in window] + [hour if hour.trade_count else None])
        return start_ms, Candle.flat(self._last_close) if candle is None else candle


def _merge_all(candles: Iterable[Candle | None]) -> Candle | None:
    whole = None
    for candle in candles:
        whole = merged(whole, candle)
    return whole
