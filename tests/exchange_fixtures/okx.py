"""OKX's messages."""

from __future__ import annotations

from fastbars.exchanges import Ack, Heartbeat, Notice, Refusal, Trade, okx
from fastbars.testing import ExchangeFixtures

from .values import DAY, MINUTE, OPEN, OPEN_MS, T_MS, T_NS, D, candle, past, quote, ticker


def _fixtures() -> ExchangeFixtures:
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
    rest = "https://www.okx.com/api/v5/market"
    span = f"bar=1m&after={OPEN_MS + 120_000}&before={OPEN_MS - 1}&limit=2"
    two = f'["{OPEN_MS + 60_000}","2","2.5","2","2.5","7","14","15","0"],{row}'
    running = candle("AB-USDT", "1m", MINUTE, "2 2.5 2 2.5 7", quote="15", is_closed=False, open_time=OPEN + MINUTE)
    return ExchangeFixtures(
        exchange=okx.OKX,
        subscribes=[
            (
                [("AB-USDT", "trades-all"), ("CD-USDT", "candle1m")],
                [
                    '{"id":"7","op":"subscribe","args":[{"channel":"trades-all","instId":"AB-USDT"},'
                    '{"channel":"candle1m","instId":"CD-USDT"}]}'
                ],
            )
        ],
        unsubscribes=[
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
        past_candles=[
            past(
                "AB-USDT",
                f"GET {rest}/candles?instId=AB-USDT&{span}",
                f'{{"code":"0","msg":"","data":[{two}]}}',
                [running, minute],
            ),
            past(
                "AB-USDT-SWAP",
                f"GET {rest}/candles?instId=AB-USDT-SWAP&{span}",
                f'{{"code":"0","msg":"","data":[{row}]}}',
                [candle("AB-USDT-SWAP", "1m", MINUTE, "1 3 0.5 2 10", is_closed=True)],
            ),
        ],
        contracts={"BTC-USD-SWAP": D(100), "ETH-USD-260327": D(10), "BTC-USDT-SWAP": None, "BTC-USDT": None},
        others=[
            (message("candle1m", row), [minute]),
            (
                message("candle1Dutc", row.replace('"1"]', '"0"]')),
                [candle("AB-USDT", "1d", DAY, "1 3 0.5 2 10", quote="21", is_closed=False)],
            ),
            (
                message("bbo-tbt", f'{{"asks":[["3","4","0","1"]],"bids":[["1","2","0","1"]],{book}}}'),
                [quote("AB-USDT", "1 2 3 4", T_NS)],
            ),
            (message("bbo-tbt", f'{{"asks":[["3","4"]],"bids":[],{book}}}'), [quote("AB-USDT", "- - 3 4", T_NS)]),
            (message("tickers", day), [ticker("AB-USDT", "2 1 3 0.5 10 20", T_NS)]),
            (
                message("tickers", day.replace("AB-USDT", "AB-USD-SWAP")),
                [ticker("AB-USD-SWAP", "2 1 3 0.5 10 -", T_NS)],
            ),
            ('{"event":"notice","code":"64008","msg":"upgrade soon","connId":"c"}', [Notice("upgrade soon")]),
        ],
    )


FIXTURES = {"okx": _fixtures()}
