"""The fields of a bar: where each stands in a row of the kernel, and what its values are.

Whatever shows bars follows this table: objects, columns of numpy, pandas and Arrow, CSV and JSON. The order in which
users see the fields, their defaults and what they mean stand in `fastbars.bars.OHLCVBar`. Exchange and market are the
same in all rows of a batch, and so in none of them: they stand in its `Instruments`.

Units: times int64 ns since the epoch, UTC; prices and sums are mantissas at the scales of their row.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastbars.kernel.limits import NO_SUM, REPORTED_STATUS

NO_PRICE = np.iinfo(np.int64).min
"""In the column "high" of a bar without prices."""
NO_ID = NO_PRICE
"""Instead of an id that a bar with trades lacks."""
NO_TIME = NO_PRICE
"""In the column "last_trade_time" where the times of the first and the last trade are not known, or there are none."""

Mask = npt.NDArray[np.bool_]


class FieldKind(IntEnum):
    """What the values of a field are; each kind is read, converted and left out in one way."""

    NAME = 0  # a number that stands for a text
    TIME = 1  # ns since the epoch
    PRICE = 2  # at price_scale; none where an interval without trades may lack some
    SIZE = 3  # at size_scale; not known where a REPORTED bar lacks it
    QUOTE = 4  # at quote_scale; likewise
    ID = 5  # of a trade; none where ids prove nothing, or nothing was traded
    COUNT = 6
    KNOWN = 7  # a count that may not be known: then it is negative
    MOMENT = 8  # of a trade, ns since the epoch; none without trades, and where it is not known
    LARGEST = 9  # size of a trade at size_scale; 0: none without trades, or not known


class Column(NamedTuple):
    """A member of the C structure Row (`kernel/rows.pxd`).

    Attributes:
        name: in `ROW_DTYPE`.
        dtype: numpy's.
        field: the attribute of a bar that it is; empty: none.
        kind: of its values; None where it is no attribute.
    """

    name: str
    dtype: Any
    field: str = ""
    kind: FieldKind | None = None

    @property
    def scale(self) -> str:
        """The column with the scale of its values; empty: they have none."""
        return _SCALES.get(self.kind, "")


_SCALES: dict[FieldKind | None, str] = {
    FieldKind.PRICE: "price_scale",
    FieldKind.SIZE: "size_scale",
    FieldKind.QUOTE: "quote_scale",
    FieldKind.LARGEST: "size_scale",
}
INT128 = np.dtype([("lo", np.uint64), ("hi", np.int64)])
# In the order of the C structure.
COLUMNS = (
    Column("last_time", np.int64),
    Column("last_id", np.int64, "last_trade_id", FieldKind.ID),
    Column("high", np.int64, "high", FieldKind.PRICE),
    Column("low", np.int64, "low", FieldKind.PRICE),
    Column("close", np.int64, "close", FieldKind.PRICE),
    Column("largest", np.int64, "largest_trade", FieldKind.LARGEST),
    Column("volume", INT128, "volume", FieldKind.SIZE),
    Column("quote_volume", INT128, "quote_volume", FieldKind.QUOTE),
    Column("taker_volume", INT128, "taker_buy_volume", FieldKind.SIZE),
    Column("taker_quote_volume", INT128, "taker_buy_quote_volume", FieldKind.QUOTE),
    Column("sell_count", np.int64, "sell_count", FieldKind.KNOWN),
    Column("count", np.int64, "trade_count", FieldKind.KNOWN),
    Column("buy_count", np.int64, "buy_count", FieldKind.KNOWN),
    Column("last_trade_time", np.int64, "last_trade_time", FieldKind.MOMENT),
    Column("open_time", np.int64, "open_time", FieldKind.TIME),
    Column("close_time", np.int64, "close_time", FieldKind.TIME),
    Column("first_time", np.int64, "first_trade_time", FieldKind.MOMENT),
    Column("first_id", np.int64, "first_trade_id", FieldKind.ID),
    Column("open", np.int64, "open", FieldKind.PRICE),
    # Behind the summary: how the bar was issued.
    Column("row", np.int64),
    Column("missing", np.int64, "missing_count", FieldKind.KNOWN),
    Column("symbol_id", np.int32, "symbol", FieldKind.NAME),
    Column("spec", np.int32, "spec", FieldKind.NAME),
    Column("revision", np.int32, "revision", FieldKind.COUNT),
    Column("unpublished", np.int32, "unpublished_count", FieldKind.KNOWN),
    Column("inside", np.int32),
    Column("index", np.int32, "index", FieldKind.KNOWN),
    Column("status", np.uint8, "status", FieldKind.NAME),
    Column("reason", np.uint8, "close_reason", FieldKind.NAME),
    Column("price_scale", np.int8),
    Column("size_scale", np.int8),
    Column("quote_scale", np.int8),
)
FIELDS = {column.field: column for column in COLUMNS if column.field}
"""The column of each attribute of a bar that stands in a row."""
IDENTITY = ("exchange", "market")
"""The attributes of a bar that are the same for all rows of a batch: those of its instruments, by the same names."""


def _row_dtype() -> np.dtype[Any]:
    members = [(column.name, column.dtype) for column in COLUMNS]
    unused = -np.dtype(members).itemsize % np.dtype(np.int64).itemsize
    return np.dtype([*members, ("", np.void, unused)] if unused else members)


ROW_DTYPE = _row_dtype()
"""One issued bar: times and ids int64, prices int64 mantissas, sums 128 bits as (lo, hi), and its scales."""


LEVEL_DTYPE = np.dtype([("number", np.int64), ("sold", INT128), ("unknown", INT128), ("bought", INT128)])
"""One price level of an issued bar: its number, from 0 up by the step, and the volumes of each side."""
SHOWN_DTYPE = np.dtype(
    [
        ("first", np.int64), ("count", np.int64), ("delta", INT128), ("highest", INT128), ("lowest", INT128),
        ("squares", np.uint32, 8), ("unordered", np.uint8), ("", np.void, 7),
    ]
)  # fmt: skip
"""What is inside an issued bar: where its levels lie, and its flow."""


def known_values(rows: npt.NDArray[Any], column: Column, ids: bool) -> Mask | None:
    """Which rows have a value in a column; None: all of them.

    Args:
        rows: of ROW_DTYPE.
        column: of COLUMNS.
        ids: the ids are the exchange's; else they count arrivals.
    """
    if column.kind is FieldKind.PRICE:
        return np.asarray(rows["high"] != NO_PRICE)
    if column.kind is FieldKind.ID:
        return np.asarray((rows["count"] != 0) & (rows[column.name] != NO_ID) & ids)
    if column.kind is FieldKind.MOMENT:
        return np.asarray(rows["last_trade_time"] != NO_TIME)
    if column.kind is FieldKind.LARGEST:
        return np.asarray(rows[column.name] != 0)
    if column.dtype is INT128:
        sums = rows[column.name]
        return np.asarray((sums["hi"] != NO_SUM) | (sums["lo"] != 0) | (rows["status"] != REPORTED_STATUS))
    return np.asarray(rows[column.name] >= 0) if column.kind is FieldKind.KNOWN else None
