"""Hyperliquid's messages."""

from __future__ import annotations

from datetime import timedelta

from fastbars.exchanges import Ack, Heartbeat, Refusal, Trade, hyperliquid
from fastbars.testing import ExchangeFixtures

from .values import MINUTE, OPEN, OPEN_MS, T_MS, T_NS, candle, past, quote


def _fixtures() -> ExchangeFixtures:
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
    snapshot = (
        f'[{{"t":{OPEN_MS},"T":{OPEN_MS + 59_999},"s":"AB","i":"1m","o":"1","c":"2","h":"3","l":"0.5","v":"10","n":3}},'
        f'{{"t":{OPEN_MS + 60_000},"T":{OPEN_MS + 119_999},"s":"AB","i":"1m","o":"2","c":"2.5","h":"2.5","l":"2",'
        '"v":"7","n":2}]'
    )
    asked = f'"req":{{"coin":"AB","interval":"1m","startTime":{OPEN_MS},"endTime":{OPEN_MS + 119_999}}}'
    return ExchangeFixtures(
        exchange=hyperliquid.HYPERLIQUID,
        subscribes=[
            (
                [("AB", "trades"), ("CD", "candle_1m")],
                [
                    '{"method":"subscribe","subscription":{"type":"trades","coin":"AB"}}',
                    '{"method":"subscribe","subscription":{"type":"candle","coin":"CD","interval":"1m"}}',
                ],
            )
        ],
        unsubscribes=[([("AB", "bbo")], ['{"method":"unsubscribe","subscription":{"type":"bbo","coin":"AB"}}'])],
        trades=[
            (one, [read(5, T_MS)]),
            (
                f'{{"channel":"trades","data":[{history}]}}',
                [read(3, T_MS - 9), read(4, T_MS - 9), read(5, T_MS), read(9, T_MS, -1)],
            ),
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
        past_candles=[
            past(
                "AB",
                f'POST https://api.hyperliquid.xyz/info {{"type":"candleSnapshot",{asked}}}',
                snapshot,
                [
                    candle("AB", "1m", MINUTE, "1 3 0.5 2 10", count=3),
                    candle("AB", "1m", MINUTE, "2 2.5 2 2.5 7", count=2, open_time=OPEN + MINUTE),
                ],
            ),
        ],
        unknown=["{}", "[]", "7", '"text"', '{"channel":5}'],
        event_times=[
            (one, T_NS),
            (f'{{"channel":"trades","data":[{history}]}}', T_NS),
            (kline, None),
            ('{"channel":"pong"}', None),
        ],
        others=[
            (kline, [candle("AB", "1m", MINUTE, "1 3 0.5 2 10", count=3)]),
            (
                kline.replace('"i":"1m"', '"i":"1M"'),
                [candle("AB", "1mo", timedelta(days=31), "1 3 0.5 2 10", count=3)],
            ),
            (book + '{"px":"3","sz":"4","n":1}]}}', [quote("AB", "1 2 3 4", T_NS)]),
            (book + "null]}}", [quote("AB", "1 2 - -", T_NS)]),
        ],
    )


FIXTURES = {"hyperliquid": _fixtures()}
