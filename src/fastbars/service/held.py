"""HeldBars: the latest revision of the latest bars of every symbol and spec, in memory, bounded.

What is kept is the bar itself, so that taking one costs an entry in a dictionary; text is made when somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from fastbars.bars import BarStatus, OHLCVBar
from fastbars.sinks.rows import key_of, number_of

__all__ = ["HeldBars", "Series", "bar_key", "series_of", "sorted_bars", "wire_bar", "wire_bars"]

BAR_BYTES = 2_000  # a bar with its decimals and times, and its entry: 1.2 to 1.5 kB
LEVEL_BYTES = 500  # of a footprint
MOST_BYTES = 64 << 20
_IDS = ("first_trade_id", "last_trade_id")


class Series(NamedTuple):
    """What a chart shows: the bars of one symbol and spec."""

    exchange: str
    market: str
    symbol: str
    spec: str


def series_of(bar: OHLCVBar) -> Series:
    """Of a bar."""
    return Series(bar.exchange, bar.market, bar.symbol, bar.spec)


def bar_key(bar: OHLCVBar) -> str:
    """What tells a bar from others of its series, as text."""
    begins, number = key_of(bar)[-2:]
    return f"{begins.isoformat()}/{number}" if number else begins.isoformat()


def _in_order(bar: OHLCVBar) -> tuple[Any, ...]:
    """Sorts the bars of a series; path-driven ones that begin at one time by their numbers."""
    return bar.open_time, bar.index or 0, bar.first_trade_id or 0, bar.close_time


def wire_bar(bar: OHLCVBar) -> dict[str, Any]:
    """A bar as JSON has it: prices, sums and ids as text, which JavaScript would round; times ISO 8601, UTC."""
    content = bar.to_dict(json=True)
    for name in _IDS:
        if content[name] is not None:
            content[name] = str(content[name])
    for name in ("delta", "delta_high", "delta_low", "vwap_deviation"):
        value = getattr(bar, name)
        if value is not None:
            content[name] = format(value, "f")
    content["inverse"] = bar.inverse
    content["key"] = bar_key(bar)
    return content


def wire_bars(series: Series, bars: Sequence[OHLCVBar]) -> bytes:
    """Bars of a series as JSON."""
    return orjson.dumps({**series._asdict(), "bars": [wire_bar(bar) for bar in bars]})


class HeldBars:
    """Bars by series.

    Args:
        most_bytes: of all bars together, about; beyond it the oldest of each series go.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._series: dict[Series, dict[tuple[Any, ...], OHLCVBar]] = {}
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """What is held, about."""
        return self._bytes

    def add(self, bar: OHLCVBar) -> None:
        """Take a bar as it was issued; a later one of its key replaces it, one that is RETRACTED removes it."""
        series = series_of(bar)
        held = self._series.get(series)
        if held is None:
            held = self._series[series] = {}
        # Bars that begin at one time are told apart by number.
        key = (bar.open_time if bar.index is None else bar.anchor_time, number_of(bar))
        before = held.get(key)
        if before is not None:
            self._bytes -= _bytes_of(before)
        if bar.status is BarStatus.RETRACTED:
            held.pop(key, None)
            return
        held[key] = bar
        self._bytes += _bytes_of(bar)
        if self._bytes > self._most_bytes:
            self._cut()

    def series(self) -> Iterable[Series]:
        """Those with bars."""
        return self._series.keys()

    def bars(self, series: Series) -> list[OHLCVBar]:
        """All that are held, in no order: `sorted_bars` has one, and may run in a thread."""
        return list(self._series.get(series, {}).values())

    def _cut(self) -> None:
        # To four fifths, evenly, so that it is not done for each bar.
        own = self._most_bytes * 4 // 5 // max(len(self._series), 1)
        for held in self._series.values():
            size = sum(map(_bytes_of, held.values()))
            for key in list(held)[:-1]:
                if size <= own:
                    break
                gone = _bytes_of(held.pop(key))
                size -= gone
                self._bytes -= gone
        # So many series that one bar each is too much: those that were named first go.
        for series in list(self._series):
            if self._bytes <= self._most_bytes:
                return
            self._bytes -= sum(map(_bytes_of, self._series.pop(series).values()))


def sorted_bars(bars: Iterable[OHLCVBar], since: datetime | None, until: datetime | None, limit: int) -> list[OHLCVBar]:
    """The latest of some bars of one series that open from `since` on and before `until`, in order."""
    wanted: Sequence[OHLCVBar] = sorted(
        (bar for bar in bars if (since is None or bar.open_time >= since) and (until is None or bar.open_time < until)),
        key=_in_order,
    )
    return list(wanted[-limit:])


def _bytes_of(bar: OHLCVBar) -> int:
    return BAR_BYTES + (LEVEL_BYTES * len(bar.footprint) if bar.footprint else 0)
