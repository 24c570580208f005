"""StoredBars: bars of a sink that can be read, for the page: the latest of a series, without reading all of it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from threading import Lock

from fastbars.bars import OHLCVBar
from fastbars.clocks import steady_s
from fastbars.service.held import Series, sorted_bars
from fastbars.sinks.listing import Extent, Listing, SeriesKey
from fastbars.sinks.reading import read
from fastbars.specs import BarSpec

__all__ = ["StoredBars"]

_LIST_S = 10.0  # what is written meanwhile is listed so much later
_SPARE = 1.5  # more than the mean says, as bars are not spread evenly
_WIDER = 4


class StoredBars:
    """Reads bars of one sink.

    Args:
        source: "parquet:DIR", "duckdb:FILE", "jsonl:FILE" or "csv:FILE".

    Raises:
        SinkRefused: no URL of a sink that can be read.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._listing = Listing(source)
        self._listed: dict[SeriesKey, Extent] = {}
        self._listed_s: float | None = None
        self._lock = Lock()

    def series(self) -> Iterable[Series]:
        """Those with bars. Raises SinkError."""
        return [Series(*key) for key in self._extents()]

    def bars(self, series: Series, since: datetime | None, until: datetime | None, limit: int) -> list[OHLCVBar]:
        """The latest that open from `since` on and before `until`, in order. Raises SinkError, ValueError."""
        extent = self._extents().get(series)
        if extent is None:
            return []
        anchor = BarSpec.parse(series.spec).anchor
        first = (
            extent.first if since is None else max(extent.first, since if anchor is None else anchor.begin_of(since))
        )
        # New ones may have come since it was listed.
        end = until or extent.last + timedelta(days=3_650)
        span = (extent.last - extent.first) / max(extent.rows, 1) * limit * _SPARE + timedelta(seconds=1)
        begin = min(end, extent.last) - span
        while True:
            found = read(
                self._source, [series.symbol], [series.spec], exchange=series.exchange, market=series.market,
                since=max(begin, first), until=end,
            )  # fmt: skip
            if len(found) >= limit or begin <= first:
                return sorted_bars(found, since, until, limit)
            span *= _WIDER
            begin -= span

    def _extents(self) -> dict[SeriesKey, Extent]:
        with self._lock:
            if self._listed_s is None or steady_s() - self._listed_s > _LIST_S:
                self._listed, self._listed_s = self._listing.refresh(), steady_s()
            return self._listed
