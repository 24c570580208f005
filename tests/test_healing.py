"""Healing's front: paging through holes, limits, retries, and what stays a hole. Time is a number here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings, strategies as st

from examples import examples
from fastbars.errors import RestError
from fastbars.exchanges.history import Beginning, History, Hole, Page, Paging
from fastbars.exchanges.messages import Trade
from fastbars.exchanges.rest_api import RestApi
from fastbars.live.connections.limits import RateLimiter
from fastbars.live.healing.healer import Healer
from fastbars.live.rest import Answer
from servers import until

SECOND = 1_000_000_000


def trade(trade_id: int) -> Trade:
    """Trades of the truth: one every 100 ms, the id says which."""
    return Trade("trade", "A", time_of(trade_id), str(100 + trade_id), "1", 1, trade_id, trade_id)


def time_of(trade_id: int) -> int:
    return trade_id * SECOND // 10


def hole(first: int, last: int) -> Hole:
    return Hole("A", first, last, time_of(first - 1), time_of(last + 1))


class Ids:
    """Someone with holes, who notes what heals them."""

    symbols = ("A",)

    def __init__(self, *holes: Hole) -> None:
        self.missing = {number: one.symbol for one in holes for number in range(one.first, one.last + 1)}
        self.healed: list[int] = []
        self.left_out: list[tuple[int, int]] = []
        self.most_at_once = 0

    def holes(self, symbol: str | None = None) -> list[Hole]:
        runs: list[list[int]] = []
        for number in sorted(self.missing):
            if runs and runs[-1][-1] == number - 1:
                runs[-1].append(number)
            else:
                runs.append([number])
        return [hole(run[0], run[-1]) for run in runs if symbol in (None, "A")]

    def holes_within(self, symbol: str, first: int, last: int) -> list[Hole]:
        return [hole for hole in self.holes(symbol) if hole.first <= last and first <= hole.last]

    def beginnings(self, symbol: str | None = None) -> list[Beginning]:  # noqa: ARG002
        return []

    def reach_back(self, symbol: str, trade_id: int, time_ns: int) -> None:
        raise NotImplementedError

    def leave_out(self, symbol: str, ranges: Sequence[tuple[int, int]]) -> None:
        assert symbol == "A"
        self.left_out += ranges
        for first, last in ranges:
            for one in range(first, last + 1):
                del self.missing[one]

    def heal(self, symbol: str, trades: Sequence[Trade]) -> None:
        assert symbol == "A"
        self.most_at_once = max(self.most_at_once, len(trades))
        for one in trades:
            assert one.first_id is not None
            if self.missing.pop(one.first_id, None) is not None:
                self.healed.append(one.first_id)


class Venue:
    """A REST API over a truth of trades 0 to `newest`, and the clock by which everything here goes.

    Args:
        paging: in which way it pages.
        omitted: ids it does not have.
        page_size: most trades a page.
        overlap: that many trades more than asked for on the other side of the page's beginning.
    """

    def __init__(
        self, paging: Paging, *, omitted: Sequence[int] = (), page_size: int = 10, overlap: int = 0, newest: int = 1000
    ) -> None:
        self.paging = paging
        self.now_s = 1000.0
        self.asked: list[int] = []
        self.slept: list[float] = []
        self.faults: list[Answer | Exception] = []
        self.headers: list[Mapping[str, str]] = []
        self.overlap = overlap
        self.page_size = page_size
        self.trades = [trade(number) for number in range(newest + 1) if number not in omitted]

    async def get(self, url: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        assert url == "http://venue/trades/A"
        self.asked.append(int(query["at"]))
        self.headers.append(headers)
        if self.faults:
            fault = self.faults.pop(0)
            if isinstance(fault, Exception):
                raise fault
            return fault
        return Answer(200, None, orjson.dumps([one.first_id for one in self.page(int(query["at"]))]))

    def page(self, at: int) -> list[Trade]:
        def number(one: Trade) -> int:
            assert one.first_id is not None
            return one.first_id

        if self.paging is Paging.FORWARD_BY_ID:
            return [one for one in self.trades if number(one) >= at - self.overlap][: self.page_size]
        if self.paging is Paging.BACKWARD_BY_ID:
            return [one for one in self.trades if number(one) < at + self.overlap][-self.page_size :][::-1]
        if self.paging is Paging.BACKWARD_BY_TIME:
            return [one for one in self.trades if one.time_ns <= at][-self.page_size :][::-1]
        if self.paging is Paging.FORWARD_BY_CURSOR:
            return [one for one in self.trades if one.time_ns > at][: self.page_size]
        return self.trades[-self.page_size :]

    def parse(self, symbol: str, body: bytes) -> Page:
        assert symbol == "A"
        trades = [trade(number) for number in orjson.loads(body)]
        return Page(trades, trades[-1].time_ns if trades and self.paging is Paging.FORWARD_BY_CURSOR else None)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)

    def history(self, **changes: Any) -> History:
        declared: dict[str, Any] = {
            "api": RestApi("http://venue", 6000.0),
            "path": "/trades/{symbol}",
            "paging": self.paging,
            "page_size": self.page_size,
            "query": lambda symbol, position, _: {"symbol": symbol, "at": str(position)},
            "parse": self.parse,
            "weight": 1.0,
        }
        return History(**(declared | changes))

    def healer(self, target: Ids, history: History | None = None, **options: Any) -> Healer:
        return Healer(
            "venue",
            history or self.history(),
            [target],
            self.get,
            now=lambda: self.now_s,
            sleep=self.sleep,
            exchange_time_ns=lambda: round(self.now_s * 1e9),
            **options,
        )

    async def heal(self, healer: Healer) -> None:
        """Until there is nothing left to wait for."""
        while (due_s := await healer.heal_due()) is not None:
            await self.sleep(due_s)


DIRECTED = [Paging.FORWARD_BY_ID, Paging.BACKWARD_BY_ID, Paging.BACKWARD_BY_TIME, Paging.FORWARD_BY_CURSOR]


@settings(max_examples=examples(60))
@given(
    st.sampled_from(DIRECTED),
    st.lists(st.tuples(st.integers(1, 900), st.integers(0, 60)), min_size=1, max_size=4),
    st.sets(st.integers(1, 960), max_size=5),
    st.integers(2, 25),
    st.integers(0, 1),
)
def test_every_served_trade_of_every_hole_is_fetched_whatever_the_paging(
    paging: Paging, holes: list[tuple[int, int]], omitted: set[int], page_size: int, overlap: int
) -> None:
    target = Ids(*(hole(first, first + length) for first, length in holes))
    wanted = set(target.missing)
    venue = Venue(paging, omitted=sorted(omitted), page_size=page_size, overlap=overlap)
    healer = venue.healer(target)
    asyncio.run(venue.heal(healer))
    assert set(target.healed) == wanted - omitted
    assert len(target.healed) == len(set(target.healed))
    assert set(target.missing) == wanted & omitted
    assert {number for one in healer.reasons for number in range(one.first, one.last + 1)} == wanted & omitted


@pytest.mark.parametrize("paging", DIRECTED)
async def test_a_hole_is_paged_through_without_asking_for_more_than_it_needs(paging: Paging) -> None:
    target, venue = Ids(hole(100, 129)), Venue(paging)
    await venue.heal(venue.healer(target))
    assert sorted(target.healed) == list(range(100, 130))
    # Going by time, the trade that a page begins at is in it, or was in the one before: one trade more than asked for.
    assert len(venue.asked) <= (4 if paging in (Paging.BACKWARD_BY_TIME, Paging.FORWARD_BY_CURSOR) else 3)


async def test_the_latest_trades_heal_what_they_reach_and_no_more() -> None:
    target, venue = Ids(hole(985, 994)), Venue(Paging.RECENT)
    healer = venue.healer(target, venue.history(omits="all but the latest trades"))
    await venue.heal(healer)
    assert target.healed == [991, 992, 993, 994]
    assert healer.reasons == {hole(985, 990): "the REST API leaves out all but the latest trades"}


async def test_the_oldest_hole_goes_first_and_each_is_asked_for_once() -> None:
    target, venue = Ids(hole(500, 501), hole(20, 21), hole(300, 301)), Venue(Paging.FORWARD_BY_ID)
    await venue.heal(venue.healer(target))
    assert venue.asked == [20, 300, 500]


async def test_a_page_fills_every_hole_that_it_reaches() -> None:
    target = Ids(*(hole(number, number) for number in range(20, 120, 2)))
    venue = Venue(Paging.FORWARD_BY_ID)
    healer = venue.healer(target)
    await venue.heal(healer)
    assert sorted(target.healed) == list(range(20, 120, 2))
    assert venue.asked == list(range(20, 120, 10))
    assert (healer.stats.passes, healer.reasons) == (10, {})


async def test_a_hole_waits_a_little_because_trades_out_of_order_may_fill_it() -> None:
    target, venue = Ids(hole(20, 21)), Venue(Paging.FORWARD_BY_ID)
    healer = venue.healer(target)
    assert await healer.heal_due() == pytest.approx(0.5)
    target.missing.clear()
    await venue.heal(healer)
    assert venue.asked == []


async def test_trades_that_the_rest_api_does_not_have_yet_are_asked_for_again() -> None:
    target, venue = Ids(hole(1001, 1003)), Venue(Paging.FORWARD_BY_ID)
    healer = venue.healer(target)
    assert await healer.heal_due() == pytest.approx(0.5)
    await venue.sleep(0.5)
    assert await healer.heal_due() == pytest.approx(1.0)
    venue.trades.append(trade(1001))
    await venue.sleep(1.0)
    await healer.heal_due()
    assert target.healed == [1001]
    venue.trades += [trade(1002), trade(1003)]
    await venue.heal(healer)
    assert target.healed == [1001, 1002, 1003]
    assert healer.reasons == {}


async def test_what_the_exchange_omits_is_given_up_after_four_looks_and_says_so() -> None:
    target, venue = Ids(hole(20, 24)), Venue(Paging.FORWARD_BY_ID, omitted=[22])
    healer = venue.healer(target, venue.history(omits="insurance fund and ADL trades"))
    await venue.heal(healer)
    assert target.healed == [20, 21, 23, 24]
    assert healer.reasons == {hole(22, 22): "the REST API leaves out insurance fund and ADL trades"}
    assert [at for at in venue.asked if at <= 22] == [20, 22, 22, 22]
    assert healer.stats.given_up == 1


async def test_ids_left_out_between_two_neighbours_are_asked_for_once() -> None:
    target, venue = Ids(hole(20, 24)), Venue(Paging.FORWARD_BY_ID, omitted=[20, 22, 23])
    healer = venue.healer(target, venue.history(omits="void ids", leaves_out_ids=True))
    await venue.heal(healer)
    assert target.healed == [21, 24]
    assert target.left_out == [(20, 20), (22, 23)]
    assert (healer.reasons, healer.stats.unpublished, healer.stats.given_up) == ({}, 3, 0)
    assert venue.asked == [19]


async def test_a_neighbour_that_is_left_out_itself_is_looked_for_further_back() -> None:
    target, venue = Ids(hole(20, 20)), Venue(Paging.FORWARD_BY_ID, omitted=[18, 19, 20], page_size=100)
    healer = venue.healer(target, venue.history(omits="void ids", leaves_out_ids=True))
    await venue.heal(healer)
    assert venue.asked == [19, 0]
    assert (target.left_out, healer.reasons) == ([(20, 20)], {})


async def test_ids_left_out_between_two_pages_are_asked_for_once() -> None:
    target, venue = Ids(hole(20, 35)), Venue(Paging.FORWARD_BY_ID, omitted=[29, 30])
    healer = venue.healer(target, venue.history(omits="void ids", leaves_out_ids=True))
    await venue.heal(healer)
    assert sorted(target.healed) == [*range(20, 29), *range(31, 36)]
    assert venue.asked == [19, 28]
    assert (target.left_out, healer.reasons) == ([(29, 30)], {})


async def test_trades_that_are_not_published_yet_are_asked_for_again() -> None:
    target, venue = Ids(hole(1000, 1001)), Venue(Paging.FORWARD_BY_ID, newest=999)
    healer = venue.healer(target, venue.history(omits="void ids", leaves_out_ids=True))
    await venue.heal(healer)
    assert len(venue.asked) == 4  # no answer had a neighbour behind them


async def test_too_many_requests_wait_as_long_as_the_exchange_says() -> None:
    target, venue = Ids(hole(20, 24)), Venue(Paging.FORWARD_BY_ID)
    venue.faults = [Answer(429, 7.0, b"slow down"), Answer(418, 31.0, b"banned")]
    await venue.heal(venue.healer(target))
    assert venue.slept == [pytest.approx(0.5), 7.0, 31.0]
    assert target.healed == [20, 21, 22, 23, 24]


async def test_faults_of_the_server_are_tried_again_with_growing_delays() -> None:
    target, venue = Ids(hole(20, 24)), Venue(Paging.FORWARD_BY_ID)
    broken = Answer(200, None, b"<html>")
    venue.faults = [Answer(500, None, b""), Answer(503, None, b""), RestError("timed out"), broken]
    healer = venue.healer(target)
    await venue.heal(healer)
    assert venue.slept == [pytest.approx(0.5), 0.5, 1.0, 2.0, 4.0]
    assert target.healed == [20, 21, 22, 23, 24]
    assert (healer.stats.requests, healer.stats.errors) == (5, 4)


async def test_a_server_that_stays_down_costs_two_rounds_of_attempts_and_the_hole_says_why() -> None:
    target, venue = Ids(hole(20, 24)), Venue(Paging.FORWARD_BY_ID)
    venue.faults = [Answer(500, None, b"down")] * 12
    healer = venue.healer(target)
    await venue.heal(healer)
    (reason,) = healer.reasons.values()
    assert reason == "GET http://venue/trades/A: HTTP 500 b'down' (6 attempts)"
    assert len(venue.asked) == 12


@pytest.mark.parametrize("status", [400, 401, 403, 404, 451])
async def test_a_request_that_is_refused_is_not_sent_again(status: int) -> None:
    target, venue = Ids(hole(20, 24)), Venue(Paging.FORWARD_BY_ID)
    venue.faults = [Answer(status, None, b"no")]
    healer = venue.healer(target)
    await venue.heal(healer)
    assert healer.reasons == {hole(20, 24): f"GET http://venue/trades/A: HTTP {status} b'no'"}
    assert len(venue.asked) == 1


async def test_empty_pages_end_a_pass_and_a_page_that_does_not_move_on_does_too() -> None:
    target, venue = Ids(hole(20, 45)), Venue(Paging.FORWARD_BY_ID)
    same = Answer(200, None, orjson.dumps([18, 19]))
    venue.faults = [Answer(200, None, b"[]"), same]
    await venue.heal(venue.healer(target))
    assert venue.asked == [20, 20, 20, 30, 40]
    assert target.healed == list(range(20, 46))


async def test_weights_are_kept_over_every_minute() -> None:
    target, venue = Ids(hole(1, 900)), Venue(Paging.FORWARD_BY_ID)
    times: list[float] = []

    async def get(url: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        times.append(venue.now_s)
        return await venue.get(url, query, headers)

    history = venue.history(weight=25.0, api=RestApi("http://venue", 600.0))
    healer = Healer("venue", history, [target], get, now=lambda: venue.now_s, sleep=venue.sleep,
                    exchange_time_ns=lambda: round(venue.now_s * 1e9))  # fmt: skip
    await venue.heal(healer)
    assert len(times) == 90
    spent = [25.0 * sum(start <= time < start + 60.0 for time in times) for start in times]
    assert max(spent) <= 600.0
    assert max(spent) >= 500.0


async def test_a_limit_that_was_not_used_is_not_saved_up() -> None:
    venue = Venue(Paging.FORWARD_BY_ID)
    limiter = RateLimiter(150.0, 15.0, now=lambda: venue.now_s, sleep=venue.sleep)
    venue.now_s += 10_000.0
    assert await limiter.wait(150.0) == 0.0
    assert await limiter.wait(7.0) == pytest.approx(15.05)


@pytest.mark.parametrize(
    ("changes", "options", "reason"),
    [
        ({"key_header": "X-KEY"}, {}, "the REST API needs a key (StreamConfig.api_key, sent as X-KEY)"),
        ({"reach_s": 500.0}, {}, "it is 990 s old, and the REST API reaches 500 s back"),
        ({}, {"horizon_s": 900.0}, "it is 990 s old, more than heal_horizon, 900 s"),
    ],
)
async def test_a_hole_that_cannot_be_healed_is_given_up_without_a_request(
    changes: dict[str, Any], options: dict[str, Any], reason: str
) -> None:
    target, venue = Ids(hole(98, 99)), Venue(Paging.FORWARD_BY_ID)
    healer = venue.healer(target, venue.history(**changes), **options)
    await venue.heal(healer)
    assert healer.reasons == {hole(98, 99): reason}
    assert venue.asked == []


async def test_an_exchange_without_history_says_so() -> None:
    target, venue = Ids(hole(98, 99)), Venue(Paging.FORWARD_BY_ID)
    healer = Healer("venue", None, [target], venue.get, now=lambda: venue.now_s, sleep=venue.sleep)
    await venue.heal(healer)
    assert list(healer.reasons.values()) == ["the exchange serves no history of trades"]


async def test_the_key_is_sent_where_one_is_needed_and_nowhere_else() -> None:
    for header, sent in (("X-KEY", {"X-KEY": "k"}), (None, {})):
        target, venue = Ids(hole(20, 24)), Venue(Paging.FORWARD_BY_ID)
        await venue.heal(venue.healer(target, venue.history(key_header=header), api_key="k"))
        assert venue.headers == [sent]


async def test_a_big_page_is_handed_over_in_parts() -> None:
    target, venue = Ids(hole(1, 900)), Venue(Paging.FORWARD_BY_ID, page_size=1000)
    await venue.heal(venue.healer(target))
    assert len(target.healed) == 900
    assert target.most_at_once == 250


async def test_a_running_healer_sleeps_until_it_is_woken_and_heals_what_came_meanwhile() -> None:
    target, venue = Ids(), Venue(Paging.FORWARD_BY_ID)
    healer = Healer("venue", venue.history(), [target], venue.get, exchange_time_ns=lambda: 0)
    task = asyncio.create_task(healer.run())
    await asyncio.sleep(0)
    target.missing = dict.fromkeys(range(30, 33), "A")
    healer.wake()
    await until(lambda: target.healed == [30, 31, 32])
    task.cancel()
    await asyncio.wait([task])
