from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
from typing_extensions import disjoint_base

from fastbars._agg import BarKernel
from fastbars.bars import OHLCVBar
from fastbars.kernel.batch import TickBatch
from fastbars.ticks import TickData
from fastbars.times import TimeUnit

@disjoint_base
class TradeEntry:
    """The state behind a buffer's `add` and its like; the functions below are methods of BarBuffer.

    Args:
        kernel: folds the trades in.
        single: an empty batch of the kernel's instruments, for one trade at a time.
        grace_ns: how long the watermark waits behind close_time, ns; it may be set at any time.

    Attributes:
        rows_taken: rows folded in so far.
    """

    rows_taken: int
    grace_ns: int
    def __init__(self, kernel: BarKernel, single: TickBatch, grace_ns: int) -> None: ...

def add(
    buffer: Any,
    symbol: str,
    time_ns: datetime | np.datetime64 | int | np.integer[Any],
    price: str | bytes | int | Decimal,
    size: str | bytes | int | Decimal,
    side: str | int | bool = 0,
    trade_id: int | None = None,
    last_trade_id: int | None = None,
    trade_count: int = 0,
    time_unit: TimeUnit | None = None,
) -> list[OHLCVBar]:
    """Fold one trade in, straight from text: the fastest way for one trade at a time.

    Args:
        symbol: as the exchange writes it.
        time_ns: exchange time, ns since the epoch, or as `TickData` takes it.
        price: > 0, quote units; where the buffer takes `negative_prices`, any.
        size: > 0, base units or contracts.
        side: of the taker: "buy", "sell", "unknown", or 1, -1, 0, or True (it bought), False (it sold).
            Binance's `m` (`isBuyerMaker`) is true where the taker sold: give `not m`.
        trade_id: of the first trade, where the exchange numbers them.
        last_trade_id: of the last one of an aggregated trade; `trade_id` by default.
        trade_count: trades in it; last_trade_id - trade_id + 1 by default.
        time_unit: what an integer time counts: "s", "ms", "us" or "ns"; None: ns, and one that looks like another
            unit is refused.

    Returns:
        The bars that it closed or changed, mostly none; the list is the caller's.

    Raises:
        PrecisionError: it cannot be represented beside what its symbol has seen.
        InvalidTickError: price or size not positive, no id where ids are to prove completeness, unknown side.
        TypeError: a number is a float.
    """

def add_tick(buffer: Any, tick: TickData) -> list[OHLCVBar]:
    """Fold one trade in.

    Raises:
        PrecisionError: it cannot be represented beside what its symbol has seen.
        InvalidTickError: it has no id where ids are to prove completeness.
    """

def add_batch(buffer: Any, batch: TickBatch) -> list[OHLCVBar]:
    """Fold a batch in: all of it or, if this raises, nothing.

    Raises:
        PrecisionError, InvalidTickError: the message and `row` name the offending row.
    """

def add_live(buffer: Any, batch: TickBatch) -> list[OHLCVBar]:
    """Fold a batch in; a row that cannot be taken is refused alone, counted, and its bar flagged GAP."""

def advance_watermark(buffer: Any, event_time_ns: int) -> list[OHLCVBar]:
    """Event time has reached this on the connection: close time bars whose grace is over (PROVISIONAL)."""
