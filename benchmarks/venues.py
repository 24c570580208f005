"""Each venue's trade messages, as its simulator writes them, and the way that they take from a read to the bars."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby

from fastbars import Instruments, StreamConfig, TickBatch
from fastbars.exchanges import find_exchange
from fastbars.kernel.recent import RecentKeys
from fastbars.live.intake import Feed
from fastbars.live.session import Session
from fastbars.simulator.dialect import Dialect, Stream
from fastbars.simulator.dialects import find_dialect
from fastbars.simulator.market import SimulatedMarket, SimulatedTrade, merge_runs
from fastbars.wire.scanner import TradeScanner
from fastbars.wire.wakeup import Wakeup
from fastbars.wire.walker import FrameWalker

START_MS = 1_723_161_240_000
KEYS_A_SYMBOL = 4_096
SYMBOLS = 100
TRADES_A_SECOND = 5_000
_TICKS = ("PlusTick", "ZeroPlusTick", "MinusTick", "ZeroMinusTick")


@dataclass(frozen=True)
class Venue:
    """One channel of one exchange.

    Attributes:
        stream: a symbol's stream, as the simulator names it.
        wraps: each message stands in the envelope of combined streams.
    """

    exchange: str
    stream: str
    market: str | None = None
    channel: str | None = None
    wraps: bool = False


VENUES = {
    "binance trade": Venue("binance", "{lower}@trade", "spot", "trade"),
    "binance combined": Venue("binance", "{lower}@trade", "spot", "trade", wraps=True),
    "binance aggTrade": Venue("binance", "{lower}@aggTrade", "spot", "aggTrade"),
    "binance futures": Venue("binance", "{lower}@trade", "usdm", "trade"),
    "bybit": Venue("bybit", "publicTrade.{symbol}"),
    "okx": Venue("okx", "trades-all:{symbol}"),
    "coinbase": Venue("coinbase", "market_trades:{symbol}"),
    "kraken": Venue("kraken", "trade:{symbol}"),
    "hyperliquid": Venue("hyperliquid", "trades:{symbol}"),
}


@dataclass(frozen=True)
class Messages:
    """What a venue sends: payloads, and how many trades are in all of them."""

    payloads: list[bytes]
    trades: int

    def chunks(self, messages: int) -> list[bytes]:
        """Frames, so many a read."""
        frames = [frame(payload) for payload in self.payloads]
        return [b"".join(frames[start : start + messages]) for start in range(0, len(frames), messages)]


def frame(payload: bytes) -> bytes:
    """An unmasked text frame."""
    size = len(payload)
    if size < 126:
        return b"\x81" + size.to_bytes() + payload
    head = b"\x81\x7e" + size.to_bytes(2) if size < 65_536 else b"\x81\x7f" + size.to_bytes(8)
    return head + payload


@cache
def messages(name: str, trades: int) -> Messages:
    """At least so many trades of a simulated market in a venue's messages."""
    venue = VENUES[name]
    kind = find_dialect(venue.exchange)
    market, instruments = kind.list_market(venue.market, SYMBOLS)
    dialect = kind(market, instruments)
    simulated = SimulatedMarket(instruments, TRADES_A_SECOND, 1, START_MS)
    dialect.books = simulated.books
    payloads: list[bytes] = []
    made, now_ms = 0, START_MS
    while made < trades:
        now_ms += 100
        for _, run in groupby(simulated.advance(now_ms), key=lambda trade: trade.instrument):
            burst = list(run)
            made += len(burst)
            payloads += _written(venue, dialect, burst)
    if name == "bybit":  # every trade says how its price has moved: four words
        payloads = [
            payload.replace(b"PlusTick", _TICKS[number % 4].encode()) for number, payload in enumerate(payloads)
        ]
    return Messages(payloads, made if name != "binance aggTrade" else len(payloads))


def _written(venue: Venue, dialect: Dialect, burst: Sequence[SimulatedTrade]) -> list[bytes]:
    # The messages of one symbol's consecutive trades.
    symbol = dialect.instruments[burst[0].instrument].symbol
    stream = Stream(venue.stream.format(symbol=symbol, lower=symbol.lower()), burst[0].instrument, "trade")
    if venue.channel == "aggTrade":
        written = [dialect.aggregate_trade(stream, trade, trade.time_ms + 3) for trade in merge_runs(burst)]
    else:
        most = dialect.trades_per_message
        parts = [burst[start : start + most] for start in range(0, len(burst), most)]
        written = [dialect.trades(stream, part, part[-1].time_ms + 3) for part in parts]
    if venue.wraps:
        written = [b'{"stream":"%b","data":%b}' % (stream.name.encode(), payload) for payload in written]
    return written


def filled(recent: RecentKeys) -> RecentKeys:
    """As after an hour: with room for the keys of a minute, so that no page of memory is a new one."""
    for symbol in range(SYMBOLS):
        for number in range(KEYS_A_SYMBOL):
            recent.add(symbol, str(number), (START_MS - 3_600_000) * 1_000_000)
    return recent


class Scanning:
    """Walker and scanner alone, into a batch."""

    def __init__(self, name: str) -> None:
        venue = VENUES[name]
        exchange = find_exchange(venue.exchange, venue.market)
        channel = venue.channel or exchange.default_channel
        fields, ids = exchange.fields(channel), exchange.ids(channel)
        assert fields is not None
        self.instruments = Instruments("bench")
        self.batch = TickBatch(
            self.instruments, ids=ids in ("contiguous", "sequenced"), counts=True, sequences=ids == "sequenced"
        )
        self.scanner = TradeScanner(fields, self.batch, self.instruments.add, filled(RecentKeys()))
        self.left: list[bytes] = []
        self.walker = FrameWalker(self.left.append, lambda _: True, self.scanner)

    def settle(self, chunks: Sequence[bytes]) -> None:
        """Take these first: the symbols and their decimals are known then, as a kernel makes them known."""
        for chunk in chunks:
            self.walker.feed(chunk)
        for symbol in self.instruments.symbols:
            self.instruments.add(symbol, *self.batch.scales(symbol))
        self.batch.clear()

    def feed(self, chunks: Sequence[bytes]) -> None:
        """All chunks, each into the emptied batch."""
        walker, batch = self.walker, self.batch
        for chunk in chunks:
            walker.feed(chunk)
            batch.clear()


class Reading:
    """A session in memory: each chunk is one read of a socket, and goes all the way to the bars."""

    def __init__(self, name: str) -> None:
        venue = VENUES[name]
        exchange = find_exchange(venue.exchange, venue.market)
        config = StreamConfig(bars="1m", close_by="clock")
        self.session = Session(exchange, config, channel=venue.channel or exchange.default_channel)
        filled(self.session._admission._recent)
        self.feed = Feed(self.session.intake)
        self.feed.scanner = self.session.scanner
        self.feed.note_data(1)
        payloads: list[bytes] = []
        self.wakeup = Wakeup(
            payloads, print, self._end, lambda _: None, ending=self.feed.ending, scans=self.feed.scanner is not None
        )
        self.wakeup.walker = FrameWalker(self._take, lambda _: True, self.feed.scanner)
        self.wakeup.is_open = True
        self.in_python = 0  # messages that the scanner has left

    def _take(self, payload: bytes) -> None:
        self.in_python += 1
        self.session.take_message(payload, time.time_ns(), time.monotonic_ns())

    def _end(self, payloads: Sequence[bytes]) -> None:
        self.session.receive(payloads, time.time_ns(), time.monotonic_ns())

    def read(self, chunks: Sequence[bytes]) -> None:
        """One wakeup a chunk."""
        deque(map(self.wakeup.receive, chunks), maxlen=0)
