"""What each exchange's messages look like and mean: fixtures for the contract that all exchanges share.

The formats are those of the official documentation (`docs` of each exchange); the values are made up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from fastbars.bars import ExchangeBar
from fastbars.events import Quote, Ticker
from fastbars.exchanges import binance, bybit, coinbase, hyperliquid, interactive_brokers, kraken, okx
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.messages import Ack, Heartbeat, Message, Notice, Refusal, Stream, TokenWanted, Trade

D = Decimal

T_MS = 1_767_225_605_250  # 2026-01-01 00:00:05.250 UTC
T_NS = T_MS * 1_000_000
T_TEXT = "2026-01-01T00:00:05.250Z"
OPEN_MS = 1_767_225_600_000
OPEN = datetime(2026, 1, 1, tzinfo=UTC)

Case = tuple[str, Sequence[Message]]


@dataclass(frozen=True)
class Fixtures:
    """One market of one exchange.

    Attributes:
        trades, candles, quotes, tickers, acks, refusals, heartbeats, notices: payload and what it means.
        raw: payload, kind and symbol of what is handed on as it is.
        empty: payloads of a known kind with nothing in them.
        garbage: payloads that claim to be of a known kind and are broken.
        unknown: payloads of no known kind.
        event_times: payload and when the exchange sent it, ns.
        requests: streams, and the frames that subscribe to them as request 7; unsubscribe likewise.
    """

    exchange: Exchange
    requests: Sequence[tuple[Sequence[Stream], Sequence[str]]]
    ends: Sequence[tuple[Sequence[Stream], Sequence[str]]]
    trades: Sequence[Case]
    garbage: Sequence[str]
    unknown: Sequence[str]
    event_times: Sequence[tuple[str, int | None]]
    candles: Sequence[Case] = ()
    quotes: Sequence[Case] = ()
    tickers: Sequence[Case] = ()
    acks: Sequence[Case] = ()
    refusals: Sequence[Case] = ()
    heartbeats: Sequence[Case] = ()
    notices: Sequence[Case] = ()
    empty: Sequence[str] = ()
    raw: Sequence[tuple[str, str, str | None]] = ()
    contracts: dict[str, D | None] = field(default_factory=dict)


def candle(
    symbol: str,
    spec: str,
    length: timedelta,
    numbers: str,
    *,
    quote: str | None = None,
    count: int | None = None,
    is_closed: bool | None = None,
    event_time_ns: int | None = None,
    open_time: datetime = OPEN,
) -> ExchangeBar:
    """Open, high, low, close and volume as text with spaces."""
    open_, high, low, close, volume = map(D, numbers.split())
    turnover = None if quote is None else D(quote)
    return ExchangeBar(
        symbol, spec, open_time, open_time + length, open_, high, low, close, volume, turnover, count,
        None, None, None, None, is_closed, event_time_ns,
    )  # fmt: skip


def quote(symbol: str, numbers: str, time_ns: int | None) -> Quote:
    """Bid, its size, ask, its size as text with spaces; "-" is none."""
    bid, bid_size, ask, ask_size = (None if text == "-" else D(text) for text in numbers.split())
    return Quote(symbol, bid, bid_size, ask, ask_size, time_ns)


def ticker(symbol: str, numbers: str, time_ns: int | None, count: int | None = None) -> Ticker:
    """Last, open, high, low, volume, quote volume as text with spaces; "-" is none."""
    last, open_, high, low, volume, turnover = (None if text == "-" else D(text) for text in numbers.split())
    assert last is not None
    assert high is not None
    assert low is not None
    assert volume is not None
    return Ticker(symbol, last, open_, high, low, volume, turnover, count, time_ns)


MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def binance_fixtures(exchange: Exchange, **more: Any) -> Fixtures:
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
    day = '"p":"1","P":"1","w":"2","c":"2","Q":"1","o":"1","h":"3","l":"0.5","v":"10","q":"20","O":0,"C":1,"F":1,"L":3'
    return Fixtures(
        exchange,
        requests=[
            (
                [("AB", "trade"), ("CD", "kline_1m")],
                ['{"method":"SUBSCRIBE","params":["ab@trade","cd@kline_1m"],"id":7}'],
            )
        ],
        ends=[([("AB", "trade")], ['{"method":"UNSUBSCRIBE","params":["ab@trade"],"id":7}'])],
        trades=[
            (trade, [Trade("trade", "AB", T_NS, "2.50", "3", 1, 41, 41)]),
            (f'{{"stream":"ab@trade","data":{trade}}}', [Trade("trade", "AB", T_NS, "2.50", "3", 1, 41, 41)]),
            (old, [Trade("trade", "AB", T_NS + 250_000, "2.51", "1", -1, 42, 42)]),
            (aggregate, [Trade("aggTrade", "AB", T_NS, "2.5", "3", 1, 41, 43, 3, 9)]),
        ],
        candles=[(kline, [bar])],
        quotes=[('{"u":5,"s":"AB","b":"1","B":"2","a":"3","A":"4"}', [quote("AB", "1 2 3 4", None)])],
        tickers=[(f'{{"e":"24hrTicker","E":{T_MS},"s":"AB",{day},"n":3}}', [ticker("AB", "2 1 3 0.5 10 20", T_NS, 3)])],
        acks=[('{"result":null,"id":7}', [Ack(7)])],
        refusals=[
            ('{"code":2,"msg":"no","id":7}', [Refusal(7, "no (code 2)")]),
            ('{"error":{"code":-1121,"msg":"no"},"id":7}', [Refusal(7, "no (code -1121)")]),
            ('{"code":3,"msg":"no"}', [Refusal(None, "no (code 3)")]),
        ],
        notices=[('{"e":"serverShutdown","E":1}', [Notice("the server is about to shut down")])],
        raw=[
            (f'{{"e":"depthUpdate","E":{T_MS},"s":"AB","U":1,"u":2,"b":[],"a":[]}}', "depthUpdate", "AB"),
            (f'{{"e":"executionReport","E":{T_MS},"s":"AB","i":4293153}}', "executionReport", "AB"),
            (f'{{"e":"ACCOUNT_UPDATE","E":{T_MS},"a":{{}}}}', "ACCOUNT_UPDATE", None),
        ],
        garbage=[trade.replace('"p"', '"x"'), kline.replace('"o":"1"', '"o":1.5'), '{"e":"aggTrade","s":"AB"}'],
        unknown=['{"e":"new"}', "{}", "[]", "7", '"text"', "null"],
        event_times=[(trade, T_NS), ('{"result":null,"id":7}', None), ("[]", None)],
        **more,
    )


def bybit_fixtures(exchange: Exchange, *, inverse: bool = False) -> Fixtures:
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
    return Fixtures(
        exchange,
        requests=[
            (
                [("ABUSDT", "publicTrade"), ("CDUSDT", "kline.1")],
                ['{"op":"subscribe","args":["publicTrade.ABUSDT","kline.1.CDUSDT"],"req_id":"7"}'],
            )
        ],
        ends=[([("ABUSDT", "tickers")], ['{"op":"unsubscribe","args":["tickers.ABUSDT"],"req_id":"7"}'])],
        trades=[
            (one, [read("2.5", 1, "k1")]),
            (
                message("publicTrade.ABUSDT", f"[{several}]"),
                [read("2.5", 1, "k1"), read("2.6", 1, "k2"), read("2.4", -1, "k3", T_NS + 1_000_000)],
            ),
        ],
        candles=[
            (message("kline.1.ABUSDT", f"[{kline},{new}]"), [closed, opened]),
            (message("kline.M.ABUSDT", f"[{month}]"), [monthly]),
            (message("kline.240.ABUSDT", f"[{hours}]"), [hourly]),
        ],
        quotes=[
            (message("orderbook.1.ABUSDT", book), [quote("ABUSDT", "1 2 3 4", T_NS)]),
            (
                message("orderbook.1.ABUSDT", book.replace('[["3","4"]]', "[]")),
                [quote("ABUSDT", "1 2 - -", T_NS)],
            ),
        ],
        tickers=[
            (
                message("tickers.ABUSDT", day),
                [ticker("ABUSDT", "2 1 3 0.5 10 -" if inverse else "2 1 3 0.5 10 20", T_NS)],
            )
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
        contracts={"BTCUSD": D(1) if inverse else None},
    )


def _hyperliquid() -> Fixtures:
    def trade(tid: int, time_ms: int, side: str = "B") -> str:
        return (
            f'{{"coin":"AB","side":"{side}","px":"2.5","sz":"0.5","time":{time_ms},"hash":"0x0","tid":{tid},'
            '"users":["0x1","0x2"]}'
        )

    def read(tid: int, time_ms: int, side: int = 1) -> Trade:
        return Trade("trades", "AB", time_ms * 1_000_000, "2.5", "0.5", side, key=str(tid))

    one = f'{{"channel":"trades","data":[{trade(5, T_MS)}]}}'
    history = ",".join([trade(5, T_MS), trade(3, T_MS - 9), trade(9, T_MS, "A"), trade(4, T_MS - 9)])
    kline = (
        f'{{"channel":"candle","data":{{"t":{OPEN_MS},"T":{OPEN_MS + 59_999},"s":"AB","i":"1m","o":"1","c":"2",'
        '"h":"3","l":"0.5","v":"10","n":3}}'
    )
    book = f'{{"channel":"bbo","data":{{"coin":"AB","time":{T_MS},"bbo":[{{"px":"1","sz":"2","n":1}},'
    subscription = '"subscription":{"type":"trades","coin":"AB"}'
    answer = '{"channel":"subscriptionResponse","data":{"method":'
    return Fixtures(
        hyperliquid.HYPERLIQUID,
        requests=[
            (
                [("AB", "trades"), ("CD", "candle_1m")],
                [
                    '{"method":"subscribe","subscription":{"type":"trades","coin":"AB"}}',
                    '{"method":"subscribe","subscription":{"type":"candle","coin":"CD","interval":"1m"}}',
                ],
            )
        ],
        ends=[([("AB", "bbo")], ['{"method":"unsubscribe","subscription":{"type":"bbo","coin":"AB"}}'])],
        trades=[
            (one, [read(5, T_MS)]),
            (
                f'{{"channel":"trades","data":[{history}]}}',
                [read(3, T_MS - 9), read(4, T_MS - 9), read(5, T_MS), read(9, T_MS, -1)],
            ),
        ],
        candles=[
            (kline, [candle("AB", "1m", MINUTE, "1 3 0.5 2 10", count=3)]),
            (
                kline.replace('"i":"1m"', '"i":"1M"'),
                [candle("AB", "1mo", timedelta(days=31), "1 3 0.5 2 10", count=3)],
            ),
        ],
        quotes=[
            (book + '{"px":"3","sz":"4","n":1}]}}', [quote("AB", "1 2 3 4", T_NS)]),
            (book + "null]}}", [quote("AB", "1 2 - -", T_NS)]),
        ],
        acks=[
            (f'{answer}"subscribe",{subscription}}}}}', [Ack(streams=(("AB", "trades"),))]),
            (f'{answer}"unsubscribe",{subscription}}}}}', [Ack(streams=(("AB", "trades"),), ended=True)]),
            (
                f'{answer}"subscribe","subscription":{{"type":"candle","coin":"AB","interval":"1m"}}}}}}',
                [Ack(streams=(("AB", "candle_1m"),))],
            ),
            (
                '{"channel":"error","data":"Already subscribed: {\\"type\\":\\"trades\\",\\"coin\\":\\"AB\\"}"}',
                [Ack(streams=(("AB", "trades"),))],
            ),
            (
                '{"channel":"error","data":"Already unsubscribed: {\\"type\\":\\"trades\\",\\"coin\\":\\"AB\\"}"}',
                [Ack(streams=(("AB", "trades"),), ended=True)],
            ),
        ],
        refusals=[
            (
                '{"channel":"error","data":"Invalid subscription {\\"type\\":\\"trades\\",\\"coin\\":\\"ZZ\\"}"}',
                [Refusal(None, 'Invalid subscription {"type":"trades","coin":"ZZ"}', (("ZZ", "trades"),))],
            ),
            ('{"channel":"error","data":"too many"}', [Refusal(None, "too many")]),
            ('{"channel":"error","data":"what {is"}', [Refusal(None, "what {is")]),
        ],
        heartbeats=[('{"channel":"pong"}', [Heartbeat()])],
        empty=[
            "Websocket connection established.",  # the greeting
            '"Websocket connection established."',
            '{"channel":"trades","data":[]}',
        ],
        raw=[
            (f'{{"channel":"l2Book","data":{{"coin":"AB","time":{T_MS},"levels":[[],[]]}}}}', "l2Book", "AB"),
            ('{"channel":"userFills","data":{"user":"0x1","fills":[]}}', "userFills", None),
        ],
        garbage=[
            one.replace('"px"', '"x"'),
            one.replace('"B"', '"C"'),
            one.replace(str(T_MS), '"soon"'),
            kline.replace('"o":"1"', '"o":1.5'),
        ],
        unknown=["{}", "[]", "7", '"text"', '{"channel":5}'],
        event_times=[
            (one, T_NS),
            (f'{{"channel":"trades","data":[{history}]}}', T_NS),
            (kline, None),
            ('{"channel":"pong"}', None),
        ],
    )


def _interactive_brokers() -> Fixtures:
    def message(fields: str) -> str:
        return f'{{"server_id":"q2","conid":41,"_updated":{T_MS},"6119":"q2",{fields},"topic":"smd+41"}}'

    def trade(price: str, size: str) -> Trade:
        return Trade("smd", "41", T_NS, price, size, 0)

    both = '"31":"189.60","7059":"1,300"'
    book = '"84":"189.59","85":"500","86":"189.61","88":"1,200"'
    fields = '{"fields":["31","84","85","86","88","7059"]}'
    return Fixtures(
        interactive_brokers.GATEWAY,
        requests=[([("41", "smd"), ("42", "smd")], [f"smd+41+{fields}", f"smd+42+{fields}"])],
        ends=[([("41", "smd")], ["umd+41+{}"])],
        trades=[
            (message(both), [trade("189.60", "1300")]),
            (message(f"{both},{book}"), [trade("189.60", "1300"), quote("41", "189.59 1200 189.61 500", T_NS)]),
        ],
        quotes=[(message(book), [quote("41", "189.59 1200 189.61 500", T_NS)])],
        refusals=[
            (
                '{"topic":"sts","args":{"connected":true,"authenticated":false,"competing":false}}',
                [Refusal(None, "the gateway is not logged in")],
            )
        ],
        empty=['{"server_id":"q1","topic":"smd+41"}', '{"topic":"smd+41","6509":"RpB","6119":"q2"}'],
        heartbeats=[
            (f'{{"topic":"system","hb":{T_MS}}}', [Heartbeat()]),
            ('{"topic":"tic","alive":true}', [Heartbeat()]),
            ('{"message":"waiting for session"}', [TokenWanted("waiting for session")]),
        ],
        raw=[
            (message('"31":"189.60"'), "smd", "41"),  # a change, and what it changes is not known
            (message('"31":"C189.60","7059":"100"'), "smd", "41"),  # the previous close
            (message('"31":"H189.60","7059":"100"'), "smd", "41"),  # halted
            ('{"topic":"sts","args":{"connected":true,"authenticated":true}}', "sts", None),
            ('{"topic":"smh+41","data":[]}', "smh", None),
            ('{"topic":"act","args":{}}', "act", None),
        ],
        garbage=[
            message(both).replace("_updated", "_x"),
            message('"31":"1.5","7059":"1x5"'),
            message('"31":"1,5","7059":"100"'),  # 1.5, or a group of three that was cut
            message(both).replace('"1,300"', "1300"),
            '{"topic":"sts"}',
        ],
        unknown=["{}", "[]", "7", '"text"', '{"topic":5}'],
        event_times=[(message(both), T_NS), (f'{{"topic":"system","hb":{T_MS}}}', None), ("[]", None)],
    )


def _okx() -> Fixtures:
    def message(channel: str, data: str) -> str:
        return f'{{"arg":{{"channel":"{channel}","instId":"AB-USDT"}},"data":[{data}]}}'

    def trade(trade_id: int, more: str = "") -> str:
        return f'{{"instId":"AB-USDT","tradeId":"{trade_id}","px":"2.5","sz":"0.5","side":"sell","ts":"{T_MS}"{more}}}'

    one = message("trades-all", trade(41))
    row = f'["{OPEN_MS}","1","3","0.5","2","10","20","21","1"]'
    book = f'"ts":"{T_MS}","seqId":5'
    day = (
        '{"instType":"SPOT","instId":"AB-USDT","last":"2","lastSz":"1","open24h":"1","high24h":"3","low24h":"0.5",'
        f'"volCcy24h":"20","vol24h":"10","ts":"{T_MS}"}}'
    )
    minute = candle("AB-USDT", "1m", MINUTE, "1 3 0.5 2 10", quote="21", is_closed=True)
    arg = '"arg":{"channel":"trades-all","instId":"AB-USDT"}'
    return Fixtures(
        okx.OKX,
        requests=[
            (
                [("AB-USDT", "trades-all"), ("CD-USDT", "candle1m")],
                [
                    '{"id":"7","op":"subscribe","args":[{"channel":"trades-all","instId":"AB-USDT"},'
                    '{"channel":"candle1m","instId":"CD-USDT"}]}'
                ],
            )
        ],
        ends=[
            (
                [("AB-USDT", "trades-all")],
                ['{"id":"7","op":"unsubscribe","args":[{"channel":"trades-all","instId":"AB-USDT"}]}'],
            )
        ],
        trades=[
            (one, [Trade("trades-all", "AB-USDT", T_NS, "2.5", "0.5", -1, 41, 41)]),
            (
                message("trades-all", f"{trade(41)},{trade(42)}"),
                [Trade("trades-all", "AB-USDT", T_NS, "2.5", "0.5", -1, n, n) for n in (41, 42)],
            ),
            (
                message("trades", trade(43, ',"count":"3"')),
                [Trade("trades", "AB-USDT", T_NS, "2.5", "0.5", -1, 41, 43, 3)],
            ),
            (message("trades", trade(43)), [Trade("trades", "AB-USDT", T_NS, "2.5", "0.5", -1, 43, 43)]),
        ],
        candles=[
            (message("candle1m", row), [minute]),
            (
                message("candle1Dutc", row.replace('"1"]', '"0"]')),
                [candle("AB-USDT", "1d", DAY, "1 3 0.5 2 10", quote="21", is_closed=False)],
            ),
        ],
        quotes=[
            (
                message("bbo-tbt", f'{{"asks":[["3","4","0","1"]],"bids":[["1","2","0","1"]],{book}}}'),
                [quote("AB-USDT", "1 2 3 4", T_NS)],
            ),
            (message("bbo-tbt", f'{{"asks":[["3","4"]],"bids":[],{book}}}'), [quote("AB-USDT", "- - 3 4", T_NS)]),
        ],
        tickers=[
            (message("tickers", day), [ticker("AB-USDT", "2 1 3 0.5 10 20", T_NS)]),
            (
                message("tickers", day.replace("AB-USDT", "AB-USD-SWAP")),
                [ticker("AB-USD-SWAP", "2 1 3 0.5 10 -", T_NS)],
            ),
        ],
        acks=[
            (
                f'{{"id":"7","event":"subscribe",{arg},"connId":"c"}}',
                [Ack(7, (("AB-USDT", "trades-all"),))],
            ),
            (f'{{"event":"unsubscribe",{arg},"connId":"c"}}', [Ack(None, (("AB-USDT", "trades-all"),), ended=True)]),
        ],
        refusals=[
            (
                '{"id":"7","event":"error","code":"60012","msg":"Invalid request","connId":"c"}',
                [Refusal(7, "Invalid request (code 60012)")],
            ),
            (
                '{"event":"error","code":"60018","msg":"Wrong channel:trades-all,instId:ZZ-USDT doesn\'t exist."}',
                [
                    Refusal(
                        None,
                        "Wrong channel:trades-all,instId:ZZ-USDT doesn't exist. (code 60018)",
                        (("ZZ-USDT", "trades-all"),),
                    )
                ],
            ),
        ],
        heartbeats=[("pong", [Heartbeat()])],
        empty=[message(channel, "") for channel in ("trades-all", "trades", "candle1m", "bbo-tbt", "tickers")],
        notices=[('{"event":"notice","code":"64008","msg":"upgrade soon","connId":"c"}', [Notice("upgrade soon")])],
        raw=[
            (message("books", '{"asks":[],"bids":[]}'), "books", "AB-USDT"),
            ('{"event":"channel-conn-count","channel":"orders","connCount":"2"}', "channel-conn-count", None),
        ],
        garbage=[
            one.replace('"px"', '"x"'),
            one.replace('"sell"', '"hold"'),
            one.replace('"41"', '"x"'),
            message("candle1m", '["1","2"]'),
            message("candle1m", row.replace('"0.5"', "0.5")),
        ],
        unknown=["{}", "[]", "7", '"text"', '{"arg":5}'],
        event_times=[(one, T_NS), (message("candle1m", row), None), ("pong", None)],
        contracts={"BTC-USD-SWAP": D(100), "ETH-USD-260327": D(10), "BTC-USDT-SWAP": None, "BTC-USDT": None},
    )


def _coinbase() -> Fixtures:
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
    return Fixtures(
        coinbase.ADVANCED,
        requests=[
            (
                [("AB-USD", "market_trades"), ("AB-USD", "candles"), ("CD-USD", "market_trades")],
                [
                    '{"type":"subscribe","product_ids":["AB-USD","CD-USD"],"channel":"market_trades"}',
                    '{"type":"subscribe","product_ids":["AB-USD"],"channel":"candles"}',
                ],
            )
        ],
        ends=[
            ([("AB-USD", "ticker")], ['{"type":"unsubscribe","product_ids":["AB-USD"],"channel":"ticker"}']),
        ],
        trades=[
            (one, [read(41, T_NS)]),
            (
                message("market_trades", f'{{"type":"snapshot","trades":[{history}]}}'),
                [read(41, T_NS - 250_000_000, -1), read(42, T_NS)],
            ),
        ],
        candles=[
            (
                message("candles", f'{{"type":"update","candles":[{bar}]}}'),
                [candle("AB-USD", "5m", 5 * MINUTE, "1 3 0.5 2 10", event_time_ns=T_NS + 1)],
            )
        ],
        quotes=[
            (
                message("ticker", f'{{"type":"update","tickers":[{{{day}{best}}}]}}'),
                [ticker("AB-USD", numbers, T_NS + 1), quote("AB-USD", "1 2 3 4", T_NS + 1)],
            )
        ],
        tickers=[
            (
                message("ticker_batch", f'{{"type":"update","tickers":[{{{day}}}]}}'),
                [ticker("AB-USD", numbers, T_NS + 1)],
            )
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
        unknown=["{}", "[]", "7", '"text"', '{"channel":5}'],
        event_times=[(one, T_NS + 1), ('{"type":"error","message":"x"}', None), ("7", None)],
    )


def _kraken() -> Fixtures:
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
    return Fixtures(
        kraken.SPOT,
        requests=[
            (
                [("AB/USD", "trade"), ("AB/USD", "ohlc_5"), ("CD/USD", "trade")],
                [
                    '{"method":"subscribe","params":{"channel":"trade","symbol":["AB/USD","CD/USD"],"snapshot":true},'
                    '"req_id":7}',
                    '{"method":"subscribe","params":{"channel":"ohlc","symbol":["AB/USD"],"interval":5},"req_id":7}',
                ],
            )
        ],
        ends=[
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
        candles=[
            (
                message("ohlc", bar),
                [
                    candle(
                        "AB/USD", "1m", MINUTE, "1 3 0.5 2 10", count=3, event_time_ns=OPEN_MS * 1_000_000 + 60 * 10**9
                    )
                ],
            )
        ],
        quotes=[
            (
                message("ticker", day),
                [ticker("AB/USD", "2 2.1 3.1 0.5 10.5 -", T_NS), quote("AB/USD", "1 2 3.1 4", T_NS)],
            )
        ],
        tickers=[
            (
                message("ticker", day.replace(f',"timestamp":"{T_TEXT}"', ""), "snapshot"),
                [ticker("AB/USD", "2 2.1 3.1 0.5 10.5 -", None), quote("AB/USD", "1 2 3.1 4", None)],
            )
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
        unknown=["{}", "[]", "7", '"text"', '{"channel":null}', '{"method":"other"}'],
        event_times=[(one, T_NS), ('{"channel":"heartbeat"}', None), ("7", None)],
    )


FIXTURES: dict[str, Fixtures] = {
    "binance spot": binance_fixtures(binance.SPOT),
    "binance usdm": binance_fixtures(binance.USDM),
    "binance coinm": binance_fixtures(binance.COINM, contracts={"BTCUSD_PERP": D(100), "ETHUSD_PERP": D(10)}),
    "binance us": binance_fixtures(binance.US),
    "bybit spot": bybit_fixtures(bybit.SPOT),
    "bybit linear": bybit_fixtures(bybit.LINEAR),
    "bybit inverse": bybit_fixtures(bybit.INVERSE, inverse=True),
    "hyperliquid": _hyperliquid(),
    "interactive_brokers": _interactive_brokers(),
    "okx": _okx(),
    "coinbase": _coinbase(),
    "kraken": _kraken(),
}
