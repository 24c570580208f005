"""Symbols as people write them, products under another name, and trades that nobody asked for."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import orjson
import pytest

import fastbars
from fastbars import BaseWebSocketAdapter, OHLCVBar, StreamConfig, TickData
from fastbars.cli import main
from fastbars.errors import SubscriptionError
from fastbars.exchanges import find_exchange
from fastbars.exchanges.messages import Ack, Stream
from fastbars.live.callbacks import Callbacks
from fastbars.live.connections.subscriptions import Subscriptions
from fastbars.live.session import Session
from fastbars.live.shared import SHARED
from fastbars.simulator import SimulatedExchange
from fastbars.simulator.rest import RestFault
from servers import MINUTE_MS, START_NS, TradeServer, show, trade, trades, until

BY_TRADES = StreamConfig(bars="1m", close_by="trades", reconnect_delay=0.01, reconnect_max_delay=0.01)
COINBASE = find_exchange("coinbase")
BINANCE = find_exchange("binance")


pytestmark = pytest.mark.usefixtures("no_task_is_left_behind")


# Names.

RIGHT: dict[tuple[str, str | None], dict[str, str]] = {
    ("binance", None): {
        "btcusdt": "BTCUSDT", " BtcUsdt\n": "BTCUSDT", "1000satsusdt": "1000SATSUSDT", "币安人生usdt": "币安人生USDT",
    },
    ("binance", "usdm"): {"btcusdt_261225": "BTCUSDT_261225"},
    ("binance", "coinm"): {"btcusd_perp": "BTCUSD_PERP"},
    ("binance", "us"): {"btcusd": "BTCUSD"},
    ("bybit", None): {"btcusdt": "BTCUSDT"},
    ("bybit", "linear"): {"btc-25dec26": "BTC-25DEC26", "1000pepeusdt": "1000PEPEUSDT", "btcperp": "BTCPERP"},
    ("bybit", "inverse"): {"btcusdh26": "BTCUSDH26"},
    ("okx", None): {"btc-usdt": "BTC-USDT"},
    ("okx", "derivatives"): {
        "btc-usdt-swap": "BTC-USDT-SWAP", "BTC-USD-261225-60000-c": "BTC-USD-261225-60000-C",
        "btc-usd_um-swap": "BTC-USD_UM-SWAP",
    },
    ("coinbase", None): {"btc-usd": "BTC-USD", "BTC-usdc": "BTC-USDC", "btc-perp-intx": "BTC-PERP-INTX"},
    ("kraken", None): {"btc/usd": "BTC/USD", "AAPLx/USD": "AAPLx/USD", "\tEth/Eur": "ETH/EUR"},
    ("deribit", None): {"btc-perpetual": "BTC-PERPETUAL", "eth-25dec26": "ETH-25DEC26"},
    ("deribit", "linear"): {"btc_usdc-perpetual": "BTC_USDC-PERPETUAL", "sol_usdc-5dec26": "SOL_USDC-5DEC26"},
    ("deribit", "option"): {
        "btc-25dec26-100000-c": "BTC-25DEC26-100000-C", "XRP_USDC-25DEC26-3d1-p": "XRP_USDC-25DEC26-3D1-P",
    },
    ("deribit", "spot"): {"btc_usdc": "BTC_USDC"},
    ("hyperliquid", None): {name: name for name in ("BTC", "kPEPE", "@107", "PURR/USDC", "xyz:TSLA", "#12")},
    ("interactive_brokers", None): {" 265598": "265598"},
}  # fmt: skip
WRONG: dict[str, list[str]] = {
    "binance": [
        "BTC-USDT",
        "BTC//USDT",
        "BTC/USDT:USDT-2609",
        "BTC USDT",
        "btcusdt@trade",
        "BTCUSDT,ETHUSDT",
        "BTCUSDT\x00",
        "\ufeffBTCUSDT",
    ],
    "bybit": ["BTC-USDT", "BTC/US DT", "publicTrade.BTCUSDT"],
    "okx": ["BTCUSDT", "BTC-", "-USDT"],
    "coinbase": ["BTCUSD", "/USD", "btc_usd"],
    "kraken": ["BTC-USD", "BTCUSD", "btc", "/USD", "BTC/USD/EUR"],
    "deribit": ["BTC", "BTC_USDC-PERPETUAL", "BTC-25DEC26-100000-C", "BTC.PERPETUAL"],
    "hyperliquid": ["btc", "BTC-USD", "KPEPEx", "XYZ:TSLA", "@", "@x", "purr/usdc"],
    "interactive_brokers": ["AAPL", "265598@SMART", "-5", "0", "01", "1.5", "٢٦٥"],
}


@pytest.mark.parametrize(
    ("exchange", "market", "written", "exact"),
    [(*venue, written, exact) for venue, names in RIGHT.items() for written, exact in names.items()],
)
def test_a_name_is_put_into_the_form_that_the_exchange_writes(
    exchange: str, market: str | None, written: str, exact: str
) -> None:
    venue = find_exchange(exchange, market)
    assert venue.exact_symbols([written, exact]) == [exact]  # each once


@pytest.mark.parametrize(("exchange", "written"), [(venue, name) for venue, names in WRONG.items() for name in names])
def test_a_name_that_no_symbol_can_have_is_refused_with_an_example(exchange: str, written: str) -> None:
    with pytest.raises(SubscriptionError, match=r"is not a symbol of this exchange, which has names like") as caught:
        find_exchange(exchange).exact_symbols([written])
    assert caught.value.symbols == (written,)
    assert ascii(written) in str(caught.value)


@pytest.mark.parametrize("exchange", list(WRONG))
@pytest.mark.parametrize(
    ("written", "error", "why"),
    [
        ("", SubscriptionError, "must not be empty"),
        (" \t\n", SubscriptionError, "must not be empty"),
        ("X" * 65, SubscriptionError, "has 65 characters, the limit is 64"),
        ("X" * 10**6, SubscriptionError, "has 1000000 characters"),
        ("A\x1b[2JB", SubscriptionError, r"'A\\x1b\[2JB' is not a symbol"),
        ("A\ud800", SubscriptionError, "is not a symbol"),
        (265598, TypeError, "symbols must be strings, 265598 is of type int"),
        (None, TypeError, "symbols must be strings"),
        (b"BTC", TypeError, "symbols must be strings"),
        (float("nan"), TypeError, "symbols must be strings"),
    ],
)
def test_what_can_be_no_name_anywhere_is_refused(exchange: str, written: Any, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        find_exchange(exchange).exact_symbols([written])


ALIASES: dict[tuple[str, str | None], dict[str, str]] = {
    ("binance", "spot"): {"BTC/USDT": "BTCUSDT", " btc/usdt\n": "BTCUSDT", "币安人生/USDT": "币安人生USDT"},
    ("binance", "us"): {"BTC/USD": "BTCUSD"},
    ("binance", "usdm"): {
        "BTC/USDT:USDT": "BTCUSDT", "btc/usdc:usdc": "BTCUSDC", "BTC/USDT:USDT-260925": "BTCUSDT_260925",
    },
    ("binance", "coinm"): {"BTC/USD:BTC": "BTCUSD_PERP", "BTC/USD:BTC-260925": "BTCUSD_260925"},
    ("bybit", "spot"): {"BTC/USDT": "BTCUSDT"},
    ("bybit", "linear"): {
        "BTC/USDT:USDT": "BTCUSDT", "BTC/USDC:USDC": "BTCPERP", "BTC/USDC:USDC-260925": "BTC-25SEP26",
        "BTC/USDT:USDT-260102": "BTCUSDT-2JAN26",
    },
    ("bybit", "inverse"): {"BTC/USD:BTC": "BTCUSD", "BTC/USD:BTC-260925": "BTCUSDU26"},
    ("bybit", "spot@tr"): {"BTC/TRY": "BTCTRY"},
    ("deribit", None): {"BTC/USD:BTC": "BTC-PERPETUAL", "eth/usd:eth-260905": "ETH-5SEP26"},
    ("deribit", "linear"): {"BTC/USDC:USDC": "BTC_USDC-PERPETUAL", "SOL/USDC:USDC-261225": "SOL_USDC-25DEC26"},
    ("deribit", "spot"): {"BTC/USDC": "BTC_USDC"},
    ("okx", None): {
        "BTC/USDT": "BTC-USDT", "BTC/USDT:USDT": "BTC-USDT-SWAP", "BTC/USD:BTC": "BTC-USD-SWAP",
        "BTC/USD:BTC-260925": "BTC-USD-260925",
    },
    ("coinbase", None): {"BTC/USD": "BTC-USD", "btc/usdc": "BTC-USDC"},
    ("kraken", None): {"BTC/USD": "BTC/USD"},
    ("hyperliquid", None): {"BTC/USDC:USDC": "BTC", "kPEPE/USDC:USDC": "kPEPE"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("exchange", "market", "alias", "exact"),
    [(*venue, alias, exact) for venue, names in ALIASES.items() for alias, exact in names.items()],
)
def test_one_name_means_the_same_on_every_exchange(exchange: str, market: str | None, alias: str, exact: str) -> None:
    assert find_exchange(exchange, market).exact_symbols([alias, exact]) == [exact]


@pytest.mark.parametrize(
    ("exchange", "market", "alias", "why"),
    [
        ("binance", "spot", "BTC/USDT:USDT", "names a perpetual, which this market does not have; it could"
         " have 'BTC/USDT'"),
        ("binance", "usdm", "btc/usdt", "'BTC/USDT' names a spot pair, which this market does not have; it could have"
         " 'BTC/USDT:USDT'"),
        ("binance", "coinm", "BTC/USD", "could have 'BTC/USD:BTC'"),
        ("bybit", "inverse", "BTC/USD:USD", "could have 'BTC/USD:BTC'"),
        ("deribit", "inverse", "BTC/USD", "names a spot pair, which .* could have 'BTC/USD:BTC'"),
        ("deribit", "option", "BTC/USD:BTC", "is not a symbol of this exchange"),
        ("bybit", "linear", "BTC/USDT:USDT-261325", "names a future, which .* could have 'BTC/USDT'|is not a symbol"),
        ("okx", None, "BTC/USD:ETH", "could have 'BTC/USD', 'BTC/USD:USD', 'BTC/USD:BTC'"),
        ("coinbase", None, "BTC/USD:USD", "could have 'BTC/USD'"),
        ("interactive_brokers", None, "BTC/USD", "is not a symbol of this exchange"),
    ],
)  # fmt: skip
def test_an_alias_that_a_market_cannot_have_is_answered_with_what_is_near(
    exchange: str, market: str | None, alias: str, why: str
) -> None:
    with pytest.raises(SubscriptionError, match=why) as refused:
        find_exchange(exchange, market).exact_symbols([alias])
    assert refused.value.symbols == (alias,)


async def test_an_alias_without_a_rule_is_looked_up_in_the_list_of_instruments() -> None:
    async with SimulatedExchange(
        "hyperliquid", market="spot", symbols=["PURR/USDC", "@7", "@107"], rate=200.0
    ) as server:  # the simulator calls the base of "@107" TOKEN107
        config = StreamConfig(rest_url=server.rest_url)
        async with fastbars.stream(
            "hyperliquid", ["TOKEN107/USDC", "PURR/USDC"], "tick:3", market="spot", url=server.url, config=config
        ) as bars:
            assert set(bars.subscribed) == {"@107", "PURR/USDC"}
            assert {(await anext(bars)).symbol for _ in range(30)} == {"@107", "PURR/USDC"}
            await bars.subscribe(["TOKEN7/USDC"])
            await bars.unsubscribe(["TOKEN107/USDC"])
            assert set(bars.subscribed) == {"@7", "PURR/USDC"}
            with pytest.raises(SubscriptionError, match="TOKEN8/USDC"):
                await bars.subscribe(["TOKEN8/USDC"])
        server.listing.faults.append(
            RestFault(body=b'{"tokens":[{"name":"A","index":0},{"name":"A","index":1},{"name":"B","index":2}],'
                      b'"universe":[{"name":"@1","tokens":[0,2]},{"name":"@2","tokens":[1,2]}]}')
        )  # fmt: skip
        SHARED.reset()
        with pytest.raises(SubscriptionError, match="hyperliquid spot: 'A/B' is the alias of several: @1, @2"):
            async with fastbars.stream("hyperliquid", ["A/B"], market="spot", url=server.url, config=config):
                pass


@pytest.mark.parametrize("symbols", ["BTCUSDT", b"BTCUSDT", None, 5])
def test_what_is_no_list_of_names_is_refused(symbols: Any) -> None:
    with pytest.raises(TypeError, match="symbols"):
        BINANCE.exact_symbols(symbols)


@pytest.mark.parametrize(
    ("exchange", "written", "meant"),
    [
        ("binance", "btc-usdt", "BTCUSDT"), ("bybit", "BTC-USDT", "BTCUSDT"), ("okx", "btc_usdt", "BTC-USDT"),
        ("coinbase", "BTC:USD", "BTC-USD"), ("kraken", "btc-usd", "BTC/USD"),
    ],
)  # fmt: skip
def test_a_wrong_separator_is_answered_with_the_name_that_was_meant(exchange: str, written: str, meant: str) -> None:
    with pytest.raises(SubscriptionError, match=f"did you mean '{meant}'"):
        find_exchange(exchange).exact_symbols([written])


async def through_stream(url: str, written: list[str]) -> Collection[str]:
    async with fastbars.stream("binance", written, url=url, config=BY_TRADES) as bars:
        return set(bars.adapter.active_subscriptions)


async def through_stream_subscribe(url: str, written: list[str]) -> Collection[str]:
    async with fastbars.stream("binance", [], url=url, config=BY_TRADES) as bars:
        await bars.subscribe(written)
        held = set(bars.adapter.active_subscriptions)
        await bars.unsubscribe(written)
        assert bars.adapter.active_subscriptions == {}
        return held


async def through_verification(url: str, written: list[str]) -> Collection[str]:
    async with fastbars.stream("binance", written, url=url, config=BY_TRADES, verify=True) as bars:
        assert {"kline_1m"} <= set.union(*bars.adapter.active_subscriptions.values())
        return set(bars.adapter.active_subscriptions)


async def through_adapter(url: str, written: list[str]) -> Collection[str]:
    return await through_adapters(BaseWebSocketAdapter(BINANCE, BY_TRADES, url=url), written)


async def through_lines(url: str, written: list[str]) -> Collection[str]:
    config = StreamConfig(bars="1m", close_by="trades", lines=2)
    return await through_adapters(BaseWebSocketAdapter(BINANCE, config, url=url), written)


async def through_adapters(adapter: BaseWebSocketAdapter, written: list[str]) -> Collection[str]:
    await adapter.subscribe(written)
    await adapter.connect()
    await adapter.subscribe_streams([(name, "trade") for name in written])
    held = set(adapter.active_subscriptions)
    await adapter.unsubscribe(written)
    assert adapter.active_subscriptions == {}
    await adapter.disconnect()
    return held


DOORS: list[Callable[[str, list[str]], Any]] = [
    through_stream, through_stream_subscribe, through_verification, through_adapter, through_lines,
]  # fmt: skip


@pytest.mark.parametrize("door", DOORS)
async def test_every_way_in_puts_names_right_and_refuses_wrong_ones(door: Callable[[str, list[str]], Any]) -> None:
    async with TradeServer() as server:
        assert await door(server.url, [" btcusdt", "BTCUSDT", "EthUsdt\n"]) == {"BTCUSDT", "ETHUSDT"}
        assert {name.partition("@")[0] for name in server.streams} == {"btcusdt", "ethusdt"}
        with pytest.raises(SubscriptionError, match="did you mean 'BTCUSDT'"):
            await door(server.url, ["ETHUSDT", "BTC-USDT"])


@pytest.mark.parametrize("door", [through_stream_subscribe, through_adapter])
async def test_one_wrong_name_among_others_subscribes_to_none(door: Callable[[str, list[str]], Any]) -> None:
    async with TradeServer() as server:
        with pytest.raises(SubscriptionError):
            await door(server.url, ["ETHUSDT", "BTC-USDT"])
        assert server.streams == []
    # An adapter that was not started keeps nothing either.
    adapter = BaseWebSocketAdapter(BINANCE, BY_TRADES)
    with pytest.raises(SubscriptionError):
        await adapter.subscribe(["ETHUSDT", "BTC-USDT"])
    assert adapter.streams == []


@pytest.mark.parametrize("command", ["stream", "record"])
def test_the_command_says_a_wrong_name_in_one_line(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "kraken", "BTC-USD", "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "fastbars: kraken spot: 'BTC-USD' is not a symbol of this exchange, which has names like BTC/USD:"
        " did you mean 'BTC/USD'?"
    ]


async def test_bars_of_a_name_in_lower_case_are_whole_from_the_first_on() -> None:
    # The symbol was held to be unsubscribed, so that its first bar was issued once a trade.
    async with (
        TradeServer() as server,
        fastbars.stream("binance", ["btcusdt"], url=server.url, config=BY_TRADES) as bars,
    ):
        for message in trades(1, 6, step_ms=10_000):
            await server.send(message)
        await server.send(trade(7, MINUTE_MS))
        assert show([await anext(bars)]) == ["23:54:00 1m 100 105 100 105 v6 n6 1-6 PARTIAL r0 trade"]


# Products whose data arrives under another name.


def coinbase_trade(number: int, offset_ms: int, product: str = "BTC-USD") -> bytes:
    minute, second = 54 + offset_ms // 60_000, offset_ms // 1000 % 60
    time = f"2024-08-08T23:{minute:02}:{second:02}.000000Z"
    return (
        f'{{"channel":"market_trades","timestamp":"{time}","sequence_num":{number},"events":[{{"type":"update","trades":['
        f'{{"product_id":"{product}","trade_id":"{number}","price":"{100 + number}","size":"1","time":"{time}",'
        f'"side":"SELL"}}]}}]}}'
    ).encode()


def coinbase_answer(request: dict[str, Any]) -> dict[str, Any]:
    """The ack names the product under which the data arrives."""
    held = [name.replace("-USDC", "-USD") for name in request.get("product_ids", [])]
    channel = request["channel"]
    held = [] if request["type"] == "unsubscribe" else held
    return {"channel": "subscriptions", "events": [{"subscriptions": {channel: held}}]}


@pytest.mark.parametrize("told", [False, True])
async def test_a_product_that_arrives_under_another_name_keeps_the_name_it_was_asked_for_by(told: bool) -> None:
    ticks: list[TickData] = []
    events: list[Any] = []
    callbacks: dict[str, Any] = {"on_tick": ticks.append, "on_event": events.append} if told else {}
    async with (
        TradeServer(coinbase_answer) as server,
        fastbars.stream("coinbase", ["btc-usdc"], url=server.url, config=BY_TRADES, **callbacks) as bars,
    ):
        asked = [request for request in server.requests if request["channel"] == "market_trades"]
        assert [request["product_ids"] for request in asked] == [["BTC-USDC"]]
        await server.send(coinbase_trade(1, 0), coinbase_trade(2, 1000, "BTC-USDC"), coinbase_trade(3, 60_000))
        bar = await anext(bars)
        assert (bar.symbol, bar.trade_count, bar.first_trade_id, bar.last_trade_id) == ("BTC-USDC", 2, 1, 2)
        candle = (
            '{"start":"1723161240","high":"3","low":"1","open":"2","close":"2","volume":"1","product_id":"BTC-USD"}'
        )
        await server.send(
            f'{{"channel":"candles","timestamp":"2024-08-08T23:56:00Z","events":[{{"candles":[{candle}]}}]}}'.encode()
        )
        await until(lambda: bars.stats().session.exchange_bars == 1)
        await bars.unsubscribe(["BTC-USDC"])
        assert [bar.symbol for bar in [await anext(bars)]] == ["BTC-USDC"]
        await bars.subscribe(["BTC-USD"])  # the other name, now that the first is not asked for any more
        await server.send(coinbase_trade(4, 120_000), coinbase_trade(5, 180_000))
        assert (await anext(bars)).symbol == "BTC-USD"
    if told:
        assert [tick.symbol for tick in ticks] == ["BTC-USDC"] * 3 + ["BTC-USD"] * 2
        assert {event.symbol for event in events[:6]} == {"BTC-USDC"}


async def test_both_names_of_one_market_are_refused_wherever_they_meet() -> None:
    why = "BTC-USDC? and BTC-USDC? are one market, and both arrive as BTC-USD: subscribe to one of them"
    with pytest.raises(SubscriptionError, match=why):
        fastbars.stream("coinbase", ["BTC-USD", "ETH-USD", "BTC-USDC"])
    async with (
        TradeServer(coinbase_answer) as server,
        fastbars.stream("coinbase", ["BTC-USDC"], url=server.url, config=BY_TRADES) as bars,
    ):
        with pytest.raises(SubscriptionError, match=why):
            await bars.subscribe(["BTC-USD"])
        with pytest.raises(SubscriptionError, match=why):
            await bars.subscribe(["BTC-USD"], ["candles"])
        assert bars.adapter.active_subscriptions == {"BTC-USDC": {"market_trades"}}
    adapter = BaseWebSocketAdapter(COINBASE, BY_TRADES)
    await adapter.subscribe(["BTC-USD"])
    with pytest.raises(SubscriptionError, match=why):
        await adapter.subscribe(["BTC-USDC"])
    assert adapter.streams == [("BTC-USD", "market_trades")]


@pytest.mark.parametrize("named", ["BTC-USD", "BTC-USDC"])
async def test_an_ack_may_name_the_market_or_the_product(named: str) -> None:
    streams: list[Stream] = [("BTC-USDC", "market_trades"), ("ETH-USD", "market_trades")]
    subscriptions = Subscriptions(COINBASE, 5.0)
    subscriptions.want(streams)

    async def send(_: bytes) -> None:
        held = ((named, "market_trades"), ("ETH-USD", "market_trades"))
        assert subscriptions.take_answer(Ack(streams=held, whole=True))

    await subscriptions.subscribe(streams, send)
    assert subscriptions.confirmed == set(streams)


# Trades that nobody asked for.


async def test_trades_of_symbols_never_subscribed_make_no_bars_and_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ticks: list[TickData] = []
    async with (
        TradeServer() as server,
        fastbars.stream("binance", ["BTCUSDT"], url=server.url, config=BY_TRADES, on_tick=ticks.append) as bars,
    ):
        with caplog.at_level(logging.WARNING, "fastbars"):
            await server.send(trade(1, 0), *(trade(n, n, symbol=f"X{n}USDT") for n in range(50)), trade(2, 60_000))
            assert show([await anext(bars)]) == ["23:54:00 1m 100 100 100 100 v1 n1 1-1 PARTIAL r0 trade"]
        stats = bars.stats().session
        assert (stats.trades, stats.never_subscribed, stats.no_longer_subscribed) == (2, 50, 0)
        assert bars.adapter.session.symbols == ("BTCUSDT",)
        assert {tick.symbol for tick in ticks} == {"BTCUSDT"}
        await bars.stop()
        assert [bar.symbol async for bar in bars] == ["BTCUSDT"]
    assert caplog.text.count("trade_never_subscribed") == 1


async def test_a_server_that_sends_before_it_is_asked_makes_no_bars_of_other_symbols() -> None:
    async def greet(connection: Any) -> None:
        await connection.send(trade(1, 0, symbol="EVILUSDT"), text=True)

    async with (
        TradeServer(greet=greet) as server,
        fastbars.stream("binance", ["BTCUSDT"], url=server.url, config=BY_TRADES) as bars,
    ):
        await until(lambda: bars.stats().session.never_subscribed == 1)
        assert bars.adapter.session.symbols == ()


def session(channel: str = "trade", **options: Any) -> Session:
    one = Session(BINANCE, StreamConfig(close_by="trades"), channel=channel, **options)
    one.follow("line", [("BTCUSDT", channel)], START_NS)
    return one


def test_ten_thousand_invented_symbols_are_not_remembered_by_anything() -> None:
    one = session()
    one.receive([trade(1, 0)], START_NS)
    scanner = one.intake.scanner
    assert scanner is not None
    before = [sys.getsizeof(scanner), len(one._warnings._seen)]
    one.receive([trade(n, n, symbol=f"X{n}USDT") for n in range(10_000)], START_NS)
    one.receive([trade(2, 10)], START_NS)
    assert (one.stats.never_subscribed, one.stats.trades, one.symbols) == (10_000, 2, ("BTCUSDT",))
    assert [sys.getsizeof(scanner), len(one._warnings._seen) - 1] == before
    assert one._admission.roster is not None
    assert one._admission.roster._ended == {}
    assert (one.repairs.holes(), one.trade_times_ns.shape) == ([], (1,))


def test_what_is_kept_of_ended_subscriptions_has_a_bound() -> None:
    one = session()
    names = [f"X{n}USDT" for n in range(20_001)]
    one.follow("line", [(name, "trade") for name in names], START_NS)
    one.follow("line", [], START_NS)
    assert one._admission.roster is not None
    assert len(one._admission.roster._ended) == 10_000


@pytest.mark.parametrize("scans", [True, False])
def test_late_trades_of_a_symbol_just_unsubscribed_open_no_bar(scans: bool) -> None:
    one = session()
    if not scans:
        one.intake.scanner = None
    one.receive([trade(1, 0)], START_NS)
    one.follow("line", [], START_NS)
    assert len(one.flush(START_NS, "BTCUSDT")) == 1
    one.receive([trade(2, 10), trade(3, 70_000)], START_NS)
    assert (one.stats.no_longer_subscribed, one.stats.never_subscribed, one.flush(START_NS)) == (2, 0, [])
    one.follow("line", [("BTCUSDT", "trade")], START_NS)  # and again
    one.receive([trade(4, 130_000)], START_NS)
    (bar,) = one.flush(START_NS)
    assert (bar.first_trade_id, bar.last_trade_id) == (4, 4)


async def test_trades_that_come_before_the_ack_count_and_those_behind_an_unsubscribe_do_not() -> None:
    def answer(request: dict[str, Any]) -> dict[str, Any]:
        number = 1 if request["method"] == "SUBSCRIBE" else 2
        server.send_now(server.asking, trade(number, number))
        return {"result": None, "id": request["id"]}

    async with TradeServer() as server:
        server.answer = answer
        async with fastbars.stream("binance", ["BTCUSDT"], url=server.url, config=BY_TRADES) as bars:
            await until(lambda: bars.stats().session.trades == 1)
            await bars.unsubscribe(["BTCUSDT"])
            await server.send(trade(3, 3))
            await until(lambda: bars.stats().session.no_longer_subscribed)
            await bars.stop()
            got = [bar async for bar in bars]
    assert [(bar.first_trade_id, str(bar.close_reason)) for bar in got] == [(1, "end")]


async def test_a_symbol_that_the_exchange_refused_makes_no_bars_though_its_trades_come() -> None:
    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if "evilusdt@trade" in request["params"]:
            return {"error": {"code": -1121, "msg": "Invalid symbol."}, "id": request["id"]}
        return {"result": None, "id": request["id"]}

    async with TradeServer(answer) as server, fastbars.stream("binance", [], url=server.url, config=BY_TRADES) as bars:
        with pytest.raises(SubscriptionError):
            await bars.subscribe(["BTCUSDT", "EVILUSDT"])
        await server.send(trade(1, 0, symbol="EVILUSDT"), trade(1, 0))
        await until(lambda: bars.stats().session.trades == 1)
        assert bars.adapter.session.symbols == ("BTCUSDT",)


async def test_streams_named_by_the_address_are_subscribed_to() -> None:
    async with SimulatedExchange(symbols=["BTCUSDT", "ETHUSDT"], rate=500) as exchange:
        url = f"{exchange.combined_url}?streams=btcusdt@trade"
        async with fastbars.stream("binance", [], url=url, config=BY_TRADES) as bars:
            await until(lambda: bars.stats().session.trades > 5)
            await bars.subscribe(["ETHUSDT"])
            await until(lambda: set(bars.adapter.session.symbols) == {"BTCUSDT", "ETHUSDT"})
            assert bars.stats().session.never_subscribed == 0
    for url in ("wss://h/ws/btcusdt@trade/ethusdt@kline_1m", "wss://h/stream?streams=btcusdt@trade/ethusdt@kline_1m"):
        assert BINANCE.streams_in(url) == [("BTCUSDT", "trade"), ("ETHUSDT", "kline_1m")]
    for url in ("wss://h/ws", "wss://h/stream", "wss://h/ws/!miniTicker@arr", "", "ws://[", "ws://h/ws//@/x"):
        assert BINANCE.streams_in(url) == []


def own_names(message: dict[str, Any]) -> TickData | None:
    if message.get("e") != "trade":
        return None
    return TickData(
        message["s"].replace("USDT", "/USDT"), message["T"] * 10**6, message["p"], message["q"], trade_id=message["t"]
    )


def same_names(message: dict[str, Any]) -> TickData | None:
    if message.get("e") != "trade":
        return None
    return TickData(message["s"], message["T"] * 10**6, message["p"], message["q"], trade_id=message["t"])


@pytest.mark.parametrize(("parser", "name"), [(own_names, "BTC/USDT"), (same_names, "BTCUSDT")])
def test_a_parser_of_the_users_makes_no_bars_of_other_symbols_either(
    parser: Callable[[dict[str, Any]], TickData | None], name: str
) -> None:
    one = session(parse_message=parser)
    one.receive([trade(1, 0), trade(1, 0, symbol="EVILUSDT"), trade(2, 1)], START_NS)
    assert (one.stats.trades, one.stats.never_subscribed, one.symbols) == (2, 1, (name,))


def test_a_session_without_subscriptions_takes_every_symbol_as_a_replay_does() -> None:
    bars: list[OHLCVBar] = []
    one = Session(BINANCE, StreamConfig(close_by="trades"), Callbacks(on_bar=bars.append))
    one.receive([trade(1, 0), trade(1, 0, symbol="ETHUSDT")], START_NS)
    one.flush(START_NS)
    assert {bar.symbol for bar in bars} == {"BTCUSDT", "ETHUSDT"}


async def test_a_recording_replays_with_the_subscriptions_that_it_ran_with(tmp_path: Path) -> None:
    pytest.importorskip("zstandard" if sys.version_info < (3, 14) else "compression.zstd")
    async with (
        TradeServer() as server,
        fastbars.stream("binance", ["BTCUSDT"], url=server.url, config=BY_TRADES, record=tmp_path) as bars,
    ):
        await server.send(trade(1, 0), trade(1, 0, symbol="EVILUSDT"), trade(2, 61_000))
        live = [await anext(bars)]
        await bars.subscribe(["ETHUSDT"])
        await server.send(trade(1, 61_500, symbol="ETHUSDT"))
        await until(lambda: bars.stats().session.trades == 3)
        await bars.unsubscribe(["BTCUSDT"])
        await server.send(trade(3, 62_000), trade(2, 62_000, symbol="ETHUSDT"))
        await until(lambda: bars.stats().session.trades == 4)
        await bars.stop()
        live += [bar async for bar in bars]
        stats = bars.stats().session
    replay = fastbars.replay(tmp_path)
    assert list(replay) == live
    assert [bar.symbol for bar in live] == ["BTCUSDT", "BTCUSDT", "ETHUSDT"]
    again = replay.session.stats
    assert (again.never_subscribed, again.no_longer_subscribed) == (1, 1)
    assert (stats.never_subscribed, stats.no_longer_subscribed) == (1, 1)


async def test_two_lines_take_what_either_is_subscribed_to_and_nothing_else() -> None:
    config = StreamConfig(bars="1m", close_by="trades", lines=2, line_wait=0.01)
    async with TradeServer() as server, fastbars.stream("binance", ["BTCUSDT"], url=server.url, config=config) as bars:
        await until(lambda: len(server.connections) == 2)
        await server.send(trade(1, 0, symbol="EVILUSDT"), trade(1, 0))
        await until(lambda: bars.stats().session.trades == 2)
        assert bars.adapter.session.symbols == ("BTCUSDT",)
        await bars.unsubscribe(["BTCUSDT"])
        await server.send(trade(2, 1))
        await until(lambda: bars.stats().session.no_longer_subscribed == 2)


def test_json_of_an_escaped_name_is_the_same_symbol() -> None:
    one = session()
    payload = trade(1, 0).replace(b"BTCUSDT", rb"\u0042TCUSDT")
    assert orjson.loads(payload)["s"] == "BTCUSDT"
    one.receive([payload, trade(2, 1), payload.replace(b'"t":1', b'"t":3')], START_NS)
    assert (one.stats.trades, one.stats.never_subscribed) == (3, 0)
    one.follow("line", [], START_NS)
    one.receive([payload.replace(b'"t":1', b'"t":4'), trade(5, 2)], START_NS)
    assert one.stats.no_longer_subscribed == 2
