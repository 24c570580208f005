"""Rows to bar objects: what compiled code makes equals what the class itself makes of the same values."""

from __future__ import annotations

import copy
import gc
import pickle
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, strategies as st

from fastbars import BarBuffer
from fastbars._agg import BarKernel
from fastbars.bars import BAR_FIELDS, REASONS, STATUSES, BarStatus, OHLCVBar, parse_specs
from fastbars.columnar.bar_batch import BarBatch
from fastbars.id_policy import Ids
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.fields import FIELDS, IDENTITY, NO_TIME
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.objects import BarMaker
from fastbars.kernel.rows import ROW_DTYPE, IssuedRows

INT64 = st.integers(0, 2**63 - 1)
SUMS = st.one_of(st.integers(0, 2**127 - 1), st.integers(0, 2**64), st.integers(0, 10**6), st.just(0))
TIMES = st.integers(-4_600_000_000_000_000_000, 4_600_000_000_000_000_000)


def instruments() -> Instruments:
    known = Instruments("test", market="spot")
    known.add("A")
    known.add("INVERSE", contract_size=100)
    return known


def row_of(**values: Any) -> npt.NDArray[Any]:
    rows = np.zeros(1, ROW_DTYPE)
    for name, value in values.items():
        if name in ("volume", "quote_volume", "taker_volume", "taker_quote_volume"):
            rows[name]["lo"], rows[name]["hi"] = value & (2**64 - 1), value >> 64
        else:
            rows[name] = value
    return rows


def decimal(mantissa: int, scale: int) -> Decimal:
    sign, digits, _ = Decimal(mantissa).as_tuple()
    number = Decimal((sign, digits, -scale))
    while scale > 0 and number.as_tuple().digits[-1] == 0 and number:
        scale -= 1
        number = Decimal((sign, number.as_tuple().digits[:-1], -scale))
    return number if number else Decimal(0)


@given(
    st.tuples(TIMES, TIMES), st.tuples(INT64, INT64, INT64, INT64), st.tuples(SUMS, SUMS, SUMS, SUMS),
    st.tuples(st.integers(0, 18), st.integers(0, 18), st.integers(0, 36)), st.integers(0, 1), st.booleans(),
)  # fmt: skip
@example((-1, 0), (100, 100, 100, 100), (0, 2**64 - 1, 2**64, 1), (2, 0, 36), 0, True)
@example((951_782_400_000_000_000, -2_208_988_800_000_000_000), (1, 10, 1, 10), (10, 20, 0, 0), (1, 1, 2), 1, False)
def test_a_made_bar_equals_one_made_by_its_class(
    times: tuple[int, int],
    prices: tuple[int, int, int, int],
    sums: tuple[int, int, int, int],
    scales: tuple[int, int, int],
    symbol_id: int,
    ids: bool,
) -> None:
    opened, closed = sorted(times)
    open_, high, low, close = prices[0], max(prices), min(prices), prices[3]
    price_scale, size_scale, quote_scale = scales
    rows = row_of(
        open_time=opened, close_time=closed, open=open_, high=high, low=low, close=close, first_id=7, last_id=9,
        count=3, volume=sums[0], quote_volume=sums[1], taker_volume=sums[2], taker_quote_volume=sums[3],
        symbol_id=symbol_id, revision=2, status=5, reason=3, index=-1, price_scale=price_scale, size_scale=size_scale,
        quote_scale=quote_scale, missing=-1 if ids else 5, unpublished=2 if ids else -1, buy_count=2 if ids else -1,
        sell_count=1 if ids else -1, first_time=opened, last_trade_time=closed if ids else NO_TIME,
        largest=sums[0] % 2**63 if ids else 0,
    )  # fmt: skip
    (bar,) = BarBatch(rows, instruments(), parse_specs("1m"), ids=ids)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    expected = OHLCVBar(
        ("A", "INVERSE")[symbol_id],
        "1m",
        epoch + timedelta(microseconds=opened // 1000),
        epoch + timedelta(microseconds=closed // 1000),
        decimal(open_, price_scale),
        decimal(high, price_scale),
        decimal(low, price_scale),
        decimal(close, price_scale),
        decimal(sums[0], size_scale),
        decimal(sums[1], quote_scale),
        3,
        decimal(sums[2], size_scale),
        decimal(sums[3], quote_scale),
        7 if ids else None,
        9 if ids else None,
        STATUSES[5],
        2,
        REASONS[3],
        symbol_id == 1,
        None if ids else 5,
        2 if ids else None,
        2 if ids else None,
        1 if ids else None,
        epoch + timedelta(microseconds=opened // 1000) if ids else None,
        epoch + timedelta(microseconds=closed // 1000) if ids else None,
        decimal(sums[0] % 2**63, size_scale) if ids and sums[0] % 2**63 else None,
        exchange="test",
        market="spot",
    )
    assert bar == expected
    assert bar.inverse == expected.inverse
    for each in fields(OHLCVBar):
        made, same = getattr(bar, each.name), getattr(expected, each.name)
        assert (type(made), str(made)) == (type(same), str(same)), each.name


SIGNED = st.one_of(st.integers(1 - 2**63, 2**63 - 1), st.sampled_from([0, 1 - 2**63, 2**63 - 1, -100, 10**18]))
WIDE = st.one_of(
    st.integers(-(2**127), 2**127 - 1),
    st.builds(lambda digits, sign: sign * 10**digits, st.integers(0, 38), st.sampled_from([-1, 1])),
    st.sampled_from([-(2**127), 2**127 - 1, 2**64 - 1, 2**64, -(2**64), 0]),
)


@given(
    st.lists(SIGNED, min_size=4, max_size=4), st.lists(WIDE, min_size=4, max_size=4),
    st.tuples(*[st.integers(0, 36)] * 3),
)  # fmt: skip
@example([-1, 0, -10, 10], [1, 10**9, 10**18 * 10**9, -(10**38)], (36, 0, 36))
@example([5, 5, 5, 5], [7, 7, 7, 7], (1, 1, 1))
def test_every_number_that_a_row_can_hold_is_the_decimal_that_it_means(
    prices: list[int], sums: list[int], scales: tuple[int, int, int]
) -> None:
    rows = row_of(
        open=prices[0], high=prices[1], low=prices[2], close=prices[3], count=1, volume=sums[0], quote_volume=sums[1],
        taker_volume=sums[2], taker_quote_volume=sums[3], price_scale=scales[0], size_scale=scales[1],
        quote_scale=scales[2],
    )  # fmt: skip
    (bar,) = BarBatch(rows, instruments(), parse_specs("1m"), ids=True)
    for name, mantissa, scale in (
        *zip(("open", "high", "low", "close"), prices, [scales[0]] * 4, strict=True),
        ("volume", sums[0], scales[1]), ("taker_buy_volume", sums[2], scales[1]),
        ("quote_volume", sums[1], scales[2]), ("taker_buy_quote_volume", sums[3], scales[2]),
    ):  # fmt: skip
        assert getattr(bar, name).as_tuple() == decimal(mantissa, scale).as_tuple(), name


def test_equal_numbers_of_a_bar_are_one_object() -> None:
    rows = row_of(
        open=150, high=150, low=120, close=120, count=1, volume=3, taker_volume=3, quote_volume=2**70,
        taker_quote_volume=2**70, price_scale=2,
    )  # fmt: skip
    (bar,) = BarBatch(rows, instruments(), parse_specs("1m"), ids=True)
    assert bar.open is bar.high
    assert bar.low is bar.close
    assert bar.volume is bar.taker_buy_volume
    assert bar.quote_volume is bar.taker_buy_quote_volume


class Watching(BarBuffer):
    """Keeps the rows that it issues."""

    issued: IssuedRows

    def issue(self, rows: IssuedRows, *others: Any) -> list[OHLCVBar]:
        """See BarBuffer."""
        self.issued = rows
        return super().issue(rows, *others)


@pytest.mark.parametrize("ids", ["contiguous", "sequenced", "unique", "none", "sampled"])
def test_bars_are_made_of_rows_of_which_nobody_has_made_an_array(ids: Ids) -> None:
    buffer = Watching("1s", ids=ids)
    for second in range(3):
        bars = buffer.add("A", second * 10**9, "1.50", "2", "buy", second)
        if not bars:
            continue
        rows = buffer.issued
        assert not any(isinstance(each, np.ndarray) for each in gc.get_referents(rows))
        array = rows.array()
        assert any(each is array for each in gc.get_referents(rows))
        (plain,) = BarBatch(rows, buffer.instruments, buffer.specs, ids=buffer.policy.numbered)
        assert bars[0].status == buffer.policy.statuses[rows["status"][0]]
        assert bars == [replace(plain, status=bars[0].status)]
        rows.array()["status"] = STATUSES.index(BarStatus.UNVERIFIABLE)
        assert buffer.bars_of(rows)[0].status == ("SAMPLED" if ids == "sampled" else "UNVERIFIABLE")


def test_rows_outlive_their_kernel_and_their_array_outlives_them() -> None:
    batch = TickBatch(instruments())
    kernel = BarKernel(batch.instruments, parse_specs("1s"))
    for second in range(3000):
        batch.append("A", second * 10**9, "1", "2", 1, second)
    rows, _ = kernel.update(batch)
    few = kernel.flush()
    del kernel, batch
    arrays = rows.array(), few.array()
    assert [len(each) for each in arrays] == [len(rows), len(few)] == [2999, 1]
    assert arrays[0] is rows.array()
    cycle: list[Any] = [rows, few]
    cycle.append(cycle)
    del cycle, rows, few
    gc.collect()
    assert arrays[0]["open_time"].tolist() == [second * 10**9 for second in range(2999)]
    assert arrays[1]["open_time"].tolist() == [2999 * 10**9]


def made_bar() -> OHLCVBar:
    rows = row_of(open=150, high=150, low=150, close=150, count=1, volume=1, price_scale=2)
    return BarBatch(rows, instruments(), parse_specs("1m"), ids=True)[0]


def test_a_made_bar_is_an_ordinary_frozen_object() -> None:
    bar = made_bar()
    assert type(bar) is OHLCVBar
    assert hash(bar) == hash(replace(bar))
    assert pickle.loads(pickle.dumps(bar)) == copy.copy(bar) == copy.deepcopy(bar) == replace(bar) == bar
    assert replace(bar, close=Decimal("1.5"), revision=1) != bar
    assert bar.to_dict()["open"] == Decimal("1.5")
    with pytest.raises(FrozenInstanceError):
        bar.open = Decimal(2)  # type: ignore[misc]
    with pytest.raises(ValueError, match="must be >= low"):
        replace(bar, high=Decimal(1))


def test_every_field_of_a_bar_is_a_column_of_its_row() -> None:
    assert sorted([*IDENTITY, *FIELDS]) == sorted(BAR_FIELDS)
    assert {column.name for column in FIELDS.values()} <= set(ROW_DTYPE.names or ())


def test_a_slot_of_another_class_is_none_of_the_bars() -> None:
    @dataclass(slots=True)
    class Other:
        symbol: str = ""

    class Bar:
        __slots__ = tuple(each.name for each in fields(OHLCVBar) if each.name != "symbol")
        symbol = Other.__dict__["symbol"]

    with pytest.raises(TypeError, match="symbol is not a slot"):
        BarMaker(Bar, STATUSES, REASONS)


def test_only_a_class_with_slots_can_be_made() -> None:
    @dataclass
    class NoSlots:
        exchange: str = ""

    with pytest.raises(TypeError, match="exchange is not a slot"):
        BarMaker(NoSlots, STATUSES, REASONS)


def test_other_rows_than_the_kernels_are_refused() -> None:
    maker = BarMaker(OHLCVBar, STATUSES, REASONS)
    with pytest.raises(ValueError, match="contiguous array of ROW_DTYPE"):
        maker.make(np.zeros(3), instruments(), ("1m",), True)
    with pytest.raises(ValueError, match="contiguous array of ROW_DTYPE"):
        maker.make(np.zeros(4, ROW_DTYPE)[::2], instruments(), ("1m",), True)
