"""The delivery log: whatever moment a process is killed at, the next one delivers what was not confirmed."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings, strategies as st

import fastbars
from examples import examples
from fastbars import StreamConfig
from fastbars.bars import REASONS, STATUSES, OHLCVBar
from fastbars.errors import SnapshotError
from fastbars.exchanges import find_exchange
from fastbars.exchanges.messages import Trade
from fastbars.live import delivery_log, restarts, snapshots
from fastbars.live.callbacks import Callbacks
from fastbars.live.delivery import BarLoop, BarLoops
from fastbars.live.delivery_log import (
    FIELDS,
    DeliveryLog,
    decoded,
    encoded,
    log_path,
    logs_of,
    read_logs,
    remove_logs,
)
from fastbars.live.restarts import SnapshotKeeper
from fastbars.live.session import Session
from fastbars.simulator import SimulatedExchange
from servers import START_MS, trade

START = datetime(2024, 8, 8, tzinfo=UTC)


def bar(second: int, **others: Any) -> OHLCVBar:
    opened = START + timedelta(seconds=second)
    fields: dict[str, Any] = {
        "exchange": "binance", "market": "spot", "symbol": "BTCUSDT", "spec": "1s",
        "open_time": opened, "close_time": opened + timedelta(seconds=1),
        "open": Decimal(1), "high": Decimal("1.5"), "low": Decimal("1E-8"), "close": Decimal(1), "volume": Decimal(7),
    }  # fmt: skip
    return OHLCVBar(**fields | others)


# Its records.

BARS = [
    bar(0),
    bar(1, open=None, high=None, low=None, close=None, volume=Decimal(0)),
    bar(2, symbol='A "quoted" Ç\n', quote_volume=Decimal(2**126), first_trade_id=2**62, missing_count=3, inverse=True),
    bar(
        3, low=Decimal("-123.456"), quote_volume=Decimal("-1E-30"), open_time=START + timedelta(microseconds=2_999_999)
    ),
    *(bar(4, status=status) for status in STATUSES),
    *(bar(5, close_reason=reason) for reason in REASONS),
]


@pytest.mark.parametrize("given", BARS, ids=repr)
def test_a_bar_is_read_as_it_was_written(given: OHLCVBar) -> None:
    again = decoded(orjson.loads(encoded(given)))
    assert (again, again.inverse, type(again.status)) == (given, given.inverse, type(given.status))


def written(path: Path, number: int = 0) -> list[int]:
    """A log of three batches and two confirmations; returns its size after each write."""
    log = DeliveryLog(path, "S", "binance spot")
    log.begin(number)
    sizes = [log.size]
    for first, batch in ((10, BARS[:1]), (11, BARS[1:3])):
        log.write_bars(first, [encoded(one) for one in batch])
        sizes.append(log.size)
    for confirmed in ({"loops": 11}, {"loops": 13, "callbacks": 12}):
        log.write_confirmed(confirmed)
        sizes.append(log.size)
    log.write_bars(13, [encoded(BARS[3])])
    log.close()
    return [*sizes, log.size]


def what_it_says(path: Path) -> tuple[int, dict[str, int]]:
    logged = read_logs(path, 0, "S", "binance spot")
    assert logged.bars == {number: BARS[number - 10] for number in range(10, 10 + len(logged.bars))}
    return len(logged.bars), logged.confirmed


SAYS: tuple[tuple[int, dict[str, int]], ...] = (
    (0, {}),
    (1, {}),
    (3, {}),
    (3, {"loops": 11}),
    (3, {"loops": 13, "callbacks": 12}),
)
SAYS_ALL = (4, {"loops": 13, "callbacks": 12})


def test_a_log_cut_at_any_byte_says_what_was_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "state"
    sizes = written(path)
    data = log_path(path, 0).read_bytes()
    assert len(data) == sizes[-1]
    for cut in range(len(data)):
        whole = sum(size <= cut for size in sizes)
        for zeros in (0, len(data) - cut):  # a power failure leaves them in the place of what the disk does not have
            log_path(path, 0).write_bytes(data[:cut] + bytes(zeros))
            assert what_it_says(path) == SAYS[max(whole - 1, 0)], cut
    for tail in (b"\0" * 5, b"\0" * 5000, b"\5\0\0\0", b"\xff" * 200):
        log_path(path, 0).write_bytes(data + tail)
        assert what_it_says(path) == SAYS_ALL


def test_a_changed_byte_is_refused_or_takes_what_is_behind_it_along(tmp_path: Path) -> None:
    path = tmp_path / "state"
    sizes = written(path)
    data = log_path(path, 0).read_bytes()
    refused = 0
    for place in range(len(data)):
        log_path(path, 0).write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        try:
            said = what_it_says(path)
        except SnapshotError as error:
            assert str(log_path(path, 0)) in str(error)  # noqa: PT017 it may as well not raise
            refused += 1
        else:
            assert said == SAYS[max(sum(size <= place for size in sizes) - 1, 0)], place
    assert refused > len(data) * 0.7


def record(text: bytes) -> bytes:
    return len(text).to_bytes(4, "little") + zlib.crc32(text).to_bytes(4, "little") + text


def head(**changed: Any) -> bytes:
    fields = {"stream": "S", "exchange": "binance spot", "log": 0, "fields": list(FIELDS)} | changed
    return b"fastbars delivery log 1\n" + record(orjson.dumps(fields))


def bars_record(first: Any, *bars: Any) -> bytes:
    return record(orjson.dumps({"first": first, "bars": bars}))


GOOD: list[Any] = orjson.loads(encoded(bar(0)))


def with_field(name: str, value: Any) -> list[Any]:
    return [value if field == name else own for field, own in zip(FIELDS, GOOD, strict=True)]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"something else" * 9, "it is not a fastbars delivery log"),
        (b"fastbars delivery log 2\n" + bytes(99), "it is not a fastbars delivery log of version 1"),
        (head(stream="other"), "it belongs to another snapshot"),
        (head(stream=5), "does not say whose it is"),
        (head(log=7), "does not say whose it is"),
        (head(fields=["symbol"]), "other fields than those of this version"),
        (head(exchange="okx"), "its exchange is 'okx', not 'binance spot'"),
        (head() + record(b"[]"), "malformed record"),
        (head() + record(b"{"), "cannot be read"),
        (head() + record(b"[" * 5000), "cannot be read"),
        (head() + record(b"{}"), "neither bars nor confirmations"),
        (head() + bars_record(-1, GOOD), "neither bars nor confirmations"),
        (head() + bars_record(2**63, GOOD), "neither bars nor confirmations"),
        (head() + bars_record(0, 5), "does not have the fields"),
        (head() + bars_record(0, GOOD[:-1]), "does not have the fields"),
        (head() + bars_record(5, GOOD) + bars_record(4, GOOD), "stands behind a later one"),
        (head() + bars_record(0, with_field("open", "1E+999999999")), "open"),
        (head() + bars_record(0, with_field("open", "NaN")), "open"),
        (head() + bars_record(0, with_field("open", "9" * 10_000)), "open"),
        (head() + bars_record(0, with_field("open", 5)), "open"),
        (head() + bars_record(0, with_field("high", "0.5")), "High"),
        (head() + bars_record(0, with_field("symbol", "x" * 5000)), "symbol"),
        (head() + bars_record(0, with_field("trade_count", -1)), "trade_count"),
        (head() + bars_record(0, with_field("revision", True)), "revision"),
        (head() + bars_record(0, with_field("open_time", "tomorrow")), "tomorrow"),
        (head() + bars_record(0, with_field("open_time", "0001-01-01T00:00:00+23:59")), "out of range"),
        (head() + bars_record(0, with_field("status", "GOOD")), "GOOD"),
        (head() + bars_record(0, with_field("close_reason", None)), "None"),
        (head() + record(orjson.dumps({"confirmed": {"x" * 5000: 1}})), "has confirmed"),
        (head() + record(orjson.dumps({"confirmed": {"loops": -1}})), "has confirmed"),
        (head() + record(orjson.dumps({"confirmed": {str(n): 1 for n in range(101)}})), "who has confirmed what"),
        (head() + bars_record(0, GOOD)[:-9] + b"damaged" + bars_record(1, GOOD), "checksum does not match"),
    ],
)
def test_what_is_no_log_of_ours_is_refused_and_says_why(data: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "state"
    log_path(path, 0).write_bytes(data)
    with pytest.raises(SnapshotError, match=why) as refused:
        read_logs(path, 0, "S", "binance spot")
    assert str(log_path(path, 0)) in str(refused.value)
    assert len(str(refused.value)) < 600


def test_a_log_that_is_no_file_or_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state"
    log_path(path, 0).mkdir()
    with pytest.raises(SnapshotError, match=r"state\.log\.0: the delivery log is not a regular file"):
        read_logs(path, 0, "S", "binance spot")
    log_path(path, 0).rmdir()
    written(path)
    monkeypatch.setattr(delivery_log, "MOST_BYTES", 50)
    with pytest.raises(SnapshotError, match=r"bytes, more than 50"):
        read_logs(path, 0, "S", "binance spot")


def test_logs_are_read_in_order_from_the_snapshots_on(tmp_path: Path) -> None:
    path = tmp_path / "state"
    for number in (3, 4, 5, 7):
        log = DeliveryLog(path, "S", "binance spot")
        log.begin(number)
        log.write_bars(number, [encoded(bar(number))])
        log.close()
    (tmp_path / "state.log.08").write_bytes(b"nothing of ours")
    logged = read_logs(path, 4, "S", "binance spot")
    assert (list(logged.bars), logged.next_log) == ([4, 5], 6)  # log 7 belongs to none of these
    assert logs_of(path) == [3, 4, 5, 7]
    remove_logs(path, before=5)
    assert logs_of(path) == [5, 7]


@settings(max_examples=examples(50))
@given(st.lists(st.sampled_from(BARS), max_size=5), st.integers(0, 2**62))
def test_any_batch_of_bars_comes_back_under_its_numbers(batch: list[OHLCVBar], first: int) -> None:
    text = b'{"first":%d,"bars":[%s]}' % (first, b",".join(map(encoded, batch)))
    logged = delivery_log.Logged()
    delivery_log._take(orjson.loads(text), logged)
    assert list(logged.bars.items()) == list(enumerate(batch, first))


# A run that is killed, and the next one.

BINANCE = find_exchange("binance")


class Run:
    """A session with its state file, fed by hand; `kill` leaves everything as it is."""

    def __init__(self, path: Path, *, callbacks: Callbacks | None = None, bars: str = "1s", loops: bool = True) -> None:
        config = StreamConfig(bars=bars, state=path, grace=0.2)
        self.session = Session(BINANCE, config, callbacks, channel="trade")
        self.issued: list[OHLCVBar] = []
        self.is_fed = False
        self.keeper = SnapshotKeeper(self.session, str(path))
        self.loops = BarLoops(self.session.delivery, 10_000, lambda _: None) if loops else None
        self.loop: BarLoop | None = None
        self.keeper.reserve()
        self.keeper.start()

    def feed(self, *messages: bytes) -> list[OHLCVBar]:
        if not self.is_fed:  # as a connection says that all trades come from here on
            self.is_fed = True
            time_ns = orjson.loads(messages[0])["T"] * 1_000_000
            self.session.coverage.request(1, ["BTCUSDT"])
            self.session.coverage.confirm_by_trades(1, "BTCUSDT", time_ns)
        bars = self.session.receive(messages, START_MS * 1_000_000, 0).bars
        self.issued += bars
        return bars

    async def take(self, count: int) -> list[OHLCVBar]:
        assert self.loops is not None
        if self.loop is None:
            self.loop = self.loops.begin()
        return [await anext(self.loop) for _ in range(count)]

    async def left(self) -> list[OHLCVBar]:
        assert self.loops is not None
        self.loops.end()
        return [one async for one in (self.loop or self.loops.begin())]


class Moments:
    """Copies of the folder of a run: what a process that is killed then would leave."""

    def __init__(self, folder: Path, target: Path) -> None:
        self.folder = folder
        self._target = target
        self.taken: list[tuple[Path, int, int]] = []  # path of the state, bars issued and confirmed by then

    def take(self, issued: int = 0, confirmed: int = 0) -> Path:
        copy = self._target / str(len(self.taken))
        shutil.copytree(self.folder, copy, ignore=shutil.ignore_patterns("*.lock"))
        self.taken.append((copy / "state", issued, confirmed))
        return copy / "state"


@pytest.fixture
def moments(tmp_path: Path) -> Moments:
    (tmp_path / "run").mkdir()
    return Moments(tmp_path / "run", tmp_path / "killed")


def second(number: int, *, first_id: int | None = None) -> list[bytes]:
    """Two trades of one second."""
    trade_id = 2 * number + 1 if first_id is None else first_id
    return [trade(trade_id, number * 1000), trade(trade_id + 1, number * 1000 + 500)]


def keys(bars: Sequence[OHLCVBar]) -> list[tuple[int, str, int | None, int]]:
    """Second, status, trades and revision of each."""
    return [
        (round(one.open_time.timestamp() - START_MS / 1000), str(one.status), one.trade_count, one.revision)
        for one in bars
    ]


async def test_bars_that_waited_or_were_in_hand_are_delivered_again(moments: Moments) -> None:
    run = Run(moments.folder / "state")
    for number in range(5):
        run.feed(*second(number))
    assert keys(await run.take(3)) == [(0, "PARTIAL", 2, 0), (1, "COMPLETE", 2, 0), (2, "COMPLETE", 2, 0)]
    await asyncio.sleep(0)
    again = Run(moments.take())
    assert keys(await again.left()) == [(2, "COMPLETE", 2, 0), (3, "COMPLETE", 2, 0)]


async def test_after_a_snapshot_too_and_after_a_second_kill(moments: Moments) -> None:
    run = Run(moments.folder / "state")
    for number in range(3):
        run.feed(*second(number))
    await run.take(1)
    await run.keeper._save()
    run.feed(*second(3))
    await run.take(1)
    await asyncio.sleep(0)
    again = Run(moments.take())
    assert keys(await again.take(1)) == [(1, "COMPLETE", 2, 0)]
    await again.take(1)
    await asyncio.sleep(0)
    moments.folder = moments.taken[-1][0].parent
    third = Run(moments.take())
    assert keys(await third.left()) == [(2, "COMPLETE", 2, 0)]


async def test_a_stream_that_has_ended_leaves_its_snapshot_alone_and_what_it_did_not_deliver_in_it(
    moments: Moments,
) -> None:
    run = Run(moments.folder / "state")
    run.feed(*second(0), *second(1), *second(2))
    await run.take(1)
    await run.keeper.finish()
    run.keeper.release()
    assert sorted(os.listdir(moments.folder)) == ["state"]
    again = Run(moments.folder / "state")
    assert keys(await again.left()) == [(0, "PARTIAL", 2, 0), (1, "COMPLETE", 2, 0)]


async def test_what_is_confirmed_after_the_end_is_written_down_too(moments: Moments) -> None:
    run = Run(moments.folder / "state")
    run.feed(*second(0), *second(1), *second(2))
    await run.keeper.finish()
    run.keeper.release()
    assert len(await run.left()) == 2
    await run.keeper.save_confirmed()
    assert sorted(os.listdir(moments.folder)) == ["state"]
    again = Run(moments.folder / "state")
    assert keys(await again.left()) == []


async def test_without_trades_nothing_is_left(moments: Moments) -> None:
    run = Run(moments.folder / "state")
    assert logs_of(moments.folder / "state") == [0]
    await run.keeper.finish()
    run.keeper.release()
    assert os.listdir(moments.folder) == []


async def test_a_process_killed_before_its_first_snapshot_has_its_bars_delivered(moments: Moments) -> None:
    run = Run(moments.folder / "state")
    run.feed(*second(0), *second(1), *second(2))
    again = Run(moments.take())
    assert keys(await again.take(2)) == [(0, "PARTIAL", 2, 0), (1, "COMPLETE", 2, 0)]
    again.feed(*second(5), *second(6))
    # What it knows of the symbol is in the log: what followed was lost, and is not nobody's.
    assert keys(again.issued) == [(2, "GAP", 0, 0), (3, "GAP", 0, 0), (4, "GAP", 0, 0), (5, "GAP", 2, 0)]


async def test_a_killed_process_had_more_trades_than_the_next_one_and_its_bar_stands(moments: Moments) -> None:
    run = Run(moments.folder / "state")
    run.feed(*second(0), *second(1)[:1])
    await run.keeper._save()
    run.feed(*second(1)[1:], *second(2))
    assert keys(run.issued[-1:]) == [(1, "COMPLETE", 2, 0)]
    again = Run(moments.take())
    issued = again.feed(*second(3), *second(4))
    # What it makes of second 1 has one trade of two; second 2 was not issued before.
    assert [key for key in keys(issued) if key[0] == 1] == []
    assert all(status == "GAP" for opened, status, *_ in keys(issued) if opened < 3)
    assert keys(await again.left())[:2] == [(0, "PARTIAL", 2, 0), (1, "COMPLETE", 2, 0)]
    # REST has the other trade: the bar is whole here too, but it was before.
    trades = [Trade("trade", "BTCUSDT", START_MS * 10**6 + 1_500_000_000, "100", "1", 1, 4, 4)]
    healed = again.session.repairs.heal("BTCUSDT", trades)
    assert [key for key in keys(healed) if key[0] == 1] == []


async def test_a_bar_that_is_made_again_and_better_goes_on_with_its_revisions(moments: Moments) -> None:
    run = Run(moments.folder / "state")
    run.feed(*second(0), *second(1)[:1])
    await run.keeper._save()
    run.feed(trade(5, 2000))  # 4 is missing
    run.feed(trade(6, 2500))
    assert keys(run.issued[-1:]) == [(1, "GAP", 1, 0)]
    again = Run(moments.take())
    again.feed(trade(7, 2600), *second(3, first_id=8))
    times = {4: 1500, 5: 2000, 6: 2500}
    trades = [
        Trade("trade", "BTCUSDT", (START_MS + ms) * 1_000_000, "100", "1", 1, number, number)
        for number, ms in times.items()
    ]
    healed = again.session.repairs.heal("BTCUSDT", trades)
    assert keys(healed)[0] == (1, "HEALED", 2, 1)
    # And so does what a third process makes of it.
    await again.keeper._save()
    moments.folder = moments.taken[-1][0].parent
    third = Run(moments.take())
    seen = keys(await third.left())
    assert (1, "HEALED", 2, 1) in seen


async def test_where_a_log_was_removed_revisions_go_on_at_the_next_thousand(moments: Moments) -> None:
    run = Run(moments.folder / "state")
    run.feed(*second(0), *second(1)[:1])
    await run.keeper._save()
    path = moments.take()
    log_path(path, 1).unlink()
    again = Run(path)
    again.feed(*second(3))
    assert keys(again.issued) == [(1, "GAP", 1, 1000), (2, "GAP", 0, 1000)]
    # A stream that has ended in order needs no log.
    await run.keeper.finish()
    run.keeper.release()
    last = Run(moments.folder / "state")
    last.feed(*second(3))
    assert keys(last.issued) == [(1, "GAP", 1, 0), (2, "GAP", 0, 0)]


async def test_callbacks_are_given_what_they_have_not_confirmed_once_the_stream_begins(moments: Moments) -> None:
    seen: list[list[OHLCVBar]] = []
    taken: list[Path] = []

    def fail(bars: list[OHLCVBar]) -> None:
        seen.append(bars)
        if len(seen) == 2:
            taken.append(moments.take())  # killed within it
        raise ZeroDivisionError

    run = Run(moments.folder / "state", callbacks=Callbacks(on_bars=fail), loops=False)
    for number in range(4):
        run.feed(*second(number))
        await asyncio.sleep(0)
    assert [keys(bars) for bars in seen] == [[(n, "COMPLETE" if n else "PARTIAL", 2, 0)] for n in range(3)]
    assert run.session.stats.callback_errors == 3
    after, again = moments.take(), taken[0]
    seen.clear()
    Run(again, callbacks=Callbacks(on_bars=seen.append), loops=False)
    assert [keys(bars) for bars in seen] == [[(1, "COMPLETE", 2, 0)]]
    seen.clear()
    Run(after, callbacks=Callbacks(on_bars=seen.append), loops=False)
    assert seen == []


async def test_a_stream_that_is_made_and_not_entered_calls_no_callback(moments: Moments) -> None:
    run = Run(moments.folder / "state")
    run.feed(*second(0), *second(1))
    seen: list[OHLCVBar] = []
    path = moments.take()
    session = Session(BINANCE, StreamConfig(bars="1s", state=path), Callbacks(on_bar=seen.append), channel="trade")
    keeper = SnapshotKeeper(session, str(path))
    assert seen == []
    keeper.reserve()
    keeper.start()
    assert keys(seen) == [(0, "PARTIAL", 2, 0)]


async def test_at_whatever_step_a_process_is_killed_every_bar_is_delivered_and_no_revision_falls_back(
    moments: Moments, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every write, creation, renaming and removal of a file is a moment, just before it and just after.
    run: Run | None = None
    confirmed = 0
    is_copying = False

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal is_copying
            if is_copying or run is None:
                return function(*arguments, **options)
            results = []
            for after in (False, True):
                is_copying = True
                moments.take(len(run.issued), confirmed)
                is_copying = False
                if not after:
                    results.append(function(*arguments, **options))
            return results[0]

        return call

    for name in ("write", "open", "fsync"):
        monkeypatch.setattr(os, name, watched(getattr(os, name)))
    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, watched(getattr(Path, name)))
    run = Run(moments.folder / "state")
    for number in range(8):
        run.feed(*second(number)[:1])
        if number % 3 == 1:
            await run.keeper._save()
        run.feed(*second(number)[1:])
        if number % 2:
            await run.take(1)
            await asyncio.sleep(0)
            confirmed = run.session.delivery.positions["loops"]
    await run.keeper.finish()
    monkeypatch.undo()
    assert len(moments.taken) > 60
    issued = run.issued
    for path, delivered, position in moments.taken:
        again = Run(path)
        redelivered = await again.left()
        # A bar that was being written when the process was killed may be there already; nobody had it.
        was_written = redelivered and keys(redelivered[-1:]) == keys(issued[delivered : delivered + 1])
        end = delivered + 1 if was_written else delivered
        assert keys(redelivered) == keys(issued[end - len(redelivered) : end]), path
        assert len(redelivered) >= delivered - position - 1, path  # the last one's confirmation was being written
        last = {one.open_time: one for one in issued[:end]}
        for one in again.feed(*second(9), *second(10)):
            before = last.get(one.open_time)
            assert before is None or (
                one.revision > before.revision and STATUSES.index(one.status) <= STATUSES.index(before.status)
            ), path
        if end:  # or nobody has heard of the symbol
            assert {key[0] for key in keys([*issued[:end], *again.issued])} == set(range(10)), path


async def test_a_disk_that_is_full_stops_no_bar_and_leaves_a_log_that_can_be_read(
    moments: Moments, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(moments.folder / "state")
    run.feed(*second(0), *second(1))
    write = os.write

    def half(descriptor: int, data: bytes) -> int:
        if len(data) < 10:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[: len(data) - 5])

    monkeypatch.setattr(os, "write", half)
    run.feed(*second(2))
    monkeypatch.undo()
    run.feed(*second(3))
    assert keys(await run.left()) == [(n, "COMPLETE" if n else "PARTIAL", 2, 0) for n in range(3)]
    again = Run(moments.take())
    assert [key[0] for key in keys(await again.left())] == [0, 2]  # second 1 could not be written


async def test_a_snapshot_that_cannot_be_written_leaves_both_logs(
    moments: Moments, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(moments.folder / "state")
    run.feed(*second(0), *second(1))

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshots, "write", fail)
    await run.keeper._save()
    monkeypatch.undo()
    run.feed(*second(2))
    assert logs_of(moments.folder / "state") == [0, 1]
    again = Run(moments.take())
    assert [key[0] for key in keys(await again.left())] == [0, 1]
    await run.keeper._save()
    assert logs_of(moments.folder / "state") == [2]


async def test_a_log_that_is_refused_is_set_aside_and_the_snapshot_stays(moments: Moments) -> None:
    run = Run(moments.folder / "state")
    run.feed(*second(0), *second(1))
    await run.keeper._save()
    path = moments.take()
    log_path(path, 1).write_bytes(b"something else")
    with pytest.raises(SnapshotError, match=r"state\.log\.1: delivery log refused: it is not .* were renamed"):
        Run(path)
    left = sorted(name.partition(".refused-")[0] for name in os.listdir(path.parent))
    assert left == ["state", "state.log.1"]
    again = Run(path)
    assert keys(await again.left()) == [(0, "PARTIAL", 2, 0)]


async def test_a_snapshot_that_is_refused_takes_its_logs_along(moments: Moments) -> None:
    run = Run(moments.folder / "state")
    run.feed(*second(0), *second(1))
    await run.keeper._save()
    run.feed(*second(2))
    path = moments.take()
    with pytest.raises(SnapshotError, match="spec"):
        Run(path, bars="1m")
    assert all(".refused-" in name for name in os.listdir(path.parent))
    assert keys(Run(path, bars="1m").feed(*second(0))) == []


@pytest.mark.parametrize("version", [1, 2, 3])
async def test_what_earlier_versions_left_is_set_aside_with_a_word(version: int, tmp_path: Path) -> None:
    path = tmp_path / "state"
    for name in ("state", "state.1", "state.2"):
        (tmp_path / name).write_bytes(b"fastbars snapshot %d\n" % version + bytes(100))
    (tmp_path / "state.3").write_bytes(b"the user's own")
    with pytest.raises(SnapshotError, match=r"state\.2: .* further connection"):
        Run(path)
    with pytest.raises(SnapshotError, match=f"it is of version {version}, this fastbars reads version 4 only"):
        Run(path)
    left = sorted(name.partition(".refused-")[0] for name in os.listdir(tmp_path) if ".refused-" not in name)
    assert left == ["state.3"]
    Run(path).keeper.release()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("delivery", 5), ("delivery", {}), ("delivery", {"stream": "x" * 99}), ("waiting", None), ("waiting", b"{"),
        ("waiting", b"[[5,[]]]"), ("waiting", b"[[99999,[]]]"), ("earlier", b"[[2,[]]]"), ("earlier", b"5"),
    ],
)  # fmt: skip
async def test_what_a_snapshot_says_of_deliveries_is_checked(name: str, value: Any, moments: Moments) -> None:
    run = Run(moments.folder / "state")
    run.feed(*second(0), *second(1))
    await run.keeper._save()
    path = moments.take()
    content = snapshots.read(path)
    assert content is not None
    snapshots.write(path, snapshots.pieces_of({**content, name: value}))
    with pytest.raises(SnapshotError, match="snapshot refused"):
        Run(path)


async def test_a_long_log_and_a_new_symbol_bring_a_snapshot_before_its_time(
    moments: Moments, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(moments.folder / "state")
    run.session.config = replace(run.session.config, state_interval=1000.0)
    keeping = asyncio.create_task(run.keeper.run())
    await asyncio.sleep(1)
    assert not (moments.folder / "state").exists()
    run.feed(*second(0))
    await asyncio.sleep(1)
    assert logs_of(moments.folder / "state") == [1]
    run.feed(*second(1), *second(2))
    await asyncio.sleep(100)
    assert logs_of(moments.folder / "state") == [1]
    monkeypatch.setattr(restarts, "_LONG_LOG_BYTES", 700)
    await asyncio.sleep(1)
    assert logs_of(moments.folder / "state") == [2]
    keeping.cancel()
    await asyncio.wait([keeping])


async def test_where_nobody_takes_bars_none_is_kept(moments: Moments) -> None:
    run = Run(moments.folder / "state", loops=False)
    for number in range(20):
        run.feed(*second(number))
    delivery = run.session.delivery
    assert [number for number in range(20) if delivery.bar(number) is not None] == []


def test_copying_the_state_of_3000_symbols_and_six_specs_takes_little_time(tmp_path: Path) -> None:
    # 10 ms on an idle machine. The event loop waits for it, so the time of this thread is what counts.
    session = Session(
        BINANCE, StreamConfig(bars=["1s", "5s", "15s", "1m", "5m", "1h"], state=tmp_path / "state"), channel="trade"
    )
    for number in range(20):
        session.receive([trade(number + 1, number * 1000, symbol=f"S{n}USDT") for n in range(3000)], 0, 0)
    spent: list[float] = []
    content: dict[str, Any] | None = {}
    for _ in range(5):
        begun = time.thread_time()
        content = session.dump(content)
        session.delivery.dump(1)
        spent.append(time.thread_time() - begun)
    assert content is not None
    assert len(content["slots5"]) > 500_000
    assert min(spent[1:]) < 0.02


# Streams.


async def seconds_until(
    exchange: SimulatedExchange, state: Path, count: int, error: type[Exception] | None
) -> list[Any]:
    """Open times of a run's bars; it ends with the last of them in hand, by `break` or by an error."""
    seen: list[Any] = []
    config = StreamConfig(state=state, heal=False, backfill=0, grace=0.2)
    try:
        async with fastbars.stream("binance", exchange.symbols, "1s", url=exchange.url, config=config) as bars:
            async for one in bars:
                seen.append(one.open_time)
                if len(seen) == count:
                    if error is not None:
                        raise error
                    break
    except ZeroDivisionError:
        pass
    return seen


@pytest.mark.parametrize("error", [None, ZeroDivisionError])
async def test_leaving_a_stream_without_an_error_confirms_the_bar_in_hand(
    error: type[Exception] | None, tmp_path: Path
) -> None:
    async with SimulatedExchange("binance", symbols=1, rate=50) as exchange:
        first = await seconds_until(exchange, tmp_path / "state", 4, error)
        second = await seconds_until(exchange, tmp_path / "state", 2, None)
    step = timedelta(seconds=1)
    assert first == [first[0] + n * step for n in range(4)]
    assert second[0] == (first[-1] if error else first[-1] + step)
    assert os.listdir(tmp_path) == ["state"]


RUN = """
import asyncio, sys, fastbars
url, rest, state = sys.argv[1:]
async def main():
    config = fastbars.StreamConfig(state=state, state_interval=0.3, grace=0.2, rest_url=rest)
    async with fastbars.stream("binance", ["AUSDT"], "1s", config=config, url=url) as bars:
        async for bar in bars:
            print(round(bar.open_time.timestamp()), bar.revision, bar.status, flush=True)
            await asyncio.sleep(1.4)  # slower than the bars come
asyncio.run(main())
"""


@pytest.mark.real_clock
async def test_kill_9_loses_no_bar_of_a_consumer_that_is_behind(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    seen: list[tuple[int, int]] = []
    async with SimulatedExchange("binance", symbols=["AUSDT"], rate=100, record=True) as exchange:
        for pause in ("1.4", "0.01"):
            script.write_text(RUN.replace("1.4", pause))
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(script), exchange.url, exchange.rest_url, str(tmp_path / "state"),
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            assert process.stdout is not None
            for _ in range(3 if pause == "1.4" else 7):
                line = await asyncio.wait_for(process.stdout.readline(), 30)
                numbers = line.decode().split()[:2]
                seen.append((int(numbers[0]), int(numbers[1])))
            process.kill()
            await process.wait()
        traded = {one.time_ms // 1000 for one in exchange.record.trades("AUSDT")}
    opened_s = [opened for opened, _ in seen]
    assert [n for n in range(min(opened_s), max(opened_s) + 1) if n in traded and n not in opened_s] == []
    latest: dict[int, int] = {}
    for place, (opened, revision) in enumerate(seen):
        assert revision > latest.get(opened, -1) or (opened, revision) in seen[:place]
        latest[opened] = revision
