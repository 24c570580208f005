"""Tests of the session: messages in, bars, events and counters out; no socket, and every time is given."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from decimal import Decimal
from typing import Any, Literal

import pytest

from fastbars.bars import ExchangeBar, OHLCVBar
from fastbars.errors import ParseError
from fastbars.events import MarketDataEvent, Quote, Ticker
from fastbars.exchanges.binance import SPOT, USDM, Binance
from fastbars.exchanges.messages import Ack, Message, Notice, Refusal
from fastbars.live.callbacks import Callbacks
from fastbars.live.config import StreamConfig
from fastbars.live.session import Session
from fastbars.ticks import TickData
from servers import MINUTE_MS, START_MS, START_NS, show, trade, trades

RECEIVED_NS = START_NS + 7
SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS

KLINE = (
    b'{"e":"kline","E":1723161300001,"s":"BTCUSDT","k":{"t":1723161240000,"T":1723161299999,"s":"BTCUSDT","i":"1m",'
    b'"f":1,"L":2,"o":"1","c":"2","h":"2","l":"1","v":"3","n":2,"x":true,"q":"5","V":"1","Q":"1","B":"0"}}'
)
BOOK = b'{"u":1,"s":"BTCUSDT","b":"99","B":"1","a":"101","A":"2"}'
TICKER = b'{"e":"24hrTicker","E":1723161240009,"s":"BTCUSDT","c":"3","o":"1","h":"4","l":"1","v":"5","q":"6","n":7}'
DEPTH = b'{"e":"depthUpdate","E":1723161240005,"s":"BTCUSDT","U":1,"u":2,"b":[],"a":[]}'
AGGREGATE = (
    b'{"e":"aggTrade","E":1723161240010,"s":"BTCUSDT","a":5,"p":"100","q":"1","f":1,"l":3,"T":1723161240009,"m":true}'
)
ACK = b'{"result":null,"id":1}'
REFUSAL = b'{"error":{"code":-1121,"msg":"Invalid symbol."},"id":2}'
SHUTDOWN = b'{"e":"serverShutdown","E":1723161240011}'
COUNTERS = (
    "trade_messages",
    "other_trade_messages",
    "exchange_bars",
    "quotes",
    "tickers",
    "control",
    "raw",
    "ignored",
    "unknown",
    "invalid_json",
    "parse_errors",
)


def session(
    *, by: Literal["clock", "trades"] = "trades", bars: str = "1m", channel: str | None = "trade", **callbacks: Any
) -> Session:
    return Session(SPOT, StreamConfig(bars=bars, close_by=by), Callbacks(**callbacks), channel=channel)


def nonzero(one: Session) -> dict[str, int]:
    counters = asdict(one.stats)
    counters |= {"messages": one.stats.messages, **counters.pop("dropped")}
    del counters["bytes"]
    return {name: value for name, value in counters.items() if value}


# Counters.


@pytest.mark.parametrize(
    ("payload", "counter"),
    [
        (trade(1, 0), "trade_messages"),
        (AGGREGATE, "other_trade_messages"),
        (KLINE, "exchange_bars"),
        (BOOK, "quotes"),
        (TICKER, "tickers"),
        (ACK, "control"),
        (REFUSAL, "control"),
        (SHUTDOWN, "control"),
        (DEPTH, "raw"),
        (b'{"e":"brandNew","E":1}', "unknown"),
        (b"[]", "unknown"),
        (b'"pong"', "unknown"),
        (b"pong", "invalid_json"),
        (b"", "invalid_json"),
        (b'{"e":"trade","s":"BTC\xff"}', "invalid_json"),
        (b'{"e":"trade","s":"BTCUSDT"', "invalid_json"),
        (b'{"e":"trade","s":"BTCUSDT"}', "parse_errors"),
        (KLINE.replace(b'"i":"1m"', b'"i":1'), "parse_errors"),
        (KLINE.replace(b'"c":"2"', b'"c":2.0'), "parse_errors"),
        (KLINE.replace(b'"t":1723161240000', b'"t":17231612400000000000000'), "parse_errors"),
        (b'{"e":"kline","k":[]}', "parse_errors"),
        (b'{"e":["trade"]}', "parse_errors"),
        (b'{"error":"went wrong","id":1}', "parse_errors"),
        (BOOK.replace(b'"99"', b"99"), "parse_errors"),
        (trade(1, 0).replace(b'"BTCUSDT"', b"5"), "parse_errors"),
        (trade(1, 0).replace(b'"BTCUSDT"', b"[]"), "parse_errors"),
    ],
)
def test_each_message_is_in_exactly_one_counter(payload: bytes, counter: str) -> None:
    one = session()
    received = one.receive([payload, payload], RECEIVED_NS)
    counted = {name: count for name, count in nonzero(one).items() if name in COUNTERS}
    assert counted == {counter: 2}
    assert (one.stats.messages, one.stats.bytes) == (2, 2 * len(payload))
    assert received.errors == (2 if counter in ("invalid_json", "parse_errors") else 0)


def test_counters_add_up_over_a_mixed_batch() -> None:
    one = session()
    mixed = [trade(1, 0), ACK, b"pong", BOOK, KLINE, TICKER, DEPTH, AGGREGATE, b"{}", b'{"e":"trade"}']
    one.receive(mixed, RECEIVED_NS)
    assert sum(getattr(one.stats, name) for name in COUNTERS) == one.stats.messages == 10
    assert one.stats.trades == 1


def test_control_messages_are_handed_on_in_order() -> None:
    received = session().receive([ACK, trade(1, 0), REFUSAL, SHUTDOWN], RECEIVED_NS)
    assert received.control == [
        Ack(1),
        Refusal(2, "Invalid symbol. (code -1121)"),
        Notice("the server is about to shut down"),
    ]


class TwoAMessage(Binance):
    """An exchange that sends several trades in one message."""

    def parse(self, message: Any) -> Iterable[Message]:
        return [item for part in message["data"] for item in SPOT.read(part)]


def test_a_message_of_several_trades_counts_once_and_all_its_trades_count() -> None:
    exchange = TwoAMessage("two spot", SPOT.channels, SPOT.routes, SPOT.limits)
    one = Session(exchange, StreamConfig(close_by="trades"))
    one.receive([b'{"data":[%b,%b,%b]}' % (trade(1, 0), trade(2, 1), AGGREGATE)], RECEIVED_NS)
    one.receive([b'{"data":[%b,%b]}' % (KLINE, KLINE)], RECEIVED_NS)
    one.receive([b'{"data":[]}'], RECEIVED_NS)
    assert nonzero(one) == {"messages": 3, "trade_messages": 1, "exchange_bars": 1, "unknown": 1, "trades": 2}
    assert show(one.flush(0)) == ["23:54:00 1m 100 100 100 100 v2 n2 1-2 PARTIAL r0 end"]


def test_warnings_are_logged_at_powers_of_two_of_a_kind(caplog: pytest.LogCaptureFixture) -> None:
    one = session()
    with caplog.at_level(logging.WARNING, "fastbars"):
        one.receive([b"garbage\xff"] * 9 + [b'{"e":"trade"}'] * 2, RECEIVED_NS)
    texts = [record.getMessage() for record in caplog.records]
    assert [text.split()[0] for text in texts] == ["invalid_json"] * 4 + ["parse_error"] * 2
    seen = [word for text in texts for word in text.split() if word.startswith("seen=")]
    assert seen == ["seen=1", "seen=2", "seen=4", "seen=8", "seen=1", "seen=2"]
    assert "exchange='binance spot'" in texts[0]
    assert r"garbage\\xff" in texts[0]
    assert "a trade of 'trade' has no 's'" in texts[4]


# Broken trades.

BROKEN = {
    "key missing": (trade(2, 10).replace(b'"q":"1",', b""), "parse_errors"),
    "price a float": (trade(2, 10).replace(b'"p":"100"', b'"p":100.5'), "refused"),
    "price null": (trade(2, 10).replace(b'"p":"100"', b'"p":null'), "refused"),
    "price no number": (trade(2, 10, "abc"), "refused"),
    "price zero": (trade(2, 10, "0"), "refused"),
    "size negative": (trade(2, 10, "100", "-1"), "refused"),
    "30 decimals": (trade(2, 10, "0." + 29 * "0" + "1"), "refused"),
    "too large for 64 bits": (trade(2, 10, "1" + 19 * "0"), "refused"),
    "scale and size together too large": (trade(2, 10, "100", "9000000000000000000.1"), "refused"),
    "time a text": (trade(2, 10).replace(b'"T":1723161240010', b'"T":"now"'), "parse_errors"),
    "time far beyond": (trade(2, 10).replace(b'"T":1723161240010', b'"T":99999999999999999999'), "parse or refused"),
    "id a text": (trade(2, 10).replace(b'"t":2', b'"t":"2"'), "refused"),
    "id null": (trade(2, 10).replace(b'"t":2', b'"t":null'), "refused"),
    "id huge": (trade(2, 10).replace(b'"t":2', b'"t":99999999999999999999'), "parse or refused"),
    "id negative": (trade(2, 10).replace(b'"t":2', b'"t":-2'), "refused"),
    "id the largest": (trade(2, 10).replace(b'"t":2', b'"t":9223372036854775807'), "refused"),
}


@pytest.mark.parametrize("name", list(BROKEN))
@pytest.mark.parametrize("at_once", [True, False])
def test_a_broken_trade_is_counted_skipped_and_its_bar_is_a_gap(name: str, at_once: bool) -> None:
    payload, counter = BROKEN[name]
    one = session()
    messages = [trade(1, 0), payload, trade(3, 20, "102"), trade(4, MINUTE_MS, "103"), trade(5, 2 * MINUTE_MS)]
    batches = [messages] if at_once else [[message] for message in messages]
    bars = [bar for batch in batches for bar in one.receive(batch, RECEIVED_NS).bars]
    assert show(bars) == [
        "23:54:00 1m 100 102 100 102 v2 n2 1-3 GAP r0 trade",
        "23:55:00 1m 103 103 103 103 v1 n1 4-4 COMPLETE r0 trade",
    ]
    assert one.missing("BTCUSDT") == [(2, 2)]
    assert one.missing("NOSUCH") == []
    errors, refused = one.stats.parse_errors, one.buffer_stats.refused
    assert refused == 1
    assert counter == "parse or refused" or errors == (counter == "parse_errors")
    assert one.stats.trade_messages + errors == 5
    assert one.buffer_stats.trades == 4


def test_a_broken_trade_costs_nothing_of_those_before_it_in_its_batch() -> None:
    one = session(bars="1m,tick:2")
    batch = [*trades(1, 3), trade(4, 5, "-5"), *trades(5, 3, 10)]
    bars = one.receive(batch, RECEIVED_NS).bars + one.flush(0)
    assert [(bar.spec, bar.trade_count, str(bar.status)) for bar in bars] == [
        ("tick:2", 2, "PARTIAL"),
        ("tick:2", 2, "GAP"),
        ("tick:2", 2, "GAP"),
        ("1m", 6, "GAP"),
    ]


def test_the_reason_of_a_refusal_is_logged_with_symbol_and_value(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "fastbars"):
        session().receive([trade(2, 10, "0." + 29 * "0" + "1")], RECEIVED_NS)
    (text,) = [record.getMessage() for record in caplog.records]
    assert text.startswith("trade_refused exchange='binance spot' seen=1 symbol='BTCUSDT'")
    assert "needs more than 18 decimals" in text


# Event times beyond all sense.


@pytest.mark.parametrize("sent", [b"1e30", b"99999999999999999999999", b"-5", b"9999999999999999"])
def test_a_garbage_event_time_neither_stops_the_session_nor_closes_bars(sent: bytes) -> None:
    one = session(by="clock")
    one.receive([trade(1, 0)], RECEIVED_NS, 0)
    odd = trade(2, 10).replace(b'"E":1723161240011', b'"E":' + sent)
    bars = one.receive([odd], RECEIVED_NS, 0).bars + one.receive([trade(3, 20)], RECEIVED_NS, 0).bars
    assert bars == []
    assert one.event_time_ns == START_NS + 21_000_000
    assert one.clock.now_ns(0) == START_NS + 21_000_000
    assert show(one.flush(0)) == ["23:54:00 1m 100 100 100 100 v3 n3 1-3 PARTIAL r0 end"]


def test_one_event_time_far_ahead_of_the_exchanges_clock_closes_nothing_and_two_are_believed() -> None:
    one = session(by="clock")
    one.receive([trade(1, 0)], RECEIVED_NS, 0)
    far_ms = 3 * 60 * MINUTE_MS
    assert one.receive([trade(2, 10, event_ms=far_ms)], RECEIVED_NS, 0).bars == []
    assert one.event_time_ns == START_NS + 1_000_000
    assert one.receive([trade(3, 20)], RECEIVED_NS, 0).bars == []
    assert one.receive([trade(4, 30, event_ms=far_ms)], RECEIVED_NS, 0).bars == []
    assert show(one.receive([trade(5, 40, event_ms=far_ms)], RECEIVED_NS, 0).bars) == [
        "23:54:00 1m 100 100 100 100 v5 n5 1-5 PARTIAL r0 watermark"
    ]


# Closing.


def test_the_watermark_closes_a_quiet_symbols_bar_and_its_next_trade_proves_it() -> None:
    one = session(by="clock")
    one.receive([trade(1, -1), trade(2, 0, "101"), trade(1, 0, "7", symbol="ETHUSDT")], RECEIVED_NS)
    other = trade(2, 60_500, "8", symbol="ETHUSDT", event_ms=60_999)
    assert show(one.receive([other], RECEIVED_NS).bars) == ["23:54:00 1m 7 7 7 7 v1 n1 1-1 PARTIAL r0 trade"]
    depth = DEPTH.replace(b"1723161240005", b"1723161301000")  # any message carries the exchange's time
    assert show(one.receive([depth], RECEIVED_NS).bars) == [
        "23:54:00 1m 101 101 101 101 v1 n1 2-2 PROVISIONAL r0 watermark"
    ]
    assert show(one.receive([trade(3, 61_100, "102")], RECEIVED_NS).bars) == [
        "23:54:00 1m 101 101 101 101 v1 n1 2-2 COMPLETE r1 watermark"
    ]


def test_no_watermark_closes_where_only_trades_shall() -> None:
    one = session(by="trades")
    depth = DEPTH.replace(b"1723161240005", b"1723161999000")
    assert one.receive([trade(1, 0), depth], RECEIVED_NS).bars == []
    assert one.event_time_ns == 1723161999000_000_000


def test_the_corrected_clock_closes_a_bar_at_grace_behind_its_end_and_not_before() -> None:
    one = session(by="clock")
    # The exchange's clock reads START + 1 ms when the steady clock reads 5 s.
    one.receive([trade(1, -1), trade(2, 0, "101")], RECEIVED_NS, 5 * SECOND_NS)
    due_ns = 5 * SECOND_NS + 61 * SECOND_NS - 1_000_000
    assert one.advance_clock(due_ns - 1, RECEIVED_NS, feed_up=True) == []
    assert not one.clock_is_due(due_ns - 1)
    assert one.clock_is_due(due_ns)
    assert show(one.advance_clock(due_ns, RECEIVED_NS, feed_up=True)) == [
        "23:54:00 1m 101 101 101 101 v1 n1 2-2 PROVISIONAL r0 clock"
    ]
    assert not one.clock_is_due(due_ns)
    assert show(one.receive([trade(3, 60_001, "102")], RECEIVED_NS).bars) == [
        "23:54:00 1m 101 101 101 101 v1 n1 2-2 COMPLETE r1 clock"
    ]


def test_a_bar_that_ends_while_the_feed_is_down_is_a_gap_until_ids_prove_otherwise() -> None:
    for next_id, outcome in ((3, "COMPLETE"), (4, None)):
        one = session(by="clock")
        one.receive([trade(1, -1), trade(2, 0)], RECEIVED_NS, 0)
        assert show(one.advance_clock(2 * MINUTE_NS, RECEIVED_NS, feed_up=False)) == [
            "23:54:00 1m 100 100 100 100 v1 n1 2-2 GAP r0 gap"
        ]
        again = show(one.receive([trade(next_id, 3 * MINUTE_MS)], RECEIVED_NS).bars)
        if outcome:
            assert again == [f"23:54:00 1m 100 100 100 100 v1 n1 2-2 {outcome} r1 gap"]
        else:  # the minutes that nobody saw may lack the missing trade too
            assert again == [f"23:{m}:00 1m None None None None v0 n0 None-None GAP r0 trade" for m in (55, 56)]


def test_before_any_trade_or_time_no_clock_closes_anything() -> None:
    empty = session(by="clock", channel=None)
    assert empty.advance_clock(10**18, 0, feed_up=True) == []
    assert not empty.clock_is_due(10**18)
    assert empty.flush(0) == []
    assert empty.missing("BTCUSDT") == []
    assert asdict(empty.buffer_stats) == asdict(session().buffer_stats)
    untimed = session(by="clock")
    untimed.receive([trade(1, 0)], RECEIVED_NS)  # as in a replay: no steady clock
    assert untimed.advance_clock(10**18, 0, feed_up=True) == []


def test_flushing_one_symbol_leaves_the_others_open() -> None:
    one = session()
    one.receive([trade(1, 0), trade(9, 0, "7", symbol="ETHUSDT")], RECEIVED_NS)
    assert show(one.flush(0, "ETHUSDT")) == ["23:54:00 1m 7 7 7 7 v1 n1 9-9 PARTIAL r0 end"]
    assert one.flush(0, "NOSUCH") == []
    assert show(one.flush(0)) == ["23:54:00 1m 100 100 100 100 v1 n1 1-1 PARTIAL r0 end"]


# Channels.


def test_trades_of_another_channel_make_no_bars_and_are_counted() -> None:
    one = session(channel="trade")
    one.receive([AGGREGATE, trade(1, 0)], RECEIVED_NS)
    assert nonzero(one) == {"messages": 2, "trade_messages": 1, "other_trade_messages": 1, "trades": 1}
    assert show(one.flush(0)) == ["23:54:00 1m 100 100 100 100 v1 n1 1-1 PARTIAL r0 end"]


def test_without_a_channel_the_first_trade_decides() -> None:
    one = session(channel=None)
    assert one.channel == "trade"
    one.receive([AGGREGATE, trade(4, 10)], RECEIVED_NS)
    assert one.channel == "aggTrade"
    assert show(one.flush(0)) == ["23:54:00 1m 100 100 100 100 v1 n3 1-3 PARTIAL r0 end"]


def test_futures_aggregates_are_followed_by_their_own_number_and_never_called_complete() -> None:
    one = Session(USDM, StreamConfig(close_by="trades"), channel="aggTrade")
    template = (
        '{{"e":"aggTrade","E":1,"a":{},"s":"BTCUSDT","p":"100","q":"1","nq":"1","f":{},"l":{},"T":{},"m":true,"st":1}}'
    )
    rows = [(5, 10, 12, -1), (6, 13, 13, 1), (7, 20, 21, 2), (9, 22, 22, 60_001), (10, 23, 23, 120_001)]
    payloads = [template.format(a, f, last, START_MS + offset).encode() for a, f, last, offset in rows]
    assert show(one.receive(payloads, RECEIVED_NS).bars) == [
        "23:53:00 1m 100 100 100 100 v1 n3 10-12 PARTIAL r0 trade",
        "23:54:00 1m 100 100 100 100 v2 n3 13-21 GAP r0 trade",
        "23:55:00 1m 100 100 100 100 v1 n1 22-22 GAP r0 trade",
    ]


# Callbacks.


def test_one_batch_of_many_symbols_is_one_call_of_on_bars() -> None:
    calls: list[list[OHLCVBar]] = []
    single: list[OHLCVBar] = []
    one = session(on_bars=calls.append, on_bar=single.append)
    symbols = [f"S{n}USDT" for n in range(50)]
    one.receive([trade(1, 0, symbol=symbol) for symbol in symbols], RECEIVED_NS)
    assert calls == []
    one.receive([trade(2, MINUTE_MS, symbol=symbol) for symbol in symbols], RECEIVED_NS)
    assert [[bar.symbol for bar in bars] for bars in calls] == [symbols]
    assert single == calls[0]


def test_callbacks_that_raise_are_counted_and_lose_nothing(caplog: pytest.LogCaptureFixture) -> None:
    told: dict[str, list[Any]] = {name: [] for name in ("tick", "bar", "bars", "late", "kline", "event")}

    def failing(name: str) -> Any:
        def callback(value: Any) -> None:
            told[name].append(value)
            raise RuntimeError(name)

        return callback

    one = session(
        by="clock",
        on_tick=failing("tick"),
        on_bar=failing("bar"),
        on_bars=failing("bars"),
        on_late=failing("late"),
        on_exchange_bar=failing("kline"),
        on_event=failing("event"),
    )
    received = one.receive([trade(5, 0), KLINE, trade(6, 3 * MINUTE_MS), trade(1, -MINUTE_MS)], RECEIVED_NS)
    assert show(received.bars) == [
        "23:54:00 1m 100 100 100 100 v1 n1 5-5 PARTIAL r0 trade",
    ]  # no bar can take the last trade
    assert told["bar"] == told["bars"][0] == received.bars
    assert [tick.trade_id for tick in told["tick"]] == [5, 6, 1]
    assert [tick.trade_id for tick in told["late"]] == [1]
    assert [bar.last_trade_id for bar in told["kline"]] == [2]
    assert len(told["event"]) == 3 + 1 + 1
    assert one.stats.callback_errors == 3 + 1 + 1 + 1 + 5 + 1
    assert one.buffer_stats.callback_errors == 0
    assert caplog.text.count("callback_failed callback=") == 12
    assert "RuntimeError: late" in caplog.text


def test_events_carry_the_times_of_the_exchange_and_of_receipt() -> None:
    events: list[MarketDataEvent] = []
    one = session(by="clock", on_event=events.append)
    one.receive([trade(1, 0), BOOK, TICKER, KLINE, trade(2, MINUTE_MS)], RECEIVED_NS, 0)
    one.advance_clock(MINUTE_NS + 2 * SECOND_NS, RECEIVED_NS + 1, feed_up=True)
    one.flush(RECEIVED_NS + 2)
    assert [(type(event.data), event.event_time_ns, event.receive_time_ns) for event in events] == [
        (TickData, START_NS, RECEIVED_NS),
        (Quote, None, RECEIVED_NS),
        (Ticker, 1723161240009_000_000, RECEIVED_NS),
        (ExchangeBar, 1723161300001_000_000, RECEIVED_NS),
        (TickData, START_NS + MINUTE_NS, RECEIVED_NS),
        (OHLCVBar, START_NS + MINUTE_NS, RECEIVED_NS),  # of a bar: its close_time
        (OHLCVBar, START_NS + 2 * MINUTE_NS, RECEIVED_NS + 1),
    ]
    assert {(event.exchange, event.symbol) for event in events} == {("binance spot", "BTCUSDT")}


# A parser of the user's.


def own_parser(message: dict[str, Any]) -> TickData | None:
    if message.get("kind") != "deal":
        return None
    if "px" not in message:
        raise ParseError("no price")
    return TickData("BTCUSDT", START_NS + message["at"], message["px"], "1", "buy", message.get("id"))


def deals(*rows: tuple[Any, int, Any]) -> list[bytes]:
    return [f'{{"kind":"deal","id":{id_},"at":{at},"px":{px}}}'.encode() for id_, at, px in rows]


def with_own_parser(messages: Sequence[bytes], **callbacks: Any) -> Session:
    one = Session(
        SPOT, StreamConfig(close_by="trades"), Callbacks(**callbacks), channel="trade", parse_message=own_parser
    )
    one.receive(messages, RECEIVED_NS)
    return one


def test_a_parser_of_the_users_own_replaces_the_reading_of_trades_and_nothing_else() -> None:
    ticks: list[TickData] = []
    messages = [*deals((1, 0, '"5"'), (2, 1, '"6"')), trade(1, 0), ACK, KLINE, b"[]", b"{}", b'{"kind":"deal"}']
    one = with_own_parser(messages, on_tick=ticks.append)
    assert nonzero(one) == {
        "messages": 8,
        "trade_messages": 2,
        "trades": 2,
        "ignored": 1,  # a trade of the exchange's that the parser passed over
        "control": 1,
        "exchange_bars": 1,
        "unknown": 2,
        "parse_errors": 1,
    }
    assert [tick.price for tick in ticks] == [Decimal(5), Decimal(6)]
    assert show(one.flush(0)) == ["23:54:00 1m 5 6 5 6 v2 n2 1-2 PARTIAL r0 end"]


def test_a_parser_without_ids_gives_bars_that_cannot_be_verified() -> None:
    one = with_own_parser(deals(("null", 0, '"5"'), ("null", MINUTE_NS, '"6"'), ("null", 2 * MINUTE_NS, '"7"')))
    assert show(one.flush(0)) == ["23:56:00 1m 7 7 7 7 v1 n1 None-None PARTIAL r0 end"]


@pytest.mark.parametrize(
    "row",
    [(99999999999999999999, 1, '"6"'), (2, 1, '"0.0000000000000000000001"'), (2, 10**19, '"6"'), (-2, 1, '"6"')],
)
def test_what_a_users_parser_gives_and_cannot_be_held_is_refused_and_counted_once(row: tuple[Any, int, Any]) -> None:
    one = with_own_parser(deals((1, 0, '"5"'), row, (3, 2, '"7"')))
    assert nonzero(one) == {"messages": 3, "trade_messages": 3, "trades": 2 + (row[0] == -2)}
    assert one.buffer_stats.refused == 1
    assert show(one.flush(0)) == ["23:54:00 1m 5 7 5 7 v2 n2 1-3 GAP r0 end"]


def test_a_users_parser_that_gives_something_else_is_a_parse_error() -> None:
    def wrong(message: dict[str, Any]) -> Any:
        return message

    one = Session(SPOT, StreamConfig(), parse_message=wrong)
    received = one.receive([b"{}"], RECEIVED_NS)
    assert (received.errors, one.stats.parse_errors, one.stats.trade_messages) == (1, 1, 0)


def test_what_is_not_known_is_logged_the_first_second_fourth_time_escaped_and_short(
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = Session(SPOT, StreamConfig(close_by="trades"), channel="trade")
    for number in range(5):
        session.receive([b'{"brand":"new\xc2\x85","n":%d,"filler":"%b"}' % (number, b"x" * 1_000)], START_NS)
    assert session.stats.unknown == 5
    logged = [record.message for record in caplog.records if record.message.startswith("unknown_message")]
    assert [message.split("seen=")[1].split()[0] for message in logged] == ["1", "2", "4"]
    assert all(len(message) < 300 and r'"new\\xc2\\x85"' in message for message in logged)


def test_an_outage_flags_its_bars_from_the_last_grace_before_it_where_ids_prove_nothing() -> None:
    exchange = replace(SPOT, channels={**SPOT.channels, "trade": "none"})
    told: list[OHLCVBar] = []
    second_ns = 1_000_000_000
    session = Session(
        exchange, StreamConfig(close_by="trades", grace=1.0), Callbacks(on_bar=told.append), channel="trade"
    )
    session.end_outage(0)  # nothing is known of the exchange's clock yet
    session.receive([trade(1, 500), trade(2, 60_500)], START_NS, 100 * second_ns)
    session.begin_outage(101 * second_ns)
    session.begin_outage(102 * second_ns)  # it is down already
    session.end_outage(110 * second_ns)
    session.receive([trade(9, 120_500), trade(10, 180_500)], START_NS, 160 * second_ns)
    # the first bar: a trade of its last half second may have been on its way
    assert [(bar.open_time.minute, str(bar.status), bar.revision) for bar in told] == [
        (54, "PARTIAL", 0), (54, "GAP", 1), (55, "GAP", 0), (56, "UNVERIFIABLE", 0),
    ]  # fmt: skip
