"""Bars as objects back into rows: what `BarBatch.from_bars` does.

Units: prices and sums become mantissas at the smallest scales that hold those of a bar; times int64 ns since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbars.bars import REASONS, STATUSES, OHLCVBar
from fastbars.errors import PrecisionError
from fastbars.kernel.fields import NO_ID, NO_PRICE, ROW_DTYPE
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.limits import MAX_SCALE, NO_SUM
from fastbars.kernel.scaled import DECIMALS
from fastbars.specs import BarSpec
from fastbars.ticks import to_nanoseconds

_STATUSES = {status: number for number, status in enumerate(STATUSES)}
_REASONS = {reason: number for number, reason in enumerate(REASONS)}
_HIGHEST = np.iinfo(np.int64).max
_LOW_BITS = (1 << 64) - 1
_UNKNOWN = 0, NO_SUM
_MOST_DIGITS = 64


def rows_of_bars(
    bars: Sequence[OHLCVBar], instruments: Instruments | None, specs: Iterable[BarSpec]
) -> tuple[npt.NDArray[Any], Instruments, tuple[BarSpec, ...], bool]:
    """The rows of some bars; the instruments and specs that name theirs; and whether they have trade ids.

    Raises:
        ValueError, PrecisionError: as `BarBatch.from_bars`.
    """
    named = {str(spec): spec for spec in specs}
    if instruments is None:
        instruments = _instruments_of(bars)
    else:
        for bar in bars:
            _check_market(bar, (instruments.exchange, instruments.market))
    for bar in bars:
        if bar.spec not in named:
            named[bar.spec] = BarSpec.parse(bar.spec)
        if bar.symbol not in instruments:
            instruments.add(bar.symbol, contract_size=_contract_of(bar))
    numbers = {spec: number for number, spec in enumerate(named)}
    ids = any(bar.first_trade_id is not None for bar in bars)
    rows = np.zeros(len(bars), ROW_DTYPE)
    for place, bar in enumerate(bars):
        rows[place] = _row_of(bar, place, instruments.id(bar.symbol), numbers[bar.spec], ids=ids)
    return rows, instruments, tuple(named.values()), ids


def _instruments_of(bars: Sequence[OHLCVBar]) -> Instruments:
    if not bars:
        return Instruments()
    identity = bars[0].exchange, bars[0].market
    negative = False
    for bar in bars:
        _check_market(bar, identity)
        negative |= bar.low is not None and bar.low <= 0
    return Instruments(identity[0], negative and not any(bar.inverse for bar in bars), identity[1])


def _check_market(bar: OHLCVBar, identity: tuple[str, str]) -> None:
    if (bar.exchange, bar.market) != identity:
        raise ValueError(
            f"the bars of a batch are of one market: {_named(bar)} is of {bar.exchange!r} {bar.market!r}, not of"
            f" {identity[0]!r} {identity[1]!r}"
        )


def _contract_of(bar: OHLCVBar) -> Decimal | None:
    # On inverse markets the quote volume is contracts x contract size; where a candle lacks it, nothing depends on it.
    if not bar.inverse:
        return None
    if not bar.quote_volume or not bar.volume:
        return Decimal(1)
    size = DECIMALS.divide(bar.quote_volume, bar.volume).normalize(DECIMALS)
    return size if DECIMALS.multiply(size, bar.volume) == bar.quote_volume else Decimal(1)


def _row_of(bar: OHLCVBar, place: int, symbol_id: int, spec: int, *, ids: bool) -> tuple[Any, ...]:
    prices, price_scale = _mantissas(bar, ("open", "high", "low", "close"), MAX_SCALE, 63)
    sizes, size_scale = _mantissas(bar, ("volume", "taker_buy_volume"), MAX_SCALE, 127)
    quotes, quote_scale = _mantissas(bar, ("quote_volume", "taker_buy_quote_volume"), 2 * MAX_SCALE, 127)
    opened, high, low, close = (0 if price is None else price for price in prices)
    open_ns, close_ns = to_nanoseconds(bar.open_time), to_nanoseconds(bar.close_time)
    # Of its trades no more than the interval is known; a bar without any has the extremes, which merge with all others.
    first_ns, last_ns = (open_ns, max(open_ns, close_ns - 1)) if bar.trade_count != 0 else (_HIGHEST, NO_PRICE)
    if bar.trade_count == 0:
        first_id, last_id = _HIGHEST, NO_ID
    elif ids:
        first_id, last_id = (NO_ID if one is None else one for one in (bar.first_trade_id, bar.last_trade_id))
    else:
        first_id, last_id = 2 * place, 2 * place + 1
    if bar.high is None:
        high, low = NO_PRICE, _HIGHEST
    values = {
        "last_time": last_ns, "last_id": last_id, "high": high, "low": low, "close": close,
        "count": -1 if bar.trade_count is None else bar.trade_count,
        "volume": _wide(sizes[0]), "quote_volume": _wide(quotes[0]),
        "taker_volume": _wide(sizes[1]), "taker_quote_volume": _wide(quotes[1]),
        "open_time": open_ns, "close_time": close_ns, "first_time": first_ns, "first_id": first_id, "open": opened,
        "row": place, "missing": -1 if bar.missing_count is None else bar.missing_count,
        "symbol_id": symbol_id, "spec": spec, "revision": bar.revision,
        "unpublished": -1 if bar.unpublished_count is None else bar.unpublished_count,
        "status": _STATUSES[bar.status], "reason": _REASONS[bar.close_reason],
        "price_scale": price_scale, "size_scale": size_scale, "quote_scale": quote_scale,
    }  # fmt: skip
    return tuple(values.get(name, b"") for name in ROW_DTYPE.names or ())


def _mantissas(bar: OHLCVBar, names: tuple[str, ...], most: int, bits: int) -> tuple[list[int | None], int]:
    # At the smallest scale that holds them all.
    scaled = [None if (value := getattr(bar, name)) is None else _scaled(bar, name, value) for name in names]
    scale = max((one[1] for one in scaled if one is not None), default=0)
    mantissas = [None if one is None else one[0] * 10 ** (scale - one[1]) for one in scaled]
    for name, mantissa in zip(names, mantissas, strict=True):
        if mantissa is not None and (scale > most or abs(mantissa) >= 1 << bits):
            raise PrecisionError(
                f"{_named(bar)}: {name} {getattr(bar, name)} with {scale} decimals does not fit {most} decimals and"
                f" {bits} bits"
            )
    return mantissas, scale


def _scaled(bar: OHLCVBar, name: str, value: Decimal) -> tuple[int, int]:
    # (mantissa, scale), without trailing zeros.
    if not value.is_finite() or not -_MOST_DIGITS < value.adjusted() < _MOST_DIGITS:
        raise PrecisionError(f"{_named(bar)}: {name} {value} is outside what a bar can hold")
    whole, _, part = format(value, "f").partition(".")
    part = part.rstrip("0")
    return int(whole + part), len(part)


def _wide(sum_: int | None) -> tuple[int, int]:
    return _UNKNOWN if sum_ is None else (sum_ & _LOW_BITS, sum_ >> 64)


def _named(bar: OHLCVBar) -> str:
    names = " ".join(filter(None, (bar.exchange, bar.market, bar.symbol, bar.spec)))
    return f"{names} {bar.open_time:%Y-%m-%dT%H:%M:%SZ}"
