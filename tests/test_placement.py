"""Tests of which connection carries which stream: decided from limits alone, without a connection."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from fastbars import StreamConfig
from fastbars.errors import SubscriptionError
from fastbars.exchanges import find_exchange
from fastbars.exchanges.binance import SPOT
from fastbars.exchanges.declaration import Exchange, Limits
from fastbars.live.connections.placement import Place, Placement

Stream = tuple[str, str]


class Connections:
    """Places in the order in which they were made."""

    def __init__(self, exchange: Exchange, config: StreamConfig | None = None) -> None:
        self.placement = Placement(exchange, config or StreamConfig())
        self.places: list[Place[int]] = [Place(0, None)]
        self.made = 0

    def make(self, _: str) -> Place[int]:
        self.made += 1
        return Place(self.made, None)

    def place(self, *streams: Stream, leave: Collection[int] = ()) -> dict[int, list[Stream]]:
        url_of = {"trade": "ws://a", "kline_1m": "ws://b"}
        self.places = self.placement.place(
            streams, self.places, url_of.__getitem__, self.make, [self.places[i] for i in leave]
        )
        given = {place.connection: list(place.given) for place in self.places if place.given}
        for place in self.places:
            place.given.clear()
        return given


def small(streams_per_connection: int = 2, **limits: int) -> Exchange:
    return replace(SPOT, limits=Limits(streams_per_connection, 1, 5.0, **limits))  # type: ignore[arg-type]


def trades(*symbols: str) -> list[Stream]:
    return [(symbol, "trade") for symbol in symbols]


def test_symbols_are_spread_evenly_over_as_many_connections_as_are_needed() -> None:
    connections = Connections(small())
    assert connections.place(*trades("A", "B", "C")) == {0: trades("A", "C"), 1: trades("B")}
    assert connections.place(*trades("D")) == {1: trades("D")}
    assert connections.place(*trades("E")) == {2: trades("E")}


def test_what_is_carried_stays_where_it_is() -> None:
    connections = Connections(small())
    connections.place(*trades("A", "B", "C"))
    assert connections.place(*trades("C", "B", "A")) == {0: trades("C", "A"), 1: trades("B")}
    assert connections.made == 1


def test_what_leaves_a_connection_goes_where_there_is_room_and_else_to_a_new_one() -> None:
    connections = Connections(small(3))
    connections.place(*trades("A", "B", "C", "D", "E"))
    assert [place.streams for place in connections.places] == [set(trades("A", "C", "E")), set(trades("B", "D"))]
    assert connections.place(*trades("A", "C"), leave=[0]) == {2: trades("A", "C")}
    assert [place.streams for place in connections.places] == [
        set(trades("A", "C", "E")), set(trades("B", "D")), set(trades("A", "C")),
    ]  # fmt: skip
    assert connections.place(*trades("D"), leave=[1]) == {2: trades("D")}  # the first one still carries three
    assert connections.place(*trades("E"), leave=[0]) == {1: trades("E")}
    assert connections.made == 2


def test_streams_are_assigned_to_a_connection_that_can_take_them_and_refused_to_one_that_cannot() -> None:
    connections = Connections(small(3))
    connections.place(*trades("A", "B", "C", "D"))
    second = connections.places[1]
    url_of = {"trade": "ws://a", "kline_1m": "ws://b"}.__getitem__
    connections.placement.assign(trades("A"), second, url_of)
    assert (second.streams, second.given) == (set(trades("B", "D", "A")), trades("A"))
    for streams in (trades("C"), [("C", "kline_1m")]):
        with pytest.raises(SubscriptionError, match="a connection to ws://a that carries 3 of at most 3 streams"):
            connections.placement.assign(streams, second, url_of)
    assert (second.streams, second.given) == (set(trades("B", "D", "A")), trades("A"))
    with pytest.raises(SubscriptionError, match="3 connections are over the limit of 2 from one address"):
        Connections(small(2, connections=3)).placement.check_count(3)


def test_what_is_served_elsewhere_needs_a_connection_of_its_own() -> None:
    connections = Connections(small(10))
    assert connections.place(("A", "trade"), ("A", "kline_1m")) == {0: [("A", "trade")], 1: [("A", "kline_1m")]}
    assert [place.url for place in connections.places] == ["ws://a", "ws://b"]


def test_streams_that_exclude_each_other_go_to_different_connections() -> None:
    placement = Placement(find_exchange("kraken"), StreamConfig())
    fresh = iter(range(1, 10))
    places = placement.place(
        [("BTC/USD", "trade"), ("BTC/USD", "ohlc_1"), ("BTC/USD", "ohlc_5"), ("ETH/USD", "ohlc_5")],
        [Place(0, None)],
        lambda _: "ws://kraken",
        lambda _: Place(next(fresh), None),
    )
    assert [place.streams for place in places] == [
        {("BTC/USD", "trade"), ("BTC/USD", "ohlc_5")},
        {("BTC/USD", "ohlc_1"), ("ETH/USD", "ohlc_5")},
    ]


def test_more_than_the_exchange_allows_is_refused_and_nothing_is_made() -> None:
    connections = Connections(small(2, connections=3))
    with pytest.raises(SubscriptionError, match=r"5 streams need 3 connections of 2, and 2 are allowed from one"):
        connections.place(*trades(*"ABCDE"))
    with pytest.raises(SubscriptionError, match="5 streams are over the limit of 4 from one address"):
        Connections(small(2, streams=4)).place(*trades(*"ABCDE"))
    two_lines = Connections(small(2, connections=3), StreamConfig(lines=2))
    with pytest.raises(SubscriptionError, match="3 streams need 4 connections of 2, and 2 are allowed"):
        two_lines.place(*trades(*"ABC"))
    assert (connections.made, two_lines.made) == (0, 0)


@given(
    st.integers(1, 5),
    st.lists(st.lists(st.tuples(st.sampled_from("ABCDEFGHIJ"), st.sampled_from(("trade", "kline_1m"))), max_size=12)),
)
def test_every_stream_is_carried_once_nothing_moves_and_no_connection_has_too_many(
    most: int, calls: list[list[Stream]]
) -> None:
    connections = Connections(small(most))
    where: dict[Stream, int] = {}
    for streams in calls:
        given = connections.place(*streams)
        assert sorted(stream for each in given.values() for stream in each) == sorted(set(streams))
        for place in connections.places:
            for stream in place.streams:
                assert where.setdefault(stream, place.connection) == place.connection
            assert len(place.streams) <= most
            assert len({channel for _, channel in place.streams}) <= 1  # of one address each
        assert sum(len(place.streams) for place in connections.places) == len(where)
