"""What a bar is: BarStatus, OHLCVBar, and BarBatch, their columnar form.

Units: times are int64 nanoseconds since the Unix epoch, UTC, in columns and aware UTC datetimes in
objects; prices are quote units, volumes base units (contracts on inverse markets).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from fastbars.instruments import Instruments
from fastbars.objects import BarMaker
from fastbars.rows import merge_rows
from fastbars.specs import BarKind, BarSpec, parse_specs

__all__ = [
    "BAR_FIELDS",
    "REASONS",
    "STATUSES",
    "BarBatch",
    "BarCallback",
    "BarKind",
    "BarSpec",
    "BarStatus",
    "CloseReason",
    "ExchangeBar",
    "OHLCVBar",
    "parse_specs",
]


class BarStatus(StrEnum):
    """How far a bar can be trusted, best first. Where several hold, the worst is given."""

    COMPLETE = "COMPLETE"  # the trade ids prove that every trade is in it, at both ends
    HEALED = "HEALED"  # it had a hole, which was filled from REST
    PROVISIONAL = "PROVISIONAL"  # no hole inside; the next trade, which proves the end, has not come yet
    UNVERIFIABLE = "UNVERIFIABLE"  # the exchange's trades carry no ids that could prove it
    SAMPLED = "SAMPLED"  # made from sampled last prices, not from trades
    PARTIAL = "PARTIAL"  # the stream began or ended inside it
    GAP = "GAP"  # trades are known to be missing


class CloseReason(StrEnum):
    """What closed a bar."""

    TRADE = "trade"  # a trade of a later interval, or the one that reached the step
    WATERMARK = "watermark"  # event time on the connection passed close_time + grace
    CLOCK = "clock"  # the corrected wall clock passed close_time + grace
    GAP = "gap"  # likewise, while the feed was down
    END = "end"  # end of input or of the subscription
    OPEN = "open"  # not closed yet: what `BarBuffer.current` shows


STATUSES = tuple(BarStatus)
REASONS = tuple(CloseReason)


@dataclass(frozen=True, slots=True)
class OHLCVBar:
    """A finished bar; the fields are those of a Binance kline, and what proves them.

    Args:
        symbol: as the exchange writes it.
        spec: text of the BarSpec, such as "1m".
        open_time: inclusive, aware UTC; of the first trade for tick, volume and value bars.
        close_time: exclusive, aware UTC; of the last trade for tick, volume and value bars.
        open, high, low, close: quote units; None in a GAP bar without trades.
        volume: base units; contracts on inverse markets.
        quote_volume: exact sum of price x size; of contracts x contract size on inverse markets.
        trade_count: trades in it.
        taker_buy_volume, taker_buy_quote_volume: the part in which the taker bought.
        first_trade_id, last_trade_id: None where the exchange's ids prove nothing.
        status: how far it can be trusted.
        revision: 0 the first time; one more each time that anything about this bar changed.
        close_reason: what closed it.
        inverse: volume counts contracts, so there is no vwap.
        missing_count: trades that it lacks: 0 where it is proven complete, None where ids do not tell (none prove
            anything, or the hole reaches over its border, or its begin or end is not proven).

    Raises:
        ValueError: high, low, open and close contradict each other, or a sum is negative.
    """

    symbol: str
    spec: str
    open_time: datetime
    close_time: datetime
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    close: Decimal | None
    volume: Decimal
    quote_volume: Decimal = Decimal(0)
    trade_count: int = 0
    taker_buy_volume: Decimal = Decimal(0)
    taker_buy_quote_volume: Decimal = Decimal(0)
    first_trade_id: int | None = None
    last_trade_id: int | None = None
    status: BarStatus = BarStatus.UNVERIFIABLE
    revision: int = 0
    close_reason: CloseReason = CloseReason.TRADE
    inverse: bool = field(default=False, repr=False, compare=False)
    missing_count: int | None = None

    def __post_init__(self) -> None:
        prices = (self.open, self.high, self.low, self.close)
        if self.open is None or self.high is None or self.low is None or self.close is None:
            if any(price is not None for price in prices) or self.trade_count:
                raise ValueError("Open, high, low and close are all None, in a bar without trades, or none is")
        else:
            if self.high < self.low:
                raise ValueError(f"High ({self.high}) must be >= low ({self.low})")
            if self.high < self.open:
                raise ValueError(f"High ({self.high}) must be >= open ({self.open})")
            if self.high < self.close:
                raise ValueError(f"High ({self.high}) must be >= close ({self.close})")
            if self.low > self.open:
                raise ValueError(f"Low ({self.low}) must be <= open ({self.open})")
            if self.low > self.close:
                raise ValueError(f"Low ({self.low}) must be <= close ({self.close})")
        if self.volume < 0 or self.quote_volume < 0 or self.trade_count < 0:
            raise ValueError(
                f"Volume ({self.volume}), quote volume ({self.quote_volume}) and trade count ({self.trade_count})"
                " must be >= 0"
            )
        if self.open_time.tzinfo is None or self.close_time.tzinfo is None:
            raise ValueError("Open and close time must have a time zone")
        if self.close_time < self.open_time:
            raise ValueError(f"Close time ({self.close_time}) must be >= open time ({self.open_time})")

    @property
    def vwap(self) -> Decimal | None:
        """quote_volume / volume, to 28 digits; None without trades and on inverse markets."""
        return None if self.inverse or not self.volume else self.quote_volume / self.volume

    @property
    def is_complete(self) -> bool:
        """Every trade is proven to be in it."""
        return self.status in (BarStatus.COMPLETE, BarStatus.HEALED)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, in the order of BAR_FIELDS."""
        return {name: getattr(self, name) for name in BAR_FIELDS}

    def __repr__(self) -> str:
        def text(value: Decimal | None) -> str:
            return "-" if value is None else f"{value:f}"

        return (
            f"<OHLCVBar {self.symbol} {self.spec} {self.open_time:%Y-%m-%d %H:%M:%S}Z"
            f" O {text(self.open)} H {text(self.high)} L {text(self.low)} C {text(self.close)}"
            f" V {text(self.volume)} trades {self.trade_count} {self.status}"
            f"{f' rev {self.revision}' if self.revision else ''}>"
        )


# Rows of the kernel need no checks, and are made to objects by compiled code.
_MAKER = BarMaker(OHLCVBar, STATUSES, REASONS)
BAR_FIELDS = tuple(f.name for f in fields(OHLCVBar) if f.name != "inverse")


@dataclass(frozen=True, slots=True)
class ExchangeBar:
    """A bar as the exchange itself made it (a kline or candle message); it is never a tick.

    Fields as in OHLCVBar; `is_closed` is False while the exchange still updates it, `event_time_ns` says when
    the exchange sent it (ns since the epoch). What an exchange does not send is None, of these two as well.
    """

    symbol: str
    spec: str
    open_time: datetime
    close_time: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote_volume: Decimal | None
    trade_count: int | None
    taker_buy_volume: Decimal | None
    taker_buy_quote_volume: Decimal | None
    first_trade_id: int | None
    last_trade_id: int | None
    is_closed: bool | None
    event_time_ns: int | None


class BarBatch:  # not a Sequence: polars would take it for a list of objects, and pass its columns by
    """Issued bars as columns: what the kernel hands out; a sequence of OHLCVBar, made when asked for.

    Args:
        rows: structured array of `fastbars.rows.ROW_DTYPE`; prices and sums are mantissas at each row's scales.
        instruments: names the symbols.
        specs: the kernel's bar specs.
        ids: the exchange's trade ids prove completeness; else first_id and last_id count arrivals.
    """

    def __init__(
        self, rows: npt.NDArray[Any], instruments: Instruments, specs: Sequence[BarSpec], *, ids: bool
    ) -> None:
        self.rows = rows
        self.instruments = instruments
        self.specs = tuple(specs)
        self.ids = ids

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(map(str, self.specs))

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> OHLCVBar: ...
    @overload
    def __getitem__(self, index: slice) -> BarBatch: ...
    def __getitem__(self, index: int | slice) -> OHLCVBar | BarBatch:
        if isinstance(index, slice):
            return BarBatch(self.rows[index], self.instruments, self.specs, ids=self.ids)
        return self._make(self.rows[[index]])[0]

    def __iter__(self) -> Iterator[OHLCVBar]:
        return iter(self.to_bars())

    def __reversed__(self) -> Iterator[OHLCVBar]:
        return reversed(self.to_bars())

    def __contains__(self, bar: object) -> bool:
        return bar in self.to_bars()

    def index(self, bar: OHLCVBar) -> int:
        """The place of a bar. Raises ValueError where it is not among them."""
        return self.to_bars().index(bar)

    def to_bars(self) -> list[OHLCVBar]:
        """All bars as objects with Decimal fields."""
        return self._make(np.ascontiguousarray(self.rows))

    def _make(self, rows: npt.NDArray[Any]) -> list[OHLCVBar]:
        return _MAKER.make(rows, self.instruments, self._names, self.ids)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The bars as an Arrow table, for polars, pandas, pyarrow, DuckDB and others (needs the extra `arrow`).

        The columns are BAR_FIELDS: times as timestamps (ns, UTC), prices and sums as decimal128 of one scale a
        column, the largest that a bar has; first and last trade id are null where ids prove nothing.

        Raises:
            PrecisionError: a column needs more than 38 digits.
        """
        from fastbars.arrow import to_stream  # noqa: PLC0415 a sixth of the time that fastbars takes to import

        return to_stream(self.rows, self._texts, ids=self.ids, requested_schema=requested_schema)

    @property
    def _texts(self) -> dict[str, Sequence[str]]:
        return {
            "symbol": self.instruments.symbols,
            "spec": self._names,
            "status": STATUSES,
            "close_reason": REASONS,
        }

    def to_polars(self) -> Any:
        """A polars DataFrame (needs polars and the extra `arrow`)."""
        import polars  # noqa: PLC0415 only for those who have it

        return polars.DataFrame(self)

    def to_pandas(self) -> Any:
        """A pandas DataFrame with Arrow's types, decimals included (needs pandas, pyarrow and the extra `arrow`)."""
        import pandas  # noqa: PLC0415 likewise
        import pyarrow  # noqa: PLC0415

        return pyarrow.table(self).to_pandas(types_mapper=pandas.ArrowDtype)

    def to_numpy(self) -> dict[str, npt.NDArray[Any]]:
        """Columns by name: datetime64[ns] (UTC), float64, int64 (ids -1 where ids prove nothing), text.

        numpy has no decimals: prices and sums are the floats nearest to their exact values. `rows` holds these, as
        mantissas with their scales; so do the Arrow table and the bar objects.
        """
        from fastbars.arrow import COLUMNS  # noqa: PLC0415 likewise

        columns: dict[str, npt.NDArray[Any]] = {}
        for name, (source, scale_field) in COLUMNS.items():
            values = self.rows[source]
            if name in self._texts:
                columns[name] = np.array(self._texts[name] or ("",), dtype=np.str_)[values]
            elif scale_field:
                columns[name] = _floats(values, self.rows[scale_field])
            elif name.endswith("time"):
                columns[name] = values.astype("datetime64[ns]")
            elif name.endswith("_id") and not self.ids:
                columns[name] = np.full(len(values), -1, np.int64)
            else:
                columns[name] = np.ascontiguousarray(values)
        return columns

    def merge(self, other: BarBatch) -> BarBatch:
        """Merge summaries of disjoint sets of trades: bars of equal symbol, spec and open time become one.

        Bars that only one side has are kept; the order is that of `self`, then of `other`. A merged bar has
        the worse of both statuses: what a status proves, only the ledger knows. Time bars only.

        Raises:
            ValueError: the batches differ in instruments, specs or ids, or hold bars that depend on the path,
                or one bar twice.
            PrecisionError: a merged sum does not fit 128 bits.
        """
        if self.instruments is not other.instruments or self.specs != other.specs or self.ids != other.ids:
            raise ValueError("bars merge where instruments, specs and ids are the same")
        mine, others = self._places(), other._places()
        shared = [key for key in mine if key in others]
        rows = self.rows.copy()
        at = [mine[key] for key in shared]
        rows[at] = merge_rows(rows[at], other.rows[[others[key] for key in shared]], self.ids)
        rest = [place for key, place in others.items() if key not in mine]
        return BarBatch(np.concatenate([rows, other.rows[rest]]), self.instruments, self.specs, ids=self.ids)

    def _places(self) -> dict[tuple[int, int, int], int]:
        keys = self.rows[["symbol_id", "spec", "open_time"]].tolist()
        places = {key: place for place, key in enumerate(keys)}
        if len(places) != len(keys):
            raise ValueError("a bar stands twice in the batch: keep its last revision only")
        if any(self.specs[spec].kind is not BarKind.TIME for _, spec, _ in keys):
            raise ValueError("tick, volume and value bars depend on the path and do not merge")
        return places


def _floats(mantissas: npt.NDArray[Any], scales: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
    # A float divided by a float is the nearest one where both are exact: below 2**53, and up to 10**22.
    split = mantissas.dtype.names is not None
    low, high = (mantissas["lo"], mantissas["hi"]) if split else (mantissas, mantissas >> 63)
    exact = (high == 0) & (low < 2**53) & (scales <= 22)
    floats = low.astype(np.float64) / 10.0 ** np.minimum(scales, 22)
    for place in np.flatnonzero(~exact).tolist():
        whole = (int(high[place]) << 64) + int(low[place]) if split else int(low[place])
        floats[place] = whole / 10 ** int(scales[place])
    return floats


BarCallback = Callable[[OHLCVBar], object]
