"""Runs in a peer's own environment: sets its job up, then works once for each line on stdin.

    PYTHON worker.py JOB FOLDER URL
    PYTHON worker.py "columns JOB" FOLDER URL

Prints one JSON line when ready, and one a round: CPU nanoseconds a trade, and how many bars came of it. A job of
columns also takes the lines "load" (read columns.npz of the folder anew) and "write" (the bars of the last round go to
JOB.npz there). It must not import fastbars, but for the jobs that measure it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # ancestor.py, plain_c.py

MINUTE_NS = 60_000_000_000
SUBSCRIBE = '{"method":"SUBSCRIBE","params":["s0@trade"],"id":1}'
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# What a round does: () -> (CPU seconds, trades, bars). Set-up that a round needs for itself is outside the time.
Round = Callable[[], tuple[float, int, int]]
Line = tuple[str, int, str, str, str, int]


def timed(make: Callable[[], Any], work: Callable[[Any], int], trades: int) -> Round:
    """`work(make())`, the making untimed."""

    def run() -> tuple[float, int, int]:
        made = make()
        start = time.process_time()
        bars = work(made)
        return time.process_time() - start, trades, bars

    return run


def lines(folder: Path) -> list[Line]:
    """Trades as an exchange's message gives them: symbol, time_ns, price, size, side, id."""
    rows = (line.split("\t") for line in (folder / "trades.tsv").read_text().splitlines())
    return [(symbol, int(ns), price, size, side, int(number)) for symbol, ns, price, size, side, number in rows]


# One trade at a time; "_made" with the making of the trade's object from texts.


def fastbars_objects(folder: Path, _: str) -> Round:
    from fastbars import BarBuffer, TickData

    ticks = [TickData(*line) for line in lines(folder)]

    def work(buffer: BarBuffer) -> int:
        add = buffer.add_tick
        return sum(len(add(tick)) for tick in ticks)

    return timed(lambda: BarBuffer("1m", ids="contiguous"), work, len(ticks))


def fastbars_texts(folder: Path, _: str) -> Round:
    from fastbars import BarBuffer

    given = lines(folder)

    def work(buffer: BarBuffer) -> int:
        add, bars = buffer.add, 0
        for symbol, ns, price, size, side, number in given:
            bars += len(add(symbol, ns, price, size, side=side, trade_id=number))
        return bars

    return timed(lambda: BarBuffer("1m", ids="contiguous"), work, len(given))


def fastbars_objects_made(folder: Path, _: str) -> Round:
    from fastbars import BarBuffer, TickData

    given = lines(folder)

    def work(buffer: BarBuffer) -> int:
        add = buffer.add_tick
        return sum(len(add(TickData(*line))) for line in given)

    return timed(lambda: BarBuffer("1m", ids="contiguous"), work, len(given))


def ancestor_objects(folder: Path, _: str, made: bool = False) -> Round:
    from ancestor import Buffer, Side, Tick

    def build(line: Line) -> Tick:
        symbol, ns, price, size, side, _ = line
        return Tick(symbol, EPOCH + timedelta(microseconds=ns // 1000), Decimal(price), Decimal(size), Side(side))

    given = lines(folder)
    ticks = [] if made else [build(line) for line in given]

    def work(buffer: Buffer) -> int:
        if made:
            return sum(buffer.add_tick(build(line)) is not None for line in given)
        return sum(buffer.add_tick(tick) is not None for tick in ticks)

    return timed(Buffer, work, len(given))


def ancestor_objects_made(folder: Path, url: str) -> Round:
    return ancestor_objects(folder, url, made=True)


def tickbar_objects(folder: Path, _: str) -> Round:
    from tickbar.tickbar import Tick, TickAggregator

    given = lines(folder)
    symbols = sorted({line[0] for line in given})
    # It takes prices and sizes as integers of the caller's scale.
    ticks = [(line[0], Tick(line[1], int(Decimal(line[2]) * 100), int(Decimal(line[3]) * 100_000))) for line in given]

    firsts = {symbol: next(tick for name, tick in ticks if name == symbol) for symbol in symbols}
    later = [pair for pair in ticks if pair[1] is not firsts[pair[0]]]

    def set_up() -> dict[str, Any]:
        made = {symbol: TickAggregator(60) for symbol in symbols}
        for symbol, tick in firsts.items():
            made[symbol].push_tick(tick)  # as above
        return made

    def work(aggregators: dict[str, Any]) -> int:
        for symbol, tick in later:
            aggregators[symbol].push_tick(tick)
        return sum(len(each.finalize()) - 1 for each in aggregators.values())

    return timed(set_up, work, len(later))


def nautilus_objects(folder: Path, _: str, made: bool = False) -> Round:
    from nautilus_trader.common.component import TestClock
    from nautilus_trader.data.aggregation import TimeBarAggregator
    from nautilus_trader.model.data import BarType, TradeTick
    from nautilus_trader.model.enums import AggressorSide
    from nautilus_trader.model.identifiers import InstrumentId, Symbol, TradeId, Venue
    from nautilus_trader.model.instruments import CurrencyPair
    from nautilus_trader.model.objects import Currency, Price, Quantity

    given = lines(folder)
    names = sorted({line[0] for line in given})
    ids = {name: InstrumentId(Symbol(name), Venue("BENCH")) for name in names}
    start_ns = min(line[1] for line in given)
    sides = {"buy": AggressorSide.BUYER, "sell": AggressorSide.SELLER}

    def build(line: Line) -> Any:
        symbol, ns, price, size, side, number = line
        return TradeTick(
            ids[symbol], Price.from_str(price), Quantity.from_str(size), sides[side], TradeId(str(number)), ns, ns
        )

    ticks: list[Any] = [] if made else [build(line) for line in given]
    prepared: list[Any] = list(given) if made else ticks

    def set_up() -> tuple[Any, dict[Any, Any], list[Any]]:
        clock = TestClock()
        bars: list[Any] = []
        clock.set_time(start_ns)
        aggregators = {}
        for name in names:
            instrument = CurrencyPair(
                instrument_id=ids[name], raw_symbol=Symbol(name), base_currency=Currency.from_str("BTC"),
                quote_currency=Currency.from_str("USDT"), price_precision=2, size_precision=5,
                price_increment=Price.from_str("0.01"), size_increment=Quantity.from_str("0.00001"),
                ts_event=0, ts_init=0,
            )  # fmt: skip
            bar_type = BarType.from_str(f"{name}.BENCH-1-MINUTE-LAST-INTERNAL")
            aggregators[ids[name]] = TimeBarAggregator(
                instrument, bar_type, bars.append, clock, interval_type="right-open", build_with_no_updates=False
            )
        return clock, aggregators, bars

    def work(made_up: tuple[Any, dict[Any, Any], list[Any]]) -> int:
        clock, aggregators, bars = made_up
        next_ns = start_ns // MINUTE_NS * MINUTE_NS + MINUTE_NS
        for each in prepared:
            tick = build(each) if made else each
            # The engine moves its clock with the data; its timers build the bars.
            if tick.ts_init >= next_ns:
                for event in clock.advance_time(tick.ts_init):
                    event.handle()
                next_ns += MINUTE_NS
            aggregators[tick.instrument_id].handle_trade_tick(tick)
        return len(bars)

    return timed(set_up, work, len(given))


def nautilus_objects_made(folder: Path, url: str) -> Round:
    return nautilus_objects(folder, url, made=True)


# From the socket: `wss`-less loopback, frames as fast as they come.


def messages(folder: Path) -> int:
    return (folder / "messages.jsonl").read_bytes().count(b"\n")


class DecimalBars:
    """Exact bars the plain way: a dict of open bars in Decimal."""

    def __init__(self) -> None:
        self.open: dict[str, list[Any]] = {}
        self.closed: list[list[Any]] = []

    def add(self, trade: dict[str, Any]) -> None:
        price, size, minute = Decimal(trade["p"]), Decimal(trade["q"]), trade["T"] // 60_000
        quote = price * size
        bar = self.open.get(trade["s"])
        if bar is None or bar[0] != minute:
            if bar is not None:
                self.closed.append(bar)
            self.open[trade["s"]] = [minute, price, price, price, price, size, quote, 1]
            return
        if price > bar[2]:  # noqa: PLR1730 faster than max
            bar[2] = price
        if price < bar[3]:  # noqa: PLR1730
            bar[3] = price
        bar[4] = price
        bar[5] += size
        bar[6] += quote
        bar[7] += 1


def fastbars_socket(folder: Path, url: str) -> Round:
    import fastbars

    symbols = sorted({json.loads(line)["s"] for line in (folder / "messages.jsonl").read_bytes().splitlines()})

    async def stream() -> int:
        config = fastbars.StreamConfig(close_by="trades")
        bars = 0
        async with fastbars.stream("binance", symbols, "1m", url=url, once=True, config=config) as finished:
            async for bar in finished:
                bars += bar.close_reason == "trade"
        return bars

    return timed(lambda: None, lambda _: fastbars.run(stream()), messages(folder))


def c_socket(folder: Path, url: str) -> Round:
    """benchmarks/wire_floor.c, a process a round, which says what it took."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from benchmarks.test_wire import floor

    command = [str(floor()), url.rsplit(":", 1)[1].split("/", maxsplit=1)[0], "layout"]
    trades = messages(folder)

    def run() -> tuple[float, int, int]:
        said = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        assert said["messages"] == trades
        return said["cpu_ns"] / 1e9, trades, said["bars"]

    return run


def websockets_socket(folder: Path, url: str) -> Round:
    import orjson
    import uvloop
    from websockets.asyncio.client import connect

    async def receive() -> int:
        bars = DecimalBars()
        async with connect(url, max_queue=None, compression=None) as connection:
            await connection.send(SUBSCRIBE)
            async for message in connection:
                trade = orjson.loads(message)
                if "e" in trade:
                    bars.add(trade)
        return len(bars.closed)

    return timed(lambda: None, lambda _: uvloop.run(receive()), messages(folder))


def picows_socket(folder: Path, url: str, make_bars: bool = True) -> Round:
    import uvloop
    from picows import WSListener, WSMsgType, ws_connect

    loads: Callable[[Any], dict[str, Any]] = json.loads
    if make_bars:
        import orjson

        loads = orjson.loads

    class Listener(WSListener):
        def __init__(self) -> None:
            self.bars, self.count = DecimalBars(), 0

        def on_ws_connected(self, transport: Any) -> None:
            transport.send(WSMsgType.TEXT, SUBSCRIBE.encode())

        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if frame.msg_type == WSMsgType.TEXT:
                self.count += 1
                if make_bars and (trade := loads(frame.get_payload_as_memoryview())).get("e"):
                    self.bars.add(trade)
            elif frame.msg_type == WSMsgType.CLOSE:
                transport.disconnect()

    async def receive() -> int:
        listener: Any
        transport, listener = await ws_connect(Listener, url)
        await transport.wait_disconnected()
        return len(listener.bars.closed) if make_bars else listener.count

    return timed(lambda: None, lambda _: uvloop.run(receive()), messages(folder))


def picows_socket_counting(folder: Path, url: str) -> Round:
    return picows_socket(folder, url, make_bars=False)


def aiohttp_socket(folder: Path, url: str) -> Round:
    import aiohttp
    import orjson
    import uvloop

    async def receive() -> int:
        bars = DecimalBars()
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as connection:
            await connection.send_str(SUBSCRIBE)
            async for message in connection:
                trade = orjson.loads(message.data)
                if "e" in trade:
                    bars.add(trade)
        return len(bars.closed)

    return timed(lambda: None, lambda _: uvloop.run(receive()), messages(folder))


def kind_round(job: str, folder: Path) -> Round:
    """One of kind_jobs.JOBS."""
    import numpy as np
    from kind_jobs import JOBS

    os.environ["NUMBA_NUM_THREADS"] = "1"
    with np.load(folder / "kinds.npz") as loaded:
        columns = {name: loaded[name] for name in loaded.files}
    make, work = JOBS[job](columns)
    return timed(make, work, len(columns["price"]))


class ColumnWorker:
    """One of column_jobs.JOBS, with the columns of the moment."""

    def __init__(self, job: str, folder: Path) -> None:
        self.job, self.folder = job, folder
        self.parts: tuple[Any, ...] = ()
        self.fields: Any = None
        self.result: Any = None

    def load(self) -> float:
        """Sets the job up with the columns, and works once, unmeasured."""
        import numpy as np
        from column_jobs import JOBS

        self.parts, self.fields, self.result = (), None, None  # both columns would be much memory
        with np.load(self.folder / "columns.npz") as loaded:
            columns = {name: loaded[name] for name in loaded.files}
        self.trades = len(columns["time_ns"])
        work, self.fields, *rest = JOBS[self.job](columns)
        self.parts = (work, rest[0] if rest else None)
        self.round()
        return 0.0

    def round(self) -> float:
        """CPU nanoseconds a trade; the result of the round before is let go outside the time."""
        work, set_up = self.parts
        self.result = None
        given = (set_up(),) if set_up else ()
        start = time.process_time()
        self.result = work(*given)
        return (time.process_time() - start) / self.trades * 1e9

    def write(self) -> float:
        """The bars of the last round, in the order of symbols and times."""
        import numpy as np

        fields = self.fields(self.result)
        order = np.lexsort((fields["open_time"], fields["symbol_id"]))
        np.savez(self.folder / f"{self.job}.npz", allow_pickle=False, **{k: v[order] for k, v in fields.items()})
        return 0.0


def serve_columns(job: str, folder: Path) -> None:
    """Answer each line with what it asks for."""
    worker = ColumnWorker(job, folder)
    worker.load()
    print(json.dumps({"ready": job}), flush=True)
    for line in sys.stdin:
        taken = {"load": worker.load, "write": worker.write, "": worker.round}[line.strip()]()
        print(json.dumps({"ns": taken, "bars": 0}), flush=True)


def main(job: str, folder: str, url: str) -> None:
    """Answer each line of stdin with a round."""
    os.environ["POLARS_MAX_THREADS"] = "1"
    kind, _, name = job.rpartition(" ")
    if kind == "columns":
        serve_columns(name, Path(folder))
        return
    round_of: Round = kind_round(name, Path(folder)) if kind == "kinds" else globals()[job](Path(folder), url)
    round_of()  # warm
    print(json.dumps({"ready": job}), flush=True)
    for _ in sys.stdin:
        seconds, trades, bars = round_of()
        print(json.dumps({"ns": seconds / trades * 1e9, "bars": bars}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
