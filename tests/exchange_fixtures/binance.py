"""Binance's messages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastbars.exchanges import Ack, Exchange, ExchangeBar, Notice, Refusal, Trade, binance
from fastbars.testing import ExchangeFixtures

from .values import MINUTE, OPEN, OPEN_MS, T_MS, T_NS, D, candle, past, quote, ticker

_KLINES = {
    "spot": "https://api.binance.com/api/v3/klines",
    "us": "https://api.binance.us/api/v3/klines",
    "usdm": "https://fapi.binance.com/fapi/v1/klines",
    "coinm": "https://dapi.binance.com/dapi/v1/klines",
}


def _fixtures(exchange: Exchange, **more: Any) -> ExchangeFixtures:
    trade = f'{{"e":"trade","E":{T_MS},"s":"AB","t":41,"p":"2.50","q":"3","T":{T_MS},"m":false}}'
    old = f'{{"e":"trade","E":{T_MS},"s":"AB","t":42,"p":"2.51","q":"1","T":{T_MS}250,"m":true}}'
    aggregate = f'{{"e":"aggTrade","E":{T_MS},"s":"AB","a":9,"p":"2.5","q":"3","f":41,"l":43,"T":{T_MS},"m":false}}'
    kline = (
        f'{{"e":"kline","E":{T_MS},"s":"AB","k":{{"t":{OPEN_MS},"T":{OPEN_MS + 59_999},"s":"AB","i":"1m","f":41,'
        '"L":43,"o":"1","c":"2","h":"3","l":"0.5","v":"10","n":3,"x":true,"q":"20","V":"4","Q":"8","B":"0"}}'
    )
    inverse = exchange is binance.COINM
    bar = ExchangeBar(
        "AB", "1m", OPEN, OPEN + MINUTE, D(1), D(3), D("0.5"), D(2), D(10), None if inverse else D(20), 3, D(4),
        None if inverse else D(8), 41, 43, True, T_NS,
    )  # fmt: skip
    query = f"symbol=AB&interval=1m&startTime={OPEN_MS}&endTime={OPEN_MS + 119_999}&limit=2"
    rows = (
        f'[[{OPEN_MS},"1","3","0.5","2","10",{OPEN_MS + 59_999},"20",3,"4","8","0"],'
        f'[{OPEN_MS + 60_000},"2","2","2","2","0",{OPEN_MS + 119_999},"0",0,"0","0","0"]]'
    )
    traded = replace(
        candle("AB", "1m", MINUTE, "1 3 0.5 2 10", quote=None if inverse else "20", count=3),
        taker_buy_volume=D(4), taker_buy_quote_volume=None if inverse else D(8),
    )  # fmt: skip
    empty = replace(
        candle("AB", "1m", MINUTE, "2 2 2 2 0", quote=None if inverse else "0", count=0, open_time=OPEN + MINUTE),
        taker_buy_volume=D(0), taker_buy_quote_volume=None if inverse else D(0),
    )  # fmt: skip
    day = '"p":"1","P":"1","w":"2","c":"2","Q":"1","o":"1","h":"3","l":"0.5","v":"10","q":"20","O":0,"C":1,"F":1,"L":3'
    return ExchangeFixtures(
        exchange=exchange,
        subscribes=[
            (
                [("AB", "trade"), ("CD", "kline_1m")],
                ['{"method":"SUBSCRIBE","params":["ab@trade","cd@kline_1m"],"id":7}'],
            )
        ],
        unsubscribes=[([("AB", "trade")], ['{"method":"UNSUBSCRIBE","params":["ab@trade"],"id":7}'])],
        trades=[
            (trade, [Trade("trade", "AB", T_NS, "2.50", "3", 1, 41, 41)]),
            (f'{{"stream":"ab@trade","data":{trade}}}', [Trade("trade", "AB", T_NS, "2.50", "3", 1, 41, 41)]),
            (old, [Trade("trade", "AB", T_NS + 250_000, "2.51", "1", -1, 42, 42)]),
            (aggregate, [Trade("aggTrade", "AB", T_NS, "2.5", "3", 1, 41, 43, 3, 9)]),
        ],
        acks=[('{"result":null,"id":7}', [Ack(7)])],
        refusals=[
            ('{"code":2,"msg":"no","id":7}', [Refusal(7, "no (code 2)")]),
            ('{"error":{"code":-1121,"msg":"no"},"id":7}', [Refusal(7, "no (code -1121)")]),
            ('{"code":3,"msg":"no"}', [Refusal(None, "no (code 3)")]),
        ],
        raw=[
            (f'{{"e":"depthUpdate","E":{T_MS},"s":"AB","U":1,"u":2,"b":[],"a":[]}}', "depthUpdate", "AB"),
            (f'{{"e":"executionReport","E":{T_MS},"s":"AB","i":4293153}}', "executionReport", "AB"),
            (f'{{"e":"ACCOUNT_UPDATE","E":{T_MS},"a":{{}}}}', "ACCOUNT_UPDATE", None),
        ],
        garbage=[trade.replace('"p"', '"x"'), kline.replace('"o":"1"', '"o":1.5'), '{"e":"aggTrade","s":"AB"}'],
        unknown=['{"e":"new"}', "{}", "[]", "7", '"text"', "null"],
        event_times=[(trade, T_NS), ('{"result":null,"id":7}', None), ("[]", None)],
        others=[
            (kline, [bar]),
            ('{"u":5,"s":"AB","b":"1","B":"2","a":"3","A":"4"}', [quote("AB", "1 2 3 4", None)]),
            (f'{{"e":"24hrTicker","E":{T_MS},"s":"AB",{day},"n":3}}', [ticker("AB", "2 1 3 0.5 10 20", T_NS, 3)]),
            ('{"e":"serverShutdown","E":1}', [Notice("the server is about to shut down")]),
        ],
        past_candles=[past("AB", f"GET {_KLINES[exchange.identity[1]]}?{query}", rows, [traded, empty])],
        **more,
    )


FIXTURES = {
    "binance spot": _fixtures(binance.SPOT),
    "binance usdm": _fixtures(binance.USDM),
    "binance coinm": _fixtures(binance.COINM, contracts={"BTCUSD_PERP": D(100), "ETHUSD_PERP": D(10)}),
    "binance us": _fixtures(binance.US),
}
