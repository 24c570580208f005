"""Kraken's messages."""

from __future__ import annotations

from fastbars.exchanges import Ack, Heartbeat, Refusal, Trade, kraken
from fastbars.testing import ExchangeFixtures

from .values import MINUTE, OPEN, OPEN_MS, T_NS, T_TEXT, candle, past, quote, ticker


def _fixtures() -> ExchangeFixtures:
    def trade(trade_id: int, price: str, qty: str, side: str = "buy", time: str = T_TEXT) -> str:
        return (
            f'{{"symbol":"AB/USD","side":"{side}","price":{price},"qty":{qty},"ord_type":"limit",'
            f'"trade_id":{trade_id},"timestamp":"{time}"}}'
        )

    def message(channel: str, data: str, kind: str = "update") -> str:
        return f'{{"channel":"{channel}","type":"{kind}","data":[{data}]}}'

    def read(trade_id: int, price: str, size: str, side: int = 1) -> Trade:
        return Trade("trade", "AB/USD", T_NS, price, size, side, trade_id, trade_id)

    one = message("trade", trade(41, "105944.2", "0.00027625"))
    bar = (
        '{"symbol":"AB/USD","open":1.0,"high":3.0,"low":0.5,"close":2,"trades":3,"volume":10.00000000,"vwap":2.0,'
        '"interval_begin":"2026-01-01T00:00:00.000000000Z","interval":1,"timestamp":"2026-01-01T00:01:00.000000Z"}'
    )
    day = (
        '{"symbol":"AB/USD","bid":1.0,"bid_qty":2,"ask":3.10,"ask_qty":4.0,"last":2.0,"volume":10.5,"vwap":1.9,'
        f'"low":0.5,"high":3.1,"change":-0.10,"change_pct":-1.0,"timestamp":"{T_TEXT}"}}'
    )
    result = '"result":{"channel":"trade","symbol":"AB/USD","snapshot":true}'
    start = OPEN_MS // 1000
    rows = (
        f'[{start - 60},"1","1","1","1","0.0","0",0],[{start},"1.0","3.0","0.5","2.0","1.9","10.00000000",3],'
        f'[{start + 60},"2.0","2.0","2.0","2.0","0.0","0.00000000",0],[{start + 120},"2","2.5","2","2.5","2.2","7",2]'
    )
    url = f"https://api.kraken.com/0/public/OHLC?pair=XBTUSD&interval=1&since={start - 1}"
    return ExchangeFixtures(
        exchange=kraken.SPOT,
        subscribes=[
            (
                [("AB/USD", "trade"), ("AB/USD", "ohlc_5"), ("CD/USD", "trade")],
                [
                    '{"method":"subscribe","params":{"channel":"trade","symbol":["AB/USD","CD/USD"],"snapshot":true},'
                    '"req_id":7}',
                    '{"method":"subscribe","params":{"channel":"ohlc","symbol":["AB/USD"],"interval":5},"req_id":7}',
                ],
            )
        ],
        unsubscribes=[
            (
                [("AB/USD", "trade")],
                ['{"method":"unsubscribe","params":{"channel":"trade","symbol":["AB/USD"]},"req_id":7}'],
            ),
            (
                [("AB/USD", "ticker")],
                [
                    '{"method":"unsubscribe","params":{"channel":"ticker","symbol":["AB/USD"],"event_trigger":"bbo"},'
                    '"req_id":7}'
                ],
            ),
        ],
        trades=[
            (one, [read(41, "105944.2", "0.00027625")]),
            (  # a float would make 0.1000000000000000055 of the first and 123456789012345680 of the second
                message("trade", trade(41, "0.1", "1e-8") + "," + trade(42, "123456789012345678", "10", "sell")),
                [read(41, "0.1", "1e-8"), read(42, "123456789012345678", "10", -1)],
            ),
            (message("trade", trade(41, "2.50", "3"), "snapshot"), [read(41, "2.50", "3")]),
        ],
        acks=[
            (
                f'{{"method":"subscribe",{result},"success":true,"time_in":"t","time_out":"t","req_id":7}}',
                [Ack(7, (("AB/USD", "trade"),))],
            ),
            (f'{{"method":"unsubscribe",{result},"success":true}}', [Ack(None, (("AB/USD", "trade"),), ended=True)]),
            (
                '{"method":"subscribe","result":{"channel":"ohlc","symbol":"AB/USD","interval":5},"success":true,'
                '"req_id":7}',
                [Ack(7, (("AB/USD", "ohlc_5"),))],
            ),
        ],
        refusals=[
            (
                '{"error":"Currency pair not supported ZZ/USD","method":"subscribe","req_id":7,"success":false,'
                '"symbol":"ZZ/USD"}',
                [Refusal(7, "Currency pair not supported ZZ/USD", (("ZZ/USD", ""),))],
            ),
            ('{"error":"Malformed request","success":false}', [Refusal(None, "Malformed request")]),
        ],
        empty=[f'{{"channel":"{channel}","type":"update","data":[]}}' for channel in ("trade", "ohlc", "ticker")],
        heartbeats=[
            ('{"channel":"heartbeat"}', [Heartbeat()]),
            ('{"method":"pong","req_id":42,"time_in":"t","time_out":"t"}', [Heartbeat()]),
        ],
        raw=[
            (message("book", '{"symbol":"AB/USD","bids":[],"asks":[]}'), "book", "AB/USD"),
            (message("status", '{"system":"online","api_version":"v2"}'), "status", None),
        ],
        garbage=[
            one.replace('"price"', '"x"'),
            one.replace('"buy"', '"hold"'),
            one.replace(T_TEXT, "yesterday"),
            message("trade", "7"),
            message("ohlc", "{}"),
        ],
        past_candles=[
            past(
                "BTC/USD",
                f"GET {url}",
                f'{{"error":[],"result":{{"XXBTZUSD":[{rows}],"last":{start + 60}}}}}',
                [
                    candle("BTC/USD", "1m", MINUTE, "1.0 3.0 0.5 2.0 10.00000000", count=3),
                    candle("BTC/USD", "1m", MINUTE, "2 2 2 2 0", count=0, open_time=OPEN + MINUTE),
                    candle(
                        "BTC/USD",
                        "1m",
                        MINUTE,
                        "2 2.5 2 2.5 7",
                        count=2,
                        is_closed=False,
                        open_time=OPEN + 2 * MINUTE,
                    ),
                ],
                minutes=3,
            ),
        ],
        unknown=["{}", "[]", "7", '"text"', '{"channel":null}', '{"method":"other"}'],
        event_times=[(one, T_NS), ('{"channel":"heartbeat"}', None), ("7", None)],
        others=[
            (
                message("ohlc", bar),
                [
                    candle(
                        "AB/USD", "1m", MINUTE, "1 3 0.5 2 10", count=3, event_time_ns=OPEN_MS * 1_000_000 + 60 * 10**9
                    )
                ],
            ),
            (
                message("ticker", day),
                [ticker("AB/USD", "2 2.1 3.1 0.5 10.5 -", T_NS), quote("AB/USD", "1 2 3.1 4", T_NS)],
            ),
            (
                message("ticker", day.replace(f',"timestamp":"{T_TEXT}"', ""), "snapshot"),
                [ticker("AB/USD", "2 2.1 3.1 0.5 10.5 -", None), quote("AB/USD", "1 2 3.1 4", None)],
            ),
        ],
    )


FIXTURES = {"kraken": _fixtures()}
