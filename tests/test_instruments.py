"""Instruments: ids, scales that only widen, and contract sizes."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, strategies as st

from fastbars.errors import PrecisionError
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.instruments import Instruments


@given(st.lists(st.text(min_size=1, max_size=4), max_size=200))
def test_ids_count_up_in_order_of_appearance_and_stay(symbols: list[str]) -> None:
    instruments = Instruments("somewhere")
    given_ids = [instruments.add(symbol) for symbol in symbols]
    unique = list(dict.fromkeys(symbols))
    assert given_ids == [unique.index(symbol) for symbol in symbols]
    assert instruments.symbols == tuple(unique)
    assert len(instruments) == instruments.count == len(unique)
    for place, symbol in enumerate(unique):
        assert instruments.id(symbol) == place
        assert instruments.symbol(place) == symbol
        assert symbol in instruments


@given(st.lists(st.tuples(st.integers(0, 18), st.integers(0, 18)), min_size=1, max_size=9))
def test_a_scale_is_widened_and_never_narrowed(scales: list[tuple[int, int]]) -> None:
    instruments = Instruments()
    for price_scale, size_scale in scales:
        instruments.add("A", price_scale, size_scale)
    assert instruments.scales("A") == (max(p for p, _ in scales), max(s for _, s in scales))


def test_an_unknown_symbol_is_a_key_error_and_an_unknown_id_an_index_error() -> None:
    instruments = Instruments()
    instruments.add("A")
    with pytest.raises(KeyError, match="B"):
        instruments.id("B")
    assert "B" not in instruments
    for outside in (-1, 1):
        with pytest.raises(IndexError, match=f"symbol id {outside} is outside 0 to 0"):
            instruments.symbol(outside)


def test_the_label_names_exchange_and_symbol() -> None:
    named, nameless = Instruments("okx"), Instruments()
    assert named.label(named.add("BTC-USD")) == "okx BTC-USD"
    assert nameless.label(nameless.add("BTC-USD")) == "BTC-USD"


@pytest.mark.parametrize("scales", [(19, 0), (0, 19), (-1, 0), (0, -1)])
def test_a_scale_outside_0_to_18_is_refused_and_the_symbol_stays_unknown(scales: tuple[int, int]) -> None:
    instruments = Instruments("okx")
    with pytest.raises(PrecisionError, match=r"okx A: scales .* are outside 0 to 18"):
        instruments.add("A", *scales)
    assert "A" not in instruments


def test_a_declared_scale_leaves_the_rows_of_a_batch_and_the_room_for_more_of_them() -> None:
    instruments = Instruments("okx")
    batch = TickBatch(instruments, ids=False)
    batch.append("A", 0, "9223372036854775807", "1")
    instruments.add("A", 1, 18)
    assert instruments.scales("A") == (1, 18)
    assert batch.scales("A") == (0, 0)
    batch.append("A", 0, "9223372036854775806", "10")
    with pytest.raises(PrecisionError, match=r"okx A: price 0\.5 needs 1 decimals, but prices up to 922337"):
        batch.append("A", 0, "0.5", "1")
    with pytest.raises(PrecisionError, match="okx A: size 10 does not fit 64 bits with the 18 decimals"):
        TickBatch(instruments, ids=False).append("A", 0, "1", "10")


def test_each_change_of_a_known_symbol_is_a_version_of_its_own() -> None:
    instruments = Instruments()
    instruments.add("A", 2, 2)
    assert instruments.version == 0
    TickBatch(instruments, ids=False).append("A", 0, "1.125", "1")
    assert instruments.version == 0
    instruments.add("A", 3, 2)
    assert instruments.version == 1
    instruments.add("A", 1, 1)
    assert instruments.version == 1
    instruments.add("B")
    instruments.add("B", contract_size="10")
    instruments.add("B", contract_size="10.0")
    assert instruments.version == 2


def test_a_contract_size_is_kept_exactly() -> None:
    instruments = Instruments()
    instruments.add("BTCUSD_PERP", contract_size="100")
    instruments.add("ETHUSD_PERP", contract_size=Decimal("0.010"))
    instruments.add("BTCUSDT")
    assert instruments.contract_size("BTCUSD_PERP") == Decimal(100)
    assert instruments.contract_size("ETHUSD_PERP") == Decimal("0.01")
    assert instruments.contract_size("BTCUSDT") is None


@pytest.mark.parametrize("contract_size", ["0", "-1", 0])
def test_a_contract_size_that_is_not_positive_is_refused(contract_size: str | int) -> None:
    instruments = Instruments("okx")
    with pytest.raises(PrecisionError, match=f"okx A: contract size {contract_size} is not positive"):
        instruments.add("A", contract_size=contract_size)
    assert "A" not in instruments


@pytest.mark.parametrize("other", ["2", "0.1", "10"])
def test_a_contract_size_cannot_change_after_the_first_trade(other: str) -> None:
    instruments = Instruments("okx")
    instruments.add("A", contract_size="1")
    TickBatch(instruments, ids=False).append("A", 0, "5", "5")
    with pytest.raises(PrecisionError, match="okx A: the contract size is set before the first trade"):
        instruments.add("A", contract_size=other)
    assert instruments.contract_size("A") == 1
    assert instruments.add("A", contract_size="1.0") == 0
