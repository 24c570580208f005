"""Sinks: every bar is confirmed, whatever the sink does; one that cannot follow stops the reading."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fastbars
from fastbars import BarStatus, OHLCVBar
from fastbars.live.config import StreamConfig
from fastbars.live.delivery import Delivery
from fastbars.simulator import SimulatedExchange
from fastbars.sinks import Rows, SinkError, SinkRefused, SinkState, open_sink
from fastbars.sinks.rows import COLUMNS, KEY, bar_of, best_of, now
from fastbars.sinks.text import files_of
from fastbars.sinks.worker import BATCH_S, CONSUMER, SinkWorker, SinkWorkers
from fastbars.times import EPOCH
from sink_law import History


def bar(number: int, **others: Any) -> OHLCVBar:
    values: dict[str, Any] = {
        "exchange": "binance", "market": "spot", "symbol": "BTCUSDT", "spec": "1m",
        "open_time": EPOCH + timedelta(minutes=number), "close_time": EPOCH + timedelta(minutes=number + 1),
        "open": Decimal("1.50"), "high": Decimal(2), "low": Decimal(1), "close": Decimal("1.7"),
        "volume": Decimal("12345678901234567890123456789.123456789"), "trade_count": 3,
        "status": BarStatus.COMPLETE,
    }  # fmt: skip
    return OHLCVBar(**{**values, **others})


class Bars:
    """A delivery of bars, as a stream has one."""

    def __init__(self) -> None:
        self.issued: list[OHLCVBar] = []
        self.confirmed: dict[str, int] = {}
        self.on_issued: list[Any] = []

    @property
    def next_number(self) -> int:
        return len(self.issued)

    def add_consumer(self, name: str) -> int:
        return self.confirmed.setdefault(name, len(self.issued))

    def bar(self, number: int) -> OHLCVBar:
        return self.issued[number]

    def confirm(self, name: str, end: int) -> None:
        assert end >= self.confirmed[name]
        self.confirmed[name] = end

    def issue(self, *bars: OHLCVBar) -> None:
        self.issued += bars
        for notify in self.on_issued:
            notify()


class Store:
    """A sink that fails as it is told."""

    name = "store"

    def __init__(self) -> None:
        self.kept: list[OHLCVBar] = []
        self.unsafe: list[OHLCVBar] = []
        self.fails: dict[str, Exception] = {}
        self.calls: list[str] = []

    def _call(self, what: str) -> None:
        self.calls.append(what)
        if what in self.fails:
            raise self.fails[what]

    async def open(self) -> None:
        self._call("open")
        self.unsafe = []

    async def write(self, rows: Rows) -> None:
        self._call("write")
        self.unsafe += rows.bars

    async def flush(self) -> None:
        self._call("flush")
        self.kept += self.unsafe
        self.unsafe = []

    async def close(self) -> None:
        self.calls.append("close")


async def started(most: int = 1_000, **options: Any) -> tuple[Bars, Store, SinkWorker, list[bool]]:
    bars, store, paused = Bars(), Store(), list[bool]()
    worker = SinkWorker("main", store, "host-a", **options)
    worker.add(bars, paused.append, most)
    await worker.open()
    return bars, store, worker, paused


async def test_bars_are_gathered_written_and_confirmed() -> None:
    bars, store, worker, _ = await started()
    bars.issue(bar(0))
    bars.issue(bar(1), bar(2))
    assert bars.confirmed == {CONSUMER + "main": 0}
    await asyncio.sleep(2 * BATCH_S)
    assert (store.kept, bars.confirmed) == ([bar(0), bar(1), bar(2)], {CONSUMER + "main": 3})
    assert store.calls == ["open", "write", "flush"]
    bars.issue(bar(3))
    await worker.stop()
    assert store.kept[-1] == bar(3)
    assert store.calls[-1] == "close"
    stats = worker.stats()
    assert (stats.state, stats.confirmed, stats.waiting, stats.batches) == (SinkState.CLOSED, 4, 0, 2)


@pytest.mark.parametrize("what", ["open", "write", "flush"])
@pytest.mark.parametrize(
    "error", [SinkError("away"), SinkRefused("other table"), ZeroDivisionError("a fault of its own")]
)
async def test_what_fails_is_written_again_and_nothing_is_lost(what: str, error: Exception) -> None:
    bars, store, worker, _ = await started()
    store.fails = {"flush": SinkError("away"), what: error}
    bars.issue(*map(bar, range(5)))
    await asyncio.sleep(100)
    stats = worker.stats()
    assert (store.kept, bars.confirmed[CONSUMER + "main"], stats.waiting) == ([], 0, 5)
    assert stats.state in (SinkState.DOWN, SinkState.REFUSED)
    assert 3 < stats.failures < 20  # it waits longer and longer
    assert stats.lag_s > 90
    store.fails = {}
    await asyncio.sleep(60)
    assert store.kept == [*map(bar, range(5))]
    assert (worker.stats().state, worker.stats().error) == (SinkState.UP, "")
    await worker.stop()


async def test_a_sink_that_is_behind_stops_the_reading_until_half_is_written() -> None:
    bars, store, worker, paused = await started(most=10, batch_bars=3)
    store.fails = {"flush": SinkError("away")}
    bars.issue(*map(bar, range(9)))
    assert paused == []
    bars.issue(bar(9))
    assert paused == [True]
    assert worker.stats().paused
    bars.issue(bar(10))
    await asyncio.sleep(100)
    assert paused == [True]
    store.fails = {}
    await asyncio.sleep(100)
    assert paused == [True, False]
    assert store.kept == [*map(bar, range(11))]
    await worker.stop()


async def test_the_end_waits_for_a_sink_that_is_down_and_not_for_ever() -> None:
    bars, store, worker, _ = await started()
    store.fails = {"write": SinkError("away")}
    bars.issue(bar(0))
    await worker.stop(within_s=5.0)
    assert (bars.confirmed[CONSUMER + "main"], store.kept, worker.stats().waiting) == (0, [], 1)


async def test_one_that_can_take_nothing_is_refused_at_the_start() -> None:
    store, other = Store(), Store()
    store.fails = {"open": SinkRefused("wrong password")}
    workers = SinkWorkers({"a": other, "b": store}, "host-a")
    workers.join(Bars(), lambda *_: None, 10)
    with pytest.raises(SinkRefused, match="wrong password"):
        await workers.open()
    assert other.calls == ["open", "close"]


@pytest.mark.parametrize(
    ("sinks", "message"),
    [
        (["nosuch:x"], "is no URL of a sink"), (["x"], "is no URL of a sink"), (["jsonl:"], "names no file"),
        (["jsonl:a", "jsonl:a"], "two sinks are named"), (["jsonl:" + 999 * "a"], "at most 500"),
        ([f"jsonl:{n}" for n in range(51)], "51 sinks: at most 50"), (["nosuch://user:secret-word@h/x"], r"nosuch://.*\*\*\*|nosuch"),
    ],
)  # fmt: skip
def test_what_is_no_sink_is_refused(sinks: list[str], message: str) -> None:
    with pytest.raises(SinkRefused, match=message):
        SinkWorkers(sinks)


def test_a_row_gives_its_bar_back() -> None:
    bars = [
        bar(0), bar(1, first_trade_id=5, last_trade_id=9, missing_count=0, status=BarStatus.HEALED, revision=2),
        bar(2, symbol="币安人生USDT", open=None, high=None, low=None, close=None, trade_count=0, status=BarStatus.GAP),
        bar(3, spec="volume:5@1d", index=7), bar(3, spec="tick:5", first_trade_id=8),
        bar(4, status=BarStatus.REPORTED, quote_volume=None, trade_count=None, taker_buy_volume=None,
            taker_buy_quote_volume=None),
    ]  # fmt: skip
    rows = Rows(bars, "host-a", [now()] * len(bars))
    names = [column.name for column in COLUMNS]
    assert [bar_of(dict(zip(names, record, strict=True))) for record in rows.records] == bars
    for place, name in enumerate(names):
        assert rows.column(name) == [record[place] for record in rows.records]
    assert [rows.column(name) for name in KEY] == [list(values) for values in zip(*rows.keys(), strict=True)]
    assert len(set(rows.keys())) == len(bars)
    for column, values in zip(COLUMNS, zip(*rows.records, strict=True), strict=True):
        assert column.optional or None not in values, column.name


def test_the_best_row_of_each_bar() -> None:
    def records(source: str, *bars: OHLCVBar) -> list[dict[str, Any]]:
        rows = Rows(bars, source, [now()] * len(bars))
        return [dict(zip((column.name for column in COLUMNS), record, strict=True)) for record in rows.records]

    gap, whole = BarStatus.GAP, BarStatus.COMPLETE
    found = records(
        "a", bar(0, status=gap), bar(0, revision=1, status=BarStatus.HEALED), bar(1, status=gap, revision=3)
    )
    found += records("b", bar(0, status=gap, revision=7), bar(1, status=whole), bar(2, index=0, spec="tick:5@1d"))
    found += records("a", bar(2, index=0, spec="tick:5@1d", status=BarStatus.RETRACTED, revision=1))
    found += records("a", bar(3, status=whole, revision=1), bar(3, status=gap))  # revisions out of order
    for order in (found, found[::-1]):
        best = {record["open_time"]: (record["source"], record["status"]) for record in best_of(order)}
        assert best == {
            bar(0).open_time: ("a", "HEALED"), bar(1).open_time: ("b", "COMPLETE"),
            bar(2).open_time: ("b", "COMPLETE"), bar(3).open_time: ("a", "COMPLETE"),
        }  # fmt: skip


async def test_a_line_that_a_crash_has_cut_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "bars.jsonl"
    path.write_bytes(b'{"symbol": "BTC')
    sink = open_sink(f"jsonl:{path}")
    await sink.open()
    await sink.write(Rows([bar(0)], "host-a", [now()]))
    await sink.flush()
    await sink.close()
    cut, line = path.read_bytes().splitlines()
    assert cut == b'{"symbol": "BTC'
    assert bar_of({**orjson.loads(line), **{n: getattr(bar(0), n) for n in ("open_time", "close_time")}}) == bar(0)


def test_a_sink_that_is_taken_away_holds_nothing_up_and_begins_anew_when_it_is_back(tmp_path: Path) -> None:
    def started(content: dict[str, Any] | None, *sinks: str) -> tuple[Delivery, list[int]]:
        delivery = Delivery("binance", ("binance", "spot"), StreamConfig(bars=["1m"]))
        delivery.hold()
        delivery.load(content or {})
        numbers = [delivery.add_consumer(CONSUMER + name) for name in sinks]
        delivery.release()
        return delivery, numbers

    delivery, numbers = started(None, "a", "b")
    assert numbers == [0, 0]
    delivery.open_log(tmp_path / "state", 0)
    delivery.issue([bar(0), bar(1), bar(2)])
    delivery.confirm(CONSUMER + "a", 3)
    delivery.confirm(CONSUMER + "b", 1)
    delivery.close_log()
    delivery, numbers = started(delivery.dump(1)(), "a", "b")
    assert (numbers, delivery.bar(0), delivery.bar(1), delivery.bar(2)) == ([3, 1], None, bar(1), bar(2))
    delivery, numbers = started(delivery.dump(2)(), "a")
    assert (numbers, delivery.bar(1), delivery.bar(2)) == ([3], None, None)
    delivery, numbers = started(delivery.dump(3)(), "a", "b")
    assert numbers == [3, 3]


@pytest.mark.real_clock
async def test_a_stream_writes_each_bar_to_each_sink(tmp_path: Path) -> None:
    taken: list[OHLCVBar] = []
    async with SimulatedExchange("binance", symbols=5, rate=2_000, seed=1) as server:
        async with fastbars.stream(
            "binance", server.symbols, "1s", url=server.url, source="host-a",
            sinks={"file": f"jsonl:{tmp_path / 'bars.jsonl'}", "function": taken.extend},
        ) as bars:  # fmt: skip
            count = 0
            async for _ in bars:
                count += 1
                if count == 10:
                    break
        stats = bars.stats().sinks
    lines = [orjson.loads(line) for line in (tmp_path / "bars.jsonl").read_bytes().splitlines()]
    assert len(lines) == len(taken) == stats["file"].confirmed == stats["function"].confirmed >= 15
    assert [(line["symbol"], line["volume"]) for line in lines] == [(one.symbol, f"{one.volume:f}") for one in taken]
    assert {line["source"] for line in lines} == {"host-a"}


STORES = ("parquet:{}/bars", "jsonl:{}/bars.jsonl?rotate=1", "csv:{}/bars.csv?rotate=1", "duckdb:{}/bars.duckdb")


async def keep(url: str, *batches: Rows) -> None:
    sink = open_sink(url)
    await sink.open()
    for rows in batches:
        await sink.write(rows)
        await sink.flush()
    await sink.close()


def at(seconds: int) -> Any:
    return EPOCH + timedelta(days=20_000, seconds=seconds)


@pytest.mark.parametrize("form", STORES)
async def test_what_is_kept_is_read_back_each_bar_once_and_the_best(form: str, tmp_path: Path) -> None:
    url = form.format(tmp_path)
    gap = BarStatus.GAP
    tiny = Decimal("1e-18")
    wide = bar(0, symbol="币安人生USDT", volume=Decimal("1234567890123456789012345678901234.5678"), high=2 * tiny,
               open=tiny, low=tiny, close=tiny)  # fmt: skip
    anchored = [bar(n, spec="volume:5@1d", index=n) for n in range(3)]
    batches = [
        Rows([bar(0, status=gap), bar(1), wide, *anchored], "a", [at(0)] * 6),
        Rows([bar(0, revision=2, status=BarStatus.HEALED), bar(0, revision=1, status=gap)], "a", [at(60), at(50)]),
        Rows([bar(1, status=gap, revision=9), bar(2)], "b", [at(10)] * 2),
        Rows([bar(2, spec="volume:5@1d", index=2, status=BarStatus.RETRACTED, revision=1)], "a", [at(70)]),
        Rows([bar(1), bar(5, market="usdm")], "a", [at(0)] * 2),  # again, after a crash; and of another market
    ]
    await keep(url, *batches)
    best = [bar(0, revision=2, status=BarStatus.HEALED), bar(1), bar(2), *anchored[:2], bar(5, market="usdm"), wide]

    def order(one: OHLCVBar) -> Any:
        return one.market, one.symbol, one.spec, one.open_time

    found = fastbars.read(url)
    assert sorted(found, key=order) == sorted(best, key=order)
    assert [one.volume for one in found if one.symbol == wide.symbol] == [wide.volume]
    assert fastbars.read(url, ["BTCUSDT"], ["1m"], market="spot", since=bar(1).open_time, until=bar(2).open_time) == [
        bar(1)
    ]
    if form.startswith("duckdb"):
        return  # which keeps the highest revision of each source
    # What was known at a moment: no revision before it was there.
    known = {one.open_time: (one.revision, one.status) for one in fastbars.read(url, ["BTCUSDT"], ["1m"], as_of=at(55))}
    assert known[bar(0).open_time] == (1, gap)
    assert fastbars.read(url, as_of=at(-1)) == []
    assert len(fastbars.read(url, specs=["volume:5@1d"], as_of=at(69))) == 3


@pytest.mark.parametrize("form", STORES)
async def test_whatever_the_order_each_bar_is_there_once_and_the_best(form: str, tmp_path: Path) -> None:
    history, url = History(1, 150), form.format(tmp_path)
    await keep(url, *history.batches(), Rows([], "host-a", []))
    await keep(url)  # once more, over what is there
    best = [bar_of(record) for record in history.best()]
    assert sorted(fastbars.read(url), key=repr) == sorted(best, key=repr)


@pytest.mark.parametrize("scheme", ["csv", "jsonl"])
async def test_files_that_are_full_are_set_aside(scheme: str, tmp_path: Path) -> None:
    url = f"{scheme}:{tmp_path}/b.{scheme}?rotate=1"
    bars = [bar(n) for n in range(12_000)]
    await keep(url, *(Rows(bars[n : n + 1_000], "a", [at(0)] * 1_000) for n in range(0, 12_000, 1_000)))
    assert (tmp_path / f"b.{scheme}.2").stat().st_size > 1_000_000
    assert fastbars.read(url) == bars


@pytest.mark.parametrize("scheme", ["csv", "jsonl"])
async def test_each_day_has_a_file(scheme: str, tmp_path: Path) -> None:
    url, file = f"{scheme}:{tmp_path}/b.{scheme}?rotate=day", tmp_path / f"b.{scheme}"
    sink = open_sink(url)
    await sink.open()
    await keep_in_open(sink, bar(0))
    await keep_in_open(sink, bar(1))
    await sink.close()
    os.utime(file, (now().timestamp(), now().timestamp()))  # the file system's clock is another
    await asyncio.sleep(86_400)
    await sink.open()  # finds the file of the day before
    await keep_in_open(sink, bar(2))
    await asyncio.sleep(86_400)
    await keep_in_open(sink, bar(3))  # has it open
    await keep_in_open(sink, bar(4))
    await sink.close()
    assert [own.name for own in files_of(file)] == [f"b.{scheme}.1", f"b.{scheme}.2", f"b.{scheme}"]
    assert fastbars.read(url) == [bar(n) for n in range(5)]


async def keep_in_open(sink: Any, *bars: OHLCVBar) -> None:
    await sink.write(Rows(bars, "a", [now()] * len(bars)))
    await sink.flush()


async def test_a_csv_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SinkRefused, match="its first line is not the header of bars"):
        await open_sink(f"csv:{tmp_path}/b.csv").open()
    assert (tmp_path / "b.csv").read_text() == "a,b\n1,2\n"


async def test_a_duckdb_table_of_another_shape_is_refused(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "b.duckdb")) as connection:
        connection.execute("create table bars_by_source (a integer)")
    sink = open_sink(f"duckdb:{tmp_path}/b.duckdb")
    with pytest.raises(SinkRefused, match=r"other columns than those of bars|another shape"):
        await sink.open()
    await sink.close()
    with duckdb.connect(str(tmp_path / "b.duckdb")) as connection:
        assert connection.execute("select count(*) from bars_by_source").fetchone() == (0,)


async def test_the_view_of_duckdb_has_the_best_row_of_each_bar(tmp_path: Path) -> None:
    history = History(2, 60)
    await keep(f"duckdb:{tmp_path}/b.duckdb", *history.batches())
    with duckdb.connect(str(tmp_path / "b.duckdb"), read_only=True) as connection:
        found = connection.execute("select symbol, spec, begins, number, status, volume from bars").fetchall()
    best = [
        (
            one["symbol"],
            one["spec"],
            one["begins"].replace(tzinfo=None),
            one["number"],
            one["status"],
            f"{one['volume']:f}",
        )
        for one in history.best()
    ]
    assert sorted(found) == sorted(best)


async def test_many_files_become_one_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastbars.sinks.parquet.COMPACT_FILES", 5)
    url = f"parquet:{tmp_path}/bars?groups=1&batch=0.5"
    scales = [Decimal("1.5"), Decimal("1e-18"), Decimal("1e30"), Decimal("3")]
    bars = [bar(n, volume=scales[n % 4] + n) for n in range(12)]
    await keep(url, *(Rows([one], "a", [at(0)]) for one in bars), Rows([bars[0]], "b", [at(0)]))
    files = list((tmp_path / "bars").rglob("*.parquet"))
    assert len(files) == 5  # two times five in one each, two left, and one of the other source
    assert fastbars.read(url) == bars
    assert not list((tmp_path / "bars").rglob(".*"))


async def test_a_file_that_is_damaged_is_named_and_the_others_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"parquet:{tmp_path}/bars"
    await keep(url, Rows([bar(0)], "a", [at(0)]), Rows([bar(1)], "a", [at(0)]), Rows([bar(2)], "b", [at(0)]))
    cut, other = sorted((tmp_path / "bars").rglob("a-*.parquet"))
    cut.write_bytes(cut.read_bytes()[:-20])
    pq.write_table(pa.table({"symbol": ["BTCUSDT"]}), other)
    assert fastbars.read(url) == [bar(2)]
    assert cut.name in caplog.text
    assert other.name in caplog.text
    with pytest.raises(SinkError, match=cut.name):
        fastbars.read(url, strict=True)


async def test_sources_whose_names_begin_alike_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastbars.sinks.parquet.COMPACT_FILES", 3)
    url = f"parquet:{tmp_path}/bars?groups=1"
    others = ["host-2", "host-20261201", "host" * 60, "hôst/c:1"]
    await keep(url, *(Rows([bar(n)], source, [at(0)]) for n, source in enumerate(others)))
    left = {file.name for file in (tmp_path / "bars").rglob("*.parquet")}
    begun = next((tmp_path / "bars").rglob("host-2-*")).with_name(".host-20261201T120000000000-0123abcd.writing")
    begun.write_text("killed while it wrote")
    await keep(url, *(Rows([bar(n)], "host", [at(0)]) for n in range(4, 8)))
    assert left < {file.name for file in (tmp_path / "bars").rglob("*.parquet")}
    assert not begun.exists()
    assert fastbars.read(url) == [bar(n) for n in range(8)]


async def test_whoever_reads_while_files_are_written_anew_misses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastbars.sinks.parquet.COMPACT_FILES", 2)
    url, kept, missed = f"parquet:{tmp_path}/bars?groups=1", 1, list[tuple[int, int]]()
    await keep(url, Rows([bar(0)], "a", [at(0)]))

    async def read() -> None:
        while kept < 100:
            least = kept
            found = len(await asyncio.to_thread(fastbars.read, url))
            if found < least:
                missed.append((found, least))

    sink, reading = open_sink(url), asyncio.create_task(read())
    await sink.open()
    for number in range(1, 100):
        await sink.write(Rows([bar(number)], "a", [at(0)]))
        await sink.flush()
        kept += 1
    await reading
    assert missed == []


async def test_large_files_are_left_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastbars.sinks.parquet.COMPACT_FILES", 4)
    monkeypatch.setattr("fastbars.sinks.parquet.LARGE_ROWS", 10)
    url = f"parquet:{tmp_path}/bars?groups=1"
    for _ in range(2):  # the second time by a process that finds the files
        await keep(url, *(Rows([bar(n), bar(n + 1)], "a", [at(0)] * 2) for n in range(0, 80, 2)))
    files = list((tmp_path / "bars").rglob("*.parquet"))
    sizes = sorted(pq.read_metadata(file).num_rows for file in files)
    assert sum(sizes) == 160  # each twice
    assert len(sizes) < 22
    assert max(sizes) == 10
    assert fastbars.read(url) == [bar(n) for n in range(80)]


@pytest.mark.parametrize("url", ["parquet:", "parquet:x?groups=0", "parquet:x?batch=no", "parquet:x?nosuch=1"])
def test_options_of_a_folder_are_checked(url: str) -> None:
    with pytest.raises(SinkRefused):
        open_sink(url)


async def test_a_disk_that_is_full_is_a_sink_that_is_down() -> None:
    sink = open_sink("jsonl:/dev/full")
    await sink.open()
    with pytest.raises(SinkError, match="No space left"):
        await keep_open(sink)
    await sink.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not limit the size of files")
@pytest.mark.parametrize("form", STORES)
async def test_a_disk_that_was_full_has_every_bar_once_it_has_room(form: str, tmp_path: Path) -> None:
    import resource  # not on Windows

    url, (soft, hard) = form.partition("?")[0].format(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    bars = [bar(n) for n in range(600)]
    sink = open_sink(url)
    await sink.open()
    batches = [Rows(bars[n : n + 200], "a", [at(0)] * 200) for n in range(0, 600, 200)]
    await sink.write(batches[0])
    await sink.flush()
    limit = 2_000 if form.startswith("parquet") else largest_of(tmp_path) + 2_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        for _ in range(2):  # a worker opens it again, and gives it the same rows
            with pytest.raises(SinkError, match=sink.name):
                await keep_in(sink, batches[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await keep_in(sink, *batches[1:])
    await sink.close()
    assert fastbars.read(url) == bars


def largest_of(folder: Path) -> int:
    return max(file.stat().st_size for file in folder.rglob("*") if file.is_file())


async def keep_in(sink: Any, *batches: Rows) -> None:
    await sink.open()
    for rows in batches:
        await sink.write(rows)
        await sink.flush()


async def keep_open(sink: Any) -> None:
    await sink.write(Rows([bar(0)], "a", [at(0)]))
    await sink.flush()


async def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkRefused, match=r"file/bars"):
        await open_sink(f"parquet:{tmp_path}/file/bars").open()
