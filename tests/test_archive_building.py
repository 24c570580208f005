"""Files to bars: whatever the cut into files, the workers, the interruptions: what `aggregate` makes of the whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import fastbars
from examples import examples
from fastbars.archives.building import build
from fastbars.columnar.lines import line_maker
from fastbars.errors import FastbarsError, TapeError

START_MS = 1_735_689_600_000  # 2025-01-01
DAY_MS = 86_400_000
MINUTE_MS = 60_000

Trade = tuple[int, int, int, int, bool]  # id, ms, price in cents, size in thousandths, the buyer was the maker


def line_of(trade: Trade) -> str:
    trade_id, ms, price, size, maker = trade
    return (
        f"{trade_id},{price // 100}.{price % 100:02d}000000,{size // 1000}.{size % 1000:03d}00000,0,{ms}000,"
        f"{maker},True\n"
    )


def write(folder: Path, name: str, trades: list[Trade]) -> Path:
    path = folder / name
    path.write_text("".join(map(line_of, trades)))
    return path


def expected(trades: list[Trade], bars: Any, *, ids: bool = True) -> list[str]:
    """The lines that `aggregate` makes of trades in order of time and id, each once."""
    columns = [np.array(column) for column in zip(*trades, strict=True)]
    made = fastbars.aggregate(
        columns[1] * 1_000_000, columns[2], columns[3], price_scale=2, size_scale=3, symbol="BTCUSDT",
        side=np.where(columns[4], -1, 1).astype(np.int8), trade_id=columns[0] if ids else None, bars=bars,
        exchange="binance", market="spot",
    )  # fmt: skip
    maker = line_maker("csv")
    assert maker is not None
    rows = made.rows.copy()
    kept = {}
    for place, key in enumerate(rows[["spec", "open_time"]].tolist()):
        kept[key] = rows[place].copy()  # the last revision, in the place of the first
    last = np.array(list(kept.values()), rows.dtype)
    last["revision"] = 0
    return list(maker.make(last, made.instruments, tuple(map(str, made.specs)), made.ids))


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()[1:]


@st.composite
def series(draw: st.DrawFn) -> list[Trade]:
    """Trades with ids that rise: holes, void ids, silence over borders, several at one time."""
    trades: list[Trade] = []
    trade_id, ms = draw(st.sampled_from([0, 1, 1000])), START_MS + draw(st.sampled_from([0, 30_000, 59_999]))
    for _ in range(draw(st.integers(1, 40))):
        price, size = draw(st.integers(1, 10**6)), draw(st.sampled_from([0, 1, 250, 10**6]))
        trades.append((trade_id, ms, price, size, draw(st.booleans())))
        trade_id += 1 + draw(st.sampled_from([0, 0, 0, 0, 1, 3]))
        ms += draw(st.sampled_from([0, 0, 1, 5_000, 59_000, 61_000, 400_000]))
    return trades


@given(st.data(), series())
@settings(max_examples=examples(40), deadline=None)
def test_any_cut_into_files_gives_the_bars_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, trades: list[Trade]
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    cuts = sorted(data.draw(st.sets(st.integers(1, max(len(trades) - 1, 1)), max_size=4)))
    bounds = [0, *[cut for cut in cuts if cut < len(trades)], len(trades)]
    names = [f"BTCUSDT-trades-2025-01-{day:02d}.csv" for day in range(1, len(bounds))]
    files = [
        write(folder, name, trades[start:stop])
        for name, start, stop in zip(names, bounds[:-1], bounds[1:], strict=True)
    ]
    specs = data.draw(st.sampled_from(["1m", ["1m", "5m"], ["1s", "1d", "1m"], ["1m", "tick:7"]]))
    build(data.draw(st.permutations(files)), specs, folder / "bars.csv")
    assert lines(folder / "bars.csv") == expected(trades, specs)


def steady(count: int, *, first_id: int = 1, start_ms: int = START_MS, step_ms: int = 700) -> list[Trade]:
    return [
        (first_id + n, start_ms + n * step_ms, 10_000 + n * 7919 % 500, 1 + n % 97, n % 3 == 0) for n in range(count)
    ]


def days(folder: Path, trades: list[Trade], *, symbol: str = "BTCUSDT") -> list[Path]:
    """A file for each day."""
    files = []
    for day in sorted({(ms - START_MS) // DAY_MS for _, ms, *_ in trades}):
        chosen = [trade for trade in trades if (trade[1] - START_MS) // DAY_MS == day]
        files.append(write(folder, f"{symbol}-trades-2025-01-{day + 1:02d}.csv", chosen))
    return files


def test_days_beside_their_month_count_once_and_fill_its_holes(tmp_path: Path) -> None:
    trades = steady(3_000, step_ms=90_000)
    month = [trade for trade in trades if not 100 <= trade[0] < 130]
    files = [write(tmp_path, "BTCUSDT-trades-2025-01.csv", month), *days(tmp_path, trades[:2_500])]
    report = build(files, ["1m", "1d"], tmp_path / "bars.csv")
    assert lines(tmp_path / "bars.csv") == expected(trades, ["1m", "1d"])
    assert (report.trades, report.duplicates) == (3_000, 0)


def test_a_day_that_is_absent_is_a_gap_where_ids_tell_and_limits_bars_where_they_do_not(tmp_path: Path) -> None:
    trades = steady(4_000, step_ms=60_000)
    files = days(tmp_path, trades)
    del files[1]
    build(files, "1h", tmp_path / "bars.csv")
    there = [trade for trade in trades if (trade[1] - START_MS) // DAY_MS != 1]
    assert lines(tmp_path / "bars.csv") == expected(there, "1h")
    assert sum(",GAP," in line for line in lines(tmp_path / "bars.csv")) == 2
    build(files, "1h", tmp_path / "none.csv", ids="none")
    statuses = [line.split(",")[17] for line in lines(tmp_path / "none.csv")]
    assert [place for place, status in enumerate(statuses) if status == "PARTIAL"] == [0, 23, 24, len(statuses) - 1]
    assert set(statuses) == {"PARTIAL", "UNVERIFIABLE"}


def test_files_without_ids_go_on_from_one_another(tmp_path: Path) -> None:
    trades = steady(4_000, step_ms=60_000)
    build(days(tmp_path, trades), ["1h", "1w"], tmp_path / "bars.csv", ids="none")
    assert lines(tmp_path / "bars.csv") == expected(trades, ["1h", "1w"], ids=False)
    within = write(tmp_path, "BTCUSDT-trades-2025-01.csv", trades)
    build([within, *days(tmp_path, trades)], ["1h", "1w"], tmp_path / "bars.csv", ids="none")
    assert lines(tmp_path / "bars.csv") == expected(trades, ["1h", "1w"], ids=False)


def test_ids_that_begin_anew_prove_no_border(tmp_path: Path) -> None:
    first, second = steady(1_000, first_id=5_000), steady(1_000, start_ms=START_MS + DAY_MS)
    build(days(tmp_path, first + second), "1d", tmp_path / "bars.csv")
    assert [line.split(",")[17] for line in lines(tmp_path / "bars.csv")] == ["PARTIAL", "PARTIAL"]


def test_workers_make_the_same_bytes(tmp_path: Path) -> None:
    files = days(tmp_path, steady(6_000, step_ms=43_000))
    files += days(tmp_path, steady(6_000, step_ms=43_000, first_id=77), symbol="ETHUSDT")
    specs = ["1m", "1h", "1w"]
    alone = build(files, specs, tmp_path / "alone.parquet")
    with ThreadPoolExecutor(3) as pool:
        threads = build(files[::-1], specs, tmp_path / "threads.parquet", workers=pool)
    processes = build(files, specs, tmp_path / "processes.parquet", workers=2)
    contents = {(tmp_path / f"{name}.parquet").read_bytes() for name in ("alone", "threads", "processes")}
    assert len(contents) == 1
    assert alone == threads == processes
    assert fastbars.BarBatch.from_parquet(tmp_path / "alone.parquet").to_bars()[0].symbol == "BTCUSDT"


@pytest.mark.real_clock
def test_a_killed_build_goes_on_where_it_was(tmp_path: Path) -> None:
    files = days(tmp_path, steady(60_000, step_ms=7_000))
    program = (
        "import sys, os, signal; from pathlib import Path; from fastbars.archives import building\n"
        "done = 0\n"
        "def killed(progress):\n"
        "    if progress.files == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "building.build(sys.argv[2:], ['1m', '1d'], sys.argv[1], on_progress=killed)\n"
    )
    output = tmp_path / "bars.parquet"
    ended = subprocess.run([sys.executable, "-c", program, output, *files], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not output.exists()
    # What has changed meanwhile is read again.
    os.utime(files[0], ns=(0, 0))
    report = build(files, ["1m", "1d"], output)
    assert (report.resumed, report.files) == (1, 5)
    again = build(files, ["1m", "1d"], tmp_path / "again.parquet")
    assert (again.resumed, again.trades) == (0, report.trades)
    assert output.read_bytes() == (tmp_path / "again.parquet").read_bytes()
    assert not list(tmp_path.glob("*.parts"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1,0.5,1,0,1735689600000,True,True\n2,x,1,0,1735689600000,True,True\n", "line 2, column 2 (price): 'x'"),
        ("1,0.5,1,0,1735689600000,True,True\n2,0,1,0,1735689600000,True,True\n", "row 2: price 0"),
        ("1,0.5,1,0,1735689600000,True,True\n2,1,-1,0,1735689600000,True,True\n", "row 2: size -1"),
    ],
)
def test_a_malformed_row_is_named_and_the_output_stays(tmp_path: Path, content: str, message: str) -> None:
    output = tmp_path / "bars.csv"
    output.write_text("what was there")
    (tmp_path / "BTCUSDT-trades-2025-01-01.csv").write_text(content)
    with pytest.raises(TapeError) as error:
        build([tmp_path / "BTCUSDT-trades-2025-01-01.csv"], "1m", output)
    assert message in str(error.value)
    assert "BTCUSDT-trades-2025-01-01.csv" in str(error.value)
    assert output.read_text() == "what was there"


def test_files_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    (day,) = days(tmp_path, steady(10))
    aggregated = tmp_path / "BTCUSDT-aggTrades-2025-01-01.csv"
    aggregated.write_text("1,0.5,1,1,1,1735689600000,True,True\n")
    with pytest.raises(FastbarsError, match="count twice"):
        build([day, aggregated], "1m", tmp_path / "bars.csv")
    with pytest.raises(FastbarsError, match="given twice"):
        build([day, day], "1m", tmp_path / "bars.csv")
    day.with_name(f"{day.name}.CHECKSUM").write_text(f"{'0' * 64}  {day.name}\n")
    with pytest.raises(TapeError, match="download it again"):
        build([day], "1m", tmp_path / "bars.csv")


def test_void_rows_are_in_no_bar_and_sizes_of_zero_without_ids_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "BTCUSDT-trades-2025-01-01.csv").write_text(
        "1,0.5,1,0,1735689600000,True,True\n2,0,0,0,1735689600000,True,True\n3,0.5,1,0,1735689600000,True,True\n"
    )
    report = build([tmp_path / "BTCUSDT-trades-2025-01-01.csv"], "1m", tmp_path / "bars.csv")
    assert (report.trades, report.voids, report.dropped) == (3, 1, 0)
    report = build([tmp_path / "BTCUSDT-trades-2025-01-01.csv"], "1m", tmp_path / "bars.csv", ids="none")
    assert (report.trades, report.voids, report.dropped) == (3, 0, 1)
    assert len(lines(tmp_path / "bars.csv")) == 1
