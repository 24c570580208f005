"""REPORTED bars: the exchange's own candles as bars, with the fields that these have."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest

from fastbars.bars import STATUSES, UNREPORTED, BarStatus, CloseReason, ExchangeBar, OHLCVBar, reported
from fastbars.cli.output import csv_line, json_line, table_line
from fastbars.kernel.limits import REPORTED_STATUS
from fastbars.live.delivery_log import decoded, encoded
from fastbars.verification import Verifier

NOON = datetime(2026, 10, 1, 12, tzinfo=UTC)


def candle(minute: int = 0, **others: Any) -> ExchangeBar:
    """As Hyperliquid sends it: no quote volume, no taker's part, no ids."""
    at = NOON + timedelta(minutes=minute)
    values: dict[str, Any] = {
        "symbol": "BTC", "spec": "1m", "open_time": at, "close_time": at + timedelta(minutes=1),
        "open": Decimal("100.5"), "high": Decimal(102), "low": Decimal("99.25"), "close": Decimal("101"),
        "volume": Decimal("3.5"), "quote_volume": None, "trade_count": 7, "taker_buy_volume": None,
        "taker_buy_quote_volume": None, "first_trade_id": None, "last_trade_id": None, "is_closed": True,
        "event_time_ns": None,
    }  # fmt: skip
    return ExchangeBar(exchange="hyperliquid", market="perpetuals", **(values | others))


BARE = candle(trade_count=None)


def test_a_reported_bar_has_the_fields_of_the_candle_and_no_others() -> None:
    bar = reported(candle(), revision=3)
    assert (bar.exchange, bar.market, bar.symbol, bar.spec) == ("hyperliquid", "perpetuals", "BTC", "1m")
    assert (bar.open_time, bar.close_time) == (NOON, NOON + timedelta(minutes=1))
    assert (bar.open, bar.high, bar.low, bar.close) == (Decimal("100.5"), Decimal(102), Decimal("99.25"), Decimal(101))
    assert (bar.volume, bar.quote_volume, bar.trade_count) == (Decimal("3.5"), None, 7)
    assert (bar.taker_buy_volume, bar.taker_buy_quote_volume) == (None, None)
    assert (bar.status, bar.revision, bar.close_reason) == (BarStatus.REPORTED, 3, CloseReason.CANDLE)
    assert (bar.missing_count, bar.unpublished_count, bar.vwap, bar.is_complete) == (None, None, None, False)


def test_a_candle_that_says_everything_makes_a_bar_that_says_it_too() -> None:
    whole = candle(
        quote_volume=Decimal(350), taker_buy_volume=Decimal(1), taker_buy_quote_volume=Decimal(100), first_trade_id=4,
        last_trade_id=10, is_closed=None,
    )  # fmt: skip
    bar = reported(whole)
    assert (bar.quote_volume, bar.taker_buy_volume, bar.taker_buy_quote_volume) == (
        Decimal(350),
        Decimal(1),
        Decimal(100),
    )
    assert (bar.first_trade_id, bar.last_trade_id, bar.vwap) == (4, 10, Decimal(100))
    assert reported(whole, inverse=True).vwap is None


def test_reported_stands_between_what_is_made_of_trades_and_what_lacks_some() -> None:
    assert STATUSES[STATUSES.index(BarStatus.REPORTED) - 1] is BarStatus.SAMPLED
    assert STATUSES[STATUSES.index(BarStatus.REPORTED) + 1] is BarStatus.PARTIAL
    assert STATUSES.index(BarStatus.REPORTED) == REPORTED_STATUS


def test_a_candle_that_is_still_updated_makes_no_bar() -> None:
    with pytest.raises(ValueError, match=r"hyperliquid BTC 1m 2026-10-01 12:00:00\+00:00: the candle is not closed"):
        reported(candle(is_closed=False))


def test_a_candle_that_contradicts_itself_makes_no_bar() -> None:
    with pytest.raises(ValueError, match=r"High \(99\) must be >= low"):
        reported(candle(high=Decimal(99)))
    with pytest.raises(ValueError, match="trade count"):
        reported(candle(trade_count=-1))


@pytest.mark.parametrize("name", UNREPORTED)
@pytest.mark.parametrize("status", [status for status in BarStatus if status is not BarStatus.REPORTED])
def test_only_a_reported_bar_may_lack_a_field(name: str, status: BarStatus) -> None:
    bar = reported(candle())
    whole: dict[str, Any] = {each: 0 if each == "trade_count" else Decimal(0) for each in UNREPORTED}
    with pytest.raises(ValueError, match=f"{name} is None: only a REPORTED bar may lack it, and this one is {status}"):
        replace(bar, status=status, **(whole | {name: None}))


def test_what_a_bar_lacks_is_shown_as_nothing() -> None:
    bar = reported(BARE)
    assert repr(bar) == (
        "<OHLCVBar hyperliquid perpetuals BTC 1m 2026-10-01 12:00:00Z O 100.5 H 102 L 99.25 C 101 V 3.5 trades -"
        " REPORTED>"
    )
    assert csv_line(bar) == (
        "hyperliquid,perpetuals,BTC,1m,2026-10-01T12:00:00Z,2026-10-01T12:01:00Z,100.5,102,99.25,101,3.5,,,,,,,"
        "REPORTED,0,candle,,"
    )
    line = json.loads(json_line(bar))
    assert line == json.loads(json.dumps(bar.to_dict(json=True)))
    assert (line["trade_count"], line["quote_volume"], line["volume"]) == (None, None, "3.5")
    assert table_line(bar).split()[-2:] == ["3.5", "REPORTED"]


def test_a_reported_bar_survives_pickle_and_the_delivery_log() -> None:
    bar = reported(BARE, revision=1, inverse=True)
    for again in (pickle.loads(pickle.dumps(bar)), decoded(orjson.loads(encoded(bar)))):
        assert again == bar
        assert again.inverse


def test_comparing_a_candle_with_itself_proves_nothing() -> None:
    verifier = Verifier()
    for minute in range(3):
        verifier.add_candle(candle(minute))
        verifier.add_bar(reported(candle(minute)))
    made = OHLCVBar(**{name: getattr(reported(candle(3)), name) for name in ("exchange", "market", "symbol", "spec",
        "open_time", "close_time", "open", "high", "low", "close", "volume", "trade_count")})  # fmt: skip
    verifier.add_candle(candle(3))
    verifier.add_bar(made)
    # Trades prove the first one after all.
    verifier.add_bar(replace(made, open_time=NOON, close_time=NOON + timedelta(minutes=1), revision=1))
    result = verifier.finish()
    assert (result.equal, result.reported, result.different, result.compared) == (2, 2, 0, 2)
