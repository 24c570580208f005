"""The inputs that fuzzing begins with: messages of every exchange, documented and simulated, whole and in frames.

python -m fuzz.seeds FOLDER     # writes FOLDER/TARGET/..., prints the targets
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from declared import MESSAGES
from fastbars.simulator.dialect import Stream
from fastbars.simulator.dialects import find_dialect
from fastbars.simulator.market import SimulatedMarket
from servers import PING, frame
from test_walker import ODD

_NUMBERS = (b"61837.63000000", b"0.00000001", b"1e-8", b"-0.10", b"9223372036854775807", b"00012.50", b".5", b"7.")


_NAMES = {"bybit": "publicTrade.{}", "okx": "trades:{}"}  # of a stream, where messages repeat it
_START_MS = 1_786_310_819_680


def simulated(exchange: str) -> Iterator[bytes]:
    """Trade messages as the simulator writes them in this exchange's dialect."""
    dialect_type = find_dialect(exchange)
    market_name, instruments = dialect_type.listing(None, 4)
    dialect = dialect_type(market_name, instruments)
    market = SimulatedMarket(instruments, 400.0, 1, _START_MS)
    dialect.books = market.books
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
    for odd in ODD.values():
        yield "walker", bytes([0, 0, 5, 9]) + frame(b"before") + odd + frame(b"after")


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
