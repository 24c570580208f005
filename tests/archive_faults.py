"""Writes archives of trades with faults, and keeps a ledger of what it did to them.

A `Truth` has trades with contiguous ids over some days. `Archive.copy` gives a source (daily or monthly files) its own
rows, faults are done to these, each to ids that no other fault has touched, and the ledger says what a check must find:
no more and no less. It shares no code with the check.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import NamedTuple

DAY_MS = 86_400_000
CHINESE = "币安人生USDT"
FOLDERS = {"spot": "spot", "usdm": "futures/um", "coinm": "futures/cm"}
HEADERS = {
    "trades": "id,price,qty,quote_qty,time,is_buyer_maker",
    "aggTrades": "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker",
}


class Row(NamedTuple):
    """A row of a file; `time_us` in microseconds, whatever the file has."""

    first: int
    last: int
    price: Decimal
    size: Decimal
    time_us: int
    maker: bool

    @property
    def day(self) -> date:
        return datetime.fromtimestamp(self.time_us // 1_000_000, UTC).date()


class Key(NamedTuple):
    """What a finding is about, in the words of the check."""

    kind: str
    symbol: str
    day: date | None
    source: str  # "" where it is about all


@dataclass
class Truth:
    """Trades of one symbol; `unpublished` ids are in no archive."""

    symbol: str
    market: str
    rows: list[Row]
    unpublished: set[int] = field(default_factory=set)

    @property
    def days(self) -> list[date]:
        return sorted({row.day for row in self.rows})


def make_truth(
    random: Random, symbol: str, market: str, first_day: date, days: int, rows: int, *, skips: float = 0.0,
    voids: float = 0.0, aggregated: bool = False, first_id: int = 1_000,
) -> Truth:  # fmt: skip
    """Trades of some days; of `skips` of the ids nothing is published, `voids` have size 0."""
    truth = Truth(symbol, market, [])
    number = first_id
    start_ms = int(datetime(first_day.year, first_day.month, first_day.day, tzinfo=UTC).timestamp()) * 1000
    for day in range(days):
        # The first and the last minute of a day have trades, all others where chance wants.
        times = sorted(random.randrange(60_000, DAY_MS - 60_000) for _ in range(rows - 2))
        for time_ms in (1_000, *times, DAY_MS - 1_000):
            ids = random.choice((1, 1, 2, 5)) if aggregated else 1
            size = Decimal(random.randrange(1, 10**6)).scaleb(-random.randrange(4))
            if random.random() < voids:
                size = Decimal(0)
            price = Decimal(random.randrange(1, 10**7)).scaleb(-2)
            if random.random() < skips:
                truth.unpublished.update(range(number, number + ids))
            else:
                time_us = (start_ms + day * DAY_MS + time_ms) * 1000 + random.randrange(1000)
                truth.rows.append(Row(number, number + ids - 1, price, size, time_us, random.random() < 0.5))
            number += ids
    return truth


@dataclass
class Source:
    """Files of one symbol, a day or a month each, and the rows that they have."""

    name: str  # daily or monthly
    truth: Truth
    rows: dict[date, list[Row]]
    touched: set[int]
    found: dict[Key, set[int]]
    counted: dict[Key, int]

    def _take(self, random: Random, length: int) -> tuple[date, int] | None:
        # (day, place) of so many rows of a day that no fault has touched, nor their neighbours, nor the day's ends.
        for _ in range(20):
            day = random.choice(list(self.rows))
            rows = self.rows[day]
            if len(rows) < length + 6:
                continue
            at = random.randrange(2, len(rows) - length - 2)
            ids = {number for row in rows[at - 1 : at + length + 1] for number in (row.first, row.last)}
            if not ids & self.touched:
                self.touched |= ids
                return day, at
        return None

    def _note(self, kind: str, day: date | None, rows: Iterable[Row], source: str = "") -> None:
        key = Key(kind, self.truth.symbol, day, source)
        for row in rows:
            self.counted[key] += 1
            self.found[key].update(range(row.first, row.last + 1))

    def drop(self, random: Random, others: Iterable[Source]) -> None:
        """Rows are missing here and, by chance, in the other sources."""
        place = self._take(random, length := random.choice((1, 1, 2, 7)))
        if place is None:
            return
        day, at = place
        gone = self.rows[day][at : at + length]
        del self.rows[day][at : at + length]
        others = list(others)
        if not others:
            leaves_out = self.truth.market != "spot"
            self._note("missing_or_unpublished" if leaves_out else "missing", day, gone)
        else:
            self._note("lacks", day, gone, self.name)

    def repeat(self, random: Random, *, other_content: bool) -> None:
        """Rows come again, at once or later, identical or not."""
        place = self._take(random, length := random.choice((1, 1, 3)))
        if place is None:
            return
        day, at = place
        again = self.rows[day][at : at + length]
        if other_content:
            again = [row._replace(price=row.price + Decimal("0.01")) for row in again]
        to = random.choice((at + length, len(self.rows[day])))
        self.rows[day][to:to] = again
        self._note("conflicting" if other_content else "repeated", day, again)

    def change(self, random: Random) -> None:
        """A row has other content than in the other sources."""
        place = self._take(random, 1)
        if place is None:
            return
        day, at = place
        row = self.rows[day][at]
        row = random.choice((
            row._replace(price=row.price * 10), row._replace(size=row.size + 1), row._replace(maker=not row.maker),
            row._replace(time_us=row.time_us + 1_000),
        ))  # fmt: skip
        self.rows[day][at] = row
        # Of two sources the doctor names one; which of them is wrong it cannot know.
        self._note("differs", day, [row])

    def move(self, random: Random) -> None:
        """A row comes behind later ones."""
        place = self._take(random, 1)
        if place is None:
            return
        day, at = place
        row = self.rows[day].pop(at)
        self.rows[day].insert(min(at + random.choice((1, 4, 10**9)), len(self.rows[day])), row)
        self.counted[Key("late", self.truth.symbol, None, self.name)] += row.last - row.first + 1

    def misdate(self, random: Random, others: Iterable[Source]) -> None:
        """A row is of the next day."""
        if list(others) or (place := self._take(random, 1)) is None:
            return
        day, at = place
        row = self.rows[day][at]
        self.rows[day][at] = row = row._replace(time_us=row.time_us + DAY_MS * 1000)
        self.counted[Key("outside_period", self.truth.symbol, row.day, "")] += 1

    def drop_day(self, random: Random, others: Iterable[Source]) -> None:
        """A day inside is absent."""
        days = sorted(self.rows)
        inside = [
            day
            for before, day, behind in zip(days, days[1:], days[2:], strict=False)
            if (behind - before).days == 2 and not any(self.touched & {row.first} for row in self.rows[day])
        ]
        if not inside or list(others):
            return
        day = random.choice(inside)
        gone = self.rows.pop(day)
        self.touched |= {row.first for row in gone}
        before, behind = max(d for d in self.rows if d < day), min(d for d in self.rows if d > day)
        first, last = max(row.last for row in self.rows[before]), min(row.first for row in self.rows[behind])
        self.touched |= {first, last}
        leaves_out = self.truth.market != "spot"
        whole = range(first + 1, last)
        key = Key("missing_or_unpublished" if leaves_out else "missing", self.truth.symbol, day, "")
        self.found[key].update(whole)
        self.counted[Key("day_absent", self.truth.symbol, day, "")] = 1


class Archive:
    """Folder of files, and the ledger of what is wrong with them.

    Attributes:
        found: the ids that a finding of this key must have, without those that nobody publishes.
        counted: the rows that one without ids must count.
    """

    def __init__(self, folder: Path, kind: str = "trades") -> None:
        self.folder = folder
        self.kind = kind
        self.files: list[Path] = []
        self.found: dict[Key, set[int]] = defaultdict(set)
        self.counted: dict[Key, int] = defaultdict(int)
        self._touched: dict[str, set[int]] = defaultdict(set)

    def copy(self, truth: Truth, name: str) -> Source:
        rows: dict[date, list[Row]] = defaultdict(list)
        for row in truth.rows:
            rows[row.day].append(row)
        touched = self._touched[truth.symbol]
        if not touched:  # what is unpublished has neighbours of its own
            for number in truth.unpublished:
                touched |= {number - 1, number + 1}
        return Source(name, truth, rows, touched, self.found, self.counted)

    def write(
        self, source: Source, random: Random, *, compress: bool | None = None, header: bool | None = None,
        faults: bool = False,
    ) -> list[Path]:  # fmt: skip
        """Write a source's files: each packed or not, with a header or not, with any line ends."""
        by_file: dict[str, list[Row]] = defaultdict(list)
        for day, rows in sorted(source.rows.items()):
            by_file[day.isoformat() if source.name == "daily" else f"{day:%Y-%m}"] += rows
        made = []
        for period, rows in by_file.items():
            made.append(self.write_file(source, period, rows, random, compress=compress, header=header, faults=faults))
        return made

    def write_file(
        self, source: Source, period: str, rows: list[Row], random: Random, *, compress: bool | None = None,
        header: bool | None = None, faults: bool = False,
    ) -> Path:  # fmt: skip
        symbol, market = source.truth.symbol, source.truth.market
        folder = self.folder / FOLDERS[market] / source.name / self.kind / symbol
        folder.mkdir(parents=True, exist_ok=True)
        micro = market == "spot" and period >= "2025"
        lines = [self._line(row, market, micro) for row in rows]
        if header or (header is None and random.random() < 0.5):
            lines.insert(0, HEADERS[self.kind] + (",is_best_match" if market == "spot" else ""))
        name = f"{symbol}-{self.kind}-{period}"
        if faults and random.random() < 0.1:
            at = random.randrange(2, len(lines) + 1)
            lines.insert(
                at, random.choice(("garbage", "1,2", f"{lines[-1]},more", lines[-1].replace(".", "x"), "\0" * 9))
            )
            self.counted[Key("malformed", symbol, None, name)] = 1
        if faults and random.random() < 0.1:
            lines.insert(random.randrange(2, len(lines) + 1), HEADERS[self.kind])
            self.counted[Key("header", symbol, None, name)] = 1
        end = random.choice(("\n", "\r\n"))
        text = end.join([*lines, ""]).encode()
        if random.random() < 0.3:
            text = b"\xef\xbb\xbf" + text
        if compress or (compress is None and random.random() < 0.5):
            path = folder / f"{name}.zip"
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
                packed.writestr(f"{name}.csv", text)
        else:
            path = folder / f"{name}.csv"
            path.write_bytes(text)
        if random.random() < 0.3:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if faults and random.random() < 0.3:
                digest = digest[::-1]
                self.counted[Key("checksum", "", None, name)] = 1
            path.with_name(f"{path.name}.CHECKSUM").write_text(f"{digest}  {path.name}\n")
        self.files.append(path)
        return path

    def _line(self, row: Row, market: str, micro: bool) -> str:
        time = row.time_us if micro else row.time_us // 1000
        ids = f"{row.first}" if self.kind == "trades" else f"{row.first * 7 + 1}"
        flags = f"{'True' if row.maker else 'False'},True" if market == "spot" else str(row.maker).lower()
        if self.kind == "trades":
            return f"{ids},{row.price:.8f},{row.size:.8f},{row.price * row.size:.8f},{time},{flags}"
        return f"{ids},{row.price},{row.size},{row.first},{row.last},{time},{flags}"


def next_day(day: date) -> date:
    return day + timedelta(days=1)
