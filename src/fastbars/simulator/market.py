"""A synthetic market: trades that look like an exchange's, the same for the same seed.

No clock, no socket: `advance(now_ms)` returns the trades until then. Takers come in bursts, at exponential intervals
whose rate switches between a calm and a busy regime. A burst hits one symbol, from one side, in one millisecond, and
walks the price tick by tick, as a market order does that takes several resting orders.

The market depends only on the seed, the symbols, the rates and the start time, not on how often `advance` is called.

Some exchanges use up ids without a trade: such a void id is a trade without price and size. They come at separate
exponential intervals, and change nothing about the trades but their ids.

Units: times in ms since the Unix epoch, prices in ticks, sizes in steps (see `instruments`).
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Iterator, Sequence
from itertools import accumulate
from random import Random
from typing import NamedTuple

from fastbars.simulator.instruments import SimulatedInstrument

__all__ = ["AggregateTrade", "Book", "SimulatedMarket", "SimulatedTrade", "merge_runs"]

_SIZE_SPREAD = 1.4  # sigma of the logarithm of a size; a few trades are 100 times the typical one
_SIZE_TABLE = 4096
_REGIMES = (0.6, 1.4)  # x rate, calm and busy; the mean is the rate
_REGIME_MS = 250.0
_WALK_LIMIT = 0.3  # of the start price; beyond it takers turn around


class SimulatedTrade(NamedTuple):
    """One trade; the symbol is given by its place in the list of instruments. Size 0: a void id."""

    instrument: int
    trade_id: int
    time_ms: int
    price_ticks: int
    size_steps: int
    buyer_is_maker: bool


class AggregateTrade(NamedTuple):
    """Consecutive trades of one symbol in one ms, at one price, from one side."""

    instrument: int
    first_id: int
    last_id: int
    time_ms: int
    price_ticks: int
    size_steps: int
    buyer_is_maker: bool
    aggregate_id: int = 0


def merge_runs(trades: Sequence[SimulatedTrade]) -> Iterator[AggregateTrade]:
    """Merge the runs of equal symbol, ms, price and side in a batch of whole milliseconds, without void ids."""
    run: AggregateTrade | None = None
    for trade in trades:
        if (
            run is not None
            and run.instrument == trade.instrument
            and run.time_ms == trade.time_ms
            and run.price_ticks == trade.price_ticks
            and run.buyer_is_maker == trade.buyer_is_maker
        ):
            run = run._replace(last_id=trade.trade_id, size_steps=run.size_steps + trade.size_steps)
            continue
        if run is not None:
            yield run
        run = AggregateTrade(
            trade.instrument,
            trade.trade_id,
            trade.trade_id,
            trade.time_ms,
            trade.price_ticks,
            trade.size_steps,
            trade.buyer_is_maker,
        )
    if run is not None:
        yield run


class Book:
    """Best bid and ask of one symbol.

    Attributes:
        bid_ticks, ask_ticks: prices.
        bid_steps, ask_steps: sizes.
        update_id: grows with each change.
        next_trade_id: id of the symbol's next trade.
    """

    __slots__ = ("ask_steps", "bid_steps", "bid_ticks", "next_trade_id", "update_id")

    def __init__(self, bid_ticks: int, steps: int, update_id: int, next_trade_id: int) -> None:
        self.bid_ticks = bid_ticks
        self.bid_steps = steps
        self.ask_steps = steps
        self.update_id = update_id
        self.next_trade_id = next_trade_id

    @property
    def ask_ticks(self) -> int:
        """The spread is one tick, always."""
        return self.bid_ticks + 1


class SimulatedMarket:
    """All symbols of one simulated exchange.

    Args:
        instruments: those traded, the busiest first.
        rate: mean trades per second over all symbols; 0: no trades.
        seed: same seed, same market.
        start_ms: the market opens here; the first trade has this time or a later one.
        voids_per_minute: void ids of the busiest symbol; the others have fewer, in proportion to their trades.

    Attributes:
        books: best bid and ask of each symbol, as of the last `advance`.
        silent: places of symbols that do not trade now; what would have been traded of them is not.
    """

    def __init__(
        self,
        instruments: Sequence[SimulatedInstrument],
        rate: float,
        seed: int,
        start_ms: int,
        voids_per_minute: float = 0.0,
    ) -> None:
        if not (rate >= 0 and math.isfinite(rate)):
            raise ValueError(f"simulator: rate is {rate!r}; it must be zero or more trades per second")
        self.silent: set[int] = set()
        self._random = Random(seed)
        self._instruments = list(instruments)
        self.books = [
            Book(
                bid_ticks=instrument.start_ticks,
                steps=instrument.typical_steps * 10,
                update_id=self._random.randrange(10**10, 5 * 10**10),
                next_trade_id=self._random.randrange(10**8, 4 * 10**9),
            )
            for instrument in self._instruments
        ]
        self._sizes = [math.exp(self._random.gauss(0.0, _SIZE_SPREAD)) for _ in range(_SIZE_TABLE)]
        # the n-th symbol gets 1 / n**0.7 of the first one's bursts: few busy symbols, a long quiet tail
        self._weights = list(accumulate((n + 1) ** -0.7 for n in range(len(self._instruments))))
        # lengths of bursts: mostly a few trades, one in 50 sweeps the book
        self._lengths = [1] * 50 + [2] * 22 + [3] * 12 + [5] * 8 + [8] * 6 + [30] * 2
        mean_length = sum(self._lengths) / len(self._lengths)
        self._bursts_per_ms = rate / 1000 / mean_length
        self._busy = False
        self._regime_end_ms = float(start_ms)
        self._next_burst_ms = float(start_ms)
        if rate:
            self._schedule_burst()
        self._void_random = Random(-seed - 1)
        self._voids_per_ms = voids_per_minute / 60_000 * self._weights[-1] / self._weights[0] if self._weights else 0.0
        self._next_void_ms = math.inf
        if rate and self._voids_per_ms:
            self._next_void_ms = start_ms + self._void_random.expovariate(self._voids_per_ms)

    def advance(self, now_ms: int) -> list[SimulatedTrade]:
        """Return the trades from the last call's time until before `now_ms`, in the order they happened.

        A millisecond is returned whole or not at all. An earlier `now_ms` than the last one returns nothing.
        """
        trades: list[SimulatedTrade] = []
        if not self._bursts_per_ms:
            return trades
        while self._next_burst_ms < now_ms:
            self._use_ids_up(int(self._next_burst_ms), trades)
            self._burst(int(self._next_burst_ms), trades)
            self._schedule_burst()
        self._use_ids_up(now_ms, trades)
        return trades

    def _use_ids_up(self, until_ms: int, trades: list[SimulatedTrade]) -> None:
        while self._next_void_ms < until_ms:
            index = min(bisect(self._weights, self._void_random.random() * self._weights[-1]), len(self._weights) - 1)
            book = self.books[index]
            if index not in self.silent:
                at_ms = int(self._next_void_ms)
                trades.append(SimulatedTrade(index, book.next_trade_id, at_ms, 0, 0, buyer_is_maker=True))
                book.next_trade_id += 1
            self._next_void_ms += self._void_random.expovariate(self._voids_per_ms)

    def _schedule_burst(self) -> None:
        while True:
            regime = _REGIMES[self._busy]
            next_ms = self._next_burst_ms + self._random.expovariate(self._bursts_per_ms * regime)
            if next_ms <= self._regime_end_ms:
                self._next_burst_ms = next_ms
                return
            # exponential intervals are memoryless: continue from the end of the regime at the new rate
            self._next_burst_ms = self._regime_end_ms
            self._busy = not self._busy
            self._regime_end_ms += self._random.expovariate(1 / _REGIME_MS)

    def _burst(self, time_ms: int, trades: list[SimulatedTrade]) -> None:
        random = self._random.random
        index = min(bisect(self._weights, random() * self._weights[-1]), len(self._weights) - 1)
        if index in self.silent:
            return
        instrument, book = self._instruments[index], self.books[index]
        length = self._lengths[int(random() * len(self._lengths))]
        # pull the price back: the further it has walked, the likelier a taker on the other side
        walked = (book.bid_ticks - instrument.start_ticks) / (instrument.start_ticks * _WALK_LIMIT)
        taker_sells = random() < 0.5 + 0.5 * walked
        price = book.bid_ticks if taker_sells else book.ask_ticks
        step = -1 if taker_sells else 1
        widest_gap = instrument.start_ticks // 50_000  # between resting orders, in ticks; about 0.2 bp
        trade_id, typical, sizes = book.next_trade_id, instrument.typical_steps, self._sizes
        for _ in range(length):
            dice = random()
            size = int(typical * sizes[int(dice * _SIZE_TABLE)]) or 1
            trades.append(SimulatedTrade(index, trade_id, time_ms, price, size, taker_sells))
            trade_id += 1
            if dice * 64 % 1 < 0.3:
                price = max(price + step * (1 + int(random() * widest_gap)), 2)
        book.next_trade_id = trade_id
        book.bid_ticks = price if taker_sells else price - 1
        book.update_id += length
        book.bid_steps = int(typical * 10 * sizes[int(random() * _SIZE_TABLE)]) or 1
        book.ask_steps = int(typical * 10 * sizes[int(random() * _SIZE_TABLE)]) or 1
