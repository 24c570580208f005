"""Calls everything that fastbars offers to Python, compiled or not, with odd arguments: no call may end the process.

    python tests/odd_calls.py SEED CALLS        # prints how many calls returned, and how many raised

Where ODD_CALLS_LOG names a file, each call is written to it before it is made: after a crash its last line says which
it was. Seeded: the same arguments make the same calls.
"""

from __future__ import annotations

import copy
import importlib
import os
import pickle
import random
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np

import fastbars
from fastbars._agg import BarKernel
from fastbars.bars import REASONS, STATUSES, OHLCVBar
from fastbars.buffer import BarBuffer
from fastbars.columnar.bar_batch import BarBatch
from fastbars.columnar.columns import Encoder, Texts
from fastbars.entry import TradeEntry
from fastbars.exchanges import find_exchange
from fastbars.kernel.arbiter import Arbiter
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.ids import Ledger
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.objects import BarMaker
from fastbars.kernel.recent import RecentKeys
from fastbars.kernel.rows import ROW_DTYPE
from fastbars.live.clock import ExchangeClock, TradeDelays
from fastbars.live.intake import Feed, Intake
from fastbars.specs import BarSpec, parse_specs
from fastbars.ticks import TickData
from fastbars.wire.scanner import TradeScanner
from fastbars.wire.wakeup import Ending, Wakeup
from fastbars.wire.walker import FrameWalker

# Every compiled module, whatever else comes to be one, and those in Python whose objects users hold in their hands.
PACKAGE = Path(fastbars.__file__).parent
MODULES = sorted(
    {str(path.relative_to(PACKAGE)).split(".")[0].replace(os.sep, ".") for path in PACKAGE.rglob("*.so")}
    | {"buffer", "bars", "specs", "ticks", "columnar.arrays", "columnar.bar_batch"}
)
SECOND = 1_000_000_000
NUMBERS: Sequence[Any] = (
    0,
    1,
    -1,
    2,
    3,
    7,
    18,
    19,
    255,
    256,
    2**31 - 1,
    -(2**31),
    2**31,
    2**32 - 1,
    2**53,
    2**62,
    -(2**62),
    2**63 - 1,
    -(2**63),
    2**63,
    2**64,
    -(2**64),
    10**30,
    SECOND,
    60 * SECOND,
    4_600_000_000_000_000_000,
    -4_600_000_000_000_000_000,
    True,
    False,
    0.0,
    0.5,
    -1.5,
    1e308,
    float("nan"),
    float("inf"),
    Decimal("1.5"),
    Decimal("NaN"),
    Decimal("1E+400"),
)
TEXTS: Sequence[Any] = (
    "",
    "A",
    "B",
    "symbol",
    "5",
    "1.25",
    "-3",
    "1e9",
    "1e999999999",
    "9" * 200,
    "é",
    "\0",
    "\ud800",
    "x" * 5000,
    "1m",
    "tick:3",
    "volume:7",
    "value:1e9",
    "buy",
    "time_ns",
    "price",
    b"",
    b"A",
    b"5.5",
    b"\xff\x00",
    b"x" * 5000,
    b'{"e":"trade","s":"A","p":"1","q":"2","t":1,"T":1723161254087,"m":true}',
    b"\x81\x02hi",
    b"\x81\x7e\xff\xff",
)


class Liar:
    """Says one thing and does another: lengths, indices and items that change from call to call, or raise."""

    def __init__(self, rng: random.Random, pool: Pool) -> None:
        self._rng = rng
        self._pool = pool

    def _any(self) -> Any:
        if self._rng.random() < 0.1:
            raise RuntimeError("as it likes")
        if self._rng.random() < 0.2 and self._pool.depth < 2:  # what asked is asked in turn
            self._pool.call()
        return self._rng.choice(NUMBERS)

    def __len__(self) -> int:
        return int(self._rng.choice((0, 1, 3, 10**6)))

    def __getitem__(self, index: object) -> Any:
        if self._rng.random() < 0.2:
            raise IndexError(index)
        return self._any()

    def __index__(self) -> int:
        value = self._any()
        return value if type(value) is int else 1

    def __call__(self, *_: object, **__: object) -> Any:
        return self._any()

    def __iter__(self) -> Any:
        return iter([self._any() for _ in range(self._rng.randrange(4))])

    def __eq__(self, other: object) -> bool:
        return self._rng.random() < 0.5

    def __hash__(self) -> int:
        return self._rng.randrange(4)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._rng.choice((self, None, 1, "A", (), self._any))


class OddSpec:
    """Looks like a BarSpec, and has a rule that none has."""

    def __init__(self, rule: tuple[str, int, int], step: Decimal = Decimal(0)) -> None:
        self.rule = rule
        self.step = step
        self.boundaries = np.array([2**62, 0, 5])


class Pool:
    """Values to call, and to call with."""

    def __init__(self, seed: int, log: int | None) -> None:
        self.rng = random.Random(seed)
        self.depth = 0
        self.returned = self.raised = 0
        self._log = log
        self.functions: list[tuple[str, Callable[..., Any]]] = []
        self.classes: list[Any] = []
        self.objects: list[Any] = []
        for name in MODULES:
            module = importlib.import_module(f"fastbars.{name}")
            for label, value in sorted(vars(module).items()):
                if getattr(value, "__module__", None) != module.__name__ or label.startswith("__pyx"):
                    continue
                if isinstance(value, type) and not issubclass(value, BaseException):
                    self.classes.append(value)
                elif isinstance(value, FunctionType | BuiltinFunctionType) or type(value).__name__.startswith("cython"):
                    self.functions.append((f"{name}.{label}", value))
        self.functions.append(("aggregate", fastbars.aggregate))
        self.refill()

    def refill(self) -> None:
        """Objects as they should be, and some that never were initialised."""
        instruments = Instruments("x")
        for symbol, scales in (("A", (2, 3)), ("B", (0, 0)), ("I", (1, 0, "0.5"))):
            instruments.add(symbol, *scales)
        batch = self.batch(instruments, 12)
        long_batch = self.batch(instruments, 1500)
        kernel = BarKernel(
            instruments, parse_specs(["1s", "5s", "tick:3", "1mo", "volume:9"]), Ledger(), True, 3 * SECOND
        )
        rows, _ = BarKernel(instruments, parse_specs("1s,5s"), None).update(batch, True)
        fields = find_exchange("binance").fields("trade")
        assert fields is not None
        buffer = BarBuffer(["1s", "tick:2"], ids="contiguous", instruments=instruments)
        single = buffer.new_batch()
        intake = Intake(lambda *_: None)
        intake.begin(buffer, single)
        scanner = TradeScanner(fields, buffer.new_batch(), instruments.add)
        self.objects = [
            instruments,
            batch,
            long_batch,
            kernel,
            kernel.ledger,
            rows,
            buffer,
            single,
            intake,
            scanner,
            BarBatch(rows, instruments, parse_specs("1s,5s"), ids=False),
            BarBatch(rows, Instruments("other"), parse_specs("1s"), ids=True),
            BarBuffer("1m"),
            Arbiter(TickBatch(instruments, counts=True), 2, SECOND),
            RecentKeys(3),
            Ledger(2),
            FrameWalker(lambda _: None, lambda _: True, scanner),
            Encoder(),
            Texts.fixed(np.array([b"A", b"5.5"])),
            Texts.offsets(np.array([0, 1, 4], np.int32), np.frombuffer(b"A5.5", np.uint8), 0, 2),
            Wakeup([], lambda _: None, lambda _: None, lambda _: None),
            ExchangeClock(),
            TradeDelays(),
            Feed(intake, lambda _: None),
            intake.feeds,
            intake.feeds.everything,
            Ending(lambda _: False),
            BarMaker(OHLCVBar, STATUSES, REASONS),
            kernel.dump(),
            buffer.dump(),
            TickData("A", 5, "1", "1"),
            BarSpec.parse("1m"),
            OddSpec(("time", 0, 0)),
            OddSpec(("zoned", 0, 0)),
            OddSpec(("tick", -3, 0)),
            OddSpec(("value", 0, 0), Decimal(-1)),
            fields,
            Liar(self.rng, self),
            TradeEntry(BarKernel(instruments, parse_specs("1s")), TickBatch(instruments, counts=True), 0),
        ]
        for kind in self.classes:
            with suppress(Exception):  # it asks for arguments
                self.objects.append(kind.__new__(kind))
            with suppress(Exception):  # it is final
                heir: Any = type(f"Heir{kind.__name__}", (kind,), {"__init__": _do_nothing})
                self.objects.append(heir.__new__(heir))

    def batch(self, instruments: Instruments, rows: int) -> TickBatch:
        """Trades in order, of two symbols."""
        ids = np.arange(rows)
        return TickBatch.from_columns(
            instruments,
            time_ns=ids * SECOND // 4,
            symbol_id=ids % 2,
            price=ids % 7 + 1,
            size=ids % 3 + 1,
            first_id=ids // 2,
            last_id=ids // 2,
        )

    def array(self) -> Any:
        """An array of some dtype, shape, order and strides."""
        rng = self.rng
        dtype: Any = rng.choice(
            [
                np.int64,
                np.int32,
                np.int8,
                np.uint8,
                np.uint64,
                np.float64,
                ">i8",
                ">i4",
                "S3",
                "U2",
                object,
                ROW_DTYPE,
                "M8[ns]",
            ]
        )
        size = rng.choice((0, 1, 2, 3, 13, 1500))
        made = np.zeros(size, dtype)
        if made.dtype == object:
            made[:] = [rng.choice(NUMBERS) for _ in range(size)]
        elif rng.random() < 0.5:
            made = np.frombuffer(bytearray(rng.randbytes(made.nbytes)), made.dtype) if made.nbytes else made
        elif made.dtype.kind in "iu":
            made = np.arange(size).astype(dtype)
        shape = rng.randrange(6)
        if shape == 0:
            made = made[::2]
        elif shape == 1:
            made = made.reshape(1, -1)
        elif shape == 2 and made.flags.owndata:
            made.flags.writeable = False
        elif shape == 3:
            made = made[::-1]
        return made

    def value(self) -> Any:
        """Anything."""
        rng = self.rng
        kind = rng.randrange(9)
        if kind == 0:
            return None
        if kind <= 2:
            return rng.choice(NUMBERS)
        if kind == 3:
            return rng.choice(TEXTS)
        if kind == 4:
            return self.array()
        if kind == 5:
            return [self.value() for _ in range(rng.randrange(4))]
        if kind == 6:
            return {str(rng.choice(("time_ns", "price", "size", "symbol_id", "lines", "x"))): self.value()}
        return rng.choice(self.objects)

    def argument(self, name: str) -> Any:
        """Mostly what a parameter of this name is given."""
        rng = self.rng
        if rng.random() < 0.25:
            return self.value()
        known = {
            "instruments": Instruments,
            "batch": TickBatch,
            "kernel": BarKernel,
            "ledger": Ledger,
            "scanner": TradeScanner,
            "out": TickBatch,
            "single": TickBatch,
            "buffer": BarBuffer,
            "texts": Texts,
            "intake": Intake,
        }
        if name in known:
            fitting = [each for each in self.objects if isinstance(each, known[name])]
            return rng.choice(fitting)
        if name in ("specs", "bars"):
            return rng.choice(("1s", ["1s", "5s"], parse_specs("1s,tick:2"), (rng.choice(self.objects),)))
        if name.endswith(("_ns", "size", "price", "count")):
            return rng.choice((0, 5, SECOND, 3 * SECOND, rng.choice(NUMBERS)))
        if name.startswith(("symbol", "key")):
            return rng.choice(("A", "B", 0, 1, 2, -1, 3, 10**6))
        return self.value()

    def call(self) -> None:
        """One call of something with something; it may raise."""
        rng = self.rng
        self.depth += 1
        try:
            label, function, names = self._chosen()
            count = len(names) if names and rng.random() < 0.8 else rng.randrange(6)
            arguments = [self.argument(names[k] if k < len(names) else "") for k in range(count)]
            if self._log is not None:
                os.write(self._log, ascii(f"{label}({', '.join(map(_shown, arguments))})").encode() + b"\n")
            result = function(*arguments)
            self.returned += 1
            if result is not None and not isinstance(result, bool | int | float | str) and len(self.objects) < 300:
                self.objects.append(result)
        except Exception:  # noqa: BLE001 an error is an answer
            self.raised += 1
        finally:
            self.depth -= 1

    def _chosen(self) -> tuple[str, Callable[..., Any], Sequence[str]]:
        rng = self.rng
        kind = rng.randrange(10)
        if kind == 0:
            name, function = rng.choice(self.functions)
            return name, function, _parameters(function)
        if kind == 1:
            chosen = rng.choice(self.classes)
            return chosen.__name__, chosen, _CONSTRUCTED.get(chosen.__name__, ())
        owner = rng.choice(self.objects)
        label = type(owner).__name__
        if kind == 2:
            special = rng.choice(
                (len, iter, list, repr, hash, copy.copy, pickle.dumps, reversed, memoryview, bytes, str)
            )
            return f"{special.__name__} of {label}", lambda *_: special(owner), ()
        if isinstance(owner, np.ndarray | dict | list | tuple | Liar):
            return "TickBatch.from_columns", TickBatch.from_columns, ("instruments",)
        names = [name for name in dir(type(owner)) if not name.startswith("__") or name in _SPECIAL]
        if not names:
            return label, lambda *_: None, ()
        name = rng.choice(names)
        if kind == 3:
            return f"{label}.{name} =", lambda *given: setattr(owner, name, *given[:1]), (name,)
        if kind == 4 and isinstance(owner, TickBatch) and len(owner.part(0, 0)) == 0:
            return "BarBuffer.add_batch", lambda *_: self.argument("buffer").add_batch(owner), ()
        method = getattr(owner, name)
        if not callable(method):
            return f"{label}.{name}", lambda *_: method, ()
        return f"{label}.{name}", method, _CONSTRUCTED.get(label, ()) if name == "__init__" else _parameters(method)


_SPECIAL = ("__init__", "__getitem__", "__len__", "__contains__", "__reduce__", "__setstate__", "__copy__", "__iter__")
_CONSTRUCTED = {
    "TickBatch": ("instruments", "ids"),
    "BarKernel": ("instruments", "specs", "ledger"),
    "Arbiter": ("out", "lines", "wait"),
    "TradeEntry": ("kernel", "single", "grace_ns"),
    "TradeScanner": ("fields", "batch", "new_symbol"),
    "FrameWalker": ("on_message", "hand_on", "scanner"),
    "Feed": ("intake", "on_failure"),
    "BarBuffer": ("bars",),
    "BarBatch": ("rows", "instruments", "specs"),
    "RecentKeys": ("least",),
    "Ledger": ("most_holes",),
}
_NAMED = {
    "add": ("symbol", "time_ns", "price", "size"),
    "append": ("symbol", "time_ns", "price", "size"),
    "label": ("symbol_id",),
    "symbol": ("symbol_id",),
    "scales": ("symbol",),
    "update": ("batch",),
    "heal": ("batch",),
    "add_batch": ("batch",),
    "add_live": ("batch",),
    "take": ("batch", "line", "now_ns"),
    "close_until": ("time_ns", "reason", "group"),
    "current": ("symbol_id", "spec"),
    "note_lost": ("symbol_id", "time_ns"),
    "reach_back": ("symbol_id", "trade_id", "time_ns"),
    "leave_out": ("symbol_id", "ranges"),
    "load": ("parts",),
    "beginning": ("symbol_id", "longest_ns"),
    "holes": ("symbol_id",),
    "missing": ("symbol_id",),
    "expected": ("symbol_id",),
    "dump": (),
    "flush": (),
    "encode": ("texts", "ids"),
    "make": ("rows", "instruments", "specs", "ids"),
    "feed": ("data",),
    "scan": ("payload",),
    "begin": ("buffer", "batch", "new_scanner"),
    "part": ("start", "stop"),
    "without": ("row",),
    "feed_down": ("time_ns",),
    "feed_up": ("time_ns",),
    "advance_watermark": ("time_ns",),
    "wrap": ("instruments", "columns"),
    "advance_clock": ("time_ns",),
    "aggregate": (),
    "offsets": ("places", "data", "start", "length"),
    "merge": ("other",),
    "fold": ("line", "steady"),
    "finish": ("receive_time_ns", "steady", "line"),
    "note_outage": ("since_ns", "until_ns"),
    "cover": ("symbol_ids", "from_ns"),
    "uncover": ("symbol_ids", "since_ns"),
    "lose": ("symbol_ids", "since_ns", "until_ns"),
    "bridge": ("symbol_ids", "since_ns", "until_ns"),
    "gaps": ("symbol_id",),
}


def _parameters(function: Callable[..., Any]) -> Sequence[str]:
    return _NAMED.get(getattr(function, "__name__", ""), ())


def _do_nothing(*_: object, **__: object) -> None:
    return None


def _shown(value: Any) -> str:
    if isinstance(value, str | bytes | int | float | Decimal | None):
        return ascii(value)[:60]
    if isinstance(value, np.ndarray):
        return f"<array {value.dtype.str} {value.shape}>"
    return f"<{type(value).__name__}>"


def main() -> None:
    seed, calls = map(int, sys.argv[1:3])
    path = os.environ.get("ODD_CALLS_LOG")
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) if path else None
    np.seterr(all="ignore")
    pool = Pool(seed, log)
    for number in range(calls):
        if number % 400 == 399:
            pool.refill()
        pool.call()
    print(pool.returned, pool.raised)


if __name__ == "__main__":
    main()
