from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from fastbars.kernel.instruments import Instruments
from fastbars.times import TimeUnit

@disjoint_base
class TickBatch:
    """Trades as columns; grows by `append`, or wraps arrays by `from_columns`.

    Args:
        instruments: gives ids and scales to the symbols.
        ids: the trades carry ids.
        counts: a row may stand for several trades (an aggregated trade).
        sequences: the exchange numbers its messages apart from the trades.
    """

    length: int
    instruments: Instruments
    def __init__(
        self, instruments: Instruments, ids: bool = True, counts: bool = False, sequences: bool = False
    ) -> None: ...
    @staticmethod
    def from_columns(instruments: Instruments, **columns: npt.ArrayLike | TimeUnit | None) -> TickBatch:
        """Wrap arrays, without a copy where dtype and layout allow (symbol_id and count are copied).

        Arrays that are changed before the batch is folded in change its rows; while it is folded in they must stay as
        they are: changed meanwhile, their rows can come out wrong, but no sum wraps and no other memory is touched.

        Args:
            instruments: knows every symbol id that occurs.
            columns: time_ns int64[n] ns since the epoch, or datetime64[n] of any unit and byte order (UTC), or times as
                objects; symbol_id int32[n], price and size int64[n] mantissas at the instrument's scales; optional:
                side int8[n] (1 the taker bought, -1 sold, 0 unknown) or bool[n] (true: the taker bought), first_id and
                last_id int64[n], count int64[n] trades a row (as many as ids by default), sequence int64[n]. And
                time_unit, "s", "ms", "us" or "ns": what integer times count; without it ns, and a column that looks
                like another unit is refused.

        Raises:
            InvalidTickError: a column of another length, not one-dimensional, not of integers, or with
                values beyond its dtype; the message names the row.
            TypeError: a column is missing or unknown.
        """

    @staticmethod
    def noted(instruments: Instruments, columns: dict[str, npt.NDArray[Any]]) -> TickBatch:
        """`from_columns` of columns that are integers already, times in ns whatever they look like."""

    @staticmethod
    def wrap(instruments: Instruments, columns: dict[str, npt.NDArray[Any]]) -> TickBatch:
        """`from_columns` for instruments whose scales never widen: rows are not scanned for the bound of a widening."""

    def append(
        self,
        symbol: str,
        time_ns: datetime | np.datetime64 | int | np.integer[Any],
        price: str | bytes | int | Decimal,
        size: str | bytes | int | Decimal,
        side: int | bool | str = 0,
        first_id: int | None = None,
        last_id: int | None = None,
        count: int = 0,
        sequence: int | None = None,
        time_unit: TimeUnit | None = None,
    ) -> int:
        """Add one trade; the batch is unchanged if this raises.

        Args:
            symbol: becomes known to the instruments if it is new.
            time_ns: exchange time, ns since the epoch, or as `TickData` takes it.
            price: quote units, > 0; of instruments with `negative_prices` any.
            size: base units or contracts, > 0.
            side: 1 or True, the taker bought; -1 or False, the taker sold; 0 unknown; or "buy", "sell", "unknown".
            first_id: id of the first trade in this row; last_id of the last one, the same by default.
            count: trades in this row; last_id - first_id + 1 by default.
            sequence: the exchange's number of the message, `first_id` by default.
            time_unit: what an integer time counts; None: ns, and one that looks like another unit is refused.

        Raises:
            PrecisionError: price or size cannot be held exactly together with earlier ones of the symbol.
            InvalidTickError: price or size not positive, unknown side, no id where ids are kept.
            TypeError: a number is a float; OverflowError: an id or the time is beyond 64 bits.
        """

    def clear(self) -> None:
        """Forget the rows; the memory is kept for the next ones."""

    def without(self, row: int) -> TickBatch:
        """A copy that lacks one row."""

    def part(self, start: int, stop: int) -> TickBatch:
        """The rows start to stop (exclusive) as a batch of their own."""

    def scales(self, symbol: str) -> tuple[int, int]:
        """(price_scale, size_scale) that the rows of a symbol are written with.

        A trade that needs more decimals widens them here; those of the instruments follow when a buffer has taken it.
        Raises KeyError for an unknown symbol.
        """

    def column(self, name: str) -> npt.NDArray[Any] | None:
        """A read-only view of one column, int64[n] (symbol_id int32, side int8); None if not kept."""

    def __len__(self) -> int: ...
    def __reduce__(self) -> tuple[Any, ...]: ...

def side_sign(label: object, side: object) -> int:
    """1, -1 or 0: of text, a boolean (true: the taker bought) or an integer. Raises InvalidTickError for others."""
