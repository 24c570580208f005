"""Coinbase's messages."""

from __future__ import annotations

from fastbars.exchanges import Ack, Heartbeat, Refusal, Trade, coinbase
from fastbars.testing import ExchangeFixtures

from .values import MINUTE, OPEN, OPEN_MS, T_NS, T_TEXT, candle, past, quote, ticker


def _fixtures() -> ExchangeFixtures:
    def message(channel: str, event: str) -> str:
        time = "2026-01-01T00:00:05.250000001Z"
        return f'{{"channel":"{channel}","timestamp":"{time}","sequence_num":9,"events":[{event}]}}'

    def trade(trade_id: int, time: str, side: str = "SELL") -> str:
        return (
            f'{{"product_id":"AB-USD","trade_id":"{trade_id}","price":"2.5","size":"0.5","time":"{time}",'
            f'"side":"{side}"}}'
        )

    def read(trade_id: int, time_ns: int, side: int = 1) -> Trade:
        return Trade("market_trades", "AB-USD", time_ns, "2.5", "0.5", side, trade_id, trade_id)

    one = message("market_trades", f'{{"type":"update","trades":[{trade(41, T_TEXT)}]}}')
    history = ",".join([trade(42, "2026-01-01T00:00:05.25Z"), trade(41, "2026-01-01T00:00:05Z", "BUY")])
    bar = (
        f'{{"start":"{OPEN_MS // 1000}","high":"3","low":"0.5","open":"1","close":"2","volume":"10",'
        '"product_id":"AB-USD"}'
    )
    day = (
        '"type":"ticker","product_id":"AB-USD","price":"2","volume_24_h":"10","low_24_h":"0.5","high_24_h":"3",'
        '"low_52_w":"0.1","high_52_w":"9","price_percent_chg_24_h":"1"'
    )
    best = ',"best_bid":"1","best_ask":"3","best_bid_quantity":"2","best_ask_quantity":"4"'
    numbers = "2 - 3 0.5 10 -"
    held = '{"subscriptions":{"market_trades":["AB-USD","CD-USD"],"heartbeats":["heartbeats"]}}'
    start = OPEN_MS // 1000
    rest = (
        "https://api.coinbase.com/api/v3/brokerage/market/products/AB-USD/candles?granularity=ONE_MINUTE"
        f"&start={start}&end={start + 120}&limit=3"
    )
    row = '{{"start":"{}","low":"{}","high":"{}","open":"{}","close":"{}","volume":"{}"}}'
    rows = [row.format(start + 60, 2, "2.5", 2, "2.5", 7), row.format(start, "0.5", 3, 1, 2, 10)]
    return ExchangeFixtures(
        exchange=coinbase.ADVANCED,
        subscribes=[
            (
                [("AB-USD", "market_trades"), ("AB-USD", "candles"), ("CD-USD", "market_trades")],
                [
                    '{"type":"subscribe","product_ids":["AB-USD","CD-USD"],"channel":"market_trades"}',
                    '{"type":"subscribe","product_ids":["AB-USD"],"channel":"candles"}',
                ],
            )
        ],
        unsubscribes=[
            ([("AB-USD", "ticker")], ['{"type":"unsubscribe","product_ids":["AB-USD"],"channel":"ticker"}']),
        ],
        trades=[
            (one, [read(41, T_NS)]),
            (
                message("market_trades", f'{{"type":"snapshot","trades":[{history}]}}'),
                [read(41, T_NS - 250_000_000, -1), read(42, T_NS)],
            ),
        ],
        acks=[
            (
                message("subscriptions", held),
                [
                    Ack(
                        streams=(
                            ("AB-USD", "market_trades"),
                            ("CD-USD", "market_trades"),
                            ("heartbeats", "heartbeats"),
                        ),
                        whole=True,
                    )
                ],
            ),
            (message("subscriptions", '{"subscriptions":{}}'), [Ack(whole=True)]),
        ],
        refusals=[('{"type":"error","message":"failure to subscribe"}', [Refusal(None, "failure to subscribe")])],
        empty=[
            f'{{"channel":"{channel}","timestamp":"{T_TEXT}","events":{events}}}'
            for channel, events in (
                ("market_trades", '[{"type":"update","trades":[]}]'),
                ("market_trades", "[]"),
                ("candles", '[{"candles":[]}]'),
                ("ticker", '[{"tickers":[]}]'),
            )
        ],
        heartbeats=[
            (
                message("heartbeats", '{"current_time":"2026-01-01 00:00:05 +0000 UTC m=+1.2","heartbeat_counter":3}'),
                [Heartbeat()],
            )
        ],
        raw=[
            (message("l2_data", '{"type":"update","product_id":"AB-USD","updates":[]}'), "level2", "AB-USD"),
            (message("status", '{"type":"snapshot","products":[]}'), "status", None),
        ],
        garbage=[
            one.replace('"price"', '"x"'),
            one.replace('"SELL"', '"HOLD"'),
            one.replace(T_TEXT, "yesterday"),
            one.replace(T_TEXT, "yesterday").replace("2026-01-01T00:00:05.250000001Z", "now"),
            message("market_trades", "7"),
            '{"channel":"market_trades"}',
        ],
        past_candles=[
            past(
                "AB-USD",
                f"GET {rest}",
                f'{{"candles":[{",".join(rows)}]}}',
                [
                    candle("AB-USD", "1m", MINUTE, "2 2.5 2 2.5 7", open_time=OPEN + MINUTE),
                    candle("AB-USD", "1m", MINUTE, "1 3 0.5 2 10"),
                ],
            ),
        ],
        unknown=["{}", "[]", "7", '"text"', '{"channel":5}'],
        event_times=[(one, T_NS + 1), ('{"type":"error","message":"x"}', None), ("7", None)],
        others=[
            (
                message("candles", f'{{"type":"update","candles":[{bar}]}}'),
                [candle("AB-USD", "5m", 5 * MINUTE, "1 3 0.5 2 10", event_time_ns=T_NS + 1)],
            ),
            (
                message("ticker", f'{{"type":"update","tickers":[{{{day}{best}}}]}}'),
                [ticker("AB-USD", numbers, T_NS + 1), quote("AB-USD", "1 2 3 4", T_NS + 1)],
            ),
            (
                message("ticker_batch", f'{{"type":"update","tickers":[{{{day}}}]}}'),
                [ticker("AB-USD", numbers, T_NS + 1)],
            ),
        ],
    )


FIXTURES = {"coinbase": _fixtures()}
