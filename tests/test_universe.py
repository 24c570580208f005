"""A stream whose symbols are a choice: it follows the exchange's list, and cuts nothing that stays."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

import fastbars
from examples import examples
from fake_clock import FakeClockLoop
from fastbars import BarStatus, Instrument, OHLCVBar, StreamConfig, SymbolChange
from fastbars.errors import RestError, SubscriptionError, WSConnectionError
from fastbars.exchanges import find_exchange
from fastbars.live.shared import SHARED
from fastbars.live.universe import Universe, UniverseWatch
from fastbars.simulator import SimulatedExchange
from fastbars.simulator.rest import RestFault

BINANCE = find_exchange("binance", "usdm")


def one(symbol: str, status: str = "trading", volume: int | None = None, **more: Any) -> Instrument:
    fields: dict[str, Any] = {"kind": "perpetual", "base": symbol.removesuffix("USDT"), "quote": "USDT", **more}
    return Instrument(
        "binance", "usdm", symbol, status=status, exchange_status=status.upper(),  # type: ignore[arg-type]
        quote_volume=None if volume is None else Decimal(volume), **fields,
    )  # fmt: skip


def many(count: int, start: int = 0) -> list[Instrument]:
    return [one(f"S{number}USDT") for number in range(start, start + count)]


def follow(universe: Universe, listed: Sequence[Instrument]) -> tuple[list[str], dict[str, str]]:
    """Read a list and do what it says."""
    verdict = universe.read(listed)
    universe.join([each for each in listed if each.symbol in verdict.begin])
    universe.leave(tuple(verdict.end))
    return list(verdict.begin), dict(verdict.end)


# The rule, list by list.


def test_what_is_listed_and_chosen_begins_and_what_is_delisted_ends_with_a_reason() -> None:
    universe = Universe(fastbars.where(quote="USDT"))
    others = many(5)
    assert follow(universe, [one("AUSDT"), one("BUSDC", quote="USDC"), one("CUSDT", "halted"), *others])[0] == sorted(
        ["AUSDT", *(each.symbol for each in others)]
    )
    assert follow(universe, [one("AUSDT", "delisted"), one("CUSDT"), *others]) == (
        ["CUSDT"], {"AUSDT": "delisted, its status is DELISTED"},
    )  # fmt: skip
    assert follow(universe, [one("AUSDT"), one("CUSDT"), *others]) == (["AUSDT"], {})  # listed once more


def test_a_halted_symbol_stays() -> None:
    universe = Universe(fastbars.where())
    follow(universe, [one("AUSDT"), *many(3)])
    assert follow(universe, [one("AUSDT", "halted"), *many(3)]) == ([], {})
    assert universe.members["AUSDT"].status == "halted"


def test_a_symbol_that_is_missing_once_is_asked_for_again_and_ends_the_second_time() -> None:
    universe = Universe(fastbars.where())
    follow(universe, [one("AUSDT"), *many(5)])
    verdict = universe.read(many(5))
    assert (verdict.end, verdict.is_open) == ({}, True)
    assert not universe.read([one("AUSDT"), *many(5)]).is_open  # it was a gap in one list
    universe.read(many(5))
    assert universe.read(many(5)).end == {"AUSDT": "no longer listed"}


def test_a_list_that_has_lost_half_of_the_instruments_is_not_believed() -> None:
    universe = Universe(fastbars.where())
    follow(universe, many(10))
    for _ in range(9):
        verdict = universe.read([*many(5), one("NEWUSDT")])
        assert verdict.end == {}
        assert verdict.is_open
        assert verdict.doubt == "5 of 10 instruments are gone at once"
        assert verdict.begin == ("NEWUSDT",)  # what it has is there
    assert follow(universe, many(10)) == ([], {})
    for _ in range(9):
        assert universe.read(many(4)).end == {}
    verdict = universe.read(many(4))  # ten in a row: it is so; and missing is missing twice
    assert (verdict.doubt, verdict.end) == ("", {})
    assert set(universe.read(many(4)).end) == {f"S{number}USDT" for number in range(4, 10)}


def test_a_list_that_has_lost_fewer_than_half_is_believed() -> None:
    universe = Universe(fastbars.where())
    follow(universe, many(10))
    assert universe.read([*many(6), *(one(each.symbol, "delisted") for each in many(4, start=6))]).end == {
        f"S{number}USDT": "delisted, its status is DELISTED" for number in range(6, 10)
    }


def test_a_list_in_which_everything_is_delisted_is_not_believed() -> None:
    universe = Universe(fastbars.where())
    follow(universe, many(10))
    assert universe.read([one(each.symbol, "delisted") for each in many(10)]).end == {}


def test_a_volume_about_the_least_one_does_not_flap() -> None:
    universe = Universe(fastbars.where(min_volume=1000))
    assert follow(universe, [one("AUSDT", volume=1000), one("BUSDT", volume=999), *many(3)])[0] == ["AUSDT"]
    for volume in (999, 1001, 500, None):
        assert follow(universe, [one("AUSDT", volume=volume), *many(3)]) == ([], {})
    assert follow(universe, [one("AUSDT", volume=499), *many(3)])[1] == {
        "AUSDT": "its volume of 24 hours, 499, is below half of min_volume"
    }
    assert follow(universe, [one("AUSDT", volume=999), *many(3)]) == ([], {})
    assert follow(universe, [one("AUSDT", volume=1000), *many(3)]) == (["AUSDT"], {})


def test_of_two_names_of_one_market_one_is_subscribed_to() -> None:
    universe = Universe(fastbars.where(), find_exchange("coinbase").symbols.arriving)
    first = follow(universe, [one("BTC-USD"), one("BTC-USDC"), one("ETH-USDC")])[0]
    assert first == ["BTC-USD", "ETH-USDC"]
    assert follow(universe, [one("BTC-USD"), one("BTC-USDC"), one("ETH-USDC"), one("ETH-USD")]) == ([], {})


# Any history of lists, on the fake clock.


class Stream:
    """What a universe subscribes to; refuses and loses as it is told. No symbol may end but by a call."""

    def __init__(self) -> None:
        self.held: dict[str, None] = {}
        self.ends: list[str] = []
        self.begins: Counter[str] = Counter()
        self.refuses: set[str] = set()
        self.is_lost = False

    @property
    def subscribed(self) -> Collection[str]:
        return self.held.keys()

    async def subscribe(self, symbols: Sequence[str]) -> None:
        refused = tuple(symbol for symbol in symbols if symbol in self.refuses)
        for symbol in symbols:
            assert symbol not in self.held
            if symbol not in refused:
                self.held[symbol] = None
                self.begins[symbol] += 1
        if self.is_lost:
            raise WSConnectionError("lost")
        if refused:
            raise SubscriptionError("refused", refused)

    async def unsubscribe(self, symbols: Sequence[str]) -> None:
        for symbol in symbols:
            self.held.pop(symbol)
            self.ends.append(symbol)
        if self.is_lost:
            raise WSConnectionError("lost")


class Lists:
    """The lists of a history, one after the other, and what befalls the stream with each."""

    def __init__(self, lists: Sequence[list[Instrument] | None], history: Sequence[Any], stream: Stream) -> None:
        self.lists = lists
        self.history = history
        self.stream = stream
        self.asked = 0
        self.is_over = asyncio.Event()

    async def instruments(self, *, volume: bool = False, age_s: float = 0.0) -> list[Instrument]:  # noqa: ARG002
        if self.asked == len(self.lists):
            self.is_over.set()
            await asyncio.Event().wait()
        if self.asked:
            _, self.stream.refuses, self.stream.is_lost = self.history[self.asked - 1]
        listed = self.lists[self.asked]
        self.asked += 1
        if listed is None:
            raise RestError("no answer")
        return listed


NAMES = [f"{letter}USDT" for letter in "ABCDEFGH"]
STATES = st.sampled_from(["trading", "trading", "trading", "halted", "delisted", "not yet", "absent"])
VOLUMES = st.sampled_from([None, 0, 499, 500, 999, 1000, 5000])
LISTED = st.dictionaries(st.sampled_from(NAMES), st.tuples(STATES, VOLUMES), max_size=len(NAMES))
STEPS = st.tuples(LISTED | st.none(), st.sets(st.sampled_from(NAMES), max_size=2), st.booleans())
# Symbols that are always there, so that only histories that say so lose half.
REST = many(6)


def oracle(history: Sequence[Any], has_volume: bool) -> tuple[set[str], list[str]]:
    """What is subscribed to in the end, and what ended: symbol by symbol, and list by list."""
    first = dict.fromkeys(NAMES, ("trading", 5000))
    held, ends = set(NAMES), list[str]()
    alive, absent, doubts = {*NAMES, *(each.symbol for each in REST)}, Counter[str](), 0
    state = dict(first)
    for changes, refused, _ in history:
        if changes is None:
            continue
        state |= changes
        now = {name for name, (status, _) in state.items() if status not in ("delisted", "absent")}
        now |= {each.symbol for each in REST}
        lost = len(alive - now)
        believed = lost < 2 or lost * 2 < len(alive) or doubts == 9
        doubts = 0 if believed else doubts + 1
        alive = now if believed else alive
        left = set()
        for name in NAMES:
            status, volume = state[name]
            if status != "absent":
                absent[name] = 0
            elif believed and name in held:
                absent[name] += 1
            too_little = has_volume and volume is not None and volume < 500
            if name in held and believed and (
                status == "delisted" or absent[name] == 2 or (status != "absent" and too_little)
            ):  # fmt: skip
                left.add(name)
        for name in NAMES:
            status, volume = state[name]
            enough = not has_volume or (volume is not None and volume >= 1000)
            if name not in held and status == "trading" and enough and name not in refused:
                held.add(name)
        for name in left:
            held.discard(name)
            absent[name] = 0
            ends.append(name)
    return held, sorted(ends)


@given(st.lists(STEPS, max_size=30), st.booleans())
@settings(max_examples=examples(150), deadline=None)
def test_what_is_subscribed_to_is_what_the_lists_say_whatever_happens(history: list[Any], has_volume: bool) -> None:
    state = dict.fromkeys(NAMES, ("trading", 5000))
    lists: list[list[Instrument] | None] = [[*(one(name, volume=5000) for name in NAMES), *REST]]
    for changes, _, _ in history:
        if changes is None:
            lists.append(None)
            continue
        state |= changes
        shown = [one(name, status, volume) for name, (status, volume) in state.items() if status != "absent"]
        lists.append([*shown, *REST])
    chosen = fastbars.where(base=[name.removesuffix("USDT") for name in NAMES], min_volume=1000 if has_volume else None)
    stream, changes_told = Stream(), list[SymbolChange]()

    async def run() -> None:
        source = Lists(lists, history, stream)
        config = StreamConfig(listing_interval=10.0, rest_url="http://127.0.0.1:1")
        watch = UniverseWatch(source, BINANCE, config, chosen, changes_told.append)
        await watch.begin(stream, lambda callback, change: callback(change))
        await source.is_over.wait()
        await watch.cancel()
        assert set(watch.stats.symbols) == set(stream.held)
        assert watch.stats.failures == sum(changes is None for changes, _, _ in history)
        assert set(stream.ends) == set(watch.stats.ended)

    loop = FakeClockLoop()
    try:
        loop.run_until_complete(run())
    finally:
        loop.close()
    held, ends = oracle(history, has_volume)
    assert set(stream.held) == held
    assert sorted(stream.ends) == ends
    # Whatever stays was never touched: begun once, and once more for each time that it ended.
    assert stream.begins == Counter(NAMES) + Counter(ends) - Counter(name for name in NAMES if name not in held)
    assert Counter(symbol for change in changes_told for symbol in change.ended) == Counter(ends)
    assert Counter(symbol for change in changes_told for symbol in change.added) == stream.begins


# Through sockets, from an exchange whose list changes while it trades.

VENUES: list[tuple[str, str, list[str], str, dict[str, Any]]] = [
    ("binance", "usdm", ["BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT"], "NEWUSDT", {"kind": "perpetual"}),
    ("okx", "spot", ["BTC-USDT", "ETH-USDT", "SOL-USDT", "BNB-USDT", "XRP-USDT"], "NEW-USDT", {"kind": "spot"}),
]


@pytest.mark.parametrize(("exchange", "market", "symbols", "new", "chosen"), VENUES)
async def test_a_stream_follows_an_exchange_that_lists_halts_and_delists(
    exchange: str, market: str, symbols: list[str], new: str, chosen: dict[str, Any]
) -> None:
    stays, halted, delisted = symbols[0], symbols[1], symbols[2]
    changes: list[SymbolChange] = []
    taken: list[OHLCVBar] = []
    async with SimulatedExchange(
        exchange, market=market, symbols=symbols, coming=[new], rate=250.0, record=True, voids_per_minute=0.0
    ) as server:
        config = StreamConfig(rest_url=server.rest_url, listing_interval=4.0, grace=0.2, heal=False)
        bars = fastbars.stream(
            exchange, fastbars.where(quote="USDT", **chosen), "1s", market=market, url=server.url, config=config,
            on_bar=taken.append, on_symbols=changes.append,
        )  # fmt: skip
        async with bars:
            assert bars.universe is not None
            assert set(bars.universe.symbols) == set(symbols) == set(bars.adapter.active_subscriptions)
            await asyncio.sleep(6)
            server.change_state(halted, "halted")
            server.change_state(delisted, "delisted")
            server.change_state(new, "trading")
            server.listing.faults.append(RestFault(status=503))
            await asyncio.sleep(45)
            assert set(bars.universe.symbols) == {*symbols, new} - {delisted}
            assert bars.universe.halted == (halted,)
            assert list(bars.universe.ended) == [delisted]
            assert bars.universe.failures == 1
            # A list that is empty, or has lost nearly everything, ends nothing.
            server.listing.faults.append(RestFault(empty=True))
            for symbol in symbols[3:]:
                server.change_state(symbol, "delisted")
            server.change_state(halted, "delisted")
            await asyncio.sleep(50)
            assert set(bars.subscribed) == {*symbols, new} - {delisted}
            assert bars.universe.doubted > 0
    assert [set(change.added) for change in changes] == [set(symbols), {new}]
    assert [list(change.ended) for change in changes] == [[], [delisted]]
    assert changes[1].ended[delisted].startswith("delisted, its status is ")
    of = {symbol: [bar for bar in taken if bar.symbol == symbol] for symbol in (*symbols, new)}
    # What stays is whole from one bar to the next, whatever began and ended beside it.
    whole = of[stays][1:-1]
    assert len(whole) > 30
    assert {bar.status for bar in whole} == {BarStatus.COMPLETE}
    assert all(one.close_time == other.open_time for one, other in pairwise(whole))
    assert all((one.last_trade_id or 0) + 1 == other.first_trade_id for one, other in pairwise(whole))
    # What was delisted ends with the bar that was open.
    assert of[delisted][-1].close_reason in ("end", "watermark", "clock")
    assert of[new]
    assert server.record.connections


async def test_a_choice_that_chooses_nothing_and_a_list_that_cannot_be_had_are_errors_on_entering() -> None:
    async with SimulatedExchange("binance", symbols=3, rate=10.0) as server:
        config = StreamConfig(rest_url=server.rest_url)
        with pytest.raises(SubscriptionError, match="no instrument that trades is chosen by quote=XYZ,status=trading"):
            async with fastbars.stream("binance", fastbars.where(quote="XYZ"), url=server.url, config=config):
                pass
        SHARED.reset()
        server.listing.faults.append(RestFault(status=503))
        with pytest.raises(RestError, match=r"binance spot: the instruments could not be had: .*HTTP 503"):
            async with fastbars.stream("binance", fastbars.where(), url=server.url, config=config):
                pass
    with pytest.raises(RestError, match="has no list of its instruments"):
        fastbars.stream("interactive_brokers", fastbars.where())
    with pytest.raises(RestError, match=r"asks for instruments at StreamConfig\.rest_url only"):
        fastbars.stream("binance", fastbars.where(), url="ws://127.0.0.1:1")


async def test_more_symbols_than_the_exchange_allows_are_those_of_which_most_is_traded() -> None:
    async with SimulatedExchange("hyperliquid", market="perp", symbols=6, rate=100.0) as server:
        for number, symbol in enumerate(server.symbols):
            server.change_state(symbol, "trading", 1000 + number)
        limits = replace(find_exchange("hyperliquid").limits, streams=4)
        venue = copy(find_exchange("hyperliquid"))
        object.__setattr__(venue, "limits", limits)
        config = StreamConfig(rest_url=server.rest_url)
        async with fastbars.stream(venue, fastbars.where(min_volume=1000), url=server.url, config=config) as bars:
            assert set(bars.subscribed) == set(server.symbols[2:])
            assert bars.universe is not None
            assert set(bars.universe.refused) == set(server.symbols[:2])
            assert "allows 4 streams at once" in bars.universe.refused[server.symbols[0]]
