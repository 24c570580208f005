"""Long feeds out of order: many bars that are kept, many holes, duplicates and late trades, against the oracle.

What these cost is held in benchmarks/test_cliffs.py; here, that the ways that make it cheap change no bar: closed bars
walked from the newest, those kept for holes asked once, holes in a tree, duplicates and older trades told at once.
"""

from __future__ import annotations

import random
from decimal import Decimal

import pytest

from fastbars import BarBuffer
from oracle import Trade
from strategies import Event, Heal, Scenario, Watermark, buffer_for, expected, oracle_for, replay

SECOND = 1_000_000_000
START = 1_700_000_040 * SECOND
ROWS = 110


def feed(seed: int, *, missing: float, late: float, again: float) -> tuple[Event, ...]:
    """Trades of one symbol, one a second on average, and a watermark now and then."""
    dice = random.Random(seed)
    now, number = START, 100
    sent: list[Trade] = []
    events: list[Event] = []
    for _ in range(ROWS):
        now += dice.randrange(2 * SECOND)
        chosen = dice.random()
        if chosen < again and sent:
            events.append(dice.choice(sent[-30:]))
            continue
        time = now - dice.choice((1, 3, 20, 90, 200)) * SECOND if chosen < again + late else now
        if dice.random() < missing:
            number += dice.choice((1, 1, 3))
        trade = Trade("A", time, Decimal(dice.randrange(90, 110)), Decimal(dice.randrange(1, 9)), 1, number, number)
        number += 1
        sent.append(trade)
        events.append(trade)
        if dice.random() < 0.1:
            events.append(Watermark(now - SECOND))
        if missing and dice.random() < 0.1:  # one of those that are missing, and its neighbours, which may be known
            first = dice.randrange(100, number)
            healing = tuple(
                Trade("A", time - (number - each) * SECOND // 2, Decimal(100), Decimal(1), -1, each, each)
                for each in range(first, min(first + 3, number))
            )
            events.append(Heal(healing) if dice.random() < 0.5 else healing[0])
    return tuple(events)


SHARES = [(0.0, 0.2, 0.3), (0.5, 0.0, 0.0), (0.5, 0.1, 0.2), (0.1, 0.3, 0.3)]


@pytest.mark.parametrize(("lateness_s", "horizon_s"), [(0, 5), (20, 90)])
@pytest.mark.parametrize(("missing", "late", "again"), SHARES)
@pytest.mark.parametrize(("specs", "empty"), [(("1s",), "skip"), (("1s", "5s", "1m"), "fill")])
def test_long_feeds_out_of_order_make_the_bars_of_the_oracle(
    specs: tuple[str, ...], empty: str, missing: float, late: float, again: float, lateness_s: float, horizon_s: float
) -> None:
    events = feed(hash((missing, late, again)) % 1000, missing=missing, late=late, again=again)
    scenario = Scenario(
        specs,
        "contiguous",
        0.0,
        lateness_s,
        events,
        heal_horizon_s=horizon_s,
        empty="fill" if empty == "fill" else "skip",
    )
    wanted = expected(oracle_for(scenario), events)
    assert replay(buffer_for(scenario), events) == wanted
    assert replay(buffer_for(scenario), events, frozenset(range(len(events)))) == wanted


@pytest.mark.parametrize("specs", [["1m"], ["1m", "tick:1000000"]])
def test_duplicates_among_late_trades_are_counted_whatever_the_specs(specs: list[str]) -> None:
    events = [event for event in feed(7, missing=0, late=0.1, again=0.4) if isinstance(event, Trade)]
    buffer = BarBuffer(specs, ids="contiguous", lateness_s=1000)
    batch = buffer.new_batch()
    for event in events:
        batch.append(*event, time_unit="ns")
    bars = buffer.add_batch(batch) + buffer.flush_all()
    assert buffer.stats.duplicates == len(events) - len({event.first_id for event in events})
    last = {bar.open_time: bar for bar in bars if str(bar.spec) == "1m"}
    assert sum(bar.trade_count or 0 for bar in last.values()) == buffer.stats.trades
