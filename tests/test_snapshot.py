"""Snapshots: a buffer that is dumped and loaded anew goes on as if nothing had happened; and their files."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from examples import examples
from fastbars.bars import OHLCVBar
from fastbars.buffer import BarBuffer
from fastbars.errors import SnapshotError
from fastbars.live import snapshots
from fastbars.ticks import TickData
from strategies import Scenario, buffer_for, replay, scenarios

CONTENT: dict[str, Any] = {
    "time_ns": 2**62,
    "names": ["A", "ÇC"],
    "rows": bytes(range(256)) * 9,
    "empty": b"",
    "none": None,
}


def go_on(buffer: BarBuffer, scenario: Scenario) -> BarBuffer:
    """The buffer of another process, by way of a file's bytes."""
    after = buffer_for(scenario._replace(contract_sizes=()))
    after.load(snapshots.unpack(snapshots.pack(buffer.dump())), continues=True)
    return after


@settings(max_examples=examples(150))
@given(scenarios(), st.integers(0, 40), st.integers(0, 40))
def test_a_buffer_goes_on_from_its_snapshot_as_if_nothing_had_happened(
    scenario: Scenario, first: int, second: int
) -> None:
    twin = buffer_for(scenario)
    first, second = sorted((first, second))
    stretches = (scenario.events[:first], scenario.events[first:second], scenario.events[second:])
    buffer = buffer_for(scenario)
    for stretch in stretches:
        assert replay(buffer, stretch, flush=False) == replay(twin, stretch, flush=False)
        buffer = go_on(buffer, scenario)
    assert [repr(bar) for bar in buffer.flush_all()] == [repr(bar) for bar in twin.flush_all()]
    for symbol in twin.instruments.symbols:
        assert buffer.holes(symbol) == twin.holes(symbol)
    assert buffer.stats.duplicates == twin.stats.duplicates


@pytest.mark.parametrize("begun", [(1,), (900, 1), (1, 900, 20)])
def test_a_buffer_goes_on_from_a_snapshot_taken_after_ids_began_anew(begun: tuple[int, ...]) -> None:
    ids = [*range(1000, 1200)]
    for first in begun:
        ids += range(first, first + 200)
    buffer, twin = (BarBuffer("1s,1m", ids="contiguous", lateness_s=1) for _ in range(2))
    statuses = set()
    for place, trade_id in enumerate(ids):
        if place % 50 == 25:
            after = BarBuffer("1s,1m", ids="contiguous", lateness_s=1)
            after.load(snapshots.unpack(snapshots.pack(buffer.dump())), continues=True)
            buffer = after
        bars = buffer.add("A", place * 400_000_000, "5", "1", "buy", trade_id)
        assert bars == twin.add("A", place * 400_000_000, "5", "1", "buy", trade_id)
        statuses |= {(place // 200, bar.status) for bar in bars}
    assert buffer.flush_all() == twin.flush_all()
    assert {(number, "COMPLETE") for number in range(1 + len(begun))} <= statuses
    assert buffer.stats.duplicates == twin.stats.duplicates == 0


def test_a_late_trade_after_a_restart_does_not_let_revisions_fall_back() -> None:
    second = 1_000_000_000
    bars: list[OHLCVBar] = []
    buffer = BarBuffer("1s", on_bar=bars.append)
    for time_s in (1, 2, 3):
        buffer.add("A", time_s * second, "1", "1")
    content = buffer.dump()
    for time_s in (4, 5, 6, 7):
        buffer.add("A", time_s * second, "1", "1")
    issued = {bar.open_time: bar.revision for bar in bars}
    bars.clear()
    restarted = BarBuffer("1s", on_bar=bars.append)
    restarted.load(content)
    restarted.add("A", 2 * second + second // 2, "1", "1")  # tells nothing of when the process before has ended
    restarted.advance_watermark(3 * second)
    for time_s in (9, 10, 11):
        restarted.add("A", time_s * second, "1", "1")
    again = [bar for bar in bars if bar.open_time in issued]
    assert again
    assert all(bar.revision > issued[bar.open_time] for bar in again)
    assert bars[-1].revision == 0


def test_a_snapshot_is_of_the_same_specs_and_ids_only() -> None:
    buffer = BarBuffer("1m", ids="contiguous")
    buffer.add_tick(TickData("A", 0, 5, 1, trade_id=1))
    content = snapshots.unpack(snapshots.pack(buffer.dump()))
    with pytest.raises(ValueError, match=r"its specs are \['1m'\], not \['1m', '5m'\]"):
        BarBuffer(["1m", "5m"], ids="contiguous").load(content)
    with pytest.raises(ValueError, match="its ids are contiguous, not none"):
        BarBuffer("1m").load(content)
    used = BarBuffer("1m", ids="contiguous")
    used.add_tick(TickData("B", 0, 5, 1, trade_id=1))
    with pytest.raises(ValueError, match="without trades"):
        used.load(content)


@pytest.mark.parametrize("name", ["slots0", "pasts0", "records", "lines", "holes", "appeared"])
def test_a_part_that_is_too_short_is_refused(name: str) -> None:
    buffer = BarBuffer("1s", ids="contiguous")
    for second, trade_id in ((0, 1), (1, 3), (2, 4)):
        buffer.add_tick(TickData("A", second * 10**9, Decimal(5), 1, trade_id=trade_id))
    content = buffer.dump()
    content[name] = content[name][:-8]
    with pytest.raises(ValueError, match="snapshot"):
        BarBuffer("1s", ids="contiguous").load(content)


def test_a_snapshot_that_is_older_than_a_part_without_bytes_is_continued() -> None:
    # A recording of a run that went on from a snapshot holds it, and replays as long as recordings can be read.
    buffer, restored = BarBuffer("1s", ids="contiguous"), BarBuffer("1s", ids="contiguous")
    buffer.add_tick(TickData("A", 0, Decimal(5), 1, trade_id=1))
    content = buffer.dump()
    assert content.pop("states0") == b""
    restored.load(content, continues=True)
    second = TickData("A", 10**9, Decimal(6), 1, trade_id=2)
    assert restored.add_tick(second) == buffer.add_tick(second) != []


def test_a_layout_of_another_build_is_refused() -> None:
    buffer = BarBuffer("1s", ids="contiguous")
    buffer.add_tick(TickData("A", 0, Decimal(5), 1, trade_id=1))
    content = buffer.dump()
    content["layout"] = [size + 8 for size in content["layout"]]
    with pytest.raises(ValueError, match="layout"):
        BarBuffer("1s", ids="contiguous").load(content)


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "state"
    assert snapshots.read(path) is None
    snapshots.write(path, snapshots.pieces_of({"older": b"x"}))
    snapshots.write(path, snapshots.pieces_of(CONTENT))
    assert snapshots.read(path) == CONTENT
    assert [one.name for one in tmp_path.iterdir()] == ["state"]
    assert path.stat().st_mode & 0o777 == 0o600


@settings(max_examples=examples(60))
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_any_changed_byte_is_noticed(place: int, change: int) -> None:
    data = bytearray(snapshots.pack(CONTENT))
    data[place % len(data)] ^= change
    with pytest.raises(SnapshotError):
        snapshots.unpack(bytes(data))


@settings(max_examples=examples(30))
@given(st.integers(0, 10**6))
def test_a_file_that_was_cut_is_noticed(place: int) -> None:
    data = snapshots.pack(CONTENT)
    with pytest.raises(SnapshotError):
        snapshots.unpack(data[: place % len(data)])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"fastbars snapshot 999\n" + bytes(50), "it is of version 999, this fastbars reads version 4 only"),
        (b"something else\n", "it is not a fastbars snapshot"),
        (b"", "it is not a fastbars snapshot"),
    ],
)
def test_a_refused_file_is_set_aside_and_not_deleted(tmp_path: Path, data: bytes, why: str) -> None:
    path = tmp_path / "state"
    path.write_bytes(data)
    with pytest.raises(SnapshotError, match=why):
        snapshots.read(path)
    (aside,) = tmp_path.iterdir()
    assert aside.name.startswith("state.refused-")
    assert aside.read_bytes() == data
    assert snapshots.read(path) is None


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state"
    snapshots.write(path, snapshots.pieces_of(CONTENT))
    (tmp_path / "state.new").mkdir()
    with pytest.raises(OSError, match="new"):
        snapshots.write(path, [b"newer"])
    assert snapshots.read(path) == CONTENT


def test_a_dump_that_uses_the_memory_of_an_earlier_one_again_is_as_any_other() -> None:
    buffer = BarBuffer(["1s", "1m"], ids="contiguous")
    symbols = [f"S{number}" for number in range(900)]
    recycled: dict[str, Any] = {}
    kept: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for second in range(6):
        for symbol in symbols[: 700 + 100 * (second % 3)]:
            buffer.add(symbol, second * 10**9, "5", "1", trade_id=second // 3 + second % 3 + 1)
        content = buffer.dump(recycled)
        assert content == buffer.dump()
        assert len(content["slots0"]) > 1 << 17  # or none of it is used again
        if second == 3:
            kept.append((content, {**buffer.dump()}))
            recycled = {**content}  # somebody else has its parts, too
        else:
            recycled = content
    assert kept[0][0] == kept[0][1]
