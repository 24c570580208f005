"""Recordings: what a run consumed comes back whole, and replays to the same bars, to the last byte."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

import fastbars
from examples import examples
from fastbars import OHLCVBar, StreamConfig, TickData, clocks
from fastbars.cli import main
from fastbars.cli.output import csv_line
from fastbars.errors import TapeError
from fastbars.exchanges import find_exchange
from fastbars.exchanges.messages import Trade
from fastbars.live.session import Session
from fastbars.simulator import Fault, FaultKind, Faults, SimulatedExchange
from fastbars.tapes import read_tape
from fastbars.tapes.entries import BLOCK_BYTES, MOST_WAITING_BYTES, Entries, SessionRecorder
from fastbars.tapes.recorder import Recording
from fastbars.tapes.recording import BLOCK_HEAD, MAGIC, NOTE, Entry, event_entry, read_recording
from servers import START_NS, TradeServer, trade, trades, until

pytest.importorskip("zstandard" if sys.version_info < (3, 14) else "compression.zstd")

CALM = StreamConfig(reconnect_delay=0.05, reconnect_max_delay=0.05, grace=0.1)


def csv(bars: Iterable[OHLCVBar]) -> list[str]:
    return [csv_line(bar) for bar in bars]


def session_of(recording: Recording, bars: str = "1m") -> Session:
    return Session(find_exchange("binance"), StreamConfig(bars=bars), channel="trade", record=recording.session)


def recorded(folder: Path, minutes: int = 5, **options: Any) -> list[str]:
    """A recorded session of some minutes, one block a wakeup; returns its bars."""
    recording = Recording(folder, **{"flush_s": 0.001} | options)
    session = session_of(recording)
    written_so_far(recording)  # what the session declares has a block, or a file, of its own
    bars = []
    for minute in range(minutes):
        payloads = trades(1 + 10 * minute, 10, minute * 60_000, 5_000)
        bars += session.receive(payloads, START_NS + minute, minute).bars
        written_so_far(recording)
    bars += session.flush(START_NS)
    recording.close()
    return csv(bars)


def written_so_far(recording: Recording) -> None:
    """Wait until nothing is waiting to be written: what comes next goes into another block."""
    deadline = time.monotonic() + 10
    while recording.stats.safe_bytes < recording.stats.raw_bytes and recording.failure is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)  # for the recorder's own thread


def the_file(folder: Path) -> Path:
    (path,) = folder.glob("*.fbr")
    return path


def read_until_error(*paths: Path) -> tuple[list[Entry], str]:
    entries: list[Entry] = []
    reading = read_recording(*paths)
    with pytest.raises(TapeError) as caught:  # noqa: PT012 what came before the error is wanted too
        while True:
            entries.append(next(reading))
    return entries, str(caught.value)


# Live, and again.


def has_at_least(bars: list[OHLCVBar], count: int) -> bool:
    return len(bars) >= count


def has_connected(stream: fastbars.BarStream, times: int) -> bool:
    return stream.stats().connections >= times


async def test_replaying_a_run_with_faults_gives_the_same_bytes(tmp_path: Path) -> None:
    live: list[OHLCVBar] = []
    faults = Faults()
    async with SimulatedExchange(symbols=12, rate=400.0, seed=3, faults=faults) as exchange:
        url, symbols = exchange.url, exchange.symbols
        stream = fastbars.stream(
            "binance", symbols, ["1s", "2s", "tick:70"], url=url, config=CALM, record=tmp_path, on_bars=live.extend
        )
        async with stream as bars:

            async def consume() -> None:
                async for _ in bars:
                    pass

            consumer = asyncio.create_task(consume())
            drops = 0
            while drops < 6 or not any(str(bar.status) == "GAP" for bar in live):
                if not drops % 2:  # each second time before anything came, so that the next attempt waits
                    await until(partial(has_at_least, live, 20 * drops + 60))
                exchange.abort_all()
                drops += 1
                await until(partial(has_connected, stream, drops + 1))
            before = stream.stats().session.trades
            await until(lambda: stream.stats().session.trades > before)
            # While messages come, it is mostly they that close bars; so nothing comes for a while.
            faults.inject(Fault(FaultKind.STALL, seconds=2.5))
            await until(lambda: {str(bar.close_reason) for bar in live} >= {"trade", "clock"})
            await until(lambda: any(bar.revision for bar in live))
            await bars.stop()
            await consumer
    assert {str(bar.status) for bar in live} >= {"COMPLETE", "GAP", "PARTIAL"}
    assert csv(fastbars.replay(tmp_path)) == csv(live)
    assert stream.recording is not None
    assert stream.recording.stats.messages == stream.stats().session.messages
    states = [entry.fields["state"] for entry in read_recording(tmp_path) if entry.fields.get("note") == "state"]
    assert states[:2] == ["connecting", "connected"]
    assert states.count("reconnecting") == drops


def has_healed_a_hole(bars: list[OHLCVBar]) -> bool:
    """The first bar of a symbol does not count: it is HEALED once REST has proven its beginning, with no trade more."""
    firsts: dict[str, datetime] = {}
    for bar in bars:
        firsts.setdefault(bar.symbol, bar.open_time)
    return any(str(bar.status) == "HEALED" and bar.open_time > firsts[bar.symbol] for bar in bars)


async def test_healed_bars_are_healed_again_without_the_exchange(tmp_path: Path) -> None:
    live: list[OHLCVBar] = []
    async with SimulatedExchange(symbols=3, rate=150.0, record=True) as exchange:
        config = StreamConfig(reconnect_delay=0.3, reconnect_max_delay=0.6, rest_url=exchange.rest_url, grace=0.2)
        stream = fastbars.stream(
            "binance", exchange.symbols, "1s", url=exchange.url, config=config, record=tmp_path, on_bars=live.extend
        )
        async with stream:
            drops = 0
            while not has_healed_a_hole(live):
                await until(partial(has_at_least, live, len(live) + 6))
                for _ in range(2):  # the second time before anything came, so that the next attempt waits
                    exchange.abort_all()
                    drops += 1
                    await until(partial(has_connected, stream, drops + 1))
            await until(lambda: stream.holes() == {})
    assert csv(fastbars.replay(tmp_path)) == csv(live)
    healed = [entry for entry in read_recording(tmp_path) if entry.fields.get("event") == "heal"]
    assert healed
    assert healed[0].body.startswith(b'[["trade","')


async def test_a_recorded_clock_closes_the_same_bars_at_the_same_places(tmp_path: Path) -> None:
    live: list[OHLCVBar] = []
    async with TradeServer() as server:
        stream = fastbars.stream(
            "binance", ["BTCUSDT", "ETHUSDT"], "1s", url=server.url, config=CALM, record=tmp_path, on_bars=live.extend
        )
        async with stream:
            now_ms = clocks.wall_ns() // 1_000_000
            await server.send(trade(1, 0, start_ms=now_ms), trade(1, 0, symbol="ETHUSDT", start_ms=now_ms), b"not json")
            await until(lambda: len(live) == 2)  # by the clock: no further message came
            await server.send(trade(2, 5_000, start_ms=now_ms))
            await until(lambda: len(live) == 3)
    assert [str(bar.close_reason) for bar in live] == ["clock", "clock", "clock"]
    assert [str(bar.status) for bar in live] == ["PARTIAL", "PARTIAL", "PROVISIONAL"]
    assert csv(fastbars.replay(tmp_path)) == csv(live)
    (clock,) = [entry for entry in read_recording(tmp_path) if entry.fields.get("event") == "clock"][:1]
    assert clock.fields["feed_up"] is True
    assert clock.fields["exchange_time_ns"] > now_ms * 1_000_000


Step = tuple[str, int, list[int]]


@st.composite
def steps(draw: st.DrawFn) -> list[Step]:
    """What happens to a session: its name, how much steady time passes before, and ids or times of it."""
    names = st.sampled_from(
        ("messages", "messages", "messages", "clock", "flush", "heal", "cover", "uncover", "lose", "bridge")
    )
    happened: list[Step] = []
    next_id = 1
    for _ in range(draw(st.integers(1, 25))):
        name = draw(names)
        ids: list[int] = []
        for _ in range(draw(st.integers(0, 6))):
            jump = draw(st.sampled_from((0, 0, 0, 0, 1, 3, -2, -5)))
            ids.append(max(1, next_id + jump))
            next_id = max(next_id, ids[-1] + 1)
        happened.append((name, draw(st.sampled_from((1, 5, 400, 3_000))) * 1_000_000, ids))
    return happened


def tell(session: Session, step: Step, steady_ns: int) -> list[OHLCVBar]:
    name, _, ids = step
    if name == "messages":
        payloads = [trade(n, 150 * n, str(100 + n % 5), symbol="ETHUSDT" if n % 3 == 0 else "BTCUSDT") for n in ids]
        return session.receive([*payloads, b"?"] if len(ids) == 2 else payloads, steady_ns, steady_ns).bars
    if name == "clock":
        return session.advance_clock(steady_ns, steady_ns, feed_up=len(ids) % 2 == 0)
    if name == "flush":
        return session.flush(steady_ns, "BTCUSDT" if ids else None)
    if name == "heal":
        healed = [Trade("trade", "BTCUSDT", START_NS + 150_000_000 * n, str(100 + n % 5), "1", 1, n, n) for n in ids]
        return session.repairs.heal("BTCUSDT", healed, steady_ns)
    if name == "lose":
        return session.changes.lose(["BTCUSDT"], START_NS + steady_ns, START_NS + steady_ns + len(ids), steady_ns)
    if name == "bridge":
        return session.changes.bridge(None, START_NS, START_NS + steady_ns, steady_ns)
    if name == "cover":
        return session.changes.cover(["BTCUSDT"] if ids else None, START_NS + steady_ns, steady_ns)
    return session.changes.uncover(["BTCUSDT"], START_NS + steady_ns, steady_ns, lost=bool(ids))


@given(steps(), st.sampled_from(("skip", "fill")), st.sampled_from((1, 2)))
@settings(max_examples=examples(150))
def test_whatever_a_session_consumes_replays_to_the_same_bytes(happened: list[Step], empty: Any, lines: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        recording = Recording(folder)
        config = StreamConfig(bars=["1s", "tick:4"], grace=0.2, lateness=3, empty=empty, lines=lines)
        session = Session(find_exchange("binance"), config, channel="trade", record=recording.session)
        bars, steady_ns = [], 0
        for step in happened:
            steady_ns += step[1]
            bars += tell(session, step, steady_ns)
        bars += session.flush(steady_ns)
        recording.close()
        assert csv(fastbars.replay(folder)) == csv(bars)


def test_other_bars_can_be_made_of_a_recording(tmp_path: Path) -> None:
    recorded(tmp_path)
    bars = list(fastbars.replay(tmp_path, bars="5m"))
    assert [(str(bar.spec), bar.trade_count, bar.last_trade_id) for bar in bars] == [("5m", 10, 10), ("5m", 40, 50)]


def test_two_sessions_and_their_lines_are_kept_apart(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    first, second = session_of(recording), session_of(recording)
    first.receive(trades(1, 3), START_NS, 1, line=0)
    second.receive(trades(7, 2), START_NS, 2, line=1)
    first.receive(trades(4, 1), START_NS, 3, line=1)
    recording.close()
    messages = [entry for entry in read_recording(tmp_path) if entry.payloads is not None]
    assert [(entry.session, entry.line, entry.steady_ns) for entry in messages] == [(1, 0, 1), (2, 1, 2), (1, 1, 3)]
    assert [(bar.first_trade_id, bar.last_trade_id) for bar in fastbars.replay(tmp_path)] == [(1, 4), (7, 8)]


def test_runs_that_share_a_folder_are_runs_of_their_own(tmp_path: Path) -> None:
    bars = recorded(tmp_path) + recorded(tmp_path, minutes=2)
    assert csv(fastbars.replay(tmp_path)) == bars
    assert len(list(tmp_path.glob("*.fbr"))) == 2


def test_files_are_rotated_by_size_and_by_age_and_each_can_be_read_alone(tmp_path: Path) -> None:
    bars = recorded(tmp_path / "size", file_bytes=1)
    assert len(list((tmp_path / "size").glob("*.fbr"))) >= 5
    assert csv(fastbars.replay(tmp_path / "size")) == bars
    recorded(tmp_path / "age", file_s=1e-9)
    files = sorted((tmp_path / "age").glob("*.fbr"))
    assert len(files) >= 5
    alone = list(fastbars.replay(files[4]))
    assert [(bar.first_trade_id, str(bar.status)) for bar in alone] == [(21, "PARTIAL")]


def test_a_recording_reads_as_a_tape(tmp_path: Path) -> None:
    recorded(tmp_path, minutes=2)
    expected = [(START_NS, payload) for payload in trades(1, 10, 0, 5_000)]
    expected += [(START_NS + 1, payload) for payload in trades(11, 10, 60_000, 5_000)]
    assert [tuple(record) for record in read_tape(tmp_path)] == expected
    assert [tuple(record) for record in read_tape(the_file(tmp_path))] == expected


@given(
    wakeups=st.lists(
        st.tuples(
            st.lists(st.binary(max_size=40), max_size=5),
            st.integers(-(2**63), 2**63 - 1),
            st.none() | st.integers(-(2**63) + 1, 2**63 - 1),
            st.integers(0, 2**16 - 1),
        ),
        max_size=8,
    )
)
@settings(max_examples=examples(40))
@example(wakeups=[([b""], 0, None, 0), ([], 0, 0, 1)])
def test_what_is_recorded_is_read_back(wakeups: list[tuple[list[bytes], int, int | None, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        recording = Recording(folder)
        recorder = recording.session({"exchange": "x"})
        for payloads, receive_time_ns, steady_ns, line in wakeups:
            recorder.messages(payloads, receive_time_ns, steady_ns, line)
            recorder.event("rest", receive_time_ns, {"line": line}, b"".join(payloads))
        recording.close()
        entries = list(read_recording(folder))
    messages = [
        (entry.payloads, entry.receive_time_ns, entry.steady_ns, entry.line)
        for entry in entries
        if entry.payloads is not None
    ]
    assert messages == wakeups
    events = [(entry.fields["line"], entry.body) for entry in entries if entry.fields.get("event") == "rest"]
    assert events == [(line, b"".join(payloads)) for payloads, _, _, line in wakeups]


# Broken files.


@given(
    st.lists(
        st.tuples(
            st.lists(st.binary(max_size=40), max_size=4),
            st.integers(-(2**63), 2**63 - 1),
            st.none() | st.integers(-(2**63) + 1, 2**63 - 1),
            st.integers(0, 2**16 - 1),
        ),
        max_size=5,
    ),
    st.integers(1, 2**16 - 1),
)
def test_the_bytes_of_a_wakeup_are_those_of_the_format(
    wakeups: list[tuple[list[bytes], int, int | None, int]], session: int
) -> None:
    woken: list[int] = []
    entries = Entries(lambda: woken.append(entries.size), bool)
    recorder = SessionRecorder(entries, session)
    expected = b""
    for payloads, receive_time_ns, steady_ns, line in wakeups:
        recorder.messages(payloads, receive_time_ns, steady_ns, line)
        body = struct.pack(f"<I{len(payloads)}I", len(payloads), *map(len, payloads)) + b"".join(payloads)
        steady = -(2**63) if steady_ns is None else steady_ns
        expected += struct.pack("<BxHHxxIqq", 1, session, line, len(body), receive_time_ns, steady) + body
        expected += event_entry(NOTE, session, receive_time_ns, {"note": "state", "a": 1})
        recorder.note("state", receive_time_ns, {"a": 1})
    assert (entries.size, entries.raw_bytes) == (len(expected), len(expected))
    assert entries.messages == sum(len(payloads) for payloads, *_ in wakeups)
    assert len(woken) == bool(wakeups)  # by the first entry only
    assert (entries.take(), entries.take(), entries.size) == (expected, b"", 0)


def test_the_writer_is_woken_by_the_first_entry_and_when_a_block_is_full() -> None:
    woken: list[int] = []
    entries = Entries(lambda: woken.append(entries.size), bool)
    for size in (10, 20, BLOCK_BYTES - 30, 5, BLOCK_BYTES):
        entries.add(bytes(size))
    assert woken == [10, BLOCK_BYTES]
    assert len(entries.take()) == 2 * BLOCK_BYTES + 5
    entries.add(b"x")
    assert (woken[2:], entries.take()) == ([1], b"x")
    with pytest.raises(OverflowError):
        SessionRecorder(entries, 2**16)
    with pytest.raises(TypeError):
        SessionRecorder(entries, 1).messages(["text"], 0, 0, 0)  # type: ignore[list-item]
    assert entries.size == 0


def test_a_session_waits_for_room_and_hands_over_nothing_once_the_recording_is_closed() -> None:
    taken: list[int] = []

    def wait() -> None:
        taken.append(len(entries.take()))
        if len(taken) == 2:
            entries.close()

    entries = Entries(bool, wait)
    recorder = SessionRecorder(entries, 1)
    for _ in range(2):
        entries.add(bytes(MOST_WAITING_BYTES))
        recorder.messages([b"later"], 0, 0, 0)
    assert (taken, entries.is_closed) == ([MOST_WAITING_BYTES, MOST_WAITING_BYTES + 28 + 4 + 4 + 5], True)
    entries.add(b"x")
    recorder.messages([b"y"], 0, 0, 0)
    assert (entries.take(), entries.messages) == (b"", 3)


def test_a_file_that_is_cut_anywhere_loses_at_most_its_last_block(tmp_path: Path) -> None:
    recorded(tmp_path)
    path = the_file(tmp_path)
    content = path.read_bytes()
    places = [len(MAGIC)]  # where blocks end
    while places[-1] < len(content):
        _, size, *_ = BLOCK_HEAD.unpack_from(content, places[-1])
        places.append(places[-1] + BLOCK_HEAD.size + size)
    assert len(places) >= 7
    entries = list(read_recording(path))
    whole_entries = {}
    for place in places:
        path.write_bytes(content[:place])
        whole_entries[place] = len(list(read_recording(path)))
    assert whole_entries[places[-1]] == len(entries)
    assert sorted(set(whole_entries.values())) == sorted(whole_entries.values())  # each block adds some
    for cut in range(places[-4], len(content)):  # every byte of the last three blocks
        path.write_bytes(content[:cut])
        kept = whole_entries[max(place for place in places if place <= cut)]
        assert list(read_recording(path)) == entries[:kept]
    for zeros in (1, BLOCK_HEAD.size, 5_000):  # a file system may leave zeros behind the last write
        path.write_bytes(content[: places[-2] + 3] + b"\0" * zeros if zeros == 1 else content + b"\0" * zeros)
        assert list(read_recording(path)) == entries[: whole_entries[places[-2]] if zeros == 1 else None]
    for cut in range(len(MAGIC)):
        path.write_bytes(content[:cut])
        if cut:
            assert list(read_recording(path)) == []


def test_damage_before_the_end_is_an_error_that_names_file_and_byte(tmp_path: Path) -> None:
    recorded(tmp_path)
    path = the_file(tmp_path)
    content = bytearray(path.read_bytes())
    _, size, *_ = BLOCK_HEAD.unpack_from(content, len(MAGIC))
    second = len(MAGIC) + BLOCK_HEAD.size + size
    entries = list(read_recording(path))
    for byte in range(second, second + BLOCK_HEAD.size + 20):
        damaged = bytearray(content)
        damaged[byte] ^= 0x55
        path.write_bytes(damaged)
        read, message = read_until_error(path)
        assert read == entries[: len(read)]
        assert len(read) == 1  # the note at the head of the file
        assert message == f"{path}, byte {second}: a block is damaged"


def test_a_run_that_goes_on_behind_a_cut_or_a_missing_file_is_an_error(tmp_path: Path) -> None:
    bars = recorded(tmp_path, file_bytes=1)
    files = sorted(tmp_path.glob("*.fbr"))
    content = files[3].read_bytes()
    files[3].write_bytes(content[:-1])
    _, message = read_until_error(tmp_path)
    assert message.startswith(f"{files[3]}: truncated after byte ")
    assert message.endswith(f"; but the run continues in {files[4]}")
    files[3].unlink()
    _, message = read_until_error(tmp_path)
    run = files[0].name.removesuffix("-000001.fbr")
    assert message == f"{files[4]}: file 4 of the run {run} is missing before it"
    before_the_fault: list[OHLCVBar] = []
    with pytest.raises(TapeError):
        before_the_fault.extend(fastbars.replay(tmp_path))
    assert csv(before_the_fault) == csv(fastbars.replay(files[:3]))
    assert csv(before_the_fault)[:1] == bars[:1] or len(before_the_fault) == 1


def test_what_is_no_recording_is_told_so(tmp_path: Path) -> None:
    recorded(tmp_path / "a", minutes=1)
    path = the_file(tmp_path / "a")
    content = path.read_bytes()
    path.write_bytes(MAGIC[:-1] + b"\x09" + content[len(MAGIC) :])
    assert read_until_error(path)[1] == f"{path}: a recording of version 9; this fastbars reads 1"
    path.write_bytes(b"")
    assert read_until_error(path)[1] == f"{path}: the recording is empty"
    path.write_bytes(b"something else")
    assert read_until_error(path)[1] == f"{path}: not a recording"
    path.unlink()
    assert read_until_error(tmp_path / "a")[1] == f"{tmp_path / 'a'}: the folder holds no recording (*.fbr)"
    assert read_until_error(path)[1] == f"{path}: cannot be read: No such file or directory"


def test_a_recording_that_this_version_cannot_replay_says_why(tmp_path: Path) -> None:
    def failure_of(name: str, declaration: dict[str, Any], event: str | None = None) -> str:
        recording = Recording(tmp_path / name)
        recorder = recording.session({"channel": "trade", "own_parser": False, "config": {}, **declaration})
        if event is not None:
            recorder.event(event, 0, {})
        recording.close()
        with pytest.raises(TapeError) as caught:
            list(fastbars.replay(tmp_path / name))
        return str(caught.value)

    assert "has messages of 'mtgox spot', an exchange that this" in failure_of("a", {"exchange": "mtgox spot"})
    spot: dict[str, Any] = {"exchange": "binance spot"}
    assert "unexpected keyword argument 'telepathy'" in failure_of("b", {**spot, "config": {"telepathy": 1}})
    assert "has an input 'oracle', which this fastbars does not know" in failure_of("c", spot, "oracle")
    assert failure_of("d", {**spot, "own_parser": True}).endswith("give parse_message=")


def test_a_parser_of_the_users_is_given_to_the_replay_too(tmp_path: Path) -> None:
    def parse(message: dict[str, Any]) -> TickData | None:
        return TickData("X", message["T"] * 1_000_000, message["p"], "1")

    recording = Recording(tmp_path)
    session = Session(find_exchange("binance"), StreamConfig(), parse_message=parse, record=recording.session)
    bars = session.receive([b'{"T":1,"p":"2"}', b'{"T":60001,"p":"3"}'], 0, 0).bars + session.flush(0)
    recording.close()
    assert len(bars) == 2
    assert csv(fastbars.replay(tmp_path, parse_message=parse)) == csv(bars)


def test_secrets_are_not_recorded(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    config = StreamConfig(connect_options={"additional_headers": {"Authorization": "hunter2"}})
    Session(find_exchange("binance"), config, channel="trade", record=recording.session)
    recording.close()
    (declaration,) = [entry.fields for entry in read_recording(tmp_path) if entry.fields.get("event") == "session"]
    assert "hunter2" not in str(declaration)
    assert declaration["config"]["bars"] == ["1m"]
    assert declaration["config"]["heartbeat_timeout"] == 60.0


# Crashes and full disks.

RECORDER = """
import sys, time
from fastbars import StreamConfig
from fastbars.exchanges import find_exchange
from fastbars.exchanges.messages import Trade
from fastbars.live.session import Session
from fastbars.tapes.recorder import Recording
sys.path.insert(0, {tests!r})
from servers import trades
{before}
recording = Recording({folder!r}, flush_s=0.01)
session = Session(find_exchange("binance"), StreamConfig(), channel="trade", record=recording.session)
bars = 0
for minute in range(100_000):
    bars += len(session.receive(trades(1 + 10 * minute, 10, minute * 60_000, 5_000), minute, minute).bars)
    if recording.stats.blocks and not minute % 100:
        print(minute, bars, recording.failure, flush=True)
    {after}
    time.sleep(0.0002)
"""


def recorder_process(folder: Path, before: str = "", after: str = "") -> subprocess.Popen[str]:
    source = RECORDER.format(tests=str(Path(__file__).parent), folder=str(folder), before=before, after=after)
    return subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_killed_run_can_be_replayed_up_to_its_last_block(tmp_path: Path) -> None:
    with recorder_process(tmp_path) as process:
        assert process.stdout is not None
        for _ in range(5):
            minute, issued, failure = process.stdout.readline().split()
        os.kill(process.pid, signal.SIGKILL)
    assert failure == "None"
    assert int(issued) == int(minute)
    bars = list(fastbars.replay(tmp_path))
    assert len(bars) > 10
    assert [bar.first_trade_id for bar in bars] == [1 + 10 * number for number in range(len(bars))]
    assert {str(bar.status) for bar in bars[1:-1]} == {"COMPLETE"}
    assert str(bars[-1].status) == "PARTIAL"


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size can be set")
def test_a_full_disk_ends_the_recording_and_not_the_run(tmp_path: Path) -> None:
    # Only once something stands in the file: on a busy machine the first block alone may be as large as this.
    full = "if recording.stats.blocks > 1: resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000))"
    stop = "if recording.failure is not None: print(recording.failure); sys.exit(0)"
    with recorder_process(tmp_path, "import resource", f"{full}\n    {stop}") as process:
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert err.count("recording_failed") == 1
    assert "File too large" in out.splitlines()[-1]
    assert len(list(fastbars.replay(tmp_path))) > 1


def test_bad_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="file_bytes must be positive, got 0"):
        Recording(tmp_path, file_bytes=0)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileExistsError):
        Recording(tmp_path / "file")


# The commands.


async def record_tape_server(folder: Path, *options: str) -> tuple[int, str]:
    messages = [*trades(1, 5, 0, 1_000), *trades(6, 5, 60_000, 1_000), trade(11, 120_000)]
    async with TradeServer() as server:
        command = ["record", "binance", "BTCUSDT", "--url", server.url, "-o", str(folder), "--once", *options]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fastbars", *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        await until(lambda: server.requests)
        await server.send(*messages)
        if "--seconds" not in options:
            await server.close(1000)
        out, err = await process.communicate()
        assert err == b""
        assert process.returncode is not None
        return process.returncode, out.decode()


@pytest.mark.real_clock
async def test_the_record_command_writes_what_the_replay_command_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    status, out = await record_tape_server(folder)
    assert status == 0
    assert out == f"12 messages in 1 files, 0.0 MB: {folder}\n"  # 11 trades and the acknowledgement
    assert main(["replay", str(folder), "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[15:22] for line in lines[1:]] == [
        ["1", "5", "PARTIAL", "0", "trade", "", "0"],
        ["6", "10", "COMPLETE", "0", "trade", "0", "0"],
        ["11", "11", "PARTIAL", "0", "end", "", "0"],
    ]


@pytest.mark.real_clock
async def test_the_record_command_records_candles_for_the_verify_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with SimulatedExchange(symbols=2, rate=200.0) as exchange:
        command = ["record", "binance", *exchange.symbols, "--url", exchange.url, "-o", str(tmp_path), "--bars", "1s"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fastbars", *command, "--candles", "--lines", "2", "--seconds", "4.5",
            stdout=subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
    assert process.returncode == 0
    assert out.decode().endswith(f": {tmp_path}\n")
    assert main(["verify", str(tmp_path)]) == 0
    assert "         0 do not\n" in capsys.readouterr().out


@pytest.mark.real_clock
async def test_the_record_command_ends_after_its_seconds(tmp_path: Path) -> None:
    status, out = await record_tape_server(tmp_path, "--seconds", "4")
    assert (status, out.split(" in ")[0]) == (0, "12 messages")


@pytest.mark.real_clock
async def test_the_stream_command_records(tmp_path: Path) -> None:
    async with TradeServer() as server:
        command = ["stream", "binance", "BTCUSDT", "--url", server.url, "--once", "--format", "csv"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fastbars", *command, "--record", str(tmp_path), stdout=subprocess.PIPE
        )
        await until(lambda: server.requests)
        await server.send(*trades(1, 30, 0, 10_000))
        await server.close(1000)
        out, _ = await process.communicate()
    assert out.decode().splitlines()[1:] == csv(fastbars.replay(tmp_path))
    assert out.count(b"\n") == 6


def test_a_plain_tape_needs_an_exchange_and_does_not_mix_with_recordings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tape = tmp_path / "tape"
    tape.write_bytes(b"1 %b\n" % trade(1, 0))
    recorded(tmp_path / "run", minutes=1)
    assert main(["replay", str(tape)]) == 2
    assert "a plain tape does not name its exchange" in capsys.readouterr().err
    assert main(["replay", str(tape), str(tmp_path / "run")]) == 2
    assert f"{tape} is no recording, {tmp_path / 'run'} is one" in capsys.readouterr().err


# Runs beside each other.


def runs_of(entries: Iterable[Entry]) -> list[str]:
    return list(dict.fromkeys(entry.run for entry in entries if entry.run))


@pytest.mark.parametrize("content", [b"", MAGIC[:5], MAGIC, MAGIC + b"FBLK\x05"])
def test_a_file_that_was_cut_does_not_hide_the_runs_behind_it(content: bytes, tmp_path: Path) -> None:
    runs = []
    for _ in range(2):
        recording = Recording(tmp_path)
        recording.close()
        runs.append(recording.run)
    (tmp_path / "00000000T000000.000000Z-0000-000001.fbr").write_bytes(content)
    (tmp_path / f"{runs[0]}-000002.fbr").write_bytes(content)
    assert runs_of(read_recording(tmp_path)) == runs


def test_a_run_that_is_damaged_does_not_hide_the_runs_behind_it(tmp_path: Path) -> None:
    runs = []
    for _ in range(3):
        recording = Recording(tmp_path)
        recording.close()
        runs.append(recording.run)
    damaged = tmp_path / f"{runs[0]}-000001.fbr"
    content = bytearray(damaged.read_bytes())
    content[len(MAGIC) + 30] ^= 0x55
    damaged.write_bytes(content)
    seen: list[Entry] = []
    with pytest.raises(TapeError, match="a block is damaged"):
        seen.extend(read_recording(tmp_path))
    found: list[str] = []
    with pytest.raises(TapeError, match=f"{runs[0]}-000001.fbr, byte {len(MAGIC)}: a block is damaged"):  # noqa: PT012
        for entry in read_recording(tmp_path):
            found.append(entry.run)
    assert list(dict.fromkeys(found)) == runs[1:]


async def test_streams_that_share_a_recording_are_both_recorded_and_the_last_one_ends_it(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    async with SimulatedExchange("binance", symbols=["AUSDT", "BUSDT"], rate=200) as exchange:
        config = StreamConfig(heal=False, backfill=0, grace=0.2)
        streams = [
            fastbars.stream("binance", [symbol], "1s", url=exchange.url, config=config, record=recording)
            for symbol in exchange.symbols
        ]
        async with streams[0], streams[1]:
            await anext(streams[0])
            await streams[0].stop()
            for _ in range(2):
                bar = await anext(streams[1])
    assert bar.symbol == "BUSDT"
    with pytest.raises(TapeError, match=r"the recording of run .* has ended"):
        fastbars.stream("binance", ["AUSDT"], record=recording)
    entries = list(read_recording(tmp_path))
    assert entries[-1].fields == {"note": "end"}
    last = max(entry.receive_time_ns for entry in entries if entry.payloads and entry.session == 2)
    assert last > max(entry.receive_time_ns for entry in entries if entry.payloads and entry.session == 1)
    assert {bar.symbol for bar in fastbars.replay(tmp_path)} == {"AUSDT", "BUSDT"}
