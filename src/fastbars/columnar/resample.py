"""`fastbars.resample`: larger bars of smaller ones, from wherever these are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from fastbars.bars import OHLCVBar
from fastbars.columnar.bar_batch import BarBatch
from fastbars.specs import BarSpec, Origin

__all__ = ["resample"]


def resample(
    bars: BarBatch | Iterable[OHLCVBar] | str | os.PathLike[str],
    to: str | int | BarSpec | Sequence[str | int | BarSpec],
    *,
    timezone: str | None = None,
    origin: Origin | None = None,
) -> BarBatch:
    """Make larger bars of smaller ones: exact, with the worst status of their parts.

    Args:
        bars: a BarBatch, bar objects of one market, or a Parquet file or folder (see `BarBatch.from_parquet`).
        to: specs of the larger bars, such as "1h" or "1h,1d".
        timezone, origin: of day and longer bars that do not name their own.

    Returns:
        BarBatch, in order of close time (see `BarBatch.resample`).

    Raises:
        SpecError: a spec depends on the path, or no bars fit into it. PrecisionError: a sum does not fit 128 bits.
        ValueError: a bar does not cover an interval of its spec, or bars are of several markets.
        TapeError, OSError: the files cannot be read.
    """
    if isinstance(bars, str | os.PathLike):
        batch = BarBatch.from_parquet(bars)
    else:
        batch = bars if isinstance(bars, BarBatch) else BarBatch.from_bars(bars)
    return batch.resample(to, timezone=timezone, origin=origin)
