"""The initial inputs for fuzzing: messages of every exchange, documented and simulated, whole and in frames.

python -m fuzz.seeds FOLDER     # writes FOLDER/TARGET/..., prints the targets
"""

from __future__ import annotations

import gzip
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson

import hostile
from declared import MESSAGES
from fastbars.live import snapshots
from fastbars.simulator.dialect import Stream
from fastbars.simulator.dialects import find_dialect
from fastbars.simulator.market import SimulatedMarket
from fastbars.tapes.entries import Entries, SessionRecorder
from fastbars.tapes.recording import EVENT, MESSAGES as WAKEUP, NOTE, event_entry
from servers import PING, frame
from test_walker import ODD

_NUMBERS = (b"61837.63000000", b"0.00000001", b"1e-8", b"-0.10", b"9223372036854775807", b"00012.50", b".5", b"7.")


# Of a stream, for exchanges whose messages repeat it.
_NAMES = {"bybit": "publicTrade.{}", "okx": "trades:{}", "deribit": "trades.{}.100ms"}
_START_MS = 1_786_310_819_680


def simulated(exchange: str) -> Iterator[bytes]:
    """Trade messages as the simulator writes them in this exchange's dialect."""
    dialect_type = find_dialect(exchange)
    market_name, instruments = dialect_type.list_market(None, 4)
    market = SimulatedMarket(instruments, 400.0, 1, _START_MS)
    dialect = dialect_type(market_name, instruments, market.books)
    trades = market.advance(_START_MS + 1000)
    for place in range(len(instruments)):
        name = _NAMES.get(exchange, "trade").format(instruments[place].symbol)
        stream = Stream(name, place, "trade")
        mine = [trade for trade in trades if trade.instrument == place][: 2 * dialect.trades_per_message][:12]
        for start in range(0, len(mine), min(dialect.trades_per_message, 6)):
            part = mine[start : start + min(dialect.trades_per_message, 6)]
            message = dialect.trades(stream, part, part[-1].time_ms + 1)
            yield message
            yield dialect.wrap(stream, message)


def seeds() -> Iterator[tuple[str, bytes]]:
    """(target, input) pairs."""
    for number in _NUMBERS:
        yield "numbers", number
    for place, message in enumerate(MESSAGES.values()):
        yield "scanner", bytes([place]) + message
        yield "scanner", bytes([place]) + b"\0".join([message, message.replace(b"1", b"2"), message + b" "])
        framed = frame(message) + frame(b"", PING) + frame(message)
        yield "walker", bytes([place, 0, 7, 60]) + framed
        yield "walker", bytes([place, 1, 3, 200]) + framed
    for place, kind in enumerate(MESSAGES):
        if kind not in ("seconds", "binance aggTrade"):
            messages = list(simulated(kind.split(maxsplit=1)[0]))
            yield "scanner", bytes([place]) + b"\0".join(messages[:8])
            yield "walker", bytes([place, 2, 9, 90]) + b"".join(map(frame, messages[-3:]))
            if kind == "binance trade":
                yield "scanner", bytes([place]) + b"\0".join(messages * 3)  # more than 4,096 bytes
    for odd in ODD.values():
        yield "walker", bytes([0, 0, 5, 9]) + frame(b"before") + odd + frame(b"after")
    yield from (*snapshot_files(), *recordings(), *tapes(), *answers(), *csv_texts())


def snapshot_files() -> Iterator[tuple[str, bytes]]:
    """Changes of one value and of several, and whole bodies."""
    rng = random.Random(1)
    for kind in range(len(hostile.KINDS)):
        for number in range(40):
            yield "snapshot", bytes([kind]) + rng.randbytes(5 * (1 + number % 4))
    body = snapshots.pack({"specs": ["1s"], "rows": b"12345678"}).split(b"\n", 1)[1][32:]
    yield "snapshot", b"\xff" + body
    yield "snapshot", b"\xff" + body[:-3]


def recordings() -> Iterator[tuple[str, bytes]]:
    """A run with each kind of entry, whole and with one entry changed."""
    config = {"bars": ["1s", "tick:2"], "grace": 0.2, "lateness": 3.0}
    declared = {"exchange": "binance spot", "channel": "trade", "own_parser": False, "config": config}
    message = MESSAGES["binance trade"]
    wakeup = Entries(bool, bool)
    SessionRecorder(wakeup, 1).messages([message, b"ping"], 5 * 10**9, 5, 0)
    trades = orjson.dumps([["trade", "BTCUSDT", 10**18, "1", "2", 1, 5, 5, 1, None]])
    entries = [
        event_entry(NOTE, 0, 0, {"note": "file", "version": 1, "run": "R", "number": 1}),
        event_entry(EVENT, 1, 0, {"event": "session", **declared}),
        wakeup.take(),
        event_entry(EVENT, 1, 1, {"event": "clock", "steady_ns": 9, "exchange_time_ns": None, "feed_up": True}),
        event_entry(EVENT, 1, 1, {"event": "heal", "symbol": "BTCUSDT"}, trades),
        event_entry(EVENT, 1, 1, {"event": "reach_back", "symbol": "BTCUSDT", "trade_id": 1, "time_ns": 5}),
        event_entry(EVENT, 1, 1, {"event": "leave_out", "symbol": "BTCUSDT", "ranges": [[2, 3]]}),
        event_entry(EVENT, 1, 1, {"event": "load"}, snapshots.pack(hostile.used(1).dump())),
        event_entry(EVENT, 1, 1, {"event": "outage", "since_ns": 1, "until_ns": 2, "symbols": None}),
        event_entry(EVENT, 1, 1, {"event": "feed_down", "time_ns": 5}),
        event_entry(EVENT, 1, 1, {"event": "feed_up", "time_ns": 6}),
        event_entry(EVENT, 1, 1, {"event": "carried", "by_name": True}),
        event_entry(EVENT, 1, 1, {"event": "cover", "symbols": ["BTCUSDT"], "from_ns": 5}),
        event_entry(EVENT, 1, 1, {"event": "uncover", "symbols": None, "since_ns": 5, "lost": True}),
        event_entry(EVENT, 1, 1, {"event": "lose", "symbols": ["BTCUSDT"], "since_ns": 5, "until_ns": 6}),
        event_entry(EVENT, 1, 1, {"event": "bridge", "symbols": ["BTCUSDT"], "since_ns": 5, "until_ns": 6}),
        event_entry(EVENT, 1, 1, {"event": "flush", "symbol": None}),
        event_entry(NOTE, 0, 1, {"note": "end"}),
    ]
    yield "recording", b"\0" + b"".join(entries)
    for entry in entries[2:]:
        yield "recording", b"\0" + b"".join([*entries[:3], entry])
    yield "recording", b"\0" + entries[0] + bytes([WAKEUP]) + entries[1][1:]
    yield "recording", b"\xff" + b"FBLK" + bytes(16)


def tapes() -> Iterator[tuple[str, bytes]]:
    """Every format of line, plain and compressed."""
    lines = (
        b'1723161254087896568 {"e":"trade","t":1}', b'1617566591.326123: {"e":"trade"}', b"1723161254087896569 pong",
        b"wss://x <- 1652459225.29: {}", b'{"t":"recv","ts":1786310819.5,"raw":"{}"}', b'{"t":"sent","ts":null}', b"",
    )  # fmt: skip
    for line in lines:
        yield "tape", line + b"\n"
        yield "tape", line
    text = b"\n".join(lines)
    yield "tape", text
    yield "tape", gzip.compress(text, mtime=0)
    yield "tape", gzip.compress(text, mtime=0)[:-9]
    yield "tape", gzip.compress(text, mtime=0) * 2 + bytes(9)


def csv_texts() -> Iterator[tuple[str, bytes]]:
    """Rows in their usual forms and in odd ones, behind the four bytes of the target."""
    rows = (
        "1,0.5,1.25000000,,1735689600000000,buy,BTCUSDT",
        "2,93451.17000000,0.00012000,62.50000000,1735689600000001,True,BTCUSDT",
        '"3","1e3", 2.5E-7 ,"a,b",1735689600000000.125,"SELL","\u5e01\u5b89USDT"',
        "4,.5,7.,,12,,ETH-USD",
        "5,123456789.123456789,1e-18,,0,false,A",
        "6,-1,1,,0,buy,A",
        "7,1,1,,0,buy",
        '8,1,1,,0,"buy,A',
    )
    for place in range(len(rows)):
        lines = rows[place:] + rows[: place + 1]
        yield "csv", bytes([0, place, 3 * place, 0]) + "\r\n".join(lines[:2]).encode()
        yield "csv", bytes([1, 2, 5, 0]) + "\n".join(lines[-4:]).replace(",", ";").encode() + b"\n"


def answers() -> Iterator[tuple[str, bytes]]:
    """Documented answers of trades and of instruments, each to every parser."""
    bodies = (
        b'[{"id":5,"price":"4","qty":"2","time":1499865549590,"isBuyerMaker":true}]',
        b'[{"a":26129,"p":"0.01633102","q":"4.70443515","f":27781,"l":27781,"T":1498793709153,"m":true}]',
        b'{"code":"0","msg":"","data":[{"instId":"A","side":"sell","sz":"0.00001","px":"29963.2","tradeId":"242720720",'
        b'"ts":"1654161646974"}]}',
        b'{"trades":[{"trade_id":"34","product_id":"A","price":"140.91","size":"4","time":"2021-05-31T09:59:59.000Z",'
        b'"side":"BUY"}]}',
        b'{"error":[],"result":{"A":[["5541.20000","0.15850568",1534614057.321597,"s","l","",2023465]],"last":"15346"}}',
        b'{"symbols":[{"symbol":"BTCUSDT","status":"TRADING"}]}',
        b'{"retCode":0,"result":{"list":[{"symbol":"BTCUSDT","status":"Trading"}],"nextPageCursor":"x"}}',
        b'{"products":[{"product_id":"BTC-USD","status":"online","alias":""}]}',
        b"[]", b"{}", b'[[[[{"a":1e999}]]]]', b'{"code":"50011"}',
    )  # fmt: skip
    for place in range(40):
        for body in bodies:
            yield "rest", bytes([place]) + body


def main(folder: Path) -> None:
    """Write them, numbered, and print the targets."""
    targets: dict[str, int] = {}
    for target, seed in seeds():
        number = targets[target] = targets.get(target, 0) + 1
        path = folder / target / f"seed-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(seed)
    print(*targets)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
