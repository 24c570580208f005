"""Archives to bars: files as Binance publishes them, against polars, DuckDB and zlib on the same files in the same run.

CPU time of one thread. The short form has fewer rows, so that what a build costs beside its rows counts for more; its
bounds are wider. `--full`: 5 M rows, and what a second worker brings.

Bounds are what was reached, and a margin. Aimed at: CSV 60 ns a row, 4 times as fast as polars (0.25) and 5 times as
DuckDB (0.2); zip 1.6 times what inflating alone takes, and 2.5 times as fast as zlib alone (0.4).
"""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from benchmarks.yardstick import HELD, Work, assert_ns, assert_ratio
from fastbars.archives import build
from fastbars.archives.opening import inflater

os.environ.setdefault("POLARS_MAX_THREADS", "1")
FULL_ROWS, ROWS = 5_000_000, 200_000
SYMBOLS = (("BTCUSDT", 0.6, 9_435_117, 2), ("ETHUSDT", 0.3, 334_211, 2), ("DOGEUSDT", 0.1, 31_542, 5))
ROUNDS = 3
START_US = 1_735_689_600_000_000
DAY_US = 86_400_000_000
# At most, by whether it is the long form.
CSV_NS = {True: 85.0, False: 140.0}
CSV_POLARS = {True: 0.42, False: 0.55}
CSV_DUCKDB = {True: 0.32, False: 0.45}
ZIP_INFLATE = {True: 2.4, False: 3.2}
ZIP_ZLIB = {True: 0.8, False: 1.1}
TWO_WORKERS = 1.8
COLUMNS = ("id", "price", "qty", "quote", "time", "maker", "best")


class Archives(NamedTuple):
    """Files of three symbols, and how many rows they have."""

    csvs: list[Path]
    zips: list[Path]
    rows: int

    def built(self, files: list[Path], workers: int = 1) -> Work:
        """Makes 1m bars of them."""
        return lambda: build(files, "1m", self.csvs[0].parent / "bars.csv", workers=workers)


@pytest.fixture(scope="module")
def is_full(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory, is_full: bool) -> Archives:
    folder = tmp_path_factory.mktemp("archives")
    rows = FULL_ROWS if is_full else ROWS
    csvs = [written(folder, place, int(rows * share)) for place, (_, share, _, _) in enumerate(SYMBOLS)]
    zips = []
    for path in csvs:
        zips.append(path.with_suffix(".zip"))
        with zipfile.ZipFile(zips[-1], "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(path, path.name)
    return Archives(csvs, zips, sum(int(rows * share) for _, share, _, _ in SYMBOLS))


def written(folder: Path, place: int, rows: int) -> Path:
    """A day of a symbol: id, price, qty, quoteQty, time, isBuyerMaker, isBestMatch; 8 decimals, as there."""
    symbol, _, first_price, decimals = SYMBOLS[place]
    draw = np.random.default_rng(place)
    times = np.sort(draw.integers(0, DAY_US, rows)) + START_US
    prices = first_price + np.cumsum(draw.integers(-3, 4, rows)) % 20_000
    sizes = np.minimum(np.exp(draw.normal(6.5, 2, rows)).astype(np.int64) + 1, 10**8)
    makers = draw.integers(0, 2, rows)
    unit, zeros = 10**decimals, "0" * (8 - decimals)
    path = folder / f"{symbol}-trades-2025-01-01.csv"
    with path.open("w") as file:
        for number, (price, size, moment, maker) in enumerate(
            zip(prices.tolist(), sizes.tolist(), times.tolist(), makers.tolist(), strict=True)
        ):
            quote = price * size // (unit // 1000 * 100 if unit >= 1000 else 1)
            file.write(
                f"{4_359_000_000 + number},{price // unit}.{price % unit:0{decimals}d}{zeros},{size // 100_000}."
                f"{size % 100_000:05d}000,{quote // 10**7}.{quote % 10**7:07d}0,{moment},{bool(maker)},True\n"
            )
    return path


def in_polars(path: Path) -> object:
    """The same sums, by the same minutes."""
    import polars

    column, wide = polars.col, polars.Decimal(38, 8)
    decimal = polars.Decimal(18, 8)
    types: dict[str, Any] = {"id": polars.Int64, "price": decimal, "qty": decimal, "time": polars.Int64}
    price, size, bought = column("price"), column("qty"), column("maker") == "False"
    quote = price.cast(wide) * size.cast(wide)
    return (
        polars.scan_csv(path, has_header=False, schema={name: types.get(name, polars.String) for name in COLUMNS})
        .group_by(column("time") // 60_000_000)
        .agg(
            price.first().alias("open"), price.max().alias("high"), price.min().alias("low"),
            price.last().alias("close"),
            size.sum().alias("volume"), quote.sum().alias("quote"), polars.len().alias("count"),
            size.filter(bought).sum().alias("taker"), quote.filter(bought).sum().alias("taker_quote"),
            column("id").first().alias("first"), column("id").last().alias("last"),
        )
        .collect()
    )  # fmt: skip


def in_duckdb(path: Path) -> object:
    """Likewise."""
    import duckdb

    connection = duckdb.connect()
    connection.execute("set threads=1")
    types = {"id": "bigint", "price": "decimal(18,8)", "qty": "decimal(18,8)", "time": "bigint", "maker": "boolean"}
    columns = ", ".join(f"'{name}': '{types.get(name, 'varchar')}'" for name in COLUMNS)
    quote = "price::decimal(19,8) * qty::decimal(19,8)"
    return connection.execute(
        f"select time // 60000000 as minute, first(price), max(price), min(price), last(price), sum(qty), sum({quote}),"
        f" count(*), sum(qty) filter (not maker), sum({quote}) filter (not maker), min(id), max(id)"
        f" from read_csv('{path}', header=false, columns={{{columns}}}) group by minute"
    ).fetchall()


def packed(path: Path) -> Iterator[bytes]:
    """The deflated bytes of the only member."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        (member,) = archive.infolist()
        file.seek(member.header_offset + 30 + len(member.filename))
        for start in range(0, member.compress_size, 1 << 16):
            yield file.read(min(1 << 16, member.compress_size - start))


def inflated(path: Path) -> None:
    """Inflates, and nothing else."""
    stream = inflater().decompressobj(-15)
    for piece in packed(path):
        waiting = piece
        while waiting:
            stream.decompress(waiting, 1 << 17)
            waiting = stream.unconsumed_tail


def unpacked_by_zlib(path: Path) -> None:
    """As Python does it."""
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as file:
        while file.read(1 << 17):
            pass


def test_csv_to_bars(archives: Archives, is_full: bool) -> None:
    work = archives.built(archives.csvs)
    work()
    assert_ns("archive: CSV to 1m bars", work, archives.rows, CSV_NS[is_full], rounds=ROUNDS)
    for name, peer, limit in (("polars", in_polars, CSV_POLARS), ("DuckDB", in_duckdb, CSV_DUCKDB)):
        reference = peers(peer, archives.csvs)
        assert_ratio(f"archive: CSV to 1m bars, {name}", work, reference, limit[is_full], rounds=ROUNDS)


def test_zip_to_bars(archives: Archives, is_full: bool) -> None:
    pytest.importorskip("isal")
    work = archives.built(archives.zips)
    work()
    for name, peer, limit in (("inflate alone", inflated, ZIP_INFLATE), ("zlib alone", unpacked_by_zlib, ZIP_ZLIB)):
        reference = peers(peer, archives.zips)
        assert_ratio(f"archive: zip to 1m bars, {name}", work, reference, limit[is_full], rounds=ROUNDS)


def test_a_second_worker_takes_half(archives: Archives, is_full: bool) -> None:
    if not is_full or (os.cpu_count() or 1) < 2:
        pytest.skip("needs two idle processors, and --full")
    # As much for each.
    files = [path for path in archives.zips if path.name.startswith("BTC")]
    for day in range(2, 9):
        copy = files[0].with_name(f"BTCUSDT-trades-2025-01-{day:02d}.zip")
        copy.write_bytes(files[0].read_bytes())
        files.append(copy)
    took = {}
    for workers in (1, 2):
        start = time.perf_counter()
        archives.built([path.rename(path.with_name(f"S{place}-{path.name[8:]}")) for place, path in enumerate(files)]
                       if workers == 1 else sorted(files[0].parent.glob("S*.zip")), workers)()  # fmt: skip
        took[workers] = time.perf_counter() - start
    HELD.append(f"| archive: zip, two workers instead of one | {took[1] / took[2]:.2f} times faster | 1.80 |")
    assert took[1] / took[2] >= TWO_WORKERS


def peers(work: object, files: list[Path]) -> Work:
    """Each file by itself."""
    assert callable(work)
    return lambda: [work(path) for path in files]
