"""Snapshots with some of their bytes changed, as a file can hold them: what is refused, and what has to bear use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from fastbars.buffer import BarBuffer
from fastbars.id_policy import Ids
from fastbars.kernel.instruments import Instruments
from fastbars.ticks import TickData

SECOND = 1_000_000_000
KINDS: Sequence[tuple[Sequence[str], Ids]] = (
    (("1s", "5s", "tick:3", "1mo", "1d@Europe/Berlin"), "contiguous"),
    (("1m", "1s", "volume:7", "value:50"), "none"),
)
_NUMBERS = (0, 1, -1, 2, 255, 2**31 - 1, -(2**31), 2**31, 2**32, 2**62, -(2**62), 2**63 - 1, -(2**63), 2**64, 0.5, None)


def made(kind: int) -> BarBuffer:
    """A buffer of one of the kinds, with nothing in it."""
    specs, ids = KINDS[kind % len(KINDS)]
    return BarBuffer(list(specs), ids=ids, lateness_s=3, heal_horizon_s=30)


def used(kind: int) -> BarBuffer:
    """The same with trades of three symbols in it, holes, late ones, wider scales and an inverse contract."""
    buffer = made(kind)
    buffer.instruments.add("I", 1, 0, "0.5")
    for number in range(40):
        symbol = "ABI"[number % 3]
        price = "5.25" if number == 20 else str(5 + number % 3)
        trade_id = number // 3 + 2 * (number > 12) + (number > 30)
        side = "buy" if number % 2 else "sell"
        buffer.add_tick(TickData(symbol, number * SECOND // 3, price, "2", side, trade_id, time_unit="ns"))
    buffer.advance_clock(15 * SECOND)
    buffer.feed_down(15 * SECOND)
    return buffer


def changes(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """What a fuzzer's bytes say is to be changed: (which value, where in it, new bytes)."""
    for start in range(0, len(data) - 4, 5):
        which, high, low, length, value = data[start : start + 5]
        yield which, high << 8 | low, bytes([value]) * (1 + length % 8) if length < 128 else _number(value)


def _number(value: int) -> bytes:
    number = _NUMBERS[value % len(_NUMBERS)]
    whole = 0 if number is None else int(number)
    return (whole & 2**64 - 1).to_bytes(8, "little")


def change(content: Mapping[str, Any], data: bytes) -> dict[str, Any]:
    """A snapshot's content with up to eight of its values changed."""
    changed = dict(content)
    names = sorted(changed)
    for which, place, new in islice(changes(data), 8):
        name = names[which % len(names)]
        value = changed[name]
        if isinstance(value, bytes) and value:
            # Mostly where a field begins.
            at = place % len(value) if place & 1 else place % len(value) & ~3
            changed[name] = (value[:at] + new + value[at + len(new) :])[: len(value)]
        elif isinstance(value, list) and value:
            at = place % len(value)
            other = _NUMBERS[new[0] % len(_NUMBERS)]
            item = value[at]
            if isinstance(item, list | tuple) and item:
                within = place // len(value) % len(item)
                item = [*item[:within], other, *item[within + 1 :]]
            else:
                item = other
            changed[name] = [*value[:at], item, *value[at + 1 :]]
        else:
            changed[name] = _NUMBERS[new[0] % len(_NUMBERS)]
    return changed


def exercise(buffer: BarBuffer) -> None:
    """Everything that a loaded buffer is asked for."""
    steps: list[Callable[[], object]] = [
        lambda: [buffer.current(symbol, spec) for symbol in buffer.instruments.symbols for spec in buffer.specs],
        lambda: [buffer.holes(symbol) for symbol in buffer.instruments.symbols],
        lambda: buffer.trade_times_ns,
        lambda: buffer.heal(_batch(buffer, 5, 9)),
        lambda: buffer.reach_back("A", 0, 0),
        lambda: buffer.leave_out("A", [(0, 2**62)]),
        lambda: [buffer.beginning(symbol, 60) for symbol in buffer.instruments.symbols],
        lambda: buffer.note_lost("B", 14 * SECOND),
        lambda: buffer.add_batch(_batch(buffer, 20, 30)),
        lambda: buffer.feed_up(20 * SECOND),
        lambda: buffer.advance_clock(40 * SECOND),
        lambda: buffer.instruments.add("B", 6, 6),
        lambda: buffer.add_tick(TickData("C", 50 * SECOND, "1", "1", trade_id=1)),
        lambda: buffer.add_batch(_batch(buffer, 60, 64)),
        lambda: buffer.advance_watermark(90 * SECOND),
        buffer.dump,
        buffer.flush_all,
    ]
    for step in steps:
        try:
            step()
        except ValueError:  # PrecisionError and InvalidTickError are such: it can hold sums that leave no room
            continue


def _batch(buffer: BarBuffer, start: int, stop: int) -> Any:
    batch = buffer.new_batch()
    for number in range(start, stop):
        batch.append("A", number * SECOND, "5", "1", 1, number, number)
    return batch


def is_untouched(buffer: BarBuffer, instruments: Instruments | None = None) -> bool:
    """Whether a buffer that refused a snapshot is as it was: nothing known, nothing seen."""
    return len(instruments or buffer.instruments) == 0 and buffer.flush_all() == [] and buffer.rows_taken == 0
