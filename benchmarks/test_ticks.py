"""One trade in: `add` and `add_tick`, making a `TickData`, and a trade to `on_tick`, each held to a bound."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from benchmarks.market import columns, messages, texts
from benchmarks.yardstick import assert_ns, assert_ratio
from fastbars import BarBuffer, StreamConfig, TickData
from fastbars.exchanges import find_exchange
from fastbars.live.callbacks import Callbacks
from fastbars.live.session import Session

SYMBOLS = 20
WAKEUP = 100
ROUNDS = 40  # of a few milliseconds each: long enough that a busy neighbour leaves one alone
SIDES = {1: "buy", -1: "sell"}

Row = tuple[str, int, Any, Any, str, int]


@pytest.fixture(scope="module", name="trades")
def made_trades(pytestconfig: pytest.Config) -> int:
    """How many trades a round has; a bar has a thousand of its symbol at most, so that closing is no part of it."""
    return 200_000 if pytestconfig.getoption("full") else 20_000


@pytest.fixture(scope="module", name="texts")
def made_texts(trades: int) -> list[Row]:
    """Of each trade: symbol, time, price, size, side, id."""
    return texts(columns(trades, SYMBOLS, minutes=0.99 * trades / 20_000))


def adding(rows: list[Row]) -> Callable[[], object]:
    """Rows into a new buffer, with the keywords that users write."""

    def work() -> None:
        add = BarBuffer("1m", ids="contiguous").add
        for symbol, time_ns, price, size, side, trade_id in rows:
            add(symbol, time_ns, price, size, side=side, trade_id=trade_id)

    return work


def adding_ticks(ticks: list[TickData]) -> Callable[[], object]:
    """Objects into a new buffer."""

    def work() -> None:
        add_tick = BarBuffer("1m", ids="contiguous").add_tick
        for tick in ticks:
            add_tick(tick)

    return work


@pytest.mark.parametrize(
    ("kind", "limit"),
    [(str, 180), (Decimal, 180), (int, 180)],  # the aim for Decimal was 250
    ids=["text", "Decimal", "int"],
)
def test_add(texts: list[Row], kind: type[Any], limit: float) -> None:
    def number(text: str, scale: int) -> Any:
        return int(text.replace(".", "")) * 10**scale if kind is int else kind(text)

    rows = [(symbol, time_ns, number(p, 0), number(q, 0), *rest) for symbol, time_ns, p, q, *rest in texts]
    assert_ns(f"add from {kind.__name__}", adding(rows), len(rows), limit, ROUNDS)


def test_add_tick_of_a_tick_at_hand(texts: list[Row]) -> None:
    ticks = [TickData(*row) for row in texts]
    assert_ns("add_tick", adding_ticks(ticks), len(ticks), 110, ROUNDS)


class Plain(TickData):
    """A subclass goes the general way, by its attributes."""


def test_the_c_fields_are_the_short_way_in(texts: list[Row]) -> None:
    assert_ratio(
        "add_tick by C fields beside attributes",
        adding_ticks([TickData(*row) for row in texts]),
        adding_ticks([Plain(*row) for row in texts]),
        0.5,
    )


def test_a_tick_made_from_text(texts: list[Row]) -> None:
    def work() -> None:
        for symbol, time_ns, price, size, side, trade_id in texts:
            TickData(symbol, time_ns, price, size, side, trade_id)

    assert_ns("TickData from text", work, len(texts), 125, ROUNDS)  # the aim was 250


def session(callbacks: Callbacks) -> Session:
    """A stream of Binance's, without a socket."""
    return Session(find_exchange("binance"), StreamConfig(bars="1m", close_by="trades"), callbacks)


def receiving(trades: int, callbacks: Callbacks) -> Callable[[], object]:
    """Messages, WAKEUP of them a wakeup, through a new session."""
    payloads = messages(columns(trades, SYMBOLS, minutes=0.99 * trades / 20_000))
    wakeups = [payloads[start : start + WAKEUP] for start in range(0, trades, WAKEUP)]

    def work() -> None:
        receive = session(callbacks).receive
        for each in wakeups:
            receive(each, 0)

    return work


def test_a_trade_to_on_tick(trades: int) -> None:
    seen: list[TickData] = []
    receiving(1_000, Callbacks(on_tick=seen.append))()
    assert [tick.trade_count for tick in seen] == [1] * 1_000
    assert_ns("a trade to on_tick", receiving(trades, Callbacks(on_tick=id)), trades, 700)  # the aim was 1,000
    assert_ns("the same without on_tick", receiving(trades, Callbacks()), trades, 250)
