"""TickData beside the plain dataclass that it once was (`tick_model.py`): every call does the same with both."""

from __future__ import annotations

import base64
import copy
import dataclasses
import gc
import inspect
import pickle
import typing
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Context, Decimal, localcontext
from functools import partial
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import example, given, strategies as st

from fastbars import BarBuffer, FastbarsError, Instruments, TickBatch
from fastbars.id_policy import Ids
from fastbars.ticks import TickData, TickSide, tick_of
from tick_model import TickModel, model_of

NOON_NS = 1_723_161_255_343_000_000
FIELDS = ("symbol", "time_ns", "price", "volume", "side", "trade_id", "last_trade_id", "trade_count")

DIGITS = st.text("0123456789", max_size=22)
TEXTS = st.builds(
    lambda sign, whole, point, decimals, exponent: f"{sign}{whole}{point}{decimals}{exponent}",
    st.sampled_from(["", "", "", "+", "-"]),
    DIGITS,
    st.sampled_from(["", "."]),
    DIGITS | st.just("00"),
    st.sampled_from(["", "", "", "e0", "E+3", "e-7", "e2", "E-300", "e300", "e99999999999999999999", "e", "E-0000"]),
)
ODD_TEXTS = st.sampled_from(
    ["", " 1.5 ", "1_000.5", "\u0661\u0662", "NaN", "sNaN", "Infinity", "-inf", "0", "-0", "0.00", "-0.00", "0e9",
     "9223372036854775807", "9223372036854775808", "-9223372036854775808", "0.000000000000000001", "1e-19",
     "1" + "0" * 130, "1." + "0" * 130, "1e256", "1e257", "1.5e-18", "1e18", "1e19", "\ud800", "1\x00", ".", "+", "1.2"]
)  # fmt: skip
DECIMALS = (TEXTS | ODD_TEXTS).map(lambda text: made(Decimal, text)).filter(lambda value: value is not None)
INTEGERS = st.integers(-(2**70), 2**70) | st.sampled_from([0, 1, -(2**63), 2**63 - 1, 2**63])
OTHERS = st.sampled_from(
    [0.5, None, b"7", True, np.int64(7), np.uint64(7), np.float32(7), np.bool_(True), (0, (1, 5), -1), [1], "x"]
)
NUMBERS = st.one_of(TEXTS, ODD_TEXTS, DECIMALS, INTEGERS, OTHERS, st.sampled_from(["1", "61837.63", "0.02000", "7"]))
TIMES: st.SearchStrategy[Any] = st.sampled_from(
    [NOON_NS, NOON_NS // 1000, 0, -1, 2**63 - 1, 2**63, -(2**70), datetime(2024, 8, 9, tzinfo=UTC), "now", 1.5, None,
     datetime(2024, 8, 9), np.datetime64(NOON_NS, "ns"), np.int64(NOON_NS), True]  # noqa: DTZ001
)  # fmt: skip
SIDES: st.SearchStrategy[Any] = st.sampled_from(
    [*TickSide, "buy", "sell", "unknown", "BUY", "Sell", "long", 1, -1, 0, 2, True, False, np.int8(-1), None, 1.0]
)
IDS: st.SearchStrategy[Any] = (
    st.none() | st.integers(0, 9) | st.sampled_from([2**63 - 1, 2**63, -(2**63), -5, np.int64(3), 1.5, "7", True])
)
CALLS = st.builds(
    lambda numbers, rest, options: ((*numbers, *rest), options),
    st.tuples(st.sampled_from(["BTCUSDT", "", None, "\ud800"]), st.just(NOON_NS) | TIMES, NUMBERS, NUMBERS),
    st.tuples() | st.tuples(SIDES) | st.tuples(SIDES, IDS) | st.tuples(SIDES, IDS, IDS, IDS),
    st.fixed_dictionaries(
        {}, optional={"negative_prices": st.booleans(), "time_unit": st.sampled_from([None, "ns", "us", "s", "min"])}
    ),
)


def made(kind: Callable[..., Any], *args: Any, **options: Any) -> Any:
    try:
        return kind(*args, **options)
    except ArithmeticError:
        return None


def attempt(call: Callable[[], Any]) -> Any:
    """What it returns, or the type and the message of what it raises."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 that is what is compared
        return type(error), str(error)


def seen(tick: Any) -> Any:
    """Everything that a user can see of a trade; the reprs tell exponents and types."""
    if isinstance(tick, tuple):
        return tick
    fields = [repr(getattr(tick, name)) for name in FIELDS]
    text = repr(tick).replace("TickModel", "TickData")
    return fields, text, hash(tick), repr(tick.row), repr(attempt(lambda: tick.timestamp)), tick.__getstate__()


@given(CALLS)
@example((("A", NOON_NS, "61837.63000000", "0.02", "buy", 7), {}))
@example((("A", NOON_NS, "-0", "0", "buy", 7), {}))
@example((("A", NOON_NS, "1", "-0", "buy", 7), {}))
@example((("A", NOON_NS, "1", "0e-400", "buy", 7), {}))
def test_a_trade_is_made_or_refused_as_the_dataclass_was(call: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
    args, options = call
    assert seen(attempt(lambda: TickData(*args, **options))) == seen(attempt(lambda: TickModel(*args, **options)))


ALIKE = st.tuples(
    st.sampled_from(["A", "B"]), st.sampled_from([NOON_NS, NOON_NS + 1, 2**63]),
    st.sampled_from(["1", "1.0", "10", "1e1", "1E+1", "-0", "0.0", "1." + "0" * 30, "1" + "0" * 30, "1e30"]),
    st.sampled_from(["1", "1.0", 1, Decimal("1.00")]), st.sampled_from(["buy", "sell"]), st.sampled_from([None, 1, 2]),
    st.sampled_from([None, 2]), st.sampled_from([None, 2]),
)  # fmt: skip


@given(ALIKE, ALIKE)
def test_two_trades_are_equal_where_the_dataclasses_were(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    models, ticks = (
        [attempt(partial(kind, *row, negative_prices=True)) for row in (one, other)] for kind in (TickModel, TickData)
    )
    if any(isinstance(model, tuple) for model in models):
        return
    assert (ticks[0] == ticks[1]) is (models[0] == models[1])
    assert (ticks[0] != ticks[1]) is (models[0] != models[1])
    if ticks[0] == ticks[1]:
        assert hash(ticks[0]) == hash(ticks[1])
    assert ticks[0] != models[0]


# Pickles that the dataclass wrote.
TICKS = [
    TickData("BTCUSDT", NOON_NS, "61837.630", "2E-2", "sell", 3735683259, 3735683261),
    TickData("A", -1, Decimal("-0.0"), 2**70, negative_prices=True),
]
PICKLES = {
    2: "gAJdcQAoY2Zhc3RiYXJzLnRpY2tzClRpY2tEYXRhCnEBKYFxAl1xAyhYBwAAAEJUQ1VTRFRxBIoIwIlvMwjm6RdjZGVjaW1hbApEZWNpbWFsCn"
    "EFWAkAAAA2MTgzNy42MzBxBoVxB1JxCGgFWAQAAAAwLjAycQmFcQpScQtjZmFzdGJhcnMudGlja3MKVGlja1NpZGUKcQxYBAAAAHNlbGxxDYVx"
    "DlJxD4oFuwCq3gCKBb0Aqt4ASwNlYmgBKYFxEF1xEShYAQAAAEFxEkr/////aAVYBAAAAC0wLjBxE4VxFFJxFWgFWBYAAAAxMTgwNTkxNjIwNz"
    "E3NDExMzAzNDI0cRaFcRdScRhoDFgHAAAAdW5rbm93bnEZhXEaUnEbTk5LAWViZS4=",
    4: "gASV7wAAAAAAAABdlCiMDmZhc3RiYXJzLnRpY2tzlIwIVGlja0RhdGGUk5QpgZRdlCiMB0JUQ1VTRFSUigjAiW8zCObpF4wHZGVjaW1hbJSMB0"
    "RlY2ltYWyUk5SMCTYxODM3LjYzMJSFlFKUaAmMBDAuMDKUhZRSlGgBjAhUaWNrU2lkZZSTlIwEc2VsbJSFlFKUigW7AKreAIoFvQCq3gBLA2Vi"
    "aAMpgZRdlCiMAUGUSv////9oCYwELTAuMJSFlFKUaAmMFjExODA1OTE2MjA3MTc0MTEzMDM0MjSUhZRSlGgRjAd1bmtub3dulIWUUpROTksBZW"
    "JlLg==",
}  # fmt: skip


@pytest.mark.parametrize("protocol", PICKLES)
def test_pickles_are_those_of_the_dataclass(protocol: int) -> None:
    old = base64.b64decode(PICKLES[protocol])
    assert [seen(tick) for tick in pickle.loads(old)] == [seen(tick) for tick in TICKS]
    assert pickle.dumps(TICKS, protocol) == old


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, *(
    lambda tick, protocol=protocol: pickle.loads(pickle.dumps(tick, protocol)) for protocol in range(6)
)])  # fmt: skip
@pytest.mark.parametrize("tick", TICKS)
def test_a_copy_is_the_same_trade(tick: TickData, duplicate: Callable[[TickData], TickData]) -> None:
    assert seen(duplicate(tick)) == seen(tick)


@pytest.mark.parametrize(
    "state", [[], [1] * 7, ["A", 0, "1", "NaN", "buy", 1, 1, 1], None, ["A", 0, "0", "0", "x", 1, 1, 1]]
)
def test_a_damaged_pickle_is_refused(state: Any) -> None:
    tick = TickData.__new__(TickData)
    with pytest.raises((ValueError, TypeError)):
        tick.__setstate__(state)
    with pytest.raises(AttributeError, match=r"TickData\.__init__ was not called"):
        repr(tick)


def test_a_trade_cannot_be_changed_in_any_way() -> None:
    tick, before = TICKS[0], seen(TICKS[0])
    changes: list[Callable[[], object]] = [
        lambda: setattr(tick, "price", Decimal(1)), lambda: setattr(tick, "other", 1), lambda: delattr(tick, "symbol"),
        lambda: delattr(tick, "other"),
    ]  # fmt: skip
    for change in changes:
        with pytest.raises(
            dataclasses.FrozenInstanceError, match=r"cannot (assign to|delete) field '(price|other|symbol)'"
        ):
            change()
    by_force: list[Callable[[], object]] = [
        lambda: object.__setattr__(tick, "price", Decimal(1)), partial(TickData.__init__, tick, "B", 0, "1", "1"),
        lambda: tick.__setstate__(TICKS[1].__getstate__()),
    ]  # fmt: skip
    for forced in by_force:
        with pytest.raises((AttributeError, TypeError)):
            forced()
    assert seen(tick) == before


class Noted(TickData):
    """A user's own, with a place for more."""

    def __init__(self, *args: Any, note: str = "", **options: Any) -> None:
        super().__init__(*args, **options)
        self.note = note


def test_a_subclass_has_attributes_of_its_own_and_fields_that_cannot_be_changed() -> None:
    tick = Noted("A", NOON_NS, "1.50", "2", "buy", 7, note="mine")
    assert (tick.note, tick.price, repr(tick)[:8]) == ("mine", Decimal("1.50"), "Noted(sy")
    assert tick != TickData("A", NOON_NS, "1.50", "2", "buy", 7)
    assert tick == Noted("A", NOON_NS, "1.5", "2", "buy", 7)
    del tick.note
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'price'"):
        tick.price = Decimal(2)  # type: ignore[misc]


def test_it_is_a_dataclass_to_everything_that_asks() -> None:
    tick, model = TickData("A", NOON_NS, "1.50", "2", "buy", 7), TickModel("A", NOON_NS, "1.50", "2", "buy", 7)
    assert dataclasses.is_dataclass(tick)
    assert [(f.name, f.type) for f in dataclasses.fields(tick)] == [(f.name, f.type) for f in dataclasses.fields(model)]
    assert repr(dataclasses.asdict(tick)) == repr(dataclasses.asdict(model))
    assert repr(dataclasses.astuple(tick)) == repr(dataclasses.astuple(model))
    assert (TickData.__match_args__, TickData.__slots__) == (TickModel.__match_args__, TickModel.__slots__)
    assert typing.get_type_hints(TickData) == typing.get_type_hints(TickModel)
    own, other = (inspect.signature(kind).parameters for kind in (TickData, TickModel))
    assert [(p.name, p.kind, p.default) for p in own.values()] == [(p.name, p.kind, p.default) for p in other.values()]
    match tick:
        case TickData("A", time_ns, price, side=TickSide.BUY):
            assert (time_ns, price) == (NOON_NS, Decimal("1.50"))
        case _:
            pytest.fail("no match")


def test_replace_makes_a_trade_that_differs_in_what_was_given() -> None:
    tick = TickData("A", 5, "1.50", "2", "buy", 7, time_unit="ns")
    replaced = dataclasses.replace(tick, price=Decimal("2.00"), side=TickSide.SELL)
    assert seen(replaced) == seen(TickData("A", 5, "2.00", "2", "sell", 7, time_unit="ns"))
    with pytest.raises(FastbarsError, match="A: price -1 is not positive"):
        dataclasses.replace(tick, price=Decimal(-1))
    assert dataclasses.replace(tick, price=Decimal(-1), negative_prices=True).price == -1  # type: ignore[call-arg]
    spread = TickData("A", NOON_NS, "-1.0", "2", negative_prices=True)
    assert seen(spread.__replace__(volume="3")) == seen(TickData("A", NOON_NS, "-1.0", "3", negative_prices=True))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "is missing its timestamp"), ({"timestamp": 1}, "is missing its price"),
        ({"time_ns": 1}, "is missing its price"),
        ({"time_ns": 1, "price": 1}, "is missing its volume"), ({"time_ns": 1, "timestamp": 1}, "not both"),
        ({"time_ns": 1, "time_unit": "s", "price": 1, "volume": 1}, "not both"),
    ],
)  # fmt: skip
def test_a_trade_without_a_value_is_a_type_error(given: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        TickData("A", **given)


def test_decimals_do_not_depend_on_the_callers_context() -> None:
    with localcontext(Context(prec=2, capitals=0, Emax=3, Emin=-3, traps=[])):
        tick = TickData("A", NOON_NS, Decimal("1234567.8900"), "1e-9")
        price, volume = tick.price, tick.volume
    assert (str(price), str(volume)) == ("1234567.8900", "1E-9")


def test_a_decimal_that_was_given_is_the_one_that_is_returned() -> None:
    price = Decimal("61837.630")
    assert TickData("A", NOON_NS, price, "1").price is price


# Into a buffer.

ROWS = st.lists(
    st.tuples(
        st.sampled_from(["A", "B"]), st.integers(0, 3).map(lambda second: NOON_NS + second * 10**9),
        st.sampled_from(
            ["1", "1.50", "2.25", "0.001", "1e3", "-1", "0", "9e17", "123456789.123456789", 7, Decimal("1.0")]
        ),
        st.sampled_from(["1", "0.10", "0", "3e-9", "9e18", Decimal("2.0")]), SIDES, st.none() | st.integers(0, 9),
        st.none() | st.integers(0, 9), st.none() | st.integers(0, 3),
    ),
    max_size=12,
)  # fmt: skip


class Plain(TickData):
    """The same trade; what a subclass may have changed is read as attributes, one by one."""


def folded(kind: type[TickData], rows: list[tuple[Any, ...]], ids: Ids, negative_prices: bool) -> list[Any]:
    found: list[Any] = []
    buffer = BarBuffer(
        ["1s", "tick:2"],
        ids=ids,
        negative_prices=negative_prices,
        lateness_s=0,
        on_late=lambda tick: found.append(seen(tick)),
    )
    for row in rows:
        tick = attempt(partial(kind, *row, negative_prices=True))
        if not isinstance(tick, tuple):
            found.append(repr(attempt(partial(buffer.add_tick, tick))))
            found.append([(symbol, buffer.instruments.scales(symbol)) for symbol in buffer.instruments.symbols])
    return [*found, repr(buffer.flush_all()), buffer.stats]


@given(ROWS, st.sampled_from(get_args(Ids)), st.booleans())
def test_a_tick_goes_in_by_its_c_fields_as_by_its_attributes(
    rows: list[tuple[Any, ...]], ids: Ids, negative_prices: bool
) -> None:
    assert folded(TickData, rows, ids, negative_prices) == folded(Plain, rows, ids, negative_prices)


def test_no_decimal_is_made_on_the_way_into_a_buffer() -> None:
    def decimals(tick: TickData) -> int:
        return sum(isinstance(each, Decimal) for each in gc.get_referents(tick))

    buffer = BarBuffer("1s", ids="contiguous")
    ticks = [TickData("A", NOON_NS, "1.50", "2.0", "buy", trade_id) for trade_id in (1, 2)]
    buffer.add_tick(ticks[0])  # its symbol has no scale yet: this one goes the general way
    buffer.add_tick(ticks[1])
    assert [decimals(tick) for tick in ticks] == [2, 0]
    assert (ticks[1].price, decimals(ticks[1])) == (Decimal("1.50"), 1)
    late: list[TickData] = []
    buffer = BarBuffer("1s", lateness_s=0, on_late=late.append)
    for second in (5, 1):
        buffer.add("A", NOON_NS + second * 10**9, "1.50", "2")
    assert [decimals(tick) for tick in late] == [0]
    assert late == [TickData("A", NOON_NS + 10**9, "1.5", "2")]


@given(
    st.lists(st.tuples(st.sampled_from(["1", "1.50", "250", "0.001", "-7"]), st.sampled_from(["1", "0.5", "100"]),
                       st.sampled_from([1, 0, -1]), st.integers(1, 4)), min_size=1, max_size=5),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_a_row_of_a_batch_is_the_trade_that_it_was(rows: list[tuple[Any, ...]], ids: bool, counts: bool) -> None:
    instruments = Instruments(negative_prices=True)
    batch = TickBatch(instruments, ids=ids, counts=counts)
    for number, (price, size, side, count) in enumerate(rows):
        batch.append("AB"[number % 2], NOON_NS + number, price, size, side, 10 * number, None, count if counts else 1)
    instruments.add("A", 9, 9)  # the rows keep their own scale
    for row in range(len(batch)):
        assert seen(tick_of(batch, row)) == seen(model_of(batch, row))
    with pytest.raises(IndexError, match=f"row {len(batch)} is outside 0 to {len(batch) - 1}"):
        tick_of(batch, len(batch))
