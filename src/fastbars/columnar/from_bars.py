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
from fastbars.columnar.columns import numbers_of_objects
from fastbars.errors import PrecisionError
from fastbars.kernel.fields import FIELDS, INT128, NO_ID, NO_PRICE, NO_TIME, ROW_DTYPE
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
_ZERO = Decimal(0)
_POWERS = 10 ** np.arange(MAX_SCALE + 1)


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
    rows["symbol_id"] = [instruments.id(bar.symbol) for bar in bars]
    rows["spec"] = [numbers[bar.spec] for bar in bars]
    _fill_plain(rows, bars, ids=ids)
    _fill_numbers(rows, bars)
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


def _fill_plain(rows: npt.NDArray[Any], bars: Sequence[OHLCVBar], *, ids: bool) -> None:
    # All but prices and sums.
    places = np.arange(len(bars))
    rows["row"] = places
    rows["open_time"] = [to_nanoseconds(bar.open_time) for bar in bars]
    rows["close_time"] = [to_nanoseconds(bar.close_time) for bar in bars]
    rows["count"] = [-1 if bar.trade_count is None else bar.trade_count for bar in bars]
    for name in ("buy_count", "sell_count"):
        rows[name] = [-1 if (value := getattr(bar, name)) is None else value for bar in bars]
    rows["missing"] = [-1 if bar.missing_count is None else bar.missing_count for bar in bars]
    rows["unpublished"] = [-1 if bar.unpublished_count is None else bar.unpublished_count for bar in bars]
    rows["index"] = [-1 if bar.index is None else bar.index for bar in bars]
    rows["revision"] = [bar.revision for bar in bars]
    rows["status"] = [_STATUSES[bar.status] for bar in bars]
    rows["reason"] = [_REASONS[bar.close_reason] for bar in bars]
    if ids:
        rows["first_id"] = [NO_ID if bar.first_trade_id is None else bar.first_trade_id for bar in bars]
        rows["last_id"] = [NO_ID if bar.last_trade_id is None else bar.last_trade_id for bar in bars]
    else:
        rows["first_id"], rows["last_id"] = 2 * places, 2 * places + 1
    # Of trades whose times are not known no more than the interval is; a bar without any has the extremes, which merge
    # with all others.
    first, last = rows["open_time"].copy(), np.maximum(rows["open_time"], rows["close_time"] - 1)
    rows["last_trade_time"] = NO_TIME
    for place, bar in enumerate(bars):
        if bar.first_trade_time is not None and bar.last_trade_time is not None:
            first[place] = to_nanoseconds(bar.first_trade_time)
            rows["last_trade_time"][place] = last[place] = to_nanoseconds(bar.last_trade_time)
    rows["first_time"], rows["last_time"] = first, last
    empty = rows["count"] == 0
    for name, extreme in (
        ("first_time", _HIGHEST),
        ("last_time", NO_PRICE),
        ("last_trade_time", NO_TIME),
        ("first_id", _HIGHEST),
        ("last_id", NO_ID),
    ):
        rows[name][empty] = extreme


def _fill_numbers(rows: npt.NDArray[Any], bars: Sequence[OHLCVBar]) -> None:
    for names, scale, most, bits in (
        (("open", "high", "low", "close"), "price_scale", MAX_SCALE, 63),
        (("volume", "taker_buy_volume", "largest_trade"), "size_scale", MAX_SCALE, 127),
        (("quote_volume", "taker_buy_quote_volume"), "quote_scale", 2 * MAX_SCALE, 127),
    ):
        columns = [FIELDS[name] for name in names]
        values = [np.array([getattr(bar, name) for bar in bars], object) for name in names]
        known = [np.array([value is not None for value in column], bool) for column in values]
        made, rest = _numbers_of(values, known, rows[scale])
        for column, mantissas, there in zip(columns, made, known, strict=True):
            if column.dtype is INT128:
                rows[column.name]["lo"] = mantissas.view(np.uint64)
                rows[column.name]["hi"] = np.where(there, mantissas >> 63, NO_SUM)
            else:
                rows[column.name] = mantissas
        for place in rest:  # beyond 64 bits or 18 decimals
            numbers, rows[scale][place] = _mantissas(bars[place], names, most, bits)
            for column, number in zip(columns, numbers, strict=True):
                one = 0 if number is None else number
                rows[column.name][place] = _wide(number) if column.dtype is INT128 else one
    priceless = np.array([bar.high is None for bar in bars], bool)
    rows["high"][priceless], rows["low"][priceless] = NO_PRICE, _HIGHEST


def _numbers_of(
    values: list[npt.NDArray[Any]], known: list[npt.NDArray[np.bool_]], scale: npt.NDArray[np.int8]
) -> tuple[list[npt.NDArray[np.int64]], list[int]]:
    # The mantissas of some columns, 0 where one is not known, at the smallest scale of each row that holds them all,
    # which is written to `scale`; and the rows that do not fit so.
    count = len(scale)
    made, scales, rest = [], [], set[int]()
    for column, there in zip(values, known, strict=True):
        column[~there] = _ZERO
        mantissas, own = np.zeros(count, np.int64), np.zeros(count, np.int8)
        start = 0
        while (failed := numbers_of_objects(column[start:], mantissas[start:], own[start:], True)) >= 0:
            rest.add(start + failed)
            start += failed + 1
        made.append(mantissas)
        scales.append(own)
    scale[:] = np.max(scales, axis=0, initial=0) if count else 0
    for mantissas, own in zip(made, scales, strict=True):
        factors = _POWERS[scale - own]
        rest.update(np.flatnonzero(np.abs(mantissas) > _HIGHEST // factors).tolist())
        np.multiply(mantissas, factors, out=mantissas)
    return made, sorted(rest)


def _mantissas(bar: OHLCVBar, names: tuple[str, ...], most: int, bits: int) -> tuple[list[int | None], int]:
    # At the smallest scale that holds them all.
    scaled = [None if (value := getattr(bar, name)) is None else _scaled(bar, name, value) for name in names]
    scale = max((one[1] for one in scaled if one is not None), default=0)
    mantissas = [None if one is None else one[0] * 10 ** (scale - one[1]) for one in scaled]
    for name, mantissa in zip(names, mantissas, strict=True):
        own_bits = bits if FIELDS[name].dtype is INT128 else 63
        if mantissa is not None and (scale > most or abs(mantissa) >= 1 << own_bits):
            raise PrecisionError(
                f"{_named(bar)}: {name} {getattr(bar, name)} with {scale} decimals does not fit {most} decimals and"
                f" {own_bits} bits"
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
