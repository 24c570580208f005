"""The embedded exchange: a real WebSocket server on loopback that speaks an exchange's dialect.

It trades a synthetic market in real time, or serves recorded tapes as fast as clients read. Tests, demos and benchmarks
connect to it as they would to the exchange.

Source: the documentation named by each dialect.
Units: times in ms since the Unix epoch, of the exchange's clock; `_s` times on the machine's steady clock.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from types import TracebackType

from websockets.asyncio.server import ServerConnection

from fastbars.clocks import steady_s
from fastbars.errors import UnknownExchangeError
from fastbars.log import log
from fastbars.simulator.clients import Clients
from fastbars.simulator.clock import ExchangeClock
from fastbars.simulator.dialects import find_dialect
from fastbars.simulator.faults import Fault, Faults
from fastbars.simulator.handshakes import Handshakes
from fastbars.simulator.listener import Listener
from fastbars.simulator.market import SimulatedMarket
from fastbars.simulator.past_candles import SimulatedCandles
from fastbars.simulator.publisher import Publisher
from fastbars.simulator.record import Record, SimulatorStats
from fastbars.simulator.rest import SimulatedHistory, SimulatedListing, State
from fastbars.simulator.tape_player import TapePlayer

__all__ = ["SimulatedExchange"]

_MOST_MS = 100  # of trades that are sent at once


class SimulatedExchange:
    """An exchange to connect to on this machine.

        async with SimulatedExchange(symbols=["BTCUSDT"], rate=100) as exchange:
            ...  # connect to exchange.url and subscribe to "btcusdt@trade"

    Args:
        exchange: the exchange to simulate, such as "bybit".
        market: as the library names the exchange's markets, such as "usdm"; the first one if None.
        symbols: how many, or their names.
        rate: mean trades per second over all symbols.
        seed: same seed, same prices, sizes, ids and intervals between trades.
        tapes: recorded messages (Binance only) to serve instead of a synthetic market; symbols and rate are then
            unused. From its first acknowledged subscription on, each connection is served the messages of its
            subscriptions from the beginning, byte for byte, and is closed with 1000 at the end.
        host: address to listen on.
        port: 0: any free one.
        clock_offset_s: how far the exchange's clock is ahead of this machine's.
        lifetime_s: age at which it closes a connection (1001), after a notice if the exchange sends one.
        silence_s: how long a silence it tolerates, instead of the exchange's own limit.
        halted, delisted: further symbols that are listed but do not trade.
        coming: further symbols, which are not listed yet; see `change_state`.
        voids_per_minute: void ids of the busiest symbol, sent although nothing was traded; None: as many as the
            exchange sends (14 on Binance's futures, none elsewhere).
        tick_s: how often what was traded is sent.
        record: keep everything traded and sent in `record`, and serve past trades and candles at `rest_url`; memory
            grows.
        past_s: how long the market has been open before this object is made; for past trades and candles.
        faults: those to apply; implies `record`.
        ssl: serve wss.

    Raises:
        UnknownExchangeError: no such exchange or market.
        ValueError: the symbols or the rate are not valid.
    """

    def __init__(
        self,
        exchange: str = "binance",
        *,
        market: str | None = None,
        symbols: int | Sequence[str] = 20,
        halted: Sequence[str] = (),
        delisted: Sequence[str] = (),
        coming: Sequence[str] = (),
        rate: float = 20_000.0,
        seed: int = 1,
        tapes: Sequence[str | Path] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        clock_offset_s: float = 0.0,
        lifetime_s: float | None = None,
        silence_s: float | None = None,
        voids_per_minute: float | None = None,
        tick_s: float = 0.005,
        record: bool = False,
        past_s: float = 0.0,
        faults: Faults | None = None,
        ssl: ssl.SSLContext | None = None,
    ) -> None:
        kind = find_dialect(exchange)
        if tapes and not kind.serves_tapes:
            raise UnknownExchangeError(f"simulator: no tapes are served in the dialect of {exchange}")
        self.market, instruments = kind.list_market(market, symbols)
        traded_symbols = [instrument.symbol for instrument in instruments]
        if coming:
            instruments = kind.list_market(market, [*traded_symbols, *coming])[1]
        self.stats = SimulatorStats()
        self.faults = faults
        self._tick_s = tick_s
        # The market.
        self._clock = ExchangeClock(clock_offset_s)
        self._record = Record(instruments, self._clock.now_ms) if record or faults is not None else None
        now_ms = self._clock.now_ms()
        start_ms = now_ms - int(past_s * 1000)
        voids = kind.voids_per_minute.get(self.market, 0.0) if voids_per_minute is None else voids_per_minute
        traded = self._traded = SimulatedMarket(instruments, rate, seed, start_ms, voids)
        for place in range(len(traded_symbols), len(instruments)):
            traded.silent.add(place)
            traded.books[place].next_trade_id = kind.first_ids.get(self.market, 1)
        self._dialect = kind(self.market, instruments, traded.books)
        self._publisher = Publisher(self._dialect, traded, start_ms, self._record)
        self._publisher.advance(now_ms)
        self._market_task: asyncio.Task[None] | None = None
        # REST, on the same port: instruments, and past trades and candles where trades are kept.
        states: dict[str, State] = {
            **dict.fromkeys(traded_symbols, "trading"),
            **dict.fromkeys(halted, "halted"),
            **dict.fromkeys(delisted, "delisted"),
        }
        self.listing = SimulatedListing(self._dialect.list_instruments, states)
        self.rest: SimulatedHistory | None = None
        self.candles: SimulatedCandles | None = None
        if self._record is not None:
            self.rest = SimulatedHistory(
                self._dialect.past_trades, self._record.history, self._record.aggregates, self._clock.now_ms
            )
            self.candles = SimulatedCandles(self._dialect.past_candles, self._record.seconds, self._clock.now_ms)
        # Clients.
        self._tapes = TapePlayer(tuple(tapes), self._dialect, self.stats)
        self._clients = Clients(
            self._dialect, self._publisher, self._tapes, self._clock, self.stats,
            record=self._record, faults=faults, lifetime_s=lifetime_s,
            silence=None if kind.silence is None else (kind.silence[0], silence_s or kind.silence[1]),
        )  # fmt: skip
        self._listener = Listener(host, port, ssl)

    async def start(self) -> None:
        """Open the port and the market.

        Raises:
            OSError: the port is taken.
            TapeError: a tape cannot be read to its end, or holds no message of a Binance stream.
            RuntimeError: it was started before.
        """
        if self._listener.has_started:
            raise RuntimeError("simulator: already started; make a new SimulatedExchange to start again")
        if self._tapes.has_tapes:
            await self._tapes.load()
        rest = [each for each in (self.listing, self.rest, self.candles) if each is not None]
        handshakes = Handshakes(self._dialect, rest, self._clock.now_ms, self.faults, self._record)
        await self._listener.start(self._clients.serve, handshakes, self._dialect.ping_interval_s)
        if not self._tapes.has_tapes:
            self._market_task = asyncio.create_task(self._run_market(), name="simulator market")

    async def stop(self) -> None:
        """Close every connection with 1001, then the port; no task is left. A second call does nothing."""
        self._tapes.finished.set()
        if self._market_task is not None:
            self._market_task.cancel()
            await asyncio.wait([self._market_task])
        await self._listener.stop()

    async def __aenter__(self) -> SimulatedExchange:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def port(self) -> int:
        """The port listened on; 0 before the start, where none was given."""
        return self._listener.port

    @property
    def url(self) -> str:
        """The URL that serves every channel, even if the real exchange spreads them over several paths."""
        return self._listener.url(self._dialect.paths[0])

    @property
    def combined_url(self) -> str:
        """The URL on which Binance's messages are wrapped in {"stream","data"}."""
        return self._listener.url(self._dialect.paths[1])

    @property
    def rest_url(self) -> str:
        """The URL that serves instruments and, with `record`, past trades."""
        return self._listener.rest_url

    @property
    def symbols(self) -> list[str]:
        """The symbols listed, as payloads write them; with tapes, those in them."""
        if self._tapes.has_tapes:
            return list(dict.fromkeys(name.partition("@")[0].upper() for name in self._tapes.streams))
        listed = self.listing.states
        return [each.symbol for each in self._dialect.instruments if each.symbol in listed]

    @property
    def record(self) -> Record:
        """Everything that it traded and sent. Raises RuntimeError if it was made without `record`."""
        if self._record is None:
            raise RuntimeError("simulator: nothing is recorded; make it with record=True")
        return self._record

    @property
    def connections(self) -> set[ServerConnection]:
        """The open connections."""
        return self._clients.connections

    def change_state(self, symbol: str, state: State | None, day_amount: int | None = None) -> None:
        """List, halt, resume or delist a symbol, one of `symbols` or `coming`; it trades while it is "trading".

        A symbol that was coming begins with the first id that the exchange gives.

        Args:
            state: None: it is not in the list of instruments any more.
            day_amount: what was traded of it in 24 hours, in quote units; None: as it was.
        """
        place = self._dialect.places[symbol]
        if state is None:
            self.listing.states.pop(symbol, None)
        else:
            self.listing.states[symbol] = state
        if state == "trading":
            self._traded.silent.discard(place)
        else:
            self._traded.silent.add(place)
        if day_amount is not None:
            self._dialect.day_amounts[symbol] = Decimal(day_amount)

    async def run_script(self, script: Sequence[tuple[float, Fault]]) -> None:
        """Inject faults at their times, in seconds from now (see `Faults.schedule`)."""
        assert self.faults is not None, "made without faults"
        started_s = steady_s()
        for at_s, fault in script:
            await asyncio.sleep(max(0.0, started_s + at_s - steady_s()))
            self.faults.inject(fault)

    async def disconnect_all(self, code: int = 1012, reason: str = "") -> None:
        """Close every connection with a close frame."""
        await asyncio.gather(*(connection.close(code, reason) for connection in self.connections))

    def abort_all(self) -> None:
        """Drop every connection without a close frame, as a failing network does."""
        for connection in self.connections:
            connection.transport.abort()

    async def wait_finished(self) -> None:
        """Wait until a tape has been played to its end and none is still being played, or until `stop`."""
        await self._tapes.finished.wait()

    async def _run_market(self) -> None:
        traded_ms = self._clock.now_ms()
        try:
            while True:
                now_ms, now_s = self._clock.now_ms(), steady_s()
                # Whoever was stopped with this process finds what was sent meanwhile, each message with its own time.
                for past_ms in range(traded_ms + _MOST_MS, now_ms, _MOST_MS):
                    self._publisher.advance(past_ms)
                self._publisher.advance(now_ms)
                traded_ms = now_ms
                self.stats.trades_generated = self._publisher.trades_generated
                self._clients.advance(now_ms, now_s)
                await asyncio.sleep(self._tick_s)
        except Exception:  # noqa: BLE001 - a task's top: it logs and stops loudly
            log.exception("simulated market failed, closing every connection", symbols=len(self.symbols))
            self._listener.close(1011)
