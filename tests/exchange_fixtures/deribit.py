"""Deribit's messages."""

from __future__ import annotations

from fastbars.exchanges import Ack, Exchange, Heartbeat, Refusal, Trade, deribit
from fastbars.testing import ExchangeFixtures

from .values import MINUTE, OPEN, OPEN_MS, T_MS, T_NS, candle, past, quote, ticker


def _message(channel: str, data: str) -> str:
    return f'{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"{channel}","data":{data}}}}}'


def _fixtures(exchange: Exchange, symbol: str, *, volume: str, quote_volume: str | None, day: str) -> ExchangeFixtures:
    def trade(seq: int, price: str, amount: str, side: str = "buy", more: str = "") -> str:
        return (
            f'{{"trade_seq":{seq},"trade_id":"{seq + 9}","timestamp":{T_MS},"tick_direction":2,"price":{price},'
            f'"mark_price":8948.9,"instrument_name":"{symbol}","index_price":8955.88,"direction":"{side}",'
            f'"amount":{amount}{more}}}'
        )

    def read(seq: int, price: str, amount: str, side: int = 1) -> Trade:
        return Trade("trades.100ms", symbol, T_NS, price, amount, side, seq, seq)

    def request(op: str, number: int, *names: str) -> str:
        listed = ",".join(f'"{name}"' for name in names)
        return f'{{"jsonrpc":"2.0","id":{number},"method":"public/{op}","params":{{"channels":[{listed}]}}}}'

    channel = f"trades.{symbol}.100ms"
    one = _message(channel, f"[{trade(41, '8950.5', '10.0')}]")
    answered = f'"result":["{channel}"],"usIn":1,"usOut":2,"usDiff":1,"testnet":false}}'
    bar = f'{{"volume":0.5,"tick":{OPEN_MS},"open":1.0,"low":0.5,"high":3.0,"cost":4000.0,"close":2.0}}'
    best = (
        f'{{"timestamp":{T_MS},"instrument_name":"{symbol}","best_bid_price":1.5,"best_bid_amount":2.0,'
        '"best_ask_price":3.5,"best_ask_amount":4.0}'
    )
    stats = '"stats":{"volume_usd":4000.5,"volume":0.25,"price_change":0.7229,"low":0.5,"high":3.1}'
    state = f'{{"timestamp":{T_MS},{stats},"last_price":2.0,"instrument_name":"{symbol}"}}'
    url = (
        "https://www.deribit.com/api/v2/public/get_tradingview_chart_data?instrument_name="
        f"{symbol}&resolution=1&start_timestamp={OPEN_MS}&end_timestamp={OPEN_MS + 60_000}"
    )
    chart = (
        f'{{"jsonrpc":"2.0","result":{{"status":"ok","ticks":[{OPEN_MS},{OPEN_MS + 60_000}],"open":[1.0,2.0],'
        '"high":[3.0,2.0],"low":[0.5,2.0],"close":[2.0,2.0],"volume":[0.5,0.0],"cost":[4000.0,0.0]},"usIn":1}'
    )
    empty_quote = None if quote_volume is None else "0"
    return ExchangeFixtures(
        exchange=exchange,
        past_candles=[
            past(
                symbol,
                f"GET {url}",
                chart,
                [
                    candle(symbol, "1m", MINUTE, f"1 3 0.5 2 {volume}", quote=quote_volume),
                    candle(symbol, "1m", MINUTE, "2 2 2 2 0", quote=empty_quote, open_time=OPEN + MINUTE),
                ],
            ),
            past(symbol, f"GET {url}", '{"jsonrpc":"2.0","result":{"status":"no_data"}}', []),
        ],
        subscribes=[
            (
                [(symbol, "trades.100ms"), (symbol, "chart.trades.5"), (symbol, "quote")],
                [request("subscribe", 14, channel, f"chart.trades.{symbol}.5", f"quote.{symbol}")],
            )
        ],
        unsubscribes=[([(symbol, "trades.100ms")], [request("unsubscribe", 15, channel)])],
        trades=[
            (one, [read(41, "8950.5", "10.0")]),
            (  # a float would make 0.1000000000000000055 of the first and 123456789012345680 of the second
                _message(
                    channel,
                    f"[{trade(41, '0.1', '1e-8')},"
                    + trade(42, "123456789012345678", "10", "sell", ',"liquidation":"M","block_trade_id":"4"')
                    + "]",
                ),
                [read(41, "0.1", "1e-8"), read(42, "123456789012345678", "10", -1)],
            ),
        ],
        acks=[
            (f'{{"jsonrpc":"2.0","id":14,{answered}', [Ack(7, ((symbol, "trades.100ms"),))]),
            (f'{{"jsonrpc":"2.0","id":15,{answered}', [Ack(7, ((symbol, "trades.100ms"),), ended=True)]),
            (
                f'{{"jsonrpc":"2.0","id":14,"result":["chart.trades.{symbol}.5","quote.{symbol}"]}}',
                [Ack(7, ((symbol, "chart.trades.5"), (symbol, "quote")))],
            ),
        ],
        refusals=[
            (
                '{"jsonrpc":"2.0","id":14,"error":{"message":"Invalid params","code":-32602},"usIn":1}',
                [Refusal(7, "Invalid params (code -32602)")],
            ),
            ('{"jsonrpc":"2.0","id":14,"result":[]}', [Refusal(7, "the exchange knows none of these channels")]),
            (
                '{"jsonrpc":"2.0","error":{"message":"Parse error","code":-32700}}',
                [Refusal(None, "Parse error (code -32700)")],
            ),
        ],
        empty=[_message(channel, "[]")],
        heartbeats=[
            ('{"jsonrpc":"2.0","id":0,"result":{"version":"1.2.26"}}', [Heartbeat()]),
            ('{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"heartbeat"}}', [Heartbeat()]),
        ],
        raw=[(_message(f"book.{symbol}.100ms", '{"bids":[],"asks":[]}'), "book", symbol)],
        garbage=[
            one.replace('"price"', '"x"'),
            one.replace('"buy"', '"hold"'),
            one.replace(str(T_MS), '"now"'),
            _message(channel, "7"),
            _message(f"chart.trades.{symbol}.1", "[]"),
        ],
        unknown=["{}", "[]", "7", '"text"', '{"method":"other"}', '{"jsonrpc":"2.0","method":"other"}'],
        event_times=[(one, T_NS), ('{"jsonrpc":"2.0","id":0,"result":{}}', None), ("7", None)],
        others=[
            (
                _message(f"chart.trades.{symbol}.1", bar),
                [candle(symbol, "1m", MINUTE, f"1 3 0.5 2 {volume}", quote=quote_volume)],
            ),
            (_message(f"quote.{symbol}", best), [quote(symbol, "1.5 2 3.5 4", T_NS)]),
            (
                _message(
                    f"quote.{symbol}", best.replace('price":1.5', 'price":null').replace('amount":2.0', 'amount":0.0')
                ),
                [quote(symbol, "- - 3.5 4", T_NS)],
            ),
            (_message(f"ticker.{symbol}.100ms", state), [ticker(symbol, f"2 - 3.1 0.5 {day} -", T_NS)]),
        ],
    )


_BASE = {"volume": "0.5", "quote_volume": "4000", "day": "0.25"}
FIXTURES = {
    "deribit": _fixtures(deribit.INVERSE, "AB-PERPETUAL", volume="4000", quote_volume=None, day="4000.5"),
    "deribit linear": _fixtures(deribit.LINEAR, "AB_USDC-PERPETUAL", **_BASE),
    "deribit option": _fixtures(deribit.OPTION, "AB-25DEC26-100-C", **_BASE),
    "deribit spot": _fixtures(deribit.SPOT, "AB_USDC", **_BASE),
}
