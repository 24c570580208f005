"""A trade that an exchange marks as special counts as any other: both readers read it as they read it unmarked."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from declared import MESSAGES
from fastbars.exchanges import Exchange, TradeReader, binance, bybit, deribit, okx
from test_scanner import Scan

OKX = MESSAGES["okx"].replace(b'"channel":"trades"', b'"channel":"trades-all"')
CASES = [
    *((binance.MARKETS[market], "trade", MESSAGES["binance trade"], (), {"X": mark})
      for market in ("usdm", "coinm") for mark in ("MARKET", "INSURANCE_FUND", "ADL")),
    *((bybit.MARKETS["linear"], "publicTrade", MESSAGES["bybit"], ("data", 0), marks)
      for marks in ({"BT": True}, {"RPI": True}, {"BT": True, "RPI": True})),
    *((okx.MARKETS["spot"], "trades-all", OKX, ("data", 0), {"source": mark}) for mark in ("0", "1")),
    *((deribit.MARKETS["inverse"], "trades.100ms", MESSAGES["deribit"], ("params", "data", 0), marks)
      for marks in ({"liquidation": "M"}, {"liquidation": "T"}, {"liquidation": "MT"}, {"block_trade_id": "154010"},
                    {"combo_id": "BTC-FS-27DEC24_PERP", "combo_trade_id": 1})),
]  # fmt: skip


@pytest.mark.parametrize(("exchange", "channel", "plain", "path", "marks"), CASES)
def test_a_marked_trade_counts_as_any_other(
    exchange: Exchange, channel: str, plain: bytes, path: tuple[str | int, ...], marks: dict[str, Any]
) -> None:
    fields = exchange.fields(channel)
    assert fields is not None
    message: Any = orjson.loads(plain)
    trade = message
    for key in path:
        trade = trade[key]
    trade |= marks
    marked = orjson.dumps(message)
    taken, rows, _ = Scan(fields).take(plain)
    assert taken
    assert rows
    assert Scan(fields).take(marked)[:2] == (True, rows)
    reader = TradeReader(channel, fields)
    trades = reader.read(exchange.loads(plain))
    assert trades is not None
    assert len(trades) == len(rows)
    assert reader.read(exchange.loads(marked)) == trades
