"""Hypothesis strategies: feeds of trades, well-behaved and not, and what else happens to a buffer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple, TypeVar

from hypothesis import strategies as st

from fastbars.bars import OHLCVBar
from fastbars.buffer import BarBuffer, Empty
from fastbars.id_policy import Ids
from fastbars.ticks import TickData
from oracle import Line, Oracle, Trade

T = TypeVar("T")

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

# About how long the intervals of a time bar are.
LENGTHS_NS = {
    "1s": SECOND,
    "5s": 5 * SECOND,
    "1m": MINUTE,
    "7m": 7 * MINUTE,
    "1h": HOUR,
    "4h": 4 * HOUR,
    "1d": DAY,
    "1w": 7 * DAY,
    "1mo": 30 * DAY,
    "3mo": 91 * DAY,
    "1y": 365 * DAY,
}
TIME_SPECS = tuple(LENGTHS_NS)
# Some divide each other, some do not, some do by chance of the calendar.
NESTED_SPECS = ("1s", "5s", "7s", "10s", "1m", "5m", "7m", "1h", "4h", "1d", "1w", "1mo", "3mo", "1y")
# Nested in 1h, over midnight, short, with seconds, and in a zone whose clock is changed.
SESSION_SPECS = (
    "session:09:00-16:00", "session:18:00-17:00", "session:00:00-00:01", "session:12:00:05-12:00:08",
    "session:09:30-16:00@America/New_York",
)  # fmt: skip
LENGTHS_NS |= dict(zip(SESSION_SPECS, (7 * HOUR, 23 * HOUR, MINUTE, 3 * SECOND, 7 * HOUR), strict=True))
LENGTHS_NS |= {"7s": 7 * SECOND, "10s": 10 * SECOND, "5m": 5 * MINUTE}
FEATURED_SPECS = (
    "1s+flow", "5s+flow+footprint:0.5", "1m+footprint:3", "tick:3+flow+footprint:0.07", "volume:50+footprint:1000",
    "renko:3+flow+footprint:0.7", "session:09:30-16:00@America/New_York+flow+footprint:1",
)  # fmt: skip
LENGTHS_NS |= {"1s+flow": SECOND, "5s+flow+footprint:0.5": 5 * SECOND, "1m+footprint:3": MINUTE}
PATH_SPECS = (
    "tick:1", "tick:3", "volume:0.5", "volume:50", "value:1000", "value:9000000000000000000", "range:300", "renko:10",
    "delta:100", "cusum:2.5",
)  # fmt: skip
SYMBOLS = ("A", "BB", "ÇC")
LONGEST_WAIT_S = 2**61 / 1e9  # 73 years, for BarBuffer: longer ones are taken for that long


class Watermark(NamedTuple):
    time_ns: int


class Clock(NamedTuple):
    time_ns: int
    feed_up: bool


class Flush(NamedTuple):
    symbol: str | None


class Heal(NamedTuple):
    """Trades of one symbol that REST returned."""

    trades: tuple[Trade, ...]


class Cover(NamedTuple):
    symbols: tuple[str, ...] | None
    from_ns: int


class Uncover(NamedTuple):
    symbols: tuple[str, ...] | None
    since_ns: int
    lost: bool


class Lose(NamedTuple):
    symbols: tuple[str, ...] | None
    since_ns: int
    until_ns: int
    trades: int


class Bridge(NamedTuple):
    symbols: tuple[str, ...] | None
    since_ns: int
    until_ns: int


class Refused(NamedTuple):
    symbol: str
    time_ns: int


Event = Trade | Watermark | Clock | Flush | Heal | Cover | Uncover | Lose | Bridge | Refused


class Scenario(NamedTuple):
    """A buffer's settings, and what happens to it; after event i in `cuts` the batch is handed over."""

    specs: tuple[str, ...]
    ids: Ids
    grace_s: float
    lateness_s: float
    events: tuple[Event, ...]
    cuts: frozenset[int] = frozenset()
    contract_sizes: tuple[tuple[str, Decimal], ...] = ()
    heal_horizon_s: float = 3600
    empty: Empty = "skip"
    negative_prices: bool = False
    covers_itself: bool = True


# Prices and sizes in units of the last place, and how many places there may be: what a market can look like.
# All fit 64 bits beside each other, and their sums 128.
_MARKETS = {
    "plain": ((1, 60_000, (0, 1, 2)), (1, 900, (0, 1, 3))),
    "eighteen decimals": ((1, 5 * 10**18, (18,)), (1, 400, (0,))),
    "huge supply": ((1, 10**9, (8,)), (10**17, 9 * 10**18, (0,))),
    "widening": ((1, 90_000, (0, 3, 7, 9)), (1, 90_000, (0, 2, 8, 12))),
}
_UNITS = (1, 1000, SECOND // 4, 20 * MINUTE)
_STARTS = (0, -1, -SECOND, 1_723_161_600 * SECOND, -400 * DAY - 1, -100 * 365 * DAY)


def numbers(mantissas: tuple[int, int, tuple[int, ...]]) -> st.SearchStrategy[Decimal]:
    """Decimals of a range of mantissas and of some scales."""
    low, high, scales = mantissas
    return st.builds(
        lambda mantissa, scale: Decimal(mantissa).scaleb(-scale),
        st.integers(low, high),
        st.sampled_from(scales),
    )


class _Dice:
    """Choices out of bytes that Hypothesis drew at once: a draw for each would take most of the time of a test.

    Zero bytes are the first of some options and the lowest number, so that shrinking the bytes shrinks the choices.
    """

    BYTES = 29

    def __init__(self, data: bytes) -> None:
        self._data = iter(data)

    def one_of(self, options: Sequence[T]) -> T:
        """One of these, each about as often."""
        return options[next(self._data) % len(options)]

    def number(self, mantissas: tuple[int, int, tuple[int, ...]]) -> Decimal:
        """A decimal of a range of mantissas and of some scales; at either end of the range as often as between."""
        low, high, scales = mantissas
        where, near = next(self._data) % 4, next(self._data)
        between = int.from_bytes(bytes(next(self._data) for _ in range(8)))
        if where == 0:
            mantissa = low + near % (high - low + 1)
        elif where == 1:
            mantissa = high - near % (high - low + 1)
        else:
            mantissa = low + between % (high - low + 1)
        return Decimal(mantissa).scaleb(-self.one_of(scales))


@st.composite
def scenarios(
    draw: st.DrawFn,
    specs: tuple[str, ...] = TIME_SPECS + PATH_SPECS,
    most_specs: int = 3,
    ids: tuple[Ids, ...] = ("contiguous", "none"),
    trades_only: bool = False,
    most_events: int = 40,
    markets: tuple[str, ...] = ("plain", "eighteen decimals", "huge supply", "widening"),
    lateness_s: tuple[float, ...] = (0, 0.5, 60, 3600, 10**6, 10**8),
    fills: bool = True,
    negative_prices: bool = False,
    covers: bool = False,
) -> Scenario:
    """Any settings, and a feed with same-instant trades, times running backwards, duplicates, holes and fills."""
    chosen = draw(st.lists(st.sampled_from(specs), min_size=1, max_size=most_specs, unique=True))
    of_prices, of_sizes = _MARKETS[draw(st.sampled_from(markets))]
    if negative_prices:
        of_prices = (-of_prices[1], *of_prices[1:])
    lengths = [LENGTHS_NS[spec] for spec in chosen if spec in LENGTHS_NS]
    unit = draw(st.sampled_from([length // parts for length in lengths for parts in (1, 3, 11)] or _UNITS))
    # Intervals without trades can become bars; not by the million.
    empties = bool(lengths) and unit <= min(lengths)
    symbols = draw(st.integers(1, 3))
    kinds = ("trade",) * 12 + (() if trades_only else ("watermark", "clock", "clock", "down", "flush", "heal", "heal"))
    covers_itself = not covers or draw(st.sampled_from((True, True, False)))
    if covers:
        kinds += ("refused", "refused") + (("cover", "uncover", "uncover", "lose", "lose", "bridge") if empties else ())
    fewest = draw(st.sampled_from((0, 6, most_events // 2)))
    steps = draw(st.lists(st.binary(min_size=_Dice.BYTES, max_size=_Dice.BYTES), min_size=fewest, max_size=most_events))
    now = draw(st.sampled_from(_STARTS))
    following = dict.fromkeys(SYMBOLS, 20)
    events: list[Event] = []
    ids_are = draw(st.sampled_from(ids))
    for step in steps:
        dice = _Dice(step)
        kind, symbol = dice.one_of(kinds), SYMBOLS[dice.one_of(range(symbols))]
        ticks = dice.one_of((0, 0, 0, 0, 1, 1, 1, 2, 3, 12, 50, -1, -1, -2, -5, -30))
        id_shift = dice.one_of((0,) * 12 + (1, 2, 5, -1, -2, -3, -4, -6, -9))
        more, side = dice.one_of((0, 0, 0, 1, 3)), dice.one_of((0, 1, -1))
        is_void = dice.one_of((False,) * 5 + (True,)) and ids_are == "contiguous"
        price, size = dice.number(of_prices), dice.number(of_sizes)
        size = Decimal(0) if is_void else size
        time_ns = now + ticks * unit
        if kind == "watermark":
            events.append(Watermark(time_ns))
        elif kind in ("clock", "down"):
            events.append(Clock(time_ns, kind == "clock" or not empties))
        elif kind == "flush":
            events.append(Flush(None if ticks == 0 else symbol))
        elif kind in ("cover", "uncover", "lose", "bridge"):
            whose = None if more == 3 else (symbol,)
            since_ns = time_ns - abs(id_shift) * unit
            changes: dict[str, Event] = {
                "cover": Cover(whose, time_ns),
                # A buffer that covers itself is flushed where nobody wants more.
                "uncover": Uncover(whose, since_ns, side >= 0 or covers_itself),
                "lose": Lose(whose, since_ns, time_ns, more if side else 0),
                "bridge": Bridge(whose, since_ns, time_ns),
            }
            events.append(changes[kind])
        elif kind == "refused":
            events.append(Refused(symbol, time_ns))
        elif kind == "heal":
            first = max(following[symbol] - 7 + id_shift, 0)
            events.append(
                Heal(
                    tuple(
                        Trade(symbol, time_ns + (number % 3) * unit // 2, price, size, side, first + number,
                              first + number)
                        for number in range(2 * more + 2)
                    )
                )
            )  # fmt: skip
        else:
            first = max(following[symbol] + id_shift, 0)
            following[symbol] = max(following[symbol], first + more + 1)
            events.append(Trade(symbol, time_ns, price, size, side, first, first + more, more + 1))
        now = min(max(now, time_ns), 2 * 10**18)
    return Scenario(
        tuple(chosen),
        ids_are,
        draw(st.sampled_from((0, 1, 2.5))),
        draw(st.sampled_from(lateness_s)),
        tuple(events),
        draw(st.frozensets(st.integers(0, most_events))),
        ((SYMBOLS[0], draw(st.sampled_from((Decimal(100), Decimal("0.001"))))),)
        if not negative_prices and draw(st.booleans())
        else (),
        draw(st.sampled_from((0, 3600, 10**7))),
        draw(st.sampled_from(("skip", "skip", "fill"))) if fills and empties else "skip",
        negative_prices,
        covers_itself,
    )


def line_of(bar: OHLCVBar) -> Line:
    """A bar of the package as the oracle writes it down."""
    return Line(**{name: getattr(bar, name) for name in Line._fields})


def buffer_for(scenario: Scenario, late: list[TickData] | None = None) -> BarBuffer:
    buffer = BarBuffer(
        list(scenario.specs),
        ids=scenario.ids,
        grace_s=scenario.grace_s,
        lateness_s=scenario.lateness_s,
        heal_horizon_s=scenario.heal_horizon_s,
        empty=scenario.empty,
        negative_prices=scenario.negative_prices,
        on_late=None if late is None else late.append,
    )
    buffer.covers_itself = scenario.covers_itself
    for symbol, contract_size in scenario.contract_sizes:
        buffer.instruments.add(symbol, contract_size=contract_size)
    return buffer


def oracle_for(scenario: Scenario) -> Oracle:
    return Oracle(
        list(scenario.specs),
        scenario.ids,
        scenario.grace_s,
        min(scenario.lateness_s, LONGEST_WAIT_S),
        dict(scenario.contract_sizes),
        min(scenario.heal_horizon_s, LONGEST_WAIT_S),
        scenario.empty == "fill",
        scenario.covers_itself,
    )


def replay(
    buffer: BarBuffer, events: Iterable[Event], cuts: frozenset[int] = frozenset(), *, flush: bool = True
) -> list[Line]:
    """Everything that a buffer issues."""
    bars: list[OHLCVBar] = []
    batch = buffer.new_batch()
    for place, event in enumerate(events):
        if isinstance(event, Trade):
            batch.append(*event, time_unit="ns")
            if place not in cuts:
                continue
        bars += buffer.add_batch(batch)
        batch.clear()
        if isinstance(event, Watermark):
            bars += buffer.advance_watermark(event.time_ns)
        elif isinstance(event, Clock):
            bars += buffer.advance_clock(event.time_ns, feed_up=event.feed_up)
        elif isinstance(event, Heal) and buffer.ids == "contiguous":
            healing = buffer.new_batch()
            for trade in event.trades:
                healing.append(*trade, time_unit="ns")
            bars += buffer.heal(healing)
        elif isinstance(event, Flush):
            bars += buffer.flush_all() if event.symbol is None else buffer.flush_symbol(event.symbol)
        elif isinstance(event, Cover):
            bars += buffer.cover(event.symbols, event.from_ns)
        elif isinstance(event, Uncover):
            bars += buffer.uncover(event.symbols, event.since_ns, lost=event.lost)
        elif isinstance(event, Lose):
            bars += buffer.lose(event.symbols, event.since_ns, event.until_ns, trades=event.trades)
        elif isinstance(event, Bridge):
            bars += buffer.bridge(event.symbols, event.since_ns, event.until_ns)
        elif isinstance(event, Refused):
            bars += buffer.note_lost(event.symbol, event.time_ns)
    bars += buffer.add_batch(batch)
    bars += buffer.flush_all() if flush else []
    return [line_of(bar) for bar in bars]


def expected(oracle: Oracle, events: Iterable[Event]) -> list[Line]:
    """Everything that the oracle issues."""
    lines: list[Line] = []
    for event in events:
        if isinstance(event, Trade):
            lines += oracle.add(event)
        elif isinstance(event, Watermark):
            lines += oracle.advance_watermark(event.time_ns)
        elif isinstance(event, Clock):
            lines += oracle.advance_clock(event.time_ns, event.feed_up)
        elif isinstance(event, Heal):
            lines += oracle.heal(list(event.trades)) if oracle.contiguous else []
        elif isinstance(event, Cover):
            lines += oracle.cover(event.symbols, event.from_ns)
        elif isinstance(event, Uncover):
            lines += oracle.uncover(event.symbols, event.since_ns, lost=event.lost)
        elif isinstance(event, Lose):
            lines += oracle.lose(event.symbols, event.since_ns, event.until_ns, event.trades)
        elif isinstance(event, Bridge):
            lines += oracle.bridge(event.symbols, event.since_ns, event.until_ns)
        elif isinstance(event, Refused):
            lines += oracle.note_lost(event.symbol, event.time_ns)
        else:
            lines += oracle.flush(event.symbol)
    return lines + oracle.flush()
