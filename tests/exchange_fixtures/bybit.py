"""Bybit's messages."""

from __future__ import annotations

from datetime import timedelta

from fastbars.exchanges import Ack, Exchange, Heartbeat, Refusal, Trade, bybit
from fastbars.testing import ExchangeFixtures

from .values import MINUTE, OPEN, OPEN_MS, T_MS, T_NS, D, candle, past, quote, ticker


def _fixtures(exchange: Exchange, *, inverse: bool = False) -> ExchangeFixtures:
    def trade(price: str, side: str, key: str, time_ms: int = T_MS) -> str:
        return (
            f'{{"T":{time_ms},"s":"ABUSDT","S":"{side}","v":"0.5","p":"{price}","L":"PlusTick","i":"{key}",'
            '"BT":false,"RPI":false,"seq":99}'
        )

    def message(topic: str, data: str, kind: str = "snapshot") -> str:
        return f'{{"topic":"{topic}","type":"{kind}","ts":{T_MS},"data":{data}}}'

    def read(price: str, side: int, key: str, time_ns: int = T_NS) -> Trade:
        return Trade("publicTrade", "ABUSDT", time_ns, price, "0.5", side, key=key)

    kline = (
        f'{{"start":{OPEN_MS},"end":{OPEN_MS + 59_999},"interval":"1","open":"1","close":"2","high":"3","low":"0.5",'
        f'"volume":"10","turnover":"20","confirm":true,"timestamp":{T_MS}}}'
    )
    new = kline.replace('"confirm":true', '"confirm":false').replace(str(OPEN_MS), str(OPEN_MS + 60_000))
    month = kline.replace('"interval":"1"', '"interval":"M"')
    hours = kline.replace('"interval":"1"', '"interval":"240"')
    turnover = None if inverse else "20"
    closed = candle(
        "ABUSDT", "1m", MINUTE, "1 3 0.5 2 10", quote=turnover, is_closed=True, event_time_ns=T_NS
    )  # fmt: skip
    opened = candle(
        "ABUSDT", "1m", MINUTE, "1 3 0.5 2 10", quote=turnover, is_closed=False, event_time_ns=T_NS,
        open_time=OPEN + MINUTE,
    )  # fmt: skip
    monthly = candle(
        "ABUSDT", "1mo", timedelta(days=31), "1 3 0.5 2 10", quote=turnover, is_closed=True, event_time_ns=T_NS
    )
    hourly = candle(
        "ABUSDT", "4h", timedelta(hours=4), "1 3 0.5 2 10", quote=turnover, is_closed=True, event_time_ns=T_NS
    )
    day = (
        '{"symbol":"ABUSDT","lastPrice":"2","prevPrice24h":"1","highPrice24h":"3","lowPrice24h":"0.5",'
        '"volume24h":"10","turnover24h":"20","bid1Price":"1"}'
    )
    book = '{"s":"ABUSDT","b":[["1","2"]],"a":[["3","4"]],"u":1,"seq":2}'
    one = message("publicTrade.ABUSDT", f"[{trade('2.5', 'Buy', 'k1')}]")
    several = ",".join([trade("2.5", "Buy", "k1"), trade("2.6", "Buy", "k2"), trade("2.4", "Sell", "k3", T_MS + 1)])
    category = exchange.identity[1]
    query = f"category={category}&symbol=ABUSDT&interval=1&start={OPEN_MS}&end={OPEN_MS + 119_999}&limit=2"
    listed = (
        f'{{"retCode":0,"retMsg":"OK","result":{{"category":"{category}","symbol":"ABUSDT","list":['
        f'["{OPEN_MS + 60_000}","2","2.5","2","2.5","7","15"],["{OPEN_MS}","1","3","0.5","2","10","20"]]}},'
        '"retExtInfo":{},"time":1672025956592}'
    )
    older = candle("ABUSDT", "1m", MINUTE, "1 3 0.5 2 10", quote=turnover)
    newer = candle("ABUSDT", "1m", MINUTE, "2 2.5 2 2.5 7", quote=None if inverse else "15", open_time=OPEN + MINUTE)
    return ExchangeFixtures(
        exchange=exchange,
        subscribes=[
            (
                [("ABUSDT", "publicTrade"), ("CDUSDT", "kline.1")],
                ['{"op":"subscribe","args":["publicTrade.ABUSDT","kline.1.CDUSDT"],"req_id":"7"}'],
            )
        ],
        unsubscribes=[([("ABUSDT", "tickers")], ['{"op":"unsubscribe","args":["tickers.ABUSDT"],"req_id":"7"}'])],
        trades=[
            (one, [read("2.5", 1, "k1")]),
            (
                message("publicTrade.ABUSDT", f"[{several}]"),
                [read("2.5", 1, "k1"), read("2.6", 1, "k2"), read("2.4", -1, "k3", T_NS + 1_000_000)],
            ),
        ],
        acks=[
            ('{"success":true,"ret_msg":"","conn_id":"c","req_id":"7","op":"subscribe"}', [Ack(7)]),
            ('{"success":true,"ret_msg":"","conn_id":"c","req_id":"8","op":"unsubscribe"}', [Ack(8, ended=True)]),
            ('{"success":true,"ret_msg":"","conn_id":"c","req_id":"","op":"subscribe"}', [Ack()]),
        ],
        refusals=[
            (
                '{"success":false,"ret_msg":"error:already subscribed,topic:publicTrade.ABUSDT","req_id":"7",'
                '"op":"subscribe"}',
                [
                    Refusal(
                        7, "error:already subscribed,topic:publicTrade.ABUSDT", (("ABUSDT", "publicTrade"),), held=True
                    )
                ],
            ),
            (
                '{"success":false,"ret_msg":"error:already subscribed,topic:kline.1.ABUSDT","req_id":"7",'
                '"op":"subscribe"}',
                [Refusal(7, "error:already subscribed,topic:kline.1.ABUSDT", (("ABUSDT", "kline.1"),), held=True)],
            ),
            (
                '{"success":false,"ret_msg":"already subscribed","req_id":"7","op":"subscribe"}',
                [Refusal(7, "already subscribed", (), held=True)],
            ),
            (
                '{"success":false,"ret_msg":"Invalid symbol","conn_id":"c","req_id":"7","op":"subscribe"}',
                [Refusal(7, "Invalid symbol")],
            ),
        ],
        empty=[message("publicTrade.ABUSDT", "[]"), message("kline.1.ABUSDT", "[]")],
        heartbeats=[
            ('{"success":true,"ret_msg":"pong","conn_id":"c","req_id":"","op":"ping"}', [Heartbeat()]),
            (f'{{"req_id":"","op":"pong","args":["{T_MS}"],"conn_id":"c"}}', [Heartbeat()]),
        ],
        raw=[
            (message("orderbook.50.ABUSDT", book), "orderbook", "ABUSDT"),
            (message("allLiquidation.ABUSDT", "[]"), "allLiquidation", "ABUSDT"),
            (message("tickers.ABUSDT", '{"symbol":"ABUSDT","lastPrice":"2"}', "delta"), "tickers", "ABUSDT"),
            ('{"op":"auth","success":true}', "auth", None),
        ],
        garbage=[
            one.replace('"p"', '"x"'),
            one.replace('"Buy"', '"Hold"'),
            message("kline.1.ABUSDT", "[7]"),
            message("publicTrade.ABUSDT", "null"),
            '{"topic":"publicTrade.ABUSDT"}',
        ],
        unknown=["{}", "[]", "7", '"text"', '{"topic":5}'],
        event_times=[(one, T_NS), ('{"op":"pong"}', None), ("7", None)],
        past_candles=[past("ABUSDT", f"GET https://api.bybit.com/v5/market/kline?{query}", listed, [newer, older])],
        contracts={"BTCUSD": D(1) if inverse else None},
        others=[
            (message("kline.1.ABUSDT", f"[{kline},{new}]"), [closed, opened]),
            (message("kline.M.ABUSDT", f"[{month}]"), [monthly]),
            (message("kline.240.ABUSDT", f"[{hours}]"), [hourly]),
            (message("orderbook.1.ABUSDT", book), [quote("ABUSDT", "1 2 3 4", T_NS)]),
            (
                message("orderbook.1.ABUSDT", book.replace('[["3","4"]]', "[]")),
                [quote("ABUSDT", "1 2 - -", T_NS)],
            ),
            (
                message("tickers.ABUSDT", day),
                [ticker("ABUSDT", "2 1 3 0.5 10 -" if inverse else "2 1 3 0.5 10 20", T_NS)],
            ),
        ],
    )


FIXTURES = {
    "bybit spot": _fixtures(bybit.SPOT),
    "bybit linear": _fixtures(bybit.LINEAR),
    "bybit inverse": _fixtures(bybit.INVERSE, inverse=True),
}
