"""A session gives the same with the scanner as without it: bars, ticks, counters, clock, whatever the messages."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from exchange_fixtures import FIXTURES
from fastbars import StreamConfig
from fastbars.bars import OHLCVBar
from fastbars.exchanges import find_exchange
from fastbars.exchanges.declaration import Exchange
from fastbars.live.callbacks import Callbacks
from fastbars.live.session import Session
from fastbars.tapes import read_tape
from servers import trade

SCANNED = [name for name, fixtures in FIXTURES.items() if fixtures.exchange.fields(fixtures.exchange.default_channel)]


class Observed:
    """Everything that comes out of a session, in order."""

    def __init__(self, exchange: Exchange, channel: str | None, *, scans: bool, ticks: bool) -> None:
        self.events: list[Any] = []
        callbacks = Callbacks(
            on_bar=self.events.append, on_exchange_bar=self.events.append, on_message=self.events.append
        )
        if ticks:
            callbacks.on_tick = callbacks.on_event = self.events.append
        self.session = Session(exchange, StreamConfig(), callbacks, channel=channel)
        if not scans:
            self.session.intake.scanner = None
        self.scanned = self.session.intake.scanner

    def receive(self, wakeups: Iterable[Sequence[bytes]]) -> Any:
        received = [self.session.receive(payloads, n, n * 10**9) for n, payloads in enumerate(wakeups)]
        bars: list[OHLCVBar] = [bar for one in received for bar in one.bars] + self.session.flush(0)
        rest = [(one.control, one.errors) for one in received]
        session = self.session
        state = (session.event_time_ns, asdict(session.stats), asdict(session.buffer_stats), session.symbols)
        return bars, rest, state, session.clock.now_ns(0), self.events


def compare(exchange: Exchange, channel: str | None, wakeups: Sequence[Sequence[bytes]], *, ticks: bool) -> Session:
    scanned = Observed(exchange, channel, scans=True, ticks=ticks)
    parsed = Observed(exchange, channel, scans=False, ticks=ticks)
    assert (scanned.scanned is not None, parsed.scanned) == (True, None)
    for one, other in zip(scanned.receive(wakeups), parsed.receive(wakeups), strict=True):
        assert one == other
    return scanned.session


@pytest.mark.parametrize("ticks", [False, True])
@pytest.mark.parametrize("name", SCANNED)
def test_the_documented_messages_of_an_exchange_come_to_the_same(name: str, ticks: bool) -> None:
    fixtures = FIXTURES[name]
    payloads = [payload.encode() for payload in (*fixtures.payloads(), "{", "")]
    draw = random.Random(1)
    for _ in range(5):
        draw.shuffle(payloads)
        compare(fixtures.exchange, fixtures.exchange.default_channel, [payloads], ticks=ticks)
        compare(fixtures.exchange, fixtures.exchange.default_channel, [[one] for one in payloads], ticks=ticks)


@pytest.mark.parametrize(
    ("tape", "exchange", "market", "channel"),
    [
        ("binance_ws/spot_btcusdt_20240808.raw.gz", "binance", "spot", "trade"),
        ("binance_ws/usdm_btcusdt_20240808.raw.gz", "binance", "usdm", "trade"),
        ("cryptofeed/BINANCE_*_kline.ws.gz", "binance", "spot", "aggTrade"),
        ("coinbase_advanced/*.jsonl.gz", "coinbase", None, None),
        ("cryptofeed/OKX_20220513_trades.ws.gz", "okx", None, None),
    ],
)
def test_recorded_markets_come_to_the_same(
    tapes: Path, tape: str, exchange: str, market: str | None, channel: str | None
) -> None:
    venue = find_exchange(exchange, market)
    for path in sorted(tapes.glob(tape)):
        payloads = [record.payload for record in itertools.islice(read_tape(path), 60_000)]
        wakeups = [payloads[start : start + 97] for start in range(0, len(payloads), 97)]
        session = compare(venue, channel or venue.default_channel, wakeups, ticks=False)
        assert session.stats.messages == len(payloads)


def test_the_scanner_takes_the_recorded_trades_of_binance(tapes: Path) -> None:
    session = Session(find_exchange("binance", "spot"), StreamConfig(), channel="trade")
    assert session.scanner is not None
    payloads = [record.payload for record in read_tape(tapes / "binance_ws/spot_btcusdt_20240808.raw.gz")]
    taken = [session.scanner.scan(payload) for payload in payloads]
    assert sum(taken) == sum(b'"e":"trade"' in payload for payload in payloads) > 9_000


def test_who_must_see_each_trade_gets_no_scanner_to_go_past_him() -> None:
    spot = find_exchange("binance", "spot")
    assert Session(spot, StreamConfig(), channel="trade").scanner is not None
    assert Session(spot, StreamConfig(), Callbacks(on_tick=print), channel="trade").scanner is None
    assert Session(spot, StreamConfig(), Callbacks(on_event=print), channel="trade").scanner is None
    assert Session(spot, StreamConfig(), channel="trade", parse_message=lambda _: None).scanner is None


def test_messages_taken_one_by_one_are_one_wakeup() -> None:
    whole = Observed(find_exchange("binance", "spot"), "trade", scans=True, ticks=False)
    session = Session(find_exchange("binance", "spot"), StreamConfig(), channel="trade")
    payloads = [trade(n, n * 20_000) for n in range(1, 9)]
    payloads[3] = b'{"e":"trade","cut'
    bars, *_ = whole.receive([payloads])
    for payload in payloads:
        if session.scanner is None or not session.scanner.scan(payload):
            session.take_message(payload, 0)
    received = session.receive([], 0, 0)
    assert received.bars + session.flush(0) == bars
    assert (received.errors, session.stats.messages, session.stats.trades) == (1, 8, 7)
    assert session.receive([], 0).errors == 0
