"""Silence: learns how often data comes, and finds what has stopped coming while the socket is open.

Each symbol's rate is learned from when its trades come, and the whole connection's from when any data comes. A
symbol that trades once an hour may be silent for hours; one that trades every second may not. The rates of symbols are
the exchange's, whichever connection brings them: all watchdogs of a session learn and use the same ones.

    heard -> silent for its limit -> RENEWED -> silent for twice that -> RECONNECTED -> left alone, until it is heard
      ^                                  |                                   |
      +----------------------------------+-----------------------------------+  a trade

What has never been heard since it was subscribed to has no rate: see `never_heard.py`. `watchdog.py` acts on silence.

Times of last trades are compared once in a while, so it costs nothing a trade. Units: seconds on a steady clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_ENOUGH = 10  # gaps seen before a rate counts as known
_WEIGHT = 0.1  # of the latest gap in the mean
_LONGEST = 3.0  # so many times the longest gap seen is silence, where the mean says less
_FORGET = 0.999  # what is left of the longest gap with each one after it
_CONNECTION = 0  # its row among what one connection watches; a symbol's is its id + 1
_RENEWED, _RECONNECTED = 1, 2  # the last action on a silent symbol; 0: none


class Found(NamedTuple):
    """Result of one check: what is silent.

    Attributes:
        everything_s: for how long nothing at all came, s; None where something did.
        symbols: ids of silent symbols, to be subscribed again.
        again: ids of those that are still silent after that.
    """

    everything_s: float | None
    symbols: list[int]
    again: list[int]


class Rates:
    """How often something comes, learned from a number of each that changes whenever it does.

    Args:
        least_s: shorter than this is never silence.
        factor: as many times the mean gap is silence.
    """

    def __init__(self, least_s: float, factor: float) -> None:
        self.least_s = least_s
        self.factor = factor
        self._marks: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._heard_s = np.zeros(0)  # when the mark last changed; NaN: the next gap is not learned
        self._mean_s = np.zeros(0)
        self._longest_s = np.zeros(0)
        self._gaps = np.zeros(0, np.int64)

    def learn(self, now_s: float, marks: npt.NDArray[np.int64]) -> None:
        """Compare the marks, by row, with those of the last time."""
        self._grow(len(marks))
        moved = marks != self._marks
        gaps = now_s - self._heard_s
        learned = moved & ~np.isnan(gaps)
        first = learned & (self._gaps == 0)
        # A gap that counted as silence is learned only up to the limit, or the next silence would go unnoticed.
        known = self.known
        gaps[known] = np.minimum(gaps, self.limit_s)[known]
        self._mean_s[first] = gaps[first]
        self._mean_s[learned] += _WEIGHT * (gaps[learned] - self._mean_s[learned])
        self._longest_s[learned] = np.maximum(_FORGET * self._longest_s[learned], gaps[learned])
        self._gaps[learned] += 1
        self._heard_s[moved] = now_s
        self._marks = marks.copy()

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Whether enough gaps were seen, by row."""
        return self._gaps >= _ENOUGH

    @property
    def limit_s(self) -> npt.NDArray[np.float64]:
        """How long nothing may come, by row."""
        return np.maximum(self.least_s, np.maximum(self.factor * self._mean_s, _LONGEST * self._longest_s))

    def pause(self, rows: Sequence[int] | None = None) -> None:
        """Nothing was read: no gap of these rows that lasts until now is learned; None: of any row."""
        if rows is None:
            self._heard_s[:] = np.nan
        else:
            self._heard_s[[row for row in rows if row < len(self._heard_s)]] = np.nan

    def forget(self) -> None:
        """Learn everything anew, before it counts."""
        self._gaps[:] = 0
        self._longest_s[:] = 0.0

    def _grow(self, size: int) -> None:
        more = size - len(self._marks)
        if more > 0:
            self._marks = np.concatenate((self._marks, np.zeros(more, np.int64)))
            self._heard_s = np.concatenate((self._heard_s, np.full(more, np.nan)))
            self._mean_s = np.concatenate((self._mean_s, np.zeros(more)))
            self._longest_s = np.concatenate((self._longest_s, np.zeros(more)))
            self._gaps = np.concatenate((self._gaps, np.zeros(more, np.int64)))


class Silence:
    """Finds what one connection carries and has fallen silent, and the connection itself where nothing comes.

    Args:
        rates: of the symbols, by id.
    """

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self._own = Rates(rates.least_s, rates.factor)  # of the connection
        self._marks: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._since_s = np.zeros(0)  # when silence began to count: at the last trade, or the last action
        self._stage = np.zeros(0, np.int64)
        self._watched: frozenset[int] = frozenset()

    def restart(self, now_s: float, watched: Sequence[int] | None = None) -> None:
        """Nothing was read until now: no silence before now counts, and no gap is learned from it.

        Args:
            watched: ids of the symbols of which nothing was read; None: of any.
        """
        self._since_s[:] = now_s
        self._own.pause()
        self._rates.pause(watched)

    def find_silent(
        self, now_s: float, messages: int, trade_times_ns: npt.NDArray[np.int64], watched: Sequence[int]
    ) -> Found:
        """Find what has been silent for too long.

        Args:
            messages: how many came on the connection so far.
            trade_times_ns: time of the latest trade of each symbol, by id.
            watched: ids of the symbols that are subscribed.
        """
        added = [each for each in watched if each not in self._watched]
        self._watched = frozenset(watched)
        self._rates.pause(added)  # nobody was to hear of these
        self._rates.learn(now_s, trade_times_ns)
        self._own.learn(now_s, np.array([messages]))
        marks = np.concatenate(([messages], trade_times_ns))
        self._grow(len(marks), now_s)
        moved = marks != self._marks
        self._since_s[moved] = now_s
        self._since_s[np.array(added, np.int64) + 1] = now_s
        self._stage[moved] = 0
        self._marks = marks
        limit_s = np.concatenate((self._own.limit_s, self._rates.limit_s)) * 2.0 ** np.minimum(self._stage, 8)
        known = np.concatenate((self._own.known, self._rates.known))
        silent = known & (now_s - self._since_s > limit_s)
        if silent[_CONNECTION]:
            silent_s = float(now_s - self._since_s[_CONNECTION])
            self._stage[_CONNECTION] += 1  # the next time it takes longer
            return Found(silent_s, [], [])
        rows = np.asarray(watched, np.int64) + 1
        rows = rows[silent[rows] & (self._stage[rows] < _RECONNECTED)]
        self._since_s[rows] = now_s
        self._stage[rows] += 1
        again = rows[self._stage[rows] == _RECONNECTED]
        return Found(None, (rows[self._stage[rows] == _RENEWED] - 1).tolist(), (again - 1).tolist())

    def forget_connection(self) -> None:
        """Less comes over the connection from here on: learn anew how often anything does, before it counts."""
        self._own.forget()

    def is_judged(self, symbol_id: int) -> bool:
        """Whether the rate of a symbol is known, and an action on its silence is left to take."""
        row = symbol_id + 1
        return row < len(self._stage) and bool(self._rates.known[symbol_id] and self._stage[row] < _RECONNECTED)

    def _grow(self, size: int, now_s: float) -> None:
        more = size - len(self._marks)
        if more > 0:
            self._marks = np.concatenate((self._marks, np.zeros(more, np.int64)))
            self._since_s = np.concatenate((self._since_s, np.full(more, now_s)))
            self._stage = np.concatenate((self._stage, np.zeros(more, np.int64)))
