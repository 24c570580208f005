"""The simulated exchange's candles over REST: those that ended, and the one in progress, made of its own trades.

They are merged from the candles of seconds that the market records, in plain `Decimal`, and so share no code with the
library's bars. What a dialect writes of them is its affair.

Units: times in ms since the Unix epoch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice

from fastbars.simulator.candles import Candle, interval_end_ms, interval_start_ms, merged
from fastbars.simulator.rest import RestFault, RestRefusedError, RestRequest, RestSimulator

__all__ = ["CandleArchive", "PastCandles", "SimulatedCandles"]

_LAG_MS = 1000
_MINUTE_MS = 60_000


class _Interval:
    # The candles of one symbol and interval that have trades, and how many seconds are in them.
    def __init__(self) -> None:
        self.candles: dict[int, Candle] = {}
        self.seconds = 0


class CandleArchive:
    """Candles of all symbols and intervals, as far as they have been asked for.

    Args:
        seconds_of: symbol -> open time -> the candle of each second with trades, in order.
    """

    def __init__(self, seconds_of: Callable[[str], Mapping[int, Candle]]) -> None:
        self._seconds_of = seconds_of
        self._intervals: dict[tuple[str, str], _Interval] = {}

    def candles(self, symbol: str, interval: str, until_ms: int) -> Mapping[int, Candle]:
        """Open time -> candle, of intervals with trades, with every second that ended until then; it never steps back.

        Raises:
            KeyError: no such symbol.
        """
        found = self._intervals.setdefault((symbol, interval), _Interval())
        for open_ms, second in islice(self._seconds_of(symbol).items(), found.seconds, None):
            if open_ms + 1000 > until_ms:
                break
            start_ms = interval_start_ms(interval, open_ms)
            whole = merged(found.candles.get(start_ms), second)
            assert whole is not None
            found.candles[start_ms] = whole
            found.seconds += 1
        return found.candles


class PastCandles:
    """The candles so far as one request sees them.

    Args:
        archive: has them.
        until_ms: as far as they are made: of the exchange's time, less its lag.
        fault: of this answer.
    """

    def __init__(self, archive: CandleArchive, until_ms: int, fault: RestFault) -> None:
        self.until_ms = until_ms
        self._archive = archive
        self._fault = fault

    def rows(self, symbol: str, interval: str, since_ms: int = 0, until_ms: int = 2**62) -> list[tuple[int, Candle]]:
        """(open time, candle) of the intervals that begin in a span, both ends inclusive; oldest first.

        Those without trades are flat, with the id -1. The last may be in progress, and one that ended within the lag
        lacks its last trades. There are none before the first trade.
        """
        candles = self._archive.candles(symbol, interval, self.until_ms)
        if not candles or self._fault.empty:
            return []
        last_ms = interval_start_ms(interval, max(self.until_ms - 1, 0))
        rows: list[tuple[int, Candle]] = []
        open_ms = next(iter(candles))
        candle = candles[open_ms]
        while open_ms <= last_ms:
            candle = candles.get(open_ms) or Candle.flat(candle.close)
            rows.append((open_ms, candle))
            open_ms = interval_end_ms(interval, open_ms)
        first = sum(1 for start_ms, _ in rows if start_ms < since_ms) - self._fault.overlap
        return [row for row in rows[max(first, 0) :] if row[0] <= until_ms]

    def is_closed(self, interval: str, open_ms: int) -> bool:
        """Whether an interval has ended, and the candle has all of its trades."""
        return interval_end_ms(interval, open_ms) <= self.until_ms


class SimulatedCandles(RestSimulator):
    """Candles over REST.

    Args:
        write: the exchange's own `Dialect.past_candles`.
        seconds_of: symbol -> open time -> the candle of each second with trades.
        now_ms: the exchange's clock.

    Attributes:
        lag_ms: how long after its time a trade is in the candles.
        most_per_minute: requests that are answered in any minute; others are refused with 429 and Retry-After. None:
            all are answered.
    """

    def __init__(
        self,
        write: Callable[[RestRequest, PastCandles], object | None],
        seconds_of: Callable[[str], Mapping[int, Candle]],
        now_ms: Callable[[], int],
    ) -> None:
        super().__init__()
        self.lag_ms = _LAG_MS
        self.most_per_minute: int | None = None
        self._write = write
        self._archive = CandleArchive(seconds_of)
        self._now_ms = now_ms
        self._answered: deque[int] = deque()  # when, in the last minute

    def find(self, request: RestRequest, fault: RestFault) -> object | None:
        now_ms = self._now_ms()
        answer = self._write(request, PastCandles(self._archive, now_ms - self.lag_ms, fault))
        if answer is None or self.most_per_minute is None:
            return answer
        while self._answered and self._answered[0] <= now_ms - _MINUTE_MS:
            self._answered.popleft()
        if len(self._answered) >= self.most_per_minute:
            # A ban ends when enough time has passed since the oldest request that counts.
            waits_s = (self._answered[0] + _MINUTE_MS - now_ms) / 1000
            raise RestRefusedError(429, {"code": -1003, "msg": "Too many requests."}, waits_s)
        self._answered.append(now_ms)
        return answer
