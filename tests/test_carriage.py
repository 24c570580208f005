"""Which trades a live session would have received: its coverage ledger, fed by hand and by simulated exchanges."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields as dataclass_fields, replace
from pathlib import Path
from typing import Any

import pytest

import fastbars
from fastbars import OHLCVBar, StreamConfig, clocks
from fastbars.cli.output import csv_line
from fastbars.exchanges import find_exchange
from fastbars.exchanges.binance import SPOT
from fastbars.exchanges.declaration import Exchange
from fastbars.live.callbacks import Callbacks
from fastbars.live.session import Session
from fastbars.simulator import Fault, FaultKind, Faults, SimulatedExchange
from fastbars.ticks import to_nanoseconds
from servers import START_NS, until

SECOND = 1_000_000_000
HYPERLIQUID, BYBIT = find_exchange("hyperliquid"), find_exchange("bybit", "linear")


class Notebook:
    """A recorder that keeps the events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def messages(self, *_: Any) -> None:
        pass

    def event(self, name: str, _time_ns: int, fields: Mapping[str, Any], _body: bytes = b"") -> None:
        self.events.append((name, dict(fields)))

    def note(self, *_: Any) -> None:
        pass


class Fed:
    """A session fed by hand, as if by connections; seconds are of the exchange's clock, and the steady one agrees."""

    def __init__(self, exchange: Exchange = HYPERLIQUID, **knobs: Any) -> None:
        self.bars: list[OHLCVBar] = []
        self.notebook: Any = Notebook()
        config = StreamConfig(**{"bars": "1m", "grace": 1.0, "lateness": 600.0, **knobs})
        self.session = Session(
            exchange, config, Callbacks(on_bar=self.bars.append), channel=exchange.default_channel,
            record=lambda _: self.notebook,
        )  # fmt: skip
        self.coverage = self.session.coverage
        self._ids = 0

    def subscribe(self, connection: int, *symbols: str) -> None:
        channel = self.session.channel
        self.session.follow(connection, [(symbol, channel) for symbol in symbols], 0)
        self.session.open_feed(connection)
        self.coverage.request(connection, symbols)

    def ack(self, second: float, connection: int, *symbols: str) -> None:
        self.coverage.confirm(connection, symbols, self.steady(second))

    def trades(self, second: float, connection: int, symbol: str, *seconds: float) -> None:
        """A message of trades, of these seconds."""
        rows = [self.row(symbol, at) for at in seconds or (second,)]
        self.message(second, connection, f'{{"channel":"trades","data":[{",".join(rows)}]}}')

    def row(self, symbol: str, second: float, price: str = '"100"', time: str = "") -> str:
        time = time or str((START_NS + round(second * SECOND)) // 1_000_000)
        # The id follows from the time, so that a trade that comes again is the same.
        return (
            f'{{"coin":"{symbol}","side":"B","px":{price},"sz":"1","time":{time},"hash":"0x0",'
            f'"tid":{round(second * 1000)},"users":["0x1","0x2"]}}'
        )

    def message(self, second: float, connection: int, text: str) -> None:
        self.session.receive([text.encode()], START_NS, self.steady(second), line=connection)

    def steady(self, second: float) -> int:
        return round(second * SECOND)

    def gaps(self, symbol: str) -> list[tuple[float | None, float | None, str]]:
        """(since, until, lost or not) of each gap, in seconds; None: ever."""
        buffer = self.session.intake.buffer
        assert buffer is not None
        return [
            (self._second(gap.since_ns), self._second(gap.until_ns), "lost" if gap.lost else "unwanted")
            for gap in buffer.gaps(symbol)
        ]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [fields for event, fields in self.notebook.events if event == name]

    def _second(self, time_ns: int) -> float | None:
        return None if abs(time_ns) > 2**62 else (time_ns - START_NS) / SECOND


# What cannot be read.


def test_of_several_trades_in_a_message_the_bad_one_is_a_loss_and_the_others_are_taken() -> None:
    fed = Fed()
    good, bad, other = fed.row("BTC", 5), fed.row("BTC", 65).replace('"sz"', '"xx"'), fed.row("BTC", 70)
    fed.message(70, 0, f'{{"channel":"trades","data":[{good},{bad},{other}]}}')
    assert (fed.session.stats.trades, fed.session.stats.trade_messages, fed.session.stats.parse_errors) == (2, 1, 0)
    assert fed.session.buffer_stats.refused == 1
    assert fed.gaps("BTC")[-1] == (65, 65, "lost")


def test_a_message_whose_trades_are_all_bad_is_a_parse_error_and_each_is_a_loss() -> None:
    fed = Fed()
    fed.trades(5, 0, "BTC")
    rows = [fed.row("BTC", second).replace('"B"', '"?"') for second in (65, 130)]
    fed.message(130, 0, f'{{"channel":"trades","data":[{",".join(rows)}]}}')
    assert (fed.session.stats.trades, fed.session.stats.parse_errors) == (1, 1)
    assert fed.gaps("BTC")[-2:] == [(65, 65, "lost"), (130, 130, "lost")]


@pytest.mark.parametrize("time", ['"now"', "null", "99999999999999999999", "5", "7258118400000"])
def test_a_bad_trade_whose_time_says_nothing_is_lost_when_its_message_was_sent(time: str) -> None:
    fed = Fed(BYBIT)

    def message(second: float, time: str, price: str) -> str:
        ts = (START_NS + round(second * SECOND)) // 1_000_000
        return (
            f'{{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":{ts},"data":[{{"T":{time or ts},"s":"BTCUSDT",'
            f'"S":"Buy","v":"1","p":{price},"i":"{second}","BT":false}}]}}'
        )

    fed.message(5, 0, message(5, "", '"100"'))
    fed.message(66, 0, message(65, time, '"abc"'))
    assert fed.session.buffer_stats.refused == 1
    assert fed.gaps("BTCUSDT")[-1] == (65, 65, "lost")


def test_a_bad_trade_of_a_message_without_any_time_is_lost_when_it_came() -> None:
    fed = Fed()
    fed.trades(5, 0, "BTC")
    fed.message(66, 0, f'{{"channel":"trades","data":[{fed.row("BTC", 65, time="null")}]}}')
    assert fed.gaps("BTC")[-1] == (66, 66, "lost")


@pytest.mark.parametrize(
    "text",
    ["{", '{"channel":"trades","data":[5]}', '{"channel":"trades","data":[{"px":"1"}]}'],
    ids=["no JSON", "no trade", "no symbol"],
)
def test_a_message_of_which_nothing_can_be_told_is_a_loss_of_every_symbol_that_its_connection_alone_carries(
    text: str,
) -> None:
    fed = Fed()
    fed.subscribe(0, "BTC", "ETH", "SOL")
    fed.subscribe(1, "ETH")
    for symbol in ("BTC", "ETH", "SOL"):
        fed.trades(5, 0, symbol)
    fed.trades(6, 1, "ETH")
    fed.message(66, 0, text)
    assert [fed.gaps(symbol)[-1] for symbol in ("BTC", "SOL")] == [(65, 66, "lost")] * 2
    assert fed.gaps("ETH") == [(None, 5, "unwanted")]
    assert [event["symbols"] for event in fed.events("lose")] == [["BTC", "SOL"]]


def test_without_connections_it_is_a_loss_of_all_symbols() -> None:
    fed = Fed()
    fed.trades(5, 0, "BTC")
    fed.trades(6, 0, "ETH")
    fed.message(66, 0, "{")
    assert [fed.gaps(symbol)[-1] for symbol in ("BTC", "ETH")] == [(65, 66, "lost")] * 2
    assert fed.events("lose") == []  # a replay reads the same message


def test_a_malformed_message_of_another_kind_loses_no_trade() -> None:
    fed = Fed()
    fed.trades(5, 0, "BTC")
    fed.message(66, 0, '{"channel":"candle","data":{"i":"1m"}}')
    fed.message(67, 0, '{"something":"else"}')
    assert (fed.session.stats.parse_errors, fed.session.stats.unknown) == (1, 1)
    assert fed.gaps("BTC") == [(None, 5, "unwanted")]


def test_where_a_parser_of_the_users_fails_every_symbol_may_have_lost_a_trade() -> None:
    def parse(message: dict[str, Any]) -> Any:
        if "bad" in message:
            raise ValueError(message)
        return fastbars.TickData("X", START_NS + message["at"] * SECOND, "1", "1", time_unit="ns")

    session = Session(HYPERLIQUID, StreamConfig(grace=1.0), parse_message=parse)
    session.receive([b'{"at":5,"time":0}'], START_NS, 5 * SECOND)
    session.intake.event_time_ns = START_NS + 5 * SECOND
    session.receive([b'{"bad":1}'], START_NS, 66 * SECOND)
    assert session.stats.parse_errors == 1
    buffer = session.intake.buffer
    assert buffer is not None
    assert buffer.gaps("X")[-1].lost


# From requests and trades to the ledger.


def test_the_first_trades_cover_a_symbol_and_an_ack_before_them_does_so_from_a_grace_behind_it() -> None:
    fed = Fed()
    fed.subscribe(0, "BTC", "ETH", "SOL")
    fed.trades(60, 0, "BTC", 50, 55, 60)  # its latest trades
    fed.ack(61, 0, "BTC", "ETH", "SOL")
    fed.trades(63, 0, "ETH")
    assert fed.gaps("BTC") == [(None, 50, "unwanted")]
    assert fed.gaps("ETH") == [(None, 62, "unwanted")]
    assert fed.gaps("SOL") == [(None, None, "unwanted")]  # without a trade there is nothing to be covered
    assert fed.coverage.state("SOL", 0) == "carrying"


def test_a_symbol_that_is_asked_for_again_is_bridged_by_trades_that_came_before() -> None:
    fed = Fed()
    fed.subscribe(0, "BTC", "ETH")
    fed.trades(10, 0, "BTC", 5, 10)
    fed.trades(20, 0, "ETH", 20)
    fed.coverage.lose(0)
    fed.session.close_feed(fed.session.intake.feeds.opened[0])
    assert fed.gaps("BTC")[-1] == (19, None, "lost")
    fed.subscribe(1, "BTC", "ETH")
    fed.trades(40, 1, "BTC", 10, 30, 40)
    fed.trades(41, 1, "ETH", 35, 41)
    assert fed.gaps("BTC") == [(None, 5, "unwanted")]
    assert fed.gaps("ETH") == [(None, 20, "unwanted"), (20, 35, "lost")]
    assert fed.session.stats.duplicates == 1


def test_before_the_clock_is_known_an_ack_covers_nothing_and_then_from_the_first_time_and_a_grace() -> None:
    fed = Fed(BYBIT)
    fed.subscribe(0, "BTCUSDT", "ETHUSDT")
    fed.ack(5, 0, "BTCUSDT", "ETHUSDT")
    assert fed.coverage.state("ETHUSDT", 0) == "confirmed"
    ts = (START_NS + 30 * SECOND) // 1_000_000
    fed.message(30, 0, f'{{"topic":"orderbook.1.BTCUSDT","ts":{ts},"data":{{"s":"BTCUSDT","b":[],"a":[]}}}}')
    fed.message(
        40, 0,
        f'{{"topic":"publicTrade.ETHUSDT","ts":{ts + 10_000},"data":[{{"T":{ts + 10_000},"s":"ETHUSDT","S":"Buy",'
        '"v":"1","p":"1","i":"a","BT":false}]}',
    )  # fmt: skip
    assert fed.gaps("ETHUSDT") == [(None, 31, "unwanted")]


def test_what_a_session_covers_is_written_to_the_journal_and_a_symbol_without_a_trade_is_not() -> None:
    fed = Fed()
    fed.subscribe(0, "BTC", "ETH")
    fed.ack(0, 0, "BTC", "ETH")
    fed.trades(10, 0, "BTC", 5, 10)
    fed.coverage.lose(0)
    names = [name for name, _ in fed.notebook.events if name not in ("streams", "feed", "carriers")]
    assert names == ["carried", "cover", "uncover"]
    assert fed.events("uncover") == [{"symbols": ["BTC"], "since_ns": START_NS + 9 * SECOND, "lost": True}]
    assert "ETH" not in fed.session.symbols


def test_a_restored_session_covers_nothing_since_the_snapshots_last_event_less_grace() -> None:
    fed = Fed()
    fed.subscribe(0, "BTC", "ETH")
    fed.trades(10, 0, "BTC", 5, 10)
    fed.trades(12, 0, "ETH")
    fed.session.follow(0, [("BTC", "trades")], 0)
    fed.coverage.end(0, ["ETH"], fed.steady(15), wanted=False)
    fed.trades(20, 0, "BTC")
    content = fed.session.dump()
    assert content is not None
    alone = Fed()
    alone.session.load(content, 0)
    assert alone.gaps("BTC")[-1] == (19, None, "lost")
    again = Fed()
    again.session.changes.take_charge()
    again.session.load(content, 0)
    assert again.gaps("BTC")[-1] == (19, None, "unwanted")
    again.subscribe(0, "BTC")
    assert again.gaps("BTC")[-1] == (19, None, "lost")
    assert again.gaps("ETH")[-1] == (15, None, "unwanted")


# End to end.


def without_ids() -> Exchange:
    @dataclass(frozen=True)
    class WithoutIds(type(SPOT)):  # type: ignore[misc]
        def fields(self, channel: str) -> Any:
            fields = super().fields(channel)
            return fields and replace(fields, first_id=None, last_id=None)

    values = {field.name: getattr(SPOT, field.name) for field in dataclass_fields(SPOT)}
    return WithoutIds(**values | {"channels": {**SPOT.channels, "trade": "none"}})


class Live:
    """A stream of 1 s bars from a simulated exchange, and what that exchange traded."""

    def __init__(self, simulated: SimulatedExchange, exchange: str | Exchange, **knobs: Any) -> None:
        self.issued: list[OHLCVBar] = []
        self.simulated = simulated
        record = knobs.pop("record", None)
        defaults = {"grace": 0.5, "heal": False, "reconnect_delay": 0.3, "reconnect_max_delay": 0.3, "lateness": 200.0}
        self.stream = fastbars.stream(
            exchange, simulated.symbols, "1s", market=simulated.market if isinstance(exchange, str) else None,
            url=simulated.url, config=StreamConfig(**defaults | knobs), on_bars=self.issued.extend, record=record,
        )  # fmt: skip

    async def go_on(self, seconds: int) -> None:
        before = len({bar.open_time for bar in self.issued})
        await until(lambda: len({bar.open_time for bar in self.issued}) >= before + seconds)

    def latest(self) -> dict[tuple[str, Any], OHLCVBar]:
        return {(bar.symbol, bar.open_time): bar for bar in self.issued}

    def check(self) -> Counter[str]:
        """How often each status occurs; no bar that claims to be whole may differ from what was traded."""
        for bar in self.latest().values():
            if str(bar.status) in ("COMPLETE", "HEALED", "UNVERIFIABLE"):
                second = self.simulated.record.seconds(bar.symbol).get(to_nanoseconds(bar.open_time) // 1_000_000)
                assert bar.trade_count == (0 if second is None else second.trade_count), str(bar)
        return Counter(str(bar.status) for bar in self.latest().values())


@pytest.mark.parametrize(
    ("kind", "ids", "after"),
    [
        ("binance", "none", "GAP"), ("bybit", "unique", "GAP"), ("hyperliquid", "unique", "UNVERIFIABLE"),
        ("binance", "contiguous", "COMPLETE"),
    ],
)  # fmt: skip
async def test_a_connection_that_is_lost_costs_the_bars_of_the_time_until_the_next_one_is_confirmed(
    kind: str, ids: str, after: str, tmp_path: Path
) -> None:
    async with SimulatedExchange(kind, symbols=2, rate=20.0, record=True) as simulated:
        live = Live(simulated, without_ids() if ids == "none" else kind, record=tmp_path / "run")
        async with live.stream as bars:
            await live.go_on(4)
            (supervisor,) = bars.adapter.connections.supervisors
            supervisor.pair.drop("the test drops it")
            await until(lambda: supervisor.connections == 2 and supervisor.is_whole)
            await live.go_on(5)
    counts = live.check()
    whole = {"contiguous": "COMPLETE"}.get(ids, "UNVERIFIABLE")
    assert counts[whole] >= 6
    if after == "GAP":
        assert 2 <= counts["GAP"] <= 8
    elif ids == "unique":  # its latest trades came again, and one of them had been there before
        assert counts["GAP"] == 0
    exchange = without_ids() if ids == "none" else None
    assert [csv_line(bar) for bar in fastbars.replay(tmp_path / "run", exchange)] == [
        csv_line(bar) for bar in live.issued
    ]


@pytest.mark.parametrize(("kind", "ids"), [("binance", "none"), ("bybit", "unique"), ("hyperliquid", "unique")])
async def test_a_symbol_unsubscribed_and_subscribed_again_is_partial_at_both_ends_and_has_no_bar_between(
    kind: str, ids: str
) -> None:
    async with SimulatedExchange(kind, symbols=2, rate=50.0, record=True) as simulated:
        live = Live(simulated, without_ids() if ids == "none" else kind)
        symbol = simulated.symbols[0]
        async with live.stream as bars:
            await live.go_on(3)
            await asyncio.sleep((1.5 - clocks.wall_ns() % SECOND / SECOND) % 1.0)  # in the middle of a bar
            await bars.unsubscribe([symbol])
            ended = max(time for name, time in live.latest() if name == symbol)
            await asyncio.sleep(4.0)
            await bars.subscribe([symbol])
            await asyncio.sleep(4.0)
    live.check()
    own = {time: str(bar.status) for (name, time), bar in live.latest().items() if name == symbol}
    after = [time for time in sorted(own) if time > ended]
    assert (own[ended], "GAP" in own.values()) == ("PARTIAL", False)
    if kind != "hyperliquid":  # it sends the trades of the time between, and so their bars
        assert (after[0] - ended).total_seconds() >= 3
    assert own[after[0]] == "PARTIAL"
    assert "UNVERIFIABLE" in [own[time] for time in after]


async def test_late_and_lost_acks_leave_no_bar_that_looks_whole_and_lacks_a_trade() -> None:
    faults = Faults(5)
    async with SimulatedExchange("bybit", symbols=3, rate=60.0, record=True, faults=faults) as simulated:
        live = Live(simulated, "bybit", ack_timeout=1.0)
        async with live.stream as bars:
            await live.go_on(3)
            (supervisor,) = bars.adapter.connections.supervisors
            for number, kind in enumerate(
                (FaultKind.LATE_ACK, FaultKind.NEVER_ACK, FaultKind.LOST_ACK, FaultKind.SLOW_ACK)
            ):
                faults.inject(Fault(kind, seconds=2.5))
                supervisor.pair.drop("the test drops it")
                await until(lambda: supervisor.connections >= 2 + number and supervisor.is_whole)  # noqa: B023
                await live.go_on(4)
    counts = live.check()
    assert counts["UNVERIFIABLE"] > 10
    assert counts["GAP"] > 10


async def test_after_70_seconds_of_standing_still_no_bar_looks_whole_that_lacks_a_trade() -> None:
    loop: Any = asyncio.get_running_loop()
    async with SimulatedExchange("bybit", symbols=2, rate=40.0, record=True) as simulated:
        live = Live(simulated, "bybit")
        async with live.stream as bars:
            await live.go_on(3)
            loop.turn(70.0)  # nobody does anything, neither here nor there
            (supervisor,) = bars.adapter.connections.supervisors
            supervisor.pair.drop("the exchange has given it up meanwhile")
            await until(lambda: supervisor.connections == 2 and supervisor.is_whole)
            await asyncio.sleep(6.0)
    counts = live.check()
    assert counts["GAP"] >= 2 * 70
    assert counts["UNVERIFIABLE"] >= 6
