"""Instruments as a table: chosen, sorted, looked up, and given to Arrow."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

import fastbars
from fastbars import Instrument, InstrumentTable
from fastbars.errors import PrecisionError, RestError
from fastbars.exchanges import EXCHANGES, find_exchange
from fastbars.live.shared import SHARED
from fastbars.simulator import SimulatedExchange


def one(symbol: str, **fields: Any) -> Instrument:
    made: dict[str, Any] = {"kind": "perpetual", "status": "trading", "exchange_status": "TRADING", **fields}
    return Instrument("binance", "usdm", symbol, **made)


BTC = one(
    "BTCUSDT", base="BTC", quote="USDT", settle="USDT", price_tick=Decimal("0.10"), size_step=Decimal("0.001"),
    inverse=False, listed_at=datetime(2019, 9, 25, 8, tzinfo=UTC), quote_volume=Decimal("5000000.5"),
)  # fmt: skip
ETH = one("ETHUSDT", base="ETH", quote="USDT", settle="USDT", inverse=False, quote_volume=Decimal(900), status="halted",
          exchange_status="BREAK")  # fmt: skip
SOON = one(
    "BTCUSDT_260925", kind="future", base="BTC", quote="USDT", settle="USDT", inverse=False,
    expiry=datetime(2026, 9, 25, 8, tzinfo=UTC),
)  # fmt: skip
COIN = one("BTCUSD_PERP", base="BTC", quote="USD", settle="BTC", inverse=True, contract_size=Decimal(100))
ODD = one("币安人生", kind=None, status="not yet", exchange_status="PENDING")
ALL = InstrumentTable([BTC, ETH, SOON, COIN, ODD])


@pytest.mark.parametrize(
    ("chosen", "symbols"),
    [
        ({}, ["BTCUSDT", "BTCUSDT_260925", "BTCUSD_PERP"]),
        ({"status": None}, ["BTCUSDT", "ETHUSDT", "BTCUSDT_260925", "BTCUSD_PERP", "币安人生"]),
        ({"status": ["halted", "not yet"]}, ["ETHUSDT", "币安人生"]),
        ({"quote": "USDT", "kind": "perpetual"}, ["BTCUSDT"]),
        ({"base": ["BTC", "ETH"], "status": None, "kind": "perpetual"}, ["BTCUSDT", "ETHUSDT", "BTCUSD_PERP"]),
        ({"inverse": True}, ["BTCUSD_PERP"]),
        ({"inverse": False}, ["BTCUSDT", "BTCUSDT_260925"]),
        ({"name": "BTCUSDT.*"}, ["BTCUSDT", "BTCUSDT_260925"]),
        ({"name": "BTCUSDT"}, ["BTCUSDT"]),
        ({"exclude": ["BTC/USDT:USDT", "BTCUSD_PERP"]}, ["BTCUSDT_260925"]),
        ({"min_volume": 900, "status": None}, ["BTCUSDT", "ETHUSDT"]),
        ({"min_volume": "900.01", "status": None}, ["BTCUSDT"]),
        ({"min_volume": 0}, ["BTCUSDT"]),  # what is unknown is not enough
        ({"settle": "BTC"}, ["BTCUSD_PERP"]),
    ],
)
def test_a_choice_takes_what_has_all_that_is_asked_for(chosen: dict[str, Any], symbols: list[str]) -> None:
    assert ALL.where(fastbars.where(**chosen)).symbols == symbols


@pytest.mark.parametrize(
    ("chosen", "error", "why"),
    [
        ({"kind": "swap"}, ValueError, "kind is 'swap', it must be one of spot, perpetual, future, option"),
        ({"status": ["TRADING"]}, ValueError, "status is 'TRADING', it must be one of trading, halted"),
        ({"name": "("}, ValueError, "name='\\(' is not a regular expression"),
        ({"name": "a" * 201}, ValueError, "has 201 characters, the limit is 200"),
        ({"name": 5}, TypeError, "name must be a regular expression as text, got 5"),
        ({"quote": 5}, TypeError, "quote must be text or a list of texts, got 5"),
        ({"quote": [5]}, TypeError, "quote must be text or a list of texts, it has 5"),
        ({"quote": b"USDT"}, TypeError, "quote must be text"),
        ({"min_volume": -1}, ValueError, "min_volume must be a number from 0 on, got -1"),
        ({"min_volume": "nan"}, ValueError, "min_volume must be a number from 0 on"),
        ({"min_volume": "much"}, ValueError, "min_volume='much' is not a number"),
        ({"min_volume": True}, TypeError, "min_volume must be a number, got True"),
        ({"inverse": "yes"}, TypeError, "inverse must be True, False or None"),
        ({"exclude": map(str, range(10_001))}, ValueError, "exclude has 10001 values, the limit is 10000"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(chosen: dict[str, Any], error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        fastbars.where(**chosen)


def test_an_instrument_is_found_by_symbol_alias_and_place() -> None:
    assert ALL["BTCUSDT"] is ALL["BTC/USDT:USDT"] is ALL[0] is BTC
    assert ALL["BTC/USDT:USDT-260925"] is SOON
    assert ALL["BTC/USD:BTC"] is COIN
    assert "BTC/USD:BTC" in ALL
    assert BTC in ALL
    assert "BTC/USD" not in ALL
    assert ALL[1:3].symbols == ["ETHUSDT", "BTCUSDT_260925"]
    assert ODD.alias is None
    with pytest.raises(KeyError, match="no instrument has the symbol or alias 'XYZ'"):
        ALL["XYZ"]


def test_an_alias_of_two_instruments_is_ambiguous() -> None:
    both = InstrumentTable([one("@1", kind="spot", base="A", quote="B"), one("@2", kind="spot", base="A", quote="B")])
    with pytest.raises(KeyError, match="'A/B' is the alias of @1, @2"):
        both["A/B"]
    # A symbol is its own name, whatever else is called so.
    assert InstrumentTable([*both, one("A/B", kind="spot")])["A/B"].base is None


def test_a_table_is_sorted_by_a_field_and_what_is_unknown_comes_last() -> None:
    assert ALL.sorted("quote_volume", descending=True).symbols[:2] == ["BTCUSDT", "ETHUSDT"]
    assert ALL.sorted("quote_volume").symbols[:2] == ["ETHUSDT", "BTCUSDT"]
    assert ALL.sorted().symbols == sorted(ALL.symbols)
    assert ALL.sorted(lambda instrument: len(instrument.symbol)).symbols[0] == "币安人生"
    with pytest.raises(KeyError, match="an instrument has no 'volume'; it has exchange, market"):
        ALL.sorted("volume")


def test_a_table_is_an_arrow_table_with_every_value() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table(ALL)
    assert table.column_names == [*BTC.to_dict()]
    assert table.schema.field("price_tick").type == pyarrow.decimal128(38, 2)
    assert table.schema.field("expiry").type == pyarrow.timestamp("ns", tz="UTC")
    assert table.to_pylist() == [instrument.to_dict() for instrument in ALL]
    empty = pyarrow.table(InstrumentTable())
    assert empty.num_rows == 0
    assert empty.column_names == table.column_names


def test_a_decimal_that_arrow_cannot_hold_is_an_error() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    table = InstrumentTable([one("A", price_tick=Decimal("1E-20")), one("B", price_tick=Decimal("1E+19"))])
    with pytest.raises(PrecisionError, match="row 1: column price_tick has 20 decimals"):
        pyarrow.table(table)


def test_an_instrument_can_be_written_as_json() -> None:
    assert SOON.to_dict(json=True)["expiry"] == "2026-09-25T08:00:00Z"
    assert BTC.to_dict(json=True)["price_tick"] == "0.10"
    assert BTC.to_dict(json=True)["alias"] == "BTC/USDT:USDT"
    assert repr(ALL) == "InstrumentTable(5 instruments: BTCUSDT, ETHUSDT, BTCUSDT_260925, BTCUSD_PERP, 币安人生)"


async def test_an_exchange_without_a_list_says_so() -> None:
    with pytest.raises(RestError, match="interactive_brokers gateway: this exchange has no list of its instruments"):
        await fastbars.instruments("interactive_brokers")
    with pytest.raises(TypeError, match=r"where must be fastbars.where\(...\), got 'USDT'"):
        await fastbars.instruments("binance", "USDT")  # type: ignore[arg-type]


MARKETS = [
    (exchange, market)
    for exchange, markets in EXCHANGES.items()
    for market, venue in markets.items()
    if venue.listing is not None and exchange != "deribit"  # whose list does not say what was traded
]


@pytest.mark.parametrize(("exchange", "market"), MARKETS)
async def test_each_market_tells_its_instruments_through_sockets(exchange: str, market: str) -> None:
    SHARED.reset()
    first = "PURR/USDC" if (exchange, market) == ("hyperliquid", "spot") else None
    async with SimulatedExchange(
        exchange, market=market, symbols=3 if first is None else [first, "@7", "@107"], rate=10.0
    ) as server:
        names = server.symbols
        server.change_state(names[0], "trading", 5_000_000)
        server.change_state(names[2], "halted")
        table = await fastbars.instruments(
            exchange, fastbars.where(status=None, min_volume=1), market=market, rest_url=server.rest_url
        )
        everything = await fastbars.instruments(exchange, market=market, rest_url=server.rest_url)
        assert server.listing.requests  # asked here, and not elsewhere
    one = table[names[0]]
    assert (one.exchange, one.market) == find_exchange(exchange, market).identity
    assert one.status == "trading"
    assert one.quote_volume == 5_000_000
    assert one.size_step is not None
    assert (one.price_tick is None) == (exchange == "hyperliquid")
    assert one.alias is not None
    assert everything[one.alias].symbol == names[0]
    if exchange != "bybit":  # which lists only those that trade
        assert everything[names[2]].status in ("halted", "delisted") or exchange == "hyperliquid"
    inverse = one.inverse is True
    assert inverse == (one.contract_size is not None and one.settle == one.base)
    if inverse:
        assert one.contract_size == find_exchange(exchange, market).contract_size(one.symbol)
