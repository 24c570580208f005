"""CandleBars: the bars that an exchange's candles make, where trades do not.

Units: int64 nanoseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple, Protocol

from fastbars.bars import ExchangeBar, OHLCVBar
from fastbars.exchanges.candles import grid_of
from fastbars.live.past.candles import PastCandles
from fastbars.live.past.reports import candles_for, reported_bars
from fastbars.live.reissues import contradicts
from fastbars.specs import BarSpec
from fastbars.ticks import to_nanoseconds

MOST_CANDLES = 2_000  # of a request; of one bar, likewise


class CandleSource(Protocol):
    """Has the exchange's candles: a `CandleClient`."""

    async def past(self, symbol: str, spec: str, since_ns: int, until_ns: int) -> PastCandles:
        """The closed candles of a span. Raises RestError, SpecError."""


class NoBar(NamedTuple):
    """Why a candle makes no bar.

    Attributes:
        why: for users.
        tries: how often it is worth asking again.
    """

    why: str
    tries: int


class CandleBars:
    """Makes REPORTED bars of candles.

    Args:
        source: has the candles; None: nothing, and `why_none` says why.
        intervals: the specs of the candles, as `CandleHistory` has them.
        is_sampled: bars are made of samples, which candles need not contain.
        is_inverse: symbol -> whether its volume counts contracts.
        settles_s: how long after its end a candle may lack its last trades.
    """

    def __init__(
        self,
        source: CandleSource | None,
        intervals: Mapping[str, str],
        *,
        why_none: str = "the exchange serves no candles over REST",
        is_sampled: bool = False,
        is_inverse: Callable[[str], bool] = lambda _: False,
        settles_s: float = 0.0,
    ) -> None:
        self.settles_s = settles_s
        self._source = source
        self._intervals = intervals
        self._why_none = why_none
        self._is_sampled = is_sampled
        self._is_inverse = is_inverse
        self._asked_specs: dict[str, tuple[str | None, str]] = {}

    def asked_spec(self, spec: str) -> tuple[str | None, str]:
        """The spec of the candles of which bars of `spec` are made; or None, and why there are none."""
        known = self._asked_specs.get(spec)
        if known is None:
            known = self._asked_specs[spec] = self._find_spec(spec)
        return known

    def is_one_request(self, spec: str, since_ns: int, until_ns: int) -> bool:
        """Whether the candles of a span are few enough to be asked for at once."""
        return grid_of(spec).count(since_ns, until_ns) <= MOST_CANDLES

    async def past(self, symbol: str, spec: str, since_ns: int, until_ns: int) -> PastCandles:
        """The closed candles of a span, of an `asked_spec`. Raises RestError, SpecError."""
        assert self._source is not None
        return await self._source.past(symbol, spec, since_ns, until_ns)

    def bar_of(
        self, past: PastCandles, found: OHLCVBar | None, made: OHLCVBar, revision: int, late_tries: int
    ) -> OHLCVBar | NoBar:
        """The REPORTED bar in place of one that lacks trades.

        Args:
            past: the answer.
            found: that of its `bars` with the open time of `made`, if any.
            made: what trades make of it.
            revision: of the new one.
            late_tries: how often it is worth asking again for a candle that may not be finished.
        """
        if to_nanoseconds(made.open_time) < past.since_ns:
            return NoBar("the exchange's candles do not reach so far back", 0)
        if to_nanoseconds(made.close_time) > past.until_ns:
            return NoBar("the exchange has not finished its candle", 2 * late_tries)
        if found is None and made.high is None:
            return NoBar("the exchange has no trades in it", late_tries)
        if found is None:
            return NoBar("the exchange has no candle of it, though trades were received", late_tries)
        why = self.contradicts(found, made)
        return NoBar(why, late_tries) if why else replace(found, revision=revision)

    def bars(self, symbol: str, spec: str, candles: Sequence[ExchangeBar]) -> dict[datetime, OHLCVBar]:
        """The REPORTED bars that candles make, by their open times. Raises ValueError: a candle contradicts itself."""
        made = reported_bars(candles, BarSpec.parse(spec), inverse=self._is_inverse(symbol))
        return {bar.open_time: bar for bar in made}

    def contradicts(self, candle: OHLCVBar, made: OHLCVBar) -> str:
        """Why a candle cannot be of all trades of a bar that lacks some; "" if it can."""
        return "" if self._is_sampled else contradicts(candle, made)

    def _find_spec(self, spec: str) -> tuple[str | None, str]:
        if self._source is None:
            return None, self._why_none
        part = candles_for(self._intervals, BarSpec.parse(spec))
        return part, "" if part is not None else f"the exchange serves no candles of which bars of {spec} can be made"
