"""Files that were not written by us: snapshots, recordings and tapes are read with bounds, and checked before use."""

from __future__ import annotations

import gzip
import hashlib
import random
import resource
import struct
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

import hostile
from fastbars import BarBuffer, replay
from fastbars.errors import SnapshotError, TapeError
from fastbars.live import snapshots
from fastbars.tapes import read_recording, read_tape
from fastbars.tapes.entries import Entries, SessionRecorder
from fastbars.tapes.recording import (
    BLOCK_HEAD,
    BLOCK_MARK,
    EVENT,
    LENGTH,
    MAGIC,
    MESSAGES,
    NOTE,
    event_entry,
    write_block,
)
from fastbars.tapes.zstd import compressor
from fastbars.ticks import TickData

SECOND = 1_000_000_000
Change = Callable[[dict[str, Any]], None]


# Snapshots.


@pytest.mark.parametrize("seed", range(4))
def test_a_snapshot_with_changed_values_is_refused_or_bears_use(seed: int) -> None:
    rng = random.Random(seed)
    dumps = [hostile.used(kind).dump() for kind in range(len(hostile.KINDS))]
    refused = 0
    for number in range(300):
        kind = number % len(dumps)
        buffer = hostile.made(kind)
        try:
            buffer.load(hostile.change(dumps[kind], rng.randbytes(5 * rng.randint(1, 3))))
        except ValueError:
            refused += 1
            assert hostile.is_untouched(buffer)
        else:
            hostile.exercise(buffer)
    assert 100 < refused < 300


def written(name: str, offset: int, value: int, size: int = 4, at: int = 0) -> Change:
    """Writes a whole number into a part, `at` an item of the size that the layout says."""

    def change(content: dict[str, Any]) -> None:
        sizes = {"slots": content["layout"][0], "pasts": content["layout"][1], "records": content["layout"][2]}
        stride = sizes.get(name.rstrip("0123456789"), 0)
        place = offset + at * stride
        part = content[name]
        content[name] = part[:place] + value.to_bytes(size, "little", signed=True) + part[place + size :]

    return change


def set_to(name: str, place: int, value: Any) -> Change:
    def change(content: dict[str, Any]) -> None:
        content[name] = [*content[name][:place], value, *content[name][place + 1 :]]

    return change


def test_what_a_snapshot_says_is_checked_before_it_is_used() -> None:
    buffer = BarBuffer("1s", ids="contiguous", lateness_s=3)
    for second in range(4):
        buffer.add_tick(TickData("A", second * SECOND, "5", "1", trade_id=second + 1 + (second > 1)))
    content = buffer.dump()
    records, held, free, appeared = content["counters"][:4]
    assert (records, held, free, appeared) == (3, 3, -1, 1)
    # Where the list of a record leads next stands behind its bar, and what it lacked.
    record = np.frombuffer(content["records"], np.int32).reshape(3, -1)
    (next_at,) = (4 * k for k in range(record.shape[1]) if record[:, k].tolist() == [1, 2, -1])
    cases: dict[str, Change] = {
        "a record that follows itself": written("records", next_at, 0, at=2),
        "a record far outside": written("records", next_at, 2**31 - 1, at=1),
        "a record below all": written("records", next_at, -7, at=2),
        "more records than are there": set_to("counters", 0, 2**30),
        "more records held than there are": set_to("counters", 1, 5),
        "a free record that is none": set_to("counters", 2, 1),
        "a symbol that appeared and is none": written("appeared", 0, 9),
        "more symbols than are there": set_to("counters", 3, 2),
        "a layout of text": set_to("layout", 0, "x"),
        "a counter that is no number": set_to("counters", 4, 0.5),
        "a time beyond 64 bits": set_to("times", 0, 2**70),
        "a symbol twice": lambda content: content.update(
            instruments=[*content["instruments"], content["instruments"][0]]
        ),
        "a scale that none has": set_to("instruments", 0, ["A", 0, 2**40, None]),
        "a symbol that is no text": set_to("instruments", 0, [5, 0, 0, None]),
        "a part that is no part": lambda content: content.update(slots0=[1, 2]),
        "no part at all": lambda content: content.pop("holes"),
        "a negative number of rows": lambda content: content.update(rows=-1),
        "holes that overlap": written("holes", 0, 0, 8),
        "a hole that never ends": written("holes", 8, 2**62, 8),
        "a hole outside all times": written("holes", 16, -(2**63), 8),
    }
    for what, change in cases.items():
        changed = dict(content)
        change(changed)
        assert changed != content, what
        again = BarBuffer("1s", ids="contiguous", lateness_s=3)
        with pytest.raises(ValueError, match=r"it|its|snapshot"):
            again.load(changed)
        assert hostile.is_untouched(again), what
    again.load(content, continues=True)
    assert again.missing("A") == buffer.missing("A") == [(3, 3)]
    assert [repr(bar) for bar in again.flush_all()] == [repr(bar) for bar in buffer.flush_all()]


def test_a_snapshot_continues_the_instruments_that_are_known() -> None:
    buffer = BarBuffer("1s")
    buffer.add_tick(TickData("A", 0, "5", "1"))
    content = buffer.dump()
    other = BarBuffer("1s")
    other.instruments.add("B")
    with pytest.raises(ValueError, match="it lists 'A' where B is known"):
        other.load(content)
    assert other.instruments.symbols == ("B",)


def sealed(body: bytes) -> bytes:
    return b"fastbars snapshot %d\n" % snapshots.VERSION + hashlib.sha256(body).digest() + body


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "head"), (b"\xff" * 8, "cut off"), (struct.pack("<Q", 2) + b"[]", "describe"),
        (struct.pack("<Q", 9) + b'{"head":1', "read"), (struct.pack("<Q", 5000) + b"[" * 5000, "read"),
        (struct.pack("<Q", 27) + b'{"head":{},"parts":{"a":9}}', "longer"),
        (struct.pack("<Q", 28) + b'{"head":{},"parts":{"a":-1}}', "longer"),
        (struct.pack("<Q", 22) + b'{"head":{},"parts":{}}' + b"more", "bytes longer than its parts"),
    ],
)  # fmt: skip
def test_a_sealed_body_that_is_no_snapshot_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(SnapshotError, match=why):
        snapshots.unpack(sealed(body))


def test_a_snapshot_that_is_no_file_or_has_no_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SnapshotError, match="the snapshot is not a regular file"):
        snapshots.read(Path("/dev/zero"))
    path = tmp_path / "state"
    path.write_bytes(bytes(100))
    monkeypatch.setattr(snapshots, "MOST_BYTES", 50)
    with pytest.raises(SnapshotError, match="it has 100 bytes, more than 50"):
        snapshots.read(path)


# Recordings.

HEAD = event_entry(NOTE, 0, 0, {"note": "file", "version": 1, "run": "R", "number": 1})
SESSION = event_entry(
    EVENT, 1, 0, {"event": "session", "exchange": "binance spot", "channel": "trade", "own_parser": False,
                  "config": {"bars": ["1s"]}},
)  # fmt: skip


def file_of(path: Path, *entries: bytes) -> Path:
    path.write_bytes(MAGIC + write_block(b"".join(entries), compressor(path, 1)))
    return path


def event(name: str, body: bytes = b"", **fields: Any) -> bytes:
    return event_entry(EVENT, 1, 0, {"event": name, **fields}, body)


@pytest.mark.parametrize(
    "entries",
    [
        [event("clock")], [event("clock", steady_ns="x", feed_up=1)], [event("heal", b"{", symbol="A")],
        [event("heal", b"[[1,2]]", symbol="A")], [event("heal", b"[" * 5000, symbol="A")],
        [event("load", b"nothing")], [event("load", snapshots.pack({"exchange": 5}))], [event("flush")],
        [event("feed_down", time_ns=2**63)], [event("outage", until_ns=1, symbols=5)],
        [event("reach_back", symbol="BTCUSDT", trade_id=[], time_ns={})],
        [event("leave_out", symbol="BTCUSDT", ranges=5)], [event("leave_out", symbol="BTCUSDT", ranges=[[3, -1]])],
        [event_entry(EVENT, 1, 0, {"event": []})],
        [event_entry(EVENT, 7, 0, {"event": "flush", "symbol": None})],
    ],
)  # fmt: skip
def test_an_input_that_no_session_has_is_a_tape_error(entries: list[bytes], tmp_path: Path) -> None:
    path = file_of(tmp_path / "x.fbr", HEAD, SESSION, wakeup(TRADE), *entries)
    with pytest.raises(TapeError, match="the recording of run R"):
        list(replay(path))


def wakeup(*payloads: bytes) -> bytes:
    entries = Entries(bool, bool)
    SessionRecorder(entries, 1).messages(payloads, 0, 0, 0)
    return entries.take()


TRADE = b'{"e":"trade","E":1,"s":"BTCUSDT","t":5,"p":"1","q":"2","T":1723161254087,"m":true,"M":true}'


@pytest.mark.parametrize(
    "declared",
    [
        {}, {"exchange": 5, "config": {}}, {"exchange": "binance spot", "config": {"lateness": -1}},
        {"exchange": "binance spot", "config": {"bars": ["1x"]}}, {"exchange": "binance spot", "config": {"lines": 99}},
        {"exchange": "binance spot", "channel": "nothing", "config": {}}, {"exchange": "no", "config": {}},
        {"exchange": "binance spot", "config": {"bars": [f"{n}s" for n in range(1, 400)]}},
    ],
)  # fmt: skip
def test_a_session_that_cannot_be_is_a_tape_error(declared: dict[str, Any], tmp_path: Path) -> None:
    declaration = event_entry(EVENT, 1, 0, {"event": "session", **declared})
    path = file_of(tmp_path / "x.fbr", HEAD, declaration, wakeup(TRADE))
    with pytest.raises(TapeError, match="the recording"):
        list(replay(path))


def entry_head(kind: int, size: int, session: int = 1) -> bytes:
    return struct.pack("<BxHHxxIqq", kind, session, 0, size, 0, 0)


@pytest.mark.parametrize(
    "entry",
    [
        entry_head(MESSAGES, 100), entry_head(MESSAGES, 4) + LENGTH.pack(2**32 - 1),
        entry_head(MESSAGES, 8) + LENGTH.pack(1) + LENGTH.pack(2**31), entry_head(NOTE, 4) + LENGTH.pack(2**31),
        entry_head(NOTE, 8) + LENGTH.pack(4) + b"[] 5", entry_head(NOTE, 6) + LENGTH.pack(2) + b"[]",
        entry_head(NOTE, 5004) + LENGTH.pack(5000) + b"[" * 5000, entry_head(9, 0), b"\x01",
        entry_head(MESSAGES, 4, session=65_535) + LENGTH.pack(0),
        event_entry(NOTE, 0, 0, {"note": "file"}), event_entry(NOTE, 0, 0, {"note": "file", "run": "R", "number": "x"}),
        event_entry(NOTE, 0, 0, {"note": "file", "run": "x" * 1000, "number": 1}),
    ],
)  # fmt: skip
def test_a_malformed_entry_is_a_tape_error_that_names_the_file(entry: bytes, tmp_path: Path) -> None:
    path = file_of(tmp_path / "x.fbr", HEAD, entry)
    with pytest.raises(TapeError, match=r"x\.fbr: (malformed entry|an entry of unknown kind 9)"):
        list(read_recording(path))


def test_a_block_that_unpacks_to_more_than_it_says_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.fbr"
    data = compressor(path, 1)(bytes(200 << 20))
    assert len(data) < 40_000
    for says in (1000, 2**32 - 1):
        head = BLOCK_HEAD.pack(BLOCK_MARK, len(data), says, zlib.crc32(data), 0)[:-4]
        path.write_bytes(MAGIC + head + LENGTH.pack(zlib.crc32(head)) + data)
        tracemalloc.start()
        with pytest.raises(TapeError, match=r"a block (has|declares) .* bytes"):
            list(read_recording(path))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 80 << 20


# Tapes.


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"9" * 5000 + b" {}\n", "not a line of any tape format"), (b"9" * 5000 + b".5: {}\n", "not a line"),
        (b'{"t":' + b"[" * 100_000 + b"\n", 'not a JSON line with "t" and "ts"'),
        (b'{"t":"recv","ts":' + b"9" * 5000 + b',"raw":"x"}\n', "needs a number"),
    ],
)  # fmt: skip
def test_numbers_and_nesting_of_a_tape_are_bounded(content: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "tape"
    path.write_bytes(content)
    with pytest.raises(TapeError, match=f"line 1: .*{why}"):
        list(read_tape(path))


def test_a_line_that_does_not_end_is_refused_in_linear_time(tmp_path: Path) -> None:
    path = tmp_path / "tape"
    path.write_bytes(gzip.compress(b"1 {}\n" + b"x" * (64 << 20), 1))
    begun_s = time.process_time()
    tracemalloc.start()
    tape = read_tape(path)
    assert next(tape).payload == b"{}"
    with pytest.raises(TapeError, match="line 2: the line has more than 16777216 bytes: 'xxx"):
        next(tape)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 80 << 20
    assert time.process_time() - begun_s < 5


def test_a_line_of_eight_megabytes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tape"
    line = b'{"a":"' + b"x" * (8 << 20) + b'"}'
    path.write_bytes(b"5 " + line + b"\n6 {}\n")
    assert [record.payload for record in read_tape(path)] == [line, b"{}"]


def test_lines_without_a_message_end_somewhere(tmp_path: Path) -> None:
    path = tmp_path / "tape"
    path.write_bytes(gzip.compress((b"wss://x" + b"y" * 100_000 + b"\n") * 1000, 1))
    with pytest.raises(TapeError, match=r"the last [0-9]+ bytes hold no message"):
        list(read_tape(path))


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits are POSIX")
def test_a_compressed_file_of_zeros_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "tape"
    path.write_bytes(compressor(path, 19)(bytes(1 << 30)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TapeError, match="has more than 16777216 bytes"):
        list(read_tape(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # KB


def test_objects_that_orjson_takes_still_replay(tmp_path: Path) -> None:
    rows = orjson.dumps([["trade", "BTCUSDT", 1723161254000 * 10**6, "1", "2", 1, 4, 4, 1, None]])
    path = file_of(tmp_path / "x.fbr", HEAD, SESSION, wakeup(TRADE), event("heal", rows, symbol="BTCUSDT"))
    assert [bar.trade_count for bar in replay(path)] == [1]
