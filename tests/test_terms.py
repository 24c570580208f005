"""What an exchange lists of a symbol sets its scales and contract size before its first trade, live and in a replay."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

import fastbars
from fastbars import OHLCVBar, StreamConfig
from fastbars.cli.output import csv_line
from fastbars.exchanges import find_exchange
from fastbars.exchanges.listing import Listed
from fastbars.live.admission import Terms, terms_of
from fastbars.live.session import Session
from fastbars.simulator import SimulatedExchange
from servers import MINUTE_MS, trade


@pytest.mark.parametrize(
    ("tick", "step", "terms"),
    [
        ("0.10", "0.001", Terms(1, 3)),
        ("0.00001000", "1", Terms(5, 0)),
        ("5", "10", Terms(0, 0)),
        ("0.25", "0.00000001", Terms(2, 8)),
        ("1E-10", "1E-9", Terms(10, 0)),
        ("1E-11", "1E-18", Terms(0, 0)),  # not believed: trades would have no room
        (None, None, Terms()),
    ],
)
def test_a_tick_says_how_many_decimals_prices_have(tick: str | None, step: str | None, terms: Terms) -> None:
    one = Listed(
        "A", "", price_tick=None if tick is None else Decimal(tick), size_step=None if step is None else Decimal(step)
    )
    assert terms_of(one) == terms


def test_the_contract_size_that_is_listed_stands_instead_of_the_table() -> None:
    session = Session(find_exchange("binance", "coinm"), StreamConfig(bars="1m", close_by="trades"), channel="trade")
    listed = [
        Listed("BTCUSD_PERP", "TRADING", "perpetual", inverse=True, contract_size=Decimal(7), price_tick=Decimal("0.1"))
    ]
    session.learn(listed)
    for symbol in ("btcusd_perp", "ethusd_perp"):
        for number, at_ms in ((1, 0), (2, MINUTE_MS)):
            session.receive([trade(number, at_ms, symbol=symbol.upper())], 1)
    instruments = session.intake.buffer.instruments if session.intake.buffer is not None else None
    assert instruments is not None
    assert instruments.contract_size("BTCUSD_PERP") == 7
    assert instruments.contract_size("ETHUSD_PERP") == 10  # what is not listed has the table's
    session.learn(listed)  # it has traded: it keeps what it has
    assert instruments.contract_size("BTCUSD_PERP") == 7


async def test_a_first_trade_finds_its_scales_and_a_replay_has_them_too(tmp_path: Path) -> None:
    bars: list[OHLCVBar] = []
    async with SimulatedExchange("binance", symbols=["BTCUSDT", "DOGEUSDT"], rate=300.0) as server:
        config = StreamConfig(rest_url=server.rest_url, heal=False)
        stream = fastbars.stream(
            "binance", server.symbols, "1s", url=server.url, config=config, record=tmp_path, on_bar=bars.append
        )
        async with stream:
            assert stream.adapter.session.intake.buffer is not None
            await asyncio.sleep(4)
            instruments = stream.adapter.session.intake.buffer.instruments
            assert [instruments.scales(symbol) for symbol in ("BTCUSDT", "DOGEUSDT")] == [(2, 5), (5, 0)]
            assert instruments.version == 0  # nothing had to be widened
    replayed = list(fastbars.replay(tmp_path))
    assert bars
    assert list(map(csv_line, replayed)) == list(map(csv_line, bars))
