"""Regions of an exchange by name: hosts of their own for streams, histories and instruments."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

import fastbars
from fastbars import BarStream, OKXWebSocketAdapter, StreamConfig
from fastbars.cli import main
from fastbars.errors import TapeError, UnknownExchangeError
from fastbars.exchanges import EXCHANGES, find_exchange, regions
from fastbars.exchanges.declaration import Exchange
from fastbars.simulator import SimulatedExchange
from fastbars.tapes.recorder import Recording
from servers import until

REGIONAL = [
    (venue, market, region)
    for venue, markets in EXCHANGES.items()
    for market, exchange in markets.items()
    for region in exchange.regions
]


def hosts_of(exchange: Exchange) -> set[str]:
    urls = [*exchange.routes, *(one.api.url for served in exchange.histories.values() for one in served)]
    urls += [] if exchange.listing is None else [exchange.listing.api.url]
    return {urlsplit(url).hostname or "" for url in urls}


@pytest.mark.parametrize(
    ("venue", "market", "stream", "rest"),
    [
        ("okx", "spot@eea", "wss://wseea.okx.com:8443/ws/v5/business", "https://eea.okx.com"),
        ("okx", "derivatives@us", "wss://wsus.okx.com:8443/ws/v5/business", "https://us.okx.com"),
        ("bybit", "spot@tr", "wss://stream.bybit.tr/v5/public/spot", "https://api.bybit.tr"),
        ("bybit", "linear@kz", "wss://stream.bybit.kz/v5/public/linear", "https://api.bybit.kz"),
        ("bybit", "linear@ge", "wss://stream.bybitgeorgia.ge/v5/public/linear", "https://api.bybitgeorgia.ge"),
        ("bybit", "inverse@id", "wss://stream.bybit.id/v5/public/inverse", "https://api.bybit.id"),
        ("bybit", "spot@eu", "wss://stream.bybit.eu/v5/public/spot", "https://api.bybit.eu"),
        ("bybit", "spot@nl", "wss://stream.bybit.com/v5/public/spot", "https://api.bybit.nl"),
    ],
)
def test_a_region_has_its_own_hosts_and_a_name_that_says_so(venue: str, market: str, stream: str, rest: str) -> None:
    exchange = find_exchange(venue, market)
    assert exchange.name == f"{venue} {market}"
    assert exchange.url([exchange.default_channel]) == stream
    assert exchange.listing is not None
    assert exchange.listing.api.url == rest
    for served in exchange.histories.values():
        assert {one.api.url for one in served} == {rest}
        assert {one.api.budget_name for one in served} == {exchange.listing.api.budget_name} == {rest}


@pytest.mark.parametrize(("venue", "market", "region"), REGIONAL)
def test_a_region_differs_from_its_market_by_name_and_hosts_alone(venue: str, market: str, region: str) -> None:
    exchange, there = find_exchange(venue, market), find_exchange(venue, f"{market}@{region}")
    assert type(there) is type(exchange)
    hosts = exchange.regions[region]
    assert set(hosts) <= hosts_of(exchange) | {"www.okx.com"}
    assert hosts_of(there) == {hosts.get(host, host) for host in hosts_of(exchange)}
    for attribute in (
        "channels",
        "default_channel",
        "limits",
        "keepalive",
        "acks",
        "candles",
        "candle_open",
        "negative_prices",
        "symbols",
    ):
        assert getattr(there, attribute) == getattr(exchange, attribute)
    assert [list(channels) for channels in there.routes.values()] == [list(one) for one in exchange.routes.values()]
    assert there.contract_size("BTCUSD") == exchange.contract_size("BTCUSD")
    assert hosts_of(find_exchange(venue, market)) == hosts_of(exchange)
    assert exchange.name != there.name


def test_the_same_region_is_the_same_exchange_however_it_is_written() -> None:
    first = find_exchange("okx", "spot@eea")
    assert find_exchange("OKX", "Spot@EEA") is find_exchange("okx", "@eea") is first
    assert find_exchange("okx", "derivatives@eea") is not first


@pytest.mark.parametrize(
    ("venue", "market", "message"),
    [
        ("okx", "spot@xx", "okx: unknown region 'xx' of market 'spot'; regions, as in 'spot@eea', are eea, us"),
        ("okx", "spot@", "okx: unknown region '' of market 'spot'; regions, as in 'spot@eea', are eea, us"),
        ("okx", "swap@eea", "okx: unknown market 'swap@eea'; known are spot, derivatives; regions, as in 'spot@eea',"
                            " are eea, us"),
        ("kraken", "spot@eu", "kraken: unknown region 'eu' of market 'spot', which has no regions"),
        ("kraken", "futures", "kraken: unknown market 'futures'; known are spot"),
    ],
)  # fmt: skip
def test_an_unknown_region_is_an_error_that_names_the_known_ones(venue: str, market: str, message: str) -> None:
    with pytest.raises(UnknownExchangeError) as unknown:
        find_exchange(venue, market)
    assert str(unknown.value) == message


def test_the_commands_help_and_the_documentation_list_every_region(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["stream", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    page = (Path(__file__).parents[1] / "docs" / "exchanges.md").read_text(encoding="utf-8")
    listed = {venue: ", ".join(regions(venue)) for venue in EXCHANGES if regions(venue)}
    assert set(listed) == {"okx", "bybit"}
    for venue, names in listed.items():
        assert f"{venue} has {names}" in told
        assert all(f"`spot@{name}`" in page for name in regions(venue))


async def test_a_stream_of_a_region_is_recorded_and_replayed_under_its_name(tmp_path: Path) -> None:
    async with SimulatedExchange("okx", symbols=2, rate=300.0) as server:
        config = StreamConfig(close_by="trades")
        stream = fastbars.stream(
            "okx", server.symbols, "1s", market="spot@eea", url=server.url, config=config, record=tmp_path
        )
        assert isinstance(stream, BarStream)
        async with stream as bars:
            await until(lambda: bars.stats().session.trades > 300)
        live = [bar async for bar in bars]
    assert {bar.symbol for bar in live} == set(server.symbols)
    assert [str(bar) for bar in fastbars.replay(tmp_path)] == [str(bar) for bar in live]


def test_a_recording_of_an_unknown_region_says_so(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    exchange = find_exchange("okx", "spot@eea").in_region("us", "okx spot@moon")
    adapter = OKXWebSocketAdapter(market="spot@us")
    assert adapter.exchange.name == "okx spot@us"
    recorder = recording.session({"exchange": exchange.name, "channel": None, "own_parser": False, "config": {}})
    assert recorder is not None
    recording.close()
    with pytest.raises(TapeError, match="'okx spot@moon': okx: unknown region 'moon' of market 'spot'"):
        list(fastbars.replay(tmp_path))
