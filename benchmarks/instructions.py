"""Counts the instructions of the hot parts under valgrind's callgrind.

    python -m benchmarks.instructions            # prints them

One process sets every part up, and then does the work of each; callgrind writes what it has counted before and after
each work. What counts is executed in the compiled modules themselves: the interpreter and the C library do a little
more or less with every environment variable. So it depends not on the machine, but on the compiler and Python, which
`compiler()` names. Where a part is partly in Python, it is a guard of the compiled rest alone.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastbars import BarBuffer, Instruments
    from fastbars._agg import BarKernel
    from fastbars.kernel.rows import IssuedRows
    from fastbars.wire.scanner import TradeScanner
    from fastbars.wire.walker import FrameWalker

TRADES = 10_000
SYMBOLS = 50


def kernel(per_bar: float = TRADES / SYMBOLS / 5, specs: str = "1m") -> Callable[[], object]:
    """Columns of trades into a new kernel."""
    from benchmarks import market

    batch = market.batch(market.drawn(TRADES, SYMBOLS, per_bar), SYMBOLS)
    made = new_kernel(batch.instruments, specs)
    return lambda: made.update(batch)


def new_kernel(instruments: Instruments, specs: str = "1m") -> BarKernel:
    """One that follows ids."""
    from fastbars._agg import BarKernel
    from fastbars.bars import parse_specs
    from fastbars.kernel.ids import Ledger

    return BarKernel(instruments, parse_specs(specs), Ledger())


def holes() -> Callable[[], object]:
    """Columns of trades of one symbol, a tenth of them missing, into a kernel that knows of thousands of holes."""
    import numpy as np

    from benchmarks import market
    from fastbars import TickBatch

    trades = market.drawn(6 * TRADES, 1, 100)
    kept = np.arange(6 * TRADES) % 10 != 5
    parts = [
        {name: column[kept][part] for name, column in trades.items()} for part in (slice(44_000), slice(44_000, 54_000))
    ]
    first = market.batch(parts[0], 1)
    batches = [first, TickBatch.from_columns(first.instruments, **parts[1])]
    made = new_kernel(batches[0].instruments)
    made.update(batches[0])
    return lambda: made.update(batches[1])


def older() -> Callable[[], object]:
    """Columns of trades of which a tenth is 2 s late, and each came twice; the duplicates follow ten rows later."""
    import numpy as np

    from benchmarks import market

    trades = market.drawn(TRADES // 2, SYMBOLS, 100)
    trades["time_ns"] = trades["time_ns"] - (np.arange(TRADES // 2) % 10 == 5) * 2_000_000_000
    again = np.argsort(np.r_[np.arange(TRADES // 2), np.arange(TRADES // 2) + 10], kind="stable") % (TRADES // 2)
    batch = market.batch({name: column[again] for name, column in trades.items()}, SYMBOLS)
    made = new_kernel(batch.instruments)
    return lambda: made.update(batch)


def first_trades() -> Callable[[], object]:
    """The first trade of each of TRADES symbols, where ten thousand are known."""
    from fastbars import BarBuffer

    buffer, start_ns = BarBuffer("1m", ids="contiguous"), rows(1)[0][1]
    for number in range(TRADES):
        buffer.add(f"A{number:05}", start_ns, "100.12", "0.0123", "buy", 5)
    given = [(f"B{number:05}", start_ns, "100.12", "0.0123", "buy", 5) for number in range(TRADES)]
    return lambda: [buffer.add(*row) for row in given]


def add_tick() -> Callable[[], object]:
    """Trades as objects into a buffer."""
    from benchmarks import market
    from fastbars import BarBuffer

    ticks = market.ticks(market.columns(TRADES, SYMBOLS))
    buffer = BarBuffer("1m", ids="contiguous")
    return lambda: [buffer.add_tick(tick) for tick in ticks]


def add_text() -> Callable[[], object]:
    """Trades as texts into a buffer."""
    from fastbars import BarBuffer

    given, buffer = rows(), BarBuffer("1m", ids="contiguous")
    return lambda: [buffer.add(*row) for row in given]


def add_decimal() -> Callable[[], object]:
    """Trades as Decimals into a buffer."""
    from fastbars import BarBuffer

    buffer = BarBuffer("1m", ids="contiguous")
    given = [
        (symbol, time_ns, Decimal(price), Decimal(size), side, i) for symbol, time_ns, price, size, side, i in rows()
    ]
    return lambda: [buffer.add(*row) for row in given]


def make_ticks() -> Callable[[], object]:
    """`TickData` from texts."""
    from fastbars import TickData

    given = rows()
    return lambda: [TickData(*row) for row in given]


def rows(trades: int = TRADES) -> list[tuple[str, int, str, str, str, int]]:
    """Trades as texts: symbol, time_ns, price, size, side, id."""
    from benchmarks import market

    ticks = market.ticks(market.columns(trades, SYMBOLS))
    return [
        (each.symbol, each.time_ns, str(each.price), str(each.volume), each.side, each.trade_id or 0) for each in ticks
    ]


def bars() -> tuple[BarBuffer, IssuedRows]:
    """TRADES finished bars, and a buffer that knows their symbol."""
    from benchmarks import market
    from fastbars import BarBuffer

    batch = market.batch(market.columns(TRADES + 1, 1, minutes=TRADES + 1), 1)
    made, _ = new_kernel(batch.instruments).update(batch)
    assert len(made) == TRADES
    return BarBuffer("1m", ids="contiguous", instruments=batch.instruments), made


def bar_objects() -> Callable[[], object]:
    """Finished bars to `OHLCVBar`."""
    buffer, made = bars()
    return lambda: buffer.bars_of(made)


def bar_columns() -> Callable[[], object]:
    """Finished bars to columns of numpy."""
    from fastbars import BarBatch
    from fastbars.specs import parse_specs

    buffer, made = bars()
    return BarBatch(made.array(), buffer.instruments, parse_specs("1m"), ids=True).to_numpy


def columns_of_texts_and_floats() -> Callable[[], object]:
    """`aggregate` with symbols as texts, prices as floats."""
    import numpy as np

    from benchmarks import market
    from fastbars import aggregate

    trades = market.columns(TRADES, SYMBOLS)
    names = np.array([f"S{symbol}USDT" for symbol in range(SYMBOLS)])[trades["symbol_id"]]
    price = trades["price"] / 10**market.PRICE_SCALE
    return lambda: aggregate(trades["time_ns"], price, trades["size"], symbol=names, price_scale=market.PRICE_SCALE)


def csv_lines() -> Callable[[], object]:
    """Finished bars to lines of CSV."""
    from fastbars.cli.output import BarText

    buffer, made = bars()
    text = BarText("csv")
    return lambda: text.lines(buffer, made)


def on_bar() -> Callable[[], object]:
    """Trades as texts, each of which closes a bar, to a callback."""
    from fastbars import BarBuffer

    buffer = BarBuffer("1m", ids="contiguous", on_bar=id)
    given = [("A", minute * 60 * 10**9, f"6{minute}.5", "0.25", "buy", minute) for minute in range(TRADES + 1)]
    return lambda: [buffer.add(*row) for row in given]


def current() -> Callable[[], object]:
    """The bar in progress."""
    from fastbars import BarBuffer

    buffer = BarBuffer("1m", ids="contiguous")
    for place in range(5):
        buffer.add("A", place, f"60{place}.5", "0.25", "buy", place)
    return lambda: [buffer.current("A", "1m") for _ in range(TRADES)]


def record() -> Callable[[], object]:
    """Messages into a recording, one a wakeup."""
    from benchmarks import market
    from fastbars.tapes.recorder import Recording

    payloads = market.messages(market.columns(TRADES, SYMBOLS))
    folder = tempfile.TemporaryDirectory()
    recording = Recording(folder.name)
    recorder = recording.session({})

    def work() -> None:
        for number, payload in enumerate(payloads):
            recorder.messages([payload], number, number, 0)
        recording.close()
        folder.cleanup()

    return work


def on_tick() -> Callable[[], object]:
    """Messages of Binance's, 100 a wakeup, each trade handed to a callback."""
    from benchmarks import market
    from fastbars import StreamConfig
    from fastbars.exchanges import find_exchange
    from fastbars.live.callbacks import Callbacks
    from fastbars.live.session import Session

    payloads = market.messages(market.columns(TRADES, SYMBOLS))
    session = Session(find_exchange("binance"), StreamConfig(bars="1m", close_by="trades"), Callbacks(on_tick=id))
    wakeups = [payloads[start : start + 100] for start in range(0, TRADES, 100)]
    return lambda: [session.receive(each, 0) for each in wakeups]


def wakeups(exchange: str, message: str) -> Callable[[], object]:
    """Messages one a wakeup, from the bytes of the socket to the kernel."""
    from fastbars import StreamConfig
    from fastbars.exchanges import find_exchange
    from fastbars.live.session import Session
    from fastbars.wire.wakeup import Wakeup
    from fastbars.wire.walker import FrameWalker

    declared = find_exchange(exchange)
    session = Session(declared, StreamConfig(bars="1m", close_by="trades"), channel=declared.default_channel)
    feed = session.open_feed(0)
    payloads: list[bytes] = []

    def receive(given: list[bytes]) -> None:
        feed.note_data(session.receive(given, 0, 0).data_messages)

    wakeup = Wakeup(payloads, print, receive, print, ending=feed.ending, scans=True)
    wakeup.walker = FrameWalker(payloads.append, bool, feed.scanner)
    wakeup.is_open = True
    frames = [
        frame(
            (message % {"symbol": symbol, "ms": ns // 1_000_000, "price": price, "size": size, "id": number}).encode()
        )
        for symbol, ns, price, size, _, number in rows(TRADES + 1_000)
    ]
    for each in frames[:1_000]:  # symbols, layouts, and what is made once
        wakeup.receive(each)

    def work() -> None:
        for each in frames[1_000:]:
            wakeup.receive(each)

    return work


BYBIT = """{"topic":"publicTrade.%(symbol)s","type":"snapshot","ts":%(ms)d,"data":[{"T":%(ms)d,"s":"%(symbol)s",\
"S":"Buy","v":"%(size)s","p":"%(price)s","L":"PlusTick","i":"20f43950-d8dd-5b31-9112-%(id)012d","BT":false}]}"""
HYPERLIQUID = """{"channel":"trades","data":[{"coin":"%(symbol)s","side":"B","px":"%(price)s","sz":"%(size)s",\
"hash":"0x3e2bc327cc925903cebe0408315a98010c002fda921d23fd1468bbb5d573%(id)012d","time":%(ms)d,"tid":%(id)d,\
"users":["0x72e2d6c0e1b7a4f3f5ab0b1d5b0d37cd3d22a1f4","0x8b4c2a1f9e7d6c5b4a3f2e1d0c9b8a7f6e5d4c3b"]}]}"""


def scanner() -> Callable[[], object]:
    """Messages of Binance's into a batch."""
    from benchmarks import market

    scan, payloads = made_scanner().scan, market.messages(market.columns(TRADES, SYMBOLS))
    return lambda: [scan(payload) for payload in payloads]


def walker() -> Callable[[], object]:
    """Frames, each handed out as a message."""
    from fastbars.wire.walker import FrameWalker

    handing_out, chunks = FrameWalker(len, bool), framed()
    return lambda: feed(handing_out, chunks)


def walker_and_scanner() -> Callable[[], object]:
    """Frames whose messages are scanned where they lie."""
    from fastbars.wire.walker import FrameWalker

    taking, chunks = FrameWalker(len, bool, made_scanner()), framed()
    return lambda: feed(taking, chunks)


def two_lines() -> Callable[[], object]:
    """Trades that one line brings first and another again, a hundred a wakeup."""
    from benchmarks import market
    from fastbars import TickBatch
    from fastbars.kernel.arbiter import Arbiter

    columns = market.columns(TRADES, SYMBOLS)
    whole = market.batch(columns, SYMBOLS)
    batches = [
        TickBatch.from_columns(whole.instruments, **{name: column[at : at + 100] for name, column in columns.items()})
        for at in range(0, TRADES, 100)
    ]
    arbiter = Arbiter(TickBatch(whole.instruments), 2, 10**9)
    return lambda: [arbiter.take(batch, line, 0) for batch in batches for line in range(2)]


def scanner_of(name: str) -> Callable[[], object]:
    """A venue's messages, several trades each, into a batch: a hundred a read."""
    from benchmarks.venues import Scanning, messages

    scanning, chunks = Scanning(name), messages(name, 2 * TRADES).chunks(100)
    half = len(chunks) // 2
    scanning.settle(chunks[:half])
    return lambda: scanning.feed(chunks[half:])


def wakeup_of_one() -> Callable[[], object]:
    """Reads of one message of Binance's, all the way to the bars."""
    from benchmarks.venues import Reading, messages

    reading, chunks = Reading("binance trade"), messages("binance trade", 2 * TRADES).chunks(1)
    reading.read(chunks[:TRADES])
    return lambda: reading.read(chunks[TRADES : 2 * TRADES])


def archive_text() -> Callable[[], object]:
    """Rows of Binance's archive to columns."""
    from benchmarks import market
    from fastbars.archives.formats import BINANCE_TRADES
    from fastbars.archives.parser import CsvParser

    trades = market.columns(TRADES, 1)
    text = "".join(
        f"{4_359_000_000 + row},{price // 100}.{price % 100:02d}000000,{size // 10**5}.{size % 10**5:05d}000,"
        f"0.00000000,{time_ns // 1000},{bool(row & 1)},True\n"
        for row, (price, size, time_ns) in enumerate(
            zip(*(trades[name].tolist() for name in ("price", "size", "time_ns")), strict=True)
        )
    ).encode()
    parser = CsvParser(
        [*BINANCE_TRADES.columns, 0], unit_ns=1000, span_ns=(0, 1 << 62), sides=BINANCE_TRADES.sides, symbol="A"
    )
    return lambda: parser.feed(text)


def made_scanner() -> TradeScanner:
    """A scanner of Binance's trades with a batch to fill."""
    from fastbars import Instruments, TickBatch
    from fastbars.exchanges import find_exchange
    from fastbars.wire.scanner import TradeScanner

    exchange = find_exchange("binance")
    fields = exchange.fields(exchange.default_channel)
    assert fields is not None
    instruments = Instruments("bench")
    return TradeScanner(fields, TickBatch(instruments, ids=True, counts=True), instruments.add)


def framed() -> list[bytes]:
    """Unmasked text frames, 64 KiB a chunk."""
    from benchmarks import market

    messages = market.messages(market.columns(TRADES, SYMBOLS))
    data = b"".join(map(frame, messages))
    return [data[start : start + 65_536] for start in range(0, len(data), 65_536)]


def frame(payload: bytes) -> bytes:
    """An unmasked text frame."""
    size = len(payload).to_bytes() if len(payload) < 126 else b"\x7e" + len(payload).to_bytes(2)
    return b"\x81" + size + payload


def feed(walker: FrameWalker, chunks: list[bytes]) -> None:
    """All chunks."""
    for chunk in chunks:
        walker.feed(chunk)


PARTS: dict[str, Callable[[], Callable[[], object]]] = {
    "add": add_text,
    "add, Decimals": add_decimal,
    "add_tick": add_tick,
    "TickData from text": make_ticks,
    "on_tick, 100 a wakeup": on_tick,
    "kernel": kernel,
    "kernel, 7 trades a bar": lambda: kernel(7),
    "kernel, 1 trade a bar": lambda: kernel(1),
    "kernel, six specs": lambda: kernel(7, "1m,5m,15m,1h,4h,1d"),
    "kernel, a tenth missing": holes,
    "kernel, late trades and duplicates": older,
    "a symbol's first trade": first_trades,
    "scanner": scanner,
    "scanner, Bybit": lambda: scanner_of("bybit"),
    "scanner, Hyperliquid": lambda: scanner_of("hyperliquid"),
    "two lines": two_lines,
    "walker": walker,
    "walker and scanner": walker_and_scanner,
    "wakeup of one message, Binance": wakeup_of_one,
    "wakeup of one message, Bybit": lambda: wakeups("bybit", BYBIT),
    "wakeup of one message, Hyperliquid": lambda: wakeups("hyperliquid", HYPERLIQUID),
    "record a message": record,
    "columns of texts and floats": columns_of_texts_and_floats,
    "archive CSV to columns": archive_text,
    "a bar to OHLCVBar": bar_objects,
    "a bar to numpy": bar_columns,
    "a bar to CSV": csv_lines,
    "a bar to on_bar": on_bar,
    "current": current,
}


def available() -> bool:
    """Whether valgrind is here."""
    return shutil.which("valgrind") is not None


def compiler() -> str:
    """What the counts depend on: compiler, machine, Python."""
    first = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    version = re.search(r"\d+\.\d+(?:\.\d+)?", first)
    kind = "clang" if "clang" in first else "gcc"
    python = ".".join(platform.python_version_tuple()[:2])
    return f"{kind} {version[0] if version else '?'}, {platform.machine()}, CPython {python}"


def count() -> dict[str, float]:
    """Instructions a trade, or bar, of each hot part."""
    # callgrind writes its counts down, and begins anew, whenever this function of the C library is entered.
    script = (
        "import os; from benchmarks.instructions import PARTS; works = [make() for make in PARTS.values()]\n"
        "for work in works: os.getpgid(0); work(); os.getpgid(0)"
    )
    # Hashes, and so the shapes of dicts, must not differ between processes.
    environment = os.environ | {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind.out"
        options = ["--tool=callgrind", f"--callgrind-out-file={out}", "--compress-strings=no", "--compress-pos=no"]
        options += ["--dump-before=getpgid", "--dump-before=__getpgid"]
        command = ["valgrind", *options, sys.executable, "-c", script]
        done = subprocess.run(
            command, cwd=Path(__file__).parents[1], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"callgrind ended with {done.returncode}:\n{done.stderr[-2000:]}")
        # Those with odd numbers are of what lies between two works.
        costs = [own_cost(Path(f"{out}.{2 * place}").read_text().splitlines()) for place in range(1, len(PARTS) + 1)]
    return {part: cost / TRADES for part, cost in zip(PARTS, costs, strict=True)}


def own_cost(lines: Iterable[str]) -> int:
    """Instructions in the compiled modules of fastbars, what they call excluded.

    Source: https://valgrind.org/docs/manual/cl-format.html
    """
    cost, ours, called = 0, False, False
    for line in lines:
        if line.startswith("ob="):
            ours = "/fastbars/" in line and line.endswith(".so")
        elif line.startswith("calls="):
            called = True  # the next line is the cost of what is called
        elif line[:1].isdigit():
            if ours and not called:
                cost += int(line.split()[1])
            called = False
    return cost


if __name__ == "__main__":
    for name, instructions in count().items():
        print(f"{name:<36} {instructions:10.2f} instructions a trade or bar   ({compiler()})")
